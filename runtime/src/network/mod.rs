//! The private network of a sandbox: a link to the host, addresses, a way out, published ports.
//!
//! In the order of a start: [`PrivateNetwork::lease`] finds a free pair of addresses, from which
//! all names are derived and which the journal records; [`PrivateNetwork::reserve`] takes the
//! published ports; [`PrivateNetwork::prepare`] sets up the firewall; [`PrivateNetwork::connect`]
//! creates the `link` while the sandbox's first process waits. [`PrivateNetwork::release`] undoes
//! it, however far it got. The link needs no undoing: it dies with the sandbox's namespace.
//! [`tend`] handles what no single sandbox is responsible for: the `table` when the last sandbox is
//! gone, and forwarding when the host's way out changes.
//!
//! There is no bridge and no link between sandboxes: each has a /31 and a /127 of its own with the
//! host, so everything between two sandboxes passes the `firewall`.

mod choose;
mod conntrack;
pub mod counters;
pub mod device;
mod elements;
mod firewall;
mod foreign;
pub mod group;
pub(crate) mod inside;
mod lease;
mod leftovers;
pub(super) mod link;
pub(crate) mod listing;
mod names;
pub mod pasta;
pub mod ports;
pub(crate) mod refusal;
mod restore;
mod slirp;
mod table;
mod uplink;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::network::{Protocol, Publish};
use crate::journal::Journal;
use crate::journal::resource::{Held, Owner, Resource};
use crate::sys::netlink::{Family, Socket};
use crate::sys::port::{self, Room};
use crate::sys::{Errno, netns};
use crate::wire::nft;
use crate::{Error, Result};
pub use choose::Pools;
use elements::{AddError, Elements};
pub use foreign::obstacles;
pub use leftovers::Leftovers;
pub use names::{HostEnd, IFB_PREFIX, LINK_PREFIX, link_name};
use refusal::{refused, route_socket, worded};
pub use restore::{mend, tend};
use table::Table;

/// A private network, as the journal records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateNetwork {
    /// The sandbox's id.
    pub id: String,
    /// The host end's name: `garth` and the inner IPv4 address in hexadecimal.
    pub link: String,
    /// MTU of both ends in bytes: that of the way out.
    pub mtu: u32,
    /// The host end's address, a /31 with the next.
    pub host4: Ipv4Addr,
    /// The sandbox's address.
    pub inner4: Ipv4Addr,
    /// The host end's address, a /127 with the next.
    pub host6: Option<Ipv6Addr>,
    /// The sandbox's address.
    pub inner6: Option<Ipv6Addr>,
    /// The interfaces of the host's default routes.
    pub uplinks: Vec<String>,
    /// The published ports.
    pub publish: Vec<Publish>,
    /// The number of its lease, which tells it from others of the same name.
    #[serde(default)]
    pub number: u64,
    /// The group of services to which its address belongs, if it is not the sandbox's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// It has no way out.
    #[serde(default)]
    pub internal: bool,
    /// The services of the group to which it may connect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reaches: BTreeMap<String, Ipv4Addr>,
}

impl PrivateNetwork {
    /// Undoes what was created for `id`, whose record is lost: its leases lead to its addresses,
    /// and those to everything else.
    pub fn forget(state_root: &Path, id: &str) -> Result<()> {
        let mut leases = lease::list(state_root)?;
        leases.retain(|(_, owner)| lease::id_of(owner) == id);
        let mut elements = Vec::new();
        for (address, owner) in &leases {
            let there = elements::owner_of(&mut firewall::socket()?, *address);
            if there.map_err(refused)?.as_ref() == Some(owner) {
                elements.push(*address);
            }
        }
        leases.retain(|(_, owner)| lease::group_of(owner).is_none());
        Leftovers { links: Vec::new(), elements, leases }.remove(state_root)
    }

    /// The same, with or without a way out.
    pub fn with_way_out(mut self, wanted: bool) -> PrivateNetwork {
        self.internal = !wanted;
        if self.internal {
            // Nothing needs to be forwarded there.
            self.uplinks.clear();
        }
        self
    }

    /// The host's end of the link.
    pub fn end(&self) -> HostEnd {
        HostEnd { name: self.link.clone(), index: link::index(self.inner4), mtu: self.mtu }
    }

    /// The sandbox's addresses.
    pub fn addresses(&self) -> Vec<String> {
        let six = self.inner6.map(|address| address.to_string());
        [self.inner4.to_string()].into_iter().chain(six).collect()
    }

    /// Finds a free pair of addresses for `id` and takes it in `<state_root>/leases`.
    pub fn lease(
        state_root: &Path,
        id: &str,
        config: &Pools,
        publish: Vec<Publish>,
    ) -> Result<PrivateNetwork> {
        let number = lease::number();
        let owner = lease::owner(id, None, number);
        let network = PrivateNetwork::find(state_root, id, config, publish, false, |address| {
            lease::take(state_root, address, &owner)
        })?;
        Ok(PrivateNetwork { number, ..network })
    }

    /// What [`PrivateNetwork::lease`] would find now, without taking it; for `garth explain`.
    pub fn propose(
        state_root: &Path,
        id: &str,
        config: &Pools,
        publish: Vec<Publish>,
    ) -> Result<PrivateNetwork> {
        PrivateNetwork::find(state_root, id, config, publish, true, |address| {
            Ok(lease::holder(state_root, address)?.is_none_or(|owner| lease::id_of(&owner) == id))
        })
    }

    /// Takes the published ports on the host, so that one in use is an error here, and they stay
    /// ours as long as the descriptors are held: for the sandbox's life. Nothing is ever read from
    /// them.
    pub fn reserve(&self) -> Result<Vec<OwnedFd>> {
        reserve(&self.publish, self.inner6.is_some())
    }

    /// Turns on the forwarding that is needed and adds the sandbox to the firewall. The returned
    /// descriptor keeps the firewall's table as long as it is open. A table that was lost is
    /// refilled with the elements of the running sandboxes of `journal`.
    pub fn prepare(&self, journal: &Journal) -> Result<OwnedFd> {
        in_turn(journal, |socket| self.enter(socket)).map(|(kept, ())| kept)
    }

    /// Same as [`PrivateNetwork::prepare`], in a short-lived network namespace that no other
    /// process uses.
    pub fn rehearse(&self) -> Result<()> {
        let mut table = Table::make()?;
        self.enter(&mut table.socket)?;
        table.dissolve()
    }

    fn enter(&self, socket: &mut Socket) -> Result<()> {
        let beyond = self.publish.iter().any(|publish| !publish.is_loopback());
        let closed = uplink::closed(&self.uplinks, beyond, self.inner6.is_some())?;
        self.entry(&self.owner()).add(socket, &closed, true).map_err(|error| match error {
            AddError::AddressTaken => {
                Error::new(format!("address {}: used by another sandbox", self.inner4))
                    .hint("run `garth gc`")
            }
            AddError::PortTaken(index) => port_taken(&self.publish[index]),
            AddError::Refused(refusal) => refused(refusal),
        })?;
        // Only now, so that other traffic does not pass even for a moment.
        for switch in &closed {
            switch.open()?;
        }
        conntrack::forget(socket, &self.publish, self.inner4, self.inner6)
            .map_err(|r| worded(r, ""))
    }

    /// Creates the link to the network namespace of `pid`, a child that waits meanwhile. When this
    /// returns, the link passes packets. The child brings up `lo` itself.
    pub fn connect(&self, pid: i32) -> Result<()> {
        let mut socket = route_socket()?;
        link::make(&mut socket, self, pid)
            .map_err(|refusal| worded(refusal, &format!(" {}", self.link)))?;
        if self.inner6.is_some() {
            uplink::settle_ipv6(&self.link)?;
        }
        let mut inner = netns::in_netns_of(pid, || Socket::open(Family::Route))
            .and_then(|socket| socket)
            .map_err(|errno| Error::os(format!("open netlink in the namespace of {pid}"), errno))?;
        link::make_inner(&mut inner, self).map_err(|refusal| worded(refusal, " in the sandbox"))?;
        socket
            .settle_carrier(&self.link)
            .map_err(|errno| Error::os(format!("read the state of {}", self.link), errno))
    }

    /// Undoes everything but the link, however much of it was done; may be repeated.
    pub fn release(&self, state_root: &Path) -> Result<()> {
        if let Some(mut table) = Table::find()? {
            self.entry(&self.owner()).remove(&mut table.socket).map_err(refused)?;
            conntrack::forget(&mut table.socket, &self.publish, self.inner4, self.inner6)
                .map_err(|r| worded(r, ""))?;
            table.close_released()?;
        }
        match self.group {
            Some(_) => Ok(()),
            None => lease::give_back(state_root, self.inner4, &self.owner()),
        }
    }

    /// What this running sandbox ought to have that is missing or does not work.
    pub fn lacks(&self) -> Result<Vec<String>> {
        let mut lacks = Vec::new();
        let mut socket = firewall::socket()?;
        let found = nft::find_table(&mut socket).map_err(refused)?;
        match found {
            None => lacks.push("nftables table inet garth is missing".to_owned()),
            Some(nft::NftTable { owner: None, .. }) => lacks.push(
                "nftables table inet garth has no owner: flushing the ruleset would remove it"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        let missing = self.entry(&self.owner()).missing(&mut socket).map_err(refused)?;
        if missing > 0 && found.is_some() {
            let (address, s) = (self.inner4, if missing == 1 { "" } else { "s" });
            lacks.push(format!("{missing} firewall element{s} of {address} missing"));
        }
        let mut socket = route_socket()?;
        if !has_link(&mut socket, &self.link)? {
            lacks.push(format!("link {} is missing", self.link));
        }
        let beyond = self.publish.iter().any(|publish| !publish.is_loopback());
        let ipv6 = self.inner6.is_some();
        let ways = uplink::ways_out(&mut socket, ipv6).map_err(|r| worded(r, ""))?;
        let ways: Vec<String> = ways.into_iter().map(|link| link.name).collect();
        for switch in uplink::closed(&ways, beyond, ipv6)? {
            lacks.push(format!("{switch} is off"));
        }
        lacks.extend(obstacles()?);
        Ok(lacks)
    }

    /// Waits, for a limited time, until the link is gone with its namespace, which takes the kernel
    /// a few milliseconds: only then does the address have no route.
    ///
    /// # Errors
    /// The kernel returns no answer.
    pub fn await_end(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(1);
        PrivateNetwork::await_end_of(&self.link, deadline).map(drop)
    }

    /// The same for the link of this name; false if it is still there at `deadline`.
    fn await_end_of(link: &str, deadline: Instant) -> Result<bool> {
        let mut socket = route_socket()?;
        while has_link(&mut socket, link)? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// Deletes the link, which takes 25-40 ms; only for one whose namespace lives on.
    pub fn release_link(&self) -> Result<()> {
        link::remove(&mut route_socket()?, &self.link)
    }

    /// What will be done, in order, for `garth explain`.
    pub fn describe(&self) -> Vec<String> {
        let (link, mtu) = (&self.link, self.mtu);
        let both = |v4: Ipv4Addr, length4, v6: Option<Ipv6Addr>, length6| match v6 {
            Some(v6) => format!("{v4}/{length4} and {v6}/{length6}"),
            None => format!("{v4}/{length4}"),
        };
        let mut lines = vec![format!("lease address {}", self.inner4)];
        for publish in &self.publish {
            let addresses: Vec<_> = publish.addresses().map(|a| a.to_string()).collect();
            let (addresses, protocol) = (addresses.join(" and "), publish.protocol);
            lines.push(format!("reserve {protocol} port {} of {addresses}", publish.host_port));
        }
        let beyond = self.publish.iter().any(|publish| !publish.is_loopback());
        let ipv6 = self.inner6.is_some();
        for switch in uplink::closed(&self.uplinks, beyond, ipv6).unwrap_or_default() {
            lines.push(format!("turn on {switch}, dropping traffic that is not for a sandbox"));
        }
        for publish in &self.publish {
            let Publish { host_port, port, protocol, .. } = publish;
            let open = format!("-p 0.0.0.0:{host_port}:{port} or -p [::]:{host_port}:{port}");
            lines.push(match publish.host {
                None => format!(
                    "publish {protocol} port {port} as {host_port} on loopback ({open} for all)"
                ),
                Some(_) => format!("publish {publish} in table inet garth"),
            });
        }
        let host = both(self.host4, 31, self.host6, 127);
        lines.push(format!("link {link} to eth0 in the sandbox, mtu {mtu}"));
        lines.push(format!("address {link} {host}"));
        lines.push(format!("address eth0 {}", both(self.inner4, 31, self.inner6, 127)));
        let via = self.host6.map_or(String::new(), |host6| format!(" and {host6}"));
        lines.push(format!("default route via {}{via}", self.host4));
        if self.internal {
            lines.push("reject what it sends that is not an answer".to_owned());
        }
        for (name, address) in &self.reaches {
            lines.push(format!("let it connect to {name} at {address}"));
        }
        lines
    }

    /// Whether a client on ::1 can reach a port of this sandbox.
    fn answers_loopback6(&self) -> bool {
        let six = |a: IpAddr| a == Ipv6Addr::LOCALHOST || a == Ipv6Addr::UNSPECIFIED;
        self.publish.iter().any(|publish| publish.addresses().any(six))
    }

    fn owner(&self) -> String {
        lease::owner(&self.id, self.group.as_deref(), self.number)
    }

    fn entry<'a>(&'a self, owner: &'a str) -> Elements<'a> {
        let Self { inner4, inner6, internal, ref publish, ref reaches, .. } = *self;
        Elements { inner4, inner6, publish, internal, reaches, owner, container: None }
    }
}

impl Resource for PrivateNetwork {
    fn acquire(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        held.extend(lease::claim(self.inner4)?);
        held.extend(self.reserve()?);
        held.push(self.prepare(owner.journal)?);
        Ok(())
    }

    fn hold(&self, _: &Owner, held: &mut Held) -> Result<()> {
        held.extend(lease::claim(self.inner4)?);
        held.extend(self.reserve().unwrap_or_default());
        let table = Table::make()?;
        held.push(table.keep()?);
        table.close()
    }

    fn connect(&self, _: &Owner, pid: i32) -> Result<()> {
        PrivateNetwork::connect(self, pid)
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        PrivateNetwork::release(self, owner.journal.root())
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let address = self.inner4;
        let mut there = Vec::new();
        if lease::holder(owner.journal.root(), address)? == Some(self.owner()) {
            there.push(format!("lease of {address}"));
        }
        let elements = elements::list(&mut firewall::socket()?).map_err(|r| worded(r, ""))?;
        if elements.contains(&address) {
            there.push(format!("firewall elements of {address}"));
        }
        if has_link(&mut route_socket()?, &self.link)? {
            there.push(format!("link {}", self.link));
        }
        Ok(there)
    }

    fn lacks(&self, _: &Owner) -> Result<Vec<String>> {
        PrivateNetwork::lacks(self)
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        PrivateNetwork::describe(self)
    }
}

/// Changes the table while no other process does. One that was lost is refilled with the elements
/// of what runs. The returned descriptor keeps it as long as it is open.
fn in_turn<T>(
    journal: &Journal,
    change: impl FnOnce(&mut Socket) -> Result<T>,
) -> Result<(OwnedFd, T)> {
    let mut table = Table::make()?;
    let kept = table.keep()?;
    let result = match table.new {
        true => restore::fill(&mut table.socket, journal),
        false => Ok(()),
    };
    let result = result.and_then(|()| change(&mut table.socket));
    // Others are waiting; and a new table must be kept, or removed, even if this change is refused.
    table.close()?;
    Ok((kept, result?))
}

/// Takes ports on the host; `ipv6`: they lead to an address of that family as well.
fn reserve(publish: &[Publish], ipv6: bool) -> Result<Vec<OwnedFd>> {
    // Of the usual limit of 1024, a start and what a plugin opens need a few dozen.
    const MANY: usize = 64;
    let room = if publish.len() > MANY { Room::make() } else { None };
    let mut taken = Vec::new();
    for publish in publish {
        let udp = publish.protocol == Protocol::Udp;
        for address in publish.addresses() {
            // Without IPv6, a port for both loopback addresses is one for IPv4.
            if address.is_ipv6() && !ipv6 && publish.host.is_none() {
                continue;
            }
            match port::reserve(SocketAddr::new(address, publish.host_port), udp) {
                Ok(fd) => taken.push(match &room {
                    Some(room) => room.put_aside(fd),
                    None => fd,
                }),
                Err(errno) => return Err(unreserved(publish, address, errno)),
            }
        }
    }
    Ok(taken)
}

fn port_taken(publish: &Publish) -> Error {
    let port = publish.host_port;
    Error::new(format!("-p {publish}: port {port} is published by another sandbox or container"))
        .hint("use another host port")
}

fn has_link(socket: &mut Socket, name: &str) -> Result<bool> {
    let link = listing::named(socket, name);
    link.map(|link| link.is_some()).map_err(|r| worded(r, &format!(" {name}")))
}

fn unreserved(publish: &Publish, address: IpAddr, errno: Errno) -> Error {
    let port = publish.host_port;
    match errno.0 {
        libc::EADDRINUSE => Error::new(format!("-p {publish}: port {port} is in use on {address}"))
            .hint(format!("`ss -lnp 'sport = :{port}'` shows who uses it; use another port")),
        libc::EADDRNOTAVAIL => {
            Error::new(format!("-p {publish}: this host has no address {address}"))
                .hint("`ip addr` lists its addresses")
        }
        libc::EMFILE => Error::os(format!("-p {publish}: reserve port {port}"), errno)
            .hint("each published port needs a descriptor for each address: raise `ulimit -Hn`"),
        _ => Error::os(format!("-p {publish}: reserve port {port} on {address}"), errno),
    }
}
