//! A command started to be limited: it inherits everything the limiter was given, and towards the
//! caller the limiter acts in its place.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::tree;
use crate::error::{Error, Result};
use crate::start::{FileAction, Process, Spawn};
use crate::sys::file::read_kernel;
use crate::sys::process::{self, Arrived, Ended, Signals};
use crate::sys::raw;

/// Starts a command with everything the limiter was given: descriptors, ignored signals, terminal.
pub(super) fn start(command: Vec<OsString>) -> Result<Process> {
    // Its orphans are reparented to us, and stay in the tree.
    raw::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
        .map_err(|errno| Error::os("become a child subreaper", errno))?;
    let files = inherited().into_iter().map(|fd| FileAction::Copy { from: fd, to: fd }).collect();
    Ok(Spawn { command, files, ignored: ignored(), ..Spawn::default() }.spawn()?.process)
}

/// Descriptors from 3 on that would survive an execve.
fn inherited() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let passes = |fd: &i32| {
        let text = read_kernel(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        *fd > 2 && flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
    };
    numbers.filter(passes).collect()
}

/// The signals that we inherited as ignored, as from nohup(1). Not SIGPIPE, which Rust's runtime
/// ignores.
fn ignored() -> u64 {
    let status = read_kernel("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & !(1 << (libc::SIGPIPE - 1))
}

pub(super) fn ended(pidfd: BorrowedFd<'_>) -> bool {
    process::readable([pidfd], Some(Duration::ZERO)).is_ok_and(|[ended]| ended)
}

pub(super) fn finish(command: &Process) -> Result<Ended> {
    command.wait()
}

/// A command that ends and leaves other processes behind, as daemons do, leaves them unlimited.
pub(super) fn left_behind(command: i32) -> Option<String> {
    let left: Vec<i32> = tree::children(std::process::id() as i32)
        .into_iter()
        .filter(|pid| *pid != command)
        .filter(|pid| tree::ProcessStat::of(*pid).is_some_and(|stat| !stat.is_ending()))
        .collect();
    let first = *left.first()?;
    let name = tree::name(first);
    let others = match left.len() {
        1 => String::new(),
        more => format!(" and {} others", more - 1),
    };
    Some(format!(
        "the command has ended but left process {first} ({name}){others} running without a limit: use \
         garth limit --pid {first} to limit it, or run it in the foreground"
    ))
}

/// The limit is over; the command continues.
pub(super) fn wait_for(command: &Process, signals: &Signals) -> Result<Ended> {
    while !ended(command.pidfd()) {
        let wait = process::readable([command.pidfd(), signals.as_fd()], None);
        wait.map_err(|errno| Error::os("wait for the command", errno))?;
        while let Some(arrived) = signals.next() {
            forward(command, arrived);
            if arrived.signal == libc::SIGTSTP {
                let _ = command.signal(libc::SIGTSTP);
                process::stop();
            }
        }
    }
    finish(command)
}

pub(super) fn forward(command: &Process, arrived: Arrived) {
    // A signal from the terminal to the whole group has reached the command as well.
    if arrived.is_for_us_alone() && !matches!(arrived.signal, libc::SIGCHLD | libc::SIGTSTP) {
        let _ = command.signal(arrived.signal);
    }
}
