//! `create` and `run`.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

use super::environment::listen_fds;
pub(super) use super::prepare::CreateOptions;
use super::prepare::{Prepared, prepare};
use super::record::ContainerRecord;
use super::terminal::{self, Terminal};
use super::{CREATED, CREATING, Warn, delete, hooks, second};
use crate::config::oci::Status;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::start::Process;
use crate::sys::process::{Ended, Signals};

/// The word for a second start that does [`create`].
pub(super) const CREATE: &str = "create";
/// And for one that does [`run`].
pub(super) const RUN: &str = "run";

fn inherited(options: &CreateOptions) -> u32 {
    options.preserve_fds + listen_fds()
}

/// Makes a container whose process waits for [`super::start`].
///
/// # Errors
/// What failed; nothing is left then.
pub fn create(journal: &Journal, id: &str, options: &CreateOptions) -> Result<()> {
    if second::is_needed() {
        let second =
            second::order(CREATE, (journal, id), options, inherited(options), &options.warn)?;
        second::answer(&second, &options.warn)?;
        return second.process.wait().map(drop);
    }
    let options = CreateOptions { detached: true, ..options.clone() };
    let Prepared { entry, record, .. } = prepare(journal, id, &options, true)?;
    let (from, to) = (entry.file(CREATING), entry.file(CREATED));
    fs::rename(&from, &to).map_err(|e| {
        let _ = delete::release(entry, Some(record), &options.warn);
        Error::io(format!("rename {} to {}", from.display(), to.display()), &e)
    })
}

/// What becomes of a container that [`run`] has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detached {
    /// It is waited for.
    No,
    /// It goes on by itself.
    Yes,
}

/// What becomes of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterEnd {
    /// It is deleted.
    Delete,
    /// It stays on record.
    Keep,
}

/// Creates and starts a container in one, and waits for its end unless it is detached; none is
/// returned then.
///
/// # Errors
/// What failed before its program was executed; nothing is left then.
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
        let second = second::order(RUN, (journal, id), &how, inherited(options), &options.warn)?;
        if let Some(signals) = signals {
            terminal::attend(&second.process, &signals, None)?;
        }
        let ended = second::answer(&second, &options.warn)?;
        second.process.wait()?;
        return Ok(ended);
    }
    let options = CreateOptions { detached: signals.is_none(), ..options.clone() };
    let Prepared { entry, record, process, terminal, notify } =
        prepare(journal, id, &options, false)?;
    let lists = record.asked.config.hooks.clone().unwrap_or_default();
    let state = record.state(Status::Running, process.pid());
    if let Err(error) = hooks::run(&lists.poststart, "poststart", &state, &options.warn) {
        let _ = delete::release(entry, Some(record), &options.warn);
        return Err(error);
    }
    // Others may work on it while it runs.
    drop(entry);
    let Some(signals) = signals else {
        let told = notify.map(|notify| notify.pass_on(process.pidfd(), process.pid()));
        return told.transpose().map(|_| None);
    };
    if let Some(notify) = notify {
        let pidfd = process.pidfd().try_clone_to_owned();
        let pidfd = pidfd.map_err(|e| Error::io("copy a process descriptor", &e))?;
        let warn = options.warn.clone();
        // The main process is the one that waits.
        let main = std::process::id() as i32;
        thread::spawn(move || {
            if let Err(error) = notify.pass_on(pidfd, main) {
                warn.tell(&error.to_string());
            }
        });
    }
    let foreground = Foreground { signals: &signals, terminal, ending, warn: &options.warn };
    wait(journal, record, &process, foreground).map(Some)
}

/// What belongs to a container that is waited for.
pub(super) struct Foreground<'a> {
    /// Blocked before it was started.
    pub signals: &'a Signals,
    /// The master of its terminal, if it came to us.
    pub terminal: Option<Terminal>,
    /// What becomes of it.
    pub ending: AfterEnd,
    /// Who is told what is no reason to fail.
    pub warn: &'a Warn,
}

/// The foreground: until the first process has ended.
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
            // Somebody else has deleted it.
            Err(_) if journal.has(&record.id).is_ok_and(|there| !there) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}
