//! Stopping a tree and continuing it.
//!
//! Where a cgroup holds the whole tree and no other process, its freezer stops and continues all of
//! it at once, and invisibly. Elsewhere SIGSTOP and SIGCONT do, each process held by descriptor. A
//! process already stopped when its turn came is passed over, and not continued either; one that
//! another process stops *while we hold it* looks like the others, and is continued with them.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::record::Marks;
use super::tree::{ProcessStat, ProcessTree};
use crate::cgroup::Freezer;
use crate::error::{Error, Result};
use crate::sys::file::read_kernel;
use crate::sys::{Errno, pidfd};

/// How it is done.
#[derive(Clone, Debug)]
pub enum Hold {
    /// SIGSTOP and SIGCONT.
    Signals,
    /// The freezer of a cgroup, and its file, held open: a restarted unit has a new cgroup of the
    /// same name, which is not ours to freeze.
    Freezer(Freezer, Arc<File>),
}

impl Hold {
    /// The best means for `tree` as it is now: a freezer, if its cgroup holds exactly the processes
    /// of the tree, and is writable.
    ///
    /// # Errors
    /// The cgroup is already frozen.
    pub fn choose(tree: &ProcessTree) -> Result<Hold> {
        let root = tree.root();
        for freezer in Freezer::of(root).unwrap_or_default() {
            let inside = freezer.pids()?;
            let own = inside.iter().all(|pid| tree.pids().contains(pid))
                && tree.pids().iter().all(|pid| inside.contains(pid));
            let Some(file) = freezer.open().filter(|_| own) else { continue };
            if freezer.is_frozen() {
                let what = format!("process {root}: its cgroup is already frozen");
                return Err(Error::new(what).hint("garth resume resumes a paused container"));
            }
            return Ok(Hold::Freezer(freezer, Arc::new(file)));
        }
        Ok(Hold::Signals)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Hold::Signals => "signals",
            Hold::Freezer(..) => "freezer",
        }
    }

    /// Stops every process not held yet; may be repeated, for those born meanwhile. The record is
    /// written first.
    ///
    /// # Errors
    /// The record or the cgroup cannot be written. What was stopped before that stays stopped.
    pub fn stop(&self, tree: &mut ProcessTree, record: &mut Marks, now: Duration) -> Result<()> {
        if let Hold::Freezer(freezer, file) = self {
            tree.look(now);
            return gone_is_fine(freezer.set_by(file, true));
        }
        // fork(2) gives up when a signal is pending, so a process about to fork either stops first
        // or is seen with its child: once a pass finds no new process, there is none. The passes
        // are bounded; a fork bomb faster than our looks is caught in the next call.
        const PASSES: usize = 16;
        for pass in 0..PASSES {
            // Known processes first, as each microsecond counts.
            if pass > 0 {
                tree.look(now);
            }
            let mut stopped = 0;
            for pid in tree.pids().to_vec() {
                stopped += usize::from(stop_one(tree, record, pid)?);
            }
            if stopped == 0 && pass > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Continues every process we have stopped.
    ///
    /// # Errors
    /// The record or the cgroup cannot be written.
    pub fn go_on(&self, tree: &mut ProcessTree, record: &mut Marks) -> Result<()> {
        if let Hold::Freezer(freezer, file) = self {
            return gone_is_fine(freezer.set_by(file, false));
        }
        // In reverse order: a parent that checks on its children finds them running.
        for pid in tree.pids().to_vec().into_iter().rev() {
            let Some(member) = tree.member(pid).filter(|member| member.held) else { continue };
            let _ = pidfd::send_signal(member.pidfd.as_fd(), libc::SIGCONT);
            member.held = false;
            if let Some(line) = member.line {
                record.mark(line, false)?;
            }
        }
        self.tidy(tree, record)
    }

    /// Whether a member was asked to terminate and cannot because it is stopped. Each signal is
    /// reported once: a blocked one stays pending as long as its process likes.
    pub fn keeps_from_ending(tree: &mut ProcessTree) -> bool {
        let mut found = false;
        for pid in tree.pids().to_vec() {
            let Some(member) = tree.member(pid) else { continue };
            let asked = asked_to_end(pid);
            found |= asked & !member.asked_to_end != 0;
            member.asked_to_end = asked;
        }
        found
    }

    /// The record grows by a line for each process ever stopped; it is reset occasionally, when
    /// none is stopped.
    fn tidy(&self, tree: &mut ProcessTree, record: &mut Marks) -> Result<()> {
        const MANY: usize = 4096;
        if record.lines() < MANY {
            return Ok(());
        }
        for pid in tree.pids().to_vec() {
            if let Some(member) = tree.member(pid) {
                member.line = None;
            }
        }
        record.clear()
    }
}

/// Pending signals that ask a process to terminate, as bits as in proc_pid_status(5).
fn asked_to_end(pid: i32) -> u64 {
    const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    let status = read_kernel(format!("/proc/{pid}/status")).unwrap_or_default();
    let waiting = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .fold(0, |all, mask| all | mask);
    waiting & ENDING.iter().fold(0, |all, signal| all | 1 << (signal - 1))
}

/// If the cgroup is gone, so is every process that was in it.
fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(Errno(libc::ENODEV)) => Ok(()),
        result => result,
    }
}

fn stop_one(tree: &mut ProcessTree, record: &mut Marks, pid: i32) -> Result<bool> {
    let Some(member) = tree.member(pid) else { return Ok(false) };
    if member.held || member.refused {
        return Ok(false);
    }
    match ProcessStat::of(pid) {
        Some(stat) if !stat.is_stopped(pid) && !stat.is_over() => {}
        _ => return Ok(false),
    }
    let line = match member.line {
        Some(line) => line,
        None => record.add(pid, member.start_time)?,
    };
    member.line = Some(line);
    record.mark(line, true)?;
    match pidfd::send_signal(member.pidfd.as_fd(), libc::SIGSTOP) {
        Ok(()) => member.held = true,
        Err(errno) => {
            member.refused = errno == Errno(libc::EPERM);
            record.mark(line, false)?;
        }
    }
    Ok(member.held)
}
