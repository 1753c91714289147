//! What is written down of a container: what was asked, and what was made for it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time;
use crate::cgroup::Cgroup;
use crate::config::Limits;
use crate::config::oci::{self, Config, State, Status};
use crate::error::{Error, Result};
use crate::journal::resource::Owner;
use crate::journal::{Entry, Journal};
use crate::resource::Resources;

/// The record of one container, written before anything of it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// When it was created, since 1970.
    pub created: Duration,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// User id of whoever created it.
    pub owner: u32,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// What its annotations ask for.
    #[serde(default)]
    pub resources: Resources,
    /// The directory of its resctrl group, if one was made.
    pub rdt: Option<PathBuf>,
    /// The bundle's configuration, as it was read.
    pub config: Config,
}

impl Record {
    /// Reads what is recorded of `id`.
    ///
    /// # Errors
    /// When there is no such container, or its record cannot be read.
    pub fn read(journal: &Journal, id: &str) -> Result<Record> {
        let text = journal.read(id)?;
        let damaged = |how: String| {
            Error::new(format!("the record of container {id}: {how}"))
                .hint(format!("garth delete --force {id} removes it"))
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        match record.id == id {
            true => Ok(record),
            false => Err(damaged(format!("it is that of {:?}", record.id))),
        }
    }

    /// Whose its resources are. The limits of its own cgroup stand in its configuration.
    pub fn owner<'a>(&'a self, journal: &'a Journal) -> Owner<'a> {
        Owner { journal, id: &self.id, limits: Limits::NONE, may_kill: true }
    }

    /// Writes it: whole or not at all ([`Entry::write`]).
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::new(format!("write the record of {}: {e}", self.id)))?;
        entry.write(&text)
    }

    /// The state, as the specification has it.
    pub fn state(&self, status: Status, pid: i32) -> State {
        State {
            oci_version: oci::VERSION.into(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.config.annotations.clone(),
        }
    }

    /// Where the root file system is, absolute.
    pub fn rootfs(&self) -> PathBuf {
        let path = self.config.root.as_ref().map_or("", |root| root.path.as_str());
        self.bundle.join(path)
    }

    /// The time of creation in words.
    pub fn created(&self) -> String {
        time::rfc3339(self.created)
    }
}
