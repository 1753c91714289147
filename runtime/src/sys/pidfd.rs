//! Processes held by a file descriptor, which never comes to mean another process as a pid does
//! (pidfd_open(2), Linux 5.3).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, raw};

/// Opens a process by pid, close-on-exec. ESRCH: there is none. EINVAL: it is a mere thread.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { raw::syscall(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0])? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A copy, close-on-exec, of the process's descriptor `fd` (pidfd_getfd(2), Linux 5.6). EPERM: it may
/// not be traced. EBADF: it has no such one.
pub fn get_fd(process: BorrowedFd<'_>, fd: i32) -> Result<OwnedFd, Errno> {
    let args = [process.as_raw_fd() as usize, fd as usize, 0, 0, 0, 0];
    // SAFETY: no pointers are passed.
    let copy = unsafe { raw::syscall(libc::SYS_pidfd_getfd, args)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as i32) })
}

/// Sends `signal` to the process. ESRCH: it has ended and was waited for.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let args = [process.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0];
    // SAFETY: the only pointer, siginfo, is null, which means "as kill(2) fills it".
    unsafe { raw::syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}
