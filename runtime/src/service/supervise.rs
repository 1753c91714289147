//! Running in the foreground: signals sent to this process are meant for the sandbox.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::start::relay::{self, Caller};
use crate::start::{Child, Process, Terminal};
use crate::sys::Errno;
use crate::sys::process::{self, Arrived, Ended, PollFlags, Signals};
use crate::volume::watch::VolumeWatch;

/// Waits for the end of the sandbox, forwards signals that arrive meanwhile, and releases the
/// sandbox's resources. `signals` must have been blocked before the sandbox was started, or those
/// arriving in between would be lost. `warn` is called for a signal that could not be delivered.
/// With `caller`, the command's terminal is shown on the caller's.
///
/// # Errors
/// Something could not be released.
pub fn supervise(
    mut child: Child,
    caller: Option<&Caller>,
    signals: &Signals,
    warn: &dyn Fn(Error),
) -> Result<Ended> {
    let terminal = caller.and_then(|caller| Some((child.take_terminal()?, caller)));
    // Without it, what happens to them is not told.
    let watch = VolumeWatch::begin(child.volumes()).unwrap_or_default();
    supervise_process(child.process(), terminal, signals, watch, warn)?;
    if let Some(limit) = child.out_of_memory() {
        warn(Error::new(format!(
            "the kernel killed a process in the sandbox: out of memory ({limit})"
        )));
    }
    child.wait()
}

/// Forwards signals, and what is typed and shown, until the process has ended, without reaping it. Without
/// a terminal, `warn` is called with what happens to the volumes of `watch`.
///
/// # Errors
/// Waiting failed.
pub fn supervise_process(
    child: &Process,
    terminal: Option<(Terminal, &Caller)>,
    signals: &Signals,
    mut watch: Option<VolumeWatch>,
    warn: &dyn Fn(Error),
) -> Result<()> {
    let deliver = |arrived: Arrived| match child.deliver(arrived.signal) {
        // It has ended meanwhile, which is not an error.
        Err(error) if error.errno() == Some(Errno(libc::ESRCH)) => {}
        Err(error) => warn(error),
        // SIGCONT too, as the kernel does after a hang-up, so that stopped processes get it.
        Ok(()) if arrived.from_kernel && arrived.signal == libc::SIGHUP => {
            drop(child.deliver(libc::SIGCONT));
        }
        Ok(()) => {}
    };
    if let Some((terminal, caller)) = terminal {
        // In a session of its own it gets no signal that a terminal of ours sends.
        return relay::relay(terminal, caller, child.pidfd(), signals, &deliver);
    }
    loop {
        let of_volumes = watch.as_ref().map(|watch| (watch.as_fd(), PollFlags::PRI));
        let [first, signal] = [child.pidfd(), signals.as_fd()].map(|fd| Some((fd, PollFlags::IN)));
        let [ended, _, volumes] = process::ready([first, signal, of_volumes], None)
            .map_err(|errno| Error::os("wait for the sandbox", errno))?;
        if !ended.is_empty() {
            return Ok(());
        }
        if !volumes.is_empty() {
            match watch.as_mut().map(VolumeWatch::look) {
                Some(Ok(lines)) => lines.into_iter().for_each(|line| warn(Error::new(line))),
                Some(Err(error)) => {
                    warn(error);
                    watch = None;
                }
                None => {}
            }
        }
        while let Some(arrived) = signals.next() {
            // A signal that a terminal sent to others too has also reached the sandbox.
            if arrived.signal != libc::SIGCHLD && arrived.is_for_us_alone() {
                deliver(arrived);
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
