//! Creating a cgroup: its directories, in each tree, with the limits applied before a process is
//! inside.
//!
//! The directories above its own may belong to others (all sandboxes, an engine, a pod): missing
//! ones are created. Its own may exist already, if no process is in it: it is then recreated, so
//! that it is the owner's alone ([`Claim`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::claim::Claim;
use super::directory::write;
use super::hierarchy::{Controller, Version};
use super::record::{Cgroup, Dir, Placement};
use super::setting::asked;
use super::{ground, subtree};
use crate::config::LimitSource;
use crate::sys::Errno;
use crate::{Error, Result};

impl Cgroup {
    /// Creates the directories and writes the limits. A process joins afterwards, by itself
    /// ([`Cgroup::join_paths`]), while the returned claim is held.
    ///
    /// systemd creates a scope only around a process: then `pid` is that process, and it is in
    /// every cgroup when this returns.
    ///
    /// # Errors
    /// A cgroup that has processes in it, is frozen or held by another, or what cannot be created
    /// or limited. What was created is removed again, unless another uses it.
    pub(super) fn make(&self, source: LimitSource, pid: Option<i32>) -> Result<Claim> {
        if self.is_empty() {
            return Ok(Claim::default());
        }
        self.check_names()?;
        // An existing unit of this name belongs to another, and stays.
        match (&self.placement, pid) {
            (Placement::Scope(unit), Some(pid)) => unit.start_beside(pid, &self.id)?,
            (Placement::Unit(unit), Some(pid)) => {
                unit.start(pid, self.version(), &source.resources())?;
            }
            (Placement::Scope(unit) | Placement::Unit(unit), None) => {
                let what = format!("create scope {}: no process to put in it", unit.name);
                return Err(Error::new(what));
            }
            _ => {}
        }
        let (mut made, mut claim) = (Vec::new(), Claim::default());
        let result = self.make_directories(source, pid, &mut claim, &mut made);
        if result.is_err() {
            if let Placement::Unit(unit) = &self.placement {
                let _ = unit.stop();
            }
            // No process has joined yet, except the one that a scope was created for.
            for dir in made.iter().rev() {
                let _ = fs::remove_dir(dir);
            }
            self.leave_shared();
        }
        result.map(|()| claim)
    }

    fn make_directories(
        &self,
        source: LimitSource,
        pid: Option<i32>,
        claim: &mut Claim,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        for (index, dir) in self.dirs.iter().enumerate() {
            let own = self.path(dir);
            let mut new = false;
            let taken = self.take(index, claim, || {
                new = make_path(dir.top(), &own, made)?;
                Ok(new)
            });
            if let Err(error) = taken {
                // What was there at the last check belongs to another now, or always did.
                made.retain(|path| new || *path != own);
                return Err(error);
            }
            match dir.version {
                Version::V1 if dir.controllers.contains(&Controller::Cpuset) => {
                    self.below_top(dir)
                        .iter()
                        .try_for_each(|path| subtree::inherit_cpuset(path))?;
                }
                Version::V1 => {}
                Version::V2 => self.make_ready(dir, source, pid)?,
            }
        }
        self.write_settings(source)?;
        if self.is_containers() {
            self.write_devices(&source.resources())?;
        }
        pid.map_or(Ok(()), |pid| self.enter(pid))
    }

    /// Its directories in one tree, from the outermost to its own.
    fn below_top(&self, dir: &Dir) -> Vec<PathBuf> {
        let own = self.path(dir);
        let below = own.ancestors().take_while(|path| *path != dir.top());
        let mut below: Vec<PathBuf> = below.map(Path::to_owned).collect();
        below.reverse();
        below
    }

    /// Passes controllers down to its directory in the unified tree.
    fn make_ready(&self, dir: &Dir, source: LimitSource, pid: Option<i32>) -> Result<()> {
        let own = self.path(dir);
        // A cgroup with processes in it cannot pass controllers on.
        match (&self.placement, pid) {
            (Placement::Scope(_), Some(pid)) => {
                write(&own.join("cgroup.procs"), &pid.to_string())?;
            }
            (Placement::Delegated, _) => ground::vacate(dir.top())?,
            _ => {}
        }
        let below = self.below_top(dir);
        if self.is_containers() && self.unified_only() {
            // From the root of the mounted tree: an engine reads all the counters.
            let above = own.ancestors().skip(1);
            let above = above.take_while(|path| path.join("cgroup.subtree_control").exists());
            let above: Vec<&Path> = above.collect();
            above.into_iter().rev().for_each(subtree::pass_on_all);
        } else {
            let asked = self.needed(dir, source);
            let needed: Vec<Controller> = asked.iter().map(|(one, _)| *one).collect();
            let above = below.iter().map(PathBuf::as_path).filter(|path| *path != own);
            let above = std::iter::once(dir.top()).chain(above);
            for above in above.filter(|_| !needed.is_empty()) {
                subtree::pass_on(above, &needed).map_err(|error| {
                    let lacking = asked.iter().find(|(one, _)| subtree::lacks(above, *one));
                    match lacking {
                        Some((one, words)) => one.missing_in(above).within(words),
                        None => error,
                    }
                })?;
            }
        }
        match self.is_containers() {
            true => below.iter().try_for_each(|path| subtree::check_kind(path, source)),
            false => Ok(()),
        }
    }

    /// The controllers that `dir` must have, with what requested them. A container finds the others
    /// in the v1 trees.
    fn needed(&self, dir: &Dir, source: LimitSource) -> Vec<(Controller, String)> {
        let asked = asked(source).into_iter();
        if self.is_containers() {
            let here = asked.filter(|(one, _)| self.deciding(*one) == Some(dir));
            return here.filter(|(one, _)| *one != Controller::Devices).collect();
        }
        let asked: Vec<_> = asked.collect();
        let words = |one: &Controller| {
            let said = asked.iter().find(|(known, _)| known == one);
            said.map_or_else(|| one.name().to_owned(), |(_, words)| words.clone())
        };
        dir.controllers.iter().map(|one| (*one, words(one))).collect()
    }
}

/// Creates `path` and its missing ancestors below `top`; adds what it created to `made`, and
/// returns whether `path` was missing.
fn make_path(top: &Path, path: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    let failed =
        |error: &std::io::Error| Error::io(format!("create cgroup {}", path.display()), error);
    // An empty ancestor may be removed in between, such as the one that all sandboxes share.
    for _ in 0..100 {
        match fs::create_dir(path) {
            Ok(()) => {
                made.push(path.to_owned());
                return Ok(true);
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && path.is_dir() => {
                return Ok(false);
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !path.exists() => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && path != top => {
                match path.parent() {
                    Some(above) if above != top => drop(make_path(top, above, made)?),
                    _ => return Err(failed(&error)),
                }
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(Error::os(format!("create cgroup {}", path.display()), Errno(libc::ENOENT)))
}
