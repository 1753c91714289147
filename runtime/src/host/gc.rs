//! Releasing what sandboxes have left behind: those that ended while nobody looked after them, and
//! things that bear our name but belong to no sandbox on record.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::journal::{Entry, Journal};
use super::record::Record;
use super::resources::{self, Resources};
use crate::error::{Error, Result};
use crate::sys::{pidfd, process};

/// What was found and done.
#[derive(Debug, Default)]
pub struct Report {
    /// What was removed, in words.
    pub removed: Vec<String>,
    /// What could not be removed.
    pub failed: Vec<Error>,
}

/// Looks at every entry, and at everything outside the journal that bears our name.
pub fn collect(journal: &Journal) -> Result<Report> {
    let mut report = Report::default();
    for id in journal.ids()? {
        match release_ended(journal, &id) {
            Ok(true) => report.removed.push(format!("sandbox {id}")),
            Ok(false) => {}
            // It ended, and was released, since the names were read.
            Err(_) if !journal.has(&id) => {}
            Err(error) => report.failed.push(error.within(format_args!("sandbox {id}"))),
        }
    }
    for result in resources::remove_strays(journal) {
        match result {
            Ok(removed) => report.removed.extend(removed),
            Err(error) => report.failed.push(error),
        }
    }
    Ok(report)
}

/// Releases sandbox `id` if it has ended and nobody looks after it; false: it lives.
///
/// # Errors
/// What could not be released; it stays on record.
pub fn release_ended(journal: &Journal, id: &str) -> Result<bool> {
    let Some(entry) = journal.lock(id)? else { return Ok(false) };
    // A name with a dot is an entry that was never finished: nothing was made for it yet.
    if id.starts_with('.') {
        return entry.remove().map(|()| true);
    }
    if journal.open_process(id).is_some() {
        // Nobody holds it, and it lives. A detached one has lost its keeper, and may go on; any
        // other was to die with its caller, and is about to.
        if !Record::read(journal, id).is_ok_and(|record| record.sandbox.die_with_parent) {
            return Ok(false);
        }
        kill(journal, id);
    }
    release(entry).map(|()| true)
}

/// Ends sandbox `id` whatever state it is in, and releases all that it had.
///
/// # Errors
/// When something could not be released.
pub fn force(journal: &Journal, id: &str) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    loop {
        kill(journal, id);
        // Whoever holds the entry sees the end of the sandbox and releases it too.
        match journal.lock(id) {
            Ok(Some(entry)) => {
                // It may have been started since.
                kill(journal, id);
                return release(entry);
            }
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
                if !journal.has(id) {
                    return Ok(());
                }
            }
            Ok(None) => {
                return Err(Error::new(format!(
                    "sandbox {id} has ended, but another process still holds its record"
                )));
            }
            // What shall be gone and is gone is no failure.
            Err(_) if !journal.has(id) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Kills the first process, and waits until the kernel has ended all of its pid namespace.
fn kill(journal: &Journal, id: &str) {
    let Some(pidfd) = journal.open_process(id) else { return };
    let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = process::readable([pidfd.as_fd()], Some(Duration::from_secs(10)));
}

/// Releases what is on record; without a record that can be read, what the id alone leads to.
fn release(entry: Entry) -> Result<()> {
    let journal = entry.journal().clone();
    match Record::read(&journal, entry.id()) {
        Ok(record) => record.resources.release(&record.owner(&journal))?,
        Err(_) => Resources::forget(&journal, entry.id())?,
    }
    entry.remove()
}
