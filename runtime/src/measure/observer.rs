//! Who is there, and what each has used, at one moment.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::Serialize;

use super::change::UsageChange;
use super::layer::Layer;
use super::processes::{ProcessTable, TreeUse};
use super::usage::{CpuUse, DiskUse, Holds, LimitHold, MemoryUse, PressureUse, QuotaHold, Usage};
use crate::cgroup::Cgroup;
use crate::config::RateGroup;
use crate::container::Container;
use crate::error::Result;
use crate::journal::Journal;
use crate::limit::{self, NamespacePayload, Traffic};
use crate::network::counters::{self, LinkTraffic};
use crate::resource::Resources;
use crate::resource::bandwidth::Kept;
use crate::resource::record::SandboxRecord;
use crate::service::{Face, ListedVolume};
use crate::volume::usage::VolumeUse;

/// Looks at all running sandboxes and containers. What does not change is read once for each.
#[derive(Debug)]
pub struct Observer {
    journal: Journal,
    known: HashMap<(Face, String), Observed>,
    /// The last look, for changes.
    last: Option<(Instant, Vec<Usage>)>,
}

/// What one has used, and what it uses now.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Since it began.
    #[serde(flatten)]
    pub usage: Usage,
    /// Since the last look; `None`: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<UsageChange>,
}

/// One that runs.
#[derive(Debug)]
struct Observed {
    pid: i32,
    start_time: u64,
    created: u64,
    cgroup: Cgroup,
    link: OwnLink,
    /// Counts from the first look that asked for it.
    payload: Option<NamespacePayload>,
    /// The links that are held to a rate.
    limited: Vec<u32>,
    group: Option<RateGroup>,
    volumes: Vec<VolumeUse>,
}

/// Who counts what it sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnLink {
    /// It has none, or is in our namespace.
    None,
    /// The host's end of a link that Garth has made, by its index.
    Known(u32),
    /// Its namespace, in which others have made links.
    Inside,
}

impl Observer {
    /// Of this state directory.
    pub fn new(journal: &Journal) -> Observer {
        Observer { journal: journal.clone(), known: HashMap::new(), last: None }
    }

    /// What each has used, sorted by name. One whose record cannot be read is left out, as is one that ends
    /// meanwhile.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn look(&mut self) -> Result<Vec<Usage>> {
        let table = ProcessTable::read();
        self.find(&table)?;
        let roots: HashSet<i32> = self.known.values().map(|one| one.pid).collect();
        let trees = table.trees(&roots);
        let limits = self.limits(&table, &roots);
        let links = match self.known.values().any(|one| matches!(one.link, OwnLink::Known(_))) {
            true => counters::of_host_ends().unwrap_or_default(),
            false => HashMap::new(),
        };
        let is_limited = self.known.values().any(|one| !one.limited.is_empty());
        let kept = if is_limited { Kept::read().unwrap_or_default() } else { Kept::default() };
        let mut all: Vec<Usage> = Vec::new();
        for ((kind, name), one) in &self.known {
            let tree = trees.get(&one.pid).copied().unwrap_or_default();
            let holds = Holds { limit: limits.get(&one.pid).copied(), ..one.holds(&kept) };
            let network = one.traffic(&links);
            all.push(one.usage(*kind, name, &tree, network, holds));
        }
        all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        Ok(all)
    }

    /// Same as [`Observer::look`], with what each has used since the last call of this.
    ///
    /// # Errors
    /// The same; for payload also: needs CAP_SYS_ADMIN where a sandbox has a network of its own.
    pub fn changes(&mut self, layer: Layer) -> Result<Vec<Sample>> {
        let mut all = self.look()?;
        if layer == Layer::Payload {
            self.count_payload(&mut all)?;
        }
        let now = Instant::now();
        let before = self.last.replace((now, all.clone()));
        let before = before.as_ref().map(|(then, all)| {
            let named = all.iter().map(|usage| ((usage.kind, usage.name.as_str()), usage));
            (now - *then, named.collect::<HashMap<_, _>>())
        });
        let with_change = |usage: Usage| {
            let change = before.as_ref().and_then(|(elapsed, all)| {
                let before = all.get(&(usage.kind, usage.name.as_str()))?;
                UsageChange::between(before, &usage, *elapsed, layer)
            });
            Sample { usage, now: change }
        };
        Ok(all.into_iter().map(with_change).collect())
    }

    fn count_payload(&mut self, all: &mut [Usage]) -> Result<()> {
        for usage in all {
            let Some(one) = self.known.get_mut(&(usage.kind, usage.name.clone())) else { continue };
            match one.payload() {
                Ok(payload) => usage.payload = payload,
                // It has ended meanwhile.
                Err(_) if counters::of_namespace(one.pid).is_none() => {}
                Err(error) => return Err(error.within(format_args!("payload of {}", usage.name))),
            }
        }
        Ok(())
    }

    fn find(&mut self, table: &ProcessTable) -> Result<()> {
        let containers = self.journal.containers();
        let mut found = HashSet::new();
        for (kind, journal) in [(Face::Sandbox, &self.journal), (Face::Container, &containers)] {
            for id in journal.ids()?.into_iter().filter(|id| !id.starts_with('.')) {
                found.insert((kind, id));
            }
        }
        self.known.retain(|key, one| {
            found.contains(key) && table.start_time(one.pid) == Some(one.start_time)
        });
        for key in found {
            if self.known.contains_key(&key) {
                continue;
            }
            let (kind, id) = &key;
            let observed = match kind {
                Face::Sandbox => sandbox(&self.journal, id),
                Face::Container => container(&containers, id),
            };
            if let Ok(Some(observed)) = observed {
                self.known.insert(key, observed);
            }
        }
        Ok(())
    }

    /// The limiters at work, by the first process of what they limit, or of whose processes they limit some.
    fn limits(&self, table: &ProcessTable, roots: &HashSet<i32>) -> HashMap<i32, LimitHold> {
        let mut known = HashMap::new();
        let of = |limit: limit::AtWork| {
            let root = table.root_of(limit.target, roots, &mut known)?;
            let [nanoseconds, of] = [limit.stopped, limit.since].map(|it| it.as_nanos() as u64);
            Some((root, LimitHold { nanoseconds, of, limiter: limit.limiter }))
        };
        limit::at_work(self.journal.root()).unwrap_or_default().into_iter().filter_map(of).collect()
    }
}

fn sandbox(journal: &Journal, id: &str) -> Result<Option<Observed>> {
    let record = SandboxRecord::read(journal, id)?;
    let resources = &record.resources;
    let link = match (&resources.network, &resources.pasta) {
        (Some(network), _) => OwnLink::Known(network.end().index),
        (None, Some(_)) => OwnLink::Inside,
        (None, None) => OwnLink::None,
    };
    observed(journal, id, record.created.as_secs(), &record.resources, link)
}

fn container(journal: &Journal, id: &str) -> Result<Option<Observed>> {
    let record = Container::open(journal, id)?.record;
    observed(journal, id, record.created.as_secs(), &record.resources, OwnLink::Inside)
}

/// `None`: it does not run.
fn observed(
    journal: &Journal,
    id: &str,
    created: u64,
    resources: &Resources,
    link: OwnLink,
) -> Result<Option<Observed>> {
    let Some(process) = journal.process(id)? else { return Ok(None) };
    if process.open()?.is_none() {
        return Ok(None);
    }
    let bandwidth = resources.bandwidth.as_ref();
    Ok(Some(Observed {
        pid: process.pid,
        start_time: process.start_time,
        created,
        cgroup: resources.cgroup.clone(),
        link: match link {
            OwnLink::Inside if counters::is_in_our_network(process.pid) => OwnLink::None,
            link => link,
        },
        payload: None,
        limited: bandwidth.map(|it| it.indexes(journal, id)).unwrap_or_default(),
        group: bandwidth.and_then(|bandwidth| bandwidth.group.clone()),
        volumes: resources.volumes.clone(),
    }))
}

impl Observed {
    fn usage(
        &self,
        kind: Face,
        name: &str,
        tree: &TreeUse,
        network: Option<LinkTraffic>,
        holds: Holds,
    ) -> Usage {
        let stats = self.cgroup.essential_stats();
        let limit = Some(stats.pids.limit).filter(|limit| *limit > 0);
        Usage {
            name: name.to_owned(),
            kind,
            pid: self.pid,
            created: self.created,
            cpu: CpuUse::of(&stats, tree),
            memory: MemoryUse::of(&stats, tree),
            processes: Some(stats.pids.current).filter(|some| *some > 0).unwrap_or(tree.processes),
            processes_limit: limit,
            disk: DiskUse::of(&stats),
            pressure: PressureUse::of(&stats),
            network,
            payload: None,
            holds: Holds { cpus: QuotaHold::of(&stats), ..holds },
            volumes: self.volumes.iter().map(ListedVolume::from).collect(),
        }
    }

    fn traffic(&self, links: &HashMap<u32, LinkTraffic>) -> Option<LinkTraffic> {
        match self.link {
            OwnLink::Known(link) => links.get(&link).copied(),
            OwnLink::Inside => counters::of_namespace(self.pid),
            OwnLink::None => None,
        }
    }

    /// `None`: it has no network of its own.
    fn payload(&mut self) -> Result<Option<Traffic>> {
        match &mut self.payload {
            Some(payload) => payload.read().map(Some),
            None if self.link == OwnLink::None => Ok(None),
            empty => {
                *empty = Some(NamespacePayload::of(self.pid)?);
                Ok(Some(Traffic::default()))
            }
        }
    }

    fn holds(&self, kept: &Kept) -> Holds {
        let queues = self.limited.iter().map(|link| kept.queues_of(*link, self.group.as_ref()));
        let [rate_up, rate_down] = queues.fold([None, None], |[up, down], [more_up, more_down]| {
            [up.or(more_up), down.or(more_down)]
        });
        Holds { rate_up, rate_down, ..Holds::default() }
    }
}
