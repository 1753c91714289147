//! What is stopped now, written down before it is stopped: a directory for each limiter,
//! `<root>/limits/<pid>-<start time of the target>`, which the limiter holds by a lock.
//!
//! `record.json` names who takes part. `held` has what changes: a first line with the moment by
//! which the target runs again (CLOCK_MONOTONIC, in nanoseconds; 0: it runs), then a line for each
//! process that may have been stopped, with a letter that is changed in place: `s`, stopped by the
//! limiter or about to be, or `r`. One writer; the watchdog reads, and so does who cleans up.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::Freezer;
use crate::error::{Error, Result};
use crate::journal::{ProcessId, is_there, outlives_reboot};
use crate::sys::{file, pidfd, process};

/// Who takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The process whose tree is limited.
    pub target: Id,
    /// The process that limits.
    pub limiter: Id,
    /// The cgroup that is frozen, where signals are not the means.
    pub freezer: Option<Freezer>,
}

/// A process: [`ProcessId`] as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// Which boot.
    pub boot_id: String,
    /// Which pid namespace.
    #[serde(default)]
    pub pid_namespace: u64,
}

impl From<ProcessId> for Id {
    fn from(id: ProcessId) -> Id {
        let ProcessId { pid, start_time, boot_id, pid_namespace } = id;
        Id { pid, start_time, boot_id, pid_namespace }
    }
}

impl Id {
    /// Opens it, if it lives and is still the same.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Id { pid, start_time, boot_id, pid_namespace } = self.clone();
        ProcessId { pid, start_time, boot_id, pid_namespace }.open()
    }
}

/// Bytes of the first line, and of each other.
const HEAD: usize = 21;
const LINE: usize = 34;

/// The record of a limiter that lives: this one.
#[derive(Debug)]
pub struct Entry {
    dir: PathBuf,
    held: File,
    lines: usize,
    /// The lock on the directory.
    _lock: OwnedFd,
}

/// Where limiters are recorded.
pub fn place(root: &Path) -> PathBuf {
    root.join("limits")
}

impl Entry {
    /// Writes the record down. Nothing may be stopped before this.
    ///
    /// # Errors
    /// Another limiter holds this target; the directory cannot be written.
    pub fn create(root: &Path, record: &Record) -> Result<Entry> {
        let all = place(root);
        let name = format!("{}-{}", record.target.pid, record.target.start_time);
        let dir = all.join(name);
        let failed = |e: &std::io::Error| Error::io(format!("make {}", dir.display()), e);
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(true).create(&all).map_err(|e| failed(&e))?;
        check_owner(&all)?;
        loop {
            match private.recursive(false).create(&dir) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                // The last limiter to end takes the empty directory with it.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    private.recursive(true).create(&all).map_err(|e| failed(&e))?;
                    continue;
                }
                made => made.map_err(|e| failed(&e))?,
            }
            let lock: OwnedFd = match File::open(&dir) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                open => open.map_err(|e| failed(&e))?.into(),
            };
            let locked = process::try_lock(lock.as_fd())
                .map_err(|errno| Error::os(format!("lock {}", dir.display()), errno))?;
            if !file::is_at(lock.as_fd(), &dir).map_err(|e| failed(&e.into()))? {
                continue;
            }
            if !locked {
                return Err(taken(&dir, record.target.pid));
            }
            return Entry::fill(dir.clone(), lock, record).map_err(|e| failed(&e));
        }
    }

    fn fill(dir: PathBuf, lock: OwnedFd, record: &Record) -> std::io::Result<Entry> {
        // First the file without which nothing is known to be stopped.
        let mut held = File::options();
        let held = held.read(true).write(true).create(true).truncate(true).mode(0o600);
        let held = held.open(dir.join("held"))?;
        held.write_all_at(&head(Duration::ZERO), 0)?;
        let new = dir.join("record.new");
        let mut options = File::options();
        let mut text = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        text.write_all(&serde_json::to_vec(record)?)?;
        if outlives_reboot(&dir) {
            text.sync_data()?;
        }
        fs::rename(&new, dir.join("record.json"))?;
        Ok(Entry { dir, held, lines: 0, _lock: lock })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The target will run again by `until`, whatever happens; zero: it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_until(&self, until: Duration) -> Result<()> {
        self.write(&head(until), 0)
    }

    /// Adds a process, as running; its line.
    ///
    /// # Errors
    /// The file cannot be written: then it must not be stopped.
    pub fn add(&mut self, pid: i32, start_time: u64) -> Result<usize> {
        let line = self.lines;
        self.write(format!("r {pid:>10} {start_time:>20}\n").as_bytes(), place_of(line))?;
        self.lines += 1;
        Ok(line)
    }

    /// Says what a process is about to be, or is again.
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

    /// Forgets every process, when none is stopped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&mut self) -> Result<()> {
        self.lines = 0;
        let cut = self.held.set_len(HEAD as u64);
        cut.map_err(|e| Error::io(format!("write {}/held", self.dir.display()), &e))
    }

    fn write(&self, text: &[u8], at: u64) -> Result<()> {
        let written = self.held.write_all_at(text, at);
        written.map_err(|e| Error::io(format!("write {}/held", self.dir.display()), &e))
    }

    /// Removes the record. Everything in it runs again.
    pub fn remove(self) {
        remove(&self.dir);
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

fn remove(dir: &Path) {
    for name in ["record.new", "record.json", "held"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir(dir);
    let _ = dir.parent().map(fs::remove_dir);
}

fn taken(dir: &Path, pid: i32) -> Error {
    let record = read(dir).ok().flatten();
    let by = record.map_or(String::new(), |record| format!(" (process {})", record.limiter.pid));
    Error::new(format!("process {pid} is limited already by another garth limit{by}"))
        .hint("end that one first; it lets the process go on")
}

/// As the journal's: what a stranger could have laid there is not believed.
fn check_owner(all: &Path) -> Result<()> {
    let (uid, _) = process::effective_ids();
    let path = all.display();
    let meta = fs::metadata(all).map_err(|e| Error::io(format!("look at {path}"), &e))?;
    if meta.uid() == uid && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(format!("{path} belongs to another user or is open to others"))
        .hint("choose another state directory with --root"))
}

/// None: there is none yet, or it is damaged.
fn read(dir: &Path) -> Result<Option<Record>> {
    let path = dir.join("record.json");
    match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        text => text
            .map(|text| serde_json::from_slice(&text).ok())
            .map_err(|e| Error::io(format!("read {}", path.display()), &e)),
    }
}

/// The records there are: the directory, and what could be read of it.
fn all(root: &Path) -> Result<Vec<(PathBuf, Option<Record>)>> {
    let place = place(root);
    let entries = match fs::read_dir(&place) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io(format!("read {}", place.display()), &e))?,
    };
    check_owner(&place)?;
    let mut all = Vec::new();
    for entry in entries {
        let dir = entry.map_err(|e| Error::io(format!("read {}", place.display()), &e))?.path();
        let record = read(&dir)?;
        all.push((dir, record));
    }
    Ok(all)
}

/// The limiters that live.
///
/// # Errors
/// When the state directory cannot be read.
pub fn living(root: &Path) -> Result<Vec<Record>> {
    let mut living = Vec::new();
    for record in all(root)?.into_iter().filter_map(|(_, record)| record) {
        if record.limiter.open()?.is_some() {
            living.push(record);
        }
    }
    Ok(living)
}

/// What is stopped by a limiter, as its record says.
pub struct Held {
    file: File,
    target: Id,
    freezer: Option<Freezer>,
}

impl Held {
    /// Opens the record in `dir`.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn open(dir: &Path) -> Result<Held> {
        let record = read(dir)?
            .ok_or_else(|| Error::new(format!("{}: not the record of a limiter", dir.display())))?;
        let path = dir.join("held");
        let open = File::open(&path);
        let file = open.map_err(|e| Error::io(format!("open {}", path.display()), &e))?;
        Ok(Held { file, target: record.target, freezer: record.freezer })
    }

    /// The moment by which the target runs again; none: it runs now.
    pub fn until(&self) -> Option<Duration> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, 0).ok()?;
        let nanos: u64 = std::str::from_utf8(&head).ok()?.trim().parse().ok()?;
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    /// Lets everybody go on whom the limiter has stopped, or was about to; how many processes. A
    /// process that has the number of one that is gone is not touched.
    ///
    /// # Errors
    /// The cgroup that is frozen cannot be thawed.
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
        // The other way round: a parent finds its children running.
        for line in bytes.iter().rev() {
            let text = String::from_utf8_lossy(line);
            let mut words = text.split_ascii_whitespace();
            let (Some("s"), Some(Ok(pid)), Some(Ok(start_time))) =
                (words.next(), words.next().map(str::parse), words.next().map(str::parse))
            else {
                continue;
            };
            let id = Id { pid, start_time, ..self.target.clone() };
            let sent = id.open()?.map(|fd| pidfd::send_signal(fd.as_fd(), libc::SIGCONT));
            released += usize::from(sent.is_some_and(|sent| sent.is_ok()));
        }
        Ok(released)
    }
}

/// Lets go on what limiters that are gone have left stopped, and removes their records: a line for
/// each. `watched` ones are left to their watchdog if it still has to do it.
///
/// # Errors
/// When the state directory cannot be read.
pub fn release_all(root: &Path) -> Result<(Vec<String>, Vec<Error>)> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (dir, record) in all(root)? {
        let held = |errno| Error::os(format!("lock {}", dir.display()), errno);
        let lock = match File::open(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            lock => lock.map_err(|e| held(e.into()))?,
        };
        // A limiter that lives holds its record.
        if !process::try_lock(lock.as_fd()).map_err(held)?
            || !file::is_at(lock.as_fd(), &dir).map_err(held)?
        {
            continue;
        }
        if record.is_none() {
            // Nothing was stopped before it was written.
            remove(&dir);
            continue;
        }
        match Held::open(&dir).and_then(|held| held.release()) {
            Ok(count) => {
                let pid = record.map_or(0, |record| record.target.pid);
                done.push(match count {
                    0 => format!("the record of a limit on process {pid}"),
                    1 => format!("a limit on process {pid}: 1 process goes on"),
                    n => format!("a limit on process {pid}: {n} processes go on"),
                });
                remove(&dir);
            }
            // Its watchdog was faster.
            Err(_) if is_there(&dir).is_ok_and(|there| !there) => {}
            Err(error) => failed.push(error),
        }
    }
    Ok((done, failed))
}

/// Removes the record of a limiter that is gone, after its processes were let go on.
pub fn forget(dir: &Path) {
    remove(dir);
}

#[cfg(test)]
mod tests {
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
        let id = |pid| Id::from(ProcessId::of(pid).unwrap());
        let record = Record {
            target: id(ours.pid()),
            limiter: id(std::process::id() as i32),
            freezer: None,
        };
        let mut entry = Entry::create(&root, &record).unwrap();
        // A lock is of the open file: a second limiter is told, in this process too.
        let second = Entry::create(&root, &record).unwrap_err().to_string();
        assert!(second.contains("limited already"), "{second}");
        assert_eq!(living(&root).unwrap().len(), 1);

        let lines = [&ours, &other, &reused].map(|process| {
            let start = id(process.pid()).start_time;
            // The third has the number of one that was stopped and is gone.
            let start = if process.pid() == reused.pid() { start - 1 } else { start };
            process.signal(libc::SIGSTOP).unwrap();
            until(process.pid(), 'T');
            entry.add(process.pid(), start).unwrap()
        });
        entry.mark(lines[0], true).unwrap();
        entry.mark(lines[2], true).unwrap();
        entry.set_until(Duration::from_nanos(123)).unwrap();
        let held = Held::open(entry.dir()).unwrap();
        assert_eq!(held.until(), Some(Duration::from_nanos(123)));

        // Nobody touches what a limiter that lives holds.
        assert_eq!(release_all(&root).unwrap().0, [""; 0]);
        let dir = entry.dir().to_owned();
        drop(entry);
        let (done, failed) = release_all(&root).unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
        assert!(done[0].ends_with("1 process goes on") && failed.is_empty(), "{done:?}");
        until(ours.pid(), 'S');
        assert_eq!((state(other.pid()), state(reused.pid())), ('T', 'T'));
        assert!(!dir.exists());

        for process in [ours, other, reused] {
            process.kill();
            assert_eq!(process.wait().unwrap(), Ended::Killed(libc::SIGKILL));
        }
        let _ = fs::remove_dir_all(root);
    }
}
