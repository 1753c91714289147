//! One TCP socket, as its descriptor and the kernel describe it (sock_diag(7)).

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;

use super::strays::{End, Seen};
use super::traffic::Traffic;
use crate::error::{Error, Result};
use crate::sys::netlink::{self, Batch, Socket};
use crate::sys::{Errno, pidfd, sockopt};

/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Attribute INET_DIAG_INFO: struct tcp_info.
const INET_DIAG_INFO: u16 = 2;
pub(super) const TCP_LISTEN: u8 = 10;
/// All states but TIME_WAIT (6) and NEW_SYN_RECV (12), which no process has open.
const STATES: u32 = 0xfff & !(1 << 6);
/// Length of struct inet_diag_sockid, and offsets of it and others in struct inet_diag_msg.
pub(super) const ID: usize = 48;
const MESSAGE: usize = 72;
/// Offset of the cookie in an inet_diag_sockid.
const COOKIE: usize = 40;

/// Milliseconds, or two round trips, after which the other side is taken to have nothing to send.
const QUIET: u32 = 200;

/// Where a socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In this process.
    pub pid: i32,
    /// As this descriptor.
    pub fd: i32,
    /// If it has this inode, it is still the same one.
    pub inode: u64,
}

/// What a descriptor says about its socket.
pub(super) enum Sight {
    /// Its address, in sock_diag's format, and the family.
    Connected([u8; ID], u8),
    /// There is nothing to count yet.
    Unconnected,
    Listening,
}

impl Place {
    /// Inspects a copy of the descriptor, which is closed immediately.
    ///
    /// # Errors
    /// EPERM: the process may not be traced. Others: it is no longer open there.
    pub(super) fn look(&self) -> Result<Sight, Errno> {
        let process = pidfd::open(self.pid)?;
        let copy = pidfd::get_fd(process.as_fd(), self.fd)?;
        if sockopt::is_listening(copy.as_fd())? {
            return Ok(Sight::Listening);
        }
        let socket = TcpStream::from(copy);
        let (Ok(here), Ok(there)) = (socket.local_addr(), socket.peer_addr()) else {
            return Ok(Sight::Unconnected);
        };
        let mut id = [0; ID];
        id[..2].copy_from_slice(&here.port().to_be_bytes());
        id[2..4].copy_from_slice(&there.port().to_be_bytes());
        for (at, end) in [(4, here), (20, there)] {
            match end {
                SocketAddr::V4(end) => id[at..at + 4].copy_from_slice(&end.ip().octets()),
                SocketAddr::V6(end) => {
                    id[at..at + 16].copy_from_slice(&end.ip().octets());
                    id[36..COOKIE].copy_from_slice(&end.scope_id().to_ne_bytes());
                }
            }
        }
        // INET_DIAG_NOCOOKIE: the answer has the cookie, and is compared by inode.
        id[COOKIE..].fill(0xff);
        let family = if here.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        Ok(Sight::Connected(id, family as u8))
    }
}

/// One socket's last counters.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) inode: u64,
    pub(super) family: u8,
    pub(super) id: [u8; ID],
    /// What it had moved before we began.
    pub(super) before: Traffic,
    pub(super) acked: u64,
    pub(super) unacked: u64,
    pub(super) received: u64,
    pub(super) unread: u64,
    /// The most that was ever waiting to be read.
    window: u64,
    /// Nothing has arrived for so long that the peer is not about to fill the window.
    pub(super) quiet: bool,
}

/// What a message says.
pub(super) struct SocketReport {
    pub(super) state: u8,
    pub(super) cookie: u64,
    pub(super) socket: Followed,
}

impl Followed {
    pub(super) fn moved(&self) -> Traffic {
        Traffic {
            up: self.acked.saturating_sub(self.before.up),
            down: self.received.saturating_sub(self.before.down),
        }
    }

    pub(super) fn pending(&self) -> Traffic {
        let room = self.window.saturating_sub(self.unread);
        Traffic { up: self.unacked, down: if self.quiet { 0 } else { room } }
    }

    pub(super) fn update(&mut self, now: &Followed) {
        (self.acked, self.unacked) = (now.acked, now.unacked);
        (self.received, self.unread) = (now.received, now.unread);
        self.window = self.window.max(now.unread);
        self.quiet = now.quiet;
    }
}

/// The TCP socket with this address, if there is one.
pub(super) fn ask(diag: &mut Socket, family: u8, id: &[u8; ID]) -> Result<Option<SocketReport>> {
    let mut batch = Batch::new();
    batch.message("query a TCP socket", SOCK_DIAG_BY_FAMILY, 0, &request(family, id));
    let mut report = None;
    let asked = diag.exchange(batch, |_, answer| {
        report = answer.ok().and_then(|(_, body)| SocketReport::read(body));
    });
    asked.map_err(|refusal| Error::os(refusal.doing, refusal.errno))?;
    Ok(report)
}

/// Every TCP socket of the namespace.
pub(super) fn dump(diag: &mut Socket, mut each: impl FnMut(SocketReport)) -> Result<()> {
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut batch = Batch::new();
        let request = request(family, &[0; ID]);
        batch.message("list the TCP sockets", SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, &request);
        let mut failure = None;
        let asked = diag.exchange(batch, |_, answer| match answer {
            Ok((_, body)) => {
                if let Some(report) = SocketReport::read(body) {
                    each(report);
                }
            }
            Err(refusal) => failure = Some(refusal),
        });
        if let Some(refusal) = asked.err().or(failure) {
            return Err(Error::os(refusal.doing, refusal.errno));
        }
    }
    Ok(())
}

impl SocketReport {
    /// The same, for a socket known by its endpoints.
    pub(super) fn seen(&self) -> Seen {
        let Followed { id, inode, .. } = &self.socket;
        let mut end: End = [0; 18];
        end[..2].copy_from_slice(&id[2..4]);
        end[2..].copy_from_slice(&self.ends()[1]);
        let port = u16::from_be_bytes([id[0], id[1]]);
        let listens = self.state == TCP_LISTEN;
        Seen { cookie: self.cookie, inode: *inode, listens, port, end }
    }

    /// Its own address and its peer's; IPv4 in its place in IPv6.
    pub(super) fn ends(&self) -> [[u8; 16]; 2] {
        let Followed { id, family, .. } = &self.socket;
        [4, 20].map(|at| {
            let mut address = [0; 16];
            match i32::from(*family) {
                libc::AF_INET => {
                    address[10..12].fill(0xff);
                    address[12..].copy_from_slice(&id[at..at + 4]);
                }
                _ => address.copy_from_slice(&id[at..at + 16]),
            }
            address
        })
    }

    /// From a struct inet_diag_msg and its attributes.
    pub(super) fn read(body: &[u8]) -> Option<SocketReport> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let id: [u8; ID] = body.get(4..4 + ID)?.try_into().ok()?;
        let cookie = u64::from_ne_bytes(id[COOKIE..].try_into().ok()?);
        let info = netlink::attribute(body.get(MESSAGE..)?, INET_DIAG_INFO)?;
        // Offsets in struct tcp_info (linux/tcp.h); the counters exist since Linux 4.1.
        let u32_in = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
        let u64_in = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
        let socket = Followed {
            inode: u32_at(68)?.into(),
            family: *body.first()?,
            id,
            before: Traffic::default(),
            acked: u64_in(120)?,
            received: u64_in(128)?,
            unread: u32_at(56)?.into(),
            unacked: u32_at(60)?.into(),
            window: 0,
            // Milliseconds since the last data, microseconds of a round trip.
            quiet: u32_in(52)? > QUIET.max(u32_in(68)? / 1000 * 2),
        };
        Some(SocketReport { state: *body.get(1)?, cookie, socket })
    }
}

/// A struct inet_diag_req_v2.
pub(super) fn request(family: u8, id: &[u8; ID]) -> [u8; 8 + ID] {
    let mut request = [0; 8 + ID];
    request[..4].copy_from_slice(&[family, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0]);
    request[4..8].copy_from_slice(&STATES.to_ne_bytes());
    request[8..].copy_from_slice(id);
    request
}

/// The inode of an open socket, from the link in /proc/PID/fd.
pub fn socket_inode(path: &Path) -> Option<u64> {
    inode_in(&std::fs::read_link(path).ok()?)
}

pub(super) fn inode_in(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_was_full_once_is_committed_when_it_is_read() {
        let report = |received, unread, quiet| Followed {
            inode: 1,
            family: 0,
            id: [0; ID],
            before: Traffic { up: 0, down: 1000 },
            acked: 0,
            unacked: 0,
            received,
            unread,
            window: 0,
            quiet,
        };
        let mut socket = report(1000, 0, false);
        let mut after = |now: Followed| {
            socket.update(&now);
            (socket.moved().down, socket.pending().down)
        };
        // It fills while nothing is read; then 3000 are read, and as many may arrive.
        assert_eq!(after(report(6000, 5000, false)), (5000, 0));
        assert_eq!(after(report(6000, 2000, false)), (5000, 3000));
        // They arrive; or, in the end, they do not.
        assert_eq!(after(report(9000, 5000, false)), (8000, 0));
        assert_eq!(after(report(9000, 0, false)), (8000, 5000));
        assert_eq!(after(report(9000, 0, true)), (8000, 0));
    }
}
