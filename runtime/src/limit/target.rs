//! Whether a process can be a target, and why not.

use std::os::fd::AsFd;
use std::path::Path;

use super::record;
use super::tree::{self, ProcessStat, ProcessTree};
use crate::error::{Error, Result};
use crate::sys::{Errno, pidfd};

/// The tree of `pid`, if it may be limited.
///
/// # Errors
/// What rules it out.
pub fn check(root: &Path, pid: i32) -> Result<ProcessTree> {
    let own = std::process::id() as i32;
    let called = || format!("process {pid} ({})", tree::name(pid));
    if pid == own {
        return Err(Error::new(format!("{}: a limiter cannot stop itself", called())));
    }
    if pid == 1 {
        return Err(Error::new(format!("{}: init cannot be stopped", called())));
    }
    let mut tree = ProcessTree::of(pid)?;
    let stat = ProcessStat::of(pid).ok_or_else(|| Error::new(format!("no such process {pid}")))?;
    if stat.flags & libc::PF_KTHREAD as u64 != 0 {
        return Err(Error::new(format!("{}: a kernel thread cannot be stopped", called())));
    }
    let above = tree::ancestry(own);
    if above.contains(&pid) {
        let what = format!("{}: this limiter is its descendant and would stop itself", called());
        return Err(Error::new(what).hint("start garth limit from elsewhere"));
    }
    if let Some(member) = tree.member(pid) {
        match pidfd::send_signal(member.pidfd.as_fd(), 0) {
            Err(Errno(libc::EPERM)) => {
                let what = format!("{}: it belongs to another user", called());
                return Err(Error::os(what, Errno(libc::EPERM)).hint("run as root"));
            }
            result => result.map_err(|errno| Error::os(format!("signal {}", called()), errno))?,
        }
    }
    tree.look(crate::sys::timer::monotonic());
    // Before its state is judged: another limiter may be holding it right now.
    alone(root, &tree)?;
    if stat.is_stopped(pid) {
        let what = format!("{}: it is already stopped or traced", called());
        return Err(Error::new(what).hint(format!("kill -CONT {pid} continues it")));
    }
    Ok(tree)
}

/// No other limiter may hold any of this tree, or a tree it is part of: each would mistake the
/// other's stops for those of a third party.
fn alone(root: &Path, tree: &ProcessTree) -> Result<()> {
    let above = tree::ancestry(tree.root());
    for record in record::living(root)? {
        let other = record.target.pid;
        if record.target.open()?.is_some()
            && (above.contains(&other) || tree.pids().contains(&other))
        {
            let by = record.limiter.pid;
            let what = match other == tree.root() {
                true => format!("process {other} is already limited by garth limit, process {by}"),
                false => format!(
                    "process {other}, in the same tree as {}, is already limited by garth limit, \
                     process {by}",
                    tree.root()
                ),
            };
            let started = ProcessStat::of(other).is_some_and(|stat| stat.parent == by);
            return Err(Error::new(what).hint(match started {
                // A limiter passes termination signals on to its command.
                true => format!(
                    "that process started it: kill -KILL {by} removes the limit, and the command \
                     continues"
                ),
                false => format!("kill {by} ends that one first, and its target continues"),
            }));
        }
    }
    Ok(())
}

/// What the user should know before a target is stopped by signals: the shell that waits for it
/// will see each stop.
pub fn caution(pid: i32) -> Option<String> {
    let stat = ProcessStat::of(pid)?;
    let foreground = stat.group == stat.foreground && stat.foreground > 0;
    foreground.then(|| {
        let parent = stat.parent;
        let shell = tree::name(parent);
        format!(
            "process {pid} is in the foreground of a terminal: its shell ({shell}, process \
             {parent}) will take each stop for Ctrl-Z; run it in the background with bg, or start \
             it with garth limit -- COMMAND"
        )
    })
}
