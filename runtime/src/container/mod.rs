//! OCI containers (runtime.md of the specification): their life cycle, one file a verb.
//!
//! A container is a directory of the journal, `<root>/containers/<id>/`:
//!
//! | file | what it says |
//! |---|---|
//! | `record.json` | the bundle's configuration and what was made for it: the intent, written first |
//! | `cgroup` | a link: which cgroup is the container's own, so that who is in it is ended with it |
//! | `process` | a link: the first process, as soon as there is one |
//! | `creating`, then `created` | the socket at which that process waits for `start` |
//!
//! Nobody holds the directory's lock between two calls: each verb takes it for as long as it works.
//! So the state is read off what is there: no process, or one that has ended, is `stopped`; a socket
//! is `creating` or `created`, unless the freezer says `paused`; otherwise it is `running`.

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

pub use create::{AfterEnd, Detached, create, run};
pub use delete::delete;
pub use exec::{Exec, Joined, exec};
pub use kill::{Targets, kill};
pub use pause::{pause, resume};
pub use prepare::CreateOptions;
pub use program::Variant;
pub use record::ContainerRecord;
#[doc(hidden)]
pub use serve::serve;
pub use start::start;
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
pub use restore::{Restore, restore};
#[doc(hidden)]
pub use time::{now, rfc3339};
#[doc(hidden)]
pub use update::throttles;
pub use warn::{Level, Warn};

use crate::cgroup::{Cgroup, MARK};
use crate::config::oci::{self, State, Status};
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal, is_there};
use crate::sys::{Errno, channel};

/// The socket's name until the parent has done all of its part.
const CREATING: &str = "creating";
/// The socket's name from then until the start.
const CREATED: &str = "created";

/// A container on record.
#[derive(Debug)]
pub struct Container {
    journal: Journal,
    /// What was asked, and what was made.
    pub record: ContainerRecord,
}

impl Container {
    /// Reads the record of `id`. `journal` is that of containers.
    ///
    /// # Errors
    /// When there is no such container, or its record cannot be read.
    pub fn open(journal: &Journal, id: &str) -> Result<Container> {
        Ok(Container { journal: journal.clone(), record: ContainerRecord::read(journal, id)? })
    }

    /// All that can be read, in the order of their ids, and why the others cannot.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn all(journal: &Journal) -> Result<Vec<Result<Container>>> {
        let ids = journal.ids()?;
        let ids = ids.iter().filter(|id| !id.starts_with('.'));
        // A container that was deleted meanwhile is gone, one that is being made is not there yet, and
        // one whose name was used again meanwhile is another.
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

    /// Its name.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its first process, if it lives.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn process(&self) -> Result<Option<(i32, OwnedFd)>> {
        let Some(process) = self.journal.process(self.id())? else { return Ok(None) };
        Ok(process.open()?.map(|open| (process.pid, open)))
    }

    /// Where it is in its life.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn status(&self) -> Result<Status> {
        status(&self.journal, self.id(), &self.record)
    }

    /// The state, as the specification has it.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn state(&self) -> Result<State> {
        Ok(match (self.status()?, self.journal.process(self.id())?) {
            (Status::Stopped, _) => self.record.state(Status::Stopped, 0),
            (status, Some(process)) => self.record.state(status, process.pid),
            (Status::Creating, None) => self.record.state(Status::Creating, 0),
            // Deleted between the two looks.
            (_, None) => self.record.state(Status::Stopped, 0),
        })
    }

    /// The cgroup, as far as it is the container's own: in it its processes may be ended.
    ///
    /// # Errors
    /// When it cannot be told.
    fn own_cgroup(&self) -> Result<Cgroup> {
        self.record.resources.cgroup.owned(&self.journal.file(self.id(), MARK))
    }

    /// Takes the lock, for a verb that changes something.
    fn lock(&self) -> Result<Entry> {
        lock(&self.journal, self.id())
    }

    /// # Errors
    /// In the words that engines look for, when no program runs.
    fn expect_running(&self, verb: &str) -> Result<(i32, OwnedFd)> {
        let not = |how: &str| Error::new(format!("{verb} {}: container {how}", self.id()));
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

/// Whoever said `Go` may have been killed before it removed the socket; then nobody listens there.
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

/// What is there of what the container has outside, a line each.
///
/// # Errors
/// When there is no such container, or something cannot be told.
pub fn check(journal: &Journal, id: &str) -> Result<Vec<String>> {
    let Container { record, .. } = Container::open(journal, id)?;
    let owner = record.owner(journal);
    record.resources.inspect(&owner)
}

/// The namespaces whose absence from a configuration means the runtime's own.
fn linux(config: &oci::Config) -> oci::Linux {
    config.linux.clone().unwrap_or_default()
}
