//! Limits in the v1 trees, one tree a controller (Documentation/admin-guide/cgroup-v1).

use std::path::{Path, PathBuf};

use super::values::{Value, throttles};
use super::{Controller, Write, write};
use crate::config::limits::{CPU_PERIOD, Limits};
use crate::config::oci::Resources;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// What goes into the files of a new cgroup that has `controllers`, in this order.
pub(super) fn writes(dir: &Path, controllers: &[Controller], limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut add = |file: &str, value: String, optional| {
        writes.push(Write { file: dir.join(file), value, optional });
    };
    for controller in controllers {
        match controller {
            Controller::Memory => {
                // Memory first: the sum may never be below it, and both start without a limit.
                if let Some(memory) = limits.memory {
                    add("memory.limit_in_bytes", memory.0.to_string(), false);
                }
                if let Some(sum) = limits.memory_and_swap() {
                    // Absent where the kernel does not account swap (swapaccount=0).
                    add("memory.memsw.limit_in_bytes", sum.0.to_string(), limits.swap.is_none());
                }
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    add("cpu.cfs_period_us", CPU_PERIOD.to_string(), false);
                    add("cpu.cfs_quota_us", quota.to_string(), false);
                }
            }
            Controller::Cpuset => {
                if let Some(cpuset) = &limits.cpuset {
                    add("cpuset.cpus", cpuset.clone(), false);
                }
            }
            Controller::Pids => {
                if let Some(pids) = limits.pids {
                    add("pids.max", pids.to_string(), false);
                }
            }
            _ => {}
        }
    }
    writes
}

/// A new v1 cpuset is empty, and no process can join an empty one (ENOSPC): it gets what the
/// directory above it has (cpuset(7)).
pub(super) fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        let read = |path: &PathBuf| {
            read_kernel(path).map_err(|error| Error::io(format!("read {}", path.display()), &error))
        };
        if read(&own)?.trim().is_empty() {
            let above = dir.parent().unwrap_or(dir).join(file);
            write(&own, read(&above)?.trim())?;
        }
    }
    Ok(())
}

/// What `resources` says about `controller`.
///
/// # Errors
/// Values that no kernel takes.
pub(super) fn values(
    controller: Controller,
    resources: &Resources,
    look: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let mut add = |value: Value| values.push(value);
    match (controller, resources) {
        (Controller::Memory, Resources { memory: Some(memory), .. }) => {
            let limit = memory.limit.filter(|n| *n != 0);
            // No limit of memory alone is none: the sum with swap would still be one.
            let unlimited = (limit == Some(-1)).then_some(-1);
            let asked = memory.swap.filter(|n| *n != 0);
            if let Some(limit) = limit {
                add(Value::new("memory.limit", "memory.limit_in_bytes", limit));
            }
            if let Some(swap) = asked.or(unlimited) {
                // Without swap there is nothing to limit, or to lift.
                let optional = swap == -1 || asked == limit;
                add(Value::new("memory.swap", "memory.memsw.limit_in_bytes", swap)
                    .optional(optional));
            }
            if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
                let file = "memory.soft_limit_in_bytes";
                add(Value::new("memory.reservation", file, reservation));
            }
            // memory.kernel is deprecated, and its file takes nothing since Linux 6.1.
            if let Some(tcp) = memory.kernel_tcp.filter(|n| *n != 0) {
                add(Value::new("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", tcp)
                    .optional(tcp == -1));
            }
            if let Some(swappiness) = memory.swappiness {
                check_swappiness(swappiness)?;
                add(Value::new("memory.swappiness", "memory.swappiness", swappiness));
            }
            if memory.disable_oom_killer == Some(true) {
                add(Value::new("memory.disableOOMKiller", "memory.oom_control", 1));
            }
            if memory.use_hierarchy == Some(true)
                && look("memory.use_hierarchy").is_some_and(|now| now.trim() != "1")
            {
                add(Value::new("memory.useHierarchy", "memory.use_hierarchy", 1));
            }
        }
        (Controller::Cpu, Resources { cpu: Some(cpu), .. }) => {
            let count = |value: Option<u64>| value.filter(|n| *n != 0);
            // An idle cgroup takes no shares, and gets the default ones when it is no longer idle.
            let idle = cpu.idle.map(|n| Value::new("cpu.idle", "cpu.idle", n).optional(n == 0));
            let (before, after) = if cpu.idle == Some(0) { (idle, None) } else { (None, idle) };
            before.into_iter().for_each(&mut add);
            if let Some(shares) = count(cpu.shares) {
                add(Value::new("cpu.shares", "cpu.shares", shares));
            }
            after.into_iter().for_each(&mut add);
            // Real-time limits first: a real-time process cannot join without.
            if let Some(period) = count(cpu.realtime_period) {
                add(Value::new("cpu.realtimePeriod", "cpu.rt_period_us", period));
            }
            if let Some(runtime) = cpu.realtime_runtime.filter(|n| *n != 0) {
                add(Value::new("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime));
            }
            if let Some(period) = count(cpu.period) {
                add(Value::new("cpu.period", "cpu.cfs_period_us", period));
            }
            if let Some(quota) = cpu.quota.filter(|n| *n != 0) {
                add(Value::new("cpu.quota", "cpu.cfs_quota_us", quota));
            }
            if let Some(burst) = cpu.burst {
                let file = "cpu.cfs_burst_us";
                add(Value::new("cpu.burst", file, burst).optional(burst == 0));
            }
        }
        (Controller::Cpuset, Resources { cpu: Some(cpu), .. }) => {
            let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
            if let Some(cpus) = text(&cpu.cpus) {
                add(Value::new("cpu.cpus", "cpuset.cpus", cpus));
            }
            if let Some(mems) = text(&cpu.mems) {
                add(Value::new("cpu.mems", "cpuset.mems", mems));
            }
        }
        (Controller::Pids, Resources { pids: Some(pids), .. }) => {
            add_pids(pids.limit, &mut add);
        }
        (Controller::Io, Resources { block_io: Some(io), .. }) => {
            // The scheduler bfq has files of its own, and so had cfq until Linux 5.0.
            let prefix = if look("blkio.weight").is_none() && look("blkio.bfq.weight").is_some() {
                "blkio.bfq"
            } else {
                "blkio"
            };
            if let Some(weight) = io.weight.filter(|n| *n != 0) {
                add(Value::new("blockIO.weight", format!("{prefix}.weight"), weight));
            }
            if let Some(weight) = io.leaf_weight.filter(|n| *n != 0) {
                add(Value::new("blockIO.leafWeight", format!("{prefix}.leaf_weight"), weight));
            }
            for device in &io.weight_device {
                for (weight, field, file) in [
                    (device.weight, "weight", "weight_device"),
                    (device.leaf_weight, "leafWeight", "leaf_weight_device"),
                ] {
                    if let Some(weight) = weight.filter(|n| *n != 0) {
                        let field = format!("blockIO.weightDevice.{field}");
                        let value = format!("{}:{} {weight}", device.major, device.minor);
                        add(Value::new(&field, format!("{prefix}.{file}"), value));
                    }
                }
            }
            for (field, file, _, rates) in throttles(io) {
                for device in rates {
                    let value = format!("{}:{} {}", device.major, device.minor, device.rate);
                    add(Value::new(field, file, value));
                }
            }
        }
        (Controller::Hugetlb, _) => {
            add_hugepages(resources, ".limit_in_bytes", &mut add)?;
        }
        (Controller::NetCls, Resources { network: Some(network), .. }) => {
            if let Some(class) = network.class_id.filter(|n| *n != 0) {
                add(Value::new("network.classID", "net_cls.classid", class));
            }
        }
        (Controller::NetPrio, Resources { network: Some(network), .. }) => {
            for item in &network.priorities {
                let value = format!("{} {}", item.name, item.priority);
                add(Value::new("network.priorities", "net_prio.ifpriomap", value));
            }
        }
        (Controller::Rdma, _) => add_rdma(resources, &mut add),
        _ => {}
    }
    Ok(values)
}

/// 0 is a limit, too (config-linux.md, "PIDs").
pub(super) fn add_pids(limit: Option<i64>, add: &mut dyn FnMut(Value)) {
    match limit {
        None => {}
        // The first process needs one; systemd takes no less, either.
        Some(limit @ 0..) => add(Value::new("pids.limit", "pids.max", limit.max(1))),
        Some(_) => add(Value::new("pids.limit", "pids.max", "max").optional(true)),
    }
}

/// A limit for each size, on pages in use and, since Linux 5.7, on those that are reserved.
pub(super) fn add_hugepages(
    resources: &Resources,
    suffix: &str,
    add: &mut dyn FnMut(Value),
) -> Result<()> {
    for page in &resources.hugepage_limits {
        let size = &page.page_size;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::new(format!("hugepageLimits: {size:?} is not a size of pages"))
                .hint("as in 2MB or 1GB"));
        }
        let field = "hugepageLimits";
        add(Value::new(field, format!("hugetlb.{size}{suffix}"), page.limit));
        add(Value::new(field, format!("hugetlb.{size}.rsvd{suffix}"), page.limit).optional(true));
    }
    Ok(())
}

/// A line for each device, the same in both generations.
pub(super) fn add_rdma(resources: &Resources, add: &mut dyn FnMut(Value)) {
    for (device, limits) in &resources.rdma {
        let mut value = device.clone();
        if let Some(handles) = limits.hca_handles {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            value += &format!(" hca_object={objects}");
        }
        add(Value::new("rdma", "rdma.max", value));
    }
}

fn check_swappiness(swappiness: u64) -> Result<()> {
    if swappiness > 100 {
        return Err(Error::new(format!("memory.swappiness {swappiness}: not between 0 and 100")));
    }
    Ok(())
}
