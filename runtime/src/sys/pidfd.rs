//! Processes held by a file descriptor, which never comes to refer to another process as a pid can
//! (pidfd_open(2), Linux 5.3).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::Errno;
use super::raw::call;

/// Opens a process by pid, close-on-exec. ESRCH: it does not exist. EINVAL: it is only a thread.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid.max(0)).ok_or(Errno(libc::EINVAL))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// A copy, close-on-exec, of the process's descriptor `fd` (pidfd_getfd(2), Linux 5.6). EPERM: the
/// process may not be traced. EBADF: it has no such descriptor.
pub fn get_fd(process: BorrowedFd<'_>, fd: i32) -> Result<OwnedFd, Errno> {
    Ok(rustix::process::pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?)
}

/// Sends `signal` to the process. ESRCH: it has ended and was reaped.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // Not by rustix, which only knows named signals: not the real-time ones.
    call!(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, 0, 0).map(drop)
}
