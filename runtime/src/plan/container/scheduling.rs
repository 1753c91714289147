//! How the kernel is to schedule a container's program: words to numbers.

use crate::config::oci::{IoPriority, MemoryPolicy, Scheduler};
use crate::error::{Error, Result};
use crate::sys::task::SchedulerAttr;

/// ioprio_set(2): the class in the upper bits, the level in the lower.
pub fn io_priority(wanted: &IoPriority) -> Result<u32> {
    match u32::try_from(wanted.priority) {
        Ok(level @ 0..=7) => Ok(wanted.class.number() << 13 | level),
        _ => Err(Error::new(format!("process.ioPriority.priority {}", wanted.priority))
            .hint("levels are 0 (highest) to 7")),
    }
}

/// sched_setattr(2).
pub fn scheduler_attr(wanted: &Scheduler) -> Result<SchedulerAttr> {
    Ok(SchedulerAttr {
        policy: wanted.policy.number(),
        flags: wanted.flags.iter().fold(0, |flags, flag| flags | u64::from(flag.number())),
        nice: wanted.nice,
        priority: u32::try_from(wanted.priority)
            .map_err(|_| Error::new("process.scheduler.priority: negative"))?,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..SchedulerAttr::default()
    })
}

/// set_mempolicy(2).
pub fn memory_policy(wanted: &MemoryPolicy) -> Result<(i32, Vec<u64>)> {
    let flags = wanted.flags.iter().fold(0, |flags, flag| flags | flag.number());
    let nodes = wanted.nodes.as_deref().unwrap_or("");
    Ok(((wanted.mode.number() | flags) as i32, bit_list(nodes, "linux.memoryPolicy.nodes")?))
}

/// `0-3,8` as a bit for each number; below 1024 only.
pub fn bit_list(text: &str, place: &str) -> Result<Vec<u64>> {
    const HIGHEST: usize = 1023;
    let mut bits = Vec::new();
    let wrong = || Error::new(format!("{place} {text:?}: not a list of numbers and ranges"));
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last > HIGHEST {
            return Err(wrong());
        }
        bits.resize(bits.len().max(last / 64 + 1), 0u64);
        (first..=last).for_each(|number| bits[number / 64] |= 1 << (number % 64));
    }
    Ok(bits)
}
