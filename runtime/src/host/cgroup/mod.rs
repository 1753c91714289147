//! The cgroup of a sandbox: one directory in each tree that has something to say.
//!
//! All paths are `<top>/garth/<id>`. For root the top is where the tree is mounted; for everyone
//! else it is a directory of the unified tree that was delegated to them. The shared directory
//! `garth` is made by the first sandbox and goes with the last.
//!
//! [`choose`] decides and refuses, and makes nothing; its answer is the record for the journal.
//! [`Cgroup::create`] makes it, the child joins, and
//! [`Cgroup::release`] needs nothing but the record: it kills who is left, removes the
//! directories, and may be repeated.
//!
//! In a hybrid setup a controller is taken from the v1 tree that has it, otherwise from the
//! unified one. A kernel never has the same controller in both.

mod choose;
mod hierarchy;
mod release;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use choose::choose;
pub use hierarchy::{Controller, Hierarchy, Mount, Version};
pub use release::{find, leftovers};

use crate::spec::limits::Limits;
use crate::sys::Errno;
use crate::{Error, Result};

/// The directories of one sandbox, made or not: the record from which they can be removed.
///
/// Without directories every operation does nothing, so a sandbox without limits needs no case of
/// its own.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    id: String,
    parent: String,
    dirs: Vec<Dir>,
}

/// `<top>/<parent>/<id>` in one tree. The path is put together at each use, so a record cannot
/// name a directory outside of `<parent>`.
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
    /// was there before (EEXIST) is another's and stays.
    pub fn create(&self, limits: &Limits) -> Result<()> {
        self.check_names()?;
        let mut made = Vec::new();
        let result = self.make(limits, &mut made);
        if result.is_err() {
            // No process has joined yet, so removing cannot fail for long.
            let made = Cgroup { dirs: made, ..self.clone() };
            let _ = made.release();
        }
        result
    }

    fn make(&self, limits: &Limits, made: &mut Vec<Dir>) -> Result<()> {
        for dir in &self.dirs {
            let (shared, own) = (self.shared(dir), self.path(dir));
            make_below(&shared, &own)?;
            made.push(dir.clone());
            // From here on the shared directory stays, because this one is in it; before, the
            // release of another sandbox may take it away at any time.
            match dir.version {
                Version::V1 if dir.controllers.contains(&Controller::Cpuset) => {
                    v1::inherit_cpuset(&shared)?;
                    v1::inherit_cpuset(&own)?;
                }
                Version::V1 => {}
                Version::V2 => {
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

    /// How long its youngest directory has been there.
    pub fn age(&self) -> Option<Duration> {
        let made = |dir| fs::metadata(self.path(dir)).ok()?.modified().ok()?.elapsed().ok();
        self.dirs.iter().filter_map(made).min()
    }

    /// Each `cgroup.procs`. The child writes "0" to each, and so joins by itself: nobody needs its
    /// pid. In v1, a real-time process (SCHED_FIFO, SCHED_RR) gets EINVAL from the cpu tree.
    pub fn join_paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| self.path(dir).join("cgroup.procs")).collect()
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

    /// The sandbox.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The processes inside, in ascending order.
    pub fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in &self.dirs {
            release::pids_below(&self.path(dir), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
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
        let dir = self.freezer().ok_or_else(|| {
            Error::new(format!("freeze {}: the sandbox was made without a freezer cgroup", self.id))
        })?;
        let own = self.path(dir);
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            let reached = match dir.version {
                Version::V1 => v1::freeze(&own, frozen)?,
                Version::V2 => v2::freeze(&own, frozen)?,
            };
            if reached {
                return Ok(());
            }
            if Instant::now() > end {
                let verb = if frozen { "freeze" } else { "thaw" };
                return Err(Error::new(format!("{verb} {}: not done in 2 s", own.display()))
                    .hint("a process inside waits for a device or a file server"));
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn freezer(&self) -> Option<&Dir> {
        let unified = self.dirs.iter().find(|dir| dir.version == Version::V2);
        unified
            .or_else(|| self.dirs.iter().find(|dir| dir.controllers.contains(&Controller::Freezer)))
    }

    /// What `create` will do, a line each, for `garth explain`.
    pub fn describe(&self, limits: &Limits) -> Vec<String> {
        let mut lines = Vec::new();
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
        self.dirs.iter().flat_map(of).collect()
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
        Path::new(&dir.top).join(&self.parent)
    }

    fn path(&self, dir: &Dir) -> PathBuf {
        self.shared(dir).join(&self.id)
    }

    /// A record may have been read from a damaged file. Each name must be one step down.
    fn check_names(&self) -> Result<()> {
        for name in [&self.id, &self.parent] {
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

/// Makes `own` in `shared`, and `shared` too where it is missing.
fn make_below(shared: &Path, own: &Path) -> Result<()> {
    let failed = |path: &Path, error: &std::io::Error| {
        Error::io(format!("make cgroup {}", path.display()), error)
    };
    // The shared directory is removed by whoever finds it empty, which may happen in between.
    for _ in 0..100 {
        match fs::create_dir(own) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                return Err(failed(own, &error).hint(
                    "it belongs to a running sandbox of this name, or `garth gc` removes it",
                ));
            }
            result => return result.map_err(|error| failed(own, &error)),
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
