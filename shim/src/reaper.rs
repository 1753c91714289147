//! Children that the shim did not start: it is their subreaper (PR_SET_CHILD_SUBREAPER), so that the processes of a
//! container are its children whoever has started them; those that nobody waits for are reaped here.

use std::collections::HashSet;
use std::sync::Mutex;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::message::locked;

/// Who waits for whom.
#[derive(Debug, Default)]
pub struct Reaper(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Children that others wait for.
    ours: HashSet<i32>,
    /// Operations at work: they start processes, and wait for them.
    busy: usize,
}

/// An operation at work.
#[derive(Debug)]
pub struct Busy<'a>(&'a Reaper);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.known().busy -= 1;
        self.0.sweep();
    }
}

impl Reaper {
    /// Until the result is dropped, only children that are known are reaped.
    pub fn busy(&self) -> Busy<'_> {
        self.known().busy += 1;
        Busy(self)
    }

    /// Someone waits for this child.
    pub fn add(&self, pid: i32) {
        self.known().ours.insert(pid);
    }

    /// It has been waited for.
    pub fn remove(&self, pid: i32) {
        self.known().ours.remove(&pid);
        self.sweep();
    }

    /// Reaps children that nobody waits for. One that someone waits for hides those behind it until it is reaped;
    /// then this is called again.
    pub fn sweep(&self) {
        let known = self.known();
        if known.busy > 0 {
            return;
        }
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) =
            waitid(Id::All, ended | WaitPidFlag::WNOWAIT)
        {
            if known.ours.contains(&pid.as_raw()) {
                return;
            }
            let _ = waitid(Id::Pid(pid), ended);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        locked(&self.0)
    }
}
