//! The sandboxes on record.

use serde::Serialize;

use crate::error::Result;
use crate::host::journal::Journal;

/// One line of `garth ps`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// `running`, `ended` (gc will remove it) or `starting`.
    pub state: &'static str,
    /// Its first process, in the host's pid namespace.
    pub pid: Option<i32>,
    /// Seconds since 1970.
    pub created: u64,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its published ports, as `-p` spells them.
    pub ports: Vec<String>,
    /// The command.
    pub command: Vec<String>,
}

/// All that have a readable record, in the order of their names.
///
/// # Errors
/// When the state directory cannot be read.
pub fn list(journal: &Journal) -> Result<Vec<Entry>> {
    let records = journal.ids()?.into_iter().filter_map(|id| journal.read(&id).ok());
    Ok(records
        .map(|record| {
            let lives = record.process.as_ref().is_some_and(|process| process.open().is_some());
            let words = record.sandbox.command.iter().map(|word| word.to_string_lossy().into());
            Entry {
                name: record.id,
                state: match (&record.process, lives) {
                    (_, true) => "running",
                    (Some(_), false) => "ended",
                    (None, _) => "starting",
                },
                pid: record.process.filter(|_| lives).map(|process| process.pid),
                created: record.created,
                addresses: record.resources.network.iter().flat_map(|n| n.addresses()).collect(),
                ports: record.sandbox.publish.iter().map(ToString::to_string).collect(),
                command: words.collect(),
            }
        })
        .collect())
}
