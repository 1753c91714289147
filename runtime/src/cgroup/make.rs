//! Making the cgroup of a container.
//!
//! The directories above its own may be anyone's (an engine's, a pod's): what is missing of them is
//! made, and stays when the container goes. Its own may be there already, if nobody is in it: it is
//! made anew then, so that it is this container's alone ([`Claim`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use super::hierarchy::{Controller, Version};
use super::{Cgroup, Claim, Dir, container, own_file, v1, v2, values, walk, write};
use crate::config::oci::Resources;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

impl Cgroup {
    /// Makes the directories, with the limits in force before anyone is inside.
    ///
    /// systemd makes a scope around a process only: then `pid` is who will be the container. It
    /// is in every cgroup when this returns. Otherwise the child joins by itself
    /// ([`Cgroup::join_paths`]), while the answer is held.
    ///
    /// # Errors
    /// A cgroup with processes in it, a frozen one, one that another holds, and what could not be
    /// made or limited. What had been made is gone again, as far as nobody else uses it.
    pub fn create_container(&self, resources: &Resources, pid: Option<i32>) -> Result<Claim> {
        if self.is_none() {
            return Ok(Claim::default());
        }
        self.check_names()?;
        if let Some(unit) = &self.unit {
            let pid = pid.ok_or_else(|| {
                Error::new(format!("make scope {}: no process to put in it", unit.name))
            })?;
            // One of this name that is there already is another's, and stays.
            unit.start(pid, self.version(), resources)?;
        }
        let (mut made, mut claim) = (Vec::new(), Claim::default());
        let result = self.make_container(resources, pid, &mut claim, &mut made);
        if result.is_err() {
            if let Some(unit) = &self.unit {
                let _ = unit.stop();
            }
            // Nobody has joined, but for the process that the scope was made for.
            for dir in made.iter().rev() {
                let _ = fs::remove_dir(dir);
            }
        }
        result.map(|()| claim)
    }

    fn make_container(
        &self,
        resources: &Resources,
        pid: Option<i32>,
        claim: &mut Claim,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        for (index, dir) in self.dirs.iter().enumerate() {
            let own = self.path(dir);
            self.take(index, claim, || make_path(Path::new(&dir.top), &own, made))?;
            self.make_ready(dir, resources)?;
        }
        self.write_values(resources)?;
        self.write_devices(resources)?;
        match pid {
            Some(pid) => self.enter(pid),
            None => Ok(()),
        }
    }

    fn make_ready(&self, dir: &Dir, resources: &Resources) -> Result<()> {
        let own = self.path(dir);
        let top = Path::new(&dir.top);
        let mut below: Vec<&Path> = own.ancestors().take_while(|path| *path != top).collect();
        below.reverse();
        match dir.version {
            Version::V1 if dir.controllers.contains(&Controller::Cpuset) => {
                below.into_iter().try_for_each(v1::inherit_cpuset)
            }
            Version::V1 => Ok(()),
            Version::V2 => {
                if self.unified_only() {
                    // From the root of what is mounted: an engine reads all the counters.
                    let mut above: Vec<&Path> = own
                        .ancestors()
                        .skip(1)
                        .take_while(|path| path.join("cgroup.subtree_control").exists())
                        .collect();
                    above.reverse();
                    above.into_iter().for_each(v2::pass_on_all);
                } else {
                    // The trees of v1 have the rest.
                    let asked: Vec<(Controller, String)> = values::asked(resources)
                        .into_iter()
                        .filter(|(controller, _)| self.place(*controller) == Some(dir))
                        .filter(|(controller, _)| *controller != Controller::Devices)
                        .collect();
                    let needed: Vec<Controller> = asked.iter().map(|(one, _)| *one).collect();
                    if !needed.is_empty() {
                        for above in std::iter::once(top).chain(below.iter().copied()) {
                            if above == own {
                                continue;
                            }
                            if let Some((lacking, what)) =
                                asked.iter().find(|(one, _)| v2::lacks(above, *one))
                            {
                                return Err(container::missing_in(*lacking, above).within(what));
                            }
                            v2::pass_on(above, &needed)?;
                        }
                    }
                }
                below.into_iter().try_for_each(|path| v2::check_kind(path, resources))
            }
        }
    }

    /// Gives what `resources` says to a cgroup that is in use; the rest stays as it is.
    ///
    /// # Errors
    /// What the kernel, or systemd, refused; what was written before stays.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if !self.is_none() {
            self.check_names()?;
        }
        for (controller, what) in values::asked(resources) {
            if self.place(controller).is_none() {
                let error = match self.is_none() {
                    true => Error::new("the container has no cgroup to limit it by")
                        .hint("none was made for it: its creator may not, or was told not to"),
                    false => container::missing(controller),
                };
                return Err(error.within(what));
            }
        }
        if let Some(unit) = &self.unit {
            unit.update(self.version(), resources)?;
        }
        self.write_values(resources)?;
        if resources.devices.is_empty() { Ok(()) } else { self.write_devices(resources) }
    }

    /// Gives what `resources` says to the cgroup of a sandbox that runs; the rest stays as it is. In the
    /// unified tree a controller that was not asked for at the start comes now.
    ///
    /// # Errors
    /// A tree of v1 that it is not in, a controller that is not to be had, and what the kernel refused.
    pub fn update_sandbox(&self, resources: &Resources) -> Result<()> {
        for (controller, what) in values::asked(resources) {
            let within = |error: Error| error.within(&what);
            let dir = self
                .place(controller)
                .filter(|dir| dir.version == Version::V2 || dir.controllers.contains(&controller));
            let Some(dir) = dir else {
                let words = format!("{} was started without a limit of this kind", self.id);
                return Err(within(Error::new(words).hint("start it again with one")));
            };
            if dir.version == Version::V2 {
                for above in [Path::new(&dir.top), &self.shared(dir)] {
                    v2::pass_on(above, &[controller]).map_err(within)?;
                }
            }
        }
        self.write_values(resources)
    }

    /// Puts process `pid` into each of the cgroups.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.join_paths().iter().try_for_each(|file| write(file, &pid.to_string()))
    }

    /// Gives the directory in the unified tree to `uid`, root in a container that has a cgroup
    /// namespace and the tree mounted writable. v1 cannot be handed to others safely.
    ///
    /// # Errors
    /// What could not be given.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        if !self.unified_only() {
            return Ok(());
        }
        self.dirs.iter().try_for_each(|dir| v2::delegate(&self.path(dir), uid))
    }

    /// How another process of one thread joins, beside the first, `init`, if there is one already:
    /// that may have moved into cgroups of the container's own making, and then the container's
    /// directory takes nobody (EBUSY, "no internal processes").
    ///
    /// # Errors
    /// When the directory in the unified tree cannot be opened.
    pub fn entrance(&self, init: Option<i32>) -> Result<Entrance> {
        let mut entrance = Entrance::default();
        for dir in &self.dirs {
            let mut own = self.path(dir);
            if dir.version == Version::V1 {
                entrance.files.push(own.join(own_file(dir.version)));
                continue;
            }
            if let Some(init) = init.filter(|_| v2::passes_on(&own))
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

    /// As [`Cgroup::entrance`], into directories below the container's own that are there already:
    /// one for all trees under the name "", or by controller; trees without one are joined at the
    /// container's own.
    ///
    /// # Errors
    /// A controller that no tree has, a path that leads elsewhere, a directory that is not there.
    pub fn entrance_below(&self, below: &BTreeMap<String, String>) -> Result<Entrance> {
        for name in below.keys().filter(|name| !name.is_empty()) {
            if !self.dirs.iter().any(|dir| dir.answers_to(name)) {
                return Err(Error::new(format!("--cgroup {name}: no tree has this controller")));
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
                Version::V1 => entrance.files.push(own.join(own_file(dir.version))),
                Version::V2 => entrance.unified = Some(opened.into()),
            }
        }
        Ok(entrance)
    }

    fn version(&self) -> Version {
        if self.unified_only() { Version::V2 } else { Version::V1 }
    }

    /// Only the unified tree is used.
    pub fn unified_only(&self) -> bool {
        self.dirs.iter().all(|dir| dir.version == Version::V2)
    }
}

impl Dir {
    fn answers_to(&self, name: &str) -> bool {
        self.controllers.iter().any(|one| one.name() == name || one.v1_name() == name)
    }
}

/// The ways into a cgroup that cost no wait for other processors, as moving a process does.
#[derive(Debug, Default)]
pub struct Entrance {
    /// The directory in the unified tree, to begin in (CLONE_INTO_CGROUP of clone(2), Linux 5.7).
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

/// Makes `path` and what is missing above it, down from `top`; adds what it made, and says whether
/// `path` was not there.
fn make_path(top: &Path, path: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    let failed =
        |error: &std::io::Error| Error::io(format!("make cgroup {}", path.display()), error);
    // Someone may remove an empty directory above in between.
    for _ in 0..100 {
        match fs::create_dir(path) {
            Ok(()) => {
                made.push(path.to_owned());
                return Ok(true);
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && path.is_dir() => {
                return Ok(false);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && path != top => {
                match path.parent() {
                    Some(above) if above != top => drop(make_path(top, above, made)?),
                    _ => return Err(failed(&error)),
                }
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(Error::os(format!("make cgroup {}", path.display()), crate::sys::Errno(libc::ENOENT)))
}
