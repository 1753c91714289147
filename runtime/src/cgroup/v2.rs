//! Limits in the unified tree (Documentation/admin-guide/cgroup-v2).

use std::collections::BTreeMap;
use std::path::Path;

use super::values::{Value, asked, throttles};
use super::{Controller, Write, hierarchy, v1, write};
use crate::config::limits::{CPU_PERIOD, Limits};
use crate::config::oci::{BlockIo, Memory, Resources};
use crate::config::units::Size;
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
                if let Some(memory) = limits.memory {
                    add("memory.max", memory.0.to_string(), false);
                    // Here swap is counted by itself. Absent from a kernel without swap.
                    let Size(sum) = limits.memory_and_swap().unwrap_or(memory);
                    let swap = sum.saturating_sub(memory.0).to_string();
                    add("memory.swap.max", swap, limits.swap.is_none());
                }
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    add("cpu.max", format!("{quota} {CPU_PERIOD}"), false);
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

/// Lets the directories in `dir` have `controllers`.
pub(super) fn pass_on(dir: &Path, controllers: &[Controller]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let there = hierarchy::controllers(&file.to_string_lossy());
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| !there.contains(controller))
        .map(|controller| format!("+{}", controller.name()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    write(&file, &missing.join(" ")).map_err(|error| match error.errno() {
        Some(errno) if errno.0 == libc::EBUSY => {
            error.hint(format!("move the processes in {} to a child cgroup first", dir.display()))
        }
        _ => error,
    })
}

/// What `resources` says about `controller`; `look` reads a file of the cgroup.
///
/// # Errors
/// What this generation of cgroups does not have, and values that contradict each other.
pub(super) fn values(
    controller: Controller,
    resources: &Resources,
    look: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let mut add = |value: Value| values.push(value);
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
            // An idle cgroup takes no weight, and gets the default one when it is no longer idle.
            let idle = cpu.idle.map(|n| Value::new("cpu.idle", "cpu.idle", n).optional(n == 0));
            let (before, after) = if cpu.idle == Some(0) { (idle, None) } else { (None, idle) };
            before.into_iter().for_each(&mut add);
            if let Some(shares) = cpu.shares.filter(|n| *n != 0) {
                add(Value::new("cpu.shares", "cpu.weight", weight_of_shares(shares)));
            }
            after.into_iter().for_each(&mut add);
            let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
            if quota.is_some() || period.is_some() {
                // One file for both: what is not given stays.
                let now = look("cpu.max").unwrap_or_default();
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
                add(Value::new(field, "cpu.max", format!("{quota} {period}")).optional(unlimited));
            }
            if let Some(burst) = cpu.burst {
                add(Value::new("cpu.burst", "cpu.max.burst", burst).optional(burst == 0));
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
            v1::add_pids(pids.limit, &mut add);
        }
        (Controller::Io, Resources { block_io: Some(io), .. }) => add_io(io, look, &mut add)?,
        (Controller::Hugetlb, _) => v1::add_hugepages(resources, ".max", &mut add)?,
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
        (Controller::Rdma, _) => v1::add_rdma(resources, &mut add),
        _ => {}
    }
    Ok(values)
}

fn only_v1(field: &str) -> Error {
    Error::new(format!("{field}: not in the unified cgroup tree"))
        .hint("only v1 cgroups have it: leave it out")
}

fn add_memory(
    memory: &Memory,
    look: &dyn Fn(&str) -> Option<String>,
    add: &mut dyn FnMut(Value),
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
        // Otherwise the kernel takes back what it can, and kills for the rest.
        for (field, value) in [("swap", asked), ("limit", limit)] {
            if let Some(value) = value.filter(|value| (0..=used).contains(value)) {
                return Err(Error::new(format!(
                    "memory.{field} {value}: not above what is in use, {used}"
                ))
                .hint("memory.checkBeforeUpdate refuses a limit that would kill"));
            }
        }
    }
    // Here swap is counted by itself; the config gives the sum of both.
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
        // Absent from a kernel that does not account swap: none is as good as that.
        add(Value::new("memory.swap", "memory.swap.max", max(swap)).optional(swap <= 0));
    }
    if let Some(limit) = limit {
        add(Value::new("memory.limit", "memory.max", max(limit)).optional(limit < 0));
    }
    if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
        let optional = reservation < 0;
        add(Value::new("memory.reservation", "memory.low", max(reservation)).optional(optional));
    }
    Ok(())
}

fn add_io(
    io: &BlockIo,
    look: &dyn Fn(&str) -> Option<String>,
    add: &mut dyn FnMut(Value),
) -> Result<()> {
    let leaf = |weight: Option<u16>| weight.is_some_and(|n| n != 0);
    if leaf(io.leaf_weight) || io.weight_device.iter().any(|device| leaf(device.leaf_weight)) {
        return Err(only_v1("blockIO.leafWeight"));
    }
    // The scheduler bfq takes the weights as they are; io.cost has a scale of its own.
    let bfq = look("io.bfq.weight").is_some();
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let scale = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
    if let Some(weight) = io.weight.filter(|n| *n != 0) {
        add(Value::new("blockIO.weight", file, scale(weight)));
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|n| *n != 0) {
            let value = format!("{}:{} {}", device.major, device.minor, scale(weight));
            add(Value::new("blockIO.weightDevice", file, value));
        }
    }
    for (field, _, key, rates) in throttles(io) {
        for device in rates {
            // 0 lifts a limit in v1.
            let rate = if device.rate == 0 { "max".into() } else { device.rate.to_string() };
            let value = format!("{}:{} {key}={rate}", device.major, device.minor);
            add(Value::new(field, "io.max", value));
        }
    }
    Ok(())
}

/// 2..=262144 (1024 by default) to 1..=10000 (100 by default): the curve through the three points,
/// a parabola in the logarithms, that all runtimes have agreed on. The straight line they had
/// before gave the default 39, less than any process outside.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Not one more because the last bit of a double was rounded up.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// 10..=1000 to 1..=10000, in a straight line.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

/// Writes `linux.resources.unified`: files by name, as the config has them.
pub(super) fn write_unified(dir: &Path, unified: &BTreeMap<String, String>) -> Result<()> {
    for (file, value) in unified {
        let words = || format!("unified {file:?}");
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            return Err(Error::new(format!("{}: not the name of a cgroup file", words()))
                .hint("as in memory.high"));
        }
        write(&dir.join(file), value)
            .map_err(|error| match error.errno() {
                Some(errno) if errno.0 == libc::ENOENT => {
                    let controller = file.split('.').next().unwrap_or(file);
                    error.hint(format!("{controller} is not available here, or has no such file"))
                }
                _ => error,
            })
            .map_err(|error| error.within(words()))?;
    }
    Ok(())
}

/// This is a v2 directory, and it does not have the controller.
pub(super) fn lacks(dir: &Path, controller: Controller) -> bool {
    let file = dir.join("cgroup.controllers");
    file.exists() && !hierarchy::controllers(&file.to_string_lossy()).contains(&controller)
}

/// Lets the directories in `dir` have every controller that it has itself, as far as possible:
/// which of them matters shows when a limit is written.
pub(super) fn pass_on_all(dir: &Path) {
    let read = |file: &str| read_kernel(dir.join(file)).unwrap_or_default();
    let there = read("cgroup.subtree_control");
    let there: Vec<&str> = there.split_whitespace().collect();
    let all = read("cgroup.controllers");
    let missing: Vec<String> = all
        .split_whitespace()
        .filter(|name| !there.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    let file = dir.join("cgroup.subtree_control");
    if !missing.is_empty() && write(&file, &missing.join(" ")).is_err() {
        for one in &missing {
            let _ = write(&file, one);
        }
    }
}

/// The state of a directory, cgroup.type; empty at the root of the tree.
pub(super) fn kind(dir: &Path) -> String {
    read_kernel(dir.join("cgroup.type")).unwrap_or_default().trim().to_owned()
}

/// A directory below one with processes is in no valid state, and one below a threaded one is not
/// either (cgroups(7), "threaded mode"). Controllers that work with threads can be had there,
/// others not.
pub(super) fn check_kind(dir: &Path, resources: &Resources) -> Result<()> {
    let kind = kind(dir);
    if kind.is_empty() || kind == "domain" {
        return Ok(());
    }
    let domain = asked(resources).into_iter().find(|(controller, _)| {
        matches!(
            controller,
            Controller::Memory | Controller::Io | Controller::Hugetlb | Controller::Cpu
        )
    });
    if let Some((_, what)) = domain {
        return Err(Error::new(format!("{what}: the cgroup {} is \"{kind}\"", dir.display()))
            .hint("a directory above it has processes of its own, or is threaded"));
    }
    if kind == "domain invalid" {
        write(&dir.join("cgroup.type"), "threaded")?;
    }
    Ok(())
}

/// Gives the directory and the files by which it is passed on to `uid`.
pub(super) fn delegate(dir: &Path, uid: u32) -> Result<()> {
    use std::os::unix::fs::chown;
    let failed = |path: &Path, error: &std::io::Error| {
        Error::io(format!("give {} to user {uid}", path.display()), error)
    };
    chown(dir, Some(uid), None).map_err(|error| failed(dir, &error))?;
    // Linux 4.15 says which ones.
    let files = read_kernel("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".into());
    for file in files.lines().filter(|file| !file.is_empty() && !file.contains('/')) {
        let path = dir.join(file);
        match chown(&path, Some(uid), None) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                return Err(failed(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directories in `dir` have controllers: so it takes no processes itself.
pub(super) fn passes_on(dir: &Path) -> bool {
    read_kernel(dir.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty())
}
