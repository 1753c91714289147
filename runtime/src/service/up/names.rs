//! Which services of a file know each other by name, and which may connect to which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::UpPlan;
use crate::config::{Access, Mount, MountKind, Network, Sandbox};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Journal;
use crate::network::group::{self, Joining, ServiceGroup};
use crate::plan::view::HOSTS;
use crate::service::file::{Service, ServiceFile};
use crate::service::register::{AskedService, Registered};
use crate::service::settings::Settings;

/// How one of them joins the others, if it was on record before a reboot; `None`: it has no address.
pub fn joining_again(asked: &AskedService) -> Option<Joining> {
    let is_member = facts::privileged() && asked.sandbox.network.has_address();
    let host_name = asked.service.settings.hostname.clone();
    is_member.then(|| Joining { pools: asked.options.pools.clone(), host_name })
}

/// How a service with these settings joins them; `None`: it has no address.
fn joining(network: &Network, settings: &Settings) -> Result<Option<Joining>> {
    if !network.has_address() {
        return Ok(None);
    }
    Ok(Some(Joining { pools: settings.pools()?, host_name: settings.hostname.clone() }))
}

impl ServiceFile {
    /// The network of service `name`. One that names others, or is named by others, has at least an
    /// address. Without root it would lead nowhere.
    pub(super) fn kind_of_network(&self, name: &str, settings: &Settings) -> Result<Network> {
        match settings.kind_of_network()? {
            Network::None if settings.network.is_none() && facts::privileged() => {
                Ok(if self.is_linked(name) { Network::Internal } else { Network::None })
            }
            network => Ok(network),
        }
    }

    fn is_linked(&self, name: &str) -> bool {
        self.services.iter().any(|(other, service)| {
            let mut named = service.rules.after.iter().chain(&service.rules.reaches);
            if other == name { named.next().is_some() } else { named.any(|one| one == name) }
        })
    }

    /// The services that others can know by name.
    pub(super) fn members(&self) -> BTreeMap<String, Joining> {
        if !facts::privileged() {
            return BTreeMap::new();
        }
        // What is wrong with one that is not started is no concern here.
        let one = |(name, service): (&String, &Service)| {
            let network = self.kind_of_network(name, &service.settings).ok()?;
            Some((name.clone(), joining(&network, &service.settings).ok().flatten()?))
        };
        self.services.iter().filter_map(one).collect()
    }

    /// The members to which service `name` may connect.
    ///
    /// # Errors
    /// It asks for one that cannot be reached.
    pub(super) fn reached(
        &self,
        name: &str,
        members: &BTreeMap<String, Joining>,
    ) -> Result<Vec<String>> {
        let rules = &self.service(name)?.rules;
        let is_member = |name: &str| members.contains_key(name);
        let outside = rules.reaches.iter().find(|other| !is_member(other) || !is_member(name));
        if let Some(other) = outside {
            let error = match (facts::privileged(), is_member(other)) {
                (false, _) => Error::new(format!("reaches = {other:?}: needs root")).hint(
                    "without it, let both use a socket in a directory that both have as a volume",
                ),
                (true, false) => Error::new(format!("reaches: {other} has no address of its own"))
                    .hint("give it network = \"internal\" or \"private\""),
                (true, true) => Error::new("reaches: it has no address of its own")
                    .hint("give it network = \"internal\" or \"private\""),
            };
            return Err(self.at(name, Some("reaches"), error));
        }
        let named: BTreeSet<&String> = rules.after.iter().chain(&rules.reaches).collect();
        let may = |other: &&String| is_member(name) && is_member(other) && **other != name;
        Ok(named.into_iter().filter(may).cloned().collect())
    }

    /// What one that waits for another would expect, and does not have without root.
    pub(super) fn unreached(&self, name: &str) -> Option<Error> {
        let is_own = |service: &Service| {
            service.settings.kind_of_network().is_ok_and(|network| network.is_own())
        };
        let service = self.services.get(name).filter(|service| is_own(service))?;
        let mut after = service.rules.after.iter().filter(|_| !facts::privileged());
        let other = after.find(|other| self.services.get(*other).is_some_and(is_own))?;
        Some(Error::new(format!("does not reach {other} by its name, which needs root")))
    }
}

/// Gives a member the names of the others, unless it has a file of its own there.
pub fn add_hosts(sandbox: &mut Sandbox, state_root: &Path, file: &Path, needed: bool) {
    if sandbox.has_mount_over(Path::new(HOSTS)) {
        return;
    }
    sandbox.mounts.push(Mount {
        target: HOSTS.into(),
        kind: MountKind::Bind {
            source: group::hosts(state_root, &group::id(file)),
            recursive: false,
        },
        access: Access { nosuid: true, nodev: true, noexec: true, read_only: true },
        optional: !needed,
        origin: "names".into(),
    });
}

/// Reserves the addresses; returns the groups, to be held until the services are on record, and what
/// is asked for with their addresses.
pub fn join(
    plan: &UpPlan,
    journal: &Journal,
) -> Result<(Vec<ServiceGroup>, BTreeMap<String, AskedService>)> {
    let mut asked = plan.asked.clone();
    let mut groups = Vec::new();
    for (file, members) in &plan.groups {
        let group = ServiceGroup::join(journal.root(), file, members)?;
        for (name, asked) in asked.iter_mut().filter(|(_, asked)| asked.file == *file) {
            asked.options.membership = match members.contains_key(name) {
                true => group.membership(name, &asked.reaches),
                false => None,
            };
        }
        groups.push(group);
    }
    Ok((groups, asked))
}

/// Gives back the addresses of groups of which no service is on record.
///
/// # Errors
/// A record cannot be read, so it may be of any file.
pub fn release_unused(journal: &Journal) -> Result<Vec<String>> {
    let mut released = Vec::new();
    for id in group::all(journal.root())? {
        let is_used = || {
            for service in Registered::all(journal)? {
                if service.record()?.is_some_and(|record| group::id(&record.asked.file) == id) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if ServiceGroup::release(journal.root(), &id, is_used)? {
            released.push(id);
        }
    }
    Ok(released)
}
