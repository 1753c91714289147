//! External programs that run alongside us and must inherit nothing of ours: the one place where
//! they are started.
//!
//! Garth blocks signals while it waits for a sandbox, and ignores SIGPIPE; callers leave
//! descriptors open for the sandbox. `std::process` passes all of this on, and a program that keeps
//! running (pasta) would never receive the signal to end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal};

use super::{Errno, raw};

/// Is it a path to a file, or a name found in PATH?
pub fn is_there(program: &Path) -> bool {
    find(program).is_some()
}

/// Where it is, if it is a path to a file, or a name found in PATH.
pub fn find(program: impl AsRef<Path>) -> Option<PathBuf> {
    let program = program.as_ref();
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/sbin:/usr/bin"));
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A program with all signals unblocked and at their default actions, and only the standard
/// descriptors.
pub fn new(program: impl AsRef<OsStr>) -> Command {
    let clean = || {
        // Those that the caller passed to us for the sandbox are not close-on-exec.
        raw::close_range(3, libc::CLOSE_RANGE_CLOEXEC)?;
        clean_signals()
    };
    let mut command = Command::new(program);
    // SAFETY: between fork and execve only system calls are made, with plain numbers.
    unsafe { command.pre_exec(clean) };
    command
}

/// Same as [`new`], but keeps descriptors that are not close-on-exec: for a program that is told
/// their numbers.
pub fn with_descriptors(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // SAFETY: as above.
    unsafe { command.pre_exec(clean_signals) };
    command
}

/// Makes it the leader of a process group: what the terminal sends does not reach it.
pub fn apart(command: &mut Command) {
    command.process_group(0);
}

/// Has it killed when the calling thread ends.
pub fn with_us(command: &mut Command) {
    let parent = std::process::id();
    let with_us = move || -> std::io::Result<()> {
        raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
        let now = rustix::process::getppid();
        // We may have ended before the prctl.
        if Pid::as_raw(now) as u32 != parent { Err(Errno(libc::ESRCH).into()) } else { Ok(()) }
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(with_us) };
}

/// Lets it come to its end if we end before it: what it then writes to our pipes fails, and does not
/// kill it.
pub fn to_its_end(command: &mut Command) {
    let deaf = || Ok(raw::set_disposition(libc::SIGPIPE, true)?);
    // SAFETY: as above.
    unsafe { command.pre_exec(deaf) };
}

/// Lets it outlive us: in a session of its own, with its process id written to `known` before it is
/// executed. So there is never a moment when it runs and cannot be found.
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

/// In the child: the program must not inherit the signals that the caller blocks or ignores.
fn clean_signals() -> std::io::Result<()> {
    for signal in (1..=libc::SIGRTMAX()).filter(|one| ![libc::SIGKILL, libc::SIGSTOP].contains(one))
    {
        let _ = raw::set_disposition(signal, false);
    }
    Ok(raw::set_signal_mask(0)?)
}

/// Kills every process of the process group of `leader`, a child that has not been waited for.
pub fn kill_group(leader: u32) {
    if let Some(group) = Pid::from_raw(leader as i32) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Signals;

    /// On a thread of its own: signal masks are per thread.
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
