//! Signalling a sandbox or container by name.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Face;
use super::register::Registered;
use crate::container::{self, Targets};
use crate::error::{Error, Result};
use crate::journal::{Journal, ProcessId};
use crate::start::deliver;
use crate::sys::{Errno, process};

/// Sends `signal` to the sandbox or container `name`; in a container, to its first process or to
/// all.
///
/// # Errors
/// It does not exist, is not running, or the caller may not signal it.
pub fn kill(journal: &Journal, name: &str, signal: i32, targets: Targets) -> Result<()> {
    match Face::of(journal, name)? {
        Face::Container => container::kill(&journal.containers(), name, signal, targets),
        Face::Sandbox => {
            let ends = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGKILL];
            if ends.contains(&signal) {
                Registered::new(journal, name).set_killed()?;
            }
            to_command(journal, name, signal)
        }
    }
}

/// Ends sandbox `name`, if its first process is still `first`: by `signal`, and by SIGKILL if that
/// has not been enough after `patience`.
///
/// # Errors
/// It cannot be determined, or may not be signalled.
pub(super) fn kill_for_good(
    journal: &Journal,
    name: &str,
    first: &ProcessId,
    signal: i32,
    patience: Duration,
) -> Result<()> {
    if journal.process(name)?.as_ref() != Some(first) {
        return Ok(());
    }
    let Some(process) = first.open()? else { return Ok(()) };
    for (signal, patience) in [(signal, patience), (libc::SIGKILL, Duration::from_secs(10))] {
        match deliver(process.as_fd(), first.pid, signal) {
            Err(Errno(libc::ESRCH)) => {}
            sent => {
                sent.map_err(|errno| Error::os(format!("send signal {signal} to {name}"), errno))?
            }
        }
        let ended = process::readable([process.as_fd()], Some(patience));
        let [ended] = ended.map_err(|errno| Error::os(format!("wait for {name}"), errno))?;
        if ended {
            break;
        }
    }
    Ok(())
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
