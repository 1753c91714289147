//! The record of a cgroup: where its directories are, in each tree. Plain data, enough to create,
//! find and remove it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::freezer::Freezer;
use super::hierarchy::{Controller, Version};
use super::io::DiskLimits;
use super::systemd::Unit;
use crate::{Error, Result};

/// The directories of one sandbox or container, created or not.
///
/// Without directories every operation does nothing, so an owner without a cgroup needs no special
/// case.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) dirs: Vec<Dir>,
    pub(super) placement: Placement,
    /// What `--io` limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) disks: Vec<DiskLimits>,
}

/// `<top>/<parent>/<id>` in one tree. The path is built at each use, so a record cannot name a
/// directory outside `<top>`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct Dir {
    pub version: Version,
    pub top: String,
    pub controllers: Vec<Controller>,
}

/// What the directories above it are, and how it is created.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Placement {
    /// A sandbox's, below a directory that all sandboxes share and the last one removes.
    #[default]
    Shared,
    /// The same in a cgroup delegated to the caller, whose processes move to a child.
    Delegated,
    /// The same in a scope of its own: systemd creates it around the first process, and removes it
    /// after the last.
    Scope(Unit),
    /// A container's, where config.json says. The directories above belong to others, and stay.
    Named,
    /// A container's that is a scope: systemd creates it around the process, and is told to stop
    /// it.
    Unit(Unit),
}

impl Cgroup {
    /// Whether there is no directory in any tree.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The name of its directory: for `wrap`, the sandbox.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The scope that systemd creates.
    pub(super) fn unit(&self) -> Option<&Unit> {
        match &self.placement {
            Placement::Scope(unit) | Placement::Unit(unit) => Some(unit),
            _ => None,
        }
    }

    /// Whether it can only be created around a process.
    pub fn is_scope(&self) -> bool {
        self.unit().is_some()
    }

    /// A container is in all trees, and its first directory stands for the others; a sandbox is
    /// only in those that it needs.
    pub(super) fn is_containers(&self) -> bool {
        matches!(self.placement, Placement::Named | Placement::Unit(_))
    }

    pub(super) fn whose(&self) -> &'static str {
        if self.is_containers() { "container" } else { "sandbox" }
    }

    /// The same cgroup, limited to `dirs`.
    pub(super) fn with(&self, dirs: Vec<Dir>) -> Cgroup {
        Cgroup { dirs, ..self.clone() }
    }

    /// Controllers that share a tree (`cpu,cpuacct`) share the directory.
    pub(super) fn add(&mut self, version: Version, top: &str, controller: Controller) {
        match self.dirs.iter_mut().find(|dir| dir.top == top) {
            Some(dir) => dir.controllers.push(controller),
            None => {
                self.dirs.push(Dir { version, top: top.to_owned(), controllers: vec![controller] })
            }
        }
    }

    /// The directory above its own.
    pub(super) fn shared(&self, dir: &Dir) -> PathBuf {
        // Joining an empty path would leave a trailing slash.
        let top = PathBuf::from(&dir.top);
        if self.parent.is_empty() { top } else { top.join(&self.parent) }
    }

    pub(super) fn path(&self, dir: &Dir) -> PathBuf {
        self.shared(dir).join(&self.id)
    }

    /// A record may come from a damaged file. Each name must be a single path component.
    pub(super) fn check_names(&self) -> Result<()> {
        let above = self.parent.split('/');
        let above = above.filter(|_| !self.is_containers() || !self.parent.is_empty());
        for name in above.chain([self.id.as_str()]) {
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\n']) {
                return Err(Error::new(format!("cgroup {name:?}: not a valid directory name")));
            }
        }
        match self.dirs.iter().find(|dir| !dir.top.starts_with('/')) {
            Some(dir) => Err(Error::new(format!("cgroup in {:?}: not an absolute path", dir.top))),
            None => Ok(()),
        }
    }

    /// The directory that has `controller`, for reading its counters.
    pub fn directory(&self, controller: Controller) -> Option<(Version, PathBuf)> {
        let dir = self.dirs.iter().find(|dir| dir.controllers.contains(&controller))?;
        Some((dir.version, self.path(dir)))
    }

    /// The directory that decides about `controller`: the one in the v1 tree that has it, otherwise
    /// the one in the unified tree.
    pub(super) fn deciding(&self, controller: Controller) -> Option<&Dir> {
        self.dirs
            .iter()
            .find(|dir| dir.version == Version::V1 && dir.controllers.contains(&controller))
            .or_else(|| self.dirs.iter().find(|dir| dir.version == Version::V2))
    }

    /// Whether only the unified tree is used.
    pub fn unified_only(&self) -> bool {
        self.dirs.iter().all(|dir| dir.version == Version::V2)
    }

    pub(super) fn version(&self) -> Version {
        if self.unified_only() { Version::V2 } else { Version::V1 }
    }

    /// Whether its processes are stopped, or about to be.
    pub fn is_frozen(&self) -> bool {
        self.dirs.iter().any(|dir| self.dir_is_frozen(dir))
    }

    pub(super) fn dir_is_frozen(&self, dir: &Dir) -> bool {
        self.freezer_in(dir).is_some_and(|freezer| freezer.is_frozen())
    }

    pub(super) fn freezer_in(&self, dir: &Dir) -> Option<Freezer> {
        let has_one = match dir.version {
            Version::V1 => dir.controllers.contains(&Controller::Freezer),
            Version::V2 => true,
        };
        has_one.then(|| Freezer::new(dir.version, self.path(dir)))
    }

    /// The record as text without quotes and braces, a line for each tree: for where space is
    /// limited.
    pub fn to_text(&self) -> String {
        let mut lines =
            vec![format!("{} {}/{}", u8::from(self.is_containers()), self.parent, self.id)];
        for dir in &self.dirs {
            let version = if dir.version == Version::V1 { 1 } else { 2 };
            let names: Vec<&str> = dir.controllers.iter().map(|c| c.name()).collect();
            lines.push(format!("{version} {} {}", names.join(","), dir.top));
        }
        lines.extend(self.unit().map(|unit| format!("u {}", unit.to_text())));
        lines.join("\n")
    }

    /// Reads what [`Cgroup::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Cgroup> {
        let mut lines = text.lines();
        let (containers, path) = lines.next()?.split_once(' ')?;
        let (parent, id) = path.rsplit_once('/')?;
        let (mut dirs, mut unit) = (Vec::new(), None);
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            let version = match kind {
                "u" => {
                    unit = Some(Unit::from_text(rest)?);
                    continue;
                }
                "1" => Version::V1,
                "2" => Version::V2,
                _ => return None,
            };
            let (names, top) = rest.split_once(' ')?;
            let controllers = Controller::listed(names, |c| c == ',');
            dirs.push(Dir { version, top: top.to_owned(), controllers });
        }
        let placement = match (containers, unit) {
            // Also for a delegated cgroup; the difference matters only for creation.
            ("0", None) => Placement::Shared,
            ("0", Some(unit)) => Placement::Scope(unit),
            ("1", None) => Placement::Named,
            ("1", Some(unit)) => Placement::Unit(unit),
            _ => return None,
        };
        // An invalid id is detected at each use.
        let (id, parent) = (id.to_owned(), parent.to_owned());
        Some(Cgroup { id, parent, dirs, placement, disks: Vec::new() })
    }
}

impl Dir {
    /// Whether one of its controllers has this name.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        self.controllers.iter().any(|one| one.name() == name || one.v1_name() == name)
    }

    pub(super) fn top(&self) -> &Path {
        Path::new(&self.top)
    }
}
