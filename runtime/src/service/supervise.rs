//! The foreground: signals that reach us are meant for the sandbox.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::start::{Child, Process};
use crate::sys::Errno;
use crate::sys::process::{self, Ended, Signals};

/// Waits for the end of the sandbox, forwards the signals that arrive meanwhile, and releases what
/// the sandbox had. `signals` must have been blocked before the sandbox was started, or those that
/// arrive in between would be lost. `warn` is told of a signal that could not be delivered.
///
/// # Errors
/// When something could not be released.
pub fn supervise(child: Child, signals: &Signals, warn: &dyn Fn(Error)) -> Result<Ended> {
    supervise_process(child.process(), signals, warn)?;
    if let Some(limit) = child.out_of_memory() {
        warn(Error::new(format!("the kernel has killed in the sandbox: out of memory ({limit})")));
    }
    child.wait()
}

/// Forwards the signals that arrive until the process has ended; it is not reaped.
///
/// # Errors
/// When the kernel cannot wait.
pub fn supervise_process(child: &Process, signals: &Signals, warn: &dyn Fn(Error)) -> Result<()> {
    loop {
        let [ended, _] = process::readable([child.pidfd(), signals.as_fd()], None)
            .map_err(|errno| Error::os("wait for the sandbox", errno))?;
        if ended {
            return Ok(());
        }
        while let Some(arrived) = signals.next() {
            // What others got too, a terminal has sent to the sandbox as well.
            if arrived.signal == libc::SIGCHLD || !arrived.is_for_us_alone() {
                continue;
            }
            match child.deliver(arrived.signal) {
                // It has ended meanwhile.
                Err(error) if error.errno() == Some(Errno(libc::ESRCH)) => {}
                Err(error) => warn(error),
                // As the kernel does after a hang-up: what is stopped shall see it.
                Ok(()) if arrived.from_kernel => drop(child.deliver(libc::SIGCONT)),
                Ok(()) => {}
            }
        }
    }
}

/// The last act of a launcher: it ends as its command did, by the same signal if that was one, so that
/// whoever waits for it sees the same. Returns the exit code, also where a signal cannot end it.
pub fn end_as(ended: Ended) -> i32 {
    if let Ended::Killed(signal) = ended {
        process::die_by(signal);
    }
    ended.code()
}
