//! A signal for a sandbox or container by its name.

use std::os::fd::AsFd;

use super::Face;
use crate::container::{self, Targets};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::start::deliver;
use crate::sys::Errno;

/// Sends `signal` to the sandbox or container `name`; of a container to its first process, or to all.
///
/// # Errors
/// There is none of this name, it does not run, or it is not the caller's to signal.
pub fn kill(journal: &Journal, name: &str, signal: i32, targets: Targets) -> Result<()> {
    match Face::of(journal, name)? {
        Face::Container => container::kill(&journal.containers(), name, signal, targets),
        Face::Sandbox => to_command(journal, name, signal),
    }
}

/// Sends `signal` to the command of sandbox `name`; SIGKILL ends all of it, 0 only asks whether there
/// is a process to take a signal.
fn to_command(journal: &Journal, name: &str, signal: i32) -> Result<()> {
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
