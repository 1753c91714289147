//! Where the cgroup of a container is: what config.json says of it, in the trees of this machine.
//!
//! A container is in every tree there is, at the same path in each, limits or not: engines read
//! their figures there, and /proc/PID/cgroup leads to the container and not to its caller.
//!
//! - `/a/b` counts from where a tree is mounted, `a/b` from the cgroup of the caller; where only
//!   the unified tree is mounted, from the one above the caller's, because the caller is in its
//!   own and so nothing can be passed on from there. Nothing given is the id, which is relative.
//! - `..` is taken out of the path first, as `chroot` does it: no path leads above its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hierarchy::{self, Controller, Hierarchy, MountedTree, Version};
use super::record::{Cgroup, Dir, Placement};
use super::setting::asked;
use super::systemd::Unit;
use crate::config::{LimitSource, oci};
use crate::sys::Errno;
use crate::{Error, Result};

/// What makes the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Garth, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, asked over its bus for a scope (`--systemd-cgroup`).
    Systemd,
    /// Nothing: the container stays where its caller is.
    Disabled,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// What makes it.
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
    let mut cgroup = Cgroup { placement: Placement::Named, ..Cgroup::default() };
    let mut refused = Vec::new();
    if wanted.driver != Driver::Disabled {
        let unified_only = host.unified_only();
        let from_top = match wanted.driver {
            Driver::Systemd => {
                let Wanted { id, cgroups_path, annotations, rootless, .. } = *wanted;
                let unit = Unit::choose(id, cgroups_path, annotations, rootless)?;
                cgroup.set_path(&unit.path)?;
                cgroup.placement = Placement::Unit(unit);
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
            return Err(Error::new(format!("cgroupsPath {path:?}: the root cgroup"))
                .hint("a container needs a cgroup of its own: name a directory"));
        };
        (self.id, self.parent) = ((*own).to_owned(), above.join("/"));
        self.check_names().map_err(|error| error.within(format_args!("cgroupsPath {path:?}")))
    }

    /// Why the directory cannot be made by the caller, if it is a matter of permission.
    fn refused(&self, dir: &Dir, mount: &MountedTree) -> Option<Error> {
        let own = self.path(dir);
        let there = own.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new(&mount.point));
        let closest = there.to_string_lossy();
        // The process comes from the caller's cgroup: in the unified tree the directory above both
        // must be the caller's to write, too (cgroups(7), "delegation containment").
        let from = PathBuf::from(format!("{}{}", mount.point, mount.own.as_deref().unwrap_or("")));
        let both = from.ancestors().find(|path| own.starts_with(path));
        let both = both.filter(|path| {
            // systemd moves it itself.
            !self.is_scope() && dir.version == Version::V2 && path.starts_with(&mount.point)
        });
        let move_in = both.map(|path| path.join("cgroup.procs").to_string_lossy().into_owned());
        let files = [closest.to_string(), format!("{closest}/cgroup.procs")];
        for path in files.into_iter().chain(move_in) {
            let result = match mount.read_only {
                true => Err(Errno(libc::EROFS)),
                false => hierarchy::writable(&path),
            };
            if let Err(errno @ Errno(libc::EACCES | libc::EPERM | libc::EROFS)) = result {
                return Some(Error::os(
                    format!("create cgroup {}: write to {}", own.display(), path),
                    errno,
                ));
            }
        }
        None
    }

    /// Each limit has its controller, as far as can be told before the directories are there.
    fn check_controllers(&self, wanted: &Wanted, refused: Vec<(Dir, Error)>) -> Result<()> {
        for (controller, what) in asked(LimitSource::Config(wanted.resources)) {
            // Devices cannot be had without privilege, and their nodes neither.
            if controller == Controller::Devices && (wanted.rootless || self.dirs.is_empty()) {
                continue;
            }
            if self.deciding(controller).is_some() {
                continue;
            }
            // The tree that would decide.
            let has = |(dir, _): &&(Dir, Error)| dir.controllers.contains(&controller);
            let refused = refused.iter().find(has).or(refused.last()).map(|(_, error)| error);
            let error = match refused {
                _ if wanted.driver == Driver::Disabled => {
                    Error::new("cgroups are disabled, so limits cannot be set")
                }
                Some(error) => error.clone().hint("without root, limits need a delegated cgroup"),
                None => controller.missing(),
            };
            return Err(error.within(what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
