//! Limits in the unified tree (Documentation/admin-guide/cgroup-v2).

use super::hierarchy::Controller;
use super::setting::{Setting, add_common, add_weight, throttles};
use crate::config::limits::CPU_PERIOD;
use crate::config::oci::{BlockIo, Memory, Resources};
use crate::{Error, Result};

/// What `resources` says about `controller`; `look` reads a file of the cgroup.
///
/// # Errors
/// What cgroup v2 does not have, and values that contradict each other.
pub(super) fn settings(
    controller: Controller,
    resources: &Resources,
    look: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut add = |setting: Setting| settings.push(setting);
    match (controller, resources) {
        (Controller::Memory, Resources { memory: Some(memory), .. }) => {
            add_memory(memory, look, &mut add)?;
        }
        (Controller::Cpu, Resources { cpu: Some(cpu), .. }) => {
            let realtime = cpu.realtime_runtime.is_some_and(|n| n != 0)
                || cpu.realtime_period.is_some_and(|n| n != 0);
            if realtime {
                return Err(only_v1("cpu.realtimeRuntime and cpu.realtimePeriod"));
            }
            add_weight(cpu, "cpu.weight", weight_of_shares, &mut add);
            let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
            if quota.is_some() || period.is_some() {
                // One file for both: what is not given stays unchanged.
                let partial = quota.is_none() || period.is_none();
                let now = if partial { look("cpu.max").unwrap_or_default() } else { "".into() };
                let (now_quota, now_period) = now.trim().split_once(' ').unwrap_or(("max", ""));
                let quota = match quota {
                    Some(quota @ 1..) => quota.to_string(),
                    Some(_) => "max".into(),
                    None => now_quota.to_owned(),
                };
                let period = match period {
                    Some(period) => period.to_string(),
                    None if now_period.is_empty() => CPU_PERIOD.to_string(),
                    None => now_period.to_owned(),
                };
                let field = if cpu.quota.is_some() { "cpu.quota" } else { "cpu.period" };
                let unlimited = quota == "max" && cpu.period.is_none();
                add(Setting::new(field, "cpu.max", format!("{quota} {period}")).optional(unlimited));
            }
            if let Some(burst) = cpu.burst {
                add(Setting::new("cpu.burst", "cpu.max.burst", burst).optional(burst == 0));
            }
        }
        (Controller::Io, Resources { block_io: Some(io), .. }) => add_io(io, look, &mut add)?,
        (Controller::NetCls, Resources { network: Some(network), .. })
            if network.class_id.is_some_and(|n| n != 0) =>
        {
            return Err(only_v1("network.classID"));
        }
        (Controller::NetPrio, Resources { network: Some(network), .. })
            if !network.priorities.is_empty() =>
        {
            return Err(only_v1("network.priorities"));
        }
        _ => add_common(controller, resources, ".max", &mut add)?,
    }
    Ok(settings)
}

fn only_v1(field: &str) -> Error {
    Error::new(format!("{field}: not available in cgroup v2"))
        .hint("only cgroup v1 has it: leave it out")
}

fn add_memory(
    memory: &Memory,
    look: &dyn Fn(&str) -> Option<String>,
    add: &mut dyn FnMut(Setting),
) -> Result<()> {
    if memory.kernel_tcp.is_some_and(|n| n > 0) {
        return Err(only_v1("memory.kernelTCP"));
    }
    if memory.swappiness.is_some() {
        return Err(only_v1("memory.swappiness"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(only_v1("memory.disableOOMKiller"));
    }
    let number = |file: &str| look(file)?.trim().parse::<i64>().ok();
    let max = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let limit = memory.limit.filter(|n| *n != 0);
    let asked = memory.swap.filter(|n| *n != 0);
    if memory.check_before_update == Some(true)
        && let Some(used) = number("memory.current")
    {
        // Otherwise the kernel reclaims what it can, and kills for the rest.
        for (field, value) in [("swap", asked), ("limit", limit)] {
            if let Some(value) = value.filter(|value| (0..=used).contains(value)) {
                return Err(Error::new(format!(
                    "memory.{field} {value}: not above current usage {used}"
                ))
                .hint("memory.checkBeforeUpdate refuses limits that would kill processes"));
            }
        }
    }
    // In v2 swap is counted separately; the config gives the sum of both.
    let swap = match (asked, limit) {
        (None, Some(-1)) => Some(-1),
        (None, _) => None,
        (Some(swap), _) if swap < 0 => Some(-1),
        (Some(swap), limit) => {
            let limit = limit.or_else(|| number("memory.max"));
            match limit {
                Some(limit) if limit >= 0 && limit <= swap => Some(swap - limit),
                Some(limit) if limit >= 0 => {
                    return Err(Error::new(format!(
                        "memory.swap {swap}: less than memory.limit {limit}"
                    ))
                    .hint("it is the sum of memory and swap"));
                }
                _ => {
                    return Err(Error::new(format!("memory.swap {swap}: needs memory.limit"))
                        .hint("it is the sum of memory and swap"));
                }
            }
        }
    };
    if let Some(swap) = swap {
        // Missing in a kernel without swap accounting, where 0 and unlimited need no file.
        add(Setting::new("memory.swap", "memory.swap.max", max(swap)).optional(swap <= 0));
    }
    if let Some(limit) = limit {
        add(Setting::new("memory.limit", "memory.max", max(limit)).optional(limit < 0));
    }
    if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
        let optional = reservation < 0;
        add(Setting::new("memory.reservation", "memory.low", max(reservation)).optional(optional));
    }
    Ok(())
}

fn add_io(
    io: &BlockIo,
    look: &dyn Fn(&str) -> Option<String>,
    add: &mut dyn FnMut(Setting),
) -> Result<()> {
    let leaf = |weight: Option<u16>| weight.is_some_and(|n| n != 0);
    if leaf(io.leaf_weight) || io.weight_device.iter().any(|device| leaf(device.leaf_weight)) {
        return Err(only_v1("blockIO.leafWeight"));
    }
    // The scheduler bfq uses the weights as they are; io.cost has a scale of its own.
    let weighs = io.weight.is_some() || !io.weight_device.is_empty();
    let bfq = weighs && look("io.bfq.weight").is_some();
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let scale = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
    if let Some(weight) = io.weight.filter(|n| *n != 0) {
        add(Setting::new("blockIO.weight", file, scale(weight)));
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|n| *n != 0) {
            let value = format!("{}:{} {}", device.major, device.minor, scale(weight));
            add(Setting::new("blockIO.weightDevice", file, value));
        }
    }
    // A line for each device.
    let mut lines: Vec<(String, Setting)> = Vec::new();
    for (field, _, key, rates) in throttles(io) {
        for one in rates {
            let device = format!("{}:{}", one.major, one.minor);
            // 0 lifts a limit in v1.
            let rate = if one.rate == 0 { "max".into() } else { one.rate.to_string() };
            let value = format!(" {key}={rate}");
            match lines.iter_mut().find(|(known, _)| *known == device) {
                Some((_, line)) => line.value += &value,
                None => {
                    let line = Setting::new(field, "io.max", device.clone() + &value);
                    lines.push((device, line));
                }
            }
        }
    }
    lines.into_iter().for_each(|(_, line)| add(line));
    Ok(())
}

/// 2..=262144 (1024 by default) to 1..=10000 (100 by default): the curve through the three points,
/// a parabola in the logarithms, that all runtimes have agreed on. The linear map they used before
/// turned the default into 39, less than any process outside.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Avoids rounding up by one because of the last bit of a double.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// 10..=1000 to 1..=10000, linearly.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}
