//! How much a second: the difference of two looks at the same sandbox.

use std::time::Duration;

use serde::Serialize;

use super::layer::Layer;
use super::usage::{Holds, PressureUse, Usage};
use crate::cgroup::Pressure;
use crate::network::counters::LinkCounter;
use crate::resource::bandwidth::QueueCounter;

/// What was used between two looks. A counter that is lower than before began anew meanwhile, or lost a
/// process that nobody waited for: nothing is told of it until the next look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct UsageChange {
    /// The time between the looks, in seconds.
    pub seconds: f64,
    /// Processors that were busy: 1 is one of them, all the time.
    pub cpus: f64,
    /// Bytes read from block devices a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<f64>,
    /// Bytes written to block devices a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<f64>,
    /// Sent, in bits a second of the layer that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<f64>,
    /// Received, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<f64>,
    /// The part of the time in which some task waited for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_for_cpu: Option<f64>,
    /// For memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_for_memory: Option<f64>,
    /// For block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_for_io: Option<f64>,
    /// The part of the time in which a quota held it, summed over processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by_cpus: Option<f64>,
    /// The part of the time in which a limiter held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by_limit: Option<f64>,
    /// How often a second packets had to wait for a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_waits: Option<f64>,
    /// Packets a second that a rate's full queue has dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_drops: Option<f64>,
}

impl UsageChange {
    /// Between two looks at the same one; `None`: it is another one of the same name.
    pub fn between(
        before: &Usage,
        after: &Usage,
        elapsed: Duration,
        layer: Layer,
    ) -> Option<UsageChange> {
        let same = (before.kind, &before.name, before.pid, before.created)
            == (after.kind, &after.name, after.pid, after.created);
        let seconds = elapsed.as_secs_f64();
        if !same || seconds <= 0.0 {
            return None;
        }
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let nanoseconds = |before: u64, after: u64| each(before, after) / 1e9;
        let disk = before.disk.zip(after.disk);
        let network = before.network.zip(after.network);
        let bits = |before: LinkCounter, after: LinkCounter| {
            let bytes = after.bytes.saturating_sub(before.bytes);
            let frames = after.packets.saturating_sub(before.packets);
            layer.of_frames(bytes, frames).map(|bytes| bytes as f64 * 8.0 / seconds)
        };
        let payload = before.payload.zip(after.payload).filter(|_| layer == Layer::Payload);
        let pressure = before.pressure.as_ref().zip(after.pressure.as_ref());
        let waited = |of: fn(&PressureUse) -> Option<&Pressure>| {
            let (before, after) = pressure?;
            // Microseconds.
            Some(each(of(before)?.some.total, of(after)?.some.total) / 1e6)
        };
        let [queue_before, queue_after] = [before.holds, after.holds].map(queues);
        // The kernel's own counters have 32 bits.
        let counted = |of: fn(&QueueCounter) -> u64| {
            let differences =
                queue_before.iter().zip(&queue_after).filter_map(|(before, after)| {
                    let (before, after) = (of(before.as_ref()?) as u32, of(after.as_ref()?) as u32);
                    Some(f64::from(after.wrapping_sub(before)) / seconds)
                });
            let differences: Vec<f64> = differences.collect();
            (!differences.is_empty()).then(|| differences.iter().sum())
        };
        let limit = before.holds.limit.zip(after.holds.limit);
        Some(UsageChange {
            seconds,
            cpus: nanoseconds(before.cpu.nanoseconds, after.cpu.nanoseconds),
            read: disk.map(|(before, after)| each(before.read, after.read)),
            written: disk.map(|(before, after)| each(before.written, after.written)),
            up: match payload {
                Some((before, after)) => Some(8.0 * each(before.up, after.up)),
                None => network.and_then(|(before, after)| bits(before.up, after.up)),
            },
            down: match payload {
                Some((before, after)) => Some(8.0 * each(before.down, after.down)),
                None => network.and_then(|(before, after)| bits(before.down, after.down)),
            },
            waited_for_cpu: waited(|pressure| pressure.cpu.as_ref()),
            waited_for_memory: waited(|pressure| pressure.memory.as_ref()),
            waited_for_io: waited(|pressure| pressure.io.as_ref()),
            held_by_cpus: before
                .holds
                .cpus
                .zip(after.holds.cpus)
                .map(|(before, after)| nanoseconds(before.nanoseconds, after.nanoseconds)),
            held_by_limit: limit.filter(|(before, after)| before.limiter == after.limiter).map(
                |(before, after)| {
                    // It is noted once a second, for a time of its own.
                    let of = after.of.saturating_sub(before.of);
                    let held = after.nanoseconds.saturating_sub(before.nanoseconds);
                    if of == 0 { 0.0 } else { held as f64 / of as f64 }
                },
            ),
            rate_waits: counted(|queue| queue.waits),
            rate_drops: counted(|queue| queue.dropped),
        })
    }

    /// The part of the time in which something held it back, as far as that has a time.
    pub fn held(&self) -> Option<f64> {
        match (self.held_by_cpus, self.held_by_limit) {
            (None, None) => None,
            (cpus, limit) => Some(cpus.unwrap_or(0.0) + limit.unwrap_or(0.0)),
        }
    }
}

fn queues(holds: Holds) -> [Option<QueueCounter>; 2] {
    [holds.rate_up, holds.rate_down]
}

#[cfg(test)]
mod tests {
    use super::super::usage::{CountedBy, CpuUse, DiskUse, LimitHold, MemoryUse, QuotaHold};
    use super::*;
    use crate::network::counters::LinkTraffic;
    use crate::service::Face;

    fn usage(times: u64) -> Usage {
        let counted_by = CountedBy::Cgroup;
        let counter = |bytes| LinkCounter { bytes, packets: bytes / 1000, dropped: 0 };
        let queue = QueueCounter { waits: times * 3, dropped: times, waiting: 0 };
        Usage {
            name: "web".into(),
            kind: Face::Sandbox,
            pid: 7,
            created: 1,
            cpu: CpuUse { nanoseconds: times * 1_000_000_000, counted_by },
            memory: MemoryUse { used: 1, reclaimable: None, limit: None, counted_by },
            processes: 1,
            processes_limit: None,
            disk: Some(DiskUse { read: times * 4096, written: times * 100 }),
            pressure: None,
            payload: None,
            network: Some(LinkTraffic {
                up: counter(times * 10_000),
                down: counter(times * 1_000_000),
            }),
            holds: Holds {
                cpus: Some(QuotaHold { nanoseconds: times * 500_000_000, periods: times }),
                rate_up: Some(queue),
                rate_down: None,
                limit: Some(LimitHold {
                    nanoseconds: times * 250_000_000,
                    of: times * 1_000_000_000,
                    limiter: 9,
                }),
            },
            volumes: Vec::new(),
        }
    }

    fn change(before: &Usage, after: &Usage, layer: Layer) -> UsageChange {
        UsageChange::between(before, after, Duration::from_secs(2), layer).unwrap()
    }

    #[test]
    fn a_change_is_what_was_used_a_second() {
        let now = change(&usage(10), &usage(12), Layer::Frame);
        assert_eq!((now.cpus, now.read, now.written), (1.0, Some(4096.0), Some(100.0)));
        assert_eq!((now.up, now.down), (Some(80_000.0), Some(8_000_000.0)));
        assert_eq!((now.held_by_cpus, now.held_by_limit), (Some(0.5), Some(0.25)));
        assert_eq!((now.rate_waits, now.rate_drops), (Some(3.0), Some(1.0)));
        assert_eq!((now.waited_for_cpu, now.held()), (None, Some(0.75)));
        let [ip, wire] = [Layer::Ip, Layer::Wire].map(|l| change(&usage(0), &usage(2), l).up);
        assert_eq!((ip, wire), (Some(8.0 * (10_000.0 - 140.0)), Some(8.0 * (10_000.0 + 240.0))));
        assert_eq!(change(&usage(0), &usage(2), Layer::Payload).up, None);
    }

    #[test]
    fn counters_that_begin_anew_or_wrap_are_no_storms() {
        let now = change(&usage(12), &usage(10), Layer::Frame);
        assert_eq!((now.cpus, now.read, now.up), (0.0, Some(0.0), Some(0.0)));
        let (mut before, mut after) = (usage(1), usage(1));
        before.holds.rate_up.as_mut().unwrap().waits = u64::from(u32::MAX);
        after.holds.rate_up.as_mut().unwrap().waits = 3;
        assert_eq!(change(&before, &after, Layer::Frame).rate_waits, Some(2.0));
        after.pid = 8;
        assert_eq!(
            UsageChange::between(&before, &after, Duration::from_secs(1), Layer::Frame),
            None
        );
        let same = UsageChange::between(&before, &before, Duration::ZERO, Layer::Frame);
        assert_eq!(same, None);
    }
}
