//! What `linux.resources` says, as values for the files of controllers: which ones are asked for
//! at all, and the way they get into the files. The files of each generation are in [`super::v1`]
//! and [`super::v2`].
//!
//! Engines fill in fields that they have nothing to say about: 0 where 0 is no possible limit,
//! -1 for no limit. Neither needs a controller.

use std::path::Path;

use super::hierarchy::{Controller, Version};
use super::{Cgroup, container, v1, v2, write};
use crate::config::oci::Resources;
use crate::sys::Errno;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// A value, the file it goes to, and the field of the config that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub field: String,
    pub file: String,
    pub value: String,
    /// It changes nothing where the kernel has no such file.
    pub optional: bool,
}

impl Value {
    pub(super) fn new(field: &str, file: impl Into<String>, value: impl ToString) -> Value {
        let (field, file, value) = (field.to_owned(), file.into(), value.to_string());
        Value { field, file, value, optional: false }
    }

    pub(super) fn optional(self, optional: bool) -> Value {
        Value { optional, ..self }
    }
}

/// The controllers that are needed, each with the words for what asked first.
pub(super) fn asked(resources: &Resources) -> Vec<(Controller, String)> {
    let mut asked: Vec<(Controller, String)> = Vec::new();
    let mut add = |controller, field: &str, value: Option<String>| {
        if let Some(value) = value
            && !asked.iter().any(|(known, _)| *known == controller)
        {
            asked.push((controller, format!("{field} {value}")));
        }
    };
    let limit = |value: Option<i64>| value.filter(|n| *n > 0).map(|n| n.to_string());
    let count = |value: Option<u64>| value.filter(|n| *n > 0).map(|n| n.to_string());
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    if let Some(memory) = &resources.memory {
        let controller = Controller::Memory;
        add(controller, "memory.limit", limit(memory.limit));
        add(controller, "memory.swap", limit(memory.swap));
        add(controller, "memory.reservation", limit(memory.reservation));
        add(controller, "memory.kernelTCP", limit(memory.kernel_tcp));
        add(controller, "memory.swappiness", memory.swappiness.map(|n| n.to_string()));
        let disabled = memory.disable_oom_killer.filter(|on| *on);
        add(controller, "memory.disableOOMKiller", disabled.map(|on| on.to_string()));
    }
    if let Some(cpu) = &resources.cpu {
        let controller = Controller::Cpu;
        add(controller, "cpu.quota", limit(cpu.quota));
        add(controller, "cpu.period", count(cpu.period));
        add(controller, "cpu.shares", count(cpu.shares));
        add(controller, "cpu.burst", count(cpu.burst));
        add(controller, "cpu.realtimeRuntime", limit(cpu.realtime_runtime));
        add(controller, "cpu.realtimePeriod", count(cpu.realtime_period));
        add(controller, "cpu.idle", limit(cpu.idle));
        add(Controller::Cpuset, "cpu.cpus", text(&cpu.cpus));
        add(Controller::Cpuset, "cpu.mems", text(&cpu.mems));
    }
    if let Some(pids) = &resources.pids {
        let number = pids.limit.filter(|n| *n >= 0).map(|n| n.to_string());
        add(Controller::Pids, "pids.limit", number);
    }
    if let Some(io) = &resources.block_io {
        let controller = Controller::Io;
        add(controller, "blockIO.weight", count(io.weight.map(u64::from)));
        add(controller, "blockIO.leafWeight", count(io.leaf_weight.map(u64::from)));
        let device = io.weight_device.first().map(|d| format!("{}:{}", d.major, d.minor));
        add(controller, "blockIO.weightDevice", device);
        for (field, _, _, rates) in throttles(io) {
            let rate = rates.first().map(|d| format!("{}:{} {}", d.major, d.minor, d.rate));
            add(controller, field, rate);
        }
    }
    for page in &resources.hugepage_limits {
        let words = format!("{} {}", page.page_size, page.limit);
        add(Controller::Hugetlb, "hugepageLimits", Some(words));
    }
    if let Some(network) = &resources.network {
        add(Controller::NetCls, "network.classID", count(network.class_id.map(u64::from)));
        let first = network.priorities.first().map(|p| format!("{} {}", p.name, p.priority));
        add(Controller::NetPrio, "network.priorities", first);
    }
    add(Controller::Rdma, "rdma", resources.rdma.keys().next().cloned());
    asked
}

/// The four kinds of throttles: field, v1 file, key of v2's io.max, devices.
pub(super) fn throttles(
    io: &crate::config::oci::BlockIo,
) -> [(&'static str, &'static str, &'static str, &[crate::config::oci::ThrottleDevice]); 4] {
    [
        (
            "blockIO.throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            &io.throttle_read_bps_device,
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            &io.throttle_write_bps_device,
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            &io.throttle_read_iops_device,
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            &io.throttle_write_iops_device,
        ),
    ]
}

impl Cgroup {
    /// Writes every given value. What is not given stays as it is.
    pub(super) fn write_values(&self, resources: &Resources) -> Result<()> {
        for controller in Controller::ALL {
            let Some(dir) = self.place(controller) else { continue };
            let own = self.path(dir);
            let look = |file: &str| read_kernel(own.join(file)).ok();
            let values = match dir.version {
                Version::V1 => v1::values(controller, resources, &look)?,
                Version::V2 => v2::values(controller, resources, &look)?,
            };
            write_all(&own, controller, values)?;
        }
        if resources.unified.is_empty() {
            return Ok(());
        }
        let dir = self.dirs.iter().find(|dir| dir.version == Version::V2);
        let unified_only = self.dirs.iter().all(|dir| dir.version == Version::V2);
        let (Some(dir), true) = (dir, unified_only) else {
            return Err(Error::new("unified: needs the unified cgroup tree, and no other"));
        };
        v2::write_unified(&self.path(dir), &resources.unified)
    }
}

/// Writes the values of one controller.
///
/// What the kernel refuses because of another value that is still to come, as a quota without its
/// period, or less swap than memory when both go down, is written again after the others.
fn write_all(dir: &Path, controller: Controller, values: Vec<Value>) -> Result<()> {
    let mut again = Vec::new();
    for item in values {
        match put(dir, controller, &item) {
            Err(error) if error.errno() == Some(Errno(libc::EINVAL)) => again.push(item),
            result => result?,
        }
    }
    again.iter().try_for_each(|item| put(dir, controller, item))
}

fn put(dir: &Path, controller: Controller, item: &Value) -> Result<()> {
    let file = dir.join(&item.file);
    let error = match write(&file, &item.value) {
        Ok(()) if item.file == "cpu.shares" => return check_shares(&file, &item.value),
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let words = format!("{} {}", item.field, item.value);
    let error = match error.errno().map(|errno| errno.0) {
        Some(libc::ENOENT) if item.optional => return Ok(()),
        Some(libc::ENOENT) if !dir.exists() => error,
        Some(libc::ENOENT) if v2::lacks(dir, controller) => container::missing_in(controller, dir),
        Some(libc::ENOENT) if item.field == "memory.swap" => error
            .hint("this kernel does not account swap: boot with swapaccount=1, or leave it out"),
        Some(libc::EBUSY) if controller == Controller::Memory => {
            let now = |file: &str| read_kernel(dir.join(file)).unwrap_or_default();
            let (used, peak) = (now("memory.usage_in_bytes"), now("memory.max_usage_in_bytes"));
            error.hint(format!("in use now: {}, at most so far: {}", used.trim(), peak.trim()))
        }
        _ => error,
    };
    Err(error.within(words))
}

/// The kernel takes any number of shares, and makes the nearest that it can have of it.
fn check_shares(file: &Path, asked: &str) -> Result<()> {
    match read_kernel(file) {
        Ok(taken) if taken.trim() != asked => {
            Err(Error::new(format!("cpu.shares {asked}: the kernel made {} of it", taken.trim()))
                .hint("2 to 262144 are possible"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
