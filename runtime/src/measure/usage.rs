//! What one sandbox or container has used.

use serde::Serialize;

use super::processes::TreeUse;
use crate::cgroup::{Pressure, Stats};
use crate::limit::Traffic;
use crate::network::counters::LinkTraffic;
use crate::resource::bandwidth::QueueCounter;
use crate::service::{Face, ListedVolume};

/// Who has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedBy {
    /// Its cgroup: everything.
    Cgroup,
    /// Its processes: it has no cgroup that counts this. What a process used that nobody waited for is
    /// missing; memory that processes share counts for each.
    Processes,
}

/// What a sandbox or container uses, or has used since it began.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Face,
    /// Its first process, in the host's pid namespace.
    pub pid: i32,
    /// In seconds since 1970.
    pub created: u64,
    /// Processor time.
    pub cpu: CpuUse,
    /// Memory.
    pub memory: MemoryUse,
    /// How many processes, or tasks where a cgroup counts, there are.
    pub processes: u64,
    /// The most there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_limit: Option<u64>,
    /// Block devices; `None`: nobody counts them here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskUse>,
    /// How long it waits for what; `None`: the kernel does not tell (cgroup v1, or no PSI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureUse>,
    /// Frames on its links; `None`: it has no network of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<LinkTraffic>,
    /// Payload of TCP that left it or came in, since the first look that asked for it; `None`: nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Traffic>,
    /// What holds it back.
    pub holds: Holds,
    /// Its RAID volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<ListedVolume>,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuUse {
    /// In all.
    pub nanoseconds: u64,
    /// Who has counted.
    pub counted_by: CountedBy,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// In use now, including what can be reclaimed.
    pub used: u64,
    /// What the kernel can take back without swap: the page cache of files, and its own caches; `None`: no
    /// cgroup counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaimable: Option<u64>,
    /// The most it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Who has counted.
    pub counted_by: CountedBy,
}

/// Bytes moved from and to block devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// Time in which some task waited (PSI, Linux 4.20).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PressureUse {
    /// For a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    /// For memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    /// For block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

/// What holds it back: by whom, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// The quota of `--cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<QuotaHold>,
    /// `--rate up`, or its rate group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_up: Option<QueueCounter>,
    /// `--rate down`, or its rate group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_down: Option<QueueCounter>,
    /// A `garth limit` that is at work on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitHold>,
}

/// Held by a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaHold {
    /// For how long, in nanoseconds, summed over processors.
    pub nanoseconds: u64,
    /// How many periods ended early.
    pub periods: u64,
}

/// Held by a limiter, which stops and continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitHold {
    /// For how long it was stopped, in nanoseconds.
    pub nanoseconds: u64,
    /// Since when the limiter works, in nanoseconds ago.
    pub of: u64,
    /// The limiter's process.
    pub limiter: i32,
}

impl CpuUse {
    /// By its cgroup if that counts, or by its processes.
    pub(super) fn of(stats: &Stats, tree: &TreeUse) -> CpuUse {
        match stats.cpu.usage.total {
            0 => CpuUse { nanoseconds: tree.cpu, counted_by: CountedBy::Processes },
            nanoseconds => CpuUse { nanoseconds, counted_by: CountedBy::Cgroup },
        }
    }
}

impl MemoryUse {
    /// By its cgroup if that counts, or by its processes.
    pub(super) fn of(stats: &Stats, tree: &TreeUse) -> MemoryUse {
        let memory = &stats.memory;
        if memory.usage.usage == 0 {
            let counted_by = CountedBy::Processes;
            return MemoryUse { used: tree.resident, reclaimable: None, limit: None, counted_by };
        }
        let raw = |name: &str| memory.raw.get(name).copied().unwrap_or(0);
        // v1 has the sums over its own children under other names.
        let files = match memory.raw.contains_key("total_inactive_file") {
            true => raw("total_inactive_file") + raw("total_active_file"),
            false => raw("inactive_file") + raw("active_file"),
        };
        let reclaimable = Some((files + raw("slab_reclaimable")).min(memory.usage.usage));
        // v1's "none" is the highest multiple of a page, v2's the highest number.
        let limit = Some(memory.usage.limit).filter(|limit| *limit < i64::MAX as u64 - 65_536);
        let used = memory.usage.usage;
        MemoryUse { used, reclaimable, limit, counted_by: CountedBy::Cgroup }
    }
}

impl DiskUse {
    /// By its cgroup if that counts.
    pub(super) fn of(stats: &Stats) -> Option<DiskUse> {
        let entries = &stats.blkio.io_service_bytes_recursive;
        let sum = |op: &str| {
            entries.iter().filter(|one| one.op.eq_ignore_ascii_case(op)).map(|one| one.value).sum()
        };
        (!entries.is_empty()).then(|| DiskUse { read: sum("read"), written: sum("write") })
    }
}

impl PressureUse {
    /// By its cgroup, if the kernel tells.
    pub(super) fn of(stats: &Stats) -> Option<PressureUse> {
        let [cpu, memory, io] =
            [&stats.cpu.psi, &stats.memory.psi, &stats.blkio.psi].map(Clone::clone);
        (cpu.is_some() || memory.is_some() || io.is_some()).then_some(PressureUse {
            cpu,
            memory,
            io,
        })
    }
}

impl QuotaHold {
    /// By its cgroup, if there is a quota.
    pub(super) fn of(stats: &Stats) -> Option<QuotaHold> {
        let throttling = &stats.cpu.throttling;
        (throttling.periods > 0).then_some(QuotaHold {
            nanoseconds: throttling.throttled_time,
            periods: throttling.throttled_periods,
        })
    }
}
