//! When to run and when to stop. Pure: times and measurements in, a decision out.
//!
//! [`OpenLoop`] is the poor man's limiter: a fixed part of each period. It yields min(1, duty +
//! B/(R·T)) of the link's rate R, where B is what is queued below the process: whatever the process
//! has put into its socket keeps moving while it is stopped.
//!
//! [`ClosedLoop`] keeps an account in bytes. It is credited at the requested rate, and debited with
//! what the process has *committed*: what has moved, and what will move whether or not it runs. The
//! process runs while the account is in credit, is stopped when it is used up, and runs again when
//! half a period's worth has accumulated. The account is the integral of the error, so there is no
//! steady-state error, whatever the link, its queue or the measurement delay; an overshoot
//! lengthens the next stop. There is no gain to tune, so none at which it would oscillate. An idle
//! target does not save up (the credit is bounded), and a debt that would need a longer stop than
//! allowed is paid in several, with the shortest run in between.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// What the target should do now, and when to ask again at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It runs; otherwise it is stopped.
    pub run: bool,
    /// Ask again after this time.
    pub look_in: Duration,
}

/// A fraction of the time, read from `40%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duty(pub f64);

impl FromStr for Duty {
    type Err = Error;

    fn from_str(text: &str) -> Result<Duty> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            Error::new(format!("duty \"{shown}\": {why}")).hint("write a percentage, e.g. 40%")
        };
        let number =
            text.trim().strip_suffix('%').ok_or_else(|| wrong("missing % sign"))?.trim_end();
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 =
            number.parse().ok().filter(|_| plain).ok_or_else(|| wrong("not a number"))?;
        match percent {
            0.0 => Err(wrong("the target would never run; use kill -STOP to stop it")),
            p if p >= 100.0 => Err(wrong("the target would never be stopped")),
            p if p < 1.0 => Err(wrong("less than 1%")),
            p => Ok(Duty(p / 100.0)),
        }
    }
}

/// The open loop: runs for a fixed part of each period.
#[derive(Clone, Copy, Debug)]
pub struct OpenLoop {
    duty: f64,
    period: Duration,
    begun: Duration,
}

impl OpenLoop {
    /// Starts with a run at `now`, a time since any fixed moment.
    pub fn new(duty: Duty, period: Duration, now: Duration) -> OpenLoop {
        OpenLoop { duty: duty.0, period, begun: now }
    }

    /// What to do at `now`.
    pub fn decide(&self, now: Duration) -> Decision {
        let period = self.period.as_nanos().max(1);
        let into = now.saturating_sub(self.begun).as_nanos() % period;
        let run_for = (period as f64 * self.duty) as u128;
        let (run, left) =
            if into < run_for { (true, run_for - into) } else { (false, period - into) };
        Decision { run, look_in: Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)) }
    }

    /// The longest stop.
    pub fn longest_stop(&self) -> Duration {
        self.period.mul_f64(1.0 - self.duty)
    }
}

/// What a closed loop has to hold.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Bytes per second.
    pub rate: f64,
    /// The length of a run and the stop after it together, where the target allows it.
    pub period: Duration,
    /// The target is never stopped for longer than this.
    pub longest_stop: Duration,
    /// A run is at least this long. It is short, as a process that copies from or to its socket
    /// moves megabytes in a millisecond; it counts from when the target has done something.
    pub shortest_run: Duration,
}

impl Tuning {
    /// For a rate in bytes per second: a period in which 128 kB move, between 50 ms and half a
    /// second. Shorter ones cost processor time and are no longer than a scheduler tick; longer
    /// ones are noticeable.
    pub fn of_rate(rate: f64) -> Tuning {
        let seconds = (131_072.0 / rate.max(1.0)).clamp(0.05, 0.5);
        Tuning {
            rate,
            period: Duration::from_secs_f64(seconds),
            longest_stop: Duration::from_secs(5),
            shortest_run: Duration::from_micros(200),
        }
    }
}

/// The closed loop.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    settings: Tuning,
    run: bool,
    /// When it last started to run or was stopped.
    since: Duration,
    last: Duration,
    committed: f64,
    /// Bytes that the target has written or read.
    handled: u64,
    /// Whether it has done something since it was continued.
    has_run: bool,
    /// Bytes in credit; negative: in debt.
    account: f64,
    /// How fast the target commits while it runs, in bytes per second: determines when to look
    /// again.
    speed: f64,
    /// Bytes of debt written off, as they could not be paid.
    forgiven: f64,
}

/// Looks are never closer together: a measurement takes about a fifth of this.
const SHORTEST_LOOK: Duration = Duration::from_micros(100);

impl ClosedLoop {
    /// Starts with the target running at `now`, a time since any fixed moment. `moved` is what has
    /// moved so far, in bytes; what is committed beyond that still has to be paid for.
    pub fn new(settings: Tuning, now: Duration, moved: u64) -> ClosedLoop {
        ClosedLoop {
            settings,
            run: true,
            since: now,
            last: now,
            committed: moved as f64,
            handled: moved,
            has_run: false,
            account: 0.0,
            speed: settings.rate,
            forgiven: 0.0,
        }
    }

    /// What to do at `now`, with `committed` bytes committed since the beginning, and `handled`
    /// bytes written or read by the target itself.
    pub fn decide(&mut self, now: Duration, committed: u64, handled: u64) -> Decision {
        let Tuning { rate, period, longest_stop, shortest_run } = self.settings;
        let passed = now.saturating_sub(self.last).as_secs_f64();
        // What was committed but never moved, as when a connection is cut, is credited back.
        let more = committed as f64 - self.committed;
        self.last = now;
        self.committed = committed as f64;
        self.account += rate * passed - more;
        self.has_run |= handled > self.handled;
        self.handled = handled;

        let share = self.share();
        // A target that has been idle may catch up by two periods at most; and a run that begins
        // slowly, as TCP does after idling, does not lose its share.
        self.account = self.account.min(share + 2.0 * rate * period.as_secs_f64());
        let deepest = -4.0 * rate * longest_stop.as_secs_f64();
        if self.account < deepest {
            self.forgiven += deepest - self.account;
            self.account = deepest;
        }

        let in_state = now.saturating_sub(self.since);
        let look_in = if self.run {
            if passed > 0.0 {
                // Fast up, slowly down: an extra look costs less than a late one.
                self.speed = (more / passed).max(self.speed * 0.9).max(rate);
            }
            if self.account > 0.0 {
                let left = Duration::from_secs_f64(self.account / self.speed);
                left.clamp(SHORTEST_LOOK, period / 8)
            } else if in_state < self.least_run() {
                (self.least_run() - in_state).min(SHORTEST_LOOK)
            } else {
                self.turn(false, now)
            }
        } else if self.account >= share || in_state >= longest_stop {
            self.turn(true, now)
        } else {
            self.wait(in_state)
        };
        Decision { run: self.run, look_in: look_in.max(SHORTEST_LOOK.min(shortest_run)) }
    }

    /// A run must be a real one: on a busy machine a process starts some milliseconds after it was
    /// continued, and one with work other than moving bytes must get to that too.
    fn least_run(&self) -> Duration {
        const PATIENCE: Duration = Duration::from_millis(10);
        if self.has_run { self.settings.shortest_run } else { PATIENCE }
    }

    /// The target was continued at `now` for another reason, such as a signal that it has to see;
    /// the account stays as it is.
    pub fn let_run(&mut self, now: Duration) {
        (self.run, self.since, self.has_run) = (true, now, false);
    }

    /// The target ran unmeasured for a while: starts anew.
    pub fn begin_anew(&mut self, now: Duration, moved: u64) {
        *self =
            ClosedLoop { forgiven: self.forgiven, ..ClosedLoop::new(self.settings, now, moved) };
    }

    fn turn(&mut self, run: bool, now: Duration) -> Duration {
        self.run = run;
        self.since = now;
        self.has_run = false;
        match run {
            true => {
                let full = Duration::from_secs_f64((self.account / self.speed).max(0.0));
                full.clamp(self.settings.shortest_run, self.settings.period / 8)
            }
            false => self.wait(Duration::ZERO),
        }
    }

    /// The time until the account has its share if nothing more is committed; but with a look in
    /// every period, as what arrives for a stopped process is debited too.
    fn wait(&self, in_state: Duration) -> Duration {
        let missing = (self.share() - self.account).max(0.0) / self.settings.rate;
        let left = self.settings.longest_stop.saturating_sub(in_state);
        Duration::from_secs_f64(missing).min(left).min(self.settings.period)
    }

    /// The credit with which a run begins.
    fn share(&self) -> f64 {
        self.settings.rate * self.settings.period.as_secs_f64() / 2.0
    }

    /// The longest single stop.
    pub fn longest_stop(&self) -> Duration {
        self.settings.longest_stop
    }

    /// The bytes written off so far. If there are any, the rate cannot be held: even the shortest
    /// runs move more than the longest stops make up for.
    pub fn forgiven(&self) -> u64 {
        self.forgiven as u64
    }
}

#[cfg(test)]
mod tests;
