//! The processes of a target: itself and all its descendants, including those born later.
//!
//! A child is found as long as its parent lives, by /proc/PID/task/TID/children. A process seen
//! once stays a member when its parent ends. One that was born *and* lost its parent between two
//! looks is found by another trait, if any: the session (if the target leads one, as daemons and
//! what a terminal starts do), or, for a command that we start, its new parent, as we adopt orphans
//! (PR_SET_CHILD_SUBREAPER). One that has also left the session has none: it escapes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::file::read_kernel;
use crate::sys::timer::processor_time;
use crate::sys::{Errno, pidfd, process};

/// The fields of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (ended), ...
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The process group in the foreground of its terminal; -1 without one.
    pub foreground: i32,
    /// PF_* of the kernel.
    pub flags: u64,
    /// Number of threads, including a first one that has not been waited for.
    pub threads: u64,
    /// In clock ticks since boot.
    pub start_time: u64,
    /// Processor time in clock ticks, its own and that of children that it has waited for.
    pub ticks: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

impl ProcessStat {
    /// That of a process; `None`: it does not exist.
    pub fn of(pid: i32) -> Option<ProcessStat> {
        ProcessStat::parse(&read_kernel(format!("/proc/{pid}/stat")).ok()?)
    }

    /// From the text of the file.
    pub fn parse(text: &str) -> Option<ProcessStat> {
        // The name, in parentheses, may contain anything.
        let (_, rest) = text.rsplit_once(')')?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(ProcessStat {
            state: words.first()?.chars().next()?,
            parent: words.get(1)?.parse().ok()?,
            group: words.get(2)?.parse().ok()?,
            session: words.get(3)?.parse().ok()?,
            foreground: words.get(5)?.parse().ok()?,
            flags: words.get(6)?.parse().ok()?,
            threads: words.get(17)?.parse().ok()?,
            start_time: number(19)?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            resident_pages: number(21)?,
        })
    }

    /// Whether another process has stopped process `pid`, whose status this is, or traces all of
    /// it.
    pub fn is_stopped(&self, pid: i32) -> bool {
        let halted = |state| matches!(state, 'T' | 't');
        match self.state {
            // A stop covers all threads; a tracer may hold only the first, which may have ended.
            'T' => true,
            't' | 'Z' => {
                let states: Vec<char> = tasks(pid)
                    .filter_map(|task| read_kernel(task.join("stat")).ok())
                    .filter_map(|text| ProcessStat::parse(&text))
                    .map(|stat| stat.state)
                    .filter(|state| !matches!(state, 'Z' | 'X' | 'x'))
                    .collect();
                !states.is_empty() && states.into_iter().all(halted)
            }
            _ => false,
        }
    }

    /// Whether it is about to end: what it had open is gone or going, and only root may look.
    pub fn is_ending(&self) -> bool {
        self.is_over() || (self.flags & libc::PF_EXITING as u64 != 0 && self.threads <= 1)
    }

    /// Whether it has ended, perhaps without being waited for. Its other threads may outlive the
    /// first.
    pub fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// The directories of a process's threads.
fn tasks(pid: i32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The directory in /proc with a process's descriptors and namespaces: its own, or that of a
/// thread, if the first has ended and others continue.
pub fn directory(pid: i32) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{pid}"));
    let tells = |dir: &PathBuf| dir.join("ns/net").metadata().is_ok();
    if tells(&own) {
        return own;
    }
    tasks(pid).find(tells).unwrap_or(own)
}

/// The name of a process, for messages.
pub fn name(pid: i32) -> String {
    let name = read_kernel(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().escape_debug().to_string()
}

/// The process and all its ancestors.
pub fn ancestry(pid: i32) -> Vec<i32> {
    let mut line = vec![pid];
    while let Some(stat) = line.last().and_then(|pid| ProcessStat::of(*pid)) {
        if stat.parent <= 0 || line.contains(&stat.parent) {
            break;
        }
        line.push(stat.parent);
    }
    line
}

/// One process of the tree.
#[derive(Debug)]
pub struct Member {
    /// Its start time distinguishes it from a later process with the same pid.
    pub start_time: u64,
    /// The process itself.
    pub pidfd: OwnedFd,
    /// Its place in the record, once it has been stopped for the first time.
    pub line: Option<usize>,
    /// Whether we have stopped it, and no other process had.
    pub held: bool,
    /// Whether it is not ours to signal: it has changed to another user.
    pub refused: bool,
    /// Termination signals that were pending at the last look.
    pub asked_to_end: u64,
}

/// The tree of one target.
#[derive(Debug)]
pub struct ProcessTree {
    root: i32,
    /// The session that the target leads.
    session: Option<i32>,
    /// Orphans become our children, all of which belong to the tree but this one.
    adopts: Option<Adopts>,
    members: BTreeMap<i32, Member>,
    /// The members, parents before their children.
    order: Vec<i32>,
    next_sweep: Duration,
}

#[derive(Debug)]
struct Adopts {
    own: i32,
    but: i32,
}

impl ProcessTree {
    /// The tree below `root`, which must be alive.
    ///
    /// # Errors
    /// It is gone.
    pub fn of(root: i32) -> Result<ProcessTree> {
        let stat = ProcessStat::of(root).filter(|stat| !stat.is_over());
        let stat = stat.ok_or_else(|| gone(root))?;
        let own = std::process::id();
        if !Path::new(&format!("/proc/self/task/{own}/children")).exists() {
            return Err(Error::new("this kernel does not list the children of a process")
                .hint("it was built without CONFIG_PROC_CHILDREN"));
        }
        let mut tree = ProcessTree {
            root,
            session: (stat.session == root).then_some(root),
            adopts: None,
            members: BTreeMap::new(),
            order: Vec::new(),
            next_sweep: Duration::ZERO,
        };
        tree.add(root, stat.start_time).map_err(|errno| match errno {
            Errno(libc::ESRCH) => gone(root),
            errno => Error::os(format!("open process {root}"), errno),
        })?;
        tree.order.push(root);
        Ok(tree)
    }

    /// For a child of ours: all our other children belong to it as well, except the watchdog.
    pub fn adopt(&mut self, own: i32, watchdog: i32) {
        self.adopts = Some(Adopts { own, but: watchdog });
    }

    /// The target.
    pub fn root(&self) -> i32 {
        self.root
    }

    /// The members, parents first.
    pub fn pids(&self) -> &[i32] {
        &self.order
    }

    /// A member.
    pub fn member(&mut self, pid: i32) -> Option<&mut Member> {
        self.members.get_mut(&pid)
    }

    /// The members' total run time.
    pub fn processor_time(&self) -> Duration {
        self.order.iter().filter_map(|pid| processor_time(*pid)).sum()
    }

    /// Whether every process has ended.
    pub fn is_over(&self) -> bool {
        self.members.is_empty()
    }

    /// Looks for processes that were born or have ended; returns true if there is a new one. `now`
    /// is a time since any fixed moment: all of /proc is scanned twice a second.
    pub fn look(&mut self, now: Duration) -> bool {
        let mut fresh = false;
        let (root, adopts) = (self.root, self.adopts.is_some());
        self.members.retain(|pid, member| {
            let ended = process::readable([member.pidfd.as_fd()], Some(Duration::ZERO));
            let ended = ended.is_ok_and(|[ended]| ended);
            if ended && adopts && *pid != root {
                reap(member.pidfd.as_fd());
            }
            !ended
        });
        let mut found = self.order.clone();
        found.retain(|pid| self.members.contains_key(pid));
        let mut known: BTreeSet<i32> = found.iter().copied().collect();
        let mut others = Vec::new();
        if let Some(Adopts { own, but }) = self.adopts {
            others.extend(children(own).into_iter().filter(|pid| *pid != but));
            // Those never seen alive.
            others.retain(|pid| {
                let over = *pid != root && ProcessStat::of(*pid).is_some_and(|stat| stat.is_over());
                if over && let Ok(pidfd) = pidfd::open(*pid) {
                    reap(pidfd.as_fd());
                }
                !over
            });
        }
        if let Some(session) = self.session.filter(|_| now >= self.next_sweep) {
            self.next_sweep = now + Duration::from_millis(500);
            others.extend(of_session(session));
        }
        found.extend(others.into_iter().filter(|pid| known.insert(*pid)));
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            if !self.members.contains_key(&pid) {
                let stat = ProcessStat::of(pid).filter(|stat| !stat.is_over());
                let new = stat.and_then(|stat| self.add(pid, stat.start_time).ok());
                if new.is_none() {
                    found.remove(at);
                    continue;
                }
                fresh = true;
            }
            found.extend(children(pid).into_iter().filter(|pid| known.insert(*pid)));
            at += 1;
        }
        self.order = found;
        fresh
    }

    fn add(&mut self, pid: i32, start_time: u64) -> Result<(), Errno> {
        // Never ourselves, whatever our parent is.
        if pid == std::process::id() as i32 || pid <= 1 {
            return Err(Errno(libc::EPERM));
        }
        // First the descriptor, then the comparison: a descriptor stays with its process.
        let pidfd = pidfd::open(pid)?;
        if ProcessStat::of(pid).is_none_or(|stat| stat.start_time != start_time) {
            return Err(Errno(libc::ESRCH));
        }
        let (held, refused) = (false, false);
        let member = Member { start_time, pidfd, line: None, held, refused, asked_to_end: 0 };
        self.members.insert(pid, member);
        Ok(())
    }
}

/// An orphan that became our child; other parents' children are left to them.
fn reap(process: BorrowedFd<'_>) {
    let _ = process::wait(process, false);
}

fn gone(pid: i32) -> Error {
    Error::new(format!("no such process {pid}")).hint("ps -e lists processes")
}

/// The children of a process, by number.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    // Each thread has its own.
    for task in tasks(pid) {
        let list = read_kernel(task.join("children")).unwrap_or_default();
        found.extend(list.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
    }
    found
}

fn of_session(session: i32) -> Vec<i32> {
    let belongs = |pid: &i32| ProcessStat::of(*pid).is_some_and(|stat| stat.session == session);
    process::all().filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_nothing() {
        let text = "77 (a) R 1 (b) S 5 77 70 34816 80 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2";
        let stat = ProcessStat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), ('S', 5, 77, 70));
        assert_eq!((stat.foreground, stat.flags, stat.threads), (80, 4_194_304, 1));
        assert_eq!((stat.start_time, stat.ticks, stat.resident_pages), (4242, 26, 2));
        assert_eq!(ProcessStat::parse("77 (a) S 5"), None);
    }

    #[test]
    fn the_line_above_us_ends_at_the_top() {
        let own = std::process::id() as i32;
        let line = ancestry(own);
        assert_eq!(line[0], own);
        assert_eq!(line[1], std::os::unix::process::parent_id() as i32);
    }

    #[test]
    fn children_and_theirs_are_found_and_the_ended_forgotten() {
        let script = "sh -c 'sleep 100 & echo; wait' & wait";
        let spawn =
            crate::Spawn { stdout: crate::Stdio::Pipe, ..crate::Spawn::new(["sh", "-c", script]) };
        let mut child = spawn.spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut line).unwrap();
        let mut tree = ProcessTree::of(child.process.pid()).unwrap();
        assert!(tree.look(Duration::ZERO));
        assert_eq!(tree.pids().len(), 3);
        assert_eq!(tree.pids()[0], child.process.pid());
        assert!(!tree.look(Duration::ZERO));
        // An orphan stays.
        child.process.kill();
        child.process.wait().unwrap();
        tree.look(Duration::ZERO);
        assert_eq!(tree.pids().len(), 2);
        for pid in tree.pids().to_vec() {
            let fd = tree.member(pid).unwrap().pidfd.as_fd();
            pidfd::send_signal(fd, libc::SIGKILL).unwrap();
        }
        while !tree.is_over() {
            tree.look(Duration::ZERO);
        }
        assert!(ProcessTree::of(child.process.pid()).is_err());
    }
}
