//! A started process, held by descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use super::deliver::deliver;
use crate::error::{Error, Result};
use crate::sys::clone::Cloned;
use crate::sys::file;
use crate::sys::pidfd;
use crate::sys::process::{self, Ended};

/// A process that this one has started. Dropping it neither kills nor reaps, as in `std::process`.
#[derive(Debug)]
pub struct Process {
    cloned: Cloned,
    /// It is an init, and the command is its child.
    is_init: bool,
    spared: Vec<String>,
}

impl Process {
    pub(super) fn new(cloned: Cloned, is_init: bool) -> Process {
        Process { cloned, is_init, spared: Vec::new() }
    }

    /// Is it an init, which tells how the command ended?
    pub(super) fn is_init(&self) -> bool {
        self.is_init
    }

    pub(super) fn with_spared(self, spared: Vec<String>) -> Process {
        Process { spared, ..self }
    }

    /// What of the usual it had to be started without, in words for the user: conveniences that were
    /// refused here and that nobody had asked for by name.
    pub fn spared(&self) -> &[String] {
        &self.spared
    }

    /// A child that somebody else has started for this process, such as with CLONE_PARENT.
    ///
    /// # Errors
    /// ESRCH when there is no such process.
    pub fn adopt(pid: i32) -> Result<Process> {
        let pidfd = pidfd::open(pid);
        let pidfd = pidfd.map_err(|errno| Error::os(format!("open process {pid}"), errno))?;
        Ok(Process::new(Cloned { pid, pidfd }, false))
    }

    /// The init of a sandbox that somebody else has started for this process.
    ///
    /// # Errors
    /// ESRCH when there is no such process.
    pub fn adopt_init(pid: i32) -> Result<Process> {
        Ok(Process { is_init: true, ..Process::adopt(pid)? })
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

    /// Sends a signal to the command of a sandbox, of which this is the first process.
    ///
    /// # Errors
    /// ESRCH when it has ended; EPERM when it is not the caller's to signal.
    pub fn deliver(&self, signal: i32) -> Result<()> {
        let what = || format!("send signal {signal} to the sandbox");
        deliver(self.pidfd(), self.pid(), signal).map_err(|errno| Error::os(what(), errno))
    }

    /// SIGKILL; a process that is gone already is what was wanted.
    pub fn kill(&self) {
        let _ = pidfd::send_signal(self.pidfd(), libc::SIGKILL);
    }

    /// Waits for its end and reaps it. Of an init it tells how the command ended.
    ///
    /// # Errors
    /// ECHILD when it was waited for before.
    pub fn wait(&self) -> Result<Ended> {
        let what = || format!("wait for process {}", self.pid());
        let failed = |errno| Error::os(what(), errno);
        if self.is_init
            && let Some(Ended::Exited(code)) =
                process::wait_and_leave(self.pidfd()).map_err(failed)?
            && let Some(signal) = told_by_init(self.pid(), code)
        {
            process::wait(self.pidfd(), true).map_err(failed)?;
            return Ok(Ended::Killed(signal));
        }
        let ended = process::wait(self.pidfd(), true).map_err(failed)?;
        ended.ok_or_else(|| Error::new(format!("{}: no status", what())))
    }
}

/// An init cannot die by a signal as its command did: pid 1 is shielded from its own. It exits with 128
/// + n and calls itself `signal n` (sys/init/main.rs), which tells it from a command that exits so.
fn told_by_init(pid: i32, code: i32) -> Option<i32> {
    let signal = code.checked_sub(128).filter(|signal| *signal > 0)?;
    let name = file::read_kernel(format!("/proc/{pid}/comm")).ok()?;
    (name.trim_end() == format!("signal {signal}")).then_some(signal)
}
