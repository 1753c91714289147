//! The resources of one sandbox or container, in the order in which they are acquired; they are
//! released in the opposite order, except for the cgroup, which takes the processes with it.
//! Everything here is chosen and recorded before any of it is created.

pub mod bandwidth;
pub mod gc;
pub mod log;
pub mod plugin;
pub mod rdt;
pub mod record;
pub mod trace;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroup, Hierarchy};
use crate::config::{self, Provided, Sandbox, annotation};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::resource::{Held, Owner, Resource};
use crate::journal::{Journal, is_there};
use crate::network::group::Membership;
use crate::network::pasta::Pasta;
use crate::network::ports::Ports;
use crate::network::{self, Leftovers, PrivateNetwork};
use crate::resource::plugin::FoundPlugin;
use crate::volume::usage::VolumeUse;
use crate::volume::users::VolumeUser;
use bandwidth::Bandwidth;
use rdt::RdtGroup;

/// What a sandbox or container has outside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Its cgroup: a sandbox has one if there are limits.
    pub cgroup: Cgroup,
    /// A container's share of caches and of memory bandwidth.
    #[serde(default)]
    pub rdt: Option<RdtGroup>,
    /// RAID volumes that are mounted in it.
    #[serde(default)]
    pub volumes: Vec<VolumeUse>,
    /// Link, addresses and firewall elements, if it has a private network.
    pub network: Option<PrivateNetwork>,
    /// The private network of an unprivileged sandbox.
    pub pasta: Option<Pasta>,
    /// The published ports of a container, whose network its engine has made.
    #[serde(default)]
    pub ports: Option<Ports>,
    /// How fast its links may be. A private network always has this, as a rate may be set later.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
    /// What the operator's plugins create.
    #[serde(default)]
    pub plugins: Vec<FoundPlugin>,
}

impl Resources {
    /// Chooses names and addresses; those of a member of a group are known. The addresses are leased here, by a link that names their
    /// owner; the entry in the journal must already exist.
    ///
    /// # Errors
    /// A limit is not available here, or a pool collides with the host's routes.
    pub fn choose(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        pools: &network::Pools,
        membership: Option<&Membership>,
    ) -> Result<Resources> {
        Resources::find(sandbox, id, journal, |publish| match membership {
            Some(known) => PrivateNetwork::of_member(journal.root(), id, known, publish),
            None => PrivateNetwork::lease(journal.root(), id, pools, publish),
        })
    }

    /// What [`Resources::choose`] would choose now, without taking it.
    ///
    /// # Errors
    /// Same as `choose`.
    pub fn propose(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        pools: &network::Pools,
    ) -> Result<Resources> {
        Resources::find(sandbox, id, journal, |publish| {
            PrivateNetwork::propose(journal.root(), id, pools, publish)
        })
    }

    fn find(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        lease: impl FnOnce(Vec<config::Publish>) -> Result<PrivateNetwork>,
    ) -> Result<Resources> {
        let plugins = FoundPlugin::find_all(&sandbox.plugins)?;
        let volumes = VolumeUse::of_sandbox(sandbox, journal)?;
        let mut resources = Resources { plugins, volumes, ..Resources::default() };
        if !sandbox.limits.is_empty() || sandbox.systemd_cgroup {
            let host = Hierarchy { scope: sandbox.systemd_cgroup, ..Hierarchy::read()? };
            resources.cgroup = cgroup::choose(&host, id, &sandbox.limits, false)?;
        }
        if sandbox.network.has_address() {
            let internal = sandbox.network == config::Network::Internal;
            let publish = sandbox.publish.clone();
            if facts::privileged() {
                let network = lease(publish)?.with_way_out(!internal);
                resources.bandwidth = Some(Bandwidth {
                    rates: sandbox.rates,
                    group: sandbox.rate_group.clone(),
                    link: Some(network.end()),
                });
                resources.network = Some(network);
            } else if internal {
                return Err(Error::new("--network internal needs root")
                    .hint("use --network none, or private for a way out"));
            } else {
                bandwidth::check(&sandbox.rates, sandbox.rate_group.as_ref())?;
                let pid_file = journal.file(id, "pasta.pid");
                let first = publish.first().cloned();
                let pasta = Pasta::find(pid_file, publish).map_err(|missing| match first {
                    Some(port) => missing.within(format_args!("-p {port}")),
                    None => missing,
                });
                resources.pasta = Some(pasta?);
            }
        }
        Ok(resources)
    }

    /// What the annotations of a container ask for (`config/annotation.rs`).
    ///
    /// # Errors
    /// A value is invalid, or a plugin or volume does not exist.
    pub fn of_container(
        annotations: &BTreeMap<String, String>,
        journal: &Journal,
    ) -> Result<Resources> {
        let rates = annotation::rates(annotations)?;
        let group = annotation::rate_group(annotations, &rates)?;
        let allowed = bandwidth::check(&rates, group.as_ref());
        allowed.map_err(|error| error.within("annotations"))?;
        let bandwidth = (!rates.is_empty() || group.is_some()).then_some(Bandwidth {
            rates,
            group,
            link: None,
        });
        let ports = Ports::of_container(annotations)?;
        let plugins = FoundPlugin::find_all(&config::Plugin::of_annotations(annotations)?)?;
        let volumes = VolumeUse::of_container(annotations, journal)?;
        Ok(Resources { ports, bandwidth, plugins, volumes, ..Resources::default() })
    }

    /// Releases what the owner's marks and its id lead to, when its record is lost. What bears its
    /// name but is not marked may belong to one of another state directory.
    ///
    /// # Errors
    /// Something could not be released, or found.
    pub fn forget(owner: &Owner) -> Result<()> {
        let Owner { journal, id, .. } = *owner;
        let cgroup = Cgroup::marked(&owner.file(cgroup::MARK))?.unwrap_or_default();
        let (pid_file, publish) = (journal.file(id, "pasta.pid"), Vec::new());
        let pasta =
            is_there(&pid_file)?.then_some(Pasta { pasta: None, slirp: None, pid_file, publish });
        let plugins = FoundPlugin::noted(journal, id)?;
        let mut results =
            vec![Resources { cgroup, pasta, plugins, ..Resources::default() }.release(owner)];
        // A container's links are the engine's, and may live on.
        let own_links = journal.is_of_sandboxes();
        if own_links && facts::privileged() {
            results.push(PrivateNetwork::forget(journal.root(), id));
        }
        if !own_links && facts::privileged() {
            results.push(Ports::forget(owner));
        }
        results.push(bandwidth::forget(owner, own_links));
        for root in VolumeUse::roots(journal) {
            results.push(VolumeUser::of(owner).forget(&Journal::at(root).raid()));
        }
        results.into_iter().collect()
    }

    /// All of them, in the order in which they are created; the cgroup is first.
    fn list(&self) -> Vec<&dyn Resource> {
        let mut list: Vec<&dyn Resource> = vec![&self.cgroup];
        list.extend(self.rdt.iter().map(|one| one as &dyn Resource));
        list.extend(self.volumes.iter().map(|one| one as &dyn Resource));
        list.extend(self.connected());
        list
    }

    /// Those that belong to the namespaces of its process.
    fn connected(&self) -> Vec<&dyn Resource> {
        let mut list: Vec<&dyn Resource> = Vec::new();
        list.extend(self.network.iter().map(|one| one as &dyn Resource));
        list.extend(self.pasta.iter().map(|one| one as &dyn Resource));
        list.extend(self.ports.iter().map(|one| one as &dyn Resource));
        list.extend(self.bandwidth.iter().map(|one| one as &dyn Resource));
        list.extend(self.plugins.iter().map(|one| one as &dyn Resource));
        list
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cgroup.is_empty() && self.rdt.is_none() && self.volumes.is_empty() && !self.connects()
    }

    /// Whether there is anything to create once its process has namespaces.
    pub fn connects(&self) -> bool {
        !self.connected().is_empty()
    }

    /// The addresses of its own network.
    pub fn addresses(&self) -> Vec<String> {
        self.network.iter().flat_map(PrivateNetwork::addresses).collect()
    }

    /// How often the kernel has killed in its cgroup because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        self.cgroup.oom_kills().unwrap_or(0)
    }

    /// Creates what appears inside: mounts and devices, of each plugin that provides some.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    pub fn provide(&self, owner: &Owner) -> Result<Vec<Provided>> {
        self.list().into_iter().filter_map(|one| one.provide(owner).transpose()).collect()
    }

    /// Creates what can be created before there is a process.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    pub fn acquire(&self, owner: &Owner) -> Result<Held> {
        let mut held = Held::new();
        self.list().into_iter().try_for_each(|one| one.acquire(owner, &mut held))?;
        Ok(held)
    }

    /// Takes again what must stay open, for a process that looks after a running sandbox in place of
    /// one that is gone.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn hold(&self, owner: &Owner) -> Result<Held> {
        let mut held = Held::new();
        self.list().into_iter().try_for_each(|one| one.hold(owner, &mut held))?;
        Ok(held)
    }

    /// Creates what needs process `pid`, or moves the process in, before anything is mounted; it
    /// waits meanwhile.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    pub fn admit(&self, owner: &Owner, pid: i32) -> Result<()> {
        self.list().into_iter().try_for_each(|one| one.admit(owner, pid))
    }

    /// Creates what belongs to the namespaces of process `pid`, which waits meanwhile.
    ///
    /// # Errors
    /// Something could not be created; the caller then releases everything.
    pub fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        self.list().into_iter().try_for_each(|one| one.connect(owner, pid))
    }

    /// Releases everything, whether it was created or not; continues after a failure, and reports
    /// the first.
    ///
    /// # Errors
    /// Something could not be released.
    pub fn release(&self, owner: &Owner) -> Result<()> {
        let mut list = self.list();
        list[1..].reverse();
        let results: Vec<Result<()>> = list.into_iter().map(|one| one.release(owner)).collect();
        results.into_iter().collect()
    }

    /// What exists now, one line each.
    ///
    /// # Errors
    /// Something cannot be determined.
    pub fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let lines: Result<Vec<_>> = self.list().into_iter().map(|one| one.inspect(owner)).collect();
        Ok(lines?.concat())
    }

    /// What is missing or does not work, for an owner that is running.
    ///
    /// # Errors
    /// Something cannot be determined.
    pub fn lacks(&self, owner: &Owner) -> Result<Vec<String>> {
        let lines: Result<Vec<_>> = self.list().into_iter().map(|one| one.lacks(owner)).collect();
        Ok(lines?.concat())
    }

    /// The lines of `explain`.
    pub fn describe(&self, owner: &Owner) -> Vec<String> {
        self.list().into_iter().flat_map(|one| one.describe(owner)).collect()
    }
}

/// Empty cgroups next to those of the sandboxes on record that no process holds: any others belong,
/// or are about to belong, to a sandbox of another state directory.
fn stray_cgroups(journal: &Journal) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for cgroup in cgroup::leftovers(&Hierarchy::read()?, |id| journal.has(id))? {
        if cgroup.leave()? {
            removed.push(format!("cgroup {}", cgroup.id()));
        }
    }
    Ok(removed)
}

/// Leases and firewall elements. A link is not removed: as long as it exists its namespace lives,
/// and both the link and the elements of its address may belong to a sandbox of another state
/// directory.
fn stray_network(journal: &Journal) -> Result<Vec<String>> {
    let live = || Ok(journal.ids()?.into_iter().collect());
    let mut leftovers = without_links(Leftovers::find(journal.root(), live)?);
    if !leftovers.elements.is_empty() {
        // The elements of a sandbox are added before its link.
        std::thread::sleep(Duration::from_millis(200));
        leftovers = without_links(Leftovers::find(journal.root(), live)?);
    }
    leftovers.remove(journal.root())?;
    let elements =
        leftovers.elements.iter().map(|address| format!("firewall elements of {address}"));
    let lease = |(address, owner): &(_, String)| {
        let id = owner.split(' ').next().unwrap_or_default();
        format!("lease of {address} by {id}")
    };
    let leases = leftovers.leases.iter().map(lease);
    Ok(elements.chain(leases).collect())
}

fn without_links(mut leftovers: Leftovers) -> Leftovers {
    let links: HashSet<String> = leftovers.links.drain(..).collect();
    leftovers.elements.retain(|address| !links.contains(&network::link_name(*address)));
    leftovers
}

/// Ifbs whose link is gone. The link appears first and disappears first, so such an ifb is
/// useless, whatever it belonged to; but links are not listed atomically, so they are read twice.
fn stray_ifbs() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let all = || Ok::<_, Error>([bandwidth::strays()?, bandwidth::group_strays()?].concat());
    let mut strays = all()?;
    if !strays.is_empty() {
        let again = all()?;
        strays.retain(|stray| again.contains(stray));
    }
    for (name, index) in strays {
        bandwidth::remove_stray(&name, index)?;
        removed.push(format!("ifb {name}"));
    }
    Ok(removed)
}

/// Why a private network is impossible, if that is certain: without root it needs a program that is
/// not installed.
pub fn no_private_network() -> Option<Error> {
    if facts::privileged() {
        return None;
    }
    Pasta::find(PathBuf::new(), Vec::new()).err()
}

/// Removes what bears our name and belongs to no sandbox on record; returns what was removed.
///
/// # Errors
/// For each kind, what could not be removed.
pub fn remove_strays(journal: &Journal) -> Vec<Result<Vec<String>>> {
    let mut results = vec![stray_cgroups(journal), VolumeUser::sweep(&journal.raid())];
    if facts::privileged() {
        results.push(stray_network(journal));
        results.push(network::mend(journal));
        results.push(stray_ifbs());
    }
    results
}
