//! The counters of the unified tree, in v1's terms.

use super::counters::{BlkioEntry, CounterFiles, HugetlbStats, MemoryEntry, Stats};
use crate::cgroup::hierarchy::Controller;

pub(super) fn read(controller: Controller, files: &CounterFiles, stats: &mut Stats) {
    match controller {
        Controller::Cpu => {
            let table = files.table("cpu.stat");
            let nanoseconds = |name: &str| table.get(name).map_or(0, |n| n.saturating_mul(1000));
            let get = |name: &str| table.get(name).copied().unwrap_or(0);
            stats.cpu.usage.total = nanoseconds("usage_usec");
            stats.cpu.usage.user = nanoseconds("user_usec");
            stats.cpu.usage.kernel = nanoseconds("system_usec");
            stats.cpu.throttling.periods = get("nr_periods");
            stats.cpu.throttling.throttled_periods = get("nr_throttled");
            stats.cpu.throttling.throttled_time = nanoseconds("throttled_usec");
            stats.cpu.psi = files.pressure("cpu.pressure");
        }
        Controller::Memory => read_memory(files, stats),
        Controller::Pids => {
            stats.pids.current = files.number("pids.current");
            stats.pids.limit = match files.number("pids.max") {
                u64::MAX => 0,
                limit => limit,
            };
        }
        Controller::Io => {
            stats.blkio.psi = files.pressure("io.pressure");
            for line in files.text("io.stat").lines() {
                let mut words = line.split(' ');
                let device = words.next().and_then(|device| device.split_once(':'));
                let Some((major, minor)) = device else { continue };
                let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
                for (key, value) in words.filter_map(|word| word.split_once('=')) {
                    let (op, bytes) = match key {
                        "rbytes" => ("Read", true),
                        "wbytes" => ("Write", true),
                        "rios" => ("Read", false),
                        "wios" => ("Write", false),
                        _ => continue,
                    };
                    let Ok(value) = value.parse() else { continue };
                    let entry = BlkioEntry { major, minor, op: op.into(), value };
                    match bytes {
                        true => stats.blkio.io_service_bytes_recursive.push(entry),
                        false => stats.blkio.io_serviced_recursive.push(entry),
                    }
                }
            }
        }
        Controller::Hugetlb => {
            for size in files.page_sizes(".current") {
                let reserved = format!("hugetlb.{size}.rsvd.current");
                let middle = if files.text(&reserved).is_empty() { "" } else { ".rsvd" };
                let events = files.table(&format!("hugetlb.{size}.events"));
                let entry = HugetlbStats {
                    usage: files.number(&format!("hugetlb.{size}{middle}.current")),
                    max: 0,
                    failcnt: events.get("max").copied().unwrap_or(0),
                };
                stats.hugetlb.insert(size, entry);
            }
        }
        _ => {}
    }
}

/// In v1, memory+swap is counted together, and so it is here: readers subtract.
fn read_memory(files: &CounterFiles, stats: &mut Stats) {
    let memory = &mut stats.memory;
    memory.raw = files.table("memory.stat");
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    let events = files.table("memory.events");
    memory.usage = MemoryEntry {
        limit: files.number("memory.max"),
        usage: files.number("memory.current"),
        // Linux 5.19.
        max: files.number("memory.peak"),
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    if !files.text("memory.swap.current").is_empty() {
        let limit = files.number("memory.swap.max");
        memory.swap.usage = files.number("memory.swap.current") + memory.usage.usage;
        memory.swap.limit = limit.saturating_add(memory.usage.limit);
    }
    memory.psi = files.pressure("memory.pressure");
}
