//! Running a command in a running sandbox.

use std::ffi::OsString;
use std::path::PathBuf;

use super::settings::environment::{TERM, USUAL_TERM, set};
use crate::config::Directory;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::record::SandboxRecord;
use crate::start::{self, Process, Window};

/// What to run; everything else is as in the sandbox.
#[derive(Clone, Debug, Default)]
pub struct Entering {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// `user[:group]`; `None` for the sandbox's.
    pub user: Option<String>,
    /// Working directory; `None` for the sandbox's.
    pub workdir: Option<PathBuf>,
    /// Variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    /// Give it a terminal of its own ([`Process::take_terminal`]). TERM is then the caller's, unless
    /// it is in `env`.
    pub tty: bool,
    /// What that terminal looks like.
    pub window: Window,
}

/// Runs a command in sandbox `name`, confined in the same way. When this returns, it has been
/// executed.
///
/// # Errors
/// The sandbox is not running, or a step failed.
pub fn enter(journal: &Journal, name: &str, entering: Entering) -> Result<Process> {
    let record = SandboxRecord::read(journal, name)?;
    let mut sandbox = record.asked.clone();
    sandbox.command = entering.command;
    // They are there already.
    sandbox.secrets.clear();
    sandbox.user = entering.user.or(sandbox.user);
    if let Some(dir) = entering.workdir {
        sandbox.cwd = Directory::At(dir);
    }
    sandbox.terminal = entering.tty;
    if entering.tty {
        set(&mut sandbox.env, TERM, std::env::var_os(TERM).unwrap_or_else(|| USUAL_TERM.into()));
    }
    for pair in &entering.env {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::new(format!("-e {pair}: no value")).hint("write NAME=VALUE"))?;
        set(&mut sandbox.env, name, value);
    }
    start::join(journal, &record, &sandbox, entering.window)
}
