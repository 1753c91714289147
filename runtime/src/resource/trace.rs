//! What is remembered of a detached sandbox after it has ended: how it ended, and its last output.
//!
//! While it runs, its output goes to two files of its entry in the journal. The keeper writes them,
//! and switches to the other when one has reached 64 KiB, so that they never hold more than twice
//! that. At the end `ended.json` is written beside them; and once everything the sandbox had is
//! released, the directory moves from `<root>/sandboxes/` to `<root>/ended/`, where nothing is
//! held, counted or released any more. It stays there for a day, until `garth delete`, or until its
//! name is reused.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::record::SandboxRecord;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal, is_there};
use crate::sys::process::{Ended, signal_name};

/// The two files of the output.
pub const OUTPUT: [&str; 2] = ["output.0", "output.1"];
/// How long a trace is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How many traces are kept: the most recent ones.
pub const MOST: usize = 256;

const FILE: &str = "ended.json";
/// How much of the output is kept in the trace.
const LAST_LINES: usize = 10;
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
    /// As a shell reports it: 128 + n for signal n.
    pub exit_code: i32,
    /// The name of the signal that ended it, such as `TERM`.
    pub signal: Option<String>,
    /// If the kernel killed for lack of memory: the limit that was reached, spelled as its flag.
    pub out_of_memory: Option<String>,
    /// The last lines of its output.
    pub output: Vec<String>,
}

impl Trace {
    /// The trace of the sandbox of `record`, which has just ended but is not released yet. `log` is
    /// where its output went, if not to the files of its entry.
    pub fn of(
        journal: &Journal,
        record: &SandboxRecord,
        ended: Ended,
        log: Option<&Path>,
    ) -> Trace {
        let files: Vec<PathBuf> = match log {
            Some(log) => vec![log.into()],
            None => in_order(OUTPUT.map(|name| journal.file(&record.id, name)).to_vec()),
        };
        let words = record.asked.command.iter().map(|word| word.to_string_lossy().into_owned());
        Trace {
            name: record.id.clone(),
            command: words.collect(),
            created: record.created.as_secs(),
            ended: now(),
            exit_code: ended.code(),
            signal: match ended {
                Ended::Exited(_) => None,
                Ended::Killed(signal) => Some(signal_name(signal)),
            },
            out_of_memory: out_of_memory(record.resources.oom_kills(), &record.asked.limits),
            output: last_lines(&files),
        }
    }

    /// `exited 3`, `killed TERM`, `killed KILL, out of memory (--memory 64m)`.
    pub fn words(&self) -> String {
        let mut words = match &self.signal {
            Some(signal) => format!("killed {signal}"),
            None => format!("exited {}", self.exit_code),
        };
        if let Some(limit) = &self.out_of_memory {
            words += &format!(", out of memory ({limit})");
        }
        words
    }

    /// Writes it into the entry, where it stays until everything is released.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, journal: &Journal) -> Result<()> {
        let path = journal.file(&self.name, FILE);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("the trace of {}: {e}", self.name)))?;
        let write = || -> std::io::Result<()> {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&new)?.write_all(&text)?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| Error::io(format!("write {}", path.display()), &e))
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
        let oldest = now().saturating_sub(KEPT.as_secs());
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

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The older file first: the keeper sets the modification time of a file that it leaves to 1970.
fn in_order(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let written = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    files.sort_by_key(written);
    files
}

fn last_lines(files: &[PathBuf]) -> Vec<String> {
    let mut bytes = Vec::new();
    for path in files {
        // A file that cannot be read is skipped.
        let _ = tail(path, &mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LAST_BYTES as usize)..]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| line.to_string()).collect()
}

fn tail(path: &Path, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    file.take(LAST_BYTES).read_to_end(bytes).map(drop)
}
