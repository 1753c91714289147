//! Releasing what sandboxes have left behind: those that ended while no process looked after them,
//! and objects that bear our name but belong to no sandbox on record. Only [`force`] kills
//! processes for that: what is in use, by whichever process, has not been left behind.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::record::SandboxRecord;
use super::trace::{self, Trace};
use crate::config::LimitSource;
use crate::error::{Error, Result};
use crate::journal::resource::Owner;
use crate::journal::{Entry, Journal};
use crate::resource::{self, Resources};
use crate::sys::{pidfd, process};

/// What was found and done.
#[derive(Debug, Default)]
pub struct Report {
    /// Descriptions of what was removed.
    pub removed: Vec<String>,
    /// Services that had lost their keeper, and have one again.
    pub taken_up: Vec<String>,
    /// What could not be removed.
    pub failed: Vec<Error>,
}

/// Examines every entry, and everything outside the journal that bears our name.
pub fn collect(journal: &Journal) -> Result<Report> {
    let mut report = Report::default();
    for id in journal.ids()? {
        match release_ended(journal, &id) {
            Ok(true) => report.removed.push(format!("sandbox {id}")),
            Ok(false) => {}
            // It ended and was released after the names were read.
            Err(_) if is_gone(journal, &id) => {}
            Err(error) => report.failed.push(error.within(format_args!("sandbox {id}"))),
        }
    }
    let volumes = journal.raid().sweep("")?;
    for result in journal.containers().sweep("")?.into_iter().chain(volumes) {
        match result {
            Ok(name) => report.removed.push(format!("unfinished {name}")),
            Err(error) => report.failed.push(error),
        }
    }
    for name in Trace::expire(journal)? {
        report.removed.push(format!("the trace of {name}"));
    }
    for result in resource::remove_strays(journal) {
        match result {
            Ok(removed) => report.removed.extend(removed),
            Err(error) => report.failed.push(error),
        }
    }
    Ok(report)
}

fn is_gone(journal: &Journal, id: &str) -> bool {
    journal.has(id).is_ok_and(|there| !there)
}

/// Releases sandbox `id` if it has ended and no process looks after it; false if it is alive.
///
/// # Errors
/// Something could not be released; it stays on record.
pub fn release_ended(journal: &Journal, id: &str) -> Result<bool> {
    let Some(entry) = journal.lock(id)? else { return Ok(false) };
    // A name that starts with a dot is an unfinished entry: nothing was created for it yet.
    if id.starts_with('.') {
        return entry.remove().map(|()| true);
    }
    if let Some(pidfd) = journal.open_process(id)? {
        // It is alive, but no process holds it. A detached one has lost its keeper and may
        // continue; any other is about to die with its caller.
        let about_to_die =
            SandboxRecord::read(journal, id).is_ok_and(|record| record.asked.die_with_parent);
        if !about_to_die || !has_ended(&pidfd, id)? {
            return Ok(false);
        }
    }
    release(entry, false).map(|()| true)
}

/// Releases the sandboxes that have ended and that no process looks after, if they had a network,
/// and with it the ports and addresses that they held. Returns whether there was one.
///
/// # Errors
/// The state directory cannot be read. What could not be released stays on record.
pub fn release_networks(journal: &Journal) -> Result<bool> {
    let mut released = false;
    for id in journal.ids()?.iter().filter(|id| !id.starts_with('.')) {
        let resources = SandboxRecord::read(journal, id).map(|record| record.resources).ok();
        if resources.as_ref().is_some_and(|one| one.network.is_none() && one.pasta.is_none()) {
            continue;
        }
        if release_ended(journal, id).unwrap_or(false) {
            released = true;
            if let Some(network) = resources.and_then(|resources| resources.network) {
                network.await_end()?;
            }
        }
    }
    Ok(released)
}

/// Kills sandbox `id`, whatever state it is in, and releases everything it had.
///
/// # Errors
/// Something could not be released.
pub fn force(journal: &Journal, id: &str) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    loop {
        kill(journal, id)?;
        // The process that holds the entry sees the end of the sandbox and releases it too.
        match journal.lock(id) {
            Ok(Some(entry)) => {
                // It may have been started since.
                kill(journal, id)?;
                return release(entry, true);
            }
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
                if !journal.has(id)? {
                    return Ok(());
                }
            }
            Ok(None) => {
                return Err(Error::new(format!(
                    "sandbox {id} has ended, but another process still holds its record"
                )));
            }
            // It is gone, which was the aim: not a failure.
            Err(_) if is_gone(journal, id) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Kills the first process, and waits until the kernel has ended its whole pid namespace.
fn kill(journal: &Journal, id: &str) -> Result<()> {
    let Some(pidfd) = journal.open_process(id)? else { return Ok(()) };
    let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
    has_ended(&pidfd, id).map(drop)
}

/// Waits for its end, for a limited time.
fn has_ended(pidfd: &OwnedFd, id: &str) -> Result<bool> {
    let ended = process::readable([pidfd.as_fd()], Some(Duration::from_secs(10)));
    ended
        .map(|[ended]| ended)
        .map_err(|errno| Error::os(format!("wait for the end of {id}"), errno))
}

/// Releases what is on record for a sandbox that has ended; if the record cannot be read, what the
/// entry's marks and the id lead to. `may_kill`: also kills processes that it has left behind.
///
/// # Errors
/// Something could not be released; it stays on record.
pub fn release(entry: Entry, may_kill: bool) -> Result<()> {
    let journal = entry.journal().clone();
    let owner = Owner { journal: &journal, id: entry.id(), limits: LimitSource::NONE, may_kill };
    match SandboxRecord::read(&journal, entry.id()) {
        Ok(record) => record.resources.release(&owner)?,
        Err(_) => Resources::forget(&owner)?,
    }
    trace::retire(entry)
}
