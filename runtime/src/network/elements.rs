//! What is in the firewall's sets and maps: of a sandbox, and of a container with published ports.
//!
//! All elements of one owner are added in one transaction, and among them is one that only it can
//! have, its own address, with the owner as its comment: if that one is present, all are.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::firewall::{
    CONTAINERS, INTERNAL4, INTERNAL6, LOCALNET, NEAR, PORTS, REACH, SANDBOXES, is_missing,
};
use super::uplink::Opened;
use crate::config::network::{Protocol, Publish};
use crate::sys::netlink::{Batch, Refusal, Socket};
use crate::wire::nft;

/// An element: its set, its key, or the first and the last of a range, and in a map where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SetMember {
    set: &'static str,
    key: Vec<u8>,
    last: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl SetMember {
    fn of(set: &'static str, key: &[u8]) -> SetMember {
        SetMember { set, key: key.to_vec(), last: None, value: None }
    }

    fn as_element(&self) -> nft::Element<'_> {
        let (last, value) = (self.last.as_deref(), self.value.as_deref());
        nft::Element { key: &self.key, last, value, comment: None }
    }
}

/// What a sandbox has in the table, or a container for its published ports.
pub struct Elements<'a> {
    /// Its IPv4 address, which no other has.
    pub inner4: Ipv4Addr,
    /// Its IPv6 address.
    pub inner6: Option<Ipv6Addr>,
    /// Its published ports.
    pub publish: &'a [Publish],
    /// It has no way out.
    pub internal: bool,
    /// The sandboxes to which it may connect.
    pub reaches: &'a BTreeMap<String, Ipv4Addr>,
    /// The owner, unique to this sandbox or container.
    pub owner: &'a str,
    /// It is a container, whose networks these are.
    pub container: Option<(Ipv4Network, Option<Ipv6Network>)>,
}

/// Why an entry could not be created.
pub enum AddError {
    /// Another sandbox has this sandbox's own address.
    AddressTaken,
    /// Another sandbox already publishes the port with this index in `publish`.
    PortTaken(usize),
    /// Anything else.
    Refused(Refusal),
}

impl From<Refusal> for AddError {
    fn from(refusal: Refusal) -> AddError {
        AddError::Refused(refusal)
    }
}

impl Elements<'_> {
    /// Adds the entry, and `opened` interfaces. `exclusive`: what is already there belongs to
    /// another.
    pub fn add(
        &self,
        socket: &mut Socket,
        opened: &[Opened],
        exclusive: bool,
    ) -> Result<(), AddError> {
        let mut batch = Batch::transaction();
        for one in self.own() {
            let element = nft::Element { comment: Some(self.owner), ..one.as_element() };
            nft::add_element(&mut batch, "add an address", one.set, element, exclusive);
        }
        for one in self.paths() {
            nft::add_element(&mut batch, "set what it may reach", one.set, one.as_element(), false);
        }
        add_opened(&mut batch, opened);
        // Which `publish` a message of the batch is for; the bracket and own elements have none.
        let mut owner = vec![None; batch.len()];
        for (index, publish) in self.publish.iter().enumerate() {
            for one in self.ports(publish) {
                let element = one.as_element();
                nft::add_element(&mut batch, "publish a port", one.set, element, exclusive);
                owner.push(Some(index));
            }
        }
        match socket.execute(batch) {
            // If not exclusive, a key that is present with another value is EBUSY.
            Err(refusal) if matches!(refusal.errno.0, libc::EEXIST | libc::EBUSY) => {
                match owner.get(refusal.message).copied().flatten() {
                    Some(index) => Err(AddError::PortTaken(index)),
                    None => Err(AddError::AddressTaken),
                }
            }
            result => Ok(result?),
        }
    }

    /// How many of its elements are missing from the table.
    pub fn missing(&self, socket: &mut Socket) -> Result<usize, Refusal> {
        let wanted = self.all();
        let sets: HashSet<&'static str> = wanted.iter().map(|one| one.set).collect();
        let mut there = HashSet::new();
        for set in sets {
            there.extend(dump(socket, set)?);
        }
        Ok(wanted.iter().filter(|one| !there.contains(one)).count())
    }

    /// Removes the entry. Does nothing if it does not exist, even if its ports or its address now
    /// belong to another sandbox.
    pub fn remove(&self, socket: &mut Socket) -> Result<(), Refusal> {
        let owner = owner_in(socket, self.sets()[0], self.inner4)?;
        if owner.is_none_or(|owner| owner != self.owner) {
            return Ok(());
        }
        let mut all = self.all();
        let mut batch = Batch::transaction();
        let own = batch.len();
        all.iter().for_each(|one| delete(&mut batch, one));
        match socket.execute(batch) {
            // Without its own address, nothing here is ours.
            Err(refusal) if is_missing(&refusal) && refusal.message == own => Ok(()),
            // Elements were removed by hand: delete one by one, the own address last.
            Err(refusal) if is_missing(&refusal) => {
                all.reverse();
                delete_each(socket, &all)
            }
            result => result,
        }
    }

    /// All of them, its own first.
    fn all(&self) -> Vec<SetMember> {
        let ports = self.publish.iter().flat_map(|publish| self.ports(publish));
        self.own().into_iter().chain(self.paths()).chain(ports).collect()
    }

    /// The elements that only it can have, the IPv4 address first. The table is needed as long as
    /// anyone has such elements.
    fn own(&self) -> Vec<SetMember> {
        let [four, six] = self.sets();
        let mut own = vec![SetMember::of(four, &pair4(self.inner4))];
        own.extend(self.inner6.map(|inner6| SetMember::of(six, &pair6(inner6))));
        own
    }

    fn sets(&self) -> [&'static str; 2] {
        if self.container.is_some() { CONTAINERS } else { SANDBOXES }
    }

    /// What it may connect to, or who is near it.
    fn paths(&self) -> Vec<SetMember> {
        let pair = |other: &Ipv4Addr| {
            SetMember::of(REACH, &[self.inner4.octets(), other.octets()].concat())
        };
        let mut paths: Vec<SetMember> = self.reaches.values().map(pair).collect();
        if self.internal {
            paths.push(SetMember::of(INTERNAL4, &self.inner4.octets()));
            paths.extend(self.inner6.map(|inner6| SetMember::of(INTERNAL6, &inner6.octets())));
        }
        let near = |set, from: &[u8], to: &[u8], own: &[u8]| SetMember {
            last: Some([to, own].concat()),
            ..SetMember::of(set, &[from, own].concat())
        };
        if let Some((four, six)) = self.container {
            let own = self.inner4.octets();
            let (from, to) = (four.network().octets(), four.broadcast().octets());
            paths.push(near(NEAR[0], &from, &to, &own));
            paths.push(near(NEAR[0], &[127, 0, 0, 0], &[127, 255, 255, 255], &own));
            if let (Some(six), Some(own)) = (six, self.inner6) {
                let (from, to) = (six.network().octets(), six.broadcast().octets());
                paths.push(near(NEAR[1], &from, &to, &own.octets()));
            }
        }
        paths
    }

    fn ports(&self, publish: &Publish) -> impl Iterator<Item = SetMember> {
        let (port, protocol) = (publish.port, publish.protocol);
        let host_port = publish.host_port;
        let (inner4, inner6) = (self.inner4, self.inner6);
        publish.addresses().filter_map(move |address| {
            let mut key = field(&[match protocol {
                Protocol::Tcp => libc::IPPROTO_TCP as u8,
                Protocol::Udp => libc::IPPROTO_UDP as u8,
            }]);
            let any = address.is_unspecified();
            let (set, mut value) = match address {
                IpAddr::V4(address) => {
                    if !any {
                        key.extend(address.octets());
                    }
                    (if any { "publish4_any" } else { "publish4" }, inner4.octets().to_vec())
                }
                IpAddr::V6(address) => {
                    if !any {
                        key.extend(address.octets());
                    }
                    (if any { "publish6_any" } else { "publish6" }, inner6?.octets().to_vec())
                }
            };
            key.extend(field(&host_port.to_be_bytes()));
            value.extend(field(&port.to_be_bytes()));
            Some(SetMember { set, key, last: None, value: Some(value) })
        })
    }
}

fn add_opened(batch: &mut Batch, opened: &[Opened]) {
    for switch in opened {
        let (set, key) = switch.element();
        let element = nft::Element { key: &key, ..nft::Element::default() };
        nft::add_element(batch, "record an interface", set, element, false);
    }
}

/// Records switches that are about to be opened, so that what belongs to no sandbox is dropped.
pub fn record_opened(socket: &mut Socket, opened: &[Opened]) -> Result<(), Refusal> {
    let mut batch = Batch::transaction();
    add_opened(&mut batch, opened);
    socket.execute(batch)
}

/// The switches that were opened for sandboxes and containers.
pub fn opened(socket: &mut Socket) -> Result<Vec<Opened>, Refusal> {
    let mut all = Vec::new();
    for set in ["opened", "opened_everywhere", LOCALNET] {
        all.extend(dump(socket, set)?);
    }
    Ok(all.iter().filter_map(|one| Opened::of_element(one.set, &one.key)).collect())
}

/// Whether anyone publishes a port on an address other than loopback.
pub fn publishes_beyond(socket: &mut Socket) -> Result<bool, Refusal> {
    let loopback = |map: &str, key: &[u8]| match map {
        "publish4" => key.get(4) == Some(&127),
        _ => key.get(4..20) == Some(&Ipv6Addr::LOCALHOST.octets()[..]),
    };
    for map in PORTS {
        let all = dump(socket, map)?;
        if all.iter().any(|one| map.ends_with("_any") || !loopback(map, &one.key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anyone in the table has an IPv6 address.
pub fn has_ipv6(socket: &mut Socket) -> Result<bool, Refusal> {
    Ok(!(dump(socket, SANDBOXES[1])?.is_empty() && dump(socket, CONTAINERS[1])?.is_empty()))
}

/// Whether no sandbox and no container has elements: then the table is not needed.
pub fn is_empty(socket: &mut Socket) -> Result<bool, Refusal> {
    Ok(dump(socket, SANDBOXES[0])?.is_empty() && dump(socket, CONTAINERS[0])?.is_empty())
}

/// The addresses of all sandboxes in the table.
pub fn list(socket: &mut Socket) -> Result<Vec<Ipv4Addr>, Refusal> {
    let all = dump(socket, SANDBOXES[0])?;
    let first = all.iter().filter_map(|one| one.key.first_chunk::<4>());
    Ok(first.map(|octets| Ipv4Addr::from(*octets)).collect())
}

/// The owner of the elements of a sandbox with this address, if there are any.
pub fn owner_of(socket: &mut Socket, inner4: Ipv4Addr) -> Result<Option<String>, Refusal> {
    owner_in(socket, SANDBOXES[0], inner4)
}

/// The owner of the elements of a container with this address, if there are any.
pub fn container_at(socket: &mut Socket, inner4: Ipv4Addr) -> Result<Option<String>, Refusal> {
    owner_in(socket, CONTAINERS[0], inner4)
}

fn owner_in(socket: &mut Socket, set: &str, inner4: Ipv4Addr) -> Result<Option<String>, Refusal> {
    let mut batch = Batch::new();
    nft::get_element(&mut batch, set, &pair4(inner4));
    let mut found = None;
    socket.ask(batch, &[libc::ENOENT], |body| {
        let comment = nft::comment(body).unwrap_or_default();
        found = Some(String::from_utf8_lossy(comment).into_owned());
    })?;
    Ok(found)
}

/// Removes every element of the sandbox with this address, without knowing its ports.
pub fn purge(socket: &mut Socket, inner4: Ipv4Addr) -> Result<(), Refusal> {
    // An IPv6 address ends with the IPv4 address of the same sandbox, whatever its pool.
    let four = |bytes: &[u8]| bytes.starts_with(&inner4.octets());
    let six = |bytes: &[u8]| bytes.get(12..16) == Some(&inner4.octets()[..]);
    let mut all = vec![SetMember::of(SANDBOXES[0], &pair4(inner4))];
    // Of the pairs in REACH, those from it: what leads to it belongs to others.
    for set in [SANDBOXES[1], REACH, INTERNAL4, INTERNAL6] {
        let ours = |key: &[u8]| if set.contains('6') { six(key) } else { four(key) };
        all.extend(dump(socket, set)?.into_iter().filter(|one| ours(&one.key)));
    }
    all.extend(ports_to(socket, four, six)?);
    delete_each(socket, &all)
}

/// The same for a container.
pub fn purge_container(
    socket: &mut Socket,
    inner4: Ipv4Addr,
    inner6: Option<Ipv6Addr>,
) -> Result<(), Refusal> {
    let four = |bytes: &[u8]| bytes.starts_with(&inner4.octets());
    let six = |bytes: &[u8]| inner6.is_some_and(|inner6| bytes.starts_with(&inner6.octets()));
    let mut all: Vec<SetMember> = ports_to(socket, four, six)?;
    for (set, at) in [(NEAR[0], 4), (NEAR[1], 16), (CONTAINERS[1], 0), (CONTAINERS[0], 0)] {
        let ours = |key: &[u8]| if set.contains('6') { six(key) } else { four(key) };
        let of_set = dump(socket, set)?.into_iter();
        all.extend(of_set.filter(|one| ours(one.key.get(at..).unwrap_or_default())));
    }
    delete_each(socket, &all)
}

/// The published ports that lead to such an address.
fn ports_to(
    socket: &mut Socket,
    four: impl Fn(&[u8]) -> bool,
    six: impl Fn(&[u8]) -> bool,
) -> Result<Vec<SetMember>, Refusal> {
    let mut found = Vec::new();
    for map in PORTS {
        let ours = |value: &[u8]| if map.contains('4') { four(value) } else { six(value) };
        let of_map = dump(socket, map)?.into_iter();
        found.extend(of_map.filter(|one| one.value.as_deref().is_some_and(&ours)));
    }
    Ok(found)
}

fn dump(socket: &mut Socket, set: &'static str) -> Result<Vec<SetMember>, Refusal> {
    let mut batch = Batch::new();
    nft::list_elements(&mut batch, set);
    let mut found = Vec::new();
    // ENOENT: no table, so no elements.
    socket.ask(batch, &[libc::ENOENT], |body| {
        found.extend(nft::elements(body).map(|one| SetMember {
            last: one.last.map(<[u8]>::to_vec),
            value: one.value.map(<[u8]>::to_vec),
            ..SetMember::of(set, one.key)
        }));
    })?;
    Ok(found)
}

/// Removes elements, whether or not they are present.
fn delete_each(socket: &mut Socket, all: &[SetMember]) -> Result<(), Refusal> {
    for one in all {
        let mut batch = Batch::transaction();
        delete(&mut batch, one);
        match socket.execute(batch) {
            Err(refusal) if is_missing(&refusal) => {}
            result => result?,
        }
    }
    Ok(())
}

fn delete(batch: &mut Batch, one: &SetMember) {
    let element = nft::Element { value: None, ..one.as_element() };
    nft::delete_element(batch, "remove an element", one.set, element);
}

fn pair4(address: Ipv4Addr) -> [u8; 8] {
    let mut pair = [0; 8];
    pair[..4].copy_from_slice(&address.octets());
    pair[4..].copy_from_slice(&address.octets());
    pair
}

fn pair6(address: Ipv6Addr) -> [u8; 32] {
    let mut pair = [0; 32];
    pair[..16].copy_from_slice(&address.octets());
    pair[16..].copy_from_slice(&address.octets());
    pair
}

/// A field of a concatenation: padded to 4 bytes.
fn field(bytes: &[u8]) -> Vec<u8> {
    let mut field = bytes.to_vec();
    field.resize(bytes.len().next_multiple_of(4), 0);
    field
}
