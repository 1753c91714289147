//! What is on record of a service, from `garth up` to `garth down`: what was asked for, and how it
//! is. It stays while the sandbox of the service ends and is started again, and after a reboot.
//!
//! Its keeper holds the entry as long as it is in charge. An entry that is not held, although the
//! service has not ended for good, has lost its keeper.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::Service;
use super::rules::Rules;
use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::facts::now;
use crate::journal::{
    Entry, Journal, ProcessId, is_there, lock_file, read_json, remove_file, write_json,
};
use crate::resource::record::{Record, Recorded};
use crate::resource::trace::Trace;
use crate::start::Options;

/// What is asked for with a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskedService {
    /// The file that it is from.
    pub file: PathBuf,
    /// As it is written there.
    pub service: Service,
    /// What that means on this host.
    pub sandbox: Sandbox,
    /// How the sandbox is started.
    pub options: Options,
    /// The services to which it may connect.
    #[serde(default)]
    pub reaches: Vec<String>,
}

impl Recorded for AskedService {}

/// The record of a service.
pub type ServiceRecord = Record<AskedService>;

impl ServiceRecord {
    /// How it is run.
    pub fn rules(&self) -> &Rules {
        &self.asked.service.rules
    }
}

/// How a service is, as its keeper has written it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being started.
    #[default]
    Starting,
    /// Its sandbox was started.
    Running,
    /// It will be started again.
    Restarting,
    /// It has ended and is not started again.
    Ended,
}

/// What changes while a service is up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Where it is.
    pub phase: Phase,
    /// Since when, since 1970.
    pub since: Duration,
    /// How often it was started again.
    pub restarts: u32,
    /// How often in a row.
    pub in_a_row: u32,
    /// How it ended last, or why it could not be started.
    pub last: Option<String>,
    /// That was a failure.
    pub failed: bool,
}

/// What the health checks have found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// `starting`, `healthy` or `unhealthy`.
    pub state: HealthState,
    /// Failures in a row.
    pub failures: u32,
    /// What the last check said, if it failed.
    pub why: Option<String>,
}

/// Whether a service works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Not known yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Several in a row failed.
    Unhealthy,
}

impl HealthState {
    /// As `garth ps` shows it.
    pub fn word(self) -> &'static str {
        match self {
            HealthState::Starting => "starting",
            HealthState::Healthy => "healthy",
            HealthState::Unhealthy => "unhealthy",
        }
    }
}

/// Files of an entry, beside the record.
const STATUS: &str = "status.json";
const HEALTH: &str = "health.json";
/// It exists once the service is to end for good.
const DOWN: &str = "down";
/// It exists once the service has been ended for a while: it is up again with `garth up --resume`.
const RESTS: &str = "rests";
/// It exists once `garth kill` was used.
const KILLED: &str = "killed";

/// A service in the journal.
#[derive(Clone, Debug)]
pub struct Registered {
    journal: Journal,
    name: String,
}

impl Registered {
    /// The one named `name` of the user whose state directory is that of `journal`.
    pub fn new(journal: &Journal, name: &str) -> Registered {
        Registered { journal: journal.services(), name: name.to_owned() }
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn all(journal: &Journal) -> Result<Vec<Registered>> {
        let names = journal.services().ids()?.into_iter().filter(|id| !id.starts_with('.'));
        Ok(names.map(|name| Registered::new(journal, &name)).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The services' part of the journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A file of its entry.
    pub fn path(&self, file: &str) -> PathBuf {
        self.journal.file(&self.name, file)
    }

    /// The directory of its entry, in which its log is.
    pub fn dir(&self) -> PathBuf {
        self.path("")
    }

    /// Whether it is on record.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn exists(&self) -> Result<bool> {
        self.journal.has(&self.name)
    }

    /// What was asked for; `None`: it is not on record.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn record(&self) -> Result<Option<ServiceRecord>> {
        if !self.journal.has_record(&self.name)? {
            return Ok(None);
        }
        match ServiceRecord::read(&self.journal, &self.name) {
            Ok(record) => Ok(Some(record)),
            // Removed meanwhile.
            Err(_) if !self.exists()? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record, of a service that its keeper holds.
    ///
    /// # Errors
    /// The state directory cannot be written, or another process is changing it.
    pub fn replace(&self, record: &ServiceRecord) -> Result<()> {
        let busy = format!("service {} is", self.name);
        let _lock = lock_file(&self.path("record.json"), &busy)?;
        self.journal.write(&self.name, &record.text()?)
    }

    /// Whether a keeper is in charge.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn is_kept(&self) -> Result<bool> {
        self.journal.is_held(&self.name)
    }

    /// Whether no keeper is in charge of it, although it has not ended for good.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn has_lost_keeper(&self) -> Result<bool> {
        Ok(self.record()?.is_some() && !self.is_kept()? && self.status()?.phase != Phase::Ended)
    }

    /// How it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn status(&self) -> Result<ServiceStatus> {
        Ok(read_json(&self.path(STATUS))?.unwrap_or_default())
    }

    /// Records how it is.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write_status(&self, status: &ServiceStatus) -> Result<()> {
        write_json(&self.path(STATUS), &ServiceStatus { since: now(), ..status.clone() })
    }

    /// What its health checks have found.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn health(&self) -> Result<HealthStatus> {
        Ok(read_json(&self.path(HEALTH))?.unwrap_or_default())
    }

    /// Records that.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write_health(&self, health: &HealthStatus) -> Result<()> {
        write_json(&self.path(HEALTH), health)
    }

    /// Forgets what was true of an earlier start only.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn begin_anew(&self) -> Result<()> {
        remove_file(&self.path(HEALTH))
            .and(remove_file(&self.path(KILLED)))
            .and(remove_file(&self.path(RESTS)))
    }

    /// Records that this process is the keeper.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write_keeper(&self, entry: &Entry) -> Result<()> {
        remove_file(&self.path("process"))?;
        entry.write_process(&ProcessId::of(std::process::id() as i32)?)
    }

    /// Whether it is to end for good.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn goes_down(&self) -> Result<bool> {
        is_there(&self.path(DOWN))
    }

    /// From now on it is to end for good, or not.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn set_down(&self, down: bool) -> Result<()> {
        if down { touch(&self.path(DOWN)) } else { remove_file(&self.path(DOWN)) }
    }

    /// Whether it was ended only until it is resumed.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn rests(&self) -> Result<bool> {
        is_there(&self.path(RESTS))
    }

    /// It has been ended, and stays on record until it is resumed.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn rest(&self) -> Result<()> {
        touch(&self.path(RESTS))?;
        self.write_status(&ServiceStatus { phase: Phase::Ended, ..self.status()? })?;
        self.set_down(false)
    }

    /// Whether `garth kill` was used since its start.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn was_killed(&self) -> Result<bool> {
        is_there(&self.path(KILLED))
    }

    /// Records that `garth kill` is used, if it is on record.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn set_killed(&self) -> Result<()> {
        match self.exists()? {
            true => touch(&self.path(KILLED)),
            false => Ok(()),
        }
    }
}

/// The directory of the log of a service or a detached sandbox, which may have ended.
///
/// # Errors
/// There is none of this name.
pub fn log_of(journal: &Journal, name: &str) -> Result<PathBuf> {
    let service = Registered::new(journal, name);
    if service.exists()? {
        return Ok(service.dir());
    }
    if journal.has(name)? {
        return Ok(journal.file(name, ""));
    }
    Trace::dir(journal, name)?.ok_or_else(|| {
        Error::new(format!("no service or detached sandbox named {name}"))
            .hint("garth ps -a lists those that run and those that have ended")
    })
}

/// Whether all of these have ended for good.
///
/// # Errors
/// It cannot be determined.
pub fn have_ended<'a>(
    journal: &Journal,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<bool> {
    names.try_fold(true, |all, name| {
        let service = Registered::new(journal, name);
        let ended = match service.exists()? {
            true => service.status()?.phase == Phase::Ended,
            false => !journal.has(name)?,
        };
        Ok(all && ended)
    })
}

fn touch(path: &Path) -> Result<()> {
    let mut options = File::options();
    match options.write(true).create(true).truncate(false).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::io(format!("create {}", path.display()), &e)),
    }
}
