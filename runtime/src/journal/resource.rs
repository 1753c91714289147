//! What each resource can do. [`crate::resource`] is the list of them.
//!
//! A resource is a record: plain data, chosen and written down before anything of it is made, from
//! which it can be released by whoever comes later. Its names derive from the id. So each act needs
//! nothing but the record and its [`Owner`], and each but `acquire`, `admit` and `connect` may be
//! repeated.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::config::LimitSource;
use crate::error::Result;
use crate::journal::Journal;

/// Whose the resource is: a sandbox, or a container.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The part of the journal that it is in.
    pub journal: &'a Journal,
    /// Its name there.
    pub id: &'a str,
    /// What was asked for its cgroup: for its making and `describe`.
    pub limits: LimitSource<'a>,
    /// A release ends the processes that are left in what is the owner's; `gc` never does.
    pub may_kill: bool,
}

impl Owner<'_> {
    /// A file of this name in its place in the journal.
    pub fn file(&self, name: &str) -> PathBuf {
        self.journal.file(self.id, name)
    }
}

/// What must stay open for as long as the sandbox lives. Nobody stays with a container.
pub type Held = Vec<OwnedFd>;

/// Something outside that must be released.
pub trait Resource {
    /// Makes what can be made before there is a process.
    ///
    /// # Errors
    /// What could not be made. The caller releases the whole then.
    fn acquire(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        let _ = (owner, held);
        Ok(())
    }

    /// Makes what is made around process `pid`, or takes it in, before anything is mounted in its
    /// namespaces; it waits meanwhile.
    ///
    /// # Errors
    /// What could not be made. The caller releases the whole then.
    fn admit(&self, owner: &Owner, pid: i32) -> Result<()> {
        let _ = (owner, pid);
        Ok(())
    }

    /// Makes what belongs to the namespaces of process `pid`, which waits meanwhile.
    ///
    /// # Errors
    /// What could not be made. The caller releases the whole then.
    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        let _ = (owner, pid);
        Ok(())
    }

    /// Undoes these, whether they were done, half done or not begun. The owner's processes are dead;
    /// those that are not die with its cgroup, which is released first.
    ///
    /// # Errors
    /// What could not be released: it stays recorded, and is tried again.
    fn release(&self, owner: &Owner) -> Result<()>;

    /// What of it is there now, a line each; nothing after a release.
    ///
    /// # Errors
    /// When it cannot be told.
    fn inspect(&self, owner: &Owner) -> Result<Vec<String>>;

    /// What is on record and is not there, or does not work, while the owner runs.
    ///
    /// # Errors
    /// When it cannot be told.
    fn lacks(&self, owner: &Owner) -> Result<Vec<String>> {
        let _ = owner;
        Ok(Vec::new())
    }

    /// What will be made, a line each in the order of the making, for `garth explain`.
    fn describe(&self, owner: &Owner) -> Vec<String>;
}
