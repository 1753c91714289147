//! What is requested of a cgroup, as values for the files of its controllers: pure. The files of
//! each generation are in [`super::v1`] and [`super::v2`]; `limit` writes them.
//!
//! Engines fill in fields even if they request nothing: 0 where 0 is not a possible limit, -1 for
//! no limit. Neither needs a controller.

use super::hierarchy::Controller;
use crate::config::LimitSource;
use crate::config::oci::{BlockIo, Cpu, Resources, ThrottleDevice};
use crate::{Error, Result};

/// A value, the file it goes to, and the config field that requested it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub field: String,
    pub file: String,
    pub value: String,
    /// Without effect where the kernel has no such file.
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

/// The controllers that are needed, each with the name of what requested it first.
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
    // Which disks are meant is known only once it is known which tree limits them.
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

/// The controllers whose files are the same in both generations; huge page limits end in `suffix`.
///
/// # Errors
/// Values that no kernel accepts.
pub(super) fn add_common(
    controller: Controller,
    resources: &Resources,
    suffix: &str,
    add: &mut dyn FnMut(Setting),
) -> Result<()> {
    match controller {
        Controller::Cpuset => {
            let lists = resources.cpu.iter().flat_map(|cpu| {
                [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
            });
            for (field, file, list) in lists {
                if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                    add(Setting::new(field, file, list));
                }
            }
        }
        Controller::Pids => match resources.pids.as_ref().and_then(|pids| pids.limit) {
            None => {}
            // 0 is a limit, too (config-linux.md, "PIDs"). The first process needs one pid, and
            // systemd does not accept less.
            Some(limit @ 0..) => add(Setting::new("pids.limit", "pids.max", limit.max(1))),
            Some(_) => add(Setting::new("pids.limit", "pids.max", "max").optional(true)),
        },
        // A limit for each size, on pages in use and, since Linux 5.7, on reserved ones.
        Controller::Hugetlb => {
            for page in &resources.hugepage_limits {
                let (field, size) = ("hugepageLimits", &page.page_size);
                if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Error::new(format!("{field}: {size:?} is not a page size"))
                        .hint("e.g. 2MB or 1GB"));
                }
                let of = |kind| format!("hugetlb.{size}{kind}{suffix}");
                add(Setting::new(field, of(""), page.limit));
                add(Setting::new(field, of(".rsvd"), page.limit).optional(true));
            }
        }
        Controller::Rdma => {
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
        _ => {}
    }
    Ok(())
}

/// The weight, in `file`. An idle cgroup accepts none, and gets the default when it is no longer
/// idle.
pub(super) fn add_weight(cpu: &Cpu, file: &str, of: fn(u64) -> u64, add: &mut dyn FnMut(Setting)) {
    let idle = cpu.idle.map(|n| Setting::new("cpu.idle", "cpu.idle", n).optional(n == 0));
    let (before, after) = if cpu.idle == Some(0) { (idle, None) } else { (None, idle) };
    let shares = cpu.shares.filter(|n| *n != 0);
    let weight = shares.map(|shares| Setting::new("cpu.shares", file, of(shares)));
    [before, weight, after].into_iter().flatten().for_each(add);
}

#[cfg(test)]
mod tests;
