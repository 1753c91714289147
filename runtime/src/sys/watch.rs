//! Descriptors that become readable when something happens elsewhere: eventfd(2), inotify(7).

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Errno;
use super::errno::check;

/// A counter, close-on-exec, that is read without waiting.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; the descriptor is new.
    unsafe {
        let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A watch on what is written to `files`, read without waiting.
pub fn file(files: &[&Path]) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; the descriptor is new.
    let fd = unsafe {
        let fd = check(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?;
        OwnedFd::from_raw_fd(fd)
    };
    for file in files {
        let path = CString::new(file.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
        // SAFETY: a C string that outlives the call.
        check(unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) })?;
    }
    Ok(fd)
}
