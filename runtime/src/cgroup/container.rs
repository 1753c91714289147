//! Where the cgroup of a container is: what config.json says of it, in the trees of this machine.
//!
//! A container is in every tree there is, at the same path in each, limits or not: engines read
//! their figures there, and whoever asks /proc/PID/cgroup finds the container and not its caller.
//!
//! - `/a/b` counts from where a tree is mounted, `a/b` from the cgroup of the caller; where only
//!   the unified tree is mounted, from the one above the caller's, because the caller is in its
//!   own and so nothing can be passed on from there. Nothing given is the id, which is relative.
//! - `..` is taken out of the path first, as `chroot` does it: no path leads above its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hierarchy::{Controller, Hierarchy, Mount, Version};
use super::{Cgroup, Dir, values};
use crate::cgroup::systemd;
use crate::config::oci;
use crate::sys::Errno;
use crate::{Error, Result};

/// Who makes the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Garth, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, asked over its bus for a scope (`--systemd-cgroup`).
    Systemd,
    /// Nobody: the container stays where its caller is.
    Disabled,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// Who makes it.
    pub driver: Driver,
    /// Where making is not permitted, and nothing is limited, the container goes without.
    pub rootless: bool,
    /// `linux.resources`.
    pub resources: &'a oci::Resources,
    /// `annotations`: those that begin with `org.systemd.property.` are for systemd.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Finds the directories. Nothing is made.
///
/// # Errors
/// A path that is none, and a limit without the controller for it.
pub fn choose_container(host: &Hierarchy, wanted: &Wanted) -> Result<Cgroup> {
    let mut cgroup = Cgroup { kept: true, ..Cgroup::default() };
    let mut refused = Vec::new();
    if wanted.driver != Driver::Disabled {
        let unified_only = host.unified_only();
        let from_top = match wanted.driver {
            Driver::Systemd => {
                let Wanted { id, cgroups_path, annotations, rootless, .. } = *wanted;
                let unit = systemd::Unit::choose(id, cgroups_path, annotations, rootless)?;
                cgroup.set_path(&unit.path)?;
                cgroup.unit = Some(unit);
                true
            }
            _ => {
                let path = wanted.cgroups_path.filter(|path| !path.is_empty());
                cgroup.set_path(path.unwrap_or(wanted.id))?;
                path.is_some_and(|path| path.starts_with('/'))
            }
        };
        for mount in host.trees().filter(|mount| !mount.point.contains(char::is_control)) {
            let base = match mount.own.as_deref().unwrap_or("") {
                _ if from_top => "",
                own if unified_only => own.rsplit_once('/').map_or("", |(above, _)| above),
                own => own,
            };
            let dir = Dir {
                version: mount.version,
                top: format!("{}{base}", mount.point.trim_end_matches('/')),
                controllers: mount.controllers.clone(),
            };
            match wanted.rootless.then(|| cgroup.refused(&dir, mount)).flatten() {
                Some(error) => refused.push((dir, error)),
                None => cgroup.dirs.push(dir),
            }
        }
    }
    cgroup.check_controllers(wanted, refused)?;
    Ok(cgroup)
}

impl Hierarchy {
    /// There is the unified tree and no other.
    pub fn unified_only(&self) -> bool {
        self.mounts.iter().all(|mount| mount.version == Version::V2)
    }
}

impl Cgroup {
    fn set_path(&mut self, path: &str) -> Result<()> {
        let mut names: Vec<&str> = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let Some((own, above)) = names.split_last() else {
            return Err(Error::new(format!("cgroupsPath {path:?}: the root of the trees"))
                .hint("a container has a cgroup of its own: name a directory"));
        };
        (self.id, self.parent) = ((*own).to_owned(), above.join("/"));
        self.check_names().map_err(|error| error.within(format_args!("cgroupsPath {path:?}")))
    }

    /// Why the directory cannot be made by the caller, if it is a matter of permission.
    fn refused(&self, dir: &Dir, mount: &Mount) -> Option<Error> {
        let own = self.path(dir);
        let there = own.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new(&mount.point));
        let closest = there.to_string_lossy();
        // The process comes from the caller's cgroup: in the unified tree the directory above both
        // must be the caller's to write, too (cgroups(7), "delegation containment").
        let from = PathBuf::from(format!("{}{}", mount.point, mount.own.as_deref().unwrap_or("")));
        let both = from.ancestors().find(|path| own.starts_with(path));
        let both = both.filter(|path| {
            // systemd moves it itself.
            self.unit.is_none() && dir.version == Version::V2 && path.starts_with(&mount.point)
        });
        let move_in = both.map(|path| path.join("cgroup.procs").to_string_lossy().into_owned());
        let files = [closest.to_string(), format!("{closest}/cgroup.procs")];
        for path in files.into_iter().chain(move_in) {
            let result = match mount.read_only {
                true => Err(Errno(libc::EROFS)),
                false => super::hierarchy::writable(&path),
            };
            if let Err(errno @ Errno(libc::EACCES | libc::EPERM | libc::EROFS)) = result {
                return Some(Error::os(
                    format!("make cgroup {}: write to {}", own.display(), path),
                    errno,
                ));
            }
        }
        None
    }

    /// Each limit has its controller, as far as can be told before the directories are there.
    fn check_controllers(&self, wanted: &Wanted, refused: Vec<(Dir, Error)>) -> Result<()> {
        for (controller, what) in values::asked(wanted.resources) {
            // Devices cannot be had without privilege, and their nodes neither.
            if controller == Controller::Devices && (wanted.rootless || self.dirs.is_empty()) {
                continue;
            }
            if self.place(controller).is_some() {
                continue;
            }
            // The tree that would decide.
            let has = |(dir, _): &&(Dir, Error)| dir.controllers.contains(&controller);
            let refused = refused.iter().find(has).or(refused.last()).map(|(_, error)| error);
            let error = match refused {
                _ if wanted.driver == Driver::Disabled => {
                    Error::new("cgroups are disabled: there is nothing to limit by")
                }
                Some(error) => error.clone().hint("without root, limits need a delegated cgroup"),
                None => missing(controller),
            };
            return Err(error.within(what));
        }
        Ok(())
    }

    /// It is the record of a container without a cgroup, which has not even a name.
    pub(super) fn is_none(&self) -> bool {
        self.kept && self.dirs.is_empty() && self.unit.is_none()
    }

    /// Who decides about `controller`: the v1 tree that has it, otherwise the unified tree.
    pub(super) fn place(&self, controller: Controller) -> Option<&Dir> {
        self.dirs
            .iter()
            .find(|dir| dir.version == Version::V1 && dir.controllers.contains(&controller))
            .or_else(|| self.dirs.iter().find(|dir| dir.version == Version::V2))
    }

    /// The record as a text without quotes and braces, of a line for each tree: for where there is
    /// little room.
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!("{} {}/{}", u8::from(self.kept), self.parent, self.id)];
        for dir in &self.dirs {
            let version = if dir.version == Version::V1 { 1 } else { 2 };
            let names: Vec<&str> = dir.controllers.iter().map(|c| c.name()).collect();
            lines.push(format!("{version} {} {}", names.join(","), dir.top));
        }
        lines.extend(self.unit.as_ref().map(|unit| format!("u {}", unit.to_text())));
        lines.join("\n")
    }

    /// Reads what [`Cgroup::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Cgroup> {
        let mut lines = text.lines();
        let (kept, path) = lines.next()?.split_once(' ')?;
        let (parent, id) = path.rsplit_once('/')?;
        let mut cgroup = Cgroup { kept: kept == "1", ..Cgroup::default() };
        (cgroup.id, cgroup.parent) = (id.to_owned(), parent.to_owned());
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            if kind == "u" {
                cgroup.unit = Some(systemd::Unit::from_text(rest)?);
                continue;
            }
            let version = match kind {
                "1" => Version::V1,
                "2" => Version::V2,
                _ => return None,
            };
            let (names, top) = rest.split_once(' ')?;
            let controllers = Controller::listed(names, |c| c == ',');
            cgroup.dirs.push(Dir { version, top: top.to_owned(), controllers });
        }
        // An id that is no name is found out at each use.
        Some(cgroup)
    }
}

/// Words for a controller that no tree has.
pub(super) fn missing(controller: Controller) -> Error {
    Error::new(format!("no {} controller in the cgroup trees mounted here", controller.name()))
        .hint("`grep cgroup /proc/self/mountinfo` shows what there is")
}

/// Words for a controller that `dir` does not have.
pub(super) fn missing_in(controller: Controller, dir: &Path) -> Error {
    let name = controller.name();
    Error::new(format!("no {name} controller in {}", dir.display())).hint(
        "it was not passed down to this cgroup: cgroup.controllers and cgroup.subtree_control of \
         the directories above say how far it goes",
    )
}

#[cfg(test)]
mod tests;
