//! Options of sockets (setsockopt(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

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

/// What the kernel knows of a TCP connection (TCP_INFO of tcp(7), struct tcp_info of linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments with payload that were sent, each as it is on a cable, sent again included (Linux 4.6).
    pub segments: u32,
    /// Whether segments have timestamps.
    pub timestamps: bool,
}

/// Reads it.
///
/// # Errors
/// It is no TCP socket, or the kernel is older than Linux 4.6.
pub fn tcp_info(socket: BorrowedFd<'_>) -> Result<TcpInfo, Errno> {
    const TIMESTAMPS: u8 = 1;
    let mut info = [0u8; 232];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer is as long as is said, and the kernel writes no more.
    let read = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if read != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    if length < 160 {
        return Err(Errno(libc::ENOPROTOOPT));
    }
    let segments = [info[156], info[157], info[158], info[159]];
    let timestamps = info[5] & TIMESTAMPS != 0;
    Ok(TcpInfo { segments: u32::from_ne_bytes(segments), timestamps })
}
