//! The counters of the v1 trees.

use super::counters::{BlkioEntry, CounterFiles, Extent, HugetlbStats, MemoryEntry, Stats};
use crate::cgroup::hierarchy::Controller;
use crate::sys::timer::CLOCK_TICK;

pub(super) fn read(
    controller: Controller,
    files: &CounterFiles,
    extent: Extent,
    stats: &mut Stats,
) {
    match controller {
        Controller::Cpu => {
            let table = files.table("cpu.stat");
            let get = |name: &str| table.get(name).copied().unwrap_or(0);
            stats.cpu.throttling.periods = get("nr_periods");
            stats.cpu.throttling.throttled_periods = get("nr_throttled");
            stats.cpu.throttling.throttled_time = get("throttled_time");
        }
        Controller::Cpuacct => {
            let usage = &mut stats.cpu.usage;
            usage.total = files.number("cpuacct.usage");
            if extent == Extent::Essential {
                return;
            }
            let table = files.table("cpuacct.stat");
            usage.user = table.get("user").map_or(0, |ticks| ticks * CLOCK_TICK);
            usage.kernel = table.get("system").map_or(0, |ticks| ticks * CLOCK_TICK);
            usage.percpu = files.numbers("cpuacct.usage_percpu");
            // A heading, then `cpu user system` for each processor.
            for line in files.text("cpuacct.usage_all").lines().skip(1) {
                let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
                if let [_, user, system] = numbers[..] {
                    usage.percpu_user.push(user);
                    usage.percpu_kernel.push(system);
                }
            }
        }
        Controller::Cpuset => {
            let cpuset = &mut stats.cpuset;
            cpuset.cpus = files.list("cpuset.cpus");
            cpuset.mems = files.list("cpuset.mems");
            cpuset.cpu_exclusive = files.number("cpuset.cpu_exclusive");
            cpuset.mem_hardwall = files.number("cpuset.mem_hardwall");
            cpuset.mem_exclusive = files.number("cpuset.mem_exclusive");
            cpuset.memory_migrate = files.number("cpuset.memory_migrate");
            cpuset.memory_spread_page = files.number("cpuset.memory_spread_page");
            cpuset.memory_spread_slab = files.number("cpuset.memory_spread_slab");
            cpuset.memory_pressure = files.number("cpuset.memory_pressure");
            cpuset.sched_load_balance = files.number("cpuset.sched_load_balance");
            let level = files.text("cpuset.sched_relax_domain_level");
            cpuset.sched_relax_domain_level = level.trim().parse().unwrap_or(0);
        }
        Controller::Memory => {
            let memory = &mut stats.memory;
            memory.raw = files.table("memory.stat");
            memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
            let entry = |name: &str| MemoryEntry {
                limit: files.number(&format!("memory.{name}limit_in_bytes")),
                usage: files.number(&format!("memory.{name}usage_in_bytes")),
                max: files.number(&format!("memory.{name}max_usage_in_bytes")),
                failcnt: files.number(&format!("memory.{name}failcnt")),
            };
            if extent == Extent::Essential {
                memory.usage.limit = files.number("memory.limit_in_bytes");
                memory.usage.usage = files.number("memory.usage_in_bytes");
                return;
            }
            memory.usage = entry("");
            memory.swap = entry("memsw.");
            memory.kernel = entry("kmem.");
            memory.kernel_tcp = entry("kmem.tcp.");
        }
        Controller::Pids => {
            stats.pids.current = files.number("pids.current");
            stats.pids.limit = match files.number("pids.max") {
                u64::MAX => 0,
                limit => limit,
            };
        }
        Controller::Io => read_blkio(files, extent, stats),
        Controller::Hugetlb => {
            for size in files.page_sizes(".usage_in_bytes") {
                // Reserved pages count as used, where the kernel reports them separately.
                let reserved = format!("hugetlb.{size}.rsvd.usage_in_bytes");
                let middle = if files.text(&reserved).is_empty() { "" } else { ".rsvd" };
                let number = |name: &str| files.number(&format!("hugetlb.{size}{middle}.{name}"));
                let entry = HugetlbStats {
                    usage: number("usage_in_bytes"),
                    max: number("max_usage_in_bytes"),
                    failcnt: number("failcnt"),
                };
                stats.hugetlb.insert(size, entry);
            }
        }
        _ => {}
    }
}

/// bfq counts if it is the scheduler, as cfq did; otherwise only the throttle counters exist.
fn read_blkio(files: &CounterFiles, extent: Extent, stats: &mut Stats) {
    let blkio = &mut stats.blkio;
    let first = |names: &[&str]| {
        let read = |name: &&str| Some(entries(&files.text(name))).filter(|all| !all.is_empty());
        names.iter().find_map(read).unwrap_or_default()
    };
    blkio.io_service_bytes_recursive = first(&[
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ]);
    if extent == Extent::Essential {
        return;
    }
    blkio.io_serviced_recursive = first(&[
        "blkio.bfq.io_serviced_recursive",
        "blkio.io_serviced_recursive",
        "blkio.throttle.io_serviced_recursive",
        "blkio.throttle.io_serviced",
    ]);
    blkio.io_queue_recursive =
        first(&["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"]);
    blkio.io_service_time_recursive =
        first(&["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"]);
    blkio.io_wait_time_recursive =
        first(&["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"]);
    blkio.io_merged_recursive =
        first(&["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"]);
    blkio.io_time_recursive = first(&["blkio.bfq.time_recursive", "blkio.time_recursive"]);
    blkio.sectors_recursive = first(&["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"]);
}

/// Lines `8:0 Read 4096` or `8:0 4096`; the last, `Total 4096`, has no device.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (device, op, value) = match words[..] {
            [device, op, value] => (device, op, value),
            [device, value] => (device, "", value),
            _ => return None,
        };
        let (major, minor) = device.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}
