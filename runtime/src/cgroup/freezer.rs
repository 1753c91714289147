//! The freezer of a cgroup: of one of ours, or of a foreign one, found from a process.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::{pids_below, write};
use super::hierarchy::{Controller, Hierarchy, MountedTree, Version};
use super::walk::walk;
use crate::error::{Error, Result};
use crate::journal::is_there;
use crate::sys::file::read_kernel;

/// A directory whose processes can be stopped at once (cgroups(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freezer {
    version: Version,
    dir: PathBuf,
}

impl Freezer {
    /// That of a directory which is known to have one.
    pub(super) fn new(version: Version, dir: PathBuf) -> Freezer {
        Freezer { version, dir }
    }

    /// Those of process `pid`, the one that Linux prefers first: of the unified tree, and of a v1
    /// tree. The top of a tree is none: it holds all processes and cannot be frozen.
    ///
    /// # Errors
    /// When this host's cgroups cannot be read.
    pub fn of(pid: i32) -> Result<Vec<Freezer>> {
        let host = Hierarchy::read()?;
        let path = format!("/proc/{pid}/cgroup");
        let text = read_kernel(&path).map_err(|e| Error::io(format!("read {path}"), &e))?;
        let trees = [(Version::V2, host.v2()), (Version::V1, host.v1(Controller::Freezer))];
        let mut found = Vec::new();
        for (version, mount) in trees {
            let dir = mount.and_then(|mount| place(&text, version, mount));
            if let Some(freezer) = dir.map(|dir| Freezer::new(version, dir))
                && is_there(&freezer.file())?
            {
                found.push(freezer);
            }
        }
        Ok(found)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file whose writing freezes and thaws.
    pub fn file(&self) -> PathBuf {
        self.dir.join(match self.version {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.freeze",
        })
    }

    /// All processes in it and below.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        pids_below(&self.dir, &mut pids)?;
        Ok(pids)
    }

    /// Begins to stop the processes in it, or thaws them; does not wait until they have stopped.
    ///
    /// # Errors
    /// The file cannot be written: it is not this caller's, or the cgroup is gone.
    pub fn set(&self, frozen: bool) -> Result<()> {
        write(&self.file(), self.value(frozen))
    }

    /// As [`Freezer::set`], by its open file: the cgroup that was meant, and no other of its name.
    ///
    /// # Errors
    /// As for `set`; ENODEV when the cgroup is gone.
    pub fn set_by(&self, mut file: &File, frozen: bool) -> Result<()> {
        use std::io::Write as _;
        let value = self.value(frozen);
        let written = file.write_all(value.as_bytes());
        written
            .map_err(|e| Error::io(format!("write \"{value}\" to {}", self.file().display()), &e))
    }

    fn value(&self, frozen: bool) -> &'static str {
        match (self.version, frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        }
    }

    /// Thaws all. A frozen process of a v1 tree does not take even SIGKILL before that; and a
    /// process that may write to its cgroup can freeze itself in one below, which has a state of
    /// its own.
    pub(super) fn let_die(&self) {
        // One that has gone meanwhile has no processes.
        let _ = self.set(false);
        if self.version == Version::V1 {
            let mut below = |dir: &Path| {
                let _ = Freezer::new(Version::V1, dir.to_owned()).set(false);
                Ok(true)
            };
            let _ = walk(&self.dir, &mut below, &mut |_| Ok(()));
        }
    }

    /// Have all of them stopped, or has it let all go? A v1 freezer says FREEZING as long as a
    /// process has not stopped yet.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub(super) fn has_reached(&self, frozen: bool) -> Result<bool> {
        match self.version {
            Version::V1 => {
                let state = if frozen { "FROZEN" } else { "THAWED" };
                Ok(read_kernel(self.file()).is_ok_and(|text| text.trim() == state))
            }
            Version::V2 => {
                let path = self.dir.join("cgroup.events");
                let events = read_kernel(&path)
                    .map_err(|e| Error::io(format!("read {}", path.display()), &e))?;
                let says = |wanted: &str| events.lines().any(|line| line == wanted);
                // Where the last processes are killed while they are thawed, Linux 6.18 now and
                // then goes on calling the empty cgroup frozen.
                Ok(if frozen { says("frozen 1") } else { says("frozen 0") || says("populated 0") })
            }
        }
    }

    /// It has been frozen.
    pub fn is_frozen(&self) -> bool {
        let text = read_kernel(self.file()).unwrap_or_default();
        matches!(text.trim(), "1" | "FROZEN" | "FREEZING")
    }

    /// Its file; none: this process may not freeze it.
    pub fn open(&self) -> Option<File> {
        File::options().write(true).open(self.file()).ok()
    }
}

/// The directory of a process in one tree, from its /proc/PID/cgroup.
fn place(text: &str, version: Version, mount: &MountedTree) -> Option<PathBuf> {
    let named = |names: &str| match version {
        Version::V2 => names.is_empty(),
        Version::V1 => names.split(',').any(|name| name == Controller::Freezer.name()),
    };
    let mut lines = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let (_, path) = lines.find(|(names, _)| named(names))?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    if below.as_os_str().is_empty() || path.contains("/..") {
        return None;
    }
    Some(Path::new(&mount.point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        30 20 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 20 0:27 /part /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n";

    #[test]
    fn the_place_of_a_process_in_each_tree() {
        let host = Hierarchy::parse(MOUNTS, "", true);
        let (v2, v1) = (host.v2().unwrap(), host.v1(Controller::Freezer).unwrap());
        let text = "7:cpu,cpuacct:/x\n4:freezer:/part/a/b\n0::/user.slice/a b:c.scope\n";
        let found = |version, mount| place(text, version, mount).unwrap();
        assert_eq!(
            found(Version::V2, v2),
            Path::new("/sys/fs/cgroup/unified/user.slice/a b:c.scope")
        );
        assert_eq!(found(Version::V1, v1), Path::new("/sys/fs/cgroup/freezer/a/b"));
        // The top of a tree, and what is outside of what is mounted here, cannot be frozen.
        assert_eq!(place("0::/\n", Version::V2, v2), None);
        assert_eq!(place("4:freezer:/part\n", Version::V1, v1), None);
        assert_eq!(place("4:freezer:/other/a\n", Version::V1, v1), None);
        assert_eq!(place("0::/../a\n", Version::V2, v2), None);
    }
}
