//! Doing what a plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Action, UpPlan, names};
use crate::config::LimitSource;
use crate::config::rate::Change;
use crate::container::Changes;
use crate::error::{Error, Result};
use crate::facts::now;
use crate::journal::{Journal, ProcessId};
use crate::resource::gc;
use crate::resource::log;
use crate::resource::record::Record;
use crate::resource::trace::Trace;
use crate::service::keeper::{self, Order};
use crate::service::register::{AskedService, HealthState, Phase, Registered};
use crate::service::update;
use crate::start::{self, Stdio, deliver};
use crate::sys::{Errno, pidfd, process};

/// What happens to a service.
#[derive(Debug)]
pub enum UpEvent {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// Its health check succeeded, so long after its start.
    Healthy(Duration),
    /// It runs as before.
    Kept,
    /// It has a keeper again.
    TakenUp,
    /// These keys have been changed while it runs.
    Changed(Vec<String>),
    /// These keys were changed, and it is ended to be started again.
    Restarting(Vec<String>),
    /// It is asked to end.
    Stopping,
    /// It has ended, and everything it had is released.
    Stopped,
    /// A default that it had to be started without.
    Without(String),
    /// It is not started, as this other one has failed.
    Skipped(String),
    /// It is not up, or not healthy.
    Failed(Error),
}

/// For how long a service without a health check must have been running to count as started.
const SETTLED: Duration = Duration::from_millis(250);
/// Started again so often in a row, it counts as failed.
const OFTEN: u32 = 3;
const TICK: Duration = Duration::from_millis(20);

type Tell<'a> = &'a (dyn Fn(&str, UpEvent) + Sync);

/// Does what `plan` says. `wait`: until every service is healthy, not only those that others wait
/// for. Returns the names of the services that are not up as they should be. When `interrupted`
/// becomes true, nothing more is started, and what runs is left as it is.
///
/// # Errors
/// The state directory cannot be read.
pub fn perform(
    plan: &UpPlan,
    journal: &Journal,
    wait: bool,
    interrupted: &AtomicBool,
    tell: Tell<'_>,
) -> Result<Vec<String>> {
    let gone = plan.actions.iter().filter(|(_, action)| **action == Action::Stop);
    let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
    let mut failed = down(journal, &gone, DownEnding::ForGood, tell)?;
    let (groups, asked) = names::join(plan, journal)?;
    let work = Work {
        journal,
        plan,
        wait,
        interrupted,
        tell,
        progress: Progress::new(thread::available_parallelism().map_or(2, usize::from) * 2),
    };
    thread::scope(|scope| {
        for (name, asked) in &asked {
            let work = &work;
            scope.spawn(move || {
                let outcome = work.one(name, asked);
                work.progress.finish(name, outcome);
            });
        }
    });
    failed.extend(work.progress.failed());
    drop(groups);
    if !failed.is_empty() {
        // None of them may have come on record.
        release_groups(journal);
    }
    Ok(failed)
}

/// A group that cannot be released here is left to `gc`, which reports why.
fn release_groups(journal: &Journal) {
    let _ = names::release_unused(journal);
}

struct Work<'a> {
    journal: &'a Journal,
    plan: &'a UpPlan,
    wait: bool,
    interrupted: &'a AtomicBool,
    tell: Tell<'a>,
    progress: Progress,
}

/// What is finished, with success or not; and how many may work at the same time.
struct Progress {
    state: Mutex<(BTreeMap<String, bool>, usize)>,
    changed: Condvar,
}

impl Progress {
    fn new(slots: usize) -> Progress {
        Progress { state: Mutex::new((BTreeMap::new(), slots)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (BTreeMap<String, bool>, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, name: &str, success: bool) {
        self.lock().0.insert(name.to_owned(), success);
        self.changed.notify_all();
    }

    fn failed(&self) -> Vec<String> {
        let state = self.lock();
        state.0.iter().filter(|(_, success)| !**success).map(|(name, _)| name.clone()).collect()
    }

    /// Waits until all of these are finished; returns one that has failed.
    fn wait_for(&self, names: &[String]) -> Option<String> {
        let mut state = self.lock();
        loop {
            let outcome = |name: &String| state.0.get(name).copied();
            if let Some(name) = names.iter().find(|name| outcome(name) == Some(false)) {
                return Some(name.clone());
            }
            if names.iter().all(|name| outcome(name).is_some()) {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `work` while a slot is taken.
    fn in_turn<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        while state.1 == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.1 -= 1;
        drop(state);
        let done = work();
        self.lock().1 += 1;
        self.changed.notify_all();
        done
    }
}

impl Work<'_> {
    /// Whether it is up in the end.
    fn one(&self, name: &str, asked: &AskedService) -> bool {
        let none = Vec::new();
        let after = self.plan.after.get(name).unwrap_or(&none);
        if let Some(other) = self.progress.wait_for(after) {
            (self.tell)(name, UpEvent::Skipped(other));
            return false;
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return false;
        }
        match self.act(name, asked) {
            Ok(up) => up,
            Err(error) => {
                (self.tell)(name, UpEvent::Failed(error));
                false
            }
        }
    }

    fn act(&self, name: &str, asked: &AskedService) -> Result<bool> {
        let tell = |event| (self.tell)(name, event);
        let service = Registered::new(self.journal, name);
        let action = self.plan.actions.get(name).unwrap_or(&Action::Keep);
        match action {
            Action::Keep | Action::Stop => tell(UpEvent::Kept),
            Action::TakeUp => {
                take_up(self.journal, name)?;
                tell(UpEvent::TakenUp);
            }
            Action::Change(keys) => {
                change(self.journal, &service, asked, keys)?;
                if !service.is_kept()? {
                    take_up(self.journal, name)?;
                }
                tell(UpEvent::Changed(keys.clone()));
            }
            Action::Start | Action::Restart(_) => {
                if let Action::Restart(keys) = action {
                    tell(UpEvent::Restarting(keys.clone()));
                    stop(self.journal, &service, DownEnding::ForGood)?;
                }
                tell(UpEvent::Starting);
                let record = Record::new(name, asked.clone(), Default::default());
                let spared = self.progress.in_turn(|| {
                    let protected = start::needs_protection(&asked.sandbox)?;
                    let order = Order::Service(Box::new(record));
                    keeper::order(&order, 0, protected, Stdio::Null)
                })?;
                spared.into_iter().for_each(|what| tell(UpEvent::Without(what)));
                tell(UpEvent::Running);
            }
        }
        let is_awaited = self.plan.after.values().flatten().any(|other| other == name);
        match self.wait || is_awaited {
            true => self.healthy(&service, asked, action),
            false => Ok(true),
        }
    }

    /// Waits until it is healthy; without a health check, until it has been running for a moment.
    /// False: interrupted.
    fn healthy(&self, service: &Registered, asked: &AskedService, action: &Action) -> Result<bool> {
        let checked = asked.service.rules.health.is_some();
        while !self.interrupted.load(Ordering::Relaxed) {
            if !service.exists()? {
                return Err(Error::new("was ended by garth down"));
            }
            let status = service.status()?;
            let how = || {
                let last = status.last.clone().unwrap_or_else(|| "ended".into());
                let words = log::last(&service.dir(), 2).unwrap_or_default().join(" / ");
                let hint = match words.is_empty() {
                    true => format!("see garth logs {}", service.name()),
                    false => format!("its last words: {words}"),
                };
                Error::new(last).hint(hint)
            };
            match (status.phase, service.health()?) {
                (Phase::Ended, _) if status.failed => return Err(how()),
                // It has done its work.
                (Phase::Ended, _) => return Ok(true),
                (Phase::Restarting | Phase::Starting, _) if status.in_a_row >= OFTEN => {
                    return Err(how());
                }
                (Phase::Running, health) if checked => match health.state {
                    HealthState::Healthy => {
                        if matches!(action, Action::Start | Action::Restart(_)) {
                            let after = now().saturating_sub(status.since);
                            (self.tell)(service.name(), UpEvent::Healthy(after));
                        }
                        return Ok(true);
                    }
                    HealthState::Unhealthy => {
                        let why = health.why.unwrap_or_default();
                        return Err(Error::new(format!("not healthy: {why}")));
                    }
                    HealthState::Starting => {}
                },
                (Phase::Running, _)
                    if now().saturating_sub(status.since) >= SETTLED
                        || !matches!(action, Action::Start | Action::Restart(_)) =>
                {
                    return Ok(true);
                }
                _ => {}
            }
            thread::sleep(TICK);
        }
        Ok(false)
    }
}

/// Gives a service that has lost its keeper a new one.
pub fn take_up(journal: &Journal, name: &str) -> Result<()> {
    let order = Order::TakeUp(journal.root().to_owned(), name.to_owned());
    // It may start the sandbox again.
    keeper::order(&order, 0, true, Stdio::Null).map(drop)
}

fn change(
    journal: &Journal,
    service: &Registered,
    asked: &AskedService,
    keys: &[String],
) -> Result<()> {
    let of_limits = keys.iter().any(|key| super::LIMITS.contains(&key.as_str()));
    let of_rate = keys.iter().any(|key| key == "rate");
    let rates = asked.sandbox.rates;
    let changes = Changes {
        resources: match of_limits {
            true => LimitSource::Flags(&asked.sandbox.limits).resources().into_owned(),
            false => Default::default(),
        },
        rate: of_rate.then_some(Change { up: Some(rates.up), down: Some(rates.down) }),
        ..Changes::default()
    };
    if of_limits || of_rate {
        update(journal, service.name(), &changes, &[])?;
    }
    // If we are killed in between, the next `up` makes the same change once more.
    let Some(record) = service.record()? else { return Ok(()) };
    service.replace(&Record { asked: asked.clone(), ..record })
}

/// How services are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownEnding {
    /// They are taken off the record.
    ForGood,
    /// They stay on record, and are up again with `garth up --resume`: before a shutdown.
    UntilResumed,
}

/// Ends these services, those that wait for others first. Returns the names of those that could not
/// be.
///
/// # Errors
/// The state directory cannot be read.
pub fn down(
    journal: &Journal,
    names: &[String],
    ending: DownEnding,
    tell: Tell<'_>,
) -> Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut dependents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        let record = Registered::new(journal, name).record();
        // One that cannot be read is ended nevertheless.
        let after = record.ok().flatten().map(|record| record.rules().after.clone());
        for before in after.unwrap_or_default() {
            if let Some(before) = names.iter().find(|name| **name == before) {
                dependents.entry(before).or_default().insert(name);
            }
        }
    }
    let progress = Progress::new(names.len());
    thread::scope(|scope| {
        for name in names {
            let (progress, dependents) = (&progress, &dependents);
            scope.spawn(move || {
                let first: Vec<String> = dependents
                    .get(name.as_str())
                    .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
                    .unwrap_or_default();
                // One that could not be ended does not keep the others up.
                progress.wait_for_end(&first);
                tell(name, UpEvent::Stopping);
                let stopped = stop(journal, &Registered::new(journal, name), ending);
                let success = stopped.is_ok();
                tell(name, stopped.map_or_else(UpEvent::Failed, |()| UpEvent::Stopped));
                progress.finish(name, success);
            });
        }
    });
    release_groups(journal);
    Ok(progress.failed())
}

impl Progress {
    fn wait_for_end(&self, names: &[String]) {
        let mut state = self.lock();
        while !names.iter().all(|name| state.0.contains_key(name)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends a service: by its signal; if that has not been enough after its time, by SIGKILL.
fn stop(journal: &Journal, service: &Registered, ending: DownEnding) -> Result<()> {
    let name = service.name();
    if !service.exists()? {
        return Ok(());
    }
    // What has ended by itself does not come back.
    if ending == DownEnding::UntilResumed && service.status()?.phase == Phase::Ended {
        return Ok(());
    }
    let rules = service.record().ok().flatten().map(|record| record.rules().clone());
    let rules = rules.unwrap_or_default();
    // From here on its keeper does not start it again.
    service.set_down(true)?;
    let mut asked: Option<(ProcessId, Instant)> = None;
    let mut end = Instant::now() + rules.stop_timeout.0 + Duration::from_secs(30);
    loop {
        let process = journal.process(name)?;
        let open = process.as_ref().map(ProcessId::open).transpose()?.flatten();
        let kept = service.is_kept()?;
        if let (Some(process), Some(open)) = (process, open) {
            let is_new = asked.as_ref().is_none_or(|(known, _)| *known != process);
            let due = asked.as_ref().is_some_and(|(_, at)| at.elapsed() > rules.stop_timeout.0);
            let signal = match (is_new, due) {
                (true, _) => Some(rules.stop_signal.0),
                (false, true) => Some(libc::SIGKILL),
                (false, false) => None,
            };
            if let Some(signal) = signal {
                let sent = deliver(open.as_fd(), process.pid, signal);
                if !matches!(sent, Err(Errno(libc::ESRCH))) {
                    let what = || format!("send signal {signal} to {name}");
                    sent.map_err(|errno| Error::os(what(), errno))?;
                }
                if is_new {
                    end = Instant::now() + rules.stop_timeout.0 + Duration::from_secs(30);
                    asked = Some((process, Instant::now()));
                }
            }
            let ended = process::readable([open.as_fd()], Some(TICK));
            ended.map_err(|errno| Error::os(format!("wait for the end of {name}"), errno))?;
        } else if kept {
            // If it pauses, that is over; otherwise the signal has no effect.
            if let Some(keeper) = service.journal().open_process(name)? {
                let _ = pidfd::send_signal(keeper.as_fd(), libc::SIGURG);
            }
            thread::sleep(Duration::from_millis(2));
        } else {
            break;
        }
        if Instant::now() > end {
            return Err(Error::new(format!("{name} does not end"))
                .hint(format!("garth down {name} tries again")));
        }
    }
    if journal.has(name)? {
        gc::release_ended(journal, name)?;
    }
    Trace::remove(journal, name)?;
    match service.journal().lock(name) {
        Ok(Some(_entry)) if ending == DownEnding::UntilResumed => service.rest(),
        Ok(Some(entry)) => entry.remove(),
        Ok(None) => Err(Error::new(format!("service {name} has been started again"))),
        Err(error) if service.exists()? => Err(error),
        // Another process has done it.
        Err(_) => Ok(()),
    }
}
