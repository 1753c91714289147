//! The record of each entry of the journal: what was requested, and what it has outside.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Resources;
use crate::config::{LimitSource, Sandbox};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::resource::Owner;
use crate::journal::{Entry, Journal};

/// What can be requested: a sandbox, a container, a limit.
pub trait Recorded: Serialize + DeserializeOwned {
    /// The limits of the cgroup among its resources.
    fn limits(&self) -> LimitSource<'_> {
        LimitSource::NONE
    }
}

impl Recorded for Sandbox {
    fn limits(&self) -> LimitSource<'_> {
        LimitSource::Flags(&self.limits)
    }
}

/// The record of a sandbox.
pub type SandboxRecord = Record<Sandbox>;

/// The record of one entry, written before any of it is created. What plugins provide is added
/// before there is a process; after that it does not change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record<Asked> {
    /// Its name in the journal.
    pub id: String,
    /// When it was written, since 1970.
    pub created: Duration,
    /// What was requested.
    pub asked: Asked,
    /// What it has outside.
    #[serde(default)]
    pub resources: Resources,
}

impl<Asked: Recorded> Record<Asked> {
    /// A record created now.
    pub fn new(id: &str, asked: Asked, resources: Resources) -> Record<Asked> {
        let created = facts::now();
        Record { id: id.to_owned(), created, asked, resources }
    }

    /// Reads the record of `id`.
    ///
    /// # Errors
    /// There is no such entry, or its record cannot be read.
    pub fn read(journal: &Journal, id: &str) -> Result<Record<Asked>> {
        let text = journal.read(id)?;
        let damaged = |how: String| {
            Error::new(format!("the record of {} {id}: {how}", journal.kind())).hint(match journal
                .is_of_services()
            {
                true => format!("garth down {id} ends it and removes it"),
                false => format!("garth delete --force {id} removes it"),
            })
        };
        let record: Record<Asked> =
            serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        match record.id == id {
            true => Ok(record),
            false => Err(damaged(format!("it is the record of {:?}", record.id))),
        }
    }

    /// The owner of its resources.
    pub fn owner<'a>(&'a self, journal: &'a Journal) -> Owner<'a> {
        Owner { journal, id: &self.id, limits: self.asked.limits(), may_kill: true }
    }

    /// Writes it: whole or not at all ([`Entry::write`]).
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        entry.write(&self.text()?)
    }

    /// As it is written.
    ///
    /// # Errors
    /// It cannot be.
    pub fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("write the record of {}: {e}", self.id)))
    }
}
