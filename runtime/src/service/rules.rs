//! How a service is run: what a service file says beside the settings of its sandbox.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::settings::keys;
use crate::config::{Size, Span, os_path};
use crate::error::{Error, Result};
use crate::sys::process::{self, Ended};

/// What a service has beside its sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rules {
    /// Services that must be running, and healthy if they have a health check, before this one is
    /// started.
    #[serde(with = "keys::Texts")]
    pub after: Vec<String>,
    /// Services to which this one may connect, by their names, besides those in `after`.
    #[serde(with = "keys::Texts")]
    pub reaches: Vec<String>,
    /// Whether it is started again after its end.
    pub restart: Restart,
    /// How to find out whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
    /// How long it may take to end after that; then it is killed.
    pub stop_timeout: Span,
    /// Where its output goes.
    pub log: LogPlace,
    /// A file of its log is closed, and a new one begun, when it has reached this size.
    pub log_size: Size,
    /// How many files of its log are kept.
    pub log_count: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            after: Vec::new(),
            reaches: Vec::new(),
            restart: Restart::No,
            health: None,
            stop_signal: StopSignal::default(),
            stop_timeout: Span(Duration::from_secs(10)),
            log: LogPlace::Auto,
            log_size: Size(10 << 20),
            log_count: 5,
        }
    }
}

/// Where the output of a service goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LogPlace {
    /// To the host's journal if this is root's service, without a terminal, and there is a journal;
    /// otherwise to files.
    #[default]
    Auto,
    /// To the host's journal.
    Journal,
    /// To files.
    Files,
}

/// When a service is started again: `no`, `on-failure`, `on-failure:N` (at most N times in a row),
/// `always`, or `unless-stopped` (always, but not after `garth kill`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// If its exit code is not 0, a signal ended it, or its health check failed; this often in a
    /// row, if there is a number.
    OnFailure(Option<u32>),
    /// However it ended.
    Always,
    /// However it ended, except by `garth kill`.
    UnlessStopped,
}

impl FromStr for Restart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Restart> {
        Ok(match text {
            "no" => Restart::No,
            "on-failure" => Restart::OnFailure(None),
            "always" => Restart::Always,
            "unless-stopped" => Restart::UnlessStopped,
            _ => {
                let times = text.strip_prefix("on-failure:").and_then(|times| times.parse().ok());
                let times = times.filter(|times| *times > 0).ok_or_else(|| {
                    Error::new(format!("restart {text:?}: not a policy"))
                        .hint("write no, on-failure, on-failure:5, always or unless-stopped")
                })?;
                Restart::OnFailure(Some(times))
            }
        })
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::No => f.write_str("no"),
            Restart::OnFailure(None) => f.write_str("on-failure"),
            Restart::OnFailure(Some(times)) => write!(f, "on-failure:{times}"),
            Restart::Always => f.write_str("always"),
            Restart::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// A signal, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(pub i32);

impl Default for StopSignal {
    fn default() -> StopSignal {
        StopSignal(libc::SIGTERM)
    }
}

impl FromStr for StopSignal {
    type Err = Error;

    fn from_str(text: &str) -> Result<StopSignal> {
        let number = process::signal_number(text);
        number.map(StopSignal).ok_or_else(|| Error::new(format!("no signal {text:?}")))
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&process::signal_name(self.0))
    }
}

/// Written as one text.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$type, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Restart);
as_text!(StopSignal);

/// A health check: one of `command`, `tcp` and `http`, made inside the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthCheck {
    /// A command that succeeds.
    #[serde(with = "os_path::list", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub command: Vec<PathBuf>,
    /// A port of the sandbox that accepts a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// A page of the sandbox that is answered with a status from 200 to 399: `:80/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The time between two checks.
    pub interval: Span,
    /// How long one check may take.
    pub timeout: Span,
    /// After this many failures in a row, the service is not healthy.
    pub retries: u32,
    /// How long after its start failures do not count.
    pub start_period: Span,
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        HealthCheck {
            command: Vec::new(),
            tcp: None,
            http: None,
            interval: seconds(10),
            timeout: seconds(5),
            retries: 3,
            start_period: seconds(30),
        }
    }
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A command succeeds.
    Command(&'a [PathBuf]),
    /// A port accepts a connection.
    Tcp(u16),
    /// A page of this port, with this path, is answered.
    Http(u16, &'a str),
}

impl HealthCheck {
    /// What is to be checked.
    ///
    /// # Errors
    /// Nothing, more than one thing, or something that is not valid.
    pub fn check(&self) -> Result<Probe<'_>> {
        let mut checks = Vec::new();
        if !self.command.is_empty() {
            checks.push(Probe::Command(&self.command));
        }
        checks.extend(self.tcp.map(Probe::Tcp));
        if let Some(page) = &self.http {
            let wrong = || {
                Error::new(format!("health: http {page:?}: not a port and a path"))
                    .hint("write http = \":80/path\"")
            };
            let rest = page.strip_prefix(':').ok_or_else(wrong)?;
            let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
            if path.contains(|c: char| c.is_control() || c == ' ') {
                return Err(wrong());
            }
            checks.push(Probe::Http(port, if path.is_empty() { "/" } else { path }));
        }
        let whole = |span: Span| span.0 >= Duration::from_millis(1);
        if self.retries == 0 || !whole(self.interval) || !whole(self.timeout) {
            return Err(Error::new("health: interval, timeout and retries must not be 0"));
        }
        match checks.pop() {
            Some(check) if checks.is_empty() => Ok(check),
            _ => Err(Error::new("health: not one kind of check").hint(
                "write one of command = [\"PROGRAM\"], tcp = PORT and http = \":PORT/PATH\"",
            )),
        }
    }
}

/// The end of a service, as far as a restart depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceEnd {
    /// How its first process ended; `None` if that is not known.
    pub ended: Option<Ended>,
    /// `garth kill` has ended it.
    pub killed: bool,
    /// Its health check has.
    pub unhealthy: bool,
    /// How long it was running.
    pub ran: Duration,
}

/// Running for so long counts as a success: the next failure is the first in a row.
const STEADY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl ServiceEnd {
    /// Whether it is not what a service that has done its work leaves.
    pub fn is_failure(self) -> bool {
        self.unhealthy || self.ended != Some(Ended::Exited(0))
    }
}

impl Restart {
    /// Whether a service is started again that has been started again `before` times in a row:
    /// after which pause, and how many times that makes. The pause doubles from 100 ms to a minute.
    pub fn after(self, end: ServiceEnd, before: u32) -> Option<(Duration, u32)> {
        let before = if end.ran >= STEADY { 0 } else { before };
        let again = match self {
            Restart::No => false,
            Restart::OnFailure(most) => end.is_failure() && most.is_none_or(|most| before < most),
            Restart::Always => true,
            Restart::UnlessStopped => !end.killed,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << before.min(16)).min(LONGEST_PAUSE);
        again.then(|| (pause, before.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Option<Ended> = Some(Ended::Exited(0));

    fn end(ended: Option<Ended>) -> ServiceEnd {
        ServiceEnd { ended, killed: false, unhealthy: false, ran: Duration::ZERO }
    }

    fn again(policy: &str, end: ServiceEnd, before: u32) -> Option<u32> {
        let policy: Restart = policy.parse().unwrap();
        policy.after(end, before).map(|(_, times)| times)
    }

    #[test]
    fn a_policy_decides_by_how_it_ended() {
        let failures = [Some(Ended::Exited(1)), Some(Ended::Killed(libc::SIGTERM)), None].map(end);
        let unhealthy = ServiceEnd { unhealthy: true, ..end(OK) };
        let killed = ServiceEnd { killed: true, ..end(Some(Ended::Killed(libc::SIGTERM))) };
        assert_eq!(again("on-failure", end(OK), 0), None);
        assert_eq!(again("always", end(OK), 0), Some(1));
        assert_eq!(again("unless-stopped", end(OK), 0), Some(1));
        assert_eq!(again("unless-stopped", killed, 0), None);
        assert_eq!(again("always", killed, 0), Some(1));
        for failure in failures.into_iter().chain([unhealthy]) {
            assert_eq!(again("no", failure, 0), None);
            assert_eq!(again("on-failure", failure, 0), Some(1));
            assert_eq!(again("always", failure, 7), Some(8));
            assert_eq!(again("unless-stopped", failure, 7), Some(8));
        }
    }

    #[test]
    fn a_number_limits_failures_in_a_row() {
        let failed = end(Some(Ended::Exited(1)));
        assert_eq!(again("on-failure:2", failed, 1), Some(2));
        assert_eq!(again("on-failure:2", failed, 2), None);
        assert_eq!(again("on-failure:2", ServiceEnd { ran: STEADY, ..failed }, 2), Some(1));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pause = |before| Restart::Always.after(end(OK), before).unwrap().0.as_millis();
        assert_eq!([0, 1, 5].map(pause), [100, 200, 3200]);
        assert_eq!([10, 100, u32::MAX].map(pause), [60_000; 3]);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in ["", "never", "on-failure:", "on-failure:0", "on-failure:-1", "Always"] {
            assert!(text.parse::<Restart>().is_err(), "{text}");
        }
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<Restart>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_health_check_is_of_one_kind() {
        let http = |page: &str| HealthCheck { http: Some(page.into()), ..HealthCheck::default() };
        assert_eq!(http(":80").check().unwrap(), Probe::Http(80, "/"));
        assert_eq!(http(":8080/a?b").check().unwrap(), Probe::Http(8080, "/a?b"));
        for page in ["", "80", ":0", ":99999", ":80x/", "http://x/", ":80/a b", ":80/\r\n"] {
            assert!(http(page).check().is_err(), "{page}");
        }
        let both = HealthCheck { tcp: Some(80), ..http(":80") };
        let none = HealthCheck::default();
        for health in [both, none.clone(), HealthCheck { retries: 0, tcp: Some(1), ..none }] {
            assert!(health.check().is_err(), "{health:?}");
        }
    }
}
