//! What is written down of a sandbox: what was asked, and what it has outside.

use serde::{Deserialize, Serialize};

use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::journal::resource::Owner;
use crate::journal::{Entry, Journal};
use crate::resource::Resources;

/// The record of one sandbox, written before anything of it is made, and not changed afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name, or a random one.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// What was asked.
    pub sandbox: Sandbox,
    /// What it has outside.
    pub resources: Resources,
}

impl Record {
    /// Reads what is recorded of `id`.
    ///
    /// # Errors
    /// When there is no such sandbox, or its record cannot be read.
    pub fn read(journal: &Journal, id: &str) -> Result<Record> {
        let text = journal.read(id)?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(format!("the record of {id}: not a record: {e}")))
    }

    /// Whose its resources are.
    pub fn owner<'a>(&'a self, journal: &'a Journal) -> Owner<'a> {
        Owner { journal, id: &self.id, limits: &self.sandbox.limits, may_kill: true }
    }

    /// Writes it: whole or not at all ([`Entry::write`]).
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("the record of {}: {e}", self.id)))?;
        entry.write(&text)
    }
}
