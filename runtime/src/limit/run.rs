//! The loop: measure, decide, stop or continue, and wait for whichever comes first: the next look,
//! a signal, the end of the target, the end of the watchdog.

mod figures;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::acks::Acks;
use super::command::{ended, finish, forward, left_behind, start, wait_for};
use super::control::{ClosedLoop, Decision, OpenLoop, Tuning};
use super::hold::Hold;
use super::meter::{FileUse, Meter};
use super::record::{Limited, Marks, release_all};
use super::request::{Ending, LimitRequest, Note, Target, Want};
use super::target;
use super::traffic::Reading;
use super::tree::{self, ProcessTree};
use super::watchdog::Watchdog;
use crate::error::{Error, Result};
use crate::journal::ProcessId;
use crate::start::Process;
use crate::sys::process::{self, Arrived, Signals};
use crate::sys::task::{self, SchedulerAttr};
use crate::sys::timer::{Timer, monotonic};
use crate::sys::{Errno, pidfd};

/// Limits a target until it ends, the time is over, or a signal arrives. When this returns, nothing
/// is stopped. Must be called by a single-threaded process.
///
/// # Errors
/// The target may not be limited, or the request cannot be met. A command started for it is killed
/// if the limit cannot even start; later it continues unlimited, and the caller is told.
pub fn run(
    root: &Path,
    target: Target,
    asked: &LimitRequest,
    tell: &mut dyn FnMut(Note<'_>),
) -> Result<Ending> {
    asked.check()?;
    // What an earlier limiter has left behind.
    let _ = release_all(root);
    let signals =
        Signals::block_and_stop_later().map_err(|errno| Error::os("block signals", errno))?;
    let (tree, command) = match target {
        Target::Pid(pid) => (target::check(root, pid)?, None),
        Target::Command(words) => {
            let command = start(words)?;
            match target::check(root, command.pid()) {
                Ok(tree) => (tree, Some(command)),
                // It was that short-lived.
                Err(_) if ended(command.pidfd()) => {
                    if let Some(words) = left_behind(command.pid()) {
                        tell(Note::Caution(&words));
                    }
                    return Ok(Ending::Target(Some(finish(&command)?)));
                }
                Err(error) => {
                    command.kill();
                    let _ = command.wait();
                    return Err(error);
                }
            }
        }
    };
    let limiter = match Limiter::begin(root, tree, asked, command.is_some()) {
        Ok(limiter) => limiter,
        Err(error) => {
            if let Some(command) = command {
                command.kill();
                let _ = command.wait();
            }
            return Err(error);
        }
    };
    let result = limiter.limit(command.as_ref(), &signals, tell);
    let Some(command) = command else { return result };
    match result {
        Ok(Ending::Target(_)) => {
            if let Some(words) = left_behind(command.pid()) {
                tell(Note::Caution(&words));
            }
            finish(&command)
        }
        Ok(Ending::Over) => wait_for(&command, &signals),
        // The work it has done so far is worth more than slowing down the rest.
        Err(error) => {
            tell(Note::Caution(&format!("the limit has ended and the command continues: {error}")));
            wait_for(&command, &signals)
        }
    }
    .map(|ended| Ending::Target(Some(ended)))
}

/// Which controller.
enum Law {
    Open(OpenLoop),
    Closed(Box<ClosedLoop>),
}

struct Limiter<'a> {
    asked: &'a LimitRequest,
    tree: ProcessTree,
    hold: Hold,
    marks: Marks,
    own: ProcessId,
    watchdog: Watchdog,
    meter: Option<Meter>,
    acks: Acks,
    law: Law,
    running: bool,
    begun: Duration,
    reading: Reading,
    /// The tree is not scanned again before this moment.
    next_look: Duration,
    /// How long a look stays valid, given how little is new.
    pace: Duration,
    times: Times,
    cautions: Vec<String>,
    said_hopeless: bool,
    said_uncounted: bool,
    /// Processes that could not be inspected, since the start.
    unseen: BTreeSet<i32>,
    said_unread: bool,
    /// Until then the target runs, whatever the controller decides: it was asked to terminate.
    excused: Duration,
    files: FileUse,
    /// When the target was last found to have run, and its run time so far at that moment.
    active: (Duration, Duration),
}

/// For the figures.
#[derive(Clone, Copy, Default)]
struct Times {
    noted: Duration,
    turned: Duration,
    run: Duration,
    longest_stop: Duration,
    reported: Duration,
    reported_run: Duration,
    reported_moved: u64,
}

impl<'a> Limiter<'a> {
    /// `ours`: the target is a command that we started.
    fn begin(
        root: &Path,
        mut tree: ProcessTree,
        asked: &'a LimitRequest,
        ours: bool,
    ) -> Result<Limiter<'a>> {
        let pid = tree.root();
        let hold = Hold::choose(&tree)?;
        let mut cautions = Vec::new();
        let meter = match (Meter::begin(&tree, asked.count), asked.want) {
            // A command may start others that can be inspected; with a running process, that
            // process itself was meant.
            (Ok(meter), want) if meter.unseen().contains(&pid) && !ours => match want {
                Want::Duty(_) if asked.count.is_none() => None,
                _ => {
                    let what = format!("count the I/O of process {pid} ({})", tree::name(pid));
                    let hint = "this user may not inspect it: run as root, or use --duty";
                    return Err(Error::os(what, Errno(libc::EACCES)).hint(hint));
                }
            },
            (Ok(meter), _) => Some(meter),
            // The open loop works without a meter.
            (Err(_), Want::Duty(_)) if asked.count.is_none() => None,
            (Err(error), _) => return Err(error),
        };
        // The parent of a command that we started is not a shell.
        if let (Hold::Signals, false, Some(caution)) = (&hold, ours, target::caution(pid)) {
            cautions.push(caution);
        }
        let own = ProcessId::of(std::process::id() as i32)?;
        let freezer = match &hold {
            Hold::Freezer(freezer, _) => Some(freezer.clone()),
            Hold::Signals => None,
        };
        let limited = Limited { target: ProcessId::of(pid)?, limiter: own.clone(), freezer };
        let marks = Marks::create(root, limited)?;
        let watchdog = match Watchdog::start(marks.entry(), &own) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                marks.remove();
                return Err(error);
            }
        };
        if tree::ancestry(pid).contains(&own.pid) {
            tree.adopt(own.pid, watchdog.pid());
        }
        be_prompt();
        let begun = monotonic();
        let law = match asked.want {
            Want::Duty(duty) => {
                let period = asked.period.unwrap_or(Duration::from_secs(1));
                Law::Open(OpenLoop::new(duty, period, begun))
            }
            Want::Rate(rate, _) => {
                let mut settings = Tuning::of_rate(rate.0 as f64 / 8.0);
                settings.period = asked.period.unwrap_or(settings.period);
                settings.longest_stop = asked.longest_stop.unwrap_or(settings.longest_stop);
                Law::Closed(Box::new(ClosedLoop::new(settings, begun, 0)))
            }
        };
        let times = Times { turned: begun, reported: begun, ..Times::default() };
        Ok(Limiter {
            asked,
            tree,
            hold,
            marks,
            own,
            watchdog,
            meter,
            acks: Acks::default(),
            law,
            running: true,
            begun,
            reading: Reading::default(),
            next_look: begun,
            pace: SOON,
            times,
            cautions,
            said_hopeless: false,
            said_uncounted: false,
            unseen: BTreeSet::new(),
            said_unread: false,
            excused: Duration::ZERO,
            files: FileUse::default(),
            active: (begun, Duration::ZERO),
        })
    }

    fn limit(
        mut self,
        command: Option<&Process>,
        signals: &Signals,
        tell: &mut dyn FnMut(Note<'_>),
    ) -> Result<Ending> {
        let result = self.work(command, signals, tell);
        self.end(result, tell)
    }

    fn work(
        &mut self,
        command: Option<&Process>,
        signals: &Signals,
        tell: &mut dyn FnMut(Note<'_>),
    ) -> Result<Ending> {
        tell(Note::Begun(&self.words()));
        let timer = Timer::new().map_err(|errno| Error::os("create a timer", errno))?;
        loop {
            self.cautions.drain(..).for_each(|caution| tell(Note::Caution(&caution)));
            let now = monotonic();
            let over = self.asked.span.is_some_and(|span| now >= self.begun + span);
            if over {
                return Ok(Ending::Over);
            }
            if self.tree.is_over() || command.is_some_and(|command| ended(command.pidfd())) {
                return Ok(Ending::Target(None));
            }
            let mut wait = self.step(now)?;
            // What is opened and closed between two looks is known only by its end.
            if self.running && matches!(self.law, Law::Closed(_)) {
                wait = wait.min(self.next_look.saturating_sub(now).max(SHORTEST));
            }
            if now >= self.times.reported + self.asked.tell_every {
                let figures = self.figures(now);
                tell(Note::Figures(&figures));
            }
            wait = wait.min((self.times.reported + self.asked.tell_every).saturating_sub(now));
            if now >= self.times.noted + NOTE {
                self.times.noted = now;
                let (since, run) = (now - self.begun, self.run_time(now));
                let noted = self.marks.note(since, since.saturating_sub(run));
                self.hear(noted);
            }
            wait = wait.min((self.times.noted + NOTE).saturating_sub(now));
            if let Some(span) = self.asked.span {
                wait = wait.min((self.begun + span).saturating_sub(now));
            }
            let [signalled, bitten] = self.rest(&timer, signals, now + wait)?;
            if bitten {
                self.replace_watchdog()?;
            }
            while signalled && let Some(arrived) = signals.next() {
                if let Some(ending) = self.signal(command, arrived)? {
                    return Ok(ending);
                }
            }
        }
    }

    /// Waits for a moment, a signal, or the end of the watchdog; returns which of the last two.
    fn rest(&mut self, timer: &Timer, signals: &Signals, until: Duration) -> Result<[bool; 2]> {
        let stopped = self.meter.as_ref().filter(|_| !self.running);
        let receiving = stopped.map_or_else(Vec::new, Meter::receiving);
        loop {
            let left = until.saturating_sub(monotonic());
            let ask_in = self.acks.ask(&mut self.tree, &receiving);
            let wait = ask_in.map_or(left, |ask_in| ask_in.min(left));
            timer.set(wait).map_err(|errno| Error::os("set a timer", errno))?;
            let watched = [timer.as_fd(), signals.as_fd(), self.watchdog.pidfd()];
            let [_, signalled, bitten] =
                process::readable(watched, None).map_err(|errno| Error::os("wait", errno))?;
            if signalled || bitten || monotonic() >= until {
                return Ok([signalled, bitten]);
            }
        }
    }

    /// Measures, decides, and acts; returns the time until the next step.
    fn step(&mut self, now: Duration) -> Result<Duration> {
        if self.running && now >= self.next_look {
            self.look(now);
        }
        self.read();
        let Decision { run, look_in } = match &mut self.law {
            Law::Open(open) => open.decide(now),
            Law::Closed(closed) => {
                let Want::Rate(_, direction) = self.asked.want else { return Ok(look_soon()) };
                let Reading { handled, .. } = self.reading;
                let committed = direction.of(self.reading.committed());
                closed.decide(now, committed, direction.of(handled))
            }
        };
        let ask_in = self.excuse(now)?;
        match (self.running, run || now < self.excused) {
            (true, false) => self.stop(now)?,
            (false, true) => {
                // What has been opened meanwhile is found before it moves anything.
                self.look(now);
                self.go_on()?;
            }
            // A process may have been born just as the tree was stopped.
            (false, false) => self.hold.stop(&mut self.tree, &mut self.marks, now)?,
            (true, true) => {}
        }
        Ok(look_in.min(ask_in))
    }

    /// Lets a target that is asked to terminate while stopped do so; returns when to ask again.
    fn excuse(&mut self, now: Duration) -> Result<Duration> {
        const EVERY: Duration = Duration::from_millis(100);
        if self.running {
            let left = self.excused.saturating_sub(now);
            return Ok(if left.is_zero() { EVERY * 5 } else { left });
        }
        if now.saturating_sub(self.times.turned) >= EVERY && Hold::keeps_from_ending(&mut self.tree)
        {
            self.let_go()?;
        }
        Ok(EVERY)
    }

    /// Lets the target run for long enough to see a signal.
    fn let_go(&mut self) -> Result<()> {
        const ENOUGH: Duration = Duration::from_millis(20);
        self.go_on()?;
        let now = monotonic();
        self.excused = now + ENOUGH;
        if let Law::Closed(closed) = &mut self.law {
            closed.let_run(now);
        }
        Ok(())
    }

    /// Scans the tree; a large one less often.
    fn look(&mut self, now: Duration) {
        let mut news = self.tree.look(now);
        if let Some(meter) = &mut self.meter {
            let looked = meter.look(&self.tree);
            news |= meter.news();
            self.hear(looked);
            self.say_what_is_not_counted();
            self.say_that_files_are_not(now);
        }
        let late = if self.is_idle(now) { IDLE / 20 } else { LATE };
        self.pace = if news { SOON } else { (self.pace * 5 / 4).min(late) };
        let took = monotonic().saturating_sub(now);
        self.next_look = now + (took * 5).max(self.pace);
        // This sets its own pace.
        if let Some(listed) = self.meter.as_mut().map(Meter::look_at_others) {
            self.hear(listed);
        }
    }

    fn read(&mut self) {
        if let Some(meter) = &mut self.meter {
            let (now, ran) = (monotonic(), self.tree.processor_time());
            if ran != self.active.1 {
                self.active = (now, ran);
            }
            meter.is_idle(now.saturating_sub(self.active.0) > IDLE);
            let read = meter.read(&self.tree);
            if let Some(reading) = self.hear(read) {
                self.reading = reading;
            }
        }
    }

    /// Whether the target has been idle for so long that nothing that ends now is its doing.
    fn is_idle(&self, now: Duration) -> bool {
        now.saturating_sub(self.active.0) > IDLE
    }

    /// A failed measurement ends nothing: the next one may succeed, and until then the last one
    /// counts.
    fn hear<T>(&mut self, measured: Result<T>) -> Option<T> {
        let failure = match measured {
            Ok(measured) => return Some(measured),
            Err(error) => error,
        };
        if !self.said_unread {
            self.said_unread = true;
            self.cautions.push(format!("not everything is counted: {failure}"));
        }
        None
    }

    fn say_what_is_not_counted(&mut self) {
        let Some(meter) = &self.meter else { return };
        if let Some(kind) = meter.uncounted()
            && !self.said_uncounted
        {
            self.said_uncounted = true;
            self.cautions.push(format!(
                "its {kind} sockets are not counted: the kernel has no counters for them"
            ));
        }
        if let (Some(pid), true) = (meter.unseen().first(), self.unseen.is_empty()) {
            self.cautions.push(format!(
                "the I/O of process {pid} ({}) is not counted: this user may not inspect it",
                tree::name(*pid)
            ));
        }
        self.unseen.extend(meter.unseen());
    }

    /// A target that uses only files is not limited, unless that was asked for.
    fn say_that_files_are_not(&mut self, now: Duration) {
        let Want::Rate(rate, direction) = self.asked.want else { return };
        let moved = direction.of(self.reading.moved);
        if self.asked.count.is_some() || moved > 0 {
            return;
        }
        if let Some(used) = self.files.look(&self.tree, now, 2 * rate.0 / 8) {
            self.cautions.push(format!(
                "its sockets have moved nothing, but its processes have read and written {} MB of \
                 files and pipes, which are not limited: use --count io",
                used / 1_000_000
            ));
        }
    }

    fn stop(&mut self, now: Duration) -> Result<()> {
        let longest = match &self.law {
            Law::Open(open) => open.longest_stop(),
            Law::Closed(closed) => closed.longest_stop(),
        };
        // The promise first, then the letters of the processes, then the signals.
        self.marks.set_until(now + longest)?;
        self.running = false;
        self.times.run += now.saturating_sub(self.times.turned);
        self.times.turned = now;
        self.hold.stop(&mut self.tree, &mut self.marks, now)
    }

    fn go_on(&mut self) -> Result<()> {
        if self.running {
            return Ok(());
        }
        self.hold.go_on(&mut self.tree, &mut self.marks)?;
        self.running = true;
        let now = monotonic();
        let stopped = now.saturating_sub(self.times.turned);
        self.times.longest_stop = self.times.longest_stop.max(stopped);
        self.times.turned = now;
        self.marks.set_until(Duration::ZERO)
    }

    fn signal(&mut self, command: Option<&Process>, arrived: Arrived) -> Result<Option<Ending>> {
        match (arrived.signal, command) {
            (libc::SIGCHLD | libc::SIGWINCH | libc::SIGURG, None) | (libc::SIGCHLD, _) => {}
            (libc::SIGTSTP, _) => self.pause(command, arrived)?,
            (_, Some(command)) => {
                forward(command, arrived);
                // It must see the signal now, even one that the terminal has sent.
                self.let_go()?;
            }
            (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT, None) => {
                return Ok(Some(Ending::Over));
            }
            (_, None) => {}
        }
        Ok(None)
    }

    /// Ctrl-Z: a command stops with us, as it would have without us; any other target continues.
    fn pause(&mut self, command: Option<&Process>, arrived: Arrived) -> Result<()> {
        let mut held = Vec::new();
        for pid in self.tree.pids().to_vec() {
            held.extend(self.tree.member(pid).is_some_and(|member| member.held).then_some(pid));
        }
        self.go_on()?;
        if command.is_some() {
            // SIGCONT has undone the terminal's own stop.
            for pid in held {
                if let Some(member) = self.tree.member(pid) {
                    let _ = pidfd::send_signal(member.pidfd.as_fd(), libc::SIGTSTP);
                }
            }
            if let (Some(command), false) = (command, arrived.from_kernel) {
                let _ = command.signal(libc::SIGTSTP);
            }
        }
        process::stop();
        self.look(monotonic());
        self.read();
        if let (Law::Closed(closed), Want::Rate(_, direction)) = (&mut self.law, self.asked.want) {
            closed.begin_anew(monotonic(), direction.of(self.reading.moved));
        }
        Ok(())
    }

    fn replace_watchdog(&mut self) -> Result<()> {
        // Nothing stays stopped without a watchdog.
        self.go_on()?;
        if let Law::Closed(closed) = &mut self.law {
            closed.let_run(monotonic());
        }
        self.watchdog.end();
        self.watchdog = Watchdog::start(self.marks.entry(), &self.own)?;
        if tree::ancestry(self.tree.root()).contains(&self.own.pid) {
            self.tree.adopt(self.own.pid, self.watchdog.pid());
        }
        self.cautions.push("the watchdog was killed and has been restarted".into());
        Ok(())
    }

    /// Continues everything, whatever happened before.
    fn end(mut self, result: Result<Ending>, tell: &mut dyn FnMut(Note<'_>)) -> Result<Ending> {
        let released = self.go_on();
        self.read();
        if result.is_ok() {
            let now = monotonic();
            let run = self.times.run + now.saturating_sub(self.times.turned);
            let summary = self.figures_of(now, now - self.begun, run, self.moved());
            tell(Note::Summary(&summary));
        }
        // If that failed, the watchdog tries as well, once we are gone.
        released?;
        self.watchdog.end();
        self.marks.remove();
        result
    }
}

/// A reader copies megabytes in each millisecond that a stop is late, and the kernel grows a
/// receive buffer that is drained that fast, up to 32 MB. So we take priority over every process,
/// for the microseconds of a step. Where that is not allowed, bursts are longer; the account is
/// still paid. Children do not inherit it.
fn be_prompt() {
    let fifo = SchedulerAttr {
        policy: libc::SCHED_FIFO as u32,
        flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        priority: 1,
        ..SchedulerAttr::default()
    };
    let nice = SchedulerAttr { policy: libc::SCHED_OTHER as u32, priority: 0, nice: -15, ..fifo };
    let _ = task::scheduler(&fifo).or_else(|_| task::scheduler(&nice));
}

/// The next look at the tree, after something was opened or born, and after a long time without.
const SOON: Duration = Duration::from_micros(500);
const LATE: Duration = Duration::from_millis(5);
/// A connection that is closed may take some round trips to end.
const IDLE: Duration = Duration::from_secs(1);
/// How often it is noted for how long the target was stopped.
const NOTE: Duration = Duration::from_secs(1);
/// Steps are never closer together.
const SHORTEST: Duration = Duration::from_micros(100);

/// Without a rate nothing needs measuring.
fn look_soon() -> Duration {
    Duration::from_millis(100)
}
