//! Joining a running sandbox.

use std::os::fd::AsRawFd;

use super::sandbox::{execute, gather};
use super::{Process, Window, second};
use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::plan;
use crate::resource::record::SandboxRecord;
use crate::start::seal;

/// Runs a command inside the sandbox of `record`, confined in the same way. `sandbox` is the
/// recorded one with the command, user, environment, directory and terminal of the new process;
/// `window` is what that terminal looks like.
///
/// # Errors
/// The sandbox has ended, or a step failed.
pub fn join(
    journal: &Journal,
    record: &SandboxRecord,
    sandbox: &Sandbox,
    window: Window,
) -> Result<Process> {
    let target = journal.open_process(&record.id)?.ok_or_else(|| {
        Error::new(format!("{} is not running", record.id)).hint("garth ps lists running sandboxes")
    })?;
    // The new process will run among untrusted ones.
    if !seal::is_protected() {
        return second::join(journal, record, sandbox, window);
    }
    let mut facts = gather(sandbox)?;
    facts.cgroup_files = record.resources.cgroup.later_join_paths()?;
    let sandbox = Sandbox { init: true, die_with_parent: true, listen_fds: 0, ..sandbox.clone() };
    let plan = plan::compile_join(&sandbox, &facts, target.as_raw_fd())?;
    execute(plan, window, |_| Ok(()))
}
