//! What is stopped now, recorded before it is stopped: one directory per limiter,
//! `<root>/limits/<pid>-<start time of the target>`, which the limiter holds by a lock.
//!
//! `record.json` names the processes involved, `figures` has how much they were stopped. `held` has
//! what changes: a first line with the time by which the target runs again (CLOCK_MONOTONIC, in
//! nanoseconds; 0: it runs), then a line for each process that may have been stopped, with a letter
//! that is changed in place: `s`, stopped by the limiter or about to be, or `r`. There is one
//! writer; the watchdog and any later cleanup only read.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cgroup::Freezer;
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal, ProcessId, is_there};
use crate::resource::Resources;
use crate::resource::record::{Record, Recorded};
use crate::sys::file::read_kernel;
use crate::sys::pidfd;

/// The processes involved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limited {
    /// The process whose tree is limited.
    pub target: ProcessId,
    /// The limiter.
    pub limiter: ProcessId,
    /// The cgroup that is frozen, if signals are not used.
    pub freezer: Option<Freezer>,
}

impl Recorded for Limited {}

/// Has two numbers of nanoseconds: for how long the limiter has worked, and stopped the target.
const FIGURES: &str = "figures";

/// Bytes of the first line, and of each other line.
const HEAD: usize = 21;
const LINE: usize = 34;

/// The record of this limiter, which is alive.
#[derive(Debug)]
pub struct Marks {
    entry: Entry,
    held: File,
    figures: File,
    lines: usize,
}

/// A limiter at work, as its record says.
#[derive(Clone, Copy, Debug)]
pub struct AtWork {
    /// The process whose tree is limited.
    pub target: i32,
    /// The limiter.
    pub limiter: i32,
    /// For how long it has worked.
    pub since: Duration,
    /// For how much of that the target was stopped.
    pub stopped: Duration,
}

impl Marks {
    /// Writes the record. Nothing may be stopped before this. What a killed limiter of the same
    /// target has left stopped is continued first.
    ///
    /// # Errors
    /// Another limiter holds this target; the directory cannot be written.
    pub fn create(root: &Path, limited: Limited) -> Result<Marks> {
        let journal = Journal::at(root).limits();
        let target = &limited.target;
        let id = format!("{}-{}", target.pid, target.start_time);
        let end = Instant::now() + Duration::from_secs(2);
        let entry = loop {
            if journal.has(&id)? {
                match journal.lock(&id) {
                    Ok(Some(left)) => clear(left).map(drop)?,
                    Ok(None) if is_being_cleared(&journal, &id)? && Instant::now() < end => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Ok(None) => return Err(taken(&journal, &id, target.pid)),
                    Err(_) if !journal.has(&id)? => {}
                    Err(error) => return Err(error),
                }
            }
            match journal.create(&id) {
                Err(_) if journal.has(&id)? => {}
                entry => break entry?,
            }
        };
        // First the file without which nothing counts as stopped.
        let [held, figures] = ["held", FIGURES].map(|name| {
            let path = entry.file(name);
            let mut options = File::options();
            options.read(true).write(true).create_new(true).mode(0o600);
            options.open(&path).map_err(|e| Error::io(format!("create {}", path.display()), &e))
        });
        let marks = Marks { held: held?, figures: figures?, entry, lines: 0 };
        marks.set_until(Duration::ZERO)?;
        Record::new(&id, limited, Resources::default()).write(&marks.entry)?;
        Ok(marks)
    }

    /// Its entry in the journal.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Promises that the target runs again by `until`, whatever happens; zero: it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_until(&self, until: Duration) -> Result<()> {
        self.write(&head(until), 0)
    }

    /// Notes for how long the limiter has worked, and for how much of that the target was stopped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, since: Duration, stopped: Duration) -> Result<()> {
        let text = format!("{:>20} {:>20}\n", since.as_nanos(), stopped.as_nanos());
        let written = self.figures.write_all_at(text.as_bytes(), 0);
        let path = self.entry.file(FIGURES);
        written.map_err(|e| Error::io(format!("write {}", path.display()), &e))
    }

    /// Adds a process, as running; returns its line.
    ///
    /// # Errors
    /// The file cannot be written: the process must not be stopped then.
    pub fn add(&mut self, pid: i32, start_time: u64) -> Result<usize> {
        let line = self.lines;
        self.write(format!("r {pid:>10} {start_time:>20}\n").as_bytes(), place_of(line))?;
        self.lines += 1;
        Ok(line)
    }

    /// Records what a process is about to be, or is again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark(&self, line: usize, stopped: bool) -> Result<()> {
        self.write(if stopped { b"s" } else { b"r" }, place_of(line))
    }

    /// How many processes it names.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Forgets all processes, when none is stopped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&mut self) -> Result<()> {
        self.lines = 0;
        let cut = self.held.set_len(HEAD as u64);
        cut.map_err(|e| self.failed(&e))
    }

    fn write(&self, text: &[u8], at: u64) -> Result<()> {
        let written = self.held.write_all_at(text, at);
        written.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(format!("write {}", self.entry.file("held").display()), error)
    }

    /// Removes the record. Everything in it is running again.
    pub fn remove(self) {
        let _ = self.entry.remove();
    }
}

fn place_of(line: usize) -> u64 {
    (HEAD + line * LINE) as u64
}

fn head(until: Duration) -> [u8; HEAD] {
    let mut line = [b'\n'; HEAD];
    let text = format!("{:>20}", until.as_nanos().min(u128::from(u64::MAX)));
    line[..HEAD - 1].copy_from_slice(text.as_bytes());
    line
}

/// Whether its limiter has exited: then its watchdog or a gc holds the record for a moment.
fn is_being_cleared(journal: &Journal, id: &str) -> Result<bool> {
    read(journal, id)?.map_or(Ok(false), |limited| Ok(limited.limiter.open()?.is_none()))
}

fn taken(journal: &Journal, id: &str, pid: i32) -> Error {
    let record = read(journal, id).ok().flatten();
    let by = record.map_or(String::new(), |limited| format!(" (process {})", limited.limiter.pid));
    Error::new(format!("process {pid} is already limited by another garth limit{by}"))
        .hint("stop that one first; the process then continues")
}

/// `None`: there is none yet, or it is damaged.
pub fn read(journal: &Journal, id: &str) -> Result<Option<Limited>> {
    if id.starts_with('.') || !is_there(&journal.file(id, "record.json"))? {
        return Ok(None);
    }
    match Record::read(journal, id) {
        Err(error) if error.errno().is_some() => Err(error),
        record => Ok(record.ok().map(|record| record.asked)),
    }
}

/// The limiters that are alive.
///
/// # Errors
/// The state directory cannot be read.
pub fn living(root: &Path) -> Result<Vec<Limited>> {
    let journal = Journal::at(root).limits();
    let mut living = Vec::new();
    for id in journal.ids()? {
        if let Some(limited) = read(&journal, &id)?
            && limited.limiter.open()?.is_some()
        {
            living.push(limited);
        }
    }
    Ok(living)
}

/// The limiters at work, each as it was within the last second.
///
/// # Errors
/// The state directory cannot be read.
pub fn at_work(root: &Path) -> Result<Vec<AtWork>> {
    let journal = Journal::at(root).limits();
    let mut all = Vec::new();
    for id in journal.ids()? {
        let Some(limited) = read(&journal, &id)? else { continue };
        let text = read_kernel(journal.file(&id, FIGURES)).unwrap_or_default();
        let numbers: Vec<u64> =
            text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let [since, stopped] = numbers[..]
            && limited.limiter.open()?.is_some()
        {
            let [since, stopped] = [since, stopped].map(Duration::from_nanos);
            let (target, limiter) = (limited.target.pid, limited.limiter.pid);
            all.push(AtWork { target, limiter, since, stopped });
        }
    }
    Ok(all)
}

/// What is stopped by a limiter, as its record says.
pub struct Stops {
    file: File,
    target: ProcessId,
    freezer: Option<Freezer>,
}

impl Stops {
    /// Opens the record of limit `id`.
    ///
    /// # Errors
    /// It does not exist, or is not a record.
    pub fn open(journal: &Journal, id: &str) -> Result<Stops> {
        let Limited { target, freezer, .. } =
            read(journal, id)?.ok_or_else(|| Error::new(format!("limit {id}: invalid record")))?;
        let path = journal.file(id, "held");
        let open = File::open(&path);
        let file = open.map_err(|e| Error::io(format!("open {}", path.display()), &e))?;
        Ok(Stops { file, target, freezer })
    }

    /// The moment by which the target runs again; `None`: it is running.
    pub fn until(&self) -> Option<Duration> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, 0).ok()?;
        let nanos: u64 = std::str::from_utf8(&head).ok()?.trim().parse().ok()?;
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    /// Continues every process that the limiter has stopped, or was about to; returns how many. A
    /// process that has reused the pid of a dead one is not touched.
    ///
    /// # Errors
    /// The frozen cgroup cannot be thawed.
    pub fn release(&self) -> Result<usize> {
        if let Some(freezer) = &self.freezer {
            if self.until().is_none() || !is_there(&freezer.file())? {
                return Ok(0);
            }
            freezer.set(false)?;
            return Ok(freezer.pids()?.len());
        }
        let mut bytes = Vec::new();
        let mut line = [0; LINE];
        let mut released = 0;
        let mut at = HEAD as u64;
        while self.file.read_exact_at(&mut line, at).is_ok() {
            bytes.push(line);
            at += LINE as u64;
        }
        // In reverse order: a parent finds its children running.
        for line in bytes.iter().rev() {
            let text = String::from_utf8_lossy(line);
            let mut words = text.split_ascii_whitespace();
            let (Some("s"), Some(Ok(pid)), Some(Ok(start_time))) =
                (words.next(), words.next().map(str::parse), words.next().map(str::parse))
            else {
                continue;
            };
            let id = ProcessId { pid, start_time, ..self.target.clone() };
            let sent = id.open()?.map(|fd| pidfd::send_signal(fd.as_fd(), libc::SIGCONT));
            released += usize::from(sent.is_some_and(|sent| sent.is_ok()));
        }
        Ok(released)
    }
}

/// Continues what a dead limiter has left stopped, and removes its record; returns its target, and
/// how many were continued. `None`: nothing was stopped before its record was written.
///
/// # Errors
/// What could not be continued; the record stays.
fn clear(entry: Entry) -> Result<Option<(i32, usize)>> {
    let Some(limited) = read(entry.journal(), entry.id())? else {
        return entry.remove().map(|()| None);
    };
    let released = Stops::open(entry.journal(), entry.id())?.release()?;
    entry.remove()?;
    Ok(Some((limited.target.pid, released)))
}

/// Cleans up after all dead limiters; one line each. A live limiter holds its record.
///
/// # Errors
/// The state directory cannot be read.
pub fn release_all(root: &Path) -> Result<(Vec<String>, Vec<Error>)> {
    let journal = Journal::at(root).limits();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for id in journal.ids()? {
        let cleared = journal.lock(&id).and_then(|entry| entry.map_or(Ok(None), clear));
        match cleared {
            Ok(None) => {}
            Ok(Some((pid, count))) => done.push(match count {
                0 => format!("the record of a limit on process {pid}"),
                1 => format!("a limit on process {pid}: 1 process continued"),
                n => format!("a limit on process {pid}: {n} processes continued"),
            }),
            // Its watchdog was faster.
            Err(_) if is_there(&journal.file(&id, "")).is_ok_and(|there| !there) => {}
            Err(error) => failed.push(error),
        }
    }
    Ok((done, failed))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::process::Ended;
    use crate::{Spawn, Stdio};

    fn state(pid: i32) -> char {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn until(pid: i32, wanted: char) {
        for _ in 0..2000 {
            if state(pid) == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("process {pid} is {} and not {wanted}", state(pid));
    }

    #[test]
    fn what_a_record_names_goes_on_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("garth-limit-{}", std::process::id()));
        let sleeper = || Spawn { stdout: Stdio::Null, ..Spawn::new(["sleep", "100"]) };
        let [ours, other, reused] = [(); 3].map(|()| sleeper().spawn().unwrap().process);
        let id = |pid| ProcessId::of(pid).unwrap();
        let limited = Limited {
            target: id(ours.pid()),
            limiter: id(std::process::id() as i32),
            freezer: None,
        };
        let mut marks = Marks::create(&root, limited.clone()).unwrap();
        // A lock belongs to the open file: a second limiter is refused, even in this process.
        let second = Marks::create(&root, limited).unwrap_err().to_string();
        assert!(second.contains("already limited"), "{second}");
        assert_eq!(living(&root).unwrap().len(), 1);

        let lines = [&ours, &other, &reused].map(|process| {
            let start = id(process.pid()).start_time;
            // The third has the pid of a process that was stopped and is gone.
            let start = if process.pid() == reused.pid() { start - 1 } else { start };
            process.signal(libc::SIGSTOP).unwrap();
            until(process.pid(), 'T');
            marks.add(process.pid(), start).unwrap()
        });
        marks.mark(lines[0], true).unwrap();
        marks.mark(lines[2], true).unwrap();
        marks.set_until(Duration::from_nanos(123)).unwrap();
        let (journal, name) = (marks.entry().journal().clone(), marks.entry().id().to_owned());
        let held = Stops::open(&journal, &name).unwrap();
        assert_eq!(held.until(), Some(Duration::from_nanos(123)));

        // What a live limiter holds is not touched.
        assert_eq!(release_all(&root).unwrap().0, [""; 0]);
        drop(marks);
        let (done, failed) = release_all(&root).unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
        assert!(done[0].ends_with("1 process continued") && failed.is_empty(), "{done:?}");
        until(ours.pid(), 'S');
        assert_eq!((state(other.pid()), state(reused.pid())), ('T', 'T'));
        assert!(!journal.has(&name).unwrap());

        for process in [ours, other, reused] {
            process.kill();
            assert_eq!(process.wait().unwrap(), Ended::Killed(libc::SIGKILL));
        }
        let _ = fs::remove_dir_all(root);
    }
}
