//! How much a tree has moved, by one of three counts.
//!
//! - **sockets**: payload of its TCP sockets (`sockets.rs`).
//! - **link**: bytes on the links of its network namespace, headers and every protocol included;
//!   only where the namespace belongs to the tree alone. The sockets still tell what is queued.
//! - **io**: what its processes have read and written (rchar and wchar of /proc/PID/io): files and
//!   pipes as much as the network, but not what goes through recv(2) and send(2). The last resort.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use super::diag::Place;
use super::sockets::Sockets;
use super::traffic::{Reading, Traffic};
use super::tree::{self, ProcessStat, ProcessTree};
use crate::error::{Error, Result};
use crate::network::counters::{LinkTraffic, in_table};
use crate::sys::file::read_kernel;
use crate::sys::process;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The payload of TCP sockets.
    Sockets,
    /// Bytes on the links of a network namespace.
    Link,
    /// Bytes read and written by system calls.
    Io,
}

impl Count {
    /// Its spelling.
    pub fn name(self) -> &'static str {
        match self {
            Count::Sockets => "sockets",
            Count::Link => "link",
            Count::Io => "io",
        }
    }

    /// A description.
    pub fn words(self) -> &'static str {
        match self {
            Count::Sockets => "payload of its TCP sockets",
            Count::Link => "bytes on the links of its network namespace, including headers",
            Count::Io => "bytes its processes read and write, including files and pipes",
        }
    }
}

impl FromStr for Count {
    type Err = Error;

    fn from_str(text: &str) -> Result<Count> {
        let all = [Count::Sockets, Count::Link, Count::Io];
        let found = all.into_iter().find(|count| count.name() == text);
        found.ok_or_else(|| {
            Error::new(format!("count {:?}: unknown", text.escape_debug().to_string()))
                .hint("use sockets, link or io")
        })
    }
}

/// The meter of one tree.
#[derive(Debug)]
pub struct Meter {
    count: Count,
    sockets: Sockets,
    /// The links' counters when the meter began.
    link: Traffic,
    /// The links' counters at the last reading.
    link_now: Traffic,
    /// Each process's last counters, and its counters when it was first seen.
    io: BTreeMap<i32, (Traffic, Traffic)>,
    io_gone: Traffic,
    /// Processes whose counters may not be read, as of the last look.
    io_unseen: BTreeSet<i32>,
    begun: bool,
}

impl Meter {
    /// Starts counting. Without a request, uses the first that is available: link, sockets, io.
    ///
    /// # Errors
    /// The requested count is not available here.
    pub fn begin(tree: &ProcessTree, wish: Option<Count>) -> Result<Meter> {
        let mut meter = Meter {
            count: wish.unwrap_or(Count::Sockets),
            sockets: Sockets::default(),
            link: Traffic::default(),
            link_now: Traffic::default(),
            io: BTreeMap::new(),
            io_gone: Traffic::default(),
            io_unseen: BTreeSet::new(),
            begun: false,
        };
        let looked = match wish {
            Some(Count::Io) => Ok(()),
            _ => meter.sockets.look(tree).and_then(|()| meter.sockets.list()),
        };
        match (wish, looked) {
            (None, Err(_)) => meter.count = Count::Io,
            (_, looked) => looked?,
        }
        if meter.count != Count::Io && wish != Some(Count::Sockets) {
            match link(tree) {
                Ok(traffic) => {
                    (meter.count, meter.link, meter.link_now) = (Count::Link, traffic, traffic);
                }
                Err(error) if wish == Some(Count::Link) => return Err(error),
                Err(_) => {}
            }
        }
        if meter.count == Count::Io {
            meter.look_at_io(tree);
            if meter.io.is_empty() && meter.io_unseen.is_empty() {
                return Err(Error::new(format!("process {} has ended", tree.root())));
            }
        }
        meter.begun = true;
        Ok(meter)
    }

    /// What it counts.
    pub fn count(&self) -> Count {
        self.count
    }

    /// A kind of socket that the tree has and that is not counted.
    pub fn uncounted(&self) -> Option<&str> {
        self.sockets.uncounted.as_deref().filter(|_| self.count == Count::Sockets)
    }

    /// Whether there is more to see than at the last look.
    pub fn news(&mut self) -> bool {
        self.sockets.news()
    }

    /// Whether the target has been idle for so long that it did not close anything that ends now.
    pub fn is_idle(&mut self, idle: bool) {
        self.sockets.idle = idle;
    }

    /// Connections that are not counted: how many, and their bytes.
    pub fn strays(&self) -> (u64, Traffic) {
        match self.count {
            Count::Sockets => self.sockets.strays(),
            _ => (0, Traffic::default()),
        }
    }

    /// Whether some or all ends of connections are not reported.
    pub fn deaf(&self) -> bool {
        self.count == Count::Sockets && self.sockets.deaf()
    }

    /// Processes that this user may not inspect, so that their traffic is not counted.
    pub fn unseen(&self) -> &BTreeSet<i32> {
        const NONE: &BTreeSet<i32> = &BTreeSet::new();
        match self.count {
            Count::Sockets => &self.sockets.unseen,
            // The link carries the traffic of every process in its namespace.
            Count::Link => NONE,
            Count::Io => &self.io_unseen,
        }
    }

    /// The sockets at which something has arrived lately.
    pub fn receiving(&self) -> Vec<Place> {
        self.sockets.receiving()
    }

    /// Looks at the tree as it is now: new processes, and newly opened sockets.
    ///
    /// # Errors
    /// The kernel no longer answers.
    pub fn look(&mut self, tree: &ProcessTree) -> Result<()> {
        match self.count {
            Count::Io => {
                self.look_at_io(tree);
                Ok(())
            }
            _ => self.sockets.look(tree),
        }
    }

    /// After a look, but less often: other processes' sockets, to tell the target's from them.
    ///
    /// # Errors
    /// The kernel no longer answers.
    pub fn look_at_others(&mut self) -> Result<()> {
        if self.count == Count::Io { Ok(()) } else { self.sockets.list() }
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// The kernel no longer answers.
    pub fn read(&mut self, tree: &ProcessTree) -> Result<Reading> {
        match self.count {
            Count::Sockets => self.sockets.read(),
            Count::Link => {
                let Reading { pending, handled, .. } = self.sockets.read()?;
                let tells = |pid: &i32| read_kernel(tree::directory(*pid).join("net/dev")).ok();
                if let Some(text) = tree.pids().iter().find_map(tells) {
                    self.link_now = links(&text);
                }
                let now = self.link_now;
                let moved = Traffic {
                    up: now.up.saturating_sub(self.link.up),
                    down: now.down.saturating_sub(self.link.down),
                };
                Ok(Reading { moved, pending, handled })
            }
            Count::Io => {
                self.look_at_io(tree);
                let mut moved = self.io_gone;
                self.io.values().for_each(|pair| moved += since(pair));
                Ok(Reading { moved, pending: Traffic::default(), handled: moved })
            }
        }
    }

    fn look_at_io(&mut self, tree: &ProcessTree) {
        let pids = tree.pids();
        let (living, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.io).into_iter().partition(|(pid, _)| pids.contains(pid));
        ended.iter().for_each(|(_, pair)| self.io_gone += since(pair));
        self.io = living.into_iter().collect();
        self.io_unseen.clear();
        for pid in pids {
            let text = match read_kernel(format!("/proc/{pid}/io")) {
                Ok(text) => text,
                Err(error) => {
                    let alive = || ProcessStat::of(*pid).is_some_and(|stat| !stat.is_ending());
                    if error.raw_os_error() == Some(libc::EACCES) && alive() {
                        self.io_unseen.insert(*pid);
                    }
                    continue;
                }
            };
            let Some(now) = characters(&text) else { continue };
            // A process born since we began counts from its birth.
            let begun = if self.begun { Traffic::default() } else { now };
            self.io.entry(*pid).or_insert((begun, begun)).1 = now;
        }
    }
}

/// A target's file use, which is not counted otherwise; checked occasionally.
#[derive(Debug, Default)]
pub struct FileUse {
    next: Duration,
    /// For each process, the least and the most that it has read and written.
    io: BTreeMap<i32, (u64, u64)>,
    said: bool,
}

impl FileUse {
    /// How many bytes, once they exceed `some` and what programs read at startup.
    pub fn look(&mut self, tree: &ProcessTree, now: Duration, some: u64) -> Option<u64> {
        const BEGINNING: u64 = 16_000_000;
        if self.said || now < self.next {
            return None;
        }
        self.next = now + Duration::from_millis(20);
        let first = self.io.is_empty();
        for pid in tree.pids() {
            let text = read_kernel(format!("/proc/{pid}/io")).unwrap_or_default();
            let Some(Traffic { up, down }) = characters(&text) else { continue };
            let begun = if first { up + down } else { 0 };
            self.io.entry(*pid).or_insert((begun, 0)).1 = up + down;
        }
        let used = self.io.values().map(|(begun, now)| now.saturating_sub(*begun)).sum();
        self.said = used > some.max(BEGINNING);
        self.said.then_some(used)
    }
}

fn since((begun, now): &(Traffic, Traffic)) -> Traffic {
    Traffic { up: now.up.saturating_sub(begun.up), down: now.down.saturating_sub(begun.down) }
}

/// The counters of the tree's own links.
fn link(tree: &ProcessTree) -> Result<Traffic> {
    let root = tree.root();
    let space = |pid: i32| fs::read_link(tree::directory(pid).join("ns/net")).ok();
    let own = space(root);
    let refused = |why: &str| {
        Err(Error::new(format!("count the link of process {root}: {why}"))
            .hint("leave out --count, or use --count sockets"))
    };
    if own.is_none() || own == space(std::process::id() as i32) {
        return refused("it has no network namespace of its own");
    }
    if tree.pids().iter().any(|pid| space(*pid) != own) {
        return refused("its processes are in several network namespaces");
    }
    if process::all().any(|pid| space(pid) == own && !tree.pids().contains(&pid)) {
        return refused("other processes are in its network namespace");
    }
    let path = format!("/proc/{root}/net/dev");
    let text = read_kernel(&path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    if text.lines().skip(2).all(|line| line.trim_start().starts_with("lo:")) {
        return refused("its network namespace has no link");
    }
    Ok(links(&text))
}

/// The bytes of all links but loopback, from a /proc/PID/net/dev.
fn links(text: &str) -> Traffic {
    let LinkTraffic { up, down } = in_table(text);
    Traffic { up: up.bytes, down: down.bytes }
}

/// rchar and wchar, from a /proc/PID/io.
fn characters(text: &str) -> Option<Traffic> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some(Traffic { up: value("wchar:")?, down: value("rchar:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let io = "rchar: 12\nwchar: 34\nsyscr: 1\n";
        assert_eq!(characters(io), Some(Traffic { up: 34, down: 12 }));
        assert_eq!(characters("rchar: 12\n"), None);
    }

    #[test]
    fn a_process_that_ended_has_still_moved_what_it_moved() {
        let script = "head -c 100000 /dev/zero; read line";
        let spawn = crate::Spawn {
            stdin: crate::Stdio::Pipe,
            stdout: crate::Stdio::Pipe,
            ..crate::Spawn::new(["sh", "-c", script])
        };
        let mut child = spawn.spawn().unwrap();
        let mut tree = ProcessTree::of(child.process.pid()).unwrap();
        let mut meter = Meter::begin(&tree, Some(Count::Io)).unwrap();
        let mut zeros = vec![0; 100_000];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut zeros).unwrap();
        tree.look(Duration::ZERO);
        let before = meter.read(&tree).unwrap().moved;
        drop(child.stdin.take());
        child.process.wait().unwrap();
        tree.look(Duration::ZERO);
        assert!(tree.is_over());
        assert_eq!(meter.read(&tree).unwrap().moved, before);
    }
}
