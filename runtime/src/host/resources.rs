//! The resources of one sandbox, in the order in which they are acquired; they are released in the
//! opposite order. Everything here is chosen and recorded before anything of it is made.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::{self, Cgroup, Hierarchy};
use super::facts;
use super::journal::Journal;
use super::network::{self, Leftovers, Network, pasta};
use crate::error::{Error, Result};
use crate::spec::{self, Limits, Sandbox};

/// What a sandbox has outside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Cgroup directories, if there are limits.
    pub cgroup: Option<Cgroup>,
    /// Link, addresses and firewall elements, if it has a private network.
    pub network: Option<Network>,
    /// The private network of a sandbox without privilege.
    pub pasta: Option<Pasta>,
}

/// A pasta process, known by the file that it writes its process id to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pasta {
    /// The program.
    pub program: PathBuf,
    /// Where it writes its process id.
    pub pid_file: PathBuf,
    /// The published ports.
    pub publish: Vec<spec::Publish>,
}

/// What must stay open for as long as the sandbox lives.
pub type Held = Vec<OwnedFd>;

impl Resources {
    /// Chooses names and addresses. The lease of the addresses is taken here, by a link that says
    /// whose it is; the entry in the journal must be there already.
    ///
    /// # Errors
    /// A limit that cannot be had here, a pool that collides with the host's routes.
    pub fn choose(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        pools: &network::Config,
    ) -> Result<Resources> {
        Resources::find(sandbox, id, journal, |publish| {
            Network::lease(journal.root(), id, pools, publish)
        })
    }

    /// What [`Resources::choose`] would choose now, taking nothing.
    ///
    /// # Errors
    /// As for `choose`.
    pub fn propose(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        pools: &network::Config,
    ) -> Result<Resources> {
        Resources::find(sandbox, id, journal, |publish| {
            Network::propose(journal.root(), id, pools, publish)
        })
    }

    fn find(
        sandbox: &Sandbox,
        id: &str,
        journal: &Journal,
        lease: impl FnOnce(Vec<spec::Publish>) -> Result<Network>,
    ) -> Result<Resources> {
        let mut resources = Resources::default();
        if !sandbox.limits.is_empty() {
            resources.cgroup =
                Some(cgroup::choose(&Hierarchy::read()?, id, &sandbox.limits, false)?);
        }
        if sandbox.network == spec::Network::Private {
            let publish = sandbox.publish.clone();
            if facts::privileged() {
                resources.network = Some(lease(publish)?);
            } else {
                let pid_file = journal.file(id, "pasta.pid");
                resources.pasta = Some(Pasta { program: find_pasta()?, pid_file, publish });
            }
        }
        Ok(resources)
    }

    /// Releases what the id alone leads to, for a sandbox whose record is lost.
    ///
    /// # Errors
    /// What could not be released, or found.
    pub fn forget(journal: &Journal, id: &str) -> Result<()> {
        let publish = Vec::new();
        let cgroup = cgroup::find(&Hierarchy::read()?, id);
        let pid_file = journal.file(id, "pasta.pid");
        let pasta = pid_file.exists().then(|| Pasta { program: "pasta".into(), pid_file, publish });
        if facts::privileged() {
            Network::forget(journal.root(), id)?;
        }
        Resources { cgroup: Some(cgroup), network: None, pasta }.release(journal)
    }

    /// Is there anything?
    pub fn is_empty(&self) -> bool {
        self.cgroup.is_none() && self.network.is_none() && self.pasta.is_none()
    }

    /// The files by which a process joins the cgroups: it writes `0` to each.
    pub fn cgroup_files(&self) -> Vec<PathBuf> {
        self.cgroup.as_ref().map(Cgroup::own_join_paths).unwrap_or_default()
    }

    /// Makes what can be made before there is a process.
    ///
    /// # Errors
    /// What could not be made. The caller releases the whole then.
    pub fn acquire(&self, limits: &Limits) -> Result<Held> {
        let mut held = Held::new();
        if let Some(cgroup) = &self.cgroup {
            cgroup.create(limits)?;
        }
        if let Some(network) = &self.network {
            held = network.reserve()?;
            network.prepare()?;
        }
        Ok(held)
    }

    /// Makes what belongs to the namespaces of process `pid`, which waits meanwhile.
    ///
    /// # Errors
    /// What could not be made.
    pub fn connect(&self, pid: i32) -> Result<()> {
        if let Some(network) = &self.network {
            network.connect(pid)?;
        }
        if let Some(Pasta { program, pid_file, publish }) = &self.pasta {
            pasta::start(program, pid, publish, pid_file)?;
        }
        Ok(())
    }

    /// Releases everything, whether it was made or not; goes on after a failure, and reports the
    /// first.
    ///
    /// # Errors
    /// What could not be released.
    pub fn release(&self, journal: &Journal) -> Result<()> {
        let pasta = self.pasta.as_ref().map_or(Ok(()), |pasta| pasta::stop(&pasta.pid_file));
        let network = self.network.as_ref().map_or(Ok(()), |n| n.release(journal.root()));
        let cgroup = self.cgroup.as_ref().map_or(Ok(()), Cgroup::release);
        pasta.and(network).and(cgroup)
    }

    /// The lines of `explain`.
    pub fn describe(&self, limits: &Limits) -> Vec<String> {
        let cgroup = self.cgroup.iter().flat_map(|cgroup| cgroup.describe(limits));
        let network = self.network.iter().flat_map(Network::describe);
        let pasta = self.pasta.iter().map(|pasta| format!("start {}", pasta.program.display()));
        cgroup.chain(network).chain(pasta).collect()
    }
}

/// Cgroups beside those of the sandboxes on record, if they are empty and have been for a while:
/// others may belong to a sandbox of another state directory, or be about to.
fn stray_cgroups(journal: &Journal) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for cgroup in cgroup::leftovers(&Hierarchy::read()?, |id| journal.has(id)) {
        if cgroup.pids().is_empty() && cgroup.age().is_none_or(|age| age > Duration::from_secs(60))
        {
            cgroup.release()?;
            removed.push(format!("cgroup {}", cgroup.id()));
        }
    }
    Ok(removed)
}

/// Leases and firewall elements. A link is not removed: where there is one, its namespace lives,
/// and it may belong to a sandbox of another state directory, as do the elements of its address.
fn stray_network(journal: &Journal) -> Result<Vec<String>> {
    let live = || Ok(journal.ids()?.into_iter().collect());
    let mut leftovers = without_links(Leftovers::find(journal.root(), live)?);
    if !leftovers.elements.is_empty() {
        // The elements of a sandbox come before its link.
        std::thread::sleep(Duration::from_millis(200));
        leftovers = without_links(Leftovers::find(journal.root(), live)?);
    }
    leftovers.remove(journal.root())?;
    let elements =
        leftovers.elements.iter().map(|address| format!("firewall elements of {address}"));
    let leases = leftovers.leases.iter().map(|(address, id)| format!("lease of {address} by {id}"));
    Ok(elements.chain(leases).collect())
}

fn without_links(mut leftovers: Leftovers) -> Leftovers {
    let links: HashSet<String> = leftovers.links.drain(..).collect();
    leftovers.elements.retain(|address| !links.contains(&network::link_name(*address)));
    leftovers
}

fn find_pasta() -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    pasta::find(&path).ok_or_else(|| {
        Error::new("a private network without root needs pasta, which is not installed")
            .hint("install the package passt, or use --network none")
    })
}

/// Without root and without pasta there can be no private network; is that the case?
pub fn lacks_private_network() -> bool {
    !facts::privileged() && find_pasta().is_err()
}

/// Removes what bears our name and belongs to no sandbox on record; says what.
///
/// # Errors
/// What could not be removed, for each kind.
pub fn remove_strays(journal: &Journal) -> Vec<Result<Vec<String>>> {
    let mut results = vec![stray_cgroups(journal)];
    if facts::privileged() {
        results.push(stray_network(journal));
    }
    results
}
