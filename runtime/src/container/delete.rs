//! `delete`, and the release of everything a container had.

use std::os::fd::AsFd;
use std::time::Duration;

use super::record::ContainerRecord;
use super::{Container, Warn, hooks, lock};
use crate::config::LimitSource;
use crate::config::oci::Status;
use crate::error::{Error, Kind, Result};
use crate::journal::resource::Owner;
use crate::journal::{Entry, Journal};
use crate::resource::Resources;
use crate::sys::{pidfd, process};

/// Deletes a container that has stopped or was never started. With `force`, deletes any, whatever
/// state its record is in, and it is not an error if there is none.
///
/// # Errors
/// It runs, or something could not be released; then it stays on record.
pub fn delete(journal: &Journal, id: &str, force: bool, warn: &Warn) -> Result<()> {
    if force {
        journal.check_id(id)?;
        // Before taking the lock: its holder may be waiting for something inside, such as a file
        // server.
        if let Some(pidfd) = journal.open_process(id)? {
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
    // Leftovers of a create or delete of this name that was killed.
    let swept = journal.sweep(&format!("-{id}"))?.into_iter().collect::<Result<Vec<_>>>()?;
    let gone = |there: Result<bool>| there.map(|there| !there);
    if (force || !swept.is_empty()) && gone(journal.has(id))? {
        return Ok(());
    }
    let entry = match lock(journal, id) {
        Err(_) if force && gone(journal.has(id))? => return Ok(()),
        entry => entry?,
    };
    let record = match Container::open(journal, id) {
        Ok(container) => {
            let status = container.status()?;
            let ended = matches!(status, Status::Stopped | Status::Created | Status::Creating);
            if !ended && !force {
                return Err(Error::new(format!(
                    "cannot delete container {id} that is not stopped: {status}"
                ))
                .kind(Kind::WrongState)
                .hint("end it with garth kill, or use --force"));
            }
            Some(container.record)
        }
        Err(_) if force => None,
        Err(error) => return Err(error),
    };
    release(entry, record, warn)
}

/// Kills what is left of a container and removes everything it had. Without a readable record: what
/// its id and its process lead to.
///
/// # Errors
/// The first thing that could not be released; the container stays on record.
pub(super) fn release(entry: Entry, record: Option<ContainerRecord>, warn: &Warn) -> Result<()> {
    let journal = entry.journal().clone();
    let id = entry.id().to_owned();
    warn.debug(&format!("release the resources of container {id}"));
    if let Some(pidfd) = journal.open_process(&id)? {
        let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        if let Some(record) = &record {
            record.resources.cgroup.let_die();
        }
        let _ = process::readable([pidfd.as_fd()], Some(Duration::from_secs(10)));
    }
    let Some(record) = record else {
        let limits = LimitSource::NONE;
        Resources::forget(&Owner { journal: &journal, id: &id, limits, may_kill: true })?;
        return entry.remove();
    };
    record.resources.release(&record.owner(&journal))?;
    let lists = record.asked.config.hooks.clone().unwrap_or_default();
    let state = record.state(Status::Stopped, 0);
    entry.remove()?;
    // The container is gone, whatever a hook reports (runtime.md, "Lifecycle"), so every hook is
    // run.
    for (index, hook) in lists.poststop.iter().enumerate() {
        if let Err(error) = hooks::run_one(hook, &format!("poststop[{index}]"), &state, warn) {
            warn.tell(&error.to_string());
        }
    }
    Ok(())
}
