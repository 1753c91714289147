//! `garth stats` and `garth metrics`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::figures::{binary, bits, part};
use super::manage::table;
use super::output::print;
use super::{Format, Global, to_json};
use crate::config::units::Span;
use crate::error::{Error, Result};
use crate::measure::{CountedBy, Layer, ListenAt, Observer, Sample, open_metrics, serve};
use crate::service::ListedVolume;
use crate::sys::process::{self, Signals};

/// Show what sandboxes and containers use
///
/// Two looks, an interval apart: CPU is in processors (100% is one of them), memory includes what can be
/// reclaimed, network is in bits a second of the layer that is named below the table. Pressure is the part
/// of the time in which some task waited for a processor, memory or disks; HELD that in which a quota or
/// garth limit held it.
#[derive(Debug, Args)]
pub struct Stats {
    /// Print again after each interval, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    interval: Span,
    /// Which bytes of the network are meant: payload, ip, frame or wire
    #[arg(long, value_name = "LAYER", default_value = "frame")]
    layer: Layer,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print as JSON, a line for each look if --follow is given
    #[arg(long)]
    json: bool,
    /// Only these sandboxes or containers
    names: Vec<String>,
}

/// A look, as JSON.
#[derive(Debug, Serialize)]
struct Look<'a> {
    layer: Layer,
    definition: &'static str,
    samples: &'a [Sample],
}

impl Stats {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let Span(interval) = self.interval;
        check(self.interval)?;
        let mut observer = Observer::new(&global.journal());
        self.of_these(observer.changes(self.layer)?)?;
        let signals = Signals::block_ends().map_err(|errno| Error::os("block signals", errno))?;
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let [signalled] = process::readable([signals.as_fd()], Some(left))
                .map_err(|errno| Error::os("wait", errno))?;
            if signalled {
                match signals.ask_to_end() {
                    true => return Ok(0),
                    false => continue,
                }
            }
            next += interval;
            let samples = observer.changes(self.layer)?;
            let samples = match self.of_these(samples) {
                Ok(samples) => samples,
                // All that was asked for has ended.
                Err(_) if self.follow => return Ok(0),
                Err(error) => return Err(error),
            };
            let definition = self.layer.definition();
            let look = Look { layer: self.layer, definition, samples: &samples };
            match (self.json || self.format == Format::Json, self.follow) {
                (true, false) => print(&to_json(&look)?),
                (true, true) => {
                    let line = serde_json::to_string(&look);
                    let line = line.map_err(|e| Error::new(format!("write JSON: {e}")))?;
                    print(&format!("{line}\n"));
                }
                (false, _) => print(&text(&samples, self.layer)),
            }
            if !self.follow {
                return Ok(0);
            }
        }
    }

    /// Those that were asked for.
    ///
    /// # Errors
    /// One of them is not there; with --follow, none.
    fn of_these(&self, mut samples: Vec<Sample>) -> Result<Vec<Sample>> {
        if self.names.is_empty() {
            return Ok(samples);
        }
        let is_there = |name: &&String| samples.iter().any(|one| one.usage.name == **name);
        let (there, gone): (Vec<_>, Vec<_>) = self.names.iter().partition(is_there);
        if let Some(name) = gone.first()
            && (!self.follow || there.is_empty())
        {
            return Err(Error::new(format!("no sandbox or container {name} is running"))
                .hint("garth ps and garth list show what there is"));
        }
        samples.retain(|one| self.names.contains(&one.usage.name));
        Ok(samples)
    }
}

/// Whether figures can be had so often.
///
/// # Errors
/// They cannot.
pub(super) fn check(interval: Span) -> Result<()> {
    if interval.0 < Duration::from_millis(10) {
        return Err(
            Error::new(format!("--interval {interval}: too short")).hint("10ms is the shortest")
        );
    }
    Ok(())
}

/// The table, and what its figures mean.
fn text(samples: &[Sample], layer: Layer) -> String {
    let titles = [
        "NAME",
        "CPU",
        "MEMORY",
        "LIMIT",
        "RECLAIM",
        "TASKS",
        "READ/s",
        "WRITTEN/s",
        "UP",
        "DOWN",
        "PRESSURE",
        "HELD",
        "VOLUMES",
    ];
    let mut rows = vec![titles.map(String::from).to_vec()];
    let none = || "-".to_owned();
    let mut by_processes = false;
    for Sample { usage, now } in samples {
        let now = now.unwrap_or_default();
        let memory = &usage.memory;
        let marked = |text: String, by: CountedBy, marks: &mut bool| match by {
            CountedBy::Cgroup => text,
            CountedBy::Processes => {
                *marks = true;
                text + "*"
            }
        };
        let waited = [now.waited_for_cpu, now.waited_for_memory, now.waited_for_io];
        let holds = [now.held(), now.rate_waits.filter(|waits| *waits > 0.0)];
        rows.push(vec![
            usage.name.clone(),
            marked(part(now.cpus), usage.cpu.counted_by, &mut by_processes),
            marked(binary(memory.used as f64), memory.counted_by, &mut by_processes),
            memory.limit.map_or_else(none, |limit| binary(limit as f64)),
            memory.reclaimable.map_or_else(none, |bytes| binary(bytes as f64)),
            match usage.processes_limit {
                Some(limit) => format!("{}/{limit}", usage.processes),
                None => usage.processes.to_string(),
            },
            now.read.map_or_else(none, binary),
            now.written.map_or_else(none, binary),
            now.up.map_or_else(none, bits),
            now.down.map_or_else(none, bits),
            match waited {
                [None, None, None] => none(),
                all => all.map(|one| one.map_or_else(none, part)).join(" "),
            },
            match holds {
                [None, None] => none(),
                [held, waits] => {
                    let held = held.map(part);
                    let waits = waits.map(|waits| format!("{waits:.0} waits/s"));
                    held.into_iter().chain(waits).collect::<Vec<_>>().join(", ")
                }
            },
            match &usage.volumes[..] {
                [] => none(),
                some => some.iter().map(ListedVolume::to_string).collect::<Vec<_>>().join(", "),
            },
        ]);
    }
    if samples.iter().all(|one| one.usage.volumes.is_empty()) {
        rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    let mut text = table(&rows);
    text += &format!(
        "UP, DOWN at layer {}, in bits of 10^3; memory and disks: bytes of 2^10\n",
        layer.definition()
    );
    if by_processes {
        text += "*: summed over its processes, as no cgroup counts it: what they share counts for each\n";
    }
    text
}

/// Print usage for Prometheus, as OpenMetrics text
///
/// For a scraper, --listen serves it over HTTP at /metrics, until interrupted; nothing stays behind.
#[derive(Debug, Args)]
pub struct Metrics {
    /// Serve at an address, such as 127.0.0.1:9776, or at a socket with this path
    #[arg(long, value_name = "PLACE")]
    listen: Option<ListenAt>,
}

impl Metrics {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let mut observer = Observer::new(&global.journal());
        let Some(place) = self.listen else {
            print(&open_metrics(&observer.look()?));
            return Ok(0);
        };
        let signals = Signals::block_ends().map_err(|errno| Error::os("block signals", errno))?;
        let told = |place: &str| super::tell(&format!("serving {place}"));
        serve(&mut observer, &place, &signals, told).map(|()| 0)
    }
}
