//! A started process, held by descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Error, Result};
use crate::sys::clone::Cloned;
use crate::sys::pidfd;
use crate::sys::process::{self, Ended};

/// A process that this one has started. Dropping it neither kills nor reaps, as in `std::process`.
#[derive(Debug)]
pub struct Process {
    cloned: Cloned,
}

impl Process {
    pub(super) fn new(cloned: Cloned) -> Process {
        Process { cloned }
    }

    /// A child that somebody else has started for this process, such as with CLONE_PARENT.
    ///
    /// # Errors
    /// ESRCH when there is no such process.
    pub fn adopt(pid: i32) -> Result<Process> {
        let pidfd = pidfd::open(pid);
        let pidfd = pidfd.map_err(|errno| Error::os(format!("open process {pid}"), errno))?;
        Ok(Process::new(Cloned { pid, pidfd }))
    }

    /// Its id in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.cloned.pid
    }

    /// A pidfd: readable when the process has ended (pidfd_open(2)).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.cloned.pidfd.as_fd()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH when it has ended and was waited for; EPERM when it is not the caller's to signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let what = || format!("send signal {signal} to process {}", self.pid());
        pidfd::send_signal(self.pidfd(), signal).map_err(|errno| Error::os(what(), errno))
    }

    /// SIGKILL; a process that is gone already is what was wanted.
    pub fn kill(&self) {
        let _ = pidfd::send_signal(self.pidfd(), libc::SIGKILL);
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// ECHILD when it was waited for before.
    pub fn wait(&self) -> Result<Ended> {
        let what = || format!("wait for process {}", self.pid());
        let ended = process::wait(self.pidfd(), true).map_err(|errno| Error::os(what(), errno))?;
        ended.ok_or_else(|| Error::new(format!("{}: no status", what())))
    }
}
