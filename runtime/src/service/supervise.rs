//! Running in the foreground: signals sent to this process are meant for the sandbox.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::start::{Child, Process};
use crate::sys::Errno;
use crate::sys::process::{self, Ended, Signals};

/// Waits for the end of the sandbox, forwards signals that arrive meanwhile, and releases the
/// sandbox's resources. `signals` must have been blocked before the sandbox was started, or those
/// arriving in between would be lost. `warn` is called for a signal that could not be delivered.
///
/// # Errors
/// Something could not be released.
pub fn supervise(child: Child, signals: &Signals, warn: &dyn Fn(Error)) -> Result<Ended> {
    supervise_process(child.process(), signals, warn)?;
    if let Some(limit) = child.out_of_memory() {
        warn(Error::new(format!(
            "the kernel killed a process in the sandbox: out of memory ({limit})"
        )));
    }
    child.wait()
}

/// Forwards signals until the process has ended, without reaping it.
///
/// # Errors
/// Waiting failed.
pub fn supervise_process(child: &Process, signals: &Signals, warn: &dyn Fn(Error)) -> Result<()> {
    loop {
        let [ended, _] = process::readable([child.pidfd(), signals.as_fd()], None)
            .map_err(|errno| Error::os("wait for the sandbox", errno))?;
        if ended {
            return Ok(());
        }
        while let Some(arrived) = signals.next() {
            // A signal that a terminal sent to others too has also reached the sandbox.
            if arrived.signal == libc::SIGCHLD || !arrived.is_for_us_alone() {
                continue;
            }
            match child.deliver(arrived.signal) {
                // It has ended meanwhile, which is not an error.
                Err(error) if error.errno() == Some(Errno(libc::ESRCH)) => {}
                Err(error) => warn(error),
                // SIGCONT too, as the kernel does after a hang-up, so that stopped processes get
                // it.
                Ok(()) if arrived.from_kernel => drop(child.deliver(libc::SIGCONT)),
                Ok(()) => {}
            }
        }
    }
}

/// The last act of a launcher: it ends like its command, by the same signal if one killed that, so
/// that its parent sees the same status. Returns the exit code if it does not die by the signal.
pub fn end_as(ended: Ended) -> i32 {
    if let Ended::Killed(signal) = ended {
        process::die_by(signal);
    }
    ended.code()
}
