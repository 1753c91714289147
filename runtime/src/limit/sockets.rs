//! What the TCP sockets of a tree have moved, by the kernel's own counters (sock_diag(7)).
//!
//! Which sockets: those that a member has open (/proc/PID/fd). Each is then followed by its address
//! and cookie, which takes microseconds and still finds it when it was closed but still sends. The
//! address is that of a copy of the descriptor; where no copy may be taken, all sockets are listed
//! to find it, for which the kernel walks its whole table (2.4 ms on a machine with 24 GB). When a
//! socket is gone, the kernel reports its last counters to listeners (SKNLGRP_INET_TCP_DESTROY,
//! Linux 4.5). For what was opened *and* closed between two looks at the descriptors, that is all
//! there is: `strays` works out the owner.
//!
//! Two figures for each direction. *Moved*: acknowledged by the other side (bytes_acked), or
//! arrived here (bytes_received); what a wire has carried, without headers and retransmissions.
//! *Committed*: what has moved and what will, whatever the process does. For an upload that is what
//! was written, as it lies in the send buffer. For a download it is what was read, plus the window
//! that the other side may fill while nothing is read: known once it has been full.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use super::diag::{
    Followed, Place, SOCK_DIAG_BY_FAMILY, Sight, SocketReport, TCP_LISTEN, ask, dump, inode_in,
    request,
};
use super::strays::Strays;
use super::traffic::{Reading, Traffic};
use super::tree::{self, ProcessTree};
use crate::error::{Error, Result};
use crate::sys::netlink::{Batch, Family, Socket};
use crate::sys::netns::in_netns_of;
use crate::sys::{Errno, xattr};

/// SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY.
const DESTROY: [i32; 2] = [1, 3];
/// Other processes' sockets are listed this often, or in at most a twentieth of the time.
const LIST: Duration = Duration::from_millis(500);
/// How long to wait for the last counters of a socket.
pub(super) const DEATH: Duration = Duration::from_secs(2);

/// The sockets of one network namespace.
#[derive(Debug)]
struct Space {
    diag: Socket,
    deaths: Socket,
    followed: HashMap<u64, Followed>,
    /// Sockets no longer found whose last counters have not arrived yet: the kernel reports a death
    /// from a work queue.
    dying: HashMap<u64, (Followed, Instant)>,
    strays: Strays,
    next_list: Instant,
    /// Whether some deaths are not reported: not to this user, not by this kernel, or they came too
    /// fast.
    deaf: bool,
}

/// The sockets of a tree.
#[derive(Debug, Default)]
pub struct Sockets {
    /// By the namespace's inode number.
    spaces: BTreeMap<u64, Space>,
    /// Inodes that need not be asked about again: followed, listening, or not TCP.
    settled: BTreeSet<u64>,
    /// All that were open at the last look, by inode.
    places: HashMap<u64, Place>,
    /// What closed sockets have moved.
    gone: Traffic,
    /// There are sockets of this kind, which have no counters.
    pub uncounted: Option<String>,
    /// Processes that this user may not inspect, as of the last look.
    pub unseen: BTreeSet<i32>,
    begun: bool,
    /// Whether something has been opened, or has ended unseen, since this was last read.
    news: bool,
    /// Whether the target has been idle for so long that it did not close anything that ends now.
    pub idle: bool,
}

impl Sockets {
    /// Looks for new sockets in the tree. A process that may not be inspected is passed over, and
    /// listed in `unseen`.
    ///
    /// # Errors
    /// The kernel does not answer, or the first namespaces may not be entered: the sockets cannot
    /// be counted.
    pub fn look(&mut self, tree: &ProcessTree) -> Result<()> {
        let mut open: BTreeMap<u64, (i32, Vec<Place>)> = BTreeMap::new();
        self.places.clear();
        self.unseen.clear();
        for pid in tree.pids() {
            let own = tree::directory(*pid);
            let looked = fs::metadata(own.join("ns/net")).and_then(|space| {
                let (_, new) = open.entry(space.ino()).or_insert_with(|| (*pid, Vec::new()));
                self.look_at(*pid, &own.join("fd"), new)
            });
            if let Err(error) = looked {
                self.not_seen(*pid, &error.into());
            }
        }
        // Inode numbers are reused.
        self.settled.retain(|inode| self.places.contains_key(inode));
        for (number, (pid, new)) in open {
            // The first look visits each namespace, to know from the start what cannot be counted.
            if new.is_empty() && self.begun {
                continue;
            }
            let space = match self.spaces.entry(number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match Space::enter(pid) {
                    Ok(space) => place.insert(space),
                    Err(error) if self.begun => {
                        self.not_seen(pid, &error.errno().unwrap_or(Errno(libc::EPERM)));
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            self.news |= !new.is_empty();
            self.gone += space.find(&new, self.begun, &mut self.settled)?;
        }
        for space in self.spaces.values_mut() {
            space.strays.looked(|inode| self.places.contains_key(&inode));
        }
        Ok(())
    }

    /// Occasionally, after a look, lists other processes' sockets too.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn list(&mut self) -> Result<()> {
        let now = Instant::now();
        for space in self.spaces.values_mut().filter(|space| now >= space.next_list) {
            space.list()?;
            if !self.begun {
                space.strays.looked(|inode| self.places.contains_key(&inode));
            }
            space.next_list = now + LIST.max(now.elapsed() * 20);
        }
        self.begun = true;
        Ok(())
    }

    /// Whether there is more to see than at the last look, so that the next one should be soon.
    pub fn news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Connections that have ended and may have been the target's: how many, and what they have
    /// moved.
    pub fn strays(&self) -> (u64, Traffic) {
        let spaces = self.spaces.values().map(|space| space.strays.uncounted());
        spaces.fold((0, Traffic::default()), |(count, mut sum), (more, moved)| {
            sum += moved;
            (count + more, sum)
        })
    }

    /// Whether some or all ends of connections are not reported.
    pub fn deaf(&self) -> bool {
        self.spaces.values().any(|space| space.deaf)
    }

    /// What process `pid` has open in `dir`, its directory of descriptors; new sockets go to `new`.
    fn look_at(&mut self, pid: i32, dir: &Path, new: &mut Vec<Place>) -> io::Result<()> {
        for entry in fs::read_dir(dir)?.flatten() {
            let path = entry.path();
            let link = match fs::read_link(&path) {
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Err(error),
                // It was closed just now.
                Err(_) => continue,
                Ok(link) => link,
            };
            let Some(inode) = inode_in(&link) else { continue };
            let number = entry.file_name().to_str().and_then(|fd| fd.parse().ok());
            let Some(place) = number.map(|fd| Place { pid, fd, inode }) else { continue };
            let first = self.places.insert(inode, place).is_none();
            if first && !self.settled.contains(&inode) && self.is_tcp(&path, inode) {
                new.push(place);
            }
        }
        Ok(())
    }

    /// Another user's, set-uid, or not dumpable: it is not counted, but the others are. A process
    /// that has ended has nothing to show, and the kernel refuses with the same error.
    fn not_seen(&mut self, pid: i32, errno: &Errno) {
        let refused = matches!(errno.0, libc::EACCES | libc::EPERM);
        if refused && tree::ProcessStat::of(pid).is_some_and(|stat| !stat.is_ending()) {
            self.unseen.insert(pid);
        }
    }

    fn is_tcp(&mut self, path: &Path, inode: u64) -> bool {
        match xattr::text(path, "system.sockprotoname").as_deref() {
            Ok("TCP" | "TCPv6" | "MPTCP" | "MPTCPv6") => return true,
            // It was closed just now.
            Err(_) => return false,
            Ok("UNIX" | "UNIX-STREAM" | "NETLINK") => {}
            Ok(other) => self.uncounted = Some(other.to_owned()),
        }
        self.settled.insert(inode);
        false
    }

    /// The sockets at which something has arrived lately, as of the last look and reading.
    pub fn receiving(&self) -> Vec<Place> {
        let followed = self.spaces.values().flat_map(|space| space.followed.values());
        followed
            .filter(|socket| !socket.quiet)
            .filter_map(|socket| self.places.get(&socket.inode).copied())
            .collect()
    }

    /// Reads the counters of all known sockets.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn read(&mut self) -> Result<Reading> {
        let mut moved = self.gone;
        let mut pending = Traffic::default();
        let mut unread = 0;
        let mut unacked = 0;
        for space in self.spaces.values_mut() {
            let gone = space.read(self.idle, &mut self.news)?;
            self.gone += gone;
            moved += gone;
            moved += space.strays.supposed();
            space.dying.values().for_each(|(socket, _)| moved += socket.moved());
            for socket in space.followed.values() {
                moved += socket.moved();
                pending += socket.pending();
                (unacked, unread) = (unacked + socket.unacked, unread + socket.unread);
            }
        }
        let handled = Traffic { up: moved.up + unacked, down: moved.down.saturating_sub(unread) };
        Ok(Reading { moved, pending, handled })
    }
}

/// Two sockets of this namespace for sock_diag: to ask, and to listen for the last counters of those that end. `true`: an
/// old kernel or one that this user may not ask does not report them.
///
/// # Errors
/// The kernel has no sock_diag.
pub(super) fn open() -> Result<(Socket, Socket, bool)> {
    let failed = |errno| Error::os("ask the kernel about sockets (sock_diag)", errno);
    let diag = Socket::open(Family::Diag).map_err(failed)?;
    let deaths = Socket::open(Family::Diag).map_err(failed)?;
    let deaf = deaths.join(&DESTROY).is_err();
    deaths.queue(8 << 20);
    Ok((diag, deaths, deaf))
}

/// Runs `visit` in the network namespace of a process.
///
/// # Errors
/// It may not be entered: needs CAP_SYS_ADMIN; or of `visit`.
pub(super) fn enter<T>(pid: i32, visit: impl FnOnce() -> Result<T>) -> Result<T> {
    let same = |a: &str, b: &str| fs::read_link(a).ok() == fs::read_link(b).ok();
    if same(&format!("/proc/{pid}/ns/net"), "/proc/self/ns/net") {
        return visit();
    }
    in_netns_of(pid, visit).map_err(|errno| {
        Error::os(format!("enter the network namespace of process {pid}"), errno)
    })?
}

impl Space {
    fn enter(pid: i32) -> Result<Space> {
        enter(pid, || {
            let (diag, deaths, deaf) = open()?;
            let (followed, dying) = (HashMap::new(), HashMap::new());
            let strays = Strays::default();
            Ok(Space { diag, deaths, followed, dying, strays, next_list: Instant::now(), deaf })
        })
    }

    /// Follows these sockets; returns what uncounted earlier ones like them have moved. `late`:
    /// they were created since we began.
    fn find(&mut self, new: &[Place], late: bool, settled: &mut BTreeSet<u64>) -> Result<Traffic> {
        let (followed, strays) = (&mut self.followed, &mut self.strays);
        let mut known_now = Traffic::default();
        let mut follow = |report: SocketReport| {
            settled.insert(report.socket.inode);
            known_now += strays.ours(&report.seen());
            if report.state != TCP_LISTEN {
                let mut socket = report.socket;
                if !late {
                    socket.before = Traffic { up: socket.acked, down: socket.received };
                }
                followed.insert(report.cookie, socket);
            }
        };
        let mut hidden = BTreeSet::new();
        for place in new {
            match place.look() {
                Ok(Sight::Connected(id, family)) => match ask(&mut self.diag, family, &id)? {
                    Some(report) if report.socket.inode == place.inode => follow(report),
                    _ => {
                        hidden.insert(place.inode);
                    }
                },
                Ok(Sight::Listening) | Err(Errno(libc::EPERM | libc::ENOSYS)) => {
                    hidden.insert(place.inode);
                }
                // Nothing to count yet, or it was closed just now.
                Ok(Sight::Unconnected) | Err(_) => {}
            }
        }
        if !hidden.is_empty() {
            dump(&mut self.diag, |report| {
                if hidden.contains(&report.socket.inode) {
                    follow(report);
                }
            })?;
        }
        Ok(known_now)
    }

    /// Lists all sockets, to find other processes'.
    fn list(&mut self) -> Result<()> {
        let mut list = Vec::new();
        dump(&mut self.diag, |report| list.push(report.seen()))?;
        self.strays.list(list);
        Ok(())
    }

    /// Brings all sockets up to date; returns what those now gone have moved. `news`: some of those
    /// had not been seen before.
    fn read(&mut self, idle: bool, news: &mut bool) -> Result<Traffic> {
        // The answers to this many fit the queue of a netlink socket.
        const TOGETHER: usize = 32;
        let cookies: Vec<u64> = self.followed.keys().copied().collect();
        let mut missing = Vec::new();
        for some in cookies.chunks(TOGETHER) {
            let mut batch = Batch::new();
            for cookie in some {
                let socket = &self.followed[cookie];
                let request = request(socket.family, &socket.id);
                batch.message("query a TCP socket", SOCK_DIAG_BY_FAMILY, 0, &request);
            }
            let followed = &mut self.followed;
            let asked = self.diag.exchange(batch, |index, answer| match answer {
                Ok((_, body)) => {
                    let report =
                        SocketReport::read(body).filter(|report| report.cookie == some[index]);
                    match (report, followed.get_mut(&some[index])) {
                        (Some(report), Some(socket)) => socket.update(&report.socket),
                        // In TIME_WAIT: it no longer has counters.
                        _ => missing.push(some[index]),
                    }
                }
                Err(_) => missing.push(some[index]),
            });
            asked.map_err(|refusal| Error::os(refusal.doing, refusal.errno))?;
        }
        let now = Instant::now();
        for cookie in missing {
            if let Some(mut socket) = self.followed.remove(&cookie) {
                // Closed properly, as far as we know: what was written has arrived.
                socket.acked += socket.unacked;
                self.dying.insert(cookie, (socket, now));
            }
        }
        let mut gone = Traffic::default();
        let (followed, dying, strays) = (&mut self.followed, &mut self.dying, &mut self.strays);
        self.deaf |= self.deaths.drain(|_, body| {
            let Some(report) = SocketReport::read(body) else { return };
            let late = dying.remove(&report.cookie).map(|(socket, _)| socket);
            if let Some(mut socket) = late.or_else(|| followed.remove(&report.cookie)) {
                socket.update(&report.socket);
                gone += socket.moved();
            } else {
                *news = true;
                gone += strays.ended(&report.seen(), report.socket.moved(), idle);
            }
        });
        self.dying.retain(|_, (socket, since)| {
            let wait = since.elapsed() < DEATH;
            if !wait {
                gone += socket.moved();
            }
            wait
        });
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::super::diag::socket_inode;
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
            let (pid, fd) = (std::process::id() as i32, std::os::fd::AsRawFd::as_raw_fd(&here));
            let new = [Place { pid, fd, inode: inode(&here) }];
            // By its address: no list is needed.
            assert!(matches!(new[0].look(), Ok(Sight::Connected(..))));
            let mut settled = BTreeSet::new();
            space.find(&new, false, &mut settled).unwrap();
            assert_eq!(settled, BTreeSet::from([inode(&here)]));
            assert_eq!(space.followed.len(), 1);
            let number = fs::metadata("/proc/self/ns/net").unwrap().ino();
            sockets.spaces.insert(number, space);

            // Traffic from before does not count; what is waiting to be read has moved.
            here.write_all(&[7; 5000]).unwrap();
            there.read_exact(&mut [0; 5000]).unwrap();
            there.write_all(&[8; 3000]).unwrap();
            let reading = read_until(&mut sockets, |reading| reading.moved.down == 3000);
            assert_eq!(reading.moved, Traffic { up: 5000, down: 3000 });
            assert_eq!(reading.committed(), Traffic { up: 5000, down: 3000 });
            assert_eq!(reading.handled, Traffic { up: 5000, down: 0 });
            here.read_exact(&mut [0; 3000]).unwrap();
            assert_eq!(sockets.read().unwrap().handled.down, 3000);

            // The other end belongs to another process.
            sockets.idle = true;
            // Closed without a look in between.
            here.write_all(&[7; 40_000]).unwrap();
            there.write_all(&[8; 20_000]).unwrap();
            here.read_exact(&mut [0; 20_000]).unwrap();
            there.read_exact(&mut [0; 40_000]).unwrap();
            drop((here, there));
            let total = Traffic { up: 45_000, down: 23_000 };
            let reading = read_until(&mut sockets, |reading| {
                let left = reading.pending == Traffic::default();
                left && reading.moved.down >= total.down
            });
            // A FIN counts as a byte.
            let Traffic { up, down } = reading.moved;
            assert!(up - total.up <= 1 && down - total.down <= 1, "{reading:?}");
        }
    }

    fn read_until(sockets: &mut Sockets, done: impl Fn(&Reading) -> bool) -> Reading {
        for _ in 0..2000 {
            let reading = sockets.read().unwrap();
            if done(&reading) {
                return reading;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("not reached: {:?}", sockets.read());
    }
}
