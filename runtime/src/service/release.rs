//! Releasing what ended sandboxes held and what crashes have left behind.

use super::Face;
use super::register::Registered;
use super::up::{release_unused, take_up_lost};
use crate::container::{self, Warn};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::limit;
use crate::resource::gc::{self, Report};
use crate::resource::trace::Trace;

/// Releases the resources of the sandbox or container `name` and removes its record. With `force`
/// it is killed first, and its record may be damaged.
///
/// # Errors
/// It does not exist, it is running, or something could not be released.
pub fn delete(journal: &Journal, name: &str, force: bool, warn: &Warn) -> Result<()> {
    if Registered::new(journal, name).exists()? {
        return Err(Error::new(format!("{name} is a service"))
            .hint(format!("garth down {name} ends it, however it is")));
    }
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
                .hint("stop it with garth kill, or use --force"));
        }
    }
    Trace::remove(journal, name).map(drop)
}

/// Releases everything that crashes have left behind.
///
/// # Errors
/// The state directory cannot be read; what could not be released is in the report.
pub fn collect(journal: &Journal) -> Result<Report> {
    let mut report = Report::default();
    for swept in journal.services().sweep("")? {
        match swept {
            Ok(name) => report.removed.push(format!("unfinished {name}")),
            Err(error) => report.failed.push(error),
        }
    }
    match journal.sweep_volumes() {
        Ok(true) => report.removed.push("unfinished volume".to_owned()),
        Ok(false) => {}
        Err(error) => report.failed.push(error),
    }
    // Before what they have is taken for left behind.
    for (name, taken) in take_up_lost(journal)? {
        match taken {
            Ok(()) => report.taken_up.push(name),
            Err(error) => report.failed.push(error.within(format_args!("service {name}"))),
        }
    }
    match release_unused(journal) {
        Ok(groups) => report.removed.extend(groups.iter().map(|id| format!("group {id}"))),
        Err(error) => report.failed.push(error.within("groups of services")),
    }
    let Report { removed, failed, .. } = gc::collect(journal)?;
    report.removed.extend(removed);
    report.failed.extend(failed);
    // Limiters, too, record what they stop.
    let (released, unreleased) = limit::release_all(journal.root())?;
    report.removed.extend(released);
    report.failed.extend(unreleased);
    Ok(report)
}
