//! Taking a cgroup away, and finding those that were forgotten.
//!
//! Of what is its own (`claim`), release ends the processes first, as only an empty directory can be
//! removed. In the unified tree
//! one write to cgroup.kill does it (Linux 5.14), forks in flight included. In v1 each process is
//! signalled, round after round: new ones may be forked meanwhile, so where the sandbox has a pids
//! cgroup, its limit is set to 0 first.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::walk::{self, walk};
use super::{Cgroup, Controller, Dir, Hierarchy, Unit, Version, hierarchy, write};
use crate::sys::file::read_kernel;
use crate::sys::{Errno, pidfd};
use crate::{Error, Result};

/// How long release waits for killed processes to be gone. A process that exits gives its memory
/// back first, and that takes about 0.3 s for each gigabyte.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long remove waits for processes that are being taken down already.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How many processes are held open at a time; the limit on open files may be low.
const BATCH: usize = 128;

impl Cgroup {
    /// Kills who is left inside and removes the directories, of which the caller knows that they are
    /// its own. May be repeated: what is gone already is fine.
    ///
    /// # Errors
    /// The directory that stays, why, and the processes in it. The others are removed all the
    /// same.
    pub(super) fn release(&self) -> Result<()> {
        self.take_away(true, PATIENCE)
    }

    /// Removes the directories and those in them, of a container that has ended. Kills nobody,
    /// needs only the record, and may be repeated.
    ///
    /// # Errors
    /// The directory that stays, why, and the processes in it. The others are removed all the
    /// same.
    pub(super) fn remove(&self) -> Result<()> {
        self.take_away(false, SHORT_PATIENCE)
    }

    fn take_away(&self, kill: bool, patience: Duration) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        self.check_names()?;
        let end = Instant::now() + patience;
        // A sandbox's scope goes by itself with the last process.
        if let Some(unit) = self.unit.as_ref().filter(|_| self.kept) {
            self.stop(unit, kill, end)?;
        }
        let mut pause = Duration::from_micros(100);
        // Nobody is given up on who was not killed before: looking alone may take its time.
        let mut patient = kill;
        loop {
            // Most sandboxes are empty by now; so try before looking.
            let mut left = Vec::new();
            // The first shows whose they are: it goes last.
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
                    failed.hint(format!("processes inside: {}", shown.join(" ")))
                }
            };
            let own = std::process::id() as i32;
            if pids.contains(&own) {
                return Err(failed(error).hint(format!("this process ({own}) is inside itself")));
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

    /// Removes the directory of all sandboxes, which fails while another is in it.
    pub(super) fn leave_shared(&self) {
        for dir in self.dirs.iter().filter(|_| !self.kept) {
            let _ = fs::remove_dir(self.shared(dir));
        }
    }

    /// Lets systemd take its scope away, which would kill whoever is still inside: so they end
    /// first, or it stays. That it is not there, or systemd is not, is no failure: what counts is
    /// that the directories go.
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

    /// Sends `signal` to every process inside, those of cgroups made inside included. For SIGKILL
    /// nobody escapes; for others, processes stand still meanwhile, where they can be made to, so
    /// that none forks one that is not signalled.
    ///
    /// # Errors
    /// A process that may not be signalled.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return self.kill();
        }
        let was_frozen = self.is_frozen();
        let frozen = !was_frozen && self.freezer().is_some() && self.freeze().is_ok();
        let mut result = Ok(());
        self.each_process(&mut |pid, process| match pidfd::send_signal(process, signal) {
            Err(errno) if errno.0 != libc::ESRCH => {
                result = Err(Error::os(format!("send signal {signal} to process {pid}"), errno));
            }
            _ => {}
        })?;
        if frozen {
            self.thaw()?;
        }
        result
    }

    /// Sends SIGKILL to every process inside. They are gone some time later.
    ///
    /// # Errors
    /// When it cannot be told who is inside.
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

    /// Lets everybody go on for whom SIGKILL waits, in whichever tree they are frozen.
    pub fn let_die(&self) {
        self.dirs.iter().filter_map(|dir| self.freezer_in(dir)).for_each(|it| it.let_die());
    }
}

impl Cgroup {
    /// Every process that is inside now, held open.
    fn each_process(&self, act: &mut dyn FnMut(i32, BorrowedFd<'_>)) -> Result<()> {
        for some in self.pids()?.chunks(BATCH) {
            let open = |pid: &i32| pidfd::open(*pid).ok().map(|process| (*pid, process));
            let opened: Vec<(i32, OwnedFd)> = some.iter().filter_map(open).collect();
            // A number may have come to mean someone else since it was read. Whoever is inside
            // now is who was opened: a number is not given away while it is in use.
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

/// Directories beside those of the living: for `garth gc`.
///
/// `alive` is asked after the directories have been listed. As the intent record of a sandbox is
/// written before its cgroup is made, one that is just being started is never taken for dead. Those
/// of other state directories are among them: they are to be left ([`Cgroup::leave`]), not released.
///
/// # Errors
/// What cannot be looked at.
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

/// Every place where this caller may have made cgroups.
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
    // What root has made under the same name is not this user's to see.
    dirs.retain(|dir| hierarchy::writable(&format!("{}/{}", dir.top, host.parent)).is_ok());
    dirs
}

/// The processes in `dir` itself. One that is gone has none.
pub(super) fn pids_in(dir: &Path) -> Result<Vec<i32>> {
    let file = dir.join("cgroup.procs");
    let text = match read_kernel(&file).map_err(Errno::from) {
        // In a threaded v2 cgroup this read is refused; its processes are listed above it.
        Err(Errno(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) => return Ok(Vec::new()),
        text => text.map_err(|errno| Error::os(format!("read {}", file.display()), errno))?,
    };
    // 0 stands for a process that this pid namespace cannot see.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// Collects the processes in `dir` and in the cgroups the sandbox has made in it.
pub(super) fn pids_below(dir: &Path, pids: &mut Vec<i32>) -> Result<()> {
    pids.extend(pids_in(dir)?);
    let mut refused = Ok(());
    let mut collect = |below: &Path| match pids_in(below) {
        Ok(there) => {
            pids.extend(there);
            Ok(true)
        }
        Err(error) => {
            refused = Err(error);
            Err(std::io::Error::from_raw_os_error(libc::ECANCELED))
        }
    };
    match walk(dir, &mut collect, &mut |_| Ok(())) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            refused.and(Err(Error::io(format!("look into cgroup {}", dir.display()), &error)))
        }
        _ => refused,
    }
}

/// Removes `dir` and the cgroups in it, the innermost first. Never follows a link, never removes
/// a file: those of a cgroup go with it, and any other stop the removal.
pub(super) fn remove_tree(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        // Someone is inside, or cgroups are.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        result => return result,
    }
    let is = |error: &std::io::Error, errno| error.raw_os_error() == Some(errno);
    let mut leaf = |below: &Path| match fs::remove_dir(below) {
        Err(error) if is(&error, libc::EBUSY) => Ok(true),
        Err(error) if !is(&error, libc::ENOENT) => Err(error),
        _ => Ok(false),
    };
    let mut emptied = |below: &Path| match fs::remove_dir(below) {
        Err(error) if !is(&error, libc::ENOENT) => Err(error),
        _ => Ok(()),
    };
    walk(dir, &mut leaf, &mut emptied)?;
    fs::remove_dir(dir)
}

/// Those whose names are text, as ids and names of containers are.
pub(super) fn subdirectories(dir: &Path) -> Result<Vec<String>> {
    let names = walk::inside(dir)
        .map_err(|error| Error::io(format!("look into cgroup {}", dir.display()), &error))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
