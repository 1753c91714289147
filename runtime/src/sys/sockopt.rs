//! Options of sockets (setsockopt(2)).

use std::os::fd::BorrowedFd;

use rustix::net::sockopt;

use super::Errno;

/// Does it accept connections?
pub fn is_listening(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// Acknowledges data that came over a TCP connection immediately (TCP_QUICKACK of tcp(7)).
pub fn acknowledge(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(sockopt::set_tcp_quickack(socket, true)?)
}

/// The user at the other end of a Unix socket: the one that connected, or that called listen(2).
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    Ok(sockopt::socket_peercred(socket)?.uid.as_raw())
}
