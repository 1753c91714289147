//! Usage as text for Prometheus and its kin (OpenMetrics 1.0).

use std::fmt::Write;

use super::usage::{CountedBy, Usage};
use crate::cgroup::Pressure;
use crate::volume::status::VolumeHealth;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A family: its name without `_total`, type, unit, and what it is.
struct Family(&'static str, &'static str, &'static str, &'static str);

/// More labels of a sample, each with a value.
type Labels = Vec<(&'static str, String)>;

/// All samples of these sandboxes and containers.
pub fn open_metrics(all: &[Usage]) -> String {
    let mut text = String::new();
    let mut family = |family: &Family, samples: &dyn Fn(&Usage) -> Vec<(Labels, f64)>| {
        let Family(name, kind, unit, what) = family;
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {what}");
        let suffix = if *kind == "counter" { "_total" } else { "" };
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
    };
    family(&Family("garth_cpu_seconds", "counter", "seconds", "Processor time used."), &|usage| {
        one(usage.cpu.counted_by, Some(seconds(usage.cpu.nanoseconds)))
    });
    let memory = |what: fn(&Usage) -> Option<u64>| {
        move |usage: &Usage| one(usage.memory.counted_by, what(usage).map(|n| n as f64))
    };
    family(
        &Family(
            "garth_memory_bytes",
            "gauge",
            "bytes",
            "Memory in use, including what can be reclaimed.",
        ),
        &memory(|usage| Some(usage.memory.used)),
    );
    family(
        &Family(
            "garth_memory_reclaimable_bytes",
            "gauge",
            "bytes",
            "Memory that the kernel can take back without swap.",
        ),
        &memory(|usage| usage.memory.reclaimable),
    );
    family(
        &Family("garth_memory_limit_bytes", "gauge", "bytes", "The most memory that may be used."),
        &memory(|usage| usage.memory.limit),
    );
    family(
        &Family("garth_processes", "gauge", "", "Processes, or tasks where a cgroup counts."),
        &|usage| vec![(Vec::new(), usage.processes as f64)],
    );
    family(
        &Family("garth_disk_bytes", "counter", "bytes", "Bytes moved from and to block devices."),
        &|usage| {
            let disk = usage.disk.iter();
            disk.flat_map(|disk| by("operation", [("read", disk.read), ("write", disk.written)]))
                .collect()
        },
    );
    family(
        &Family(
            "garth_pressure_waiting_seconds",
            "counter",
            "seconds",
            "Time in which some task waited for a resource (PSI).",
        ),
        &|usage| {
            let Some(pressure) = &usage.pressure else { return Vec::new() };
            let all = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)];
            let sample = |(resource, one): (&str, &Option<Pressure>)| {
                let waited = one.as_ref()?.some.total as f64 / 1e6;
                Some((vec![("resource", resource.to_owned())], waited))
            };
            all.into_iter().filter_map(sample).collect()
        },
    );
    family(
        &Family(
            "garth_network_frame_bytes",
            "counter",
            "bytes",
            "Bytes of Ethernet frames, without checksum, preamble and gap; trains of segments count once.",
        ),
        &|usage| {
            let links = usage.network.iter();
            links
                .flat_map(|link| {
                    by("direction", [("up", link.up.bytes), ("down", link.down.bytes)])
                })
                .collect()
        },
    );
    family(
        &Family(
            "garth_network_packets",
            "counter",
            "",
            "Packets, as the kernel hands them on; trains of segments count once.",
        ),
        &|usage| {
            let links = usage.network.iter();
            links
                .flat_map(|link| {
                    by("direction", [("up", link.up.packets), ("down", link.down.packets)])
                })
                .collect()
        },
    );
    family(
        &Family("garth_network_dropped_packets", "counter", "", "Packets dropped at the link."),
        &|usage| {
            let links = usage.network.iter();
            links
                .flat_map(|link| {
                    by("direction", [("up", link.up.dropped), ("down", link.down.dropped)])
                })
                .collect()
        },
    );
    family(
        &Family(
            "garth_held_seconds",
            "counter",
            "seconds",
            "Time in which it was held: by the quota of --cpus, summed over processors, or by garth limit.",
        ),
        &|usage| {
            let cpus = usage.holds.cpus.map(|hold| ("cpus", hold.nanoseconds));
            let limit = usage.holds.limit.map(|hold| ("limit", hold.nanoseconds));
            let sample = |(by, time): (&str, u64)| (vec![("by", by.to_owned())], seconds(time));
            cpus.into_iter().chain(limit).map(sample).collect()
        },
    );
    let queues = |usage: &Usage| [("up", usage.holds.rate_up), ("down", usage.holds.rate_down)];
    family(
        &Family("garth_rate_waits", "counter", "", "How often a packet had to wait for --rate."),
        &|usage| {
            let known =
                queues(usage).into_iter().filter_map(|(way, queue)| Some((way, queue?.waits)));
            by("direction", known).collect()
        },
    );
    family(
        &Family(
            "garth_rate_dropped_packets",
            "counter",
            "",
            "Packets that found the queue of --rate full.",
        ),
        &|usage| {
            let known =
                queues(usage).into_iter().filter_map(|(way, queue)| Some((way, queue?.dropped)));
            by("direction", known).collect()
        },
    );
    family(&Family("garth_volume_health", "stateset", "", "How its RAID volumes are."), &|usage| {
        let states = [
            ("healthy", VolumeHealth::Healthy),
            ("degraded", VolumeHealth::Degraded),
            ("stopped", VolumeHealth::Stopped),
            ("failed", VolumeHealth::Failed),
        ];
        let of_volume = |volume: &crate::service::ListedVolume| {
            let (name, health) = (volume.name.clone(), volume.health);
            states.map(|(word, state)| {
                let labels =
                    vec![("volume", name.clone()), ("garth_volume_health", word.to_owned())];
                (labels, f64::from(u8::from(health == Some(state))))
            })
        };
        usage.volumes.iter().flat_map(of_volume).collect()
    });
    text.push_str("# EOF\n");
    text
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn one(counted_by: CountedBy, value: Option<f64>) -> Vec<(Labels, f64)> {
    let by = match counted_by {
        CountedBy::Cgroup => "cgroup",
        CountedBy::Processes => "processes",
    };
    value.map(|value| (vec![("counted_by", by.to_owned())], value)).into_iter().collect()
}

fn by<'a>(
    label: &'static str,
    values: impl IntoIterator<Item = (&'a str, u64)>,
) -> impl Iterator<Item = (Labels, f64)> {
    values.into_iter().map(move |(word, value)| (vec![(label, word.to_owned())], value as f64))
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
