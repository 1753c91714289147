//! A container's counters in containerd's messages: those of cgroup v1, or of v2, as the host has it.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use garth::cgroup::{BlkioEntry, MemoryEntry, Pressure, Stalls, Stats};

use crate::message::any;

/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;

/// Whether the host has the unified tree alone.
fn is_unified() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == CGROUP2)
}

/// The message.
pub fn metrics(stats: &Stats) -> Any {
    if is_unified() { any(&unified(stats)) } else { any(&legacy(stats)) }
}

/// How to find a number by the name that the kernel gives it.
fn in_table(table: &BTreeMap<String, u64>) -> impl Fn(&str) -> u64 + '_ {
    |name| table.get(name).copied().unwrap_or(0)
}

fn legacy(stats: &Stats) -> v1::Metrics {
    let raw = in_table(&stats.memory.raw);
    let usage = v1::CPUUsage {
        total: stats.cpu.usage.total,
        kernel: stats.cpu.usage.kernel,
        user: stats.cpu.usage.user,
        per_cpu: stats.cpu.usage.percpu.clone(),
        ..v1::CPUUsage::default()
    };
    let throttling = v1::Throttle {
        periods: stats.cpu.throttling.periods,
        throttled_periods: stats.cpu.throttling.throttled_periods,
        throttled_time: stats.cpu.throttling.throttled_time,
        ..v1::Throttle::default()
    };
    let entry = |entry: &MemoryEntry| {
        MessageField::some(v1::MemoryEntry {
            limit: entry.limit,
            usage: entry.usage,
            max: entry.max,
            failcnt: entry.failcnt,
            ..v1::MemoryEntry::default()
        })
    };
    let memory = v1::MemoryStat {
        cache: raw("cache"),
        rss: raw("rss"),
        rss_huge: raw("rss_huge"),
        mapped_file: raw("mapped_file"),
        dirty: raw("dirty"),
        writeback: raw("writeback"),
        pg_pg_in: raw("pgpgin"),
        pg_pg_out: raw("pgpgout"),
        pg_fault: raw("pgfault"),
        pg_maj_fault: raw("pgmajfault"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        hierarchical_memory_limit: raw("hierarchical_memory_limit"),
        hierarchical_swap_limit: raw("hierarchical_memsw_limit"),
        total_cache: raw("total_cache"),
        total_rss: raw("total_rss"),
        total_rss_huge: raw("total_rss_huge"),
        total_mapped_file: raw("total_mapped_file"),
        total_dirty: raw("total_dirty"),
        total_writeback: raw("total_writeback"),
        total_pg_pg_in: raw("total_pgpgin"),
        total_pg_pg_out: raw("total_pgpgout"),
        total_pg_fault: raw("total_pgfault"),
        total_pg_maj_fault: raw("total_pgmajfault"),
        total_inactive_anon: raw("total_inactive_anon"),
        total_active_anon: raw("total_active_anon"),
        total_inactive_file: raw("total_inactive_file"),
        total_active_file: raw("total_active_file"),
        total_unevictable: raw("total_unevictable"),
        usage: entry(&stats.memory.usage),
        swap: entry(&stats.memory.swap),
        kernel: entry(&stats.memory.kernel),
        kernel_tcp: entry(&stats.memory.kernel_tcp),
        ..v1::MemoryStat::default()
    };
    let entries = |entries: &[BlkioEntry]| {
        let entry = |entry: &BlkioEntry| v1::BlkIOEntry {
            op: entry.op.clone(),
            major: entry.major,
            minor: entry.minor,
            value: entry.value,
            ..v1::BlkIOEntry::default()
        };
        entries.iter().map(entry).collect()
    };
    let blkio = v1::BlkIOStat {
        io_service_bytes_recursive: entries(&stats.blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(&stats.blkio.io_serviced_recursive),
        io_queued_recursive: entries(&stats.blkio.io_queue_recursive),
        io_service_time_recursive: entries(&stats.blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(&stats.blkio.io_wait_time_recursive),
        io_merged_recursive: entries(&stats.blkio.io_merged_recursive),
        io_time_recursive: entries(&stats.blkio.io_time_recursive),
        sectors_recursive: entries(&stats.blkio.sectors_recursive),
        ..v1::BlkIOStat::default()
    };
    let hugetlb = stats.hugetlb.iter().map(|(size, pages)| v1::HugetlbStat {
        usage: pages.usage,
        max: pages.max,
        failcnt: pages.failcnt,
        pagesize: size.clone(),
        ..v1::HugetlbStat::default()
    });
    let (current, limit) = (stats.pids.current, stats.pids.limit);
    v1::Metrics {
        hugetlb: hugetlb.collect(),
        pids: MessageField::some(v1::PidsStat { current, limit, ..v1::PidsStat::default() }),
        cpu: MessageField::some(v1::CPUStat {
            usage: MessageField::some(usage),
            throttling: MessageField::some(throttling),
            ..v1::CPUStat::default()
        }),
        memory: MessageField::some(memory),
        blkio: MessageField::some(blkio),
        ..v1::Metrics::default()
    }
}

fn unified(stats: &Stats) -> v2::Metrics {
    let raw = in_table(&stats.memory.raw);
    // The library has nanoseconds, and memory and swap together, as v1 does.
    let cpu = v2::CPUStat {
        usage_usec: stats.cpu.usage.total / 1000,
        user_usec: stats.cpu.usage.user / 1000,
        system_usec: stats.cpu.usage.kernel / 1000,
        nr_periods: stats.cpu.throttling.periods,
        nr_throttled: stats.cpu.throttling.throttled_periods,
        throttled_usec: stats.cpu.throttling.throttled_time / 1000,
        psi: pressure(stats.cpu.psi.as_ref()),
        ..v2::CPUStat::default()
    };
    let (used, swap) = (&stats.memory.usage, &stats.memory.swap);
    let memory = v2::MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: raw("workingset_refault_anon") + raw("workingset_refault_file"),
        workingset_activate: raw("workingset_activate_anon") + raw("workingset_activate_file"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: used.usage,
        usage_limit: used.limit,
        swap_usage: swap.usage.saturating_sub(used.usage),
        swap_limit: if swap.limit == u64::MAX {
            swap.limit
        } else {
            swap.limit.saturating_sub(used.limit)
        },
        max_usage: used.max,
        psi: pressure(stats.memory.psi.as_ref()),
        ..v2::MemoryStat::default()
    };
    let mut disks: BTreeMap<(u64, u64), v2::IOEntry> = BTreeMap::new();
    let all = [
        (&stats.blkio.io_service_bytes_recursive, true),
        (&stats.blkio.io_serviced_recursive, false),
    ];
    for (entries, bytes) in all {
        for BlkioEntry { major, minor, op, value } in entries {
            let disk = disks.entry((*major, *minor)).or_default();
            (disk.major, disk.minor) = (*major, *minor);
            match (op.as_str(), bytes) {
                ("Read", true) => disk.rbytes = *value,
                ("Write", true) => disk.wbytes = *value,
                ("Read", false) => disk.rios = *value,
                ("Write", false) => disk.wios = *value,
                _ => {}
            }
        }
    }
    let hugetlb = stats.hugetlb.iter().map(|(size, pages)| v2::HugeTlbStat {
        current: pages.usage,
        max: pages.max,
        failcnt: pages.failcnt,
        pagesize: size.clone(),
        ..v2::HugeTlbStat::default()
    });
    let (current, limit) = (stats.pids.current, stats.pids.limit);
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat { current, limit, ..v2::PidsStat::default() }),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory),
        io: MessageField::some(v2::IOStat {
            usage: disks.into_values().collect(),
            psi: pressure(stats.blkio.psi.as_ref()),
            ..v2::IOStat::default()
        }),
        hugetlb: hugetlb.collect(),
        ..v2::Metrics::default()
    }
}

fn pressure(pressure: Option<&Pressure>) -> MessageField<v2::PSIStats> {
    let data = |stalls: &Stalls| {
        MessageField::some(v2::PSIData {
            avg10: stalls.avg10,
            avg60: stalls.avg60,
            avg300: stalls.avg300,
            total: stalls.total,
            ..v2::PSIData::default()
        })
    };
    let both = |pressure: &Pressure| v2::PSIStats {
        some: data(&pressure.some),
        full: data(&pressure.full),
        ..v2::PSIStats::default()
    };
    MessageField::from_option(pressure.map(both))
}
