//! A started process, held by a pidfd.

use std::os::fd::{AsFd, BorrowedFd};

use super::deliver::deliver;
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::sys::clone::Cloned;
use crate::sys::file;
use crate::sys::pidfd;
use crate::sys::process::{self, Ended};

/// A child process. As in `std::process`, dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Process {
    cloned: Cloned,
    /// It is an init with the command as its child.
    is_init: bool,
    spared: Vec<String>,
    terminal: Option<Terminal>,
}

impl Process {
    pub(super) fn new(cloned: Cloned, is_init: bool) -> Process {
        Process { cloned, is_init, spared: Vec::new(), terminal: None }
    }

    /// Whether it is an init, which reports how the command ended.
    pub(super) fn is_init(&self) -> bool {
        self.is_init
    }

    pub(super) fn with_spared(self, spared: Vec<String>) -> Process {
        Process { spared, ..self }
    }

    pub(super) fn with_terminal(self, terminal: Option<Terminal>) -> Process {
        Process { terminal, ..self }
    }

    /// Its terminal, if it has one of its own and that has not been taken yet.
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.terminal.take()
    }

    /// The defaults it had to be started without, in words for the user: conveniences that are not
    /// possible here and were not requested explicitly.
    pub fn spared(&self) -> &[String] {
        &self.spared
    }

    /// A child of this process that another process started, e.g. with CLONE_PARENT.
    ///
    /// # Errors
    /// ESRCH: no such process.
    pub fn adopt(pid: i32) -> Result<Process> {
        let pidfd = pidfd::open(pid);
        let pidfd = pidfd.map_err(|errno| Error::os(format!("open process {pid}"), errno))?;
        Ok(Process::new(Cloned { pid, pidfd }, false))
    }

    /// Same as [`Process::adopt`], for the init of a sandbox.
    ///
    /// # Errors
    /// ESRCH: no such process.
    pub fn adopt_init(pid: i32) -> Result<Process> {
        Ok(Process { is_init: true, ..Process::adopt(pid)? })
    }

    /// Its process id in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.cloned.pid
    }

    /// A pidfd, readable once the process has ended (pidfd_open(2)).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.cloned.pidfd.as_fd()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH: it has ended and was reaped. EPERM: the caller may not signal it.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let what = || format!("send signal {signal} to process {}", self.pid());
        pidfd::send_signal(self.pidfd(), signal).map_err(|errno| Error::os(what(), errno))
    }

    /// Sends a signal to the command of the sandbox whose first process this is.
    ///
    /// # Errors
    /// ESRCH: it has ended. EPERM: the caller may not signal it.
    pub fn deliver(&self, signal: i32) -> Result<()> {
        let what = || format!("send signal {signal} to the sandbox");
        deliver(self.pidfd(), self.pid(), signal).map_err(|errno| Error::os(what(), errno))
    }

    /// Sends SIGKILL; it is not an error if the process is already gone.
    pub fn kill(&self) {
        let _ = pidfd::send_signal(self.pidfd(), libc::SIGKILL);
    }

    /// Waits for its end and reaps it. For an init, returns how the command ended.
    ///
    /// # Errors
    /// ECHILD: it has already been reaped.
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

/// An init cannot die by the signal that killed its command: the kernel shields pid 1 from its own
/// signals. It exits with 128 + n and sets its name to `signal n` (sys/init/main.rs), so that it is
/// not taken for a command that exits with such a code.
fn told_by_init(pid: i32, code: i32) -> Option<i32> {
    let signal = code.checked_sub(128).filter(|signal| *signal > 0)?;
    let name = file::read_kernel(format!("/proc/{pid}/comm")).ok()?;
    (name.trim_end() == format!("signal {signal}")).then_some(signal)
}
