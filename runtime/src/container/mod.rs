//! OCI containers (runtime.md of the specification): their life cycle, one file per verb.
//!
//! A container is a directory of the journal, `<root>/containers/<id>/`:
//!
//! | file | contents |
//! |---|---|
//! | `record.json` | the configuration and what was made for it: the intent, written first |
//! | `cgroup` | a link: the container's own cgroup, whose processes are killed with it |
//! | `process` | a link: the first process, once it exists |
//! | `creating`, then `created` | the socket where that process waits for `start` |
//!
//! The directory's lock is not held between calls: each verb takes it while it works. So the state
//! follows from what exists: no process, or one that has ended, is `stopped`; a socket is
//! `creating` or `created`, unless the freezer says `paused`; otherwise it is `running`.

mod checkpoint;
mod create;
mod criu;
mod delete;
mod devices;
mod door;
mod environment;
mod events;
mod exec;
mod hooks;
mod kill;
mod mounts;
mod notify;
mod own;
mod parent;
mod pause;
mod prepare;
mod program;
mod ps;
mod record;
mod restore;
mod second;
mod serve;
mod start;
mod terminal;
mod time;
mod trees;
mod update;
mod warn;

use std::os::fd::{AsFd, OwnedFd};

pub use create::{AfterEnd, Detached, create, create_child, run};
pub use delete::delete;
pub use exec::{Exec, Joined, exec, exec_child};
pub use kill::{Targets, kill};
pub use pause::{pause, resume};
pub use prepare::CreateOptions;
pub use program::Variant;
pub use record::ContainerRecord;
#[doc(hidden)]
pub use serve::serve;
pub use start::start;
pub use terminal::{ChildProgram, StandardFiles};
pub use update::{Changes, Schemata, update};

// For the command line.
#[doc(hidden)]
pub use checkpoint::{Checkpoint, checkpoint};
#[doc(hidden)]
pub use criu::Images;
#[doc(hidden)]
pub use events::{ContainerEvent, events, stats};
#[doc(hidden)]
pub use mounts::{add_mounts, remove_mounts};
#[doc(hidden)]
pub use program::{cgroups_below, read_program};
#[doc(hidden)]
pub use ps::{pids, table};
#[doc(hidden)]
pub use restore::{Restore, restore, restore_child};
#[doc(hidden)]
pub use time::rfc3339;
#[doc(hidden)]
pub use update::throttles;
pub use warn::{Level, Warn};

use crate::cgroup::{Cgroup, MARK};
use crate::config::oci::{self, State, Status};
use crate::error::{Error, Kind, Result};
use crate::journal::{Entry, Journal, is_there};
use crate::sys::{Errno, channel};

/// The socket's name until the parent has done its part.
const CREATING: &str = "creating";
/// The socket's name from then until `start`.
const CREATED: &str = "created";

/// A container on record.
#[derive(Debug)]
pub struct Container {
    journal: Journal,
    /// What was asked for, and what was made.
    pub record: ContainerRecord,
}

impl Container {
    /// Reads the record of `id`. `journal` is the one of containers.
    ///
    /// # Errors
    /// There is no such container, or its record cannot be read.
    pub fn open(journal: &Journal, id: &str) -> Result<Container> {
        Ok(Container { journal: journal.clone(), record: ContainerRecord::read(journal, id)? })
    }

    /// All containers whose records can be read, ordered by id, and an error for each of the
    /// others.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn all(journal: &Journal) -> Result<Vec<Result<Container>>> {
        let ids = journal.ids()?;
        let ids = ids.iter().filter(|id| !id.starts_with('.'));
        // Skip a container that was deleted meanwhile, one still being made, and one whose name was
        // reused meanwhile.
        let open = |id: &String| {
            const TRIES: usize = 3;
            let mut result = Container::open(journal, id);
            for _ in 1..TRIES {
                match result.is_err().then(|| journal.has_record(id)) {
                    None => break,
                    Some(Ok(false)) => return None,
                    Some(Ok(true)) => result = Container::open(journal, id),
                    Some(Err(error)) => return Some(Err(error)),
                }
            }
            Some(result)
        };
        Ok(ids.filter_map(open).collect())
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its first process, if alive.
    ///
    /// # Errors
    /// The process cannot be examined.
    pub fn process(&self) -> Result<Option<(i32, OwnedFd)>> {
        let Some(process) = self.journal.process(self.id())? else { return Ok(None) };
        Ok(process.open()?.map(|open| (process.pid, open)))
    }

    /// Its status.
    ///
    /// # Errors
    /// The status cannot be determined.
    pub fn status(&self) -> Result<Status> {
        status(&self.journal, self.id(), &self.record)
    }

    /// The state as the specification defines it.
    ///
    /// # Errors
    /// The state cannot be determined.
    pub fn state(&self) -> Result<State> {
        Ok(match (self.status()?, self.journal.process(self.id())?) {
            (Status::Stopped, _) => self.record.state(Status::Stopped, 0),
            (status, Some(process)) => self.record.state(status, process.pid),
            (Status::Creating, None) => self.record.state(Status::Creating, 0),
            // Deleted between the two checks.
            (_, None) => self.record.state(Status::Stopped, 0),
        })
    }

    /// The cgroup, if it is the container's own: then its processes may be killed.
    ///
    /// # Errors
    /// It is not the container's own, or cannot be examined.
    fn own_cgroup(&self) -> Result<Cgroup> {
        self.record.resources.cgroup.owned(&self.journal.file(self.id(), MARK))
    }

    /// Takes the lock, for a verb that changes something.
    fn lock(&self) -> Result<Entry> {
        lock(&self.journal, self.id())
    }

    /// # Errors
    /// No program runs; in the words engines look for.
    fn expect_running(&self, verb: &str) -> Result<(i32, OwnedFd)> {
        let not = |how: &str| {
            Error::new(format!("{verb} {}: container {how}", self.id())).kind(Kind::WrongState)
        };
        match (self.status()?, self.process()?) {
            (Status::Running | Status::Paused, Some(process)) => Ok(process),
            (Status::Creating | Status::Created, _) => Err(not("has not been started")),
            _ => Err(not("not running")),
        }
    }
}

fn status(journal: &Journal, id: &str, record: &ContainerRecord) -> Result<Status> {
    let lives = journal.open_process(id)?.is_some();
    let has = |name: &str| is_there(&journal.file(id, name));
    Ok(match lives {
        _ if has(CREATING)? => Status::Creating,
        false => Status::Stopped,
        true if record.resources.cgroup.is_frozen() => Status::Paused,
        true if has(CREATED)? && listens(journal, id) => Status::Created,
        true => Status::Running,
    })
}

/// The process that sent `Go` may have been killed before it removed the socket; then nothing
/// listens on it.
fn listens(journal: &Journal, id: &str) -> bool {
    let Ok(dir) = std::fs::File::open(journal.file(id, "")) else { return false };
    !matches!(channel::knock(dir.as_fd(), CREATED), Err(Errno(libc::ECONNREFUSED)))
}

/// Waits for the lock: others hold it only while they work.
fn lock(journal: &Journal, id: &str) -> Result<Entry> {
    use std::time::{Duration, Instant};
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match journal.lock(id)? {
            Some(entry) => return Ok(entry),
            None if Instant::now() > end => {
                return Err(Error::new(format!("container {id} is locked by another process"))
                    .hint("a create, start, exec or delete of it is in progress"));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// What exists outside on behalf of the container, one line each.
///
/// # Errors
/// There is no such container, or something cannot be examined.
pub fn check(journal: &Journal, id: &str) -> Result<Vec<String>> {
    let Container { record, .. } = Container::open(journal, id)?;
    let owner = record.owner(journal);
    record.resources.inspect(&owner)
}

/// A namespace absent from a configuration means the runtime's own.
fn linux(config: &oci::Config) -> oci::Linux {
    config.linux.clone().unwrap_or_default()
}
