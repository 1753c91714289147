//! Who owns a cgroup (decision 018). The same for sandboxes and containers.
//!
//! A directory is created under a lock (flock(2)), or recreated if it exists and is empty; of two
//! owners that want the same one, one gets it, whatever their state directories are. Then a link in
//! the owner's place in the journal, the *mark*, records which directories are its own, by inode
//! number, which the kernel does not reuse within one boot. What is not marked, or has become a
//! different directory, belongs to another: no process in it is killed, and it is removed only if
//! it is empty and not held.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::directory::{pids_below, remove_tree};
use super::hierarchy::Version;
use super::record::{Cgroup, Dir};
use crate::journal::{self, is_there};
use crate::sys::file::read_kernel;
use crate::sys::{Errno, file, process};
use crate::{Error, Result};

/// The name of the mark in the owner's place in the journal.
pub const MARK: &str = "cgroup";

/// Directories that are held: no other process takes or removes them. The kernel releases the locks
/// when the holder exits, however it exits.
#[derive(Debug, Default)]
#[must_use]
pub struct Claim {
    /// The index of the cgroup's directory, and the lock on it.
    locks: Vec<(usize, File)>,
}

impl Claim {
    /// The descriptors, to hold them longer.
    pub fn into_files(self) -> impl Iterator<Item = File> {
        self.locks.into_iter().map(|(_, file)| file)
    }
}

impl Cgroup {
    /// Creates directory `index`, or takes it if it exists unused. Holds it if it shows the
    /// ownership: for a sandbox every directory, as another of its name may be in other trees; for
    /// a container only the first, as every container is in all trees.
    ///
    /// # Errors
    /// It is in use or held by another, or cannot be created.
    pub(super) fn take(
        &self,
        index: usize,
        claim: &mut Claim,
        mut make: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let dir = &self.dirs[index];
        let own = self.path(dir);
        let shows = index == 0 || !self.is_containers();
        // An owner that gives it up also holds it briefly, and removes the directory.
        for _ in 0..200 {
            let new = make()?;
            if new && !shows {
                return Ok(());
            }
            // A scope is new, and already contains its process.
            let fit = new || self.is_scope();
            match hold(&own)? {
                Some(lock) if fit => {
                    claim.locks.push((index, lock));
                    return Ok(());
                }
                None if fit => sleep(Duration::from_millis(1)),
                Some(lock) => {
                    self.check_unused(dir)?;
                    if !self.remove_unused(&own)? {
                        // Others created it for us; we may not change anything above it.
                        claim.locks.extend(shows.then_some((index, lock)));
                        return Ok(());
                    }
                }
                None => {
                    self.check_unused(dir)?;
                    sleep(Duration::from_millis(1));
                }
            }
        }
        let (whose, own) = (self.whose(), own.display());
        Err(Error::new(format!("{whose}'s cgroup is being claimed by another {whose}: {own}"))
            .hint("it may belong to another state directory"))
    }

    /// A cgroup of another owner is not shared, and processes that join a frozen one stop.
    fn check_unused(&self, dir: &Dir) -> Result<()> {
        let own = self.path(dir);
        let mut pids = Vec::new();
        pids_below(&own, &mut pids)?;
        if !pids.is_empty() {
            return Err(self
                .not_empty(&format!("{} process(es) found in", pids.len()), &own)
                .hint(
                    "another sandbox or container uses it, perhaps from another state directory",
                ));
        }
        if is_populated(dir.version, &own)? {
            return Err(self.not_seen(&own));
        }
        if self.dir_is_frozen(dir) {
            let whose = self.whose();
            return Err(Error::new(format!(
                "{whose}'s cgroup unexpectedly frozen: {}",
                own.display()
            )));
        }
        Ok(())
    }

    /// Removes a directory that is held and looks unused. The kernel has the last word: it also
    /// knows the processes that this pid namespace does not show. False: it may be in use, and was
    /// not removed.
    fn remove_unused(&self, own: &Path) -> Result<bool> {
        match remove_tree(own).map_err(|error| (error.raw_os_error(), error)) {
            Ok(()) => Ok(true),
            Err((Some(libc::EACCES | libc::EPERM | libc::EROFS), _)) => Ok(false),
            Err((Some(libc::EBUSY), _)) => Err(self.not_seen(own)),
            Err((_, error)) => Err(Error::io(format!("remove cgroup {}", own.display()), &error)),
        }
    }

    fn not_seen(&self, own: &Path) -> Error {
        self.not_empty("it has processes of another pid namespace:", own)
    }

    fn not_empty(&self, how: &str, own: &Path) -> Error {
        Error::new(format!("{}'s cgroup is not empty: {how} {}", self.whose(), own.display()))
    }

    /// Records which directories are the owner's, before any process is in them.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn mark(&self, claim: &Claim, mark: &Path) -> Result<()> {
        let inode = |(index, lock): &(usize, File)| {
            lock.metadata().map(|held| format!(" {index}:{}", held.ino()))
        };
        let inodes: io::Result<String> = claim.locks.iter().map(inode).collect();
        let failed = |e: &io::Error| Error::io(format!("write {}", mark.display()), e);
        let inodes = inodes.map_err(|e| failed(&e))?;
        let text = format!("{}{inodes}\n{}", journal::boot_id()?, self.to_text());
        symlink(text, mark).map_err(|e| failed(&e))
    }

    /// What `mark` says about a cgroup whose record is lost. `None`: nothing was claimed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn marked(mark: &Path) -> Result<Option<Cgroup>> {
        let Some(text) = read_mark(mark)? else { return Ok(None) };
        let cgroup = text.split_once('\n').and_then(|(_, text)| Cgroup::from_text(text));
        cgroup.map(Some).ok_or_else(|| Error::new(format!("{}: invalid mark", mark.display())))
    }

    /// The directories that `mark` names as the owner's: only in them may processes be killed. A
    /// directory that is in use or not visible does not count as gone.
    ///
    /// # Errors
    /// A directory cannot be inspected.
    pub fn owned(&self, mark: &Path) -> Result<Cgroup> {
        let none = self.with(Vec::new());
        let Some(text) = read_mark(mark)? else { return Ok(none) };
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        if words.next() != Some(journal::boot_id()?) {
            return Ok(none);
        }
        let number = |word: &str| {
            let (index, inode) = word.split_once(':')?;
            Some((index.parse::<usize>().ok()?, inode.parse::<u64>().ok()?))
        };
        let mut dirs = Vec::new();
        for (index, inode) in words.filter_map(number) {
            let Some(dir) = self.dirs.get(index) else { continue };
            let own = self.path(dir);
            match fs::metadata(&own) {
                Ok(now) if now.ino() == inode && self.is_containers() => return Ok(self.clone()),
                Ok(now) if now.ino() == inode => dirs.push(dir.clone()),
                // The scope belongs to another, too.
                Ok(_) if self.is_containers() => return Ok(none),
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("stat cgroup {}", own.display()), &error));
                }
                _ => {}
            }
        }
        Ok(self.with(dirs))
    }

    /// Undoes what was done for the owner of `mark`, however far it got; may be repeated. `kill`
    /// kills the processes left in its own directories.
    ///
    /// # Errors
    /// The directory that remains, the reason, and the processes in it.
    pub fn give_up(&self, mark: &Path, kill: bool) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.check_names()?;
        let own = self.owned(mark)?;
        if kill {
            own.release()?
        } else {
            own.remove()?
        }
        let others = self.dirs.iter().filter(|dir| !own.dirs.contains(dir)).cloned().collect();
        self.with(others).leave().map(drop)
    }

    /// Removes the directories that are unused and not held; the others stay. Returns whether there
    /// were any.
    ///
    /// # Errors
    /// What cannot be inspected or removed, except because it is in use.
    pub fn leave(&self) -> Result<bool> {
        if self.dirs.is_empty() {
            return Ok(false);
        }
        self.check_names()?;
        let mut removed = false;
        let mut held = None;
        for (index, dir) in self.dirs.iter().enumerate() {
            let own = self.path(dir);
            match hold(&own)? {
                // The first directory shows the ownership, so it goes last.
                Some(lock) if self.is_containers() && index == 0 => held = Some((lock, dir)),
                Some(_) => removed |= remove_if_unused(dir.version, &own)?,
                None if self.is_containers() && index == 0 && is_there(&own)? => return Ok(false),
                None => {}
            }
        }
        if let Some((_lock, dir)) = held {
            removed |= remove_if_unused(dir.version, &self.path(dir))?;
        }
        self.leave_shared();
        Ok(removed)
    }
}

/// The lock on a directory. `None`: another process holds it, or has removed it.
fn hold(own: &Path) -> Result<Option<File>> {
    let failed = |errno| Error::os(format!("lock cgroup {}", own.display()), errno);
    let lock = match File::open(own) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        open => open.map_err(|error| failed(error.into()))?,
    };
    let locked = process::try_lock(lock.as_fd()).map_err(failed)?;
    Ok((locked && file::is_at(lock.as_fd(), own).map_err(failed)?).then_some(lock))
}

/// Removes a directory that is held, unless a process is in it. Returns whether it did.
fn remove_if_unused(version: Version, own: &Path) -> Result<bool> {
    let mut pids = Vec::new();
    pids_below(own, &mut pids)?;
    if !pids.is_empty() || is_populated(version, own)? {
        return Ok(false);
    }
    match remove_tree(own) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
        Err(error) => Err(Error::io(format!("remove cgroup {}", own.display()), &error)),
    }
}

/// In the unified tree the kernel also reports processes that this pid namespace does not show.
fn is_populated(version: Version, own: &Path) -> Result<bool> {
    let file = own.join("cgroup.events");
    match read_kernel(&file) {
        Ok(text) => Ok(version == Version::V2 && text.lines().any(|line| line == "populated 1")),
        Err(error) => match Errno::from(error) {
            Errno(libc::ENOENT | libc::ENODEV) => Ok(false),
            errno => Err(Error::os(format!("read {}", file.display()), errno)),
        },
    }
}

fn read_mark(mark: &Path) -> Result<Option<String>> {
    let text: PathBuf = match fs::read_link(mark) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Error::io(format!("read {}", mark.display()), &e))?,
    };
    Ok(Some(text.to_string_lossy().into_owned()))
}
