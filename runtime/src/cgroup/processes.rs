//! The processes of a cgroup: listing, stopping and signalling them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::directory::{pids_below, pids_in, write};
use super::freezer::Freezer;
use super::hierarchy::{Controller, Version};
use super::record::Cgroup;
use crate::sys::pidfd;
use crate::{Error, Result};

/// How many processes are held open at a time; the limit on open files may be low.
const BATCH: usize = 128;

impl Cgroup {
    /// The processes inside, in ascending order, as far as this pid namespace shows them.
    ///
    /// # Errors
    /// An existing directory cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for dir in &self.dirs {
            pids_below(&self.path(dir), &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Those in the container's own directory, not in cgroups that it created inside. Of the v1
    /// trees, that of the devices controller counts, as for engines.
    ///
    /// # Errors
    /// As for [`Cgroup::pids`].
    pub fn own_pids(&self) -> Result<Vec<i32>> {
        let dir = self.deciding(Controller::Devices).or(self.dirs.first());
        dir.map_or(Ok(Vec::new()), |dir| pids_in(&self.path(dir)))
    }

    /// Stops every process inside, and returns when all have stopped.
    ///
    /// # Errors
    /// The cgroup was chosen without a freezer, or a process does not stop within two seconds (it
    /// is in uninterruptible sleep); then all are thawed again.
    pub fn freeze(&self) -> Result<()> {
        let result = self.set_frozen(true);
        if result.is_err() {
            let _ = self.thaw();
        }
        result
    }

    /// Thaws the processes.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let freezer = self.freezer().ok_or_else(|| {
            Error::new(format!("freeze {}: the sandbox has no freezer cgroup", self.id))
        })?;
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            // Asking a v1 freezer again nudges the processes that have not stopped yet.
            freezer.set(frozen)?;
            if freezer.has_reached(frozen)? {
                return Ok(());
            }
            if Instant::now() > end {
                let verb = if frozen { "freeze" } else { "thaw" };
                return Err(Error::new(format!(
                    "{verb} {}: timed out after 2 s",
                    freezer.dir().display()
                ))
                .hint("a process in it is blocked on a device or a network file system"));
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// The one that the kernel prefers, if there are two.
    fn freezer(&self) -> Option<Freezer> {
        let unified = self.dirs.iter().find(|dir| dir.version == Version::V2);
        unified
            .and_then(|dir| self.freezer_in(dir))
            .or_else(|| self.dirs.iter().find_map(|dir| self.freezer_in(dir)))
    }

    /// Sends `signal` to every process inside, including those in cgroups created inside. None
    /// escapes SIGKILL; for other signals the processes are frozen meanwhile, if possible, so that
    /// none forks a child that misses the signal.
    ///
    /// # Errors
    /// A process that may not be signalled.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return self.kill();
        }
        let was_frozen = self.is_frozen();
        let frozen = !was_frozen && self.freezer().is_some() && self.freeze().is_ok();
        let mut refused = Ok(());
        let found =
            self.each_process(&mut |pid, process| match pidfd::send_signal(process, signal) {
                Err(errno) if errno.0 != libc::ESRCH => {
                    refused =
                        Err(Error::os(format!("send signal {signal} to process {pid}"), errno));
                }
                _ => {}
            });
        // Whatever failed, what was frozen here is thawed.
        let thawed = if frozen { self.thaw() } else { Ok(()) };
        found.and(refused).and(thawed)
    }

    /// Sends SIGKILL to every process inside, without waiting for them to exit.
    ///
    /// # Errors
    /// The processes inside cannot be determined.
    pub fn kill(&self) -> Result<()> {
        for dir in &self.dirs {
            let own = self.path(dir);
            if dir.version == Version::V2 {
                let _ = write(&own.join("cgroup.kill"), "1");
            } else if dir.controllers.contains(&Controller::Pids) {
                let _ = write(&own.join("pids.max"), "0");
            }
        }
        let killed = self.each_process(&mut |_, process| {
            let _ = pidfd::send_signal(process, libc::SIGKILL);
        });
        self.let_die();
        killed
    }

    /// Thaws every process for which SIGKILL is pending, in whichever tree it is frozen.
    pub fn let_die(&self) {
        self.dirs.iter().filter_map(|dir| self.freezer_in(dir)).for_each(|it| it.let_die());
    }

    /// Every process that is inside now, held open.
    fn each_process(&self, act: &mut dyn FnMut(i32, BorrowedFd<'_>)) -> Result<()> {
        for some in self.pids()?.chunks(BATCH) {
            let open = |pid: &i32| pidfd::open(*pid).ok().map(|process| (*pid, process));
            let opened: Vec<(i32, OwnedFd)> = some.iter().filter_map(open).collect();
            // A pid may have been reused since it was read. If it is still inside, it is the
            // process that was opened: a pid is not reused while it is in use.
            let inside = self.pids()?;
            for (pid, process) in opened {
                if inside.binary_search(&pid).is_ok() {
                    act(pid, process.as_fd());
                }
            }
        }
        Ok(())
    }
}
