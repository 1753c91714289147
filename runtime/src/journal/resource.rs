//! What each resource can do. [`crate::resource`] is the list of them.
//!
//! A resource is a record: plain data, chosen and recorded before any of it is created, from which
//! a later process can release it. Its names derive from the id. So each operation needs only the
//! record and its [`Owner`], and all but `provide`, `acquire`, `hold`, `admit` and `connect`
//! may be repeated.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::config::{LimitSource, Provided};
use crate::error::Result;
use crate::journal::Journal;

/// The owner of a resource: a sandbox, or a container.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The part of the journal that it is in.
    pub journal: &'a Journal,
    /// Its name there.
    pub id: &'a str,
    /// What was requested for its cgroup: needed to create it, and for `describe`.
    pub limits: LimitSource<'a>,
    /// Whether a release kills the processes left in the owner's resources; `gc` never does.
    pub may_kill: bool,
}

impl Owner<'_> {
    /// A file of this name in the owner's journal directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.journal.file(self.id, name)
    }
}

/// What must stay open as long as the sandbox lives. For a container no process stays.
pub type Held = Vec<OwnedFd>;

/// Something outside that must be released.
pub trait Resource {
    /// Creates what appears inside, and returns what that is, before anything else is created:
    /// mounts and devices become part of what was requested.
    ///
    /// # Errors
    /// It could not be created; the caller then releases everything.
    fn provide(&self, owner: &Owner) -> Result<Option<Provided>> {
        let _ = owner;
        Ok(None)
    }

    /// Creates what can be created before there is a process.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    fn acquire(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        let _ = (owner, held);
        Ok(())
    }

    /// Takes again what must stay open while the owner lives, for a process that looks after it in
    /// place of one that is gone. What another has taken meanwhile is its.
    ///
    /// # Errors
    /// It cannot be determined.
    fn hold(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        let _ = (owner, held);
        Ok(())
    }

    /// Creates what needs process `pid`, or moves the process in, before anything is mounted in its
    /// namespaces; it waits meanwhile.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    fn admit(&self, owner: &Owner, pid: i32) -> Result<()> {
        let _ = (owner, pid);
        Ok(())
    }

    /// Creates what belongs to the namespaces of process `pid`, which waits meanwhile.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        let _ = (owner, pid);
        Ok(())
    }

    /// Undoes these, whether they were done, half done or not started. The owner's processes are
    /// dead; any that are not die with its cgroup, which is released first.
    ///
    /// # Errors
    /// Something could not be released: it stays on record, and is retried.
    fn release(&self, owner: &Owner) -> Result<()>;

    /// What of it exists now, one line each; nothing after a release.
    ///
    /// # Errors
    /// It cannot be determined.
    fn inspect(&self, owner: &Owner) -> Result<Vec<String>>;

    /// What is on record but missing or not working, while the owner runs.
    ///
    /// # Errors
    /// It cannot be determined.
    fn lacks(&self, owner: &Owner) -> Result<Vec<String>> {
        let _ = owner;
        Ok(Vec::new())
    }

    /// What will be created, one line each, in that order, for `garth explain`.
    fn describe(&self, owner: &Owner) -> Vec<String>;
}
