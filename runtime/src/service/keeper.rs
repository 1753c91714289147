//! The process beside a detached sandbox or a service: one process, in turn several programs.
//!
//! A second start of this program gets an [`Order`], starts the sandbox, and reports that. It becomes
//! a program of a few kilobytes (`sys/keeper/main.rs`) that waits for the sandbox's end, writes its
//! log, and has its health checked. That program then becomes a second start again, which
//! releases the sandbox's resources and leaves a trace of it. A service may then be started again,
//! after a pause in which the process is the small program once more.

mod output;
mod seen;

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::register::{HealthState, Phase, Registered, ServiceRecord, ServiceStatus};
use super::rules::ServiceEnd;
use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::facts::now;
use crate::journal::{Entry, Journal};
use crate::resource::gc;
use crate::resource::record::SandboxRecord;
use crate::resource::trace::{OUTPUT, Trace};
use crate::start::again::{self, Again, Ordered};
use crate::start::{self, Child, Group, Options, Process, Spawn, Stdio};
use crate::sys::keeper::Keeping;
use crate::sys::{Errno, file, process, raw};
use crate::volume::usage::VolumeUse;
pub use output::{ATTACH, check_log};
use output::{Log, Outputs, Pipes, Streams, streams, with_outputs};
use seen::look_first;
pub use seen::seen;

/// What a keeper is to look after.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// A new sandbox.
    Sandbox {
        sandbox: Box<Sandbox>,
        options: Options,
        /// Its standard output is the caller's file, so there is no output to keep.
        logged: bool,
    },
    /// A new service, or a new start of one.
    Service(Box<ServiceRecord>),
    /// A service that has lost its keeper, in this state directory.
    TakeUp(PathBuf, String),
}

/// The words for second starts.
pub const KEEP: &str = "keep";
pub const ENDED: &str = "ended";
pub const RESTART: &str = "restart";
pub const HEALTH: &str = "health";
pub const WATCH: &str = "watch";

impl Order {
    fn wait_for(&self, keeper: &Ordered) -> Result<(Result<Vec<String>>, Vec<OwnedFd>)> {
        let (kind, name, hint) = match self {
            Order::Sandbox { options, .. } => {
                let name = options.name.as_deref().unwrap_or("without a name");
                (
                    "sandbox",
                    name,
                    format!("garth ps -a shows {name} if it runs; garth gc removes the rest"),
                )
            }
            Order::Service(record) => ("service", record.id.as_str(), of_lost(&record.id)),
            Order::TakeUp(_, name) => ("service", name.as_str(), of_lost(name)),
        };
        let answer = keeper.answer(&format!("the keeper of {kind} {name}"));
        answer.map_err(|error| error.hint(hint))
    }
}

fn of_lost(name: &str) -> String {
    format!("garth up goes on with it, garth down {name} ends it")
}

/// Starts a keeper for this order, and waits until it has done what it was started for. Returns
/// what the sandbox had to be started without.
///
/// # Errors
/// Those of the keeper; this program cannot be started a second time.
pub fn order(
    order: &Order,
    listen_fds: u16,
    protected: bool,
    stdout: Stdio,
) -> Result<Vec<String>> {
    if !again::is_possible() {
        return Err(Error::new(
            "the library is not linked into the program, which therefore cannot be started again to look after a sandbox",
        ));
    }
    let spawn = Spawn { stdin: Stdio::Null, stdout, group: Group::Session, ..Spawn::default() };
    let keeper = Again { word: KEEP, listen_fds, protected, spawn }.order(order)?;
    let (answer, _) = order.wait_for(&keeper)?;
    // It has forked; the process that continues is not our child.
    keeper.process.wait()?;
    answer
}

/// The keeper, a second start: does what its order says, answers, and becomes the small program.
///
/// # Errors
/// The process that gave the order is gone; all other errors are reported to it.
pub fn keep(words: &[OsString]) -> Result<()> {
    let (order, reply) = again::take::<Order>(words)?;
    // The process that asked may be gone; the sandbox runs nevertheless.
    let answer = |spared: Vec<String>| drop(reply.answer(&Ok(spared)));
    let kept = process::leave_parent()
        .map_err(|errno| Error::os("detach a process", errno))
        .and_then(|()| match order {
            Order::Sandbox { sandbox, options, logged } => {
                start_sandbox(&sandbox, &options, logged, &answer).map(|never| match never {})
            }
            Order::Service(record) => first_start(&record, &answer),
            Order::TakeUp(root, name) => take_up(&Journal::at(root), &name, &answer),
        });
    kept.or_else(|error| reply.answer(&Err::<Vec<String>, _>(error)))
}

/// Called when what was ordered is done, with what the sandbox had to be started without.
type Answer<'a> = &'a dyn Fn(Vec<String>);

fn start_sandbox(
    sandbox: &Sandbox,
    options: &Options,
    logged: bool,
    answer: Answer<'_>,
) -> Result<Infallible> {
    let pipes = match logged || sandbox.terminal {
        true => Pipes::default(),
        false => Pipes::new()?,
    };
    let mut child = with_outputs(pipes.writers, || {
        sandbox.spawn(&Options { merge_stderr: logged, ..options.clone() })
    })?;
    let mut outputs = Outputs { readers: pipes.readers, ..Outputs::default() };
    outputs.take_terminal(&mut child)?;
    let (size, count) = OUTPUT;
    let dir = child.entry();
    outputs.log = match (logged, dir) {
        // All of it is copied to the caller's file.
        (true, _) => Some(Log::new(std::io::stdout().as_fd(), 0, 0)?),
        (false, dir) => dir.map(|dir| Log::new(dir, size, count)).transpose()?,
    };
    answer(child.process().spared().to_vec());
    let held: Vec<BorrowedFd<'_>> = child.held().collect();
    keep_on(Kept::of(&child, &options.journal()), &held, &outputs, None)
}

/// Starts a service that was not up.
fn first_start(record: &ServiceRecord, answer: Answer<'_>) -> Result<()> {
    let journal = record.asked.options.journal();
    let service = Registered::new(&journal, &record.id);
    let (entry, is_new) = match journal.services().create(&record.id) {
        Ok(entry) => (entry, true),
        Err(error) => match service.exists()? {
            false => return Err(error),
            true => {
                let busy = || Error::new(format!("service {} is being changed", record.id));
                (journal.services().lock(&record.id)?.ok_or_else(busy)?, false)
            }
        },
    };
    service.set_down(false)?;
    service.write_keeper(&entry)?;
    record.write(&entry)?;
    let before = ServiceStatus::default();
    match start_service(&service, &entry, record, &before, None, answer) {
        Ok(never) => match never {},
        Err(error) if is_new => entry.remove().and(Err(error)),
        Err(error) => {
            let last = Some(error.to_string());
            let status = ServiceStatus { phase: Phase::Ended, failed: true, last, ..before };
            service.write_status(&status).and(Err(error))
        }
    }
}

fn start_service(
    service: &Registered,
    entry: &Entry,
    record: &ServiceRecord,
    before: &ServiceStatus,
    earlier: Option<Streams>,
    answer: Answer<'_>,
) -> Result<Infallible> {
    service.begin_anew()?;
    service.write_status(&ServiceStatus { phase: Phase::Starting, ..before.clone() })?;
    let asked = &record.asked;
    let streams = streams(service, record, earlier)?;
    let pipes = match &streams {
        Some(streams) => Pipes::to(streams)?,
        None if asked.sandbox.terminal => Pipes::default(),
        None => Pipes::open(service)?,
    };
    let mut child = with_outputs(pipes.writers, || asked.sandbox.spawn(&asked.options))?;
    let mut outputs = Outputs { readers: pipes.readers, ..Outputs::default() };
    outputs.take_terminal(&mut child)?;
    outputs.log = match streams {
        Some(_) => None,
        None => Some(Log::of(entry, record)?),
    };
    outputs.streams = streams;
    service.write_status(&ServiceStatus { phase: Phase::Running, ..before.clone() })?;
    answer(child.process().spared().to_vec());
    let held: Vec<BorrowedFd<'_>> = child.held().collect();
    let kept = Kept::of(&child, &asked.options.journal());
    keep_on(kept, &held, &outputs, Some((entry, record)))
}

/// The sandbox that is looked after.
struct Kept<'a> {
    first: BorrowedFd<'a>,
    pid: i32,
    command: Option<OwnedFd>,
    /// The lock of its entry.
    entry: RawFd,
    root: PathBuf,
    name: String,
    volumes: Vec<VolumeUse>,
}

impl<'a> Kept<'a> {
    fn of(child: &'a Child, journal: &Journal) -> Kept<'a> {
        let process = child.process();
        Kept {
            first: process.pidfd(),
            pid: process.pid(),
            command: start::command(process.pidfd(), process.pid()).unwrap_or_default(),
            entry: child.entry().map_or(-1, |entry| entry.as_raw_fd()),
            root: journal.root().to_owned(),
            name: child.id().unwrap_or_default().to_owned(),
            volumes: child.volumes().to_vec(),
        }
    }

    /// The arguments of what the keeper becomes: `WORD ROOT NAME ENTRY PID SERVICE OUT ERR`.
    fn words(&self, word: &str, service: Option<RawFd>, streams: Option<&Streams>) -> Vec<CString> {
        let numbers = [Some(self.entry), Some(self.pid), service];
        words(word, &self.root, &self.name, numbers, streams)
    }
}

fn words(
    word: &str,
    root: &Path,
    name: &str,
    numbers: [Option<i32>; 3],
    streams: Option<&Streams>,
) -> Vec<CString> {
    let streams = [0, 1].map(|nth| streams.map(|streams| streams[nth].as_raw_fd()));
    let numbers = numbers.into_iter().chain(streams);
    let numbers = numbers.map(|number| number.map_or("-".into(), |number| number.to_string()));
    let words: [OsString; 3] = [word.into(), root.into(), name.into()];
    let words = words.into_iter().chain(numbers.map(OsString::from));
    let text = |word: OsString| CString::new(word.into_vec()).unwrap_or_default();
    [again::NAME.to_owned()].into_iter().chain(words.map(text)).collect()
}

/// `service`: its entry, which stays locked, and its record.
fn keep_on(
    kept: Kept<'_>,
    held: &[BorrowedFd<'_>],
    outputs: &Outputs,
    service: Option<(&Entry, &ServiceRecord)>,
) -> Result<Infallible> {
    let failed = |errno: Errno| Error::os("become the keeper", errno);
    let own = own_program()?;
    for output in &outputs.readers {
        file::set_nonblocking(output.as_fd()).map_err(failed)?;
    }
    // Do not hold the standard error of `wrap -d` open: its reader may wait for end of file.
    raw::dup2(1, 2).map_err(failed)?;
    let lock = service.map(|(entry, _)| entry.as_lock().as_fd());
    let health = service.and_then(|(_, record)| record.rules().health.as_ref());
    let log = outputs.log.as_ref();
    // Without it, what happens to them is not in the log; that is no reason to end what runs.
    let watched =
        look_first(&Journal::at(&kept.root), &kept.name, &kept.volumes).unwrap_or_default();
    let output = |nth: usize| outputs.readers.get(nth).map(AsFd::as_fd);
    let keeping = Keeping {
        first: Some(kept.first),
        command: Some(kept.command.as_ref().map_or(kept.first, AsFd::as_fd)),
        outputs: [output(0), output(1)],
        dir: log.map(|log| log.dir.as_fd()),
        size: log.map_or(0, |log| log.size),
        count: log.map_or(1, |log| log.count),
        every: health.map(|health| health.interval.0),
        program: own.as_fd(),
        listening: outputs.listening.as_ref().map(AsFd::as_fd),
        watched: watched.as_ref().map(AsFd::as_fd),
        args: kept.words(ENDED, lock.map(|lock| lock.as_raw_fd()), outputs.streams.as_ref()),
        env: own_variables(),
    };
    let peer = outputs.peer.as_ref().map(AsFd::as_fd);
    // Held for the next start.
    let streams = outputs.streams.iter().flatten().map(AsFd::as_fd);
    let held = held.iter().copied().chain(lock).chain(peer).chain(streams);
    keeping.become_keeper(held).map_err(failed)
}

/// By these the second starts of a keeper find the directories and programs of their user.
fn own_variables() -> Vec<CString> {
    let names = ["HOME", "USER", "PATH", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];
    let set = names.into_iter().filter_map(|name| {
        let mut text = OsString::from(format!("{name}="));
        text.push(std::env::var_os(name)?);
        CString::new(text.into_vec()).ok()
    });
    set.collect()
}

/// This very program, even if its file has been replaced.
fn own_program() -> Result<File> {
    File::open("/proc/self/exe").map_err(|e| Error::io("open /proc/self/exe", &e))
}

/// The arguments of a second start that a keeper has become or started.
struct Words {
    journal: Journal,
    name: String,
    entry: Option<RawFd>,
    pid: Option<i32>,
    service: Option<RawFd>,
    /// To the host's journal.
    streams: Option<[RawFd; 2]>,
}

fn read(words: &[OsString]) -> Result<Words> {
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<i32>().ok());
    match words {
        [root, name, entry, pid, service, out, err] if name.to_str().is_some() => Ok(Words {
            journal: Journal::at(root),
            name: name.to_string_lossy().into_owned(),
            entry: number(entry),
            pid: number(pid),
            service: number(service),
            streams: number(out).zip(number(err)).map(|(out, err)| [out, err]),
        }),
        _ => Err(Error::new("invalid arguments of a keeper")),
    }
}

fn inherited<const N: usize>(fds: [RawFd; N]) -> Result<[OwnedFd; N]> {
    process::keep_inherited(fds)
        .map_err(|errno| Error::os(format!("descriptors {fds:?} of a keeper"), errno))
}

/// The name of the service that a health check is for, and its state directory. All descriptors of
/// the keeper are closed.
///
/// # Errors
/// The arguments are not those of a keeper.
pub fn of_health_check(words: &[OsString]) -> Result<(Journal, String)> {
    let Words { journal, name, .. } = read(words)?;
    inherited([])?;
    Ok((journal, name))
}

/// The name of the sandbox or service whose volumes are watched, its state directory, and the stream to
/// the host's journal, if its output goes there. All other descriptors of the keeper are closed.
///
/// # Errors
/// The arguments are not those of a keeper.
pub fn of_watch(words: &[OsString]) -> Result<(Journal, String, Option<OwnedFd>)> {
    let Words { journal, name, streams, .. } = read(words)?;
    let stream = match streams {
        Some([_, err]) => inherited([err]).map(|[err]| Some(err)),
        None => inherited([]).map(|[]| None),
    };
    Ok((journal, name, stream?))
}

/// The successor of a keeper: the first process of the sandbox has ended. Leaves a trace of the
/// sandbox and releases its resources; the lock of its journal entry, which the keeper held, is
/// kept until everything is released. Then decides what becomes of a service.
///
/// # Errors
/// Something could not be released or written.
pub fn ended(words: &[OsString]) -> Result<()> {
    let Words { journal, name, entry, pid, service, streams } = read(words)?;
    let (Some(entry), Some(pid)) = (entry, pid) else {
        return Err(Error::new("invalid arguments of a keeper"));
    };
    // Closes the other descriptors that the keeper held for the sandbox, such as its ports.
    let Some(service) = service else {
        let [lock] = inherited([entry])?;
        return bury(&journal, &name, lock, pid, None).map(drop);
    };
    let (lock, service, streams) = match streams {
        Some([out, err]) => {
            let [lock, service, out, err] = inherited([entry, service, out, err])?;
            (lock, service, Some([out, err]))
        }
        None => {
            let [lock, service] = inherited([entry, service])?;
            (lock, service, None)
        }
    };
    let Some(entry) = journal.services().adopt(&name, service)? else {
        return bury(&journal, &name, lock, pid, None).map(drop);
    };
    let registered = Registered::new(&journal, &name);
    let buried = bury(&journal, &name, lock, pid, Some(&registered.dir()));
    let how = match &buried {
        Ok(trace) => trace.as_ref().map_or("lost".into(), Trace::words),
        Err(error) => error.to_string(),
    };
    let ended = buried.ok().flatten().and_then(|trace| trace.ended_as());
    go_on(&registered, entry, ended, how, streams)
}

/// Returns the trace, if the sandbox was still this one's to release.
fn bury(
    journal: &Journal,
    name: &str,
    lock: OwnedFd,
    pid: i32,
    log: Option<&Path>,
) -> Result<Option<Trace>> {
    // The state directory may have been lost, and the name taken by another sandbox.
    let Some(entry) = journal.adopt(name, lock)? else { return Ok(None) };
    let told = tell(journal, &entry, pid, log);
    gc::release(entry, true).and(told).map(Some)
}

fn tell(journal: &Journal, entry: &Entry, pid: i32, log: Option<&Path>) -> Result<Trace> {
    // Nobody listens there any more.
    let _ = std::fs::remove_file(entry.file(ATTACH));
    let record = SandboxRecord::read(journal, entry.id())?;
    let has_init = record.asked.init && record.asked.namespaces.pid.is_new();
    let process = if has_init { Process::adopt_init(pid) } else { Process::adopt(pid) };
    // A keeper that has taken a service up is not the parent.
    let ended = process.and_then(|process| process.wait()).ok();
    let output = Path::new("/proc/self/fd/1");
    // The caller's file, or else /dev/null.
    let file = output.metadata().is_ok_and(|file| file.is_file()).then_some(output);
    let dir = log.map_or_else(|| entry.file(""), Path::to_owned);
    let trace = Trace::of(&record, ended, &dir, file);
    trace.write(journal)?;
    Ok(trace)
}

/// What becomes of a service whose sandbox has ended, and been released.
fn go_on(
    service: &Registered,
    entry: Entry,
    ended: Option<process::Ended>,
    how: String,
    streams: Option<Streams>,
) -> Result<()> {
    let status = service.status()?;
    let Some(record) = service.record()? else { return Ok(()) };
    let health = service.health()?;
    let outcome = ServiceEnd {
        ended,
        killed: service.was_killed()?,
        unhealthy: health.state == HealthState::Unhealthy,
        ran: match status.phase {
            Phase::Running => now().saturating_sub(status.since),
            _ => Duration::ZERO,
        },
    };
    let down = service.goes_down()?;
    let failed = !down && outcome.is_failure();
    let last = Some(match health.why {
        Some(why) if outcome.unhealthy => format!("{how}, not healthy: {why}"),
        _ => how,
    });
    let restart = record.rules().restart.after(outcome, status.in_a_row).filter(|_| !down);
    let Some((pause, in_a_row)) = restart else {
        let ended = ServiceStatus { phase: Phase::Ended, last, failed, ..status };
        return service.write_status(&ended);
    };
    let restarts = status.restarts.saturating_add(1);
    let phase = Phase::Restarting;
    service.write_status(&ServiceStatus { phase, restarts, in_a_row, last, failed, ..status })?;
    let lock = entry.as_lock().as_fd();
    let own = own_program()?;
    let root = record.asked.options.journal();
    let keeping = Keeping {
        first: None,
        command: None,
        outputs: [None, None],
        dir: None,
        size: 0,
        count: 1,
        every: Some(pause),
        listening: None,
        watched: None,
        program: own.as_fd(),
        args: words(
            RESTART,
            root.root(),
            service.name(),
            [None, None, Some(lock.as_raw_fd())],
            streams.as_ref(),
        ),
        env: own_variables(),
    };
    let streams = streams.iter().flatten().map(AsFd::as_fd);
    let never = keeping.become_keeper([lock].into_iter().chain(streams));
    never.map(drop).map_err(|errno| Error::os("become the keeper", errno))
}

/// After the pause: starts the service again.
///
/// # Errors
/// The state directory cannot be read or written.
pub fn restart(words: &[OsString]) -> Result<()> {
    let Words { journal, name, service, streams, .. } = read(words)?;
    let service = service.unwrap_or(-1);
    let (lock, streams) = match streams {
        Some([out, err]) => {
            let [lock, out, err] = inherited([service, out, err])?;
            (lock, Some([out, err]))
        }
        None => {
            let [lock] = inherited([service])?;
            (lock, None)
        }
    };
    let Some(entry) = journal.services().adopt(&name, lock)? else { return Ok(()) };
    again(&Registered::new(&journal, &name), entry, streams)
}

fn again(service: &Registered, entry: Entry, streams: Option<Streams>) -> Result<()> {
    let status = service.status()?;
    if service.goes_down()? {
        return service.write_status(&ServiceStatus { phase: Phase::Ended, ..status });
    }
    let Some(record) = service.record()? else { return Ok(()) };
    match start_service(service, &entry, &record, &status, streams, &drop) {
        Ok(never) => match never {},
        Err(error) => go_on(service, entry, None, error.to_string(), None),
    }
}

/// Becomes the keeper of a service that has lost its own.
fn take_up(journal: &Journal, name: &str, answer: Answer<'_>) -> Result<()> {
    let service = Registered::new(journal, name);
    // Held: another process was faster.
    let Some(entry) = journal.services().lock(name)? else {
        answer(Vec::new());
        return Ok(());
    };
    let Some(record) = service.record()? else {
        answer(Vec::new());
        return entry.remove();
    };
    service.write_keeper(&entry)?;
    let Some(first) = journal.open_process(name)? else {
        if journal.has(name)? {
            gc::release_ended(journal, name)?;
        }
        answer(Vec::new());
        // A pause that has been cut short is over.
        return match service.status()?.phase {
            Phase::Ended => Ok(()),
            Phase::Restarting => again(&service, entry, None),
            _ => go_on(&service, entry, None, "lost, and its keeper too".into(), None),
        };
    };
    let busy = || Error::new(format!("service {name} is being changed"));
    let lock = journal.lock(name)?.ok_or_else(busy)?;
    let sandbox = SandboxRecord::read(journal, name)?;
    let held = sandbox.resources.hold(&sandbox.owner(journal))?;
    // A terminal has gone with the keeper that held it.
    let readers = Pipes::open(&service)?.readers;
    let log = Some(Log::of(&entry, &record)?);
    let outputs = Outputs { readers, log, ..Outputs::default() };
    let status = service.status()?;
    service.write_status(&ServiceStatus { phase: Phase::Running, ..status })?;
    let pid = journal.process(name)?.map_or(-1, |process| process.pid);
    let kept = Kept {
        first: first.as_fd(),
        pid,
        command: start::command(first.as_fd(), pid).unwrap_or_default(),
        entry: lock.as_lock().as_raw_fd(),
        root: journal.root().to_owned(),
        name: name.to_owned(),
        volumes: sandbox.resources.volumes,
    };
    let held: Vec<BorrowedFd<'_>> = held.iter().chain([lock.as_lock()]).map(AsFd::as_fd).collect();
    answer(Vec::new());
    keep_on(kept, &held, &outputs, Some((&entry, &record))).map(|never| match never {})
}
