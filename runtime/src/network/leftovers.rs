//! What bears our name in the network and belongs to no live sandbox, for `garth gc`.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;

use super::refusal::{refused, route_socket, worded};
use super::table::Table;
use super::{LINK_PREFIX, elements, firewall, group, lease, link, link_name, listing};
use crate::error::Result;

/// What exists and belongs to no live sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Links whose address no live sandbox has.
    pub links: Vec<String>,
    /// Addresses in the firewall that no live sandbox has.
    pub elements: Vec<Ipv4Addr>,
    /// Leases whose id is not live and whose group, if they have one, is gone, with their owners.
    pub leases: Vec<(Ipv4Addr, String)>,
}

impl Leftovers {
    /// Finds them: `live` returns the ids of the live sandboxes, and is called last. Those of
    /// another state root in the same network namespace look like leftovers, too: check with that
    /// root.
    pub fn find(
        state_root: &Path,
        live: impl FnOnce() -> Result<HashSet<String>>,
    ) -> Result<Leftovers> {
        // In the opposite order of a start, which is entry, lease, elements, link: if a later part
        // of a sandbox that starts meanwhile is seen here, so are its earlier ones.
        let links = listing::all(&mut route_socket()?).map_err(|r| worded(r, ""))?;
        let elements = elements::list(&mut firewall::socket()?).map_err(|r| worded(r, ""))?;
        let leases = lease::list(state_root)?;
        let groups = group::all(state_root)?;
        let live = live()?;
        let is_live = |owner: &str| live.contains(lease::id_of(owner));
        let in_use = leases.iter().filter(|(_, owner)| is_live(owner));
        let held: HashSet<Ipv4Addr> = in_use.map(|(address, _)| *address).collect();
        let of_group = |owner: &str| {
            lease::group_of(owner).is_some_and(|id| groups.iter().any(|one| one == id))
        };
        let left = leases.into_iter().filter(|(_, owner)| !is_live(owner) && !of_group(owner));
        let leases = left.collect();
        let is_held = |link: &str| held.iter().any(|address| link_name(*address) == link);
        let ours = |link: &str| {
            let address = link.strip_prefix(LINK_PREFIX);
            address.is_some_and(|a| a.len() == 8 && u32::from_str_radix(a, 16).is_ok())
        };
        Ok(Leftovers {
            links: links.into_iter().map(|l| l.name).filter(|l| ours(l) && !is_held(l)).collect(),
            elements: unclaimed(elements.into_iter().filter(|address| !held.contains(address)))?,
            leases,
        })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.elements.is_empty() && self.leases.is_empty()
    }

    /// Removes them.
    pub fn remove(&self, state_root: &Path) -> Result<()> {
        if !self.elements.is_empty()
            && let Some(mut table) = Table::find()?
        {
            for address in &self.elements {
                elements::purge(&mut table.socket, *address).map_err(refused)?;
            }
            table.close_released()?;
        }
        let mut socket = route_socket()?;
        for name in &self.links {
            link::remove(&mut socket, name)?;
        }
        for (address, owner) in &self.leases {
            lease::give_back(state_root, *address, owner)?;
        }
        Ok(())
    }
}

/// Those whose sandbox is not just starting, perhaps under another state directory.
fn unclaimed(addresses: impl Iterator<Item = Ipv4Addr>) -> Result<Vec<Ipv4Addr>> {
    let mut free = Vec::new();
    for address in addresses {
        if lease::claim(address)?.is_some() {
            free.push(address);
        }
    }
    Ok(free)
}
