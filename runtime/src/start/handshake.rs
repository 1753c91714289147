//! Starting a child that may outlive the process that starts it: it has a copy of the memory
//! instead of sharing it, and the two communicate over a channel. The child asks, the parent does
//! its part and sends `Go`.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicI32;

use serde::{Deserialize, Serialize};

use super::child::{self, Open, Script, Word};
use super::failure::{self, Account};
use super::{HookOutput, Process};
use crate::error::{Error, Result};
use crate::plan::{Plan, Planned, Step};
use crate::start::seal;
use crate::sys::channel::{self, Heard, Message};
use crate::sys::clone::{self, Cloned, Ground, Memory, Progress, Request, Words};
use crate::sys::{Errno, pidfd, process, raw::RawFd};

/// What the child waits for.
#[derive(Debug)]
pub enum Event {
    /// The id maps of its new user namespace.
    Maps,
    /// Everything that needs its process id: record, network, limits.
    Begun,
    /// The hooks that run before it enters its root.
    Mounted,
    /// Passing on the listener of its seccomp filter to the supervisor.
    Listener(OwnedFd),
}

/// The channel to a child that does not exist yet. Made first, as its number must be in the plan.
#[derive(Debug)]
pub struct Channel {
    parent: OwnedFd,
    child: OwnedFd,
    progress: Option<File>,
}

impl Channel {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE: too many open files.
    pub fn new() -> Result<Channel> {
        let (parent, child) =
            channel::pair().map_err(|errno| Error::os("create a socket pair", errno))?;
        Ok(Channel { parent, child, progress: None })
    }

    /// A channel to a child that waits to be started by another process, which learns from the
    /// child how far it got.
    ///
    /// # Errors
    /// EMFILE: too many open files.
    pub fn to_be_started() -> Result<Channel> {
        let progress = Progress::file().map_err(|errno| Error::os("create a memfd", errno))?;
        Ok(Channel { progress: Some(progress), ..Channel::new()? })
    }

    /// The file in which the child keeps its progress.
    pub fn progress(&self) -> Option<RawFd> {
        self.progress.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The child's descriptor.
    pub fn number(&self) -> RawFd {
        self.child.as_raw_fd()
    }
}

/// Runs a plan until its program has been executed or, if it waits for a start, until it waits.
/// `part` is the parent's part, called for each [`Event`]; `output` receives the output of hooks.
///
/// # Errors
/// The first step that failed, or the error `part` returned; the child has then been killed and
/// reaped.
pub fn run_with_handshake(
    plan: &Plan,
    channel: Channel,
    output: &mut HookOutput<'_>,
    mut part: impl FnMut(Event, &Process) -> Result<()>,
) -> Result<Process> {
    // A container's program may be /proc/self/exe, or a script with that as its interpreter.
    seal::demand()?;
    let ground = ground(plan, channel.progress.as_ref())?;
    let parent = pidfd::open(std::process::id() as i32)
        .map_err(|errno| Error::os("open a pidfd of this process", errno))?;
    let started = AtomicI32::new(-1);
    let open = Open {
        parent: parent.as_raw_fd(),
        init: -1,
        channel: channel.number(),
        other_end: channel.parent.as_raw_fd(),
        progress: channel.progress().unwrap_or(-1),
        started: &started,
    };
    let script = Script::new(plan, &ground, open);
    let request = Request {
        namespaces: plan.namespaces,
        memory: Memory::Forked,
        cgroup: plan.cgroup,
        for_parent: false,
    };
    let Channel { parent: channel, child, progress: _progress } = channel;
    let words = ground.words();
    let mut sibling: Option<Process> = None;
    let scope = clone::scope(&ground, request, &script, child::run, |cloned| {
        // Only the child holds its end now, so the channel closes when the child ends.
        drop(child);
        // The scope must not act on an error: the first process may already be reaped and its pid
        // reused.
        Ok::<_, Infallible>(talk(channel.as_fd(), cloned, words, &mut sibling, output, &mut part))
    });
    let (cloned, Ok(result)) = scope.map_err(|errno| failure::clone(plan, errno))?;
    let first = Process::new(cloned, false);
    let process = match (sibling, words.second()) {
        (Some(second), _) => second,
        // There is one that has not reported: one of the two was killed.
        (None, Some(pid)) => {
            first.kill();
            let _ = first.wait();
            Process::adopt(pid)?
        }
        (None, None) => first,
    };
    output.end();
    let failed = words.failure().map(|(number, errno)| {
        let error = failure::step(plan, number, errno);
        match plan.steps.get(number) {
            Some(Planned { step: Step::Hook(_), .. }) => output.because(error),
            _ => error,
        }
    });
    let last = plan.steps.len().saturating_sub(1);
    let error = match (result, failed) {
        (_, Some(error)) | (Err(error), None) => error,
        (Ok(true), None) => return Ok(process),
        // The channel is closed. If the child was at its last step, the program has been executed.
        (Ok(false), None) if words.at() == last && !waits(plan) => return Ok(process),
        (Ok(false), None) => died(plan, words.at(), &process),
    };
    process.kill();
    let _ = process.wait();
    Err(error)
}

/// The memory for the child and, if another process will start it, what that process must know
/// about the remaining steps.
fn ground(plan: &Plan, progress: Option<&File>) -> Result<Ground> {
    let failed = |errno| Error::os("map memory for a child", errno);
    let Some(progress) = progress else { return Ground::new(Memory::Forked).map_err(failed) };
    let ready = |planned: &Planned| matches!(planned.step, Step::Ready { .. });
    let first = plan.steps.iter().position(ready).unwrap_or(plan.steps.len());
    let accounts = plan.steps[first..].iter().map(Account::of).collect();
    let text = serde_json::to_vec(&Left { first, accounts })
        .map_err(|e| Error::new(format!("write the steps of a start: {e}")))?;
    Progress::describe(progress, &text).and_then(|()| Ground::on(progress.as_fd())).map_err(failed)
}

/// The steps that remain when a container is started.
#[derive(Serialize, Deserialize)]
struct Left {
    first: usize,
    accounts: Vec<Account>,
}

/// Sends `Go` to a waiting container; returns when its program has been executed. `output` receives
/// the output of its hooks.
///
/// # Errors
/// A step failed.
pub fn start(connection: BorrowedFd<'_>, output: &mut HookOutput<'_>) -> Result<()> {
    answer(connection)?;
    let mut progress = None;
    while let Some(heard) = receive(connection)? {
        match heard.message.kind {
            kind if kind == Word::Progress as u32 => progress = heard.descriptor.map(File::from),
            _ => drop(listen(&heard, output)),
        }
    }
    output.end();
    let ended = || Error::new("the container's process ended before it was started");
    let file = progress.ok_or_else(ended)?;
    let Progress { at, failure, text } = Progress::read(&file)
        .map_err(|errno| Error::os("read the progress of the container's process", errno))?;
    let left: Left = serde_json::from_slice(&text)
        .map_err(|e| Error::new(format!("read the steps of a start: {e}")))?;
    let account =
        |number: usize| number.checked_sub(left.first).and_then(|at| left.accounts.get(at));
    match failure {
        Some((number, errno)) => Err(match account(number) {
            Some(hook @ Account::Hook { .. }) => output.because(hook.error(errno)),
            Some(account) => account.error(errno),
            None => Error::os(format!("step {number}"), errno),
        }),
        // At the last step, execve, a closed channel means that the program is running.
        None if at + 1 == left.first + left.accounts.len() => Ok(()),
        None => Err(account(at).map_or_else(ended, |account| account.died(""))),
    }
}

/// Takes the output of a hook; false if it is another message.
fn listen(heard: &Heard, output: &mut HookOutput<'_>) -> bool {
    let is = |record: Word| heard.message.kind == record as u32;
    if is(Word::Hook) {
        output.begin(&heard.text);
    } else if is(Word::HookOutput) {
        output.receive(heard.message.value as RawFd, &heard.text);
    } else {
        return false;
    }
    true
}

/// Serves the child until it is ready (true) or the channel is closed.
fn talk(
    channel: BorrowedFd<'_>,
    cloned: &Cloned,
    words: &Words,
    sibling: &mut Option<Process>,
    output: &mut HookOutput<'_>,
    part: &mut impl FnMut(Event, &Process) -> Result<()>,
) -> Result<bool> {
    let first = Process::new(copy(cloned)?, false);
    while let Some(heard) = receive(channel)? {
        if listen(&heard, output) {
            continue;
        }
        let message = heard.message;
        let process = sibling.as_ref().unwrap_or(&first);
        match event(message, process)? {
            Asked::Event(event) => part(event, process)?,
            Asked::Sibling => {
                *sibling = words.second().map(Process::adopt).transpose()?;
                let _ = first.wait();
            }
            Asked::Nothing => return Ok(true),
        }
        answer(channel)?;
    }
    Ok(false)
}

fn waits(plan: &Plan) -> bool {
    plan.steps.iter().any(|planned| matches!(planned.step, Step::Ready { listener: Some(_) }))
}

fn died(plan: &Plan, at: usize, process: &Process) -> Error {
    let how = match process::wait(process.pidfd(), true) {
        Ok(Some(process::Ended::Killed(libc::SIGKILL))) => {
            " by SIGKILL; its memory limit may be too low".to_owned()
        }
        Ok(Some(process::Ended::Killed(libc::SIGSYS))) => {
            " by SIGSYS; its seccomp filter kills it".to_owned()
        }
        Ok(Some(process::Ended::Killed(signal))) => format!(" by signal {signal}"),
        _ => String::new(),
    };
    match plan.steps.get(at) {
        Some(planned) => Account::of(planned).died(&how),
        None => Error::new(format!("the process was killed{how}")),
    }
}

enum Asked {
    Event(Event),
    Sibling,
    Nothing,
}

fn event(message: Message, process: &Process) -> Result<Asked> {
    let is = |record: Word| message.kind == record as u32;
    Ok(if is(Word::Maps) {
        Asked::Event(Event::Maps)
    } else if is(Word::Begun) {
        Asked::Event(Event::Begun)
    } else if is(Word::Mounted) {
        Asked::Event(Event::Mounted)
    } else if is(Word::Listener) {
        let fd = pidfd::get_fd(process.pidfd(), message.value as RawFd)
            .map_err(|errno| Error::os("take the seccomp listener", errno))?;
        Asked::Event(Event::Listener(fd))
    } else if is(Word::Sibling) {
        Asked::Sibling
    } else {
        Asked::Nothing
    })
}

fn answer(channel: BorrowedFd<'_>) -> Result<()> {
    match channel::send(channel, Message { kind: Word::Go as u32, value: 0 }) {
        // The shared words or its exit status tell why it is gone.
        Err(Errno(libc::EPIPE)) | Ok(()) => Ok(()),
        Err(errno) => Err(Error::os("tell the child to continue", errno)),
    }
}

fn receive(channel: BorrowedFd<'_>) -> Result<Option<Heard>> {
    channel::receive(channel).map_err(|errno| Error::os("receive from the child", errno))
}

fn copy(cloned: &Cloned) -> Result<Cloned> {
    let pidfd = cloned.pidfd.try_clone().map_err(|error| Error::io("copy a pidfd", &error))?;
    Ok(Cloned { pid: cloned.pid, pidfd })
}
