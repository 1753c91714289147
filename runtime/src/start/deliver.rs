//! A signal from outside, to the command itself.
//!
//! Pid 1 of a sandbox forwards what it is sent, but it has no more rights than its user and CAP_KILL,
//! if the sandbox has that at all, while the command may have become anybody. Whoever signals a sandbox from
//! outside may signal its command too. So the sender finds the command, sends to it directly, and
//! learns what the kernel thinks of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::file::read_kernel;
use crate::sys::{Errno, init, pidfd};

/// Sends `signal` to the command of the sandbox whose first process is `first`, with the number `pid`.
/// SIGKILL goes to the first process, with which the kernel ends all the others.
///
/// ESRCH: it has ended. EPERM: it is not the caller's to signal.
pub fn deliver(first: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<(), Errno> {
    let command = match signal {
        libc::SIGKILL => None,
        _ => command(first, pid)?,
    };
    pidfd::send_signal(command.as_ref().map_or(first, AsFd::as_fd), signal)
}

/// The command of an init. None: the first process is the command itself, or is not the init yet:
/// then it forwards, as soon as it is, what it finds waiting.
pub fn command(init: BorrowedFd<'_>, pid: i32) -> Result<Option<OwnedFd>, Errno> {
    let number = number_inside(pid);
    let depth = pids(pid).len();
    let children = read_kernel(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // All this was about the process behind the descriptor if that still is there.
    pidfd::send_signal(init, 0).or_else(may_not)?;
    let Some(number) = number else { return Ok(None) };
    // The oldest comes first, and that is the command.
    for child in children.split_ascii_whitespace().filter_map(|text| text.parse().ok()) {
        let Ok(process) = pidfd::open(child) else { continue };
        // In the pid namespace of the init it has the number that the init was given.
        let is_it =
            depth.checked_sub(1).and_then(|own| pids(child).get(own).copied()) == Some(number);
        if is_it && pidfd::send_signal(process.as_fd(), 0).or_else(may_not).is_ok() {
            return Ok(Some(process));
        }
    }
    // Only an init that has ended has no command.
    Err(Errno(libc::ESRCH))
}

/// Signal 0 asks whether there is such a process; whether it may be signalled is asked later.
fn may_not(errno: Errno) -> Result<(), Errno> {
    if errno.0 == libc::EPERM { Ok(()) } else { Err(errno) }
}

/// The argument of an init: the number of its command.
fn number_inside(pid: i32) -> Option<i32> {
    let line = read_kernel(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0');
    (words.next()? == init::INIT.to_str().ok()?).then_some(())?;
    words.next()?.parse().ok()
}

/// The numbers of a process in the pid namespaces that it is in, from ours on (proc_pid_status(5)).
fn pids(pid: i32) -> Vec<i32> {
    let status = read_kernel(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|text| text.parse().ok()).collect()
}
