//! The payload of all TCP of one network namespace, whoever's the sockets are.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use super::diag::{Followed, SocketReport, TCP_LISTEN, dump};
use super::sockets::{DEATH, enter, open};
use super::traffic::Traffic;
use crate::error::Result;
use crate::sys::netlink::Socket;

/// What its TCP sockets have moved, by the kernel's counters (tcp_info): what the other side has acknowledged, and
/// what has arrived; without headers, without what was sent again, and without connections that stay inside. A
/// socket that is opened and closed between two readings is counted as well: the kernel reports each end with the
/// last counters (Linux 4.5).
#[derive(Debug)]
pub struct NamespacePayload {
    diag: Socket,
    deaths: Socket,
    /// By cookie, with the last time that it was there.
    sockets: HashMap<u64, (Followed, Instant)>,
    gone: Traffic,
    begun: bool,
}

impl NamespacePayload {
    /// Begins to count in the network namespace of a process.
    ///
    /// # Errors
    /// It may not be entered: needs CAP_SYS_ADMIN.
    pub fn of(pid: i32) -> Result<NamespacePayload> {
        let (diag, deaths, _) = enter(pid, open)?;
        let (sockets, gone) = (HashMap::new(), Traffic::default());
        let mut payload = NamespacePayload { diag, deaths, sockets, gone, begun: false };
        payload.read()?;
        payload.begun = true;
        Ok(payload)
    }

    /// What has moved since it began.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn read(&mut self) -> Result<Traffic> {
        let NamespacePayload { diag, deaths, sockets, gone, begun } = self;
        let now = Instant::now();
        let begin = |report: &SocketReport| {
            let Followed { acked, received, .. } = report.socket;
            let mut socket = report.socket.clone();
            if !*begun {
                socket.before = Traffic { up: acked, down: received };
            }
            socket
        };
        dump(diag, |report| {
            if leaves(&report) {
                let (socket, seen) =
                    sockets.entry(report.cookie).or_insert_with(|| (begin(&report), now));
                socket.update(&report.socket);
                *seen = now;
            }
        })?;
        deaths.drain(|_, body| {
            let Some(report) = SocketReport::read(body).filter(leaves) else { return };
            let known = sockets.remove(&report.cookie);
            let (mut socket, _) = known.unwrap_or_else(|| (begin(&report), now));
            socket.update(&report.socket);
            *gone += socket.moved();
        });
        let mut moved = Traffic::default();
        sockets.retain(|_, (socket, seen)| {
            let waits = now.duration_since(*seen) < DEATH;
            *(if waits { &mut moved } else { &mut *gone }) += socket.moved();
            waits
        });
        moved += *gone;
        Ok(moved)
    }
}

/// Whether its connection leaves the namespace.
fn leaves(report: &SocketReport) -> bool {
    let [own, peer] = report.ends().map(|end| Ipv6Addr::from(end).to_canonical());
    report.state != TCP_LISTEN && !peer.is_loopback() && !peer.is_unspecified() && own != peer
}
