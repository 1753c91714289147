//! How fast a sandbox may send and receive: a token bucket in each direction, both on the host's
//! end of its link, where no process inside can change them, whatever its capabilities.
//!
//! ```text
//!  sandbox                    host
//!  eth0 ──── veth ────▶ garth0ae70001 ── ingress ─▶ gifb4ae70001 [tbf: up] ─▶ as if received
//!  eth0 ◀─── veth ─── [tbf: down] garth0ae70001
//! ```
//!
//! What the sandbox receives is what the host's end sends, which has a queue. Incoming traffic has
//! none, so it is redirected to an ifb, a device that is nothing but a queue. The bucket of the
//! host's end dies with it, and so does the redirection; the ifb does not, so its name is derived
//! from the link's index, and it is removed by the process that releases the sandbox, or by `gc`,
//! which recognizes it by its missing link.
//!
//! The record only says which links there are: a symbolic link `rate` in the owner's directory,
//! made before anything else. Their current rates are read from the kernel ([`Kept`]).

mod ends;
mod group;
mod htb;
mod queues;
mod shape;
mod tc;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use serde::{Deserialize, Serialize};

pub use ends::ends_of;
pub use queues::{Kept, begin, change, describe, release, remove_stray, strays, take_off};

pub use group::{join as join_group, strays as group_strays};
pub use tc::QueueCounter;

use crate::config::rate::Change;
use crate::config::{RateGroup, Rates};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::resource::{Owner, Resource};
use crate::journal::{Journal, remove_file};
use crate::network::HostEnd;

/// The rates of a sandbox's or a container's links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What was requested at the start.
    pub rates: Rates,
    /// The budget that it shares with others; `rates` are then its own limits within it.
    #[serde(default)]
    pub group: Option<RateGroup>,
    /// The link that a sandbox will have; `None`: a container's links are made by an engine, and
    /// are looked up once they exist.
    pub link: Option<HostEnd>,
}

/// Whether this caller can have them, in a private network.
///
/// # Errors
/// The caller is not root: then pasta provides the network.
pub fn check(rates: &Rates, group: Option<&RateGroup>) -> Result<()> {
    let asked = match group {
        _ if facts::privileged() => return Ok(()),
        _ if !rates.is_empty() => format!("--rate {rates}"),
        Some(group) => format!("--rate-group {group}"),
        None => return Ok(()),
    };
    Err(Error::new(format!("{asked}: needs root"))
        .hint("without root the network is provided by pasta, which has no interface on the host"))
}

/// Which links have a rate, as recorded in the owner's directory.
const MARK: &str = "rate";
/// And which group they are in.
const GROUP_MARK: &str = "rate-group";

impl Bandwidth {
    /// Changes the rates of the running `owner`, whose first process is `pid`.
    ///
    /// # Errors
    /// The kernel refuses, or no rate can be enforced on the network.
    pub fn update(&self, owner: &Owner, pid: i32, change: Change) -> Result<Rates> {
        let ends = match &self.link {
            Some(link) => vec![link.clone()],
            None => self.links(owner, pid)?,
        };
        if let Some(group) = &self.group {
            let mut after = Rates::default();
            for end in &ends {
                after = group::change(owner.journal.root(), end, group, change)?;
            }
            return Ok(after);
        }
        let kept = Kept::read()?;
        let mut after = Rates::default();
        for end in &ends {
            after = change.of(kept.of(end.index));
            after.check()?;
        }
        if !after.is_empty() {
            mark(owner, &ends)?;
        }
        for end in &ends {
            queues::change(end, &change.of(kept.of(end.index)))?;
        }
        if after.is_empty() {
            unmark(owner)?;
        }
        Ok(after)
    }

    /// The indexes of the host's ends of the links that it limits.
    pub fn indexes(&self, journal: &Journal, id: &str) -> Vec<u32> {
        self.link.as_ref().map_or_else(|| marked(journal, id), |link| vec![link.index])
    }

    /// The host's ends of a container's links: those it was given, as long as they exist, not those
    /// that it may now fake.
    fn links(&self, owner: &Owner, pid: i32) -> Result<Vec<HostEnd>> {
        let ends = queues::by_index(&marked(owner.journal, owner.id))?;
        match ends.is_empty() {
            false => Ok(ends),
            true => ends_of(pid),
        }
    }

    fn join(&self, owner: &Owner, ends: &[HostEnd], group: &RateGroup) -> Result<()> {
        mark(owner, ends)?;
        mark_group(owner, &group.name)?;
        ends.iter().try_for_each(|end| join_group(owner.journal.root(), end, group, &self.rates))
    }

    /// The containers of a pod share its network; the first one, which lives longest, has the rate,
    /// and the others may request the same.
    fn connect_container(&self, owner: &Owner, pid: i32) -> Result<()> {
        let kept = Kept::read()?;
        let mut free = Vec::new();
        for end in ends_of(pid)? {
            let other = match &self.group {
                Some(group) => kept.within(end.index, group),
                None => Some(kept.of(end.index)).filter(|other| !other.is_empty()),
            };
            match other {
                None => free.push(end),
                Some(other) if other == self.rates => {}
                Some(other) => {
                    return Err(Error::new(format!(
                        "{} is already limited to {other} by another container of the same network",
                        end.name
                    )));
                }
            }
        }
        match &self.group {
            _ if free.is_empty() => Ok(()),
            Some(group) => {
                // Before the mark, as everything on a marked link is taken to be ours.
                free.iter().try_for_each(queues::check_free)?;
                self.join(owner, &free, group)
            }
            None => {
                mark(owner, &free)?;
                free.iter().try_for_each(|end| change(end, &self.rates))
            }
        }
    }
}

impl Resource for Bandwidth {
    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        match (&self.group, &self.link) {
            (None, _) if self.rates.is_empty() => Ok(()),
            (None, Some(link)) => {
                mark(owner, std::slice::from_ref(link))?;
                begin(link, &self.rates)
            }
            (Some(group), Some(link)) => self.join(owner, std::slice::from_ref(link), group),
            (_, None) => self.connect_container(owner, pid),
        }
        .map_err(|error| match &self.group {
            None => error.within(format_args!("--rate {}", self.rates)),
            Some(group) => error.within(format_args!("--rate-group {group}")),
        })
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        // A sandbox's own link dies with it; a container's belongs to the engine and may live on.
        forget(owner, self.link.is_some())
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let links = marked(owner.journal, owner.id);
        match marked_group(owner.journal, owner.id) {
            Some(group) => group::inspect(&links, &group),
            None => queues::inspect(&links),
        }
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        let lines = |link| match &self.group {
            Some(group) => group::describe(link, group, &self.rates),
            None => describe(link, &self.rates),
        };
        self.link.iter().flat_map(lines).collect()
    }
}

/// Releases what the mark leads to, even when nothing else is known about the owner. Links that die
/// with their owner are left to die.
///
/// # Errors
/// The kernel refuses.
pub fn forget(owner: &Owner, links_die: bool) -> Result<()> {
    let links = marked(owner.journal, owner.id);
    if let Some(group) = marked_group(owner.journal, owner.id) {
        let root = owner.journal.root();
        links.iter().try_for_each(|link| group::leave(root, *link, &group))?;
    }
    let links = links.into_iter();
    let results: Vec<Result<()>> = match links_die {
        true => links.map(release).collect(),
        false => links.map(take_off).collect(),
    };
    results.into_iter().collect()
}

/// Records, atomically, which links will have a rate.
fn mark(owner: &Owner, ends: &[HostEnd]) -> Result<()> {
    let path = owner.journal.file(owner.id, MARK);
    let mut indexes = marked(owner.journal, owner.id);
    indexes.extend(ends.iter().map(|end| end.index));
    indexes.sort_unstable();
    indexes.dedup();
    let text: Vec<String> = indexes.iter().map(u32::to_string).collect();
    let failed = |error: &std::io::Error| Error::io(format!("write {}", path.display()), error);
    match symlink(text.join(" "), &path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let new = path.with_extension("new");
            let _ = fs::remove_file(&new);
            symlink(text.join(" "), &new).map_err(|e| failed(&e))?;
            fs::rename(&new, &path).map_err(|e| failed(&e))
        }
        made => made.map_err(|e| failed(&e)),
    }
}

/// Written after the links' own mark, and before anything of the group is created.
fn mark_group(owner: &Owner, group: &str) -> Result<()> {
    let path = owner.journal.file(owner.id, GROUP_MARK);
    symlink(group, &path).map_err(|e| Error::io(format!("write {}", path.display()), &e))
}

fn marked_group(journal: &Journal, id: &str) -> Option<String> {
    let group = fs::read_link(journal.file(id, GROUP_MARK)).ok()?;
    group.to_str().map(str::to_owned)
}

fn unmark(owner: &Owner) -> Result<()> {
    remove_file(&owner.journal.file(owner.id, MARK))
}

/// The indexes of the links on record.
fn marked(journal: &Journal, id: &str) -> Vec<u32> {
    let text = fs::read_link(journal.file(id, MARK)).unwrap_or_default();
    let text = text.to_string_lossy();
    text.split(' ').filter_map(|index| index.parse().ok()).collect()
}
