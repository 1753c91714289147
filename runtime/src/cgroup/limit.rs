//! Writing limits into the files of controllers, at creation and later.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::directory::write;
use super::hierarchy::{Controller, Version};
use super::io::{block_io, memory_is_elsewhere, resolve};
use super::record::{Cgroup, Placement};
use super::setting::{Setting, asked};
use super::{subtree, v1, v2};
use crate::config::oci::{BlockIo, Resources};
use crate::config::{LimitSource, Throttle};
use crate::sys::Errno;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

impl Cgroup {
    /// Applies `resources` to a cgroup in use; everything else stays as it is. In the unified tree
    /// a controller that the sandbox was not started with is added now.
    ///
    /// # Errors
    /// A controller that is not available, or what the kernel or systemd refused; what was written
    /// before stays.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if !self.is_empty() {
            self.check_names()?;
        }
        let source = LimitSource::Config(resources);
        for (controller, words) in asked(source) {
            self.have(controller).map_err(|error| error.within(words))?;
        }
        if let Placement::Unit(unit) = &self.placement {
            unit.update(self.version(), resources)?;
        }
        self.write_settings(source)?;
        if resources.devices.is_empty() { Ok(()) } else { self.write_devices(resources) }
    }

    /// Makes sure that `controller` limits the cgroup.
    fn have(&self, controller: Controller) -> Result<()> {
        let Some(dir) = self.deciding(controller) else {
            return Err(match self.is_empty() {
                true => Error::new("the container has no cgroup, so it cannot be limited")
                    .hint("none was created for it: not permitted, or not wanted"),
                false if self.is_containers() => controller.missing(),
                false => {
                    Error::new(format!("{} was started without a limit of this kind", self.id))
                        .hint("restart it with one")
                }
            });
        };
        if dir.version == Version::V1 || self.is_containers() {
            return Ok(());
        }
        subtree::pass_on(dir.top(), &[controller])?;
        subtree::pass_on(&self.shared(dir), &[controller])
    }

    /// The limits that `throttles` mean for the disks below their paths, as in config.json.
    ///
    /// # Errors
    /// A controller that this needs does not limit the cgroup, and as for [`super::io::resolve`].
    pub fn throttles(&self, throttles: &[Throttle]) -> Result<BlockIo> {
        let version = |controller| match self.is_containers() {
            true => self.deciding(controller).map(|dir| dir.version),
            false => self.directory(controller).map(|(version, _)| version),
        };
        let without = |what: &str| {
            let id = self.id();
            Error::new(format!("the cgroup of {id} was created without the {what} controller"))
                .hint("start it with --io; with write= that also enables the memory controller in cgroup v2")
        };
        let io = version(Controller::Io).ok_or_else(|| match self.is_containers() {
            true => Controller::Io.missing(),
            false => without("io"),
        })?;
        let limits = resolve(throttles, io)?;
        let writes = throttles.iter().any(Throttle::limits_writes);
        if io == Version::V2 && writes && version(Controller::Memory) != Some(Version::V2) {
            return Err(match self.is_containers() {
                true => memory_is_elsewhere(),
                false => without("memory"),
            });
        }
        Ok(block_io(&limits))
    }

    /// The requested resources, with the disks that `--io` has found.
    fn resources<'a>(&self, source: &'a LimitSource) -> Cow<'a, Resources> {
        let mut resources = source.resources();
        if matches!(source, LimitSource::Flags(_)) && !self.disks.is_empty() {
            resources.to_mut().block_io = Some(block_io(&self.disks));
        }
        resources
    }

    /// What will be written, in order: directory, controller, and its settings.
    ///
    /// # Errors
    /// Values that no kernel accepts.
    pub(super) fn settings(
        &self,
        source: LimitSource,
    ) -> Result<Vec<(PathBuf, Controller, Vec<Setting>)>> {
        let resources = self.resources(&source);
        let mut all = Vec::new();
        for controller in Controller::ALL {
            let Some(dir) = self.deciding(controller) else { continue };
            let own = self.path(dir);
            let look = |file: &str| read_kernel(own.join(file)).ok();
            let mut settings = match dir.version {
                Version::V1 => v1::settings(controller, &resources, &look)?,
                Version::V2 => v2::settings(controller, &resources, &look)?,
            };
            if matches!(source, LimitSource::Flags(_)) {
                for setting in &mut settings {
                    // What is derived from a flag is optional; what the flag itself says is
                    // mandatory.
                    setting.optional = source.words(&setting.field, "").is_none();
                }
            }
            if !settings.is_empty() {
                all.push((own, controller, settings));
            }
        }
        Ok(all)
    }

    /// Writes every given value. What is not given stays unchanged.
    pub(super) fn write_settings(&self, source: LimitSource) -> Result<()> {
        for (own, controller, settings) in self.settings(source)? {
            write_all(&own, controller, settings, source)?;
        }
        let resources = source.resources();
        if resources.unified.is_empty() {
            return Ok(());
        }
        let (Some(dir), true) = (self.dirs.first(), self.unified_only()) else {
            return Err(Error::new("unified: requires cgroup v2 only"));
        };
        write_unified(&self.path(dir), &resources.unified)
    }
}

/// Writes the values of one controller.
///
/// A value that the kernel refuses because of another that is still to come, such as a quota
/// without its period, or less swap than memory when both go down, is retried after the others.
fn write_all(
    dir: &Path,
    controller: Controller,
    settings: Vec<Setting>,
    source: LimitSource,
) -> Result<()> {
    let mut again = Vec::new();
    for item in settings {
        match put(dir, controller, &item, source) {
            Err(error) if error.errno() == Some(Errno(libc::EINVAL)) => again.push(item),
            result => result?,
        }
    }
    again.iter().try_for_each(|item| put(dir, controller, item, source))
}

fn put(dir: &Path, controller: Controller, item: &Setting, source: LimitSource) -> Result<()> {
    let file = dir.join(&item.file);
    let error = match write(&file, &item.value) {
        Ok(()) if item.file == "cpu.shares" => return check_shares(&file, &item.value),
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let error = match error.errno().map(|errno| errno.0) {
        Some(libc::ENOENT) if item.optional => return Ok(()),
        Some(libc::ENOENT) if !dir.exists() => error,
        Some(libc::ENOENT) if subtree::lacks(dir, controller) => controller.missing_in(dir),
        Some(libc::ENOENT) if item.field == "memory.swap" => error
            .hint("this kernel has no swap accounting: boot with swapaccount=1, or leave it out"),
        Some(libc::EBUSY) if controller == Controller::Memory => {
            let now = |file: &str| read_kernel(dir.join(file)).unwrap_or_default();
            let (used, peak) = (now("memory.usage_in_bytes"), now("memory.max_usage_in_bytes"));
            error.hint(format!("current usage {}, peak {}", used.trim(), peak.trim()))
        }
        _ => error,
    };
    Err(error.within(source.words(&item.field, &item.value).unwrap_or(item.field.clone())))
}

/// The kernel accepts any number of shares, and clamps it to the nearest possible.
fn check_shares(file: &Path, asked: &str) -> Result<()> {
    match read_kernel(file) {
        Ok(taken) if taken.trim() != asked => {
            Err(Error::new(format!("cpu.shares {asked}: the kernel set {} instead", taken.trim()))
                .hint("the range is 2 to 262144"))
        }
        _ => Ok(()),
    }
}

/// Writes `linux.resources.unified`: files by name, as in the config.
fn write_unified(dir: &Path, unified: &BTreeMap<String, String>) -> Result<()> {
    for (file, value) in unified {
        let words = || format!("unified {file:?}");
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            return Err(
                Error::new(format!("{}: not a cgroup file name", words())).hint("e.g. memory.high")
            );
        }
        write(&dir.join(file), value)
            .map_err(|error| match error.errno() {
                Some(errno) if errno.0 == libc::ENOENT => {
                    let controller = file.split('.').next().unwrap_or(file);
                    error.hint(format!("{controller} is not available here or has no such file"))
                }
                _ => error,
            })
            .map_err(|error| error.within(words()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
