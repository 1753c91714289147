//! The foreground: signals that reach us are meant for the sandbox.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::start::{Child, Process};
use crate::sys::pidfd;
use crate::sys::process::{self, Ended, Signals};

/// Waits for the end of the sandbox, forwards the signals that arrive meanwhile, and releases what
/// the sandbox had. `signals` must have been blocked before the sandbox was started, or those that
/// arrive in between would be lost.
///
/// # Errors
/// When something could not be released.
pub fn supervise(child: Child, signals: &Signals) -> Result<Ended> {
    supervise_process(child.process(), signals)?;
    child.wait()
}

/// Forwards the signals that arrive until the process has ended; it is not reaped.
///
/// # Errors
/// When the kernel cannot wait.
pub fn supervise_process(child: &Process, signals: &Signals) -> Result<()> {
    loop {
        let [ended, _] = process::readable([child.pidfd(), signals.as_fd()], None)
            .map_err(|errno| Error::os("wait for the sandbox", errno))?;
        if ended {
            return Ok(());
        }
        while let Some(arrived) = signals.next() {
            // A terminal has sent it to its whole foreground process group: to the sandbox as well.
            if arrived.signal != libc::SIGCHLD && !arrived.from_kernel {
                let _ = pidfd::send_signal(child.pidfd(), arrived.signal);
            }
        }
    }
}
