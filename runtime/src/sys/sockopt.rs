//! Options of sockets (setsockopt(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Errno;
use super::errno::check;

/// Sets an option whose value is a number, as most are.
pub fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let length = size_of::<i32>() as u32;
    // SAFETY: the value is a live i32 of the length given.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    })
    .map(drop)
}
