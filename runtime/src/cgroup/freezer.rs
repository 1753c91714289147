//! The freezer of a cgroup: one of ours, or a foreign one, found from a process.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::{pids_below, write};
use super::hierarchy::{Controller, Hierarchy, MountedTree, Version};
use super::walk::walk;
use crate::error::{Error, Result};
use crate::journal::is_there;
use crate::sys::file::read_kernel;

/// A directory whose processes can all be stopped together (cgroups(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freezer {
    version: Version,
    dir: PathBuf,
}

impl Freezer {
    /// The freezer of a directory that is known to have one.
    pub(super) fn new(version: Version, dir: PathBuf) -> Freezer {
        Freezer { version, dir }
    }

    /// The freezers of process `pid`, in the kernel's order of preference: that of the unified
    /// tree, and that of a v1 tree. The root of a tree does not count: it holds all processes and
    /// cannot be frozen.
    ///
    /// # Errors
    /// This host's cgroups cannot be read.
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

    /// The file that freezes and thaws.
    pub fn file(&self) -> PathBuf {
        self.dir.join(match self.version {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.freeze",
        })
    }

    /// All processes in it and below it.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        pids_below(&self.dir, &mut pids)?;
        Ok(pids)
    }

    /// Starts to stop the processes in it, or thaws them; does not wait until they have stopped.
    ///
    /// # Errors
    /// The file cannot be written: the caller has no permission, or the cgroup is gone.
    pub fn set(&self, frozen: bool) -> Result<()> {
        write(&self.file(), self.value(frozen))
    }

    /// Same as [`Freezer::set`], through its open file: reaches the intended cgroup and no other of
    /// its name.
    ///
    /// # Errors
    /// As for `set`; ENODEV if the cgroup is gone.
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

    /// Thaws everything. A frozen process in a v1 tree does not even take SIGKILL before that; and
    /// a process that may write to its cgroup can freeze itself in a child cgroup, which has a
    /// state of its own.
    pub(super) fn let_die(&self) {
        // If it is gone meanwhile, it has no processes.
        let _ = self.set(false);
        if self.version == Version::V1 {
            let mut below = |dir: &Path| {
                let _ = Freezer::new(Version::V1, dir.to_owned()).set(false);
                Ok(true)
            };
            let _ = walk(&self.dir, &mut below, &mut |_| Ok(()));
        }
    }

    /// Whether all of them have stopped, or all have been thawed. A v1 freezer reads FREEZING until
    /// every process has stopped.
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
                // If the last processes are killed while being thawed, Linux 6.18 sometimes keeps
                // reporting the empty cgroup as frozen.
                Ok(if frozen { says("frozen 1") } else { says("frozen 0") || says("populated 0") })
            }
        }
    }

    /// Whether it has been frozen.
    pub fn is_frozen(&self) -> bool {
        let text = read_kernel(self.file()).unwrap_or_default();
        matches!(text.trim(), "1" | "FROZEN" | "FREEZING")
    }

    /// Its file. `None`: this process may not freeze it.
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
        // The root of a tree, and what is outside the mounted part, cannot be frozen.
        assert_eq!(place("0::/\n", Version::V2, v2), None);
        assert_eq!(place("4:freezer:/part\n", Version::V1, v1), None);
        assert_eq!(place("4:freezer:/other/a\n", Version::V1, v1), None);
        assert_eq!(place("0::/../a\n", Version::V2, v2), None);
    }
}
