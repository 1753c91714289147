//! Programs of others that are run beside us, and that must have nothing of ours: the one place where
//! they are started.
//!
//! Garth blocks signals while it waits for a sandbox, and ignores SIGPIPE; callers leave descriptors
//! open for the sandbox. `std::process` passes all of it on, and a program that stays (pasta) would
//! never hear that it is to end.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal};

use super::{Errno, raw};

/// A program with all signals unblocked and at their default actions, and no descriptors but the
/// standard ones.
pub fn new(program: impl AsRef<OsStr>) -> Command {
    let clean = || {
        // Those that the caller has given us for the sandbox are not closed at execve.
        raw::close_range(3, libc::CLOSE_RANGE_CLOEXEC)?;
        clean_signals()
    };
    let mut command = Command::new(program);
    // SAFETY: between fork and execve only system calls are made, with numbers alone.
    unsafe { command.pre_exec(clean) };
    command
}

/// As [`new`], with the descriptors that are not closed at execve: for a program that is told their
/// numbers.
pub fn with_descriptors(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // SAFETY: as above.
    unsafe { command.pre_exec(clean_signals) };
    command
}

/// Such that it is the leader of a process group, and is killed when the calling thread ends.
pub fn apart(command: &mut Command) {
    let parent = std::process::id();
    let apart = move || -> std::io::Result<()> {
        raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
        let now = rustix::process::getppid();
        // Our end may have come before the request to hear of it.
        if Pid::as_raw(now) as u32 != parent { Err(Errno(libc::ESRCH).into()) } else { Ok(()) }
    };
    // SAFETY: as above.
    unsafe { command.process_group(0).pre_exec(apart) };
}

/// Such that it may go on without us: in a session of its own, with its process id written to `known`
/// before it is executed. So there is no moment at which it runs and cannot be found.
pub fn aside(command: &mut Command, known: File) {
    let aside = move || -> std::io::Result<()> {
        let (mut digits, mut at, mut rest) = ([0u8; 10], 10, std::process::id());
        while at == 10 || rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        raw::setsid()?;
        Ok(raw::write(known.as_raw_fd(), &digits[at..])?)
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(aside) };
}

/// In the child: what the caller blocks or ignores is not for the program.
fn clean_signals() -> std::io::Result<()> {
    for signal in (1..=libc::SIGRTMAX()).filter(|one| ![libc::SIGKILL, libc::SIGSTOP].contains(one))
    {
        let _ = raw::set_disposition(signal, false);
    }
    Ok(raw::set_signal_mask(0)?)
}

/// Kills every process of the group that process `leader`, a child that was not waited for, leads.
pub fn kill_group(leader: u32) {
    if let Some(group) = Pid::from_raw(leader as i32) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Signals;

    /// In a thread of its own: the mask is a thread's.
    #[test]
    fn what_is_started_while_signals_are_blocked_hears_them() {
        let status = std::thread::spawn(|| {
            let _blocked = Signals::block().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(!status.contains("SigBlk:\t0000000000000000"), "nothing was blocked");
            [super::new("cat"), super::with_descriptors("cat")].map(|mut cat| {
                let output = cat.arg("/proc/self/status").output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            })
        });
        for status in status.join().unwrap() {
            assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
            assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
        }
    }
}
