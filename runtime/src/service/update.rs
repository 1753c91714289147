//! Changing a sandbox that runs.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::config::Sandbox;
use crate::config::rate::Change;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::bandwidth;
use crate::resource::record::SandboxRecord;
use crate::sys::process;

/// Holds the network of sandbox `id` to other rates from now on. The record goes on saying what was
/// asked at the start; `garth ps` tells what the kernel keeps.
///
/// # Errors
/// When it does not run, or has no network that can be slowed down.
pub fn update(journal: &Journal, id: &str, change: Change) -> Result<()> {
    let record = SandboxRecord::read(journal, id)?;
    let not_running = || Error::new(format!("{id} is not running"));
    let rates = change.of(record.asked.rates);
    // One that may have none is told why, in the same words as at a start.
    Sandbox { rates, ..record.asked.clone() }.validate()?;
    bandwidth::check(&rates)?;
    let Some(bandwidth) = &record.resources.bandwidth else {
        return Err(Error::new(format!("--rate: {id} has no network of its own")));
    };
    let _lock = lock(journal, id)?;
    let process = journal.process(id)?.ok_or_else(not_running)?;
    if process.open()?.is_none() {
        return Err(not_running());
    }
    bandwidth.update(&record.owner(journal), process.pid, change)?;
    // Whoever releases it does so when it has ended, and so sees what was made while it lived. If it
    // has ended by now, he may have looked before that was there.
    if process.open()?.is_none() {
        bandwidth::forget(&record.owner(journal), true)?;
        return Err(not_running());
    }
    Ok(())
}

/// One update at a time. The lock of the directory belongs to whoever looks after the sandbox.
fn lock(journal: &Journal, id: &str) -> Result<File> {
    let path = journal.file(id, "record.json");
    let end = Instant::now() + Duration::from_secs(10);
    let file = File::open(&path).map_err(|e| Error::io(format!("open {}", path.display()), &e))?;
    while !process::try_lock(file.as_fd())
        .map_err(|errno| Error::os(format!("lock {}", path.display()), errno))?
    {
        if Instant::now() > end {
            return Err(Error::new(format!("{id} is being changed by another")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(file)
}
