//! Signalling a sandbox or container by name.

use std::os::fd::AsFd;

use super::Face;
use crate::container::{self, Targets};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::start::deliver;
use crate::sys::Errno;

/// Sends `signal` to the sandbox or container `name`; in a container, to its first process or to
/// all.
///
/// # Errors
/// It does not exist, is not running, or the caller may not signal it.
pub fn kill(journal: &Journal, name: &str, signal: i32, targets: Targets) -> Result<()> {
    match Face::of(journal, name)? {
        Face::Container => container::kill(&journal.containers(), name, signal, targets),
        Face::Sandbox => to_command(journal, name, signal),
    }
}

/// Sends `signal` to the command of sandbox `name`; SIGKILL ends the whole sandbox, 0 only tests
/// whether there is a process to signal.
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
