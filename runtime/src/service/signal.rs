//! A signal for a sandbox by its name.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::start::deliver;
use crate::sys::Errno;

/// Sends `signal` to the command of sandbox `name`; SIGKILL ends all of it, 0 only asks whether there
/// is somebody to take a signal.
///
/// # Errors
/// There is no such sandbox, it does not run, or the command is not the caller's to signal.
pub fn signal(journal: &Journal, name: &str, signal: i32) -> Result<()> {
    let ended = || match journal.read(name) {
        Ok(_) => Error::new(format!("{name} is not running")),
        Err(error) => error,
    };
    let process = journal.process(name)?.ok_or_else(ended)?;
    let first = process.open()?.ok_or_else(ended)?;
    match deliver(first.as_fd(), process.pid, signal) {
        Err(Errno(libc::ESRCH)) => Err(ended()),
        result => {
            result.map_err(|errno| Error::os(format!("send signal {signal} to {name}"), errno))
        }
    }
}
