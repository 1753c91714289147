//! The sandboxes on record.

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
    /// `running`, `starting`, `ended` (gc will release it), or `damaged`: it runs, but its record
    /// cannot be read; `garth delete --force` still removes it. `exited` and `killed`: it has ended
    /// and is released, and `end` tells how.
    pub state: &'static str,
    /// Its first process, in the host's pid namespace.
    pub pid: Option<i32>,
    /// Seconds since 1970.
    pub created: Option<u64>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its published ports, as `-p` spells them: neighbours as one range.
    pub ports: Vec<String>,
    /// What its network is held to now, as `--rate` spells it.
    pub rates: Option<String>,
    /// The command.
    pub command: Vec<String>,
    /// How it has ended, as far as that is remembered.
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

/// All of them, in the order of their names.
///
/// # Errors
/// When the state directory cannot be read.
pub fn list(journal: &Journal) -> Result<Vec<Listed>> {
    // A name with a dot is an entry in the making.
    let ids = journal.ids()?.into_iter().filter(|id| !id.starts_with('.'));
    let mut kept = None;
    ids.map(|id| look(journal, id, &mut kept)).collect()
}

/// As [`list`], with the detached ones that have ended and are remembered.
///
/// # Errors
/// As for `list`.
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

/// `kept` is read once, for the first sandbox that has a network to be held to anything.
fn look(journal: &Journal, name: String, kept: &mut Option<Kept>) -> Result<Listed> {
    let process = journal.process(&name)?;
    let lives = match process.as_ref().map(ProcessId::open).transpose() {
        Ok(open) => open.flatten().is_some(),
        // One that cannot be seen from here is watched by whoever started it.
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
    // Where the kernel does not say, nothing is said.
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

/// What is there of what the sandbox or container `name` has outside, and, of a sandbox that runs, what
/// is missing or does not work.
///
/// # Errors
/// When there is none of this name, or something cannot be told.
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

/// What will not work for a sandbox that has just been started, as others on this host are against it.
pub fn cautions(sandbox: &Sandbox) -> Vec<String> {
    match sandbox.network {
        // Who cannot look has no reason to fear.
        Network::Private if facts::privileged() => network::obstacles().unwrap_or_default(),
        _ => Vec::new(),
    }
}
