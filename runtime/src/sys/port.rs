//! Taking a port of an address without serving it (bind(2), ip(7)).

use std::mem::size_of_val;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::errno::check;
use super::{Errno, raw, sockopt, task};

/// Binds a socket of `kind` (SOCK_STREAM or SOCK_DGRAM) to `address`, so that nobody else can.
///
/// An IPv6 socket takes no IPv4 port (IPV6_V6ONLY). A stream socket does not listen. If that is
/// refused only because of connections of an earlier server that linger in TIME_WAIT, the port is
/// taken with SO_REUSEADDR, and then by listening: two sockets with that option can share a port
/// unless one of them listens. EADDRINUSE: somebody has the port.
pub fn reserve(address: SocketAddr, kind: i32) -> Result<OwnedFd, Errno> {
    match bind(address, kind, false) {
        Err(errno) if errno.0 == libc::EADDRINUSE && kind == libc::SOCK_STREAM => {
            bind(address, kind, true)
        }
        result => result,
    }
}

/// Room for many descriptors: while this lives the soft limit of descriptors is the hard one, and what
/// is put aside has a number beyond the soft limit of before. So the numbers that it leaves free are as
/// many as they were, and nothing that is started later sees another limit.
#[derive(Debug)]
pub struct Room {
    soft: u64,
    hard: u64,
}

impl Room {
    /// None where there is none to be had.
    pub fn make() -> Option<Room> {
        let (soft, hard) = task::rlimit(libc::RLIMIT_NOFILE).ok()?;
        (soft < hard).then_some(())?;
        raw::set_rlimit(libc::RLIMIT_NOFILE, hard, hard).ok()?;
        Some(Room { soft, hard })
    }

    /// The same open file under a number beyond the limit of before; as it is, if all of those are
    /// taken.
    pub fn put_aside(&self, fd: OwnedFd) -> OwnedFd {
        let Ok(beyond) = i32::try_from(self.soft) else { return fd };
        // SAFETY: plain integers.
        match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, beyond) }) {
            // SAFETY: a new descriptor that nothing else owns.
            Ok(aside) => unsafe { OwnedFd::from_raw_fd(aside) },
            Err(_) => fd,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = raw::set_rlimit(libc::RLIMIT_NOFILE, self.soft, self.hard);
    }
}

/// Takes a name that nobody else in this network namespace can take (unix(7), abstract sockets).
/// EADDRINUSE: somebody has it.
pub fn claim(name: &str) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: a new descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    let place = address.sun_path.get_mut(1..=name.len()).ok_or(Errno(libc::ENAMETOOLONG))?;
    for (to, from) in place.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let length = size_of::<libc::sa_family_t>() + 1 + name.len();
    // SAFETY: a live address of the length given.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length as u32) })?;
    Ok(fd)
}

fn bind(address: SocketAddr, kind: i32, lingering: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain integers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if lingering {
        sockopt::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            let length = size_of_val(&name) as u32;
            // SAFETY: a live address of the length given.
            check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length) })?;
        }
        SocketAddr::V6(v6) => {
            sockopt::set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            let length = size_of_val(&name) as u32;
            // SAFETY: a live address of the length given.
            check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length) })?;
        }
    }
    if lingering {
        // SAFETY: plain integers.
        check(unsafe { libc::listen(fd.as_raw_fd(), 0) })?;
    }
    Ok(fd)
}
