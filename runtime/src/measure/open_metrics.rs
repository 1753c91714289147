//! Usage as text for Prometheus and its kin (OpenMetrics 1.0).

use std::fmt::Write;

use super::usage::{CountedBy, Usage};
use crate::cgroup::Pressure;
use crate::network::counters::LinkCounter;
use crate::resource::bandwidth::QueueCounter;
use crate::service::ListedVolume;
use crate::volume::status::VolumeHealth;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// More labels of a sample, each with a value, and the sample.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

/// A family of samples.
struct Family {
    /// Its name, without `_total`.
    name: &'static str,
    kind: Kind,
    /// What its name ends with, if it has a unit.
    unit: &'static str,
    help: &'static str,
    samples: fn(&Usage) -> Samples,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

const FAMILIES: [Family; 14] = [
    Family {
        name: "garth_cpu_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        help: "Processor time used.",
        samples: |usage| counted(usage.cpu.counted_by, Some(seconds(usage.cpu.nanoseconds))),
    },
    Family {
        name: "garth_memory_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        help: "Memory in use, including what can be reclaimed.",
        samples: |usage| memory(usage, Some(usage.memory.used)),
    },
    Family {
        name: "garth_memory_reclaimable_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        help: "Memory that the kernel can take back without swap.",
        samples: |usage| memory(usage, usage.memory.reclaimable),
    },
    Family {
        name: "garth_memory_limit_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        help: "The most memory that may be used.",
        samples: |usage| memory(usage, usage.memory.limit),
    },
    Family {
        name: "garth_processes",
        kind: Kind::Gauge,
        unit: "",
        help: "Processes, or tasks where a cgroup counts.",
        samples: |usage| vec![(Vec::new(), usage.processes as f64)],
    },
    Family {
        name: "garth_disk_bytes",
        kind: Kind::Counter,
        unit: "bytes",
        help: "Bytes moved from and to block devices.",
        samples: |usage| {
            let moved = usage.disk.map(|disk| [("read", disk.read), ("write", disk.written)]);
            by("operation", moved.into_iter().flatten())
        },
    },
    Family {
        name: "garth_pressure_waiting_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        help: "Time in which some task waited for a resource (PSI).",
        samples: waited,
    },
    Family {
        name: "garth_network_frame_bytes",
        kind: Kind::Counter,
        unit: "bytes",
        help: "Bytes of Ethernet frames, without checksum, preamble and gap; trains of segments count once.",
        samples: |usage| each_way(usage, |counter| counter.bytes),
    },
    Family {
        name: "garth_network_packets",
        kind: Kind::Counter,
        unit: "",
        help: "Packets, as the kernel hands them on; trains of segments count once.",
        samples: |usage| each_way(usage, |counter| counter.packets),
    },
    Family {
        name: "garth_network_dropped_packets",
        kind: Kind::Counter,
        unit: "",
        help: "Packets dropped at the link.",
        samples: |usage| each_way(usage, |counter| counter.dropped),
    },
    Family {
        name: "garth_held_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        help: "Time in which it was held: by the quota of --cpus, summed over processors, or by garth limit.",
        samples: |usage| {
            let cpus = usage.holds.cpus.map(|hold| ("cpus", hold.nanoseconds));
            let limit = usage.holds.limit.map(|hold| ("limit", hold.nanoseconds));
            let sample = |(by, time): (&str, u64)| (vec![("by", by.to_owned())], seconds(time));
            cpus.into_iter().chain(limit).map(sample).collect()
        },
    },
    Family {
        name: "garth_rate_waits",
        kind: Kind::Counter,
        unit: "",
        help: "How often a packet had to wait for --rate.",
        samples: |usage| each_queue(usage, |queue| queue.waits),
    },
    Family {
        name: "garth_rate_dropped_packets",
        kind: Kind::Counter,
        unit: "",
        help: "Packets that found the queue of --rate full.",
        samples: |usage| each_queue(usage, |queue| queue.dropped),
    },
    Family {
        name: "garth_volume_health",
        // Not a stateset: older readers know none.
        kind: Kind::Gauge,
        unit: "",
        help: "How its RAID volumes are: 1 for the state that each is in.",
        samples: health,
    },
];

/// All samples of these sandboxes and containers.
pub fn open_metrics(all: &[Usage]) -> String {
    let mut text = String::new();
    for Family { name, kind, unit, help, samples } in &FAMILIES {
        let (word, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let _ = writeln!(text, "# TYPE {name} {word}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {help}");
        for usage in all {
            for (labels, value) in samples(usage) {
                let own = [("name", usage.name.clone()), ("kind", usage.kind.word().to_owned())];
                let labels: Vec<String> = own
                    .into_iter()
                    .chain(labels)
                    .map(|(label, value)| format!("{label}=\"{}\"", escaped(&value)))
                    .collect();
                let _ = writeln!(text, "{name}{suffix}{{{}}} {value}", labels.join(","));
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

fn memory(usage: &Usage, bytes: Option<u64>) -> Samples {
    counted(usage.memory.counted_by, bytes.map(|bytes| bytes as f64))
}

fn each_way(usage: &Usage, what: fn(LinkCounter) -> u64) -> Samples {
    let ways = usage.network.map(|link| [("up", what(link.up)), ("down", what(link.down))]);
    by("direction", ways.into_iter().flatten())
}

fn each_queue(usage: &Usage, what: fn(QueueCounter) -> u64) -> Samples {
    let queues = [("up", usage.holds.rate_up), ("down", usage.holds.rate_down)];
    by("direction", queues.into_iter().filter_map(|(way, queue)| Some((way, what(queue?)))))
}

fn waited(usage: &Usage) -> Samples {
    let Some(pressure) = &usage.pressure else { return Vec::new() };
    let all = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)];
    let sample = |(resource, one): (&str, &Option<Pressure>)| {
        let waited = one.as_ref()?.some.total as f64 / 1e6;
        Some((vec![("resource", resource.to_owned())], waited))
    };
    all.into_iter().filter_map(sample).collect()
}

fn health(usage: &Usage) -> Samples {
    let states = [
        ("healthy", VolumeHealth::Healthy),
        ("degraded", VolumeHealth::Degraded),
        ("stopped", VolumeHealth::Stopped),
        ("failed", VolumeHealth::Failed),
    ];
    let of_volume = |volume: &ListedVolume| {
        let (name, health) = (volume.name.clone(), volume.health);
        states.map(|(word, state)| {
            let labels = vec![("volume", name.clone()), ("state", word.to_owned())];
            (labels, f64::from(u8::from(health == Some(state))))
        })
    };
    usage.volumes.iter().flat_map(of_volume).collect()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn counted(counted_by: CountedBy, value: Option<f64>) -> Samples {
    let by = match counted_by {
        CountedBy::Cgroup => "cgroup",
        CountedBy::Processes => "processes",
    };
    value.map(|value| (vec![("counted_by", by.to_owned())], value)).into_iter().collect()
}

fn by<'a>(label: &'static str, values: impl Iterator<Item = (&'a str, u64)>) -> Samples {
    values.map(|(word, value)| (vec![(label, word.to_owned())], value as f64)).collect()
}

/// A label's value: backslash, quote and newline are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_ends_as_it_must_and_values_are_escaped() {
        assert!(open_metrics(&[]).ends_with("# EOF\n"));
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
