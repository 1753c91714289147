//! Listing and checking sandboxes.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Face;
use super::register::{HealthState, Phase, Registered};
use crate::config::{Publish, Sandbox};
use crate::error::Result;
use crate::journal::{Journal, ProcessId};
use crate::resource::bandwidth::Kept;
use crate::resource::record::SandboxRecord;
use crate::resource::trace::Trace;
use crate::volume::status::VolumeHealth;
use crate::volume::usage::VolumeUse;
use crate::{container, facts, network};

/// One line of `garth ps`.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// `running`, `starting`, `ended` (to be released by gc), or `damaged`: it is running, but its
    /// record cannot be read; `garth delete --force` still removes it, and `garth down` a service
    /// of which nothing can be read. `exited` and `killed`: it
    /// has ended and been released, and `end` tells how.
    pub state: &'static str,
    /// Its first process, in the host's pid namespace.
    pub pid: Option<i32>,
    /// In seconds since 1970.
    pub created: Option<u64>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its published ports in the syntax of `-p`, adjacent ones as a range.
    pub ports: Vec<String>,
    /// Its current network rates in the syntax of `--rate`.
    pub rates: Option<String>,
    /// The RAID volumes that are mounted in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<ListedVolume>,
    /// The command.
    pub command: Vec<String>,
    /// How it ended, if that is still on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Trace>,
    /// What it has as a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ListedService>,
}

/// A RAID volume of a sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct ListedVolume {
    /// Its name.
    pub name: String,
    /// How it is; `None`: that cannot be determined.
    pub health: Option<VolumeHealth>,
}

impl From<&VolumeUse> for ListedVolume {
    fn from(volume: &VolumeUse) -> ListedVolume {
        let health = volume.status().ok().map(|status| status.health);
        ListedVolume { name: volume.name.clone(), health }
    }
}

impl fmt::Display for ListedVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(match self.health {
            Some(VolumeHealth::Healthy) => "",
            Some(VolumeHealth::Degraded) => " (degraded)",
            Some(VolumeHealth::Stopped) => " (stopped)",
            Some(VolumeHealth::Failed) => " (FAILED)",
            None => " (unknown)",
        })
    }
}

/// What `garth ps` shows of a service beside its sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct ListedService {
    /// The file that it is from.
    pub file: PathBuf,
    /// What its health checks have found, if it has any.
    pub health: Option<HealthState>,
    /// What the last check said, if it failed.
    pub why: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last.
    pub last: Option<String>,
    /// A keeper is in charge, or none is needed as it has ended.
    pub kept: bool,
}

impl Listed {
    /// One of which no more is known.
    fn empty(name: &str, state: &'static str) -> Listed {
        Listed {
            name: name.to_owned(),
            state,
            pid: None,
            created: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            rates: None,
            volumes: Vec::new(),
            command: Vec::new(),
            end: None,
            service: None,
        }
    }
}

impl From<Trace> for Listed {
    fn from(trace: Trace) -> Listed {
        let state = if trace.signal.is_some() { "killed" } else { "exited" };
        Listed {
            created: Some(trace.created),
            command: trace.command.clone(),
            end: Some(trace.clone()),
            ..Listed::empty(&trace.name, state)
        }
    }
}

/// Lists all sandboxes and services, sorted by name.
///
/// # Errors
/// The state directory cannot be read.
pub fn list(journal: &Journal) -> Result<Vec<Listed>> {
    // A name that begins with a dot is an entry being created.
    let ids = journal.ids()?.into_iter().filter(|id| !id.starts_with('.'));
    let mut kept = None;
    let mut all = ids.map(|id| look(journal, id, &mut kept)).collect::<Result<Vec<_>>>()?;
    for service in Registered::all(journal)? {
        let found = service_of(&service);
        let place = all.iter().position(|one| one.name == service.name());
        match (found, place) {
            (Ok(None), _) => {}
            (Ok(Some((_, of_service))), Some(at)) => all[at].service = Some(of_service),
            (Ok(Some((listed, of_service))), None) => {
                all.push(Listed { service: Some(of_service), ..listed });
            }
            (Err(_), Some(at)) => all[at].state = "damaged",
            (Err(_), None) => all.push(Listed::empty(service.name(), "damaged")),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// A service as it is between two starts or after the last, and what it has as a service; `None`: it
/// was removed meanwhile.
fn service_of(service: &Registered) -> Result<Option<(Listed, ListedService)>> {
    let Some(record) = service.record()? else { return Ok(None) };
    let status = service.status()?;
    let state = match status.phase {
        Phase::Starting => "starting",
        Phase::Running => "ended",
        Phase::Restarting => "restarting",
        Phase::Ended if status.failed => "failed",
        Phase::Ended => "exited",
    };
    let words = record.asked.sandbox.command.iter();
    let listed = Listed {
        created: Some(record.created.as_secs()),
        ports: Publish::ranges(&record.asked.sandbox.publish),
        command: words.map(|word| word.to_string_lossy().into_owned()).collect(),
        ..Listed::empty(service.name(), state)
    };
    let health = record.rules().health.is_some().then(|| service.health()).transpose()?;
    let of_service = ListedService {
        file: record.asked.file.clone(),
        why: health.as_ref().and_then(|health| health.why.clone()),
        health: health.map(|health| health.state),
        restarts: status.restarts,
        last: status.last,
        kept: status.phase == Phase::Ended || service.is_kept()?,
    };
    Ok(Some((listed, of_service)))
}

/// Same as [`list`], plus detached sandboxes that have ended and left a trace.
///
/// # Errors
/// Same as `list`.
pub fn list_all(journal: &Journal) -> Result<Vec<Listed>> {
    let mut entries = list(journal)?;
    for trace in Trace::all(journal)? {
        if entries.iter().all(|entry| entry.name != trace.name) {
            entries.push(trace.into());
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// `kept` is read once, for the first sandbox whose network can have rates.
fn look(journal: &Journal, name: String, kept: &mut Option<Kept>) -> Result<Listed> {
    let process = journal.process(&name)?;
    let lives = match process.as_ref().map(ProcessId::open).transpose() {
        Ok(open) => open.flatten().is_some(),
        // A process that cannot be seen from here: the process that started it holds the entry.
        Err(_) => journal.is_held(&name)?,
    };
    let state = match (&process, lives) {
        (_, true) => "running",
        (Some(_), false) => "ended",
        (None, _) => "starting",
    };
    let pid = process.filter(|_| lives).map(|process| process.pid);
    let Ok(record) = SandboxRecord::read(journal, &name) else {
        let state = if lives { "damaged" } else { "ended" };
        return Ok(Listed { pid, ..Listed::empty(&name, state) });
    };
    let words = record.asked.command.iter().map(|word| word.to_string_lossy().into_owned());
    let link = record.resources.bandwidth.as_ref().and_then(|bandwidth| bandwidth.link.as_ref());
    // Only what the kernel reports.
    let rates = link.filter(|_| lives).and_then(|link| {
        let kept = kept.get_or_insert_with(|| Kept::read().unwrap_or_default());
        match &record.asked.rate_group {
            None => {
                Some(kept.of(link.index)).filter(|rates| !rates.is_empty()).map(|r| r.to_string())
            }
            Some(group) => match kept.within(link.index, group)? {
                own if own.is_empty() => Some(format!("{} in {}", group.rates, group.name)),
                own => Some(format!("{own} of {} in {}", group.rates, group.name)),
            },
        }
    });
    Ok(Listed {
        name,
        state,
        pid,
        created: Some(record.created.as_secs()),
        addresses: record.resources.network.iter().flat_map(|n| n.addresses()).collect(),
        ports: Publish::ranges(&record.asked.publish),
        rates,
        volumes: record.resources.volumes.iter().map(ListedVolume::from).collect(),
        command: words.collect(),
        end: None,
        service: None,
    })
}

/// The host resources that the sandbox or container `name` holds and, for a running sandbox, those
/// that are missing or do not work.
///
/// # Errors
/// There is no such sandbox or container, or something cannot be read.
pub fn check(journal: &Journal, name: &str) -> Result<(Vec<String>, Vec<String>)> {
    if Face::of(journal, name)? == Face::Container {
        return Ok((container::check(&journal.containers(), name)?, Vec::new()));
    }
    let record = SandboxRecord::read(journal, name)?;
    let owner = record.owner(journal);
    let there = record.resources.inspect(&owner)?;
    let lacks = match journal.open_process(name)? {
        Some(_) => record.resources.lacks(&owner)?,
        None => Vec::new(),
    };
    Ok((there, lacks))
}

/// What will not work for a newly started sandbox because of other firewall rules on this host.
pub fn cautions(sandbox: &Sandbox) -> Vec<String> {
    match sandbox.network.has_address() && facts::privileged() {
        // If they cannot be read, there is nothing to warn about.
        true => network::obstacles().unwrap_or_default(),
        false => Vec::new(),
    }
}
