//! What is requested of a limiter, and what it reports.

use std::ffi::OsString;
use std::time::Duration;

use serde::Serialize;

use super::control::Duty;
use super::meter::Count;
use super::traffic::Direction;
use crate::config::units::{Rate, Span};
use crate::error::{Error, Result};
use crate::sys::process::Ended;

/// What is limited.
#[derive(Debug)]
pub enum Target {
    /// A running process and its descendants.
    Pid(i32),
    /// A command started for this purpose.
    Command(Vec<OsString>),
}

/// What to hold.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// A rate.
    Rate(Rate, Direction),
    /// A fraction of the time.
    Duty(Duty),
}

/// The request.
#[derive(Clone, Copy, Debug)]
pub struct LimitRequest {
    /// What to hold.
    pub want: Want,
    /// Length of a run and a stop together; `None`: chosen.
    pub period: Option<Duration>,
    /// No stop is longer; `None`: chosen.
    pub longest_stop: Option<Duration>,
    /// What is counted; `None`: the best available.
    pub count: Option<Count>,
    /// For how long; `None`: until the target ends or a signal arrives.
    pub span: Option<Duration>,
    /// How often figures are reported.
    pub tell_every: Duration,
}

impl LimitRequest {
    /// Checks that the request can be held.
    ///
    /// # Errors
    /// A value is out of bounds.
    pub fn check(&self) -> Result<()> {
        let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let within = |what: &str, span: Option<Duration>, low: Duration, high: Duration| match span
        {
            Some(span) if span < low || span > high => {
                let (low, high) = (Span(low), Span(high));
                Err(Error::new(format!("{what}: not between {low} and {high}")))
            }
            _ => Ok(()),
        };
        // One packet per second is the least that keeps a connection alive.
        if let Want::Rate(rate, _) = self.want
            && (rate.0 < 8_000 || rate.0 > 1_000_000_000_000)
        {
            let bounds = "not between 8kbit/s and 1Tbit/s";
            return Err(Error::new(format!("rate {rate}: {bounds}")));
        }
        within("--period", self.period, ms * 10, second * 60)?;
        within("--max-stop", self.longest_stop, ms * 10, second * 3600)?;
        within("--for", self.span, ms, second * 86_400 * 365)
    }
}

/// The figures for the time since the previous ones.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Time since the start.
    pub seconds: f64,
    /// Requested bits per second.
    pub asked: Option<u64>,
    /// Bits per second that moved; `None`: not counted.
    pub got: Option<u64>,
    /// The fraction of the time in which the target ran.
    pub duty: f64,
    /// Bytes moved since the start.
    pub moved: Option<u64>,
    /// Seconds of the longest stop since the start.
    pub longest_stop: f64,
    /// Number of processes.
    pub processes: usize,
    /// How it is stopped: `signals`, `freezer`.
    pub hold: &'static str,
    /// What is counted: `sockets`, `link`, `io`.
    pub count: Option<&'static str>,
    /// What of the target is missing from `moved` and `got`, in words; `None`: nothing.
    pub uncounted: Option<String>,
}

/// What the caller may show.
#[derive(Debug)]
pub enum Note<'a> {
    /// Once, at the start: how it works.
    Begun(&'a str),
    /// Something that the user should know.
    Caution(&'a str),
    /// Periodically.
    Figures(&'a Figures),
    /// At the end: the figures of the whole time.
    Summary(&'a Figures),
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The target has ended; of a command, this is how.
    Target(Option<Ended>),
    /// The time was over, or a signal arrived. The target runs.
    Over,
}
