//! Opening paths inside a tree that someone else controls (openat2(2), Linux 5.6).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, raw};

/// Opens `path` as if `root` were `/`: absolute links and `..` stay inside, magic links (the ones
/// in /proc that lead anywhere) are refused. `flags` as for open(2); O_CLOEXEC is added.
///
/// EAGAIN means that a rename elsewhere disturbed the walk; a few tries are made here.
pub fn in_root(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: `open_how` is plain integers, for which all zeroes is a value (and the one that
    // openat2(2) asks of fields it does not know yet).
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let args = [
        root.as_raw_fd() as usize,
        path.as_ptr() as usize,
        &raw const how as usize,
        size_of::<libc::open_how>(),
        0,
        0,
    ];
    let mut tries = 0;
    loop {
        // SAFETY: `path` and `how` outlive the call, the size is that of `how`; both only read.
        match unsafe { raw::syscall(libc::SYS_openat2, args) } {
            Err(Errno(libc::EAGAIN)) if tries < 16 => tries += 1,
            Err(errno) => return Err(errno),
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        }
    }
}
