//! Removing a cgroup, and finding those that were left behind.
//!
//! Release first kills the processes in what is its own (`claim`), as only an empty directory can
//! be removed. In the unified tree one write to cgroup.kill does it (Linux 5.14), forks in flight
//! included. In v1 each process is signalled, round after round: new ones may be forked meanwhile,
//! so if the cgroup has a pids controller, its limit is set to 0 first.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::directory::{remove_tree, subdirectories};
use super::hierarchy::{self, Hierarchy, Version};
use super::record::{Cgroup, Dir, Placement};
use super::systemd::Unit;
use crate::{Error, Result};

/// How long release waits for killed processes to exit. An exiting process frees its memory first,
/// which takes about 0.3 s per gigabyte.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long remove waits for processes that are already exiting.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Kills the processes that are left inside and removes the directories, which the caller knows
    /// to be its own. May be repeated: what is gone already is not an error.
    ///
    /// # Errors
    /// The directory that stays, the reason, and the processes in it. The others are still removed.
    pub(super) fn release(&self) -> Result<()> {
        self.take_away(true, PATIENCE)
    }

    /// Removes the directories, and those in them, of a container that has ended. Kills no process,
    /// needs only the record, and may be repeated.
    ///
    /// # Errors
    /// The directory that stays, the reason, and the processes in it. The others are still removed.
    pub(super) fn remove(&self) -> Result<()> {
        self.take_away(false, SHORT_PATIENCE)
    }

    fn take_away(&self, kill: bool, patience: Duration) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.check_names()?;
        let end = Instant::now() + patience;
        // A sandbox's scope goes away by itself with the last process.
        if let Placement::Unit(unit) = &self.placement {
            self.stop(unit, kill, end)?;
        }
        let mut pause = Duration::from_micros(100);
        // Send SIGKILL before giving up on a process: looking for it may already take that long.
        let mut patient = kill;
        loop {
            // Most are empty by now, so try before looking inside.
            let mut left = Vec::new();
            // The first directory shows the ownership: it goes last.
            for dir in self.dirs.iter().rev() {
                if let Err(error) = remove_tree(&self.path(dir)) {
                    left.push((dir, error));
                }
            }
            let Some((dir, error)) = left.first() else { break };
            let path = self.path(dir);
            let retry = error.raw_os_error() == Some(libc::EBUSY);
            let pids = self.pids()?;
            let failed = |error| {
                let failed = Error::io(format!("remove cgroup {}", path.display()), error);
                if pids.is_empty() {
                    failed.hint("its processes are in another pid namespace")
                } else {
                    let shown: Vec<String> = pids.iter().take(8).map(i32::to_string).collect();
                    failed.hint(format!("it contains processes {}", shown.join(" ")))
                }
            };
            let own = std::process::id() as i32;
            if pids.contains(&own) {
                return Err(failed(error).hint(format!("it contains this process ({own})")));
            }
            if !retry || (!patient && Instant::now() > end) {
                return Err(failed(error));
            }
            if kill {
                self.kill()?;
                patient = false;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.leave_shared();
        Ok(())
    }

    /// Removes the directory of all sandboxes; this fails while another sandbox is in it.
    pub(super) fn leave_shared(&self) {
        for dir in self.dirs.iter().filter(|_| !self.is_containers()) {
            let _ = fs::remove_dir(self.shared(dir));
        }
    }

    /// Has systemd stop its scope, which would kill the processes still inside: so they end first,
    /// or the scope stays. A missing scope or systemd is not an error: what counts is that the
    /// directories go.
    fn stop(&self, unit: &Unit, kill: bool, end: Instant) -> Result<()> {
        loop {
            if self.pids()?.is_empty() {
                let _ = unit.stop();
                return Ok(());
            }
            if Instant::now() > end {
                return Ok(());
            }
            if kill {
                self.kill()?;
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// Directories that belong to no live sandbox: for `garth gc`.
///
/// `alive` is called after the directories have been listed. As the intent record of a sandbox is
/// written before its cgroup is created, one that is just starting is never taken for dead. Those
/// of other state directories are included: they must be left ([`Cgroup::leave`]), not released.
///
/// # Errors
/// What cannot be inspected.
pub fn leftovers(host: &Hierarchy, alive: impl Fn(&str) -> Result<bool>) -> Result<Vec<Cgroup>> {
    let mut found: BTreeMap<String, Vec<Dir>> = BTreeMap::new();
    for dir in places(host) {
        for id in subdirectories(&Path::new(&dir.top).join(&host.parent))? {
            found.entry(id).or_default().push(dir.clone());
        }
    }
    let mut dead = Vec::new();
    for (id, dirs) in found {
        if !alive(&id)? {
            dead.push(Cgroup { id, parent: host.parent.clone(), dirs, ..Cgroup::default() });
        }
    }
    Ok(dead)
}

/// Every place where this caller may have created cgroups.
fn places(host: &Hierarchy) -> Vec<Dir> {
    let mut dirs: Vec<Dir> = Vec::new();
    for mount in &host.mounts {
        if mount.version == Version::V1 && !dirs.iter().any(|dir| dir.top == mount.point) {
            let (top, controllers) = (mount.point.clone(), mount.controllers.clone());
            dirs.push(Dir { version: Version::V1, top, controllers });
        }
    }
    for top in host.v2_tops() {
        dirs.push(Dir { version: Version::V2, top, controllers: Vec::new() });
    }
    // What root created under the same name is not this user's concern.
    dirs.retain(|dir| hierarchy::writable(&format!("{}/{}", dir.top, host.parent)).is_ok());
    dirs
}
