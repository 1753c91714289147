//! What is remembered of a detached sandbox after it has ended: how it ended, and its last output.
//!
//! While it runs, its output goes to the `log` in its entry in the journal, which the keeper writes:
//! two files of at most 64 KiB. At the end `ended.json` is written beside them; and once everything the sandbox had is
//! released, the directory moves from `<root>/sandboxes/` to `<root>/ended/`, where nothing is
//! held, counted or released any more. It stays there for a day, until `garth delete`, or until its
//! name is reused.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log;
use super::record::SandboxRecord;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::{Entry, Journal, is_there, write_whole};
use crate::sys::process::{Ended, signal_name, signal_number};

/// The size in bytes of a file of the output, and how many are kept.
pub const OUTPUT: (u64, u32) = (65536, 2);
/// How long a trace is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How many traces are kept: the most recent ones.
pub const MOST: usize = 256;

const FILE: &str = "ended.json";
/// How many lines of the output are kept in the trace, and how many bytes.
pub const LAST_LINES: usize = 10;
const LAST_BYTES: u64 = 4096;

/// The end of a detached sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// The command.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub ended: u64,
    /// As a shell reports it: 128 + n for signal n; 255 if it is not known.
    pub exit_code: i32,
    /// How it ended is not known: its keeper was killed, and another took its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The name of the signal that ended it, such as `TERM`.
    pub signal: Option<String>,
    /// If the kernel killed for lack of memory: the limit that was reached, spelled as its flag.
    pub out_of_memory: Option<String>,
    /// The last lines of its output.
    pub output: Vec<String>,
}

impl Trace {
    /// The trace of the sandbox of `record`, which has just ended but is not released yet. `log` is
    /// the file that its output went to, if not to the log in `dir`.
    pub fn of(
        record: &SandboxRecord,
        ended: Option<Ended>,
        dir: &Path,
        log: Option<&Path>,
    ) -> Trace {
        let words = record.asked.command.iter().map(|word| word.to_string_lossy().into_owned());
        Trace {
            name: record.id.clone(),
            command: words.collect(),
            created: record.created.as_secs(),
            ended: facts::now().as_secs(),
            exit_code: ended.map_or(255, Ended::code),
            unknown: ended.is_none(),
            signal: match ended {
                Some(Ended::Killed(signal)) => Some(signal_name(signal)),
                _ => None,
            },
            out_of_memory: out_of_memory(record.resources.oom_kills(), &record.asked.limits),
            output: match log {
                Some(file) => last_lines(file),
                None => log::last_in_files(dir, LAST_LINES, LAST_BYTES),
            },
        }
    }

    /// `exited 3`, `killed TERM`, `killed KILL, out of memory (--memory 64m)`.
    pub fn words(&self) -> String {
        let mut words = match &self.signal {
            Some(signal) => format!("killed {signal}"),
            None if self.unknown => "ended".to_owned(),
            None => format!("exited {}", self.exit_code),
        };
        if let Some(limit) = &self.out_of_memory {
            words += &format!(", out of memory ({limit})");
        }
        words
    }

    /// How it ended, if that is known.
    pub fn ended_as(&self) -> Option<Ended> {
        match &self.signal {
            _ if self.unknown => None,
            Some(signal) => signal_number(signal).map(Ended::Killed),
            None => Some(Ended::Exited(self.exit_code)),
        }
    }

    /// Writes it into the entry, where it stays until everything is released.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, journal: &Journal) -> Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("the trace of {}: {e}", self.name)))?;
        write_whole(&journal.file(&self.name, FILE), &text, false)
    }

    /// All traces, sorted by name.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn all(journal: &Journal) -> Result<Vec<Trace>> {
        let read = |name: &String| Trace::read(journal, name).ok()?;
        // Skip one that is damaged or being removed.
        Ok(names(journal)?.iter().filter_map(read).collect())
    }

    /// The trace of `name`, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(journal: &Journal, name: &str) -> Result<Option<Trace>> {
        if journal.check_id(name).is_err() {
            return Ok(None);
        }
        let path = place(journal).join(name).join(FILE);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| Error::io(format!("read {}", path.display()), &e))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| Error::new(format!("{}: invalid trace: {e}", path.display())))
    }

    /// The directory of the trace of `name`, if there is one.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn dir(journal: &Journal, name: &str) -> Result<Option<PathBuf>> {
        let dir = place(journal).join(name);
        let there = journal.check_id(name).is_ok() && is_there(&dir)?;
        Ok(there.then_some(dir))
    }

    /// Removes the trace of `name`; returns false if there is none.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(journal: &Journal, name: &str) -> Result<bool> {
        if journal.check_id(name).is_err() {
            return Ok(false);
        }
        let dir = place(journal).join(name);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            removed => removed
                .map(|()| true)
                .map_err(|e| Error::io(format!("remove {}", dir.display()), &e)),
        }
    }

    /// Removes traces older than [`KEPT`] and those beyond [`MOST`]; returns their names.
    ///
    /// # Errors
    /// The state directory cannot be read or written.
    pub fn expire(journal: &Journal) -> Result<Vec<String>> {
        let mut traces = Trace::all(journal)?;
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.ended));
        let oldest = facts::now().as_secs().saturating_sub(KEPT.as_secs());
        let mut removed = Vec::new();
        for (nth, trace) in traces.into_iter().enumerate() {
            if nth >= MOST || trace.ended < oldest {
                Trace::remove(journal, &trace.name)?;
                removed.push(trace.name);
            }
        }
        // Left half removed by a process that was killed.
        for name in names(journal)? {
            if matches!(Trace::read(journal, &name), Ok(None)) {
                Trace::remove(journal, &name)?;
            }
        }
        Ok(removed)
    }
}

/// The last step of a release: removes the entry, but keeps its trace if there is one.
///
/// # Errors
/// The state directory cannot be written.
pub fn retire(entry: Entry) -> Result<()> {
    let journal = entry.journal().clone();
    // The state directory may have been lost, and the name taken by another.
    let in_place = journal.is_held_by(entry.id(), entry.as_lock().as_fd())?;
    if !in_place || !is_there(&entry.file(FILE))? {
        return entry.remove();
    }
    Trace::remove(&journal, entry.id())?;
    let dir = place(&journal);
    match fs::create_dir(&dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("create {}", dir.display()), &e));
        }
        _ => {}
    }
    let to = dir.join(entry.id());
    entry.move_to(&to)?;
    Trace::expire(&journal).map(drop)
}

/// What the kernel's count of OOM kills means, in words; `None` if there were none.
pub fn out_of_memory(kills: u64, limits: &Limits) -> Option<String> {
    let limit = limits.memory.map(|memory| format!("--memory {memory}"));
    (kills > 0).then(|| limit.unwrap_or_else(|| "of the cgroup".into()))
}

fn place(journal: &Journal) -> PathBuf {
    journal.root().join("ended")
}

/// The names that have a directory there.
fn names(journal: &Journal) -> Result<Vec<String>> {
    let dir = place(journal);
    let failed = |e| Error::io(format!("read {}", dir.display()), &e);
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn last_lines(file: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    // A file that cannot be read is skipped.
    let _ = tail(file, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| line.to_string()).collect()
}

fn tail(path: &Path, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    file.take(LAST_BYTES).read_to_end(bytes).map(drop)
}
