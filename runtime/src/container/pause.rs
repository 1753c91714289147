//! `pause` and `resume`: the freezer of the container's cgroup.

use super::Container;
use crate::config::oci::Status;
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;

/// Freezes every process of a container.
///
/// # Errors
/// It does not run, in runc's words, or has no freezer.
pub fn pause(journal: &Journal, id: &str) -> Result<()> {
    let container = Container::open(journal, id)?;
    let _entry = container.lock()?;
    match container.status()? {
        Status::Running | Status::Created => container.record.resources.cgroup.freeze(),
        _ => Err(Error::new("container not running").kind(Kind::WrongState)),
    }
}

/// Resumes a paused container.
///
/// # Errors
/// It is not paused, in runc's words.
pub fn resume(journal: &Journal, id: &str) -> Result<()> {
    let container = Container::open(journal, id)?;
    let _entry = container.lock()?;
    match container.status()? {
        Status::Paused => container.record.resources.cgroup.thaw(),
        _ => Err(Error::new("container not paused").kind(Kind::WrongState)),
    }
}
