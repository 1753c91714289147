//! Which addresses a sandbox gets: the first pair of a pool that neither a sandbox has nor a route
//! of the host covers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::names::{LINK_PREFIX, link_name};
use super::refusal::{refused, route_socket, worded};
use super::uplink::{self, Route};
use super::{PrivateNetwork, elements, firewall, lease, link, listing};
use crate::config::network::Publish;
use crate::error::{Error, Result};
use crate::sys::netlink::Socket;

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// The first pool that does not collide with a route of the host is used. A single one is the
    /// user's own choice: a collision is then an error.
    pub pool4: Vec<Ipv4Network>,
    /// Its first 96 bits, followed by the IPv4 address; `None` for a network without IPv6.
    pub pool6: Option<Ipv6Network>,
}

impl Default for Pools {
    /// Three blocks of 32,768 sandboxes each, from corners of the private address space that
    /// routers, clouds, docker and podman leave alone by default; the last is for benchmarks (RFC
    /// 2544).
    fn default() -> Pools {
        let v4 = |a, b| Ipv4Network::new_checked(Ipv4Addr::new(a, b, 0, 0), 16);
        let v6 = Ipv6Addr::new(0xfd67, 0x6172, 0x7468, 0, 0, 0, 0, 0);
        Pools {
            pool4: [v4(10, 231), v4(172, 30), v4(198, 18)].into_iter().flatten().collect(),
            pool6: Ipv6Network::new_checked(v6, 64),
        }
    }
}

impl Pools {
    /// The pools of `--pool4` and `--pool6`, if given.
    pub fn parse(pool4: Option<&str>, pool6: Option<&str>) -> Result<Pools> {
        let mut config = Pools::default();
        if let Some(text) = pool4 {
            let pool: Ipv4Network = text.parse().map_err(|_| {
                Error::new(format!("--pool4 {text}: not an IPv4 network")).hint("e.g. 10.99.0.0/16")
            })?;
            config.pool4 = vec![pool];
        }
        if let Some(text) = pool6 {
            let pool: Ipv6Network = text.parse().map_err(|_| {
                Error::new(format!("--pool6 {text}: not an IPv6 network"))
                    .hint("e.g. fd00:1234::/64")
            })?;
            config.pool6 = Some(pool);
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses pools that have no room for a sandbox's addresses.
    fn check(&self) -> Result<()> {
        if let Some(pool) = self.pool4.iter().find(|pool| pool.prefix() > 31) {
            let error = Error::new(format!("--pool4 {pool}: no room for a pair of addresses"));
            return Err(error.hint("a sandbox takes a /31, so the prefix is at most 31"));
        }
        if let Some(pool) = self.pool6.filter(|pool| pool.prefix() > 96) {
            let error = Error::new(format!("--pool6 {pool}: the prefix is longer than 96"));
            return Err(error.hint("the last 32 bits are those of the IPv4 address"));
        }
        Ok(())
    }
}

impl PrivateNetwork {
    /// The first free pair of addresses that `take` accepts. If there is none, but a sandbox that has
    /// ended still has its link, waits for that: the kernel removes it some time after the last
    /// process of its network namespace, usually within milliseconds. It takes minutes if sockets
    /// have something left to say to a peer that does not answer (tcp(7), tcp_orphan_retries); after
    /// a few seconds such a link is removed for them, unless this is a `rehearsal`.
    pub(super) fn find(
        state_root: &Path,
        id: &str,
        config: &Pools,
        publish: Vec<Publish>,
        rehearsal: bool,
        take: impl Fn(Ipv4Addr) -> Result<bool>,
    ) -> Result<PrivateNetwork> {
        const PATIENCE: Duration = Duration::from_secs(5);
        config.check()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let full = match PrivateNetwork::search(id, config, &publish, &take)? {
                Ok(network) => return Ok(network),
                Err(full) => full,
            };
            let has_ended = |address| PrivateNetwork::has_ended(state_root, id, address);
            let mut dead = None;
            for address in &full.linked {
                if has_ended(*address)? {
                    dead = Some(*address);
                    break;
                }
            }
            let Some(address) = dead else { return Err(full.error(config)) };
            let link = link_name(address);
            if PrivateNetwork::await_end_of(&link, deadline)? {
                continue;
            }
            if rehearsal {
                let error = Error::new(format!("link {link} of an earlier start is still there"));
                return Err(error.hint("a start removes it"));
            }
            // Nobody starts with this address meanwhile.
            let claimed = lease::claim(address)?;
            if claimed.is_none() || !has_ended(address)? {
                return Err(full.error(config));
            }
            link::remove(&mut route_socket()?, &link)?;
        }
    }

    /// Whether the link of this address is one of a sandbox that has ended, whatever its state
    /// directory: it is in the firewall no more, and has no lease, or one that `id` may take over.
    fn has_ended(state_root: &Path, id: &str, address: Ipv4Addr) -> Result<bool> {
        let holder = lease::holder(state_root, address)?;
        if holder.is_some_and(|owner| lease::id_of(&owner) != id) {
            return Ok(false);
        }
        let owner = elements::owner_of(&mut firewall::socket()?, address).map_err(refused)?;
        Ok(owner.is_none())
    }

    /// One look at all addresses.
    fn search(
        id: &str,
        config: &Pools,
        publish: &[Publish],
        take: impl Fn(Ipv4Addr) -> Result<bool>,
    ) -> Result<std::result::Result<PrivateNetwork, Full>> {
        let pool6 = config.pool6.filter(|_| uplink::has_ipv6());
        let wants6 = publish.iter().find(|p| p.host.is_some_and(|host| host.is_ipv6()));
        if let (Some(publish), None) = (wants6, pool6) {
            return Err(Error::new(format!("-p {publish}: no IPv6 on this host"))
                .hint("publish on an IPv4 address"));
        }
        let mut socket = route_socket()?;
        let mut full = Full::default();
        for pool in &config.pool4 {
            for inner4 in lease::candidates(*pool, id) {
                let inner6 = pool6.map(|pool| address6(pool, inner4));
                let (route4, route6) =
                    uplink::routes(&mut socket, inner4, inner6).map_err(|r| worded(r, ""))?;
                let mut ways_out = Vec::new();
                let mut known = None;
                let name6 = pool6.map(|pool| pool.to_string()).unwrap_or_default();
                for (pool, route) in [(pool.to_string(), route4), (name6, route6)] {
                    match route {
                        Route::None => {}
                        Route::Default(links) => {
                            let new = links.into_iter().filter(|link| !ways_out.contains(link));
                            ways_out.extend(new.collect::<Vec<_>>());
                        }
                        Route::Known { prefix, link } => known = Some((pool, prefix, link)),
                    }
                }
                if let Some((pool, prefix, link)) = known {
                    let link = one_link(&mut socket, link)?;
                    if link.as_ref().is_some_and(|link| link.starts_with(LINK_PREFIX)) {
                        full.linked.push(inner4);
                        continue;
                    }
                    let link = link.map_or(String::new(), |link| format!(" on {link}"));
                    full.collisions.push(format!("{pool} collides with the route {prefix}{link}"));
                    break;
                }
                // Taken last, so that an address that is rejected leaves nothing behind.
                if !take(inner4)? {
                    continue;
                }
                let links = match ways_out.as_slice() {
                    [] => Vec::new(),
                    indexes => listing::of(&mut socket, indexes).map_err(|r| worded(r, ""))?,
                };
                let host4 = Ipv4Addr::from(u32::from(inner4) - 1);
                return Ok(Ok(PrivateNetwork {
                    id: id.to_owned(),
                    link: link_name(inner4),
                    mtu: links.iter().map(|link| link.mtu).min().unwrap_or(1500).clamp(1280, 65535),
                    host4,
                    inner4,
                    host6: pool6.map(|pool| address6(pool, host4)),
                    inner6,
                    uplinks: links.into_iter().map(|link| link.name).collect(),
                    publish: publish.to_vec(),
                    number: 0,
                    group: None,
                    internal: false,
                    reaches: BTreeMap::new(),
                }));
            }
        }
        Ok(Err(full))
    }
}

/// Why no address was found.
#[derive(Default)]
struct Full {
    /// Pools that cannot be used, with the reason.
    collisions: Vec<String>,
    /// Addresses that a link of ours still has.
    linked: Vec<Ipv4Addr>,
}

impl Full {
    fn error(&self, config: &Pools) -> Error {
        let collisions = self.collisions.join(", ");
        let hint = match config.pool4.as_slice() {
            [pair] if pair.prefix() == 31 => "choose another address, or run `garth gc`",
            _ => "use --pool4 for another pool, or run `garth gc`",
        };
        let error = match self.collisions.is_empty() {
            true => Error::new("no free address for another sandbox"),
            false => Error::new(format!("no address pool is usable: {collisions}")),
        };
        error.hint(hint)
    }
}

/// The pool's first 96 bits and the IPv4 address.
fn address6(pool: Ipv6Network, v4: Ipv4Addr) -> Ipv6Addr {
    let high = u128::from(pool.network()) & !u128::from(u32::MAX);
    Ipv6Addr::from(high | u128::from(u32::from(v4)))
}

/// The name of the link with this index; `None`: there is none.
pub(super) fn one_link(socket: &mut Socket, index: Option<u32>) -> Result<Option<String>> {
    let Some(index) = index else { return Ok(None) };
    let links = listing::of(socket, &[index]).map_err(|r| worded(r, ""))?;
    Ok(links.into_iter().next().map(|link| link.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_without_room_is_refused_also_of_the_library() {
        let propose = |pools: &Pools| {
            PrivateNetwork::propose(Path::new("/nonexistent"), "web", pools, Vec::new())
        };
        let small = Pools { pool4: vec!["10.0.0.4/32".parse().unwrap()], ..Pools::default() };
        assert!(propose(&small).unwrap_err().to_string().contains("no room for a pair"));
        // Its first 96 bits belong to addresses outside it.
        let long = Pools { pool6: Some("fd00::/120".parse().unwrap()), ..Pools::default() };
        assert!(propose(&long).unwrap_err().to_string().contains("longer than 96"));
    }
}
