//! Opening paths inside a tree that someone else controls (openat2(2), Linux 5.6).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, raw};

/// Opens `path` as if `root` were `/`: absolute links and `..` stay inside, magic links (the ones
/// in /proc that lead anywhere) are refused. `flags` as for open(2); O_CLOEXEC is added.
pub fn in_root(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let fd = raw::openat2(root.as_raw_fd(), path, flags, resolve)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
