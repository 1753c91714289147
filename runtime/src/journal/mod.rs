//! The journal: what a sandbox will have outside, recorded before it is created.
//!
//! Each sandbox has a directory, `<root>/sandboxes/<id>/`, with a file `record.json`, which says
//! what was requested and what is outside, and a symbolic link `process`, which identifies the
//! first process: it is created atomically, and readable even if the record is not. The process
//! that looks after the sandbox holds a lock (flock(2)) on the directory; the kernel releases it
//! when that process ends, however it ends. A directory that no process holds, and whose first
//! process is gone, is a leftover, and its record says what to release. The root is on a file
//! system that a reboot clears, as a reboot ends everything that is recorded here.
//!
//! OCI containers (`<root>/containers/`) and limits (`<root>/limits/`) are parts of it too, and so
//! are services (`services/`), which are to be up again after a reboot, and are therefore below
//! /var/lib/garth, if the root is the default one. Named volumes (`volumes/`) are beside the services;
//! they are no entries, and no record says who uses them. RAID volumes (`raid/`) are there too, as
//! entries, which a verb holds while it works on one.
//!
//! A new directory is created and locked under a name that starts with a dot, and then renamed:
//! under its own name it is never seen unlocked.

mod files;
mod identity;
mod names;
mod part;
pub mod resource;
mod volumes;

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::facts;
pub use crate::journal::files::{read_json, remove_file, write_json, write_whole};
pub use crate::journal::identity::{ProcessId, boot_id};
pub use crate::journal::names::check_id;
use crate::journal::names::{check_container_id, check_limit_id};
use crate::journal::part::Part;
use crate::sys::{Errno, file, process};

/// The state directory of one user on one host, and one part of it.
#[derive(Clone, Debug)]
pub struct Journal {
    root: PathBuf,
    part: Part,
}

/// The directory of a sandbox, held by this process.
#[derive(Debug)]
pub struct Entry {
    journal: Journal,
    id: String,
    lock: OwnedFd,
}

impl Journal {
    /// The journal below `root`; created with the first record.
    pub fn at(root: impl Into<PathBuf>) -> Journal {
        Journal { root: root.into(), part: Part::Sandboxes }
    }

    /// The OCI containers of the same state directory.
    pub fn containers(&self) -> Journal {
        Journal { root: self.root.clone(), part: Part::Containers }
    }

    /// The limits of the same state directory.
    pub fn limits(&self) -> Journal {
        Journal { root: self.root.clone(), part: Part::Limits }
    }

    /// The services of the same user.
    pub fn services(&self) -> Journal {
        Journal { root: self.lasting(), part: Part::Services }
    }

    /// The RAID volumes of the same user.
    pub fn raid(&self) -> Journal {
        Journal { root: self.lasting(), part: Part::Raid }
    }

    /// Where what is to outlive a reboot is recorded: /var/lib/garth for root, `XDG_STATE_HOME` for
    /// others; and the state directory itself if it is not the default one, or if the home directory
    /// is another user's, as after su(1).
    pub fn lasting(&self) -> PathBuf {
        if self.root != Journal::default_root() {
            return self.root.clone();
        }
        if self.root == Path::new("/run/garth") {
            return "/var/lib/garth".into();
        }
        let is_own = |dir: &PathBuf| {
            let (uid, _) = process::effective_ids();
            dir.is_absolute() && fs::metadata(dir).is_ok_and(|meta| meta.uid() == uid)
        };
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(is_own);
        let home = || variable("HOME").map(|home| home.join(".local/state"));
        match variable("XDG_STATE_HOME").or_else(home) {
            Some(dir) => dir.join("garth"),
            None => self.root.clone(),
        }
    }

    /// /run/garth for root; the user's own runtime directory for others, including a user who is
    /// root only in a user namespace of their own (rootless engines).
    pub fn default_root() -> PathBuf {
        let (uid, _) = process::effective_ids();
        // As in runc: in a user namespace, USER tells a user's own root from a whole guest's.
        let named_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
        let root = || uid == 0 && (!facts::confined() || named_root());
        match std::env::var_os("XDG_RUNTIME_DIR") {
            _ if root() => "/run/garth".into(),
            Some(dir) => Path::new(&dir).join("garth"),
            None if uid == 0 => "/run/garth".into(),
            None => format!("/tmp/garth-{uid}").into(),
        }
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether its entries are sandboxes, whose own links die with them.
    pub fn is_of_sandboxes(&self) -> bool {
        self.part == Part::Sandboxes
    }

    /// Whether its entries are services.
    pub fn is_of_services(&self) -> bool {
        self.part == Part::Services
    }

    /// The kind of its entries: `sandbox`, `container`, `limit`, `service` or `volume`.
    pub fn kind(&self) -> &'static str {
        self.part.kind()
    }

    fn entries_dir(&self) -> PathBuf {
        self.root.join(self.part.directory())
    }

    /// Where a helper of sandbox `id` may keep a file of its own.
    pub fn file(&self, id: &str, name: &str) -> PathBuf {
        self.dir(id).join(name)
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.entries_dir().join(id)
    }

    /// Opens a new entry. No side effect outside the journal may come before this.
    ///
    /// # Errors
    /// The name is taken or invalid.
    pub fn create(&self, id: &str) -> Result<Entry> {
        self.check_id(id)?;
        loop {
            if let Some(entry) = self.try_create(id)? {
                return Ok(entry);
            }
        }
    }

    /// `None`: a gc found the directory before it was locked, and took it for a leftover.
    fn try_create(&self, id: &str) -> Result<Option<Entry>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = self.entries_dir();
        let new = dir.join(format!(".{}-{number}-{id}", std::process::id()));
        let what = || format!("create {}", new.display());
        // Left behind by a killed process that had our pid.
        let _ = fs::remove_dir(&new);
        let mut private = DirBuilder::new();
        // The last sandbox to end removes the empty directory, perhaps just now.
        while let Err(error) = private.mode(0o700).recursive(false).create(&new) {
            if error.kind() != ErrorKind::NotFound {
                return Err(Error::io(what(), &error));
            }
            let made = private.recursive(true).create(&dir);
            made.map_err(|e| Error::io(format!("create {}", dir.display()), &e))?;
        }
        self.check_owner()?;
        let lock: OwnedFd = match File::open(&new) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            open => open.map_err(|e| Error::io(what(), &e))?.into(),
        };
        let locked = process::try_lock(lock.as_fd()).map_err(|e| Error::os(what(), e))?;
        if !locked || !file::is_at(lock.as_fd(), &new).map_err(|e| Error::os(what(), e))? {
            return Ok(None);
        }
        match file::rename_new(&new, &self.dir(id)) {
            Ok(()) => Ok(Some(Entry { journal: self.clone(), id: id.to_owned(), lock })),
            Err(errno) => {
                let _ = fs::remove_dir(&new);
                Err(match errno {
                    Errno(libc::EEXIST) => self.taken(id),
                    _ => Error::os(format!("create {}", self.dir(id).display()), errno),
                })
            }
        }
    }

    /// Removes unfinished entries that no process holds, of killed starts and deletes, whose names
    /// end in `suffix`: one line each.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn sweep(&self, suffix: &str) -> Result<Vec<Result<String>>> {
        let unfinished = |name: &String| name.starts_with('.') && name.ends_with(suffix);
        let mut swept = Vec::new();
        for name in self.ids()?.into_iter().filter(unfinished) {
            match self.lock(&name).and_then(|entry| entry.map(Entry::remove).transpose()) {
                Ok(removed) => swept.extend(removed.map(|()| Ok(name))),
                // Its creator has finished, or another process has swept.
                Err(_) if is_there(&self.dir(&name)).is_ok_and(|there| !there) => {}
                Err(error) => swept.push(Err(error)),
            }
        }
        Ok(swept)
    }

    /// A sandbox's name is also a host name, so it is shorter than a container's.
    ///
    /// # Errors
    /// It is not a valid name.
    pub fn check_id(&self, id: &str) -> Result<()> {
        match self.part {
            Part::Sandboxes | Part::Services | Part::Raid => check_id(id),
            Part::Containers => check_container_id(id),
            Part::Limits => check_limit_id(id),
        }
    }

    fn taken(&self, id: &str) -> Error {
        match self.part {
            Part::Sandboxes => Error::new(format!("a sandbox named {id} already exists"))
                .hint(format!("garth ps shows it; garth delete {id} removes it once it has ended")),
            Part::Containers => Error::new(format!("container with id {id} already exists"))
                .hint("garth delete removes it once it has ended"),
            Part::Limits => Error::new(format!("limit {id} already exists")),
            Part::Services => Error::new(format!("service {id} is up already")),
            Part::Raid => Error::new(format!("a RAID volume named {id} already exists")),
        }
    }

    /// A state directory below /tmp could have been planted there by another user, with records
    /// that name processes to kill and directories to remove.
    fn check_owner(&self) -> Result<()> {
        let (uid, _) = process::effective_ids();
        let path = self.root.display();
        let look = || -> std::io::Result<bool> {
            let meta = fs::metadata(&self.root)?;
            // If it is reached through a link, that must be ours as well.
            let own = meta.uid() == uid && fs::symlink_metadata(&self.root)?.uid() == uid;
            Ok(own && meta.mode() & 0o022 == 0)
        };
        match look() {
            Ok(true) => Ok(()),
            // If it does not exist, nothing is wrong.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(format!("stat {path}"), &error)),
            Ok(false) => {
                Err(Error::new(format!("{path} belongs to another user or is writable by others"))
                    .hint("use --root for another state directory"))
            }
        }
    }

    /// Whether there is an entry of this name.
    ///
    /// # Errors
    /// It cannot be determined: what cannot be inspected may exist.
    pub fn has(&self, id: &str) -> Result<bool> {
        Ok(self.check_id(id).is_ok() && is_there(&self.dir(id))?)
    }

    /// The sorted ids that have a directory, whatever is in it.
    pub fn ids(&self) -> Result<Vec<String>> {
        self.check_owner()?;
        let dir = self.entries_dir();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io(format!("read {}", dir.display()), &e))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(format!("read {}", dir.display()), &e))?;
            // A name that is not UTF-8 is not ours.
            ids.extend(entry.file_name().into_string().ok());
        }
        ids.sort();
        Ok(ids)
    }

    /// Removes empty directories too; a new sandbox creates them again.
    fn remove_empty(&self) {
        let _ = fs::remove_dir(self.entries_dir());
        let _ = fs::remove_dir(self.root.join("leases"));
    }

    /// The record of `id`.
    ///
    /// # Errors
    /// There is no such sandbox, or its record cannot be read.
    pub fn read(&self, id: &str) -> Result<Vec<u8>> {
        // Before it becomes part of a path: `..` leads to records that any user may have written.
        if self.check_id(id).is_err() {
            return Err(self.unknown(id));
        }
        self.check_owner()?;
        let path = self.dir(id).join("record.json");
        loop {
            let error = match fs::read(&path) {
                Ok(text) => return Ok(text),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::NotFound || self.lacks_record(id)? {
                return Err(Error::io(format!("read {}", path.display()), &error));
            }
            // A record written in the meantime is read.
            if !is_there(&path)? {
                return Err(self.unknown(id));
            }
        }
    }

    /// Writes the record of `id`, in the same way as [`Entry::write`]; for what may change it while
    /// another process holds the entry.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, id: &str, record: &[u8]) -> Result<()> {
        write_whole(&self.dir(id).join("record.json"), record, outlives_reboot(&self.root))
    }

    /// Whether a process is working on this entry now.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn is_held(&self, id: &str) -> Result<bool> {
        let failed = |errno| Error::os(format!("lock {}", self.dir(id).display()), errno);
        match File::open(self.dir(id)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(e.into())),
            Ok(dir) => Ok(!process::try_lock(dir.as_fd()).map_err(failed)?),
        }
    }

    /// Whether there is an entry of this name to report, as opposed to one that is still being
    /// created and has no record yet.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn has_record(&self, id: &str) -> Result<bool> {
        Ok(self.has(id)? && (is_there(&self.file(id, "record.json"))? || self.lacks_record(id)?))
    }

    /// Whether an entry has lost its record. The order of the checks makes sure that one that is
    /// being created, written or removed meanwhile is not mistaken for that.
    fn lacks_record(&self, id: &str) -> Result<bool> {
        if self.check_id(id).is_err() || self.is_held(id)? {
            return Ok(false);
        }
        // Not held: either finished, or left behind. What is created from here on is held.
        let lost = self.has(id)? && !is_there(&self.file(id, "record.json"))?;
        Ok(lost && self.has(id)? && !self.is_held(id)?)
    }

    /// The first process of `id`, as soon as there is one; `None` if the link is damaged.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn process(&self, id: &str) -> Result<Option<ProcessId>> {
        if self.check_id(id).is_err() {
            return Ok(None);
        }
        self.check_owner()?;
        let path = self.dir(id).join("process");
        match fs::read_link(&path).map_err(|e| (Errno::from(e), path.display())) {
            Ok(text) => Ok(text.to_str().and_then(ProcessId::from_text)),
            Err((Errno(libc::ENOENT | libc::EINVAL), _)) => Ok(None),
            Err((errno, path)) => Err(Error::os(format!("read {path}"), errno)),
        }
    }

    /// The first process of `id`, if it is alive.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn open_process(&self, id: &str) -> Result<Option<OwnedFd>> {
        self.process(id)?.map_or(Ok(None), |process| process.open())
    }

    fn unknown(&self, id: &str) -> Error {
        match self.part {
            Part::Sandboxes => Error::new(format!("no sandbox named {id}"))
                .hint("garth ps lists sandboxes"),
            // The message that engines look for.
            Part::Containers => Error::new(format!(
                "container {:?} does not exist",
                id.escape_debug().to_string()
            ))
            .hint(
                "garth ps and garth list show what exists, garth ps -a also sandboxes that have ended",
            ),
            Part::Limits => Error::new(format!("no limit {id}")),
            Part::Services => Error::new(format!("no service {id} is up"))
                .hint("garth ps lists sandboxes and services"),
            Part::Raid => Error::new(format!("no RAID volume named {id}"))
                .hint("garth volume ls lists them"),
        }
    }

    /// Whether the directory of `id` is the one that is open as `lock`. It may now belong to
    /// another, if the state directory was lost.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn is_held_by(&self, id: &str, lock: impl AsFd) -> Result<bool> {
        let dir = self.dir(id);
        file::is_at(lock, &dir).map_err(|errno| Error::os(format!("stat {}", dir.display()), errno))
    }

    /// The entry of `id` that another process has handed over to this one, with its lock; `None`:
    /// it no longer exists.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn adopt(&self, id: &str, lock: OwnedFd) -> Result<Option<Entry>> {
        self.check_id(id)?;
        let same = self.is_held_by(id, lock.as_fd())?;
        Ok(same.then(|| Entry { journal: self.clone(), id: id.to_owned(), lock }))
    }

    /// Locks the entry of `id`; `None`: another process holds it.
    pub fn lock(&self, id: &str) -> Result<Option<Entry>> {
        // An unfinished entry has a name that starts with a dot; that is valid here too.
        if !id.starts_with('.') || id == "." || id == ".." || id.contains('/') {
            self.check_id(id)?;
        }
        self.check_owner()?;
        let dir = self.dir(id);
        let lock: OwnedFd = File::open(&dir)
            .map_err(|e| match e.kind() {
                ErrorKind::NotFound => self.unknown(id),
                _ => Error::io(format!("open {}", dir.display()), &e),
            })?
            .into();
        let locked = process::try_lock(lock.as_fd())
            .map_err(|errno| Error::os(format!("lock {}", dir.display()), errno))?;
        // Between open and lock, the directory may have been removed and recreated by others.
        let same = self.is_held_by(id, lock.as_fd())?;
        Ok((locked && same).then(|| Entry { journal: self.clone(), id: id.to_owned(), lock }))
    }
}

impl Entry {
    /// The sandbox's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The journal that it is in.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The locked directory; a copy of this descriptor keeps the lock.
    pub fn as_lock(&self) -> &OwnedFd {
        &self.lock
    }

    /// Writes the record: whole or not at all, and synced to disk when this returns if it may
    /// [outlive](outlives_reboot) a reboot.
    pub fn write(&self, record: &[u8]) -> Result<()> {
        self.journal.write(&self.id, record)
    }

    /// A file of this name in the entry's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.journal.file(&self.id, name)
    }

    /// Records the identity of the first process.
    pub fn write_process(&self, process: &ProcessId) -> Result<()> {
        let path = self.journal.dir(&self.id).join("process");
        symlink(process.to_text(), &path)
            .map_err(|e| Error::io(format!("write {}", path.display()), &e))
    }

    /// Removes the directory. To be called when everything that was recorded is released.
    pub fn remove(self) -> Result<()> {
        let mut dir = self.journal.dir(&self.id);
        // The state directory may have been lost, and the name reused.
        if !self.journal.is_held_by(&self.id, self.lock.as_fd())? {
            return Ok(());
        }
        // In one step, so that no process sees a half-removed one; if we are killed here, the
        // rest has the name of a leftover.
        let in_one_step =
            matches!(self.journal.part, Part::Containers | Part::Services | Part::Raid);
        if in_one_step && !self.id.starts_with('.') {
            let name = format!(".{}-gone-{}", std::process::id(), self.id);
            let aside = self.journal.dir(&name);
            if file::rename_new(&dir, &aside).is_ok() {
                dir = aside;
            }
        }
        // All files of containers and limits: by name, so this works even with no descriptor left.
        let names: &[&str] = match self.journal.part {
            Part::Sandboxes | Part::Services | Part::Raid => &[],
            Part::Containers => {
                &["creating", "created", "record.new", "record.json", "process", "cgroup", "rate"]
            }
            Part::Limits => &["record.new", "record.json", "held"],
        };
        for name in names {
            let _ = fs::remove_file(dir.join(name));
        }
        let gone = fs::remove_dir(&dir).or_else(|_| fs::remove_dir_all(&dir));
        self.journal.remove_empty();
        gone.map_err(|e| Error::io(format!("remove {}", dir.display()), &e))
    }

    /// Moves the directory out of the journal, to where it is kept for a while. See
    /// [`Entry::remove`].
    pub(super) fn move_to(self, to: &Path) -> Result<()> {
        let dir = self.journal.dir(&self.id);
        let moved = fs::rename(&dir, to);
        self.journal.remove_empty();
        moved.map_err(|e| Error::io(format!("move {} to {}", dir.display(), to.display()), &e))
    }
}

/// Whether what is written below the state directory `root` may still exist after a reboot. Below
/// /run it does not (file-hierarchy(7)), wherever /run is, so it need not be synced: what was
/// written outlives its writer anyway, however that ends, and only a reboot could lose it.
pub fn outlives_reboot(root: &Path) -> bool {
    let below = |dir| root.starts_with(dir);
    let plain = !root.components().any(|part| part == Component::ParentDir);
    !(plain && (below("/run") || below("/var/run")))
}

/// Locks a file or directory for one change at a time; others wait for up to ten seconds. `busy`
/// says what is being changed, as in `web is`.
///
/// # Errors
/// It cannot be opened or locked, or is busy for too long.
pub fn lock_file(path: &Path, busy: &str) -> Result<File> {
    let failed = |verb: &str, errno| Error::os(format!("{verb} {}", path.display()), errno);
    let file = File::open(path).map_err(|error| failed("open", error.into()))?;
    let end = Instant::now() + Duration::from_secs(10);
    while !process::try_lock(file.as_fd()).map_err(|errno| failed("lock", errno))? {
        if Instant::now() > end {
            return Err(Error::new(format!("{busy} locked by another process")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(file)
}

/// Whether it exists. If it cannot be inspected, that is an error.
///
/// # Errors
/// Any failure except that it does not exist.
pub fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| Error::io(format!("stat {}", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_run_does_not_outlive_a_reboot() {
        for void in ["/run/garth", "/run/user/1000/garth", "/var/run/docker/x"] {
            assert!(!outlives_reboot(Path::new(void)), "{void}");
        }
        for lasting in ["/srv/garth", "/tmp/garth-1000", "/run/../srv", "/runner", "run/garth"] {
            assert!(outlives_reboot(Path::new(lasting)), "{lasting}");
        }
    }
}
