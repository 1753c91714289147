//! Signalling the command itself from outside the sandbox.
//!
//! Pid 1 of a sandbox forwards the signals it gets, but with the rights of its user only (and
//! CAP_KILL if the sandbox has it), while the command may have changed to any user. A process that
//! may signal the sandbox from outside may signal its command too. So the sender finds the command,
//! signals it directly, and gets the kernel's answer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::file::read_kernel;
use crate::sys::{Errno, init, pidfd};

/// Sends `signal` to the command of the sandbox whose first process is `first`, with process id
/// `pid`. SIGKILL goes to the first process; when that dies, the kernel kills all the others.
///
/// ESRCH: it has ended. EPERM: the caller may not signal it.
pub fn deliver(first: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<(), Errno> {
    let command = match signal {
        libc::SIGKILL => None,
        _ => command(first, pid)?,
    };
    pidfd::send_signal(command.as_ref().map_or(first, AsFd::as_fd), signal)
}

/// The command of an init. `None`: the first process is the command itself, or has not executed the
/// init yet; once it has, it forwards pending signals.
pub fn command(init: BorrowedFd<'_>, pid: i32) -> Result<Option<OwnedFd>, Errno> {
    let number = number_inside(pid);
    let depth = pids(pid).len();
    let children = read_kernel(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // The above was read about the right process if the one behind the descriptor is still alive.
    pidfd::send_signal(init, 0).or_else(may_not)?;
    let Some(number) = number else { return Ok(None) };
    // The oldest child comes first, and that is the command.
    for child in children.split_ascii_whitespace().filter_map(|text| text.parse().ok()) {
        let Ok(process) = pidfd::open(child) else { continue };
        // In the init's pid namespace it must have the pid that the init was given.
        let is_it =
            depth.checked_sub(1).and_then(|own| pids(child).get(own).copied()) == Some(number);
        if is_it && pidfd::send_signal(process.as_fd(), 0).or_else(may_not).is_ok() {
            return Ok(Some(process));
        }
    }
    // An init without a command has ended.
    Err(Errno(libc::ESRCH))
}

/// Signal 0 only tests whether the process exists; the real signal tests for permission.
fn may_not(errno: Errno) -> Result<(), Errno> {
    if errno.0 == libc::EPERM { Ok(()) } else { Err(errno) }
}

/// The pid of an init's command, which is the init's argument.
fn number_inside(pid: i32) -> Option<i32> {
    let line = read_kernel(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0');
    (words.next()? == init::INIT.to_str().ok()?).then_some(())?;
    words.next()?.parse().ok()
}

/// The process's pid in each of its pid namespaces, starting with ours (proc_pid_status(5)).
fn pids(pid: i32) -> Vec<i32> {
    let status = read_kernel(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|text| text.parse().ok()).collect()
}
