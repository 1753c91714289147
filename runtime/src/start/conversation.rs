//! Starting a child that may outlive its starter: it has a copy of memory, not a share in it, and the
//! two talk over a line. The child asks, the parent does its part and says `Go`.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicI32;

use super::child::{self, Open, Record, Script};
use super::{Process, failure};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::sys::clone::{self, Cloned, Ground, Memory, Request, Words};
use crate::sys::line::{self, Message};
use crate::sys::{Errno, pidfd, process, raw::RawFd};

/// What the child waits for.
#[derive(Debug)]
pub enum Event {
    /// The id maps of its new user namespace.
    Maps,
    /// Whatever needs its process id: record, network, limits.
    Begun,
    /// The hooks that run before the root is entered.
    Mounted,
    /// Somebody who takes the descriptor of the seccomp filter's supervisor.
    Listener(OwnedFd),
}

/// The line to a child that is not there yet. Made first, for the plan must know its number.
#[derive(Debug)]
pub struct Line {
    parent: OwnedFd,
    child: OwnedFd,
}

impl Line {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE: too many open files.
    pub fn new() -> Result<Line> {
        let (parent, child) =
            line::pair().map_err(|errno| Error::os("make a pair of sockets", errno))?;
        Ok(Line { parent, child })
    }

    /// The child's descriptor.
    pub fn number(&self) -> RawFd {
        self.child.as_raw_fd()
    }
}

/// Runs a plan until its program has been executed, or, if it waits for a start, until it does.
/// `part` is the parent's part, called for each [`Event`].
///
/// # Errors
/// The first step that failed, or what `part` returned; the child is dead and reaped then.
pub fn converse(
    plan: &Plan,
    line: Line,
    mut part: impl FnMut(Event, &Process) -> Result<()>,
) -> Result<Process> {
    let ground =
        Ground::new(Memory::Forked).map_err(|errno| Error::os("map memory for a child", errno))?;
    let parent = pidfd::open(std::process::id() as i32)
        .map_err(|errno| Error::os("open a pidfd of this process", errno))?;
    let started = AtomicI32::new(-1);
    let open = Open {
        parent: parent.as_raw_fd(),
        init: -1,
        line: line.number(),
        other_end: line.parent.as_raw_fd(),
        started: &started,
    };
    let script = Script::new(plan, &ground, open);
    let request =
        Request { namespaces: plan.namespaces, memory: Memory::Forked, cgroup: plan.cgroup };
    let Line { parent: line, child } = line;
    let words = ground.words();
    let mut sibling: Option<Process> = None;
    let scope = clone::scope(&ground, request, &script, child::run, |cloned| {
        // Only the child holds it now, so its end is the end of the line.
        drop(child);
        // Not for the scope to act upon: the first may be reaped by now, and its number another's.
        Ok::<_, Infallible>(talk(line.as_fd(), cloned, words, &mut sibling, &mut part))
    });
    let (cloned, Ok(result)) = scope.map_err(|errno| failure::clone(plan, errno))?;
    let first = Process::new(cloned, false);
    let process = match (sibling, words.second()) {
        (Some(second), _) => second,
        // There is one, and it has said nothing: one of the two was killed.
        (None, Some(pid)) => {
            first.kill();
            let _ = first.wait();
            Process::adopt(pid)?
        }
        (None, None) => first,
    };
    let failed = words.failure().map(|(step, errno)| failure::step(plan, step, errno));
    let last = plan.steps.len().saturating_sub(1);
    let error = match (result, failed) {
        (_, Some(error)) | (Err(error), None) => error,
        (Ok(true), None) => return Ok(process),
        // The line has ended. If the child was at its last step, the program has been executed.
        (Ok(false), None) if words.at() == last && !waits(plan) => return Ok(process),
        (Ok(false), None) => died(plan, words.at(), &process),
    };
    process.kill();
    let _ = process.wait();
    Err(error)
}

/// Says `Go` to a container that waits for it; returns when its program has been executed.
///
/// # Errors
/// The step that failed, in the words of `plan`, which is asked for only then.
pub fn start(connection: BorrowedFd<'_>, plan: impl FnOnce() -> Result<Plan>) -> Result<()> {
    answer(connection)?;
    let Some(failed) = receive(connection)? else { return Ok(()) };
    let errno = receive(connection)?.map_or(libc::EIO, |message| message.value as i32);
    Err(failure::step(&plan()?, failed.value as usize, Errno(errno)))
}

/// Until the child is ready (true) or the line has ended.
fn talk(
    line: BorrowedFd<'_>,
    cloned: &Cloned,
    words: &Words,
    sibling: &mut Option<Process>,
    part: &mut impl FnMut(Event, &Process) -> Result<()>,
) -> Result<bool> {
    let first = Process::new(copy(cloned)?, false);
    while let Some(message) = receive(line)? {
        let process = sibling.as_ref().unwrap_or(&first);
        match event(message, process)? {
            Asked::Event(event) => part(event, process)?,
            Asked::Sibling => {
                *sibling = words.second().map(Process::adopt).transpose()?;
                let _ = first.wait();
            }
            Asked::Nothing => return Ok(true),
        }
        answer(line)?;
    }
    Ok(false)
}

fn waits(plan: &Plan) -> bool {
    plan.steps.iter().any(|planned| matches!(planned.step, Step::Ready { listener: Some(_) }))
}

fn died(plan: &Plan, at: usize, process: &Process) -> Error {
    let step = plan.steps.get(at).map_or(String::new(), |planned| planned.step.to_string());
    let how = match process::wait(process.pidfd(), true) {
        Ok(Some(process::Ended::Killed(libc::SIGKILL))) => {
            " by SIGKILL; its memory limit may be too low for a start".to_owned()
        }
        Ok(Some(process::Ended::Killed(signal))) => format!(" by signal {signal}"),
        _ => String::new(),
    };
    Error::new(format!("{step}: the process was ended{how}"))
}

enum Asked {
    Event(Event),
    Sibling,
    Nothing,
}

fn event(message: Message, process: &Process) -> Result<Asked> {
    let is = |record: Record| message.kind == record as u32;
    Ok(if is(Record::Maps) {
        Asked::Event(Event::Maps)
    } else if is(Record::Begun) {
        Asked::Event(Event::Begun)
    } else if is(Record::Mounted) {
        Asked::Event(Event::Mounted)
    } else if is(Record::Listener) {
        let fd = line::descriptor_of(process.pidfd(), message.value as RawFd)
            .map_err(|errno| Error::os("take the seccomp listener", errno))?;
        Asked::Event(Event::Listener(fd))
    } else if is(Record::Sibling) {
        Asked::Sibling
    } else {
        Asked::Nothing
    })
}

fn answer(line: BorrowedFd<'_>) -> Result<()> {
    match line::send(line, Message { kind: Record::Go as u32, value: 0 }) {
        // Why it has gone is told by the words, or by its status.
        Err(Errno(libc::EPIPE)) | Ok(()) => Ok(()),
        Err(errno) => Err(Error::os("tell the child to go on", errno)),
    }
}

fn receive(line: BorrowedFd<'_>) -> Result<Option<Message>> {
    line::receive(line).map_err(|errno| Error::os("listen to the child", errno))
}

fn copy(cloned: &Cloned) -> Result<Cloned> {
    let pidfd =
        cloned.pidfd.try_clone().map_err(|error| Error::io("copy a process descriptor", &error))?;
    Ok(Cloned { pid: cloned.pid, pidfd })
}
