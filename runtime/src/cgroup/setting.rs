//! What is asked of a cgroup, as values for the files of its controllers: pure. The files of each
//! generation are in [`super::v1`] and [`super::v2`]; `limit` writes them.
//!
//! Engines fill in fields that they have nothing to say about: 0 where 0 is no possible limit,
//! -1 for no limit. Neither needs a controller.

use super::hierarchy::Controller;
use crate::config::LimitSource;
use crate::config::oci::{BlockIo, Resources, ThrottleDevice};
use crate::{Error, Result};

/// A value, the file it goes to, and the field of the config that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub field: String,
    pub file: String,
    pub value: String,
    /// It changes nothing where the kernel has no such file.
    pub optional: bool,
}

impl Setting {
    pub(super) fn new(field: &str, file: impl Into<String>, value: impl ToString) -> Setting {
        let (field, file, value) = (field.to_owned(), file.into(), value.to_string());
        Setting { field, file, value, optional: false }
    }

    pub(super) fn optional(self, optional: bool) -> Setting {
        Setting { optional, ..self }
    }
}

/// The controllers that are needed, each with the words for what asked first.
pub(super) fn asked(source: LimitSource) -> Vec<(Controller, String)> {
    let resources = &*source.resources();
    let mut asked: Vec<(Controller, String)> = Vec::new();
    let mut add = |controller, field: &str, value: Option<String>| {
        if let Some(value) = value
            && !asked.iter().any(|(known, _)| *known == controller)
            && let Some(words) = source.words(field, &value)
        {
            asked.push((controller, words));
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
    // Which disks are meant shows when it is known which tree limits them.
    if let LimitSource::Flags(limits) = source
        && let Some(first) = limits.io.first()
    {
        asked.push((Controller::Io, format!("--io {}", first.path.display())));
    }
    asked
}

/// The four kinds of throttles: field, v1 file, key of v2's io.max, devices.
pub(super) fn throttles(
    io: &BlockIo,
) -> [(&'static str, &'static str, &'static str, &[ThrottleDevice]); 4] {
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

/// 0 is a limit, too (config-linux.md, "PIDs").
pub(super) fn add_pids(limit: Option<i64>, add: &mut dyn FnMut(Setting)) {
    match limit {
        None => {}
        // The first process needs one; systemd takes no less, either.
        Some(limit @ 0..) => add(Setting::new("pids.limit", "pids.max", limit.max(1))),
        Some(_) => add(Setting::new("pids.limit", "pids.max", "max").optional(true)),
    }
}

/// A limit for each size, on pages in use and, since Linux 5.7, on those that are reserved.
pub(super) fn add_hugepages(
    resources: &Resources,
    suffix: &str,
    add: &mut dyn FnMut(Setting),
) -> Result<()> {
    for page in &resources.hugepage_limits {
        let size = &page.page_size;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::new(format!("hugepageLimits: {size:?} is not a size of pages"))
                .hint("as in 2MB or 1GB"));
        }
        let field = "hugepageLimits";
        add(Setting::new(field, format!("hugetlb.{size}{suffix}"), page.limit));
        add(Setting::new(field, format!("hugetlb.{size}.rsvd{suffix}"), page.limit).optional(true));
    }
    Ok(())
}

/// A line for each device, the same in both generations.
pub(super) fn add_rdma(resources: &Resources, add: &mut dyn FnMut(Setting)) {
    for (device, limits) in &resources.rdma {
        let mut value = device.clone();
        if let Some(handles) = limits.hca_handles {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            value += &format!(" hca_object={objects}");
        }
        add(Setting::new("rdma", "rdma.max", value));
    }
}

#[cfg(test)]
mod tests;
