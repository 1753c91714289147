//! What the TCP sockets of a tree have moved, by the kernel's own counters (sock_diag(7)).
//!
//! Which sockets: those that a member has open (/proc/PID/fd). Each is then followed by its address
//! and cookie, which costs microseconds and finds it also when it was closed and still sends. When
//! it is gone the kernel tells its last counters to who listens (SKNLGRP_INET_TCP_DESTROY, Linux
//! 4.5). What is opened *and* closed between two looks at the descriptors is not seen.
//!
//! Two figures for each direction. *Moved*: acknowledged by the other side (bytes_acked), or arrived
//! here (bytes_received); what a wire has carried, without headers and repetitions. *Committed*:
//! what has moved and what will whatever the process does. Of an upload that is what was written,
//! as it lies in the send buffer. Of a download it is what was read, and the window that the other
//! side may fill while nobody reads: known when it was full for the first time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::meter::{Reading, Traffic};
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::sys::netlink::{self, Batch, Family, Socket};
use crate::sys::netns::in_netns_of;
use crate::sys::xattr;

/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Attribute INET_DIAG_INFO: struct tcp_info.
const INET_DIAG_INFO: u16 = 2;
/// SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY.
const DESTROY: [i32; 2] = [1, 3];
const TCP_LISTEN: u8 = 10;
/// All states but TIME_WAIT (6) and NEW_SYN_RECV (12), which nobody has open.
const STATES: u32 = 0xfff & !(1 << 6);
/// Length of struct inet_diag_sockid, and where it and others lie in struct inet_diag_msg.
const ID: usize = 48;
const MESSAGE: usize = 72;
/// Where a cookie lies in an inet_diag_sockid.
const COOKIE: usize = 40;

/// One socket's last counters.
#[derive(Clone, Debug)]
struct Followed {
    family: u8,
    id: [u8; ID],
    /// What it had moved before we began.
    before: Traffic,
    acked: u64,
    unacked: u64,
    received: u64,
    unread: u64,
    /// The most that was ever waiting to be read.
    window: u64,
}

/// The sockets of one network namespace.
#[derive(Debug)]
struct Space {
    diag: Socket,
    deaths: Socket,
    followed: HashMap<u64, Followed>,
}

/// The sockets of a tree.
#[derive(Debug, Default)]
pub struct Sockets {
    /// By the namespace's inode number.
    spaces: BTreeMap<u64, Space>,
    /// Inodes that need not be asked about again: followed, listening, or not TCP.
    settled: BTreeSet<u64>,
    /// What sockets that are gone have moved.
    gone: Traffic,
    /// There are sockets of this kind, which have no counters.
    pub uncounted: Option<String>,
    begun: bool,
}

/// What a message says.
struct Told {
    state: u8,
    inode: u64,
    cookie: u64,
    socket: Followed,
}

impl Sockets {
    /// Looks for sockets that are new in the tree.
    ///
    /// # Errors
    /// The kernel does not tell, or a namespace may not be entered: the sockets cannot be counted.
    pub fn look(&mut self, tree: &Tree) -> Result<()> {
        let mut open: BTreeMap<u64, (i32, BTreeSet<u64>)> = BTreeMap::new();
        let mut all = BTreeSet::new();
        for pid in tree.pids() {
            let Ok(space) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
            let (_, new) = open.entry(space.ino()).or_insert_with(|| (*pid, BTreeSet::new()));
            let dir = format!("/proc/{pid}/fd");
            let entries = match fs::read_dir(&dir) {
                // It has ended.
                Err(e) if e.raw_os_error() != Some(libc::EACCES) => continue,
                entries => entries.map_err(|e| Error::io(format!("read {dir}"), &e))?,
            };
            for entry in entries.flatten() {
                let Some(inode) = socket_inode(&entry.path()) else { continue };
                all.insert(inode);
                if !self.settled.contains(&inode) && self.is_tcp(&entry.path(), inode) {
                    new.insert(inode);
                }
            }
        }
        // Numbers are used again.
        self.settled.retain(|inode| all.contains(inode));
        for (number, (pid, new)) in open {
            // The first look is at each namespace, so that what cannot be counted is known at once.
            if new.is_empty() && self.begun {
                continue;
            }
            let space = match self.spaces.entry(number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Space::enter(pid)?),
            };
            space.find(&new, self.begun, &mut self.settled)?;
        }
        self.begun = true;
        Ok(())
    }

    fn is_tcp(&mut self, path: &Path, inode: u64) -> bool {
        match xattr::text(path, "system.sockprotoname").as_deref() {
            Ok("TCP" | "TCPv6" | "MPTCP" | "MPTCPv6") => return true,
            // It was closed in this moment.
            Err(_) => return false,
            Ok("UNIX" | "UNIX-STREAM" | "NETLINK") => {}
            Ok(other) => self.uncounted = Some(other.to_owned()),
        }
        self.settled.insert(inode);
        false
    }

    /// Reads the counters of all sockets that are known.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn read(&mut self) -> Result<Reading> {
        let mut moved = self.gone;
        let mut pending = Traffic::default();
        for space in self.spaces.values_mut() {
            let gone = space.read()?;
            self.gone += gone;
            moved += gone;
            for socket in space.followed.values() {
                moved += socket.moved();
                pending += socket.pending();
            }
        }
        Ok(Reading { moved, pending })
    }
}

impl Followed {
    fn moved(&self) -> Traffic {
        Traffic {
            up: self.acked.saturating_sub(self.before.up),
            down: self.received.saturating_sub(self.before.down),
        }
    }

    fn pending(&self) -> Traffic {
        Traffic { up: self.unacked, down: self.window.saturating_sub(self.unread) }
    }

    fn update(&mut self, now: &Followed) {
        (self.acked, self.unacked) = (now.acked, now.unacked);
        (self.received, self.unread) = (now.received, now.unread);
        self.window = self.window.max(now.unread);
    }
}

impl Space {
    fn enter(pid: i32) -> Result<Space> {
        let failed = |errno| Error::os("ask the kernel about sockets (sock_diag)", errno);
        let open = || -> Result<Space> {
            let diag = Socket::open(Family::Diag).map_err(failed)?;
            let deaths = Socket::open(Family::Diag).map_err(failed)?;
            // An old kernel tells no deaths: then the last look counts.
            let _ = deaths.join(&DESTROY);
            Ok(Space { diag, deaths, followed: HashMap::new() })
        };
        let same = |a: &str, b: &str| fs::read_link(a).ok() == fs::read_link(b).ok();
        if same(&format!("/proc/{pid}/ns/net"), "/proc/self/ns/net") {
            return open();
        }
        in_netns_of(pid, open).map_err(|errno| {
            Error::os(format!("enter the network namespace of process {pid}"), errno)
        })?
    }

    /// Follows the sockets that have one of these inodes. `late`: they were made since we began.
    fn find(&mut self, new: &BTreeSet<u64>, late: bool, settled: &mut BTreeSet<u64>) -> Result<()> {
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let mut batch = Batch::new();
            let everything = [0; ID];
            let doing = "list the TCP sockets";
            batch.message(
                doing,
                SOCK_DIAG_BY_FAMILY,
                libc::NLM_F_DUMP,
                &request(family, &everything),
            );
            let mut failure = None;
            let followed = &mut self.followed;
            let asked = self.diag.exchange(batch, |_, answer| match answer {
                Ok((_, body)) => {
                    let Some(told) = Told::read(body) else { return };
                    if !new.contains(&told.inode) {
                        return;
                    }
                    settled.insert(told.inode);
                    if told.state != TCP_LISTEN {
                        let mut socket = told.socket;
                        if !late {
                            socket.before = Traffic { up: socket.acked, down: socket.received };
                        }
                        followed.insert(told.cookie, socket);
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

    /// Brings all sockets up to date; what those have moved that are gone.
    fn read(&mut self) -> Result<Traffic> {
        // The answers to so many fit the queue of a netlink socket.
        const TOGETHER: usize = 32;
        let cookies: Vec<u64> = self.followed.keys().copied().collect();
        let mut missing = Vec::new();
        for some in cookies.chunks(TOGETHER) {
            let mut batch = Batch::new();
            for cookie in some {
                let socket = &self.followed[cookie];
                let request = request(socket.family, &socket.id);
                batch.message("look at a TCP socket", SOCK_DIAG_BY_FAMILY, 0, &request);
            }
            let followed = &mut self.followed;
            let asked = self.diag.exchange(batch, |index, answer| match answer {
                Ok((_, body)) => {
                    let told = Told::read(body).filter(|told| told.cookie == some[index]);
                    match (told, followed.get_mut(&some[index])) {
                        (Some(told), Some(socket)) => socket.update(&told.socket),
                        // In TIME_WAIT: it has no counters any more.
                        _ => missing.push(some[index]),
                    }
                }
                Err(_) => missing.push(some[index]),
            });
            asked.map_err(|refusal| Error::os(refusal.doing, refusal.errno))?;
        }
        let mut last: HashMap<u64, Followed> = HashMap::new();
        self.deaths.drain(|_, body| {
            if let Some(told) = Told::read(body) {
                last.insert(told.cookie, told.socket);
            }
        });
        let mut gone = Traffic::default();
        missing.extend(last.keys().filter(|cookie| self.followed.contains_key(cookie)));
        for cookie in missing {
            let Some(mut socket) = self.followed.remove(&cookie) else { continue };
            match last.get(&cookie) {
                Some(told) => socket.update(told),
                // Closed in good order, as far as we know: what was written has arrived.
                None => socket.acked += socket.unacked,
            }
            gone += socket.moved();
        }
        Ok(gone)
    }
}

impl Told {
    /// From a struct inet_diag_msg and its attributes.
    fn read(body: &[u8]) -> Option<Told> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let id: [u8; ID] = body.get(4..4 + ID)?.try_into().ok()?;
        let cookie = u64::from_ne_bytes(id[COOKIE..].try_into().ok()?);
        let info = netlink::attribute(body.get(MESSAGE..)?, INET_DIAG_INFO)?;
        // Offsets in struct tcp_info (linux/tcp.h); both are there since Linux 4.1.
        let u64_in = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
        let socket = Followed {
            family: *body.first()?,
            id,
            before: Traffic::default(),
            acked: u64_in(120)?,
            received: u64_in(128)?,
            unread: u32_at(56)?.into(),
            unacked: u32_at(60)?.into(),
            window: 0,
        };
        let inode = u32_at(68)?.into();
        Some(Told { state: *body.get(1)?, inode, cookie, socket })
    }
}

/// A struct inet_diag_req_v2.
fn request(family: u8, id: &[u8; ID]) -> [u8; 8 + ID] {
    let mut request = [0; 8 + ID];
    request[..4].copy_from_slice(&[family, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0]);
    request[4..8].copy_from_slice(&STATES.to_ne_bytes());
    request[8..].copy_from_slice(id);
    request
}

/// The inode of an open socket, from the link in /proc/PID/fd.
fn socket_inode(path: &Path) -> Option<u64> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        socket_inode(Path::new(&format!("/proc/self/fd/{}", socket.as_raw_fd()))).unwrap()
    }

    #[test]
    fn a_socket_is_counted_to_its_last_byte() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut there, _) = listener.accept().unwrap();
            here.write_all(&[7; 1000]).unwrap();
            there.read_exact(&mut [0; 1000]).unwrap();

            let mut sockets = Sockets::default();
            let mut space = Space::enter(std::process::id() as i32).unwrap();
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&here));
            assert!(sockets.is_tcp(Path::new(&path), inode(&here)));
            let new = BTreeSet::from([inode(&here), inode(&listener)]);
            let mut settled = BTreeSet::new();
            space.find(&new, false, &mut settled).unwrap();
            assert_eq!(settled, new, "the listening one is settled too");
            assert_eq!(space.followed.len(), 1);
            let number = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
            sockets.spaces.insert(number, space);

            // What was before does not count; what waits to be read is moved.
            here.write_all(&[7; 5000]).unwrap();
            there.read_exact(&mut [0; 5000]).unwrap();
            there.write_all(&[8; 3000]).unwrap();
            let reading = crate_until(&mut sockets, |reading| reading.moved.down == 3000);
            assert_eq!(reading.moved, Traffic { up: 5000, down: 3000 });
            assert_eq!(reading.committed(), Traffic { up: 5000, down: 3000 });
            // The 3000 bytes were read: as many may come without anybody's doing.
            here.read_exact(&mut [0; 3000]).unwrap();
            assert_eq!(sockets.read().unwrap().committed().down, 6000);

            // Closed without a look in between.
            here.write_all(&[7; 40_000]).unwrap();
            there.write_all(&[8; 20_000]).unwrap();
            here.read_exact(&mut [0; 20_000]).unwrap();
            there.read_exact(&mut [0; 40_000]).unwrap();
            drop((here, there));
            let total = Traffic { up: 45_000, down: 23_000 };
            let reading = crate_until(&mut sockets, |reading| {
                let left = reading.pending == Traffic::default();
                left && reading.moved.down == total.down
            });
            // A FIN counts as a byte.
            assert!(reading.moved.up - total.up <= 1, "{reading:?}");
        }
    }

    fn crate_until(sockets: &mut Sockets, done: impl Fn(&Reading) -> bool) -> Reading {
        for _ in 0..2000 {
            let reading = sockets.read().unwrap();
            if done(&reading) {
                return reading;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("not reached: {:?}", sockets.read());
    }
}
