//! Listing and checking sandboxes.

use serde::Serialize;

use super::Face;
use crate::config::{Network, Publish, Sandbox};
use crate::error::Result;
use crate::journal::{Journal, ProcessId};
use crate::resource::bandwidth::Kept;
use crate::resource::record::SandboxRecord;
use crate::resource::trace::Trace;
use crate::{container, facts, network};

/// One line of `garth ps`.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// `running`, `starting`, `ended` (to be released by gc), or `damaged`: it is running, but its
    /// record cannot be read; `garth delete --force` still removes it. `exited` and `killed`: it
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
    /// The command.
    pub command: Vec<String>,
    /// How it ended, if that is still on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Trace>,
}

impl From<Trace> for Listed {
    fn from(trace: Trace) -> Listed {
        Listed {
            name: trace.name.clone(),
            state: if trace.signal.is_some() { "killed" } else { "exited" },
            pid: None,
            created: Some(trace.created),
            addresses: Vec::new(),
            ports: Vec::new(),
            rates: None,
            command: trace.command.clone(),
            end: Some(trace),
        }
    }
}

/// Lists all sandboxes, sorted by name.
///
/// # Errors
/// The state directory cannot be read.
pub fn list(journal: &Journal) -> Result<Vec<Listed>> {
    // A name that begins with a dot is an entry being created.
    let ids = journal.ids()?.into_iter().filter(|id| !id.starts_with('.'));
    let mut kept = None;
    ids.map(|id| look(journal, id, &mut kept)).collect()
}

/// Same as [`list`], plus detached sandboxes that have ended and left a trace.
///
/// # Errors
/// Same as `list`.
pub fn list_all(journal: &Journal) -> Result<Vec<Listed>> {
    let mut entries = list(journal)?;
    for trace in Trace::all(journal)? {
        if !journal.has(&trace.name)? {
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
        let none = Vec::new();
        let (addresses, ports, command) = (none.clone(), none.clone(), none);
        let rates = None;
        let end = None;
        let created = None;
        return Ok(Listed { name, state, pid, created, addresses, ports, rates, command, end });
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
        command: words.collect(),
        end: None,
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
    match sandbox.network {
        // If they cannot be read, there is nothing to warn about.
        Network::Private if facts::privileged() => network::obstacles().unwrap_or_default(),
        _ => Vec::new(),
    }
}
