//! Reserving a port of an address without serving it (bind(2), ip(7)).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::{Errno, raw, task};

/// Binds a stream or, for UDP, a datagram socket to `address`, so that no other process can.
///
/// An IPv6 socket takes no IPv4 port (IPV6_V6ONLY). A stream socket does not listen. If binding
/// fails only because connections of an earlier server linger in TIME_WAIT, the port is taken with
/// SO_REUSEADDR and then by listening: two sockets with that option can share a port unless one of
/// them listens. EADDRINUSE: the port is in use.
pub fn reserve(address: SocketAddr, udp: bool) -> Result<OwnedFd, Errno> {
    let kind = if udp { SocketType::DGRAM } else { SocketType::STREAM };
    match bind(address, kind, false) {
        Err(Errno(libc::EADDRINUSE)) if !udp => bind(address, kind, true),
        result => result,
    }
}

/// Room for many descriptors: while this lives, the soft limit on descriptors equals the hard one,
/// and descriptors put aside get numbers above the previous soft limit. So as many low numbers stay
/// free as before, and programs started later see the same limit.
#[derive(Debug)]
pub struct Room {
    soft: u64,
    hard: u64,
}

impl Room {
    /// `None` if the limit cannot be raised.
    pub fn make() -> Option<Room> {
        let (soft, hard) = task::rlimit(libc::RLIMIT_NOFILE).ok()?;
        (soft < hard).then_some(())?;
        raw::set_rlimit(libc::RLIMIT_NOFILE, hard, hard).ok()?;
        Some(Room { soft, hard })
    }

    /// The same open file under a number above the previous limit; unchanged if all of those are
    /// taken.
    pub fn put_aside(&self, fd: OwnedFd) -> OwnedFd {
        let Ok(beyond) = i32::try_from(self.soft) else { return fd };
        rustix::io::fcntl_dupfd_cloexec(&fd, beyond).unwrap_or(fd)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = raw::set_rlimit(libc::RLIMIT_NOFILE, self.soft, self.hard);
    }
}

/// Takes a name that no other process in this network namespace can then take (unix(7), abstract
/// sockets). EADDRINUSE: the name is taken.
pub fn claim(name: &str) -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::UNIX, SocketType::DGRAM)?;
    net::bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok(fd)
}

fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    Ok(net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn bind(address: SocketAddr, kind: SocketType, lingering: bool) -> Result<OwnedFd, Errno> {
    let (v4, v6) = (AddressFamily::INET, AddressFamily::INET6);
    let fd = socket(if address.is_ipv4() { v4 } else { v6 }, kind)?;
    if lingering {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    net::bind(&fd, &address)?;
    if lingering {
        net::listen(&fd, 0)?;
    }
    Ok(fd)
}
