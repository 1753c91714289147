//! `garth limit`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::{Format, Global, OURS, complain, print, shown, tell};
use crate::config::units::Span;
use crate::error::{Error, Result};
use crate::limit::control::Duty;
use crate::limit::meter::Count;
use crate::limit::traffic::Direction;
use crate::limit::{self, Ending, Figures, LimitRequest, Note, Target, Want};
use crate::service;

/// Direction of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Data the target sends
    Up,
    /// Data it receives
    Down,
    /// The sum of both
    Both,
}

/// Limit the data rate or run time of a process or a command
///
/// The target and all its descendants are stopped and continued; they need not cooperate. If the
/// limiter dies, the target continues to run.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").args(["pid", "name", "release_all", "command"]).required(true)))]
#[command(group(ArgGroup::new("want").args(["rate", "duty", "release_all"]).required(true)))]
pub struct Limit {
    /// Limit this process and its descendants
    #[arg(long, value_name = "N")]
    pid: Option<String>,
    /// Limit this sandbox or container
    #[arg(long, value_name = "SANDBOX")]
    name: Option<String>,
    /// Data rate to hold the target to, e.g. 8Mbit/s or 2MB/s
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// With --rate: the direction to count
    #[arg(long, value_enum, default_value = "both")]
    direction: Way,
    /// Share of the time the target may run, e.g. 40%
    #[arg(long, value_name = "PERCENT")]
    duty: Option<String>,
    /// Length of one run and stop together [default: 1s with --duty; with --rate, depends on the
    /// rate]
    #[arg(long, value_name = "TIME")]
    period: Option<String>,
    /// With --rate: longest single stop [default: 5s]
    #[arg(long, value_name = "TIME", requires = "rate")]
    max_stop: Option<String>,
    /// What to count: sockets, link or io [default: the best available]
    #[arg(long, value_name = "WHAT")]
    count: Option<String>,
    /// How long to limit the target [default: until interrupted or the target ends]
    #[arg(long = "for", value_name = "TIME")]
    span: Option<String>,
    /// Output format of the figures [default: text on a terminal, else JSON lines; with a command,
    /// none]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Continue processes left stopped by limiters that were killed together with their watchdogs
    #[arg(long)]
    release_all: bool,
    /// Command to start and limit
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Limit {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        if self.release_all {
            return release_all(global);
        }
        let asked = self.asked()?;
        let journal = global.journal();
        let command = !self.command.is_empty();
        let target = match (&self.pid, &self.name) {
            (Some(pid), _) => Target::Pid(number(pid)?),
            (_, Some(name)) => Target::Pid(service::first_process(&journal, name)?),
            _ => Target::Command(self.command.clone()),
        };
        let shown = Shown::choose(self.format, command);
        let ending = limit::run(journal.root(), target, &asked, &mut |note| shown.note(&note))?;
        Ok(match ending {
            Ending::Target(Some(ended)) => service::end_as(ended),
            Ending::Target(None) | Ending::Over => 0,
        })
    }

    fn asked(&self) -> Result<LimitRequest> {
        let span = |text: &Option<String>| {
            let span = text.as_deref().map(str::parse::<Span>).transpose();
            span.map(|span| span.map(|span| span.0))
        };
        let want = match (&self.rate, &self.duty) {
            (Some(rate), _) => {
                let direction = match self.direction {
                    Way::Up => Direction::Up,
                    Way::Down => Direction::Down,
                    Way::Both => Direction::Both,
                };
                Want::Rate(rate.parse()?, direction)
            }
            (None, Some(duty)) => Want::Duty(duty.parse::<Duty>()?),
            (None, None) => return Err(Error::new("either --rate or --duty is required")),
        };
        Ok(LimitRequest {
            want,
            period: span(&self.period)?,
            longest_stop: span(&self.max_stop)?,
            count: self.count.as_deref().map(str::parse::<Count>).transpose()?,
            span: span(&self.span)?,
            tell_every: Duration::from_secs(1),
        })
    }
}

fn number(text: &str) -> Result<i32> {
    let pid = text.parse().ok().filter(|pid: &i32| *pid > 0);
    pid.ok_or_else(|| {
        Error::new(format!("{:?} is not a process id", text.escape_debug().to_string()))
    })
}

fn release_all(global: &Global) -> Result<i32> {
    let (done, failed) = limit::release_all(global.journal().root())?;
    done.iter().for_each(|what| print(&format!("released {}\n", shown(what))));
    failed.iter().for_each(complain);
    if done.is_empty() && failed.is_empty() {
        print("nothing to release\n");
    }
    Ok(if failed.is_empty() { 0 } else { OURS })
}

/// How figures are shown. With a command they go to standard error, as standard output is the
/// command's.
#[derive(Clone, Copy)]
struct Shown {
    format: Option<Format>,
    command: bool,
    terminal: bool,
}

impl Shown {
    fn choose(asked: Option<Format>, command: bool) -> Shown {
        let terminal = if command { stderr().is_terminal() } else { stdout().is_terminal() };
        let usual = if terminal { Format::Text } else { Format::Json };
        let format = asked.or((!command).then_some(usual));
        Shown { format, command, terminal: terminal && format == Some(Format::Text) }
    }

    fn note(self, note: &Note<'_>) {
        match (note, self.format) {
            (Note::Caution(words), _) => {
                self.clear();
                tell(words);
            }
            (_, None) => {}
            (Note::Begun(words), Some(_)) => tell(words),
            (Note::Figures(figures), Some(Format::Json)) => self.write(&json(figures, false)),
            (Note::Summary(figures), Some(Format::Json)) => self.write(&json(figures, true)),
            // Updated in place; without a terminal, a line each.
            (Note::Figures(figures), Some(Format::Text)) if self.terminal => {
                self.write(&format!("\r{}\x1b[K", words(figures)));
            }
            (Note::Figures(figures), Some(Format::Text)) => {
                self.write(&format!("{}\n", words(figures)));
            }
            (Note::Summary(figures), Some(Format::Text)) => {
                self.clear();
                let time = Span(Duration::from_millis((figures.seconds * 1e3) as u64));
                let stop = Span(Duration::from_millis((figures.longest_stop * 1e3) as u64));
                let words = words(figures);
                self.write(&format!("in {time}: {words}, longest stop {stop}\n"));
            }
        }
    }

    fn clear(self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
    }

    fn write(self, text: &str) {
        match self.command {
            true => drop(stderr().write_all(text.as_bytes())),
            false => print(text),
        }
    }
}

fn json(figures: &Figures, summary: bool) -> String {
    let mut value = serde_json::to_value(figures).unwrap_or_default();
    if summary && let Some(object) = value.as_object_mut() {
        object.insert("summary".into(), true.into());
    }
    format!("{value}\n")
}

fn words(figures: &Figures) -> String {
    let rate = |bits: u64| match bits {
        0..1_000_000 => format!("{:.1} kbit/s", bits as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} Mbit/s", bits as f64 / 1e6),
        _ => format!("{:.3} Gbit/s", bits as f64 / 1e9),
    };
    let asked = figures.asked.map_or(String::new(), |bits| format!("asked {}, ", rate(bits)));
    let got = figures.got.map_or(String::new(), |bits| format!("got {}, ", rate(bits)));
    let many = if figures.processes == 1 { "process" } else { "processes" };
    let not = figures.uncounted.as_ref().map_or(String::new(), |what| format!(", without {what}"));
    let Figures { duty, processes, .. } = figures;
    format!("{asked}{got}duty {:.0}%, {processes} {many}{not}", duty * 100.0)
}
