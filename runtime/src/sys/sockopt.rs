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

/// The value of such an option.
pub fn get(socket: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32, Errno> {
    let (mut value, mut length) = (0i32, size_of::<i32>() as u32);
    // SAFETY: the value is a live i32 of the length given, and so is the length.
    check(unsafe {
        let to = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, to, &raw mut length)
    })?;
    Ok(value)
}

/// The user at the other end of a unix socket: the one who connected, or began to listen.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as u32;
    // SAFETY: the value is live and of the length given, and so is the length.
    check(unsafe {
        let (to, name) = ((&raw mut peer).cast(), libc::SO_PEERCRED);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, to, &raw mut length)
    })?;
    Ok(peer.uid)
}
