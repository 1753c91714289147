//! What the limiter reports: figures, and how it works.

use std::time::Duration;

use super::{Law, Limiter, Times};
use crate::limit::control::Duty;
use crate::limit::hold::Hold;
use crate::limit::request::{Figures, Want};
use crate::limit::traffic::{Direction, Traffic};
use crate::limit::tree;

impl Limiter<'_> {
    pub(super) fn figures(&mut self, now: Duration) -> Figures {
        let run = self.run_time(now);
        let moved = self.moved();
        let Times { reported, reported_run, reported_moved, .. } = self.times;
        let figures =
            self.figures_of(now, now - reported, run - reported_run, moved - reported_moved);
        self.times =
            Times { reported: now, reported_run: run, reported_moved: moved, ..self.times };
        if let Law::Closed(closed) = &self.law
            && closed.forgiven() > 0
            && !self.said_hopeless
        {
            self.said_hopeless = true;
            self.cautions.push(format!(
                "the rate cannot be held: the shortest run moves more than a stop of {:.1} s can make \
                 up for; use a longer --max-stop",
                closed.longest_stop().as_secs_f64()
            ));
        }
        figures
    }

    /// For how long the target has run since the start.
    pub(super) fn run_time(&self, now: Duration) -> Duration {
        let running = now.saturating_sub(self.times.turned);
        self.times.run + if self.running { running } else { Duration::ZERO }
    }

    pub(super) fn figures_of(
        &self,
        now: Duration,
        span: Duration,
        run: Duration,
        moved: u64,
    ) -> Figures {
        let seconds = span.as_secs_f64().max(1e-9);
        let asked = match self.asked.want {
            Want::Rate(rate, _) => Some(rate.0),
            Want::Duty(_) => None,
        };
        let mut longest = self.times.longest_stop;
        if !self.running {
            longest = longest.max(now.saturating_sub(self.times.turned));
        }
        Figures {
            seconds: (now - self.begun).as_secs_f64(),
            asked,
            got: self.meter.as_ref().map(|_| (moved as f64 * 8.0 / seconds) as u64),
            duty: run.as_secs_f64() / seconds,
            moved: self.meter.as_ref().map(|_| self.moved()),
            longest_stop: longest.as_secs_f64(),
            processes: self.tree.pids().len(),
            hold: self.hold.name(),
            count: self.meter.as_ref().map(|meter| meter.count().name()),
            uncounted: self.uncounted(),
        }
    }

    pub(super) fn moved(&self) -> u64 {
        let direction = match self.asked.want {
            Want::Rate(_, direction) => direction,
            Want::Duty(_) => Direction::Both,
        };
        direction.of(self.reading.moved)
    }

    /// How it limits.
    pub(super) fn words(&self) -> String {
        let pid = self.tree.root();
        let what = match self.asked.want {
            Want::Rate(rate, Direction::Both) => format!("{rate}"),
            Want::Rate(rate, Direction::Up) => format!("{rate} up"),
            Want::Rate(rate, Direction::Down) => format!("{rate} down"),
            Want::Duty(Duty(part)) => format!("{:.0}% of the time", part * 100.0),
        };
        let how = match &self.hold {
            Hold::Signals => "SIGSTOP and SIGCONT".to_owned(),
            Hold::Freezer(freezer, _) => format!("the freezer {}", freezer.dir().display()),
        };
        let counted = self.meter.as_ref().map_or("nothing", |meter| meter.count().words());
        let name = tree::name(pid);
        format!("limiting process {pid} ({name}) to {what} by {how}; counted: {counted}")
    }

    /// What the figures lack, in words.
    fn uncounted(&self) -> Option<String> {
        let meter = self.meter.as_ref()?;
        let mut words = Vec::new();
        if let Some(kind) = meter.uncounted() {
            words.push(format!("{kind} sockets"));
        }
        match meter.strays() {
            (0, _) => {}
            (1, moved) => {
                words.push(format!("a connection of {} too short to attribute", bytes(moved)))
            }
            (many, moved) => {
                words.push(format!("{many} connections of {} too short to attribute", bytes(moved)))
            }
        }
        if meter.deaf() {
            words.push("connections whose end is not reported to this user".to_owned());
        }
        match self.unseen.len() {
            0 => {}
            1 => words.push("1 process of another user".to_owned()),
            many => words.push(format!("{many} processes of other users")),
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

fn bytes(moved: Traffic) -> String {
    let sum = moved.up + moved.down;
    match sum {
        0..1_000_000 => format!("{:.1} kB", sum as f64 / 1e3),
        _ => format!("{:.1} MB", sum as f64 / 1e6),
    }
}
