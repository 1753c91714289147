//! What has ended, and what crashes have left behind: released.

use super::Face;
use crate::container::{self, Warn};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::limit;
use crate::resource::gc::{self, Report};
use crate::resource::trace::Trace;

/// Releases what the sandbox or container `name` had, and forgets it. With `force` it is ended first,
/// and its record may be damaged.
///
/// # Errors
/// There is none of this name, it runs, or what could not be released.
pub fn delete(journal: &Journal, name: &str, force: bool, warn: &Warn) -> Result<()> {
    let is_there = journal.has(name)? || journal.containers().has(name)?;
    if !is_there && Trace::remove(journal, name)? {
        return Ok(());
    }
    match Face::of(journal, name)? {
        Face::Container => return container::delete(&journal.containers(), name, force, warn),
        Face::Sandbox if force => gc::force(journal, name)?,
        Face::Sandbox if gc::release_ended(journal, name)? => {}
        Face::Sandbox => {
            return Err(Error::new(format!("{name} is running"))
                .hint("end it with garth kill, or use --force"));
        }
    }
    Trace::remove(journal, name).map(drop)
}

/// Releases all that crashes have left behind.
///
/// # Errors
/// When the state directory cannot be read; what could not be released is in the report.
pub fn collect(journal: &Journal) -> Result<Report> {
    let mut report = gc::collect(journal)?;
    // Limiters first tell what they have stopped in a record, too.
    let (released, unreleased) = limit::release_all(journal.root())?;
    report.removed.extend(released);
    report.failed.extend(unreleased);
    Ok(report)
}
