//! Sandboxes and containers share verbs and a name space.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::journal::Journal;

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// A wrapped command.
    Sandbox,
    /// An OCI container.
    Container,
}

impl Face {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Face::Sandbox => "sandbox",
            Face::Container => "container",
        }
    }

    /// The one named `name`. If there is neither, a container: then the verbs that serve both fail
    /// with the words that engines match.
    ///
    /// # Errors
    /// The state directory cannot be read.
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
/// It does not exist or is not running.
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
