//! Sandboxes and containers have verbs in common, and names of one space.

use crate::error::{Error, Result};
use crate::journal::Journal;

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// A wrapped command.
    Sandbox,
    /// An OCI container.
    Container,
}

impl Face {
    /// The one that is called `name`. Where there is neither it is a container, as most callers who know
    /// both are engines, which look for the words that belong to those.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn of(journal: &Journal, name: &str) -> Result<Face> {
        Ok(match journal.containers().has(name)? || !journal.has(name)? {
            true => Face::Container,
            false => Face::Sandbox,
        })
    }
}

/// The first process of the sandbox or container `name`.
///
/// # Errors
/// There is none, or it does not run.
pub fn first_process(journal: &Journal, name: &str) -> Result<i32> {
    let containers = journal.containers();
    let journal = if containers.has(name)? { &containers } else { journal };
    match journal.process(name)? {
        Some(process) if process.open()?.is_some() => Ok(process.pid),
        _ => {
            journal.read(name)?;
            Err(Error::new(format!("{name} is not running")))
        }
    }
}
