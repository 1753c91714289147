//! The ways into a cgroup.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use super::directory::{join_file, write};
use super::ground;
use super::hierarchy::{Hierarchy, Version};
use super::record::Cgroup;
use super::{subtree, walk};
use crate::sys::file::read_kernel;
use crate::{Error, Result};

impl Cgroup {
    /// Each `cgroup.procs`. The child writes "0" to each and so joins by itself: its pid is not
    /// needed. In v1, a real-time process (SCHED_FIFO, SCHED_RR) gets EINVAL from the cpu tree.
    pub fn join_paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| self.path(dir).join("cgroup.procs")).collect()
    }

    /// Same as [`Cgroup::join_paths`], for a single-threaded process that writes "0" itself. In v1
    /// that is `tasks`: only there does the kernel know that no other thread of the process can be
    /// forking, and skips a lock that waits for every processor (5 to 15 ms if no process was moved
    /// for a while; cgroup_procs_write_start(), Linux 5.16).
    pub fn own_join_paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| self.path(dir).join(join_file(dir.version))).collect()
    }

    /// Same as [`Cgroup::own_join_paths`], at a start: the parent puts the process into a scope.
    pub fn first_join_paths(&self) -> Vec<PathBuf> {
        if self.is_scope() { Vec::new() } else { self.own_join_paths() }
    }

    /// Same as [`Cgroup::own_join_paths`], for a process that joins later. An ordinary user in a
    /// login session may not write to them; then systemd moves this process, and its children start
    /// inside.
    ///
    /// # Errors
    /// The error from systemd.
    pub fn later_join_paths(&self) -> Result<Vec<PathBuf>> {
        let paths = self.own_join_paths();
        if let (Some(unit), Some(dir)) = (self.unit(), self.dirs.first())
            && !ground::may_move(&Hierarchy::read()?, &self.path(dir))
        {
            unit.attach(&format!("/{}/{}", self.parent, self.id))?;
            return Ok(Vec::new());
        }
        Ok(paths)
    }

    /// Moves process `pid` into each of the cgroups.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.join_paths().iter().try_for_each(|file| write(file, &pid.to_string()))
    }

    /// Gives the directory in the unified tree to `uid`, root in a container that has a cgroup
    /// namespace and the tree mounted writable. v1 cannot be delegated safely.
    ///
    /// # Errors
    /// What cannot be given.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        if !self.unified_only() {
            return Ok(());
        }
        self.dirs.iter().try_for_each(|dir| subtree::delegate(&self.path(dir), uid))
    }

    /// How another single-threaded process joins, beside the first, `init`, if there is one
    /// already: `init` may have moved into a cgroup that the container created, and then the
    /// container's directory accepts no process (EBUSY, "no internal processes").
    ///
    /// # Errors
    /// The directory in the unified tree cannot be opened.
    pub fn entrance(&self, init: Option<i32>) -> Result<Entrance> {
        let mut entrance = Entrance::default();
        for dir in &self.dirs {
            let mut own = self.path(dir);
            if dir.version == Version::V1 {
                entrance.files.push(own.join(join_file(dir.version)));
                continue;
            }
            if let Some(init) = init.filter(|_| subtree::passes_on(&own))
                && let Some(there) = holding(&own, init)
            {
                own = there;
            }
            let opened = File::open(&own);
            let opened =
                opened.map_err(|e| Error::io(format!("open cgroup {}", own.display()), &e))?;
            entrance.unified = Some(opened.into());
        }
        Ok(entrance)
    }

    /// Same as [`Cgroup::entrance`], into existing directories below the container's own: one for
    /// all trees under the name "", or one per controller; trees without one are joined at the
    /// container's own.
    ///
    /// # Errors
    /// A controller that no tree has, a path that leads elsewhere, or a missing directory.
    pub fn entrance_below(&self, below: &BTreeMap<String, String>) -> Result<Entrance> {
        for name in below.keys().filter(|name| !name.is_empty()) {
            if !self.dirs.iter().any(|dir| dir.answers_to(name)) {
                return Err(Error::new(format!(
                    "--cgroup {name}: no hierarchy has this controller"
                )));
            }
        }
        let mut entrance = Entrance::default();
        for dir in &self.dirs {
            let mut own = self.path(dir);
            let named = below.iter().find(|(name, _)| name.is_empty() || dir.answers_to(name));
            if let Some((_, path)) = named {
                let relative = Path::new(path.trim_start_matches('/'));
                if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
                    return Err(Error::new(format!("--cgroup {path}: bad sub cgroup path")));
                }
                own = own.join(relative);
            }
            let failed =
                |e: std::io::Error| Error::io(format!("--cgroup: open {}", own.display()), &e);
            let opened = File::open(&own).map_err(failed)?;
            match dir.version {
                Version::V1 => entrance.files.push(own.join(join_file(dir.version))),
                Version::V2 => entrance.unified = Some(opened.into()),
            }
        }
        Ok(entrance)
    }
}

/// Ways into a cgroup that, unlike moving a process, do not wait for other processors.
#[derive(Debug, Default)]
pub struct Entrance {
    /// The directory in the unified tree to start in (CLONE_INTO_CGROUP of clone(2), Linux 5.7).
    pub unified: Option<OwnedFd>,
    /// The files in the v1 trees to which the process writes "0".
    pub files: Vec<PathBuf>,
}

/// The cgroup in `dir` that process `pid` is in.
fn holding(dir: &Path, pid: i32) -> Option<PathBuf> {
    let text = read_kernel(dir.join("cgroup.procs")).unwrap_or_default();
    if text.lines().any(|line| line.parse() == Ok(pid)) {
        return Some(dir.to_owned());
    }
    walk::inside(dir).ok()?.iter().find_map(|name| holding(&dir.join(name), pid))
}
