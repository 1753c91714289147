//! Limits in the v1 trees, one tree per controller (Documentation/admin-guide/cgroup-v1).

use super::hierarchy::Controller;
use super::setting::{Setting, add_common, add_weight, throttles};
use crate::config::oci::Resources;
use crate::{Error, Result};

/// What `resources` says about `controller`.
///
/// # Errors
/// Values that no kernel accepts.
pub(super) fn settings(
    controller: Controller,
    resources: &Resources,
    look: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut add = |setting: Setting| settings.push(setting);
    match (controller, resources) {
        (Controller::Memory, Resources { memory: Some(memory), .. }) => {
            let limit = memory.limit.filter(|n| *n != 0);
            // Lifting the memory limit alone is not enough: the limit on memory+swap would remain.
            let unlimited = (limit == Some(-1)).then_some(-1);
            let asked = memory.swap.filter(|n| *n != 0);
            if let Some(limit) = limit {
                add(Setting::new("memory.limit", "memory.limit_in_bytes", limit));
            }
            if let Some(swap) = asked.or(unlimited) {
                // Without swap there is nothing to limit, or to lift.
                let optional = swap == -1 || asked == limit;
                add(Setting::new("memory.swap", "memory.memsw.limit_in_bytes", swap)
                    .optional(optional));
            }
            if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
                let file = "memory.soft_limit_in_bytes";
                add(Setting::new("memory.reservation", file, reservation));
            }
            // memory.kernel is deprecated, and its file accepts nothing since Linux 6.1.
            if let Some(tcp) = memory.kernel_tcp.filter(|n| *n != 0) {
                add(Setting::new("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", tcp)
                    .optional(tcp == -1));
            }
            if let Some(swappiness) = memory.swappiness {
                check_swappiness(swappiness)?;
                add(Setting::new("memory.swappiness", "memory.swappiness", swappiness));
            }
            if memory.disable_oom_killer == Some(true) {
                add(Setting::new("memory.disableOOMKiller", "memory.oom_control", 1));
            }
            if memory.use_hierarchy == Some(true)
                && look("memory.use_hierarchy").is_some_and(|now| now.trim() != "1")
            {
                add(Setting::new("memory.useHierarchy", "memory.use_hierarchy", 1));
            }
        }
        (Controller::Cpu, Resources { cpu: Some(cpu), .. }) => {
            let count = |value: Option<u64>| value.filter(|n| *n != 0);
            add_weight(cpu, "cpu.shares", |shares| shares, &mut add);
            // Real-time limits first: a real-time process cannot join without them.
            if let Some(period) = count(cpu.realtime_period) {
                add(Setting::new("cpu.realtimePeriod", "cpu.rt_period_us", period));
            }
            if let Some(runtime) = cpu.realtime_runtime.filter(|n| *n != 0) {
                add(Setting::new("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime));
            }
            if let Some(period) = count(cpu.period) {
                add(Setting::new("cpu.period", "cpu.cfs_period_us", period));
            }
            if let Some(quota) = cpu.quota.filter(|n| *n != 0) {
                add(Setting::new("cpu.quota", "cpu.cfs_quota_us", quota));
            }
            if let Some(burst) = cpu.burst {
                let file = "cpu.cfs_burst_us";
                add(Setting::new("cpu.burst", file, burst).optional(burst == 0));
            }
        }
        (Controller::Io, Resources { block_io: Some(io), .. }) => {
            // The scheduler bfq has files of its own, as cfq had until Linux 5.0.
            let weighs = io.weight.or(io.leaf_weight).is_some() || !io.weight_device.is_empty();
            let bfq = || look("blkio.weight").is_none() && look("blkio.bfq.weight").is_some();
            let prefix = if weighs && bfq() { "blkio.bfq" } else { "blkio" };
            if let Some(weight) = io.weight.filter(|n| *n != 0) {
                add(Setting::new("blockIO.weight", format!("{prefix}.weight"), weight));
            }
            if let Some(weight) = io.leaf_weight.filter(|n| *n != 0) {
                add(Setting::new("blockIO.leafWeight", format!("{prefix}.leaf_weight"), weight));
            }
            for device in &io.weight_device {
                for (weight, field, file) in [
                    (device.weight, "weight", "weight_device"),
                    (device.leaf_weight, "leafWeight", "leaf_weight_device"),
                ] {
                    if let Some(weight) = weight.filter(|n| *n != 0) {
                        let field = format!("blockIO.weightDevice.{field}");
                        let value = format!("{}:{} {weight}", device.major, device.minor);
                        add(Setting::new(&field, format!("{prefix}.{file}"), value));
                    }
                }
            }
            for (field, file, _, rates) in throttles(io) {
                for device in rates {
                    let value = format!("{}:{} {}", device.major, device.minor, device.rate);
                    add(Setting::new(field, file, value));
                }
            }
        }
        (Controller::NetCls, Resources { network: Some(network), .. }) => {
            if let Some(class) = network.class_id.filter(|n| *n != 0) {
                add(Setting::new("network.classID", "net_cls.classid", class));
            }
        }
        (Controller::NetPrio, Resources { network: Some(network), .. }) => {
            for item in &network.priorities {
                let value = format!("{} {}", item.name, item.priority);
                add(Setting::new("network.priorities", "net_prio.ifpriomap", value));
            }
        }
        _ => add_common(controller, resources, ".limit_in_bytes", &mut add)?,
    }
    Ok(settings)
}

fn check_swappiness(swappiness: u64) -> Result<()> {
    if swappiness > 100 {
        return Err(Error::new(format!("memory.swappiness {swappiness}: not between 0 and 100")));
    }
    Ok(())
}
