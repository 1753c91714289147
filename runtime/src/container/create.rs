//! `create` and `run`.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

use super::environment::passed;
pub(super) use super::prepare::CreateOptions;
use super::prepare::{Prepared, prepare};
use super::record::ContainerRecord;
use super::terminal::{self, ChildProgram, Master, StandardFiles};
use super::{CREATED, CREATING, Warn, delete, hooks, second};
use crate::config::oci::Status;
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal};
use crate::start::Process;
use crate::sys::process::{Ended, Signals};

/// The word for a second start that runs [`create`].
pub(super) const CREATE: &str = "create";
/// The word for a second start that runs [`run`].
pub(super) const RUN: &str = "run";

/// Creates a container whose process waits for [`super::start`].
///
/// # Errors
/// The step that failed; nothing is left behind.
pub fn create(journal: &Journal, id: &str, options: &CreateOptions) -> Result<()> {
    if second::is_needed() {
        let passed = passed(options.preserve_fds);
        let second = second::order(CREATE, (journal, id), options, passed, &options.warn)?;
        second::answer(&second, &options.warn)?;
        return second.process.wait().map(drop);
    }
    let options = CreateOptions { detached: true, ..options.clone() };
    let Prepared { entry, record, .. } =
        prepare(journal, id, &options, &StandardFiles::Inherited, true)?;
    await_start(entry, record, &options.warn)
}

/// Same as [`create`], for a caller that looks after the container and says what its standard files are: its process is a child of this one, which must
/// be protected ([`crate::protect_own_program`]).
///
/// # Errors
/// The same.
pub fn create_child(
    journal: &Journal,
    id: &str,
    options: &CreateOptions,
    files: &StandardFiles,
) -> Result<ChildProgram> {
    let options = CreateOptions { detached: true, ..options.clone() };
    let Prepared { entry, record, process, terminal, .. } =
        prepare(journal, id, &options, files, true)?;
    await_start(entry, record, &options.warn)?;
    Ok(ChildProgram { process, terminal: terminal.and_then(Master::ours) })
}

/// From now on [`super::start`] finds the process.
fn await_start(entry: Entry, record: ContainerRecord, warn: &Warn) -> Result<()> {
    let (from, to) = (entry.file(CREATING), entry.file(CREATED));
    fs::rename(&from, &to).map_err(|e| {
        let _ = delete::release(entry, Some(record), warn);
        Error::io(format!("rename {} to {}", from.display(), to.display()), &e)
    })
}

/// Whether [`run`] leaves the container running and returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detached {
    /// Wait for its end.
    No,
    /// Leave it running.
    Yes,
}

/// What happens to a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterEnd {
    /// Delete it.
    Delete,
    /// Keep its record.
    Keep,
}

/// Creates and starts a container in one step, and waits for its end unless detached; then the
/// result is `None`.
///
/// # Errors
/// The step that failed before the program was executed; nothing is left behind.
pub fn run(
    journal: &Journal,
    id: &str,
    options: &CreateOptions,
    (detached, ending): (Detached, AfterEnd),
) -> Result<Option<Ended>> {
    let signals = match detached {
        Detached::Yes => None,
        Detached::No => Some(Signals::block().map_err(|errno| Error::os("block signals", errno))?),
    };
    if second::is_needed() {
        let how = (options, detached, ending);
        let passed = passed(options.preserve_fds);
        let second = second::order(RUN, (journal, id), &how, passed, &options.warn)?;
        if let Some(signals) = signals {
            terminal::attend(&second.process, &signals, None)?;
        }
        let ended = second::answer(&second, &options.warn)?;
        second.process.wait()?;
        return Ok(ended);
    }
    let options = CreateOptions { detached: signals.is_none(), ..options.clone() };
    let Prepared { entry, record, process, terminal, notify } =
        prepare(journal, id, &options, &StandardFiles::Inherited, false)?;
    let lists = record.asked.config.hooks.clone().unwrap_or_default();
    let state = record.state(Status::Running, process.pid());
    if let Err(error) = hooks::run(&lists.poststart, "poststart", &state, &options.warn) {
        let _ = delete::release(entry, Some(record), &options.warn);
        return Err(error);
    }
    // Release the lock: other verbs may use the container while it runs.
    drop(entry);
    let Some(signals) = signals else {
        let told = notify.map(|notify| notify.pass_on(process.pidfd(), process.pid()));
        return told.transpose().map(|_| None);
    };
    if let Some(notify) = notify {
        let pidfd = process.pidfd().try_clone_to_owned();
        let pidfd = pidfd.map_err(|e| Error::io("copy a process descriptor", &e))?;
        let warn = options.warn.clone();
        // This process waits for the container, so it is the service's main process.
        let main = std::process::id() as i32;
        thread::spawn(move || {
            if let Err(error) = notify.pass_on(pidfd, main) {
                warn.tell(&error.to_string());
            }
        });
    }
    let foreground = Foreground {
        signals: &signals,
        terminal: terminal.and_then(Master::shown),
        ending,
        warn: &options.warn,
    };
    wait(journal, record, &process, foreground).map(Some)
}

/// What waiting for a container in the foreground needs.
pub(super) struct Foreground<'a> {
    /// Blocked since before the container was started.
    pub signals: &'a Signals,
    /// The master of its terminal, if we hold it.
    pub terminal: Option<terminal::Attached>,
    /// What happens to the container afterwards.
    pub ending: AfterEnd,
    /// Receives warnings.
    pub warn: &'a Warn,
}

/// The foreground: waits until the first process has ended.
pub(super) fn wait(
    journal: &Journal,
    record: ContainerRecord,
    process: &Process,
    foreground: Foreground<'_>,
) -> Result<Ended> {
    let Foreground { signals, terminal, ending, warn } = foreground;
    terminal::attend(process, signals, terminal)?;
    let ended = process.wait()?;
    if ending == AfterEnd::Delete {
        match super::lock(journal, &record.id) {
            Ok(entry) => delete::release(entry, Some(record), warn)?,
            // Another process has deleted it.
            Err(_) if journal.has(&record.id).is_ok_and(|there| !there) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}
