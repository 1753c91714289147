//! A program that is run beside us and must have nothing of ours.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::errno::check;
use super::{Errno, raw};

/// Such that it inherits no descriptor but its standard ones and no ignored signal, is the leader of a
/// process group, and is killed when the calling thread ends.
pub fn apart(command: &mut Command) {
    let parent = std::process::id();
    let apart = move || -> std::io::Result<()> {
        // Those that the caller has given us for the sandbox are not closed at execve.
        raw::close_range(3, libc::CLOSE_RANGE_CLOEXEC)?;
        for signal in
            (1..=libc::SIGRTMAX()).filter(|one| ![libc::SIGKILL, libc::SIGSTOP].contains(one))
        {
            let _ = raw::set_disposition(signal, false);
        }
        raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
        // SAFETY: no memory is passed.
        let now = unsafe { libc::getppid() };
        // Our end may have come before the request to hear of it.
        if now as u32 != parent { Err(Errno(libc::ESRCH).into()) } else { Ok(()) }
    };
    // SAFETY: between fork and execve only system calls are made, with numbers alone.
    unsafe { command.process_group(0).pre_exec(apart) };
}

/// Kills every process of the group that process `leader`, a child that was not waited for, leads.
pub fn kill_group(leader: u32) {
    // SAFETY: no memory is passed.
    let _ = check(unsafe { libc::kill(-(leader as i32), libc::SIGKILL) });
}
