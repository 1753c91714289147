//! The cgroup of a sandbox: one directory in each tree that has something to say.
//!
//! Those of `garth wrap` are `<top>/garth/<id>`. Where systemd manages the unified tree, the top is a cgroup
//! that it has delegated, or a scope that it makes for the sandbox (`ground`). Elsewhere it is where the
//! tree is mounted for root, and for everyone else a directory that was delegated to them. The shared
//! directory `garth` is made by the first sandbox and goes with the last.
//!
//! [`choose`] decides and refuses, and makes nothing; its answer is the record for the journal.
//! [`Cgroup::create`] makes it, and the child joins.
//!
//! Those of a container are where config.json wants them: [`choose_container`] decides, and
//! [`Cgroup::create_container`] makes them.
//!
//! Whose a directory is, `claim` settles for both; [`Cgroup::give_up`] needs nothing but the record
//! and the mark in the journal: it kills who is left, removes the directories, and may be repeated.
//!
//! In a hybrid setup a controller is taken from the v1 tree that has it, otherwise from the
//! unified one. A kernel never has the same controller in both.

mod choose;
mod claim;
mod container;
mod devices;
mod disk;
mod filter;
mod freezer;
#[cfg(fuzzing)]
mod fuzz;
mod ground;
mod hierarchy;
mod inside;
pub mod io;
mod make;
mod oom;
mod release;
pub mod stats;
mod stats_v1;
mod stats_v2;
pub mod systemd;
#[cfg(test)]
pub(super) mod tests;
mod v1;
mod v2;
mod values;
mod walk;

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use choose::choose;
pub use claim::{Claim, MARK};
pub use container::{Driver, Wanted, choose_container};
pub(super) use devices::device_properties;
pub use freezer::Freezer;
#[cfg(fuzzing)]
pub use fuzz::compute;
pub use ground::place_in_words;
pub use hierarchy::{Controller, Hierarchy, Mount, Version};
pub use inside::Inside;
pub use make::Entrance;
pub use oom::{Oom, OomEvent};
pub use release::leftovers;
pub use stats::Stats;
pub(super) use v2::weight_of_shares;

use crate::cgroup::systemd::Unit;
use crate::config::limits::Limits;
use crate::journal::is_there;
use crate::journal::resource::{Held, Owner, Resource};
use crate::sys::Errno;
use crate::{Error, Result};
use io::DiskLimits;

/// The directories of one sandbox, made or not: the record from which they can be removed.
///
/// Without directories every operation does nothing, so a sandbox without limits needs no case of
/// its own.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    id: String,
    parent: String,
    dirs: Vec<Dir>,
    /// What is above belongs to others, too, and stays: it is a container's.
    #[serde(default)]
    kept: bool,
    /// The scope that systemd made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    /// The top was delegated to the caller, who is in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    vacate: bool,
    /// What `--io` limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    disks: Vec<DiskLimits>,
}

/// `<top>/<parent>/<id>` in one tree. The path is put together at each use, so a record cannot
/// name a directory outside of `<top>`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct Dir {
    version: Version,
    top: String,
    controllers: Vec<Controller>,
}

/// A value and the file it goes to.
struct Write {
    file: PathBuf,
    value: String,
    /// Nobody asked for this one: where the kernel has no such file, it is left out.
    optional: bool,
}

impl Cgroup {
    /// Makes the directories and writes the limits.
    ///
    /// # Errors
    /// The file, the value and the errno. What had been made is removed again; a directory that
    /// another is in, or holds, stays.
    pub fn create(&self, limits: &Limits) -> Result<Claim> {
        self.create_around(limits, None)
    }

    /// As [`Cgroup::create`], with process `pid` in it from the start, for which the scope was made.
    fn create_around(&self, limits: &Limits, pid: Option<i32>) -> Result<Claim> {
        self.check_names()?;
        let mut claim = Claim::default();
        let result = self.make(limits, pid, &mut claim);
        if result.is_err() {
            // No process has joined yet.
            for dir in claim.indexes().map(|index| &self.dirs[index]) {
                let _ = fs::remove_dir(self.path(dir));
            }
            self.leave_shared();
        }
        result.map(|()| claim)
    }

    /// As [`Cgroup::create_around`], with the mark of its owner.
    fn create_marked(&self, owner: &Owner, pid: Option<i32>) -> Result<Claim> {
        let claim = self.create_around(owner.limits, pid)?;
        if let Err(error) = self.mark(&claim, &owner.file(MARK)) {
            drop(claim);
            let _ = self.leave();
            return Err(error);
        }
        Ok(claim)
    }

    fn make(&self, limits: &Limits, pid: Option<i32>, claim: &mut Claim) -> Result<()> {
        for (index, dir) in self.dirs.iter().enumerate() {
            let (shared, own) = (self.shared(dir), self.path(dir));
            self.take(index, claim, || make_below(&shared, &own))?;
            // From here on the shared directory stays, because this one is in it; before, the
            // release of another sandbox may take it away at any time.
            match dir.version {
                Version::V1 if dir.controllers.contains(&Controller::Cpuset) => {
                    v1::inherit_cpuset(&shared)?;
                    v1::inherit_cpuset(&own)?;
                }
                Version::V1 => {}
                Version::V2 => {
                    if let Some(pid) = pid {
                        write(&own.join("cgroup.procs"), &pid.to_string())?;
                    }
                    if self.vacate {
                        ground::vacate(Path::new(&dir.top))?;
                    }
                    v2::pass_on(Path::new(&dir.top), &dir.controllers)?;
                    v2::pass_on(&shared, &dir.controllers)?;
                }
            }
        }
        for item in self.writes(limits) {
            match write(&item.file, &item.value) {
                Err(error) if item.optional && error.errno() == Some(Errno(libc::ENOENT)) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Each `cgroup.procs`. The child writes "0" to each, and so joins by itself: nobody needs its
    /// pid. In v1, a real-time process (SCHED_FIFO, SCHED_RR) gets EINVAL from the cpu tree.
    pub fn join_paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| self.path(dir).join("cgroup.procs")).collect()
    }

    /// As [`Cgroup::join_paths`], for a process of one thread that writes "0", itself. In v1 that is
    /// `tasks`: only there does the kernel know that nobody else of a process can be forking, and
    /// leaves out a lock that waits for every processor (5 to 15 ms where nobody has moved a process
    /// for a while; cgroup_procs_write_start(), Linux 5.16).
    pub fn own_join_paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| self.path(dir).join(own_file(dir.version))).collect()
    }

    /// As [`Cgroup::own_join_paths`], at a start: into a scope the parent puts the process.
    pub fn first_join_paths(&self) -> Vec<PathBuf> {
        if self.unit.is_some() { Vec::new() } else { self.own_join_paths() }
    }

    /// As [`Cgroup::own_join_paths`], for whoever comes later. An ordinary user in a login session may
    /// not write to them; systemd moves this process then, and its children are inside from the start.
    ///
    /// # Errors
    /// What systemd answers.
    pub fn later_join_paths(&self) -> Result<Vec<PathBuf>> {
        let paths = self.own_join_paths();
        if let (Some(unit), Some(dir)) = (&self.unit, self.dirs.first())
            && !ground::may_move(&Hierarchy::read()?, &self.path(dir))
        {
            unit.attach(&format!("/{}/{}", self.parent, self.id))?;
            return Ok(Vec::new());
        }
        Ok(paths)
    }

    /// The directory that has `controller`, for reading its counters.
    pub fn directory(&self, controller: Controller) -> Option<(Version, PathBuf)> {
        let dir = self.dirs.iter().find(|dir| dir.controllers.contains(&controller))?;
        Some((dir.version, self.path(dir)))
    }

    /// There is no directory in any tree.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The name of its directory: for `wrap`, the sandbox.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The processes inside, in ascending order, as far as this pid namespace shows them.
    ///
    /// # Errors
    /// A directory that is there and cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for dir in &self.dirs {
            release::pids_below(&self.path(dir), &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Those in the container's own directory: not in cgroups that it has made inside. Of the v1
    /// trees that of the devices counts, as it does for engines.
    ///
    /// # Errors
    /// As for [`Cgroup::pids`].
    pub fn own_pids(&self) -> Result<Vec<i32>> {
        let dir = self.place(Controller::Devices).or(self.dirs.first());
        dir.map_or(Ok(Vec::new()), |dir| release::pids_in(&self.path(dir)))
    }

    /// Stops every process inside, and returns when all have stopped.
    ///
    /// # Errors
    /// The cgroup was chosen without a freezer, or a process does not stop within two seconds
    /// (it sleeps uninterruptibly); then all are let go again.
    pub fn freeze(&self) -> Result<()> {
        let result = self.set_frozen(true);
        if result.is_err() {
            let _ = self.thaw();
        }
        result
    }

    /// Lets the processes go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let freezer = self.freezer().ok_or_else(|| {
            Error::new(format!("freeze {}: the sandbox was made without a freezer cgroup", self.id))
        })?;
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            // A v1 freezer that is asked again helps those along that have not stopped yet.
            freezer.set(frozen)?;
            if freezer.has_reached(frozen)? {
                return Ok(());
            }
            if Instant::now() > end {
                let verb = if frozen { "freeze" } else { "thaw" };
                return Err(Error::new(format!(
                    "{verb} {}: not done in 2 s",
                    freezer.dir().display()
                ))
                .hint("a process inside waits for a device or a file server"));
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Its processes are stopped, or about to be.
    pub fn is_frozen(&self) -> bool {
        self.dirs.iter().any(|dir| self.dir_is_frozen(dir))
    }

    fn dir_is_frozen(&self, dir: &Dir) -> bool {
        self.freezer_in(dir).is_some_and(|freezer| freezer.is_frozen())
    }

    /// The one that Linux prefers, if there are two.
    fn freezer(&self) -> Option<Freezer> {
        let unified = self.dirs.iter().find(|dir| dir.version == Version::V2);
        unified
            .and_then(|dir| self.freezer_in(dir))
            .or_else(|| self.dirs.iter().find_map(|dir| self.freezer_in(dir)))
    }

    fn freezer_in(&self, dir: &Dir) -> Option<Freezer> {
        let has_one = match dir.version {
            Version::V1 => dir.controllers.contains(&Controller::Freezer),
            Version::V2 => true,
        };
        has_one.then(|| Freezer::new(dir.version, self.path(dir)))
    }

    /// What `create` will do, a line each, for `garth explain`.
    pub fn describe(&self, limits: &Limits) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(unit) = &self.unit {
            lines.push(format!("ask systemd for {} in {}", unit.name, unit.slice));
        }
        for dir in &self.dirs {
            let own = self.path(dir);
            lines.push(format!("make {}", own.display()));
            if dir.version == Version::V1 && dir.controllers.contains(&Controller::Cpuset) {
                let shared = self.shared(dir);
                lines.push(format!("copy cpuset.cpus and cpuset.mems from {}", shared.display()));
            }
            if dir.version == Version::V2 && !dir.controllers.is_empty() {
                let names: Vec<String> =
                    dir.controllers.iter().map(|c| format!("+{}", c.name())).collect();
                let names = names.join(" ");
                for above in [Path::new(&dir.top), &self.shared(dir)] {
                    let file = above.join("cgroup.subtree_control");
                    lines.push(format!("write \"{names}\" to {}", file.display()));
                }
            }
        }
        for disk in &self.disks {
            lines.push(format!("limit {} as {}", disk.name, disk.words));
        }
        for item in self.writes(limits) {
            let condition = if item.optional { ", if the kernel accounts swap" } else { "" };
            let file = item.file.display();
            lines.push(format!("write \"{}\" to {file}{condition}", item.value));
        }
        lines
    }

    fn writes(&self, limits: &Limits) -> Vec<Write> {
        let of = |dir: &Dir| match dir.version {
            Version::V1 => v1::writes(&self.path(dir), &dir.controllers, limits),
            Version::V2 => v2::writes(&self.path(dir), &dir.controllers, limits),
        };
        let mut writes: Vec<Write> = self.dirs.iter().flat_map(of).collect();
        if let Some((version, dir)) = self.directory(Controller::Io) {
            writes.extend(self.disks.iter().flat_map(|disk| disk.writes(&dir, version)));
        }
        writes
    }

    /// Controllers that share a tree (`cpu,cpuacct`) share the directory.
    fn add(&mut self, version: Version, top: &str, controller: Controller) {
        match self.dirs.iter_mut().find(|dir| dir.top == top) {
            Some(dir) => dir.controllers.push(controller),
            None => {
                self.dirs.push(Dir { version, top: top.to_owned(), controllers: vec![controller] })
            }
        }
    }

    fn shared(&self, dir: &Dir) -> PathBuf {
        // Joined with nothing, a path would end in a slash.
        let top = PathBuf::from(&dir.top);
        if self.parent.is_empty() { top } else { top.join(&self.parent) }
    }

    fn path(&self, dir: &Dir) -> PathBuf {
        self.shared(dir).join(&self.id)
    }

    /// A record may have been read from a damaged file. Each name must be one step down.
    fn check_names(&self) -> Result<()> {
        let above = self.parent.split('/').filter(|_| !self.kept || !self.parent.is_empty());
        let above = above.chain([self.id.as_str()]);
        for name in above {
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\n']) {
                return Err(Error::new(format!("cgroup {name:?}: not a name for a directory")));
            }
        }
        match self.dirs.iter().find(|dir| !dir.top.starts_with('/')) {
            Some(dir) => Err(Error::new(format!("cgroup in {:?}: not an absolute path", dir.top))),
            None => Ok(()),
        }
    }
}

/// As `garth wrap` has it; a container's is made by [`Cgroup::create_container`].
impl Resource for Cgroup {
    fn acquire(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        // A scope is made around a process only.
        if self.unit.is_some() {
            return Ok(());
        }
        let claim = self.create_marked(owner, None)?;
        // For the sandbox's life: where its processes cannot be seen, the lock can.
        held.extend(claim.into_files().map(OwnedFd::from));
        Ok(())
    }

    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        unit.start_beside(pid, &self.id)?;
        // Nobody else makes directories in a scope of this name: the mark is enough.
        self.create_marked(owner, Some(pid)).map(drop)
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        self.give_up(&owner.file(MARK), owner.may_kill)
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for dir in &self.owned(&owner.file(MARK))?.dirs {
            let own = self.path(dir);
            if is_there(&own)? {
                there.push(format!("cgroup {}", own.display()));
            }
        }
        Ok(there)
    }

    fn describe(&self, owner: &Owner) -> Vec<String> {
        Cgroup::describe(self, owner.limits)
    }
}

/// Makes `own` in `shared`, and `shared` too where it is missing; false: it is there.
fn make_below(shared: &Path, own: &Path) -> Result<bool> {
    let failed = |path: &Path, error: &std::io::Error| {
        Error::io(format!("make cgroup {}", path.display()), error)
    };
    // The shared directory is removed by whoever finds it empty, which may happen in between.
    for _ in 0..100 {
        match fs::create_dir(own) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Ok(false),
            result => return result.map(|()| true).map_err(|error| failed(own, &error)),
        }
        match fs::create_dir(shared) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                return Err(failed(shared, &error));
            }
            _ => {}
        }
    }
    Err(Error::os(format!("make cgroup {}", own.display()), Errno(libc::ENOENT)))
}

/// One write(2) of the whole value, as the files of cgroups want it.
fn write(file: &Path, value: &str) -> Result<()> {
    use std::io::Write as _;
    let open = OpenOptions::new().write(true).open(file);
    open.and_then(|mut file: File| file.write_all(value.as_bytes()))
        .map_err(|error| Error::io(format!("write \"{value}\" to {}", file.display()), &error))
}

/// The file to which a process of one thread writes "0" to join; see [`Cgroup::own_join_paths`].
fn own_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.procs",
    }
}
