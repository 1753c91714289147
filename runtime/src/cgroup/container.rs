//! Where the cgroup of a container is: what config.json says, mapped to the trees of this machine.
//!
//! A container is in every tree, at the same path in each, with limits or without: engines read
//! their figures there, and /proc/PID/cgroup leads to the container and not to its caller.
//!
//! - `/a/b` is relative to the mount point of a tree, `a/b` to the cgroup of the caller; where only
//!   the unified tree is mounted, to the parent of the caller's cgroup, because the caller's own
//!   has processes and so cannot pass controllers on. The default is the id, which is relative.
//! - `..` is resolved first, as under `chroot`: no path leads above its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hierarchy::{self, Controller, Hierarchy, MountedTree, Version};
use super::record::{Cgroup, Dir, Placement};
use super::setting::asked;
use super::systemd::Unit;
use crate::config::{LimitSource, oci};
use crate::sys::Errno;
use crate::{Error, Result};

/// What creates the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Garth, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, which is asked over its bus for a scope (`--systemd-cgroup`).
    Systemd,
    /// Nothing: the container stays in its caller's cgroup.
    Disabled,
}

/// What is requested.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// What creates it.
    pub driver: Driver,
    /// Where the cgroup may not be created and nothing is limited, the container goes without one.
    pub rootless: bool,
    /// `linux.resources`.
    pub resources: &'a oci::Resources,
    /// `annotations`: those with the prefix `org.systemd.property.` are for systemd.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Finds the directories. Creates nothing.
///
/// # Errors
/// An invalid path, or a limit without a controller for it.
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

    /// Why the caller cannot create the directory, if for lack of permission.
    fn refused(&self, dir: &Dir, mount: &MountedTree) -> Option<Error> {
        let own = self.path(dir);
        let there = own.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new(&mount.point));
        let closest = there.to_string_lossy();
        // The process comes from the caller's cgroup: in the unified tree the common ancestor must
        // be writable for the caller, too (cgroups(7), "delegation containment").
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

    /// Checks that each limit has its controller, as far as that shows before the directories
    /// exist.
    fn check_controllers(&self, wanted: &Wanted, refused: Vec<(Dir, Error)>) -> Result<()> {
        for (controller, what) in asked(LimitSource::Config(wanted.resources)) {
            // Neither device rules nor device nodes are possible without privilege.
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
