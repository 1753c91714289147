//! The firewall: one table for the host, with rules that never change and maps of the sandboxes.
//!
//! A sandbox adds elements, not rules, so neither publishing a port nor forwarding a packet gets
//! slower as sandboxes are added. All elements of a sandbox are added in one transaction, and among
//! them is one that only it can have, its own address: if that one is present, all are; if not,
//! none is. So a release after a crash at any point knows what is ours, and never removes another
//! sandbox's port. The element's comment, the sandbox's name and the number of its lease, tells it
//! from that of a sandbox of another state directory. Once no sandbox has elements, the table is no
//! longer needed and is removed (`table`).
//!
//! What the table does, by chain:
//! - *raw*: a packet from a sandbox must have a source that belongs there, and no loopback
//!   destination. This comes before connection tracking rewrites the replies to a loopback client
//!   back to 127.0.0.1.
//! - *publish*: a published port is redirected to the sandbox. From outside (*prerouting*) never
//!   for 127.0.0.0/8, which a neighbour on the same network segment could send.
//! - *postrouting*: a sandbox goes out with the host's address. A client otherwise keeps its own,
//!   except where the reply would not find its way back: a loopback client, or a sandbox that
//!   connects to itself.
//! - *forward*: into a sandbox only what was published, and what a sandbox sends that may reach it
//!   by name (`group`). Out of one without a way out only replies. *Input*: to the host only replies and ICMP.
//! - *opened*: where forwarding was off and a sandbox needed it on, traffic that belongs to no
//!   sandbox is still dropped, unless other rules redirected it on purpose or it is a reply to
//!   traffic that was let out.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{
    NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING, NF_IP_PRI_FILTER, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC, NF_IP_PRI_RAW,
    NFPROTO_IPV4, NFPROTO_IPV6, NFT_CT_STATE, NFT_CT_STATUS, NFT_META_IIFNAME, NFT_META_L4PROTO,
    NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_PAYLOAD_NETWORK_HEADER as NETWORK,
    NFT_PAYLOAD_TRANSPORT_HEADER as TRANSPORT, NFT_RETURN,
};

use super::names::LINK_PREFIX;
use super::uplink::Opened;
use crate::config::network::{Protocol, Publish};
use crate::sys::netlink::{Batch, Family, Refusal, Socket};
use crate::wire::nft::{self, AT4, AT8, AT20, ChainHook, Expr, Field, R1, R2};

const SANDBOX: &[u8] = LINK_PREFIX.as_bytes();
const FROM_SANDBOX: [Expr; 2] = [Expr::Meta(NFT_META_IIFNAME, R1), Expr::Equal(SANDBOX)];
const TO_SANDBOX: [Expr; 2] = [Expr::Meta(NFT_META_OIFNAME, R1), Expr::Equal(SANDBOX)];
const IPV4: [Expr; 2] = [Expr::Meta(NFT_META_NFPROTO, R1), Expr::Equal(&[NFPROTO_IPV4 as u8])];
const IPV6: [Expr; 2] = [Expr::Meta(NFT_META_NFPROTO, R1), Expr::Equal(&[NFPROTO_IPV6 as u8])];
const SOURCE4: (u32, u32) = (12, 4);
const DESTINATION4: (u32, u32) = (16, 4);
const SOURCE6: (u32, u32) = (8, 16);
const DESTINATION6: (u32, u32) = (24, 16);

// NF_CT_STATE_BIT and enum ip_conntrack_status of linux/netfilter/nf_conntrack_common.h.
const INVALID: u32 = 1;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const REDIRECTED: u32 = 1 << 5; // IPS_DST_NAT
const NONE: &[u8] = &[0; 4];

/// The set of pairs of sandboxes of which the first may connect to the second.
const REACH: &str = "reach";
/// The sets of sandboxes without a way out.
const INTERNAL4: &str = "internal4";
const INTERNAL6: &str = "internal6";

/// Creates the table and everything fixed in it, owned by the socket; EEXIST if it already exists.
pub fn create(socket: &mut Socket) -> Result<(), Refusal> {
    let (mut persist, mut reject) = (true, true);
    loop {
        let mut batch = Batch::transaction();
        write_table(&mut batch, persist, reject);
        let result = socket.execute(batch);
        match result.as_ref().map_err(|refusal| refusal.errno.0) {
            // Linux before 6.9: there the table goes away with its owner.
            Err(libc::EOPNOTSUPP | libc::EINVAL) if persist => persist = false,
            // Without nft_reject_inet, what is not let out is dropped.
            Err(libc::ENOENT) if reject => reject = false,
            _ => return result,
        }
    }
}

fn write_table(batch: &mut Batch, persist: bool, reject: bool) {
    use Field::{Family, Interface, Ipv4, Ipv6, Port, Protocol};

    nft::table(batch, persist);
    nft::set(batch, "publish4", 1, &[Protocol, Ipv4, Port], &[Ipv4, Port]);
    nft::set(batch, "publish4_any", 2, &[Protocol, Port], &[Ipv4, Port]);
    nft::set(batch, "publish6", 3, &[Protocol, Ipv6, Port], &[Ipv6, Port]);
    nft::set(batch, "publish6_any", 4, &[Protocol, Port], &[Ipv6, Port]);
    nft::set(batch, "sandboxes4", 5, &[Ipv4, Ipv4], &[]);
    nft::set(batch, "sandboxes6", 6, &[Ipv6, Ipv6], &[]);
    nft::set(batch, "opened", 7, &[Family, Interface], &[]);
    nft::set(batch, "opened_everywhere", 8, &[Family], &[]);
    nft::set(batch, REACH, 9, &[Ipv4, Ipv4], &[]);
    nft::set(batch, INTERNAL4, 10, &[Ipv4], &[]);
    nft::set(batch, INTERNAL6, 11, &[Ipv6], &[]);

    let hook = |kind, hook, priority| Some(ChainHook(kind, hook, priority));
    nft::chain(batch, "raw", hook("filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW));
    nft::chain(batch, "prerouting", hook("nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST));
    nft::chain(batch, "output", hook("nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST));
    nft::chain(batch, "postrouting", hook("nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC));
    nft::chain(batch, "forward", hook("filter", NF_INET_FORWARD, NF_IP_PRI_FILTER));
    nft::chain(batch, "input", hook("filter", NF_INET_LOCAL_IN, NF_IP_PRI_FILTER));
    for chain in ["publish", "to_sandbox", "forward_in", "forward_out", "forward_rest", "host"] {
        nft::chain(batch, chain, None);
    }

    let mut rule = |chain: &str, matches: &[&[Expr]]| nft::rule(batch, chain, &matches.concat());
    let network = |(offset, length), register| Expr::Payload(NETWORK, offset, length, register);
    let port = |register| Expr::Payload(TRANSPORT, 2, 2, register);
    let protocol = Expr::Meta(NFT_META_L4PROTO, R1);
    let loopback = |(offset, _)| [Expr::Payload(NETWORK, offset, 1, R1), Expr::Equal(&[127])];
    let state = |mask| [Expr::Ct(NFT_CT_STATE), Expr::And(mask), Expr::Differs(NONE)];
    let redirected = [Expr::Ct(NFT_CT_STATUS), Expr::And(REDIRECTED), Expr::Differs(NONE)];
    let local = [Expr::FibDestinationType, Expr::Equal(&[2, 0, 0, 0])]; // RTN_LOCAL, host order
    let accept = [Expr::Verdict(NF_ACCEPT)];
    let drop = [Expr::Verdict(NF_DROP)];

    // iifname "garth*" ip daddr 127.0.0.0/8 drop
    rule("raw", &[&FROM_SANDBOX, &IPV4, &loopback(DESTINATION4), &drop]);
    // iifname "garth*" fib saddr . iif oif missing drop
    rule("raw", &[&FROM_SANDBOX, &[Expr::FibSourceIsHere, Expr::Equal(NONE)], &drop]);

    // ip daddr 127.0.0.0/8 return
    rule("prerouting", &[&IPV4, &loopback(DESTINATION4), &[Expr::Verdict(NFT_RETURN)]]);
    // fib daddr type local goto publish
    rule("prerouting", &[&local, &[Expr::Goto("publish")]]);
    rule("output", &[&local, &[Expr::Goto("publish")]]);
    // dnat ip to meta l4proto . ip daddr . th dport map @publish4
    let key = [protocol, network(DESTINATION4, AT4), port(AT8), Expr::Map("publish4")];
    rule("publish", &[&IPV4, &key, &[Expr::Dnat(NFPROTO_IPV4, AT4)]]);
    // dnat ip to meta l4proto . th dport map @publish4_any
    let key = [protocol, port(AT4), Expr::Map("publish4_any")];
    rule("publish", &[&IPV4, &key, &[Expr::Dnat(NFPROTO_IPV4, AT4)]]);
    // dnat ip6 to meta l4proto . ip6 daddr . th dport map @publish6
    let key = [protocol, network(DESTINATION6, AT4), port(AT20), Expr::Map("publish6")];
    rule("publish", &[&IPV6, &key, &[Expr::Dnat(NFPROTO_IPV6, R2)]]);
    // dnat ip6 to meta l4proto . th dport map @publish6_any
    let key = [protocol, port(AT4), Expr::Map("publish6_any")];
    rule("publish", &[&IPV6, &key, &[Expr::Dnat(NFPROTO_IPV6, R2)]]);

    // oifname "garth*" goto to_sandbox
    rule("postrouting", &[&TO_SANDBOX, &[Expr::Goto("to_sandbox")]]);
    // iifname "garth*" masquerade
    rule("postrouting", &[&FROM_SANDBOX, &[Expr::Masquerade]]);
    // ip saddr 127.0.0.0/8 masquerade
    rule("to_sandbox", &[&IPV4, &loopback(SOURCE4), &[Expr::Masquerade]]);
    // ip6 saddr ::1 masquerade
    let one = Expr::Equal(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    rule("to_sandbox", &[&IPV6, &[network(SOURCE6, R1), one, Expr::Masquerade]]);
    // ip saddr . ip daddr @sandboxes4 masquerade
    let pair = [network(SOURCE4, R1), network(DESTINATION4, AT4), Expr::In("sandboxes4")];
    rule("to_sandbox", &[&IPV4, &pair, &[Expr::Masquerade]]);
    // ip6 saddr . ip6 daddr @sandboxes6 masquerade
    let pair = [network(SOURCE6, R1), network(DESTINATION6, R2), Expr::In("sandboxes6")];
    rule("to_sandbox", &[&IPV6, &pair, &[Expr::Masquerade]]);

    // oifname "garth*" goto forward_in
    rule("forward", &[&TO_SANDBOX, &[Expr::Goto("forward_in")]]);
    // iifname "garth*" goto forward_out
    rule("forward", &[&FROM_SANDBOX, &[Expr::Goto("forward_out")]]);
    let family = Expr::Meta(NFT_META_NFPROTO, R1);
    // meta nfproto . iifname @opened goto forward_rest
    let entered = [family, Expr::Meta(NFT_META_IIFNAME, AT4), Expr::In("opened")];
    rule("forward", &[&entered, &[Expr::Goto("forward_rest")]]);
    // meta nfproto @opened_everywhere goto forward_rest
    let entered = [family, Expr::In("opened_everywhere")];
    rule("forward", &[&entered, &[Expr::Goto("forward_rest")]]);
    // ct state established,related accept; ct status dnat accept; [...] drop
    for chain in ["forward_in", "forward_rest"] {
        rule(chain, &[&state(ESTABLISHED_OR_RELATED), &accept]);
        rule(chain, &[&redirected, &accept]);
        if chain == "forward_in" {
            // ip saddr . ip daddr @reach accept: the source is that sandbox's, as *raw* has seen
            let pair = [network(SOURCE4, R1), network(DESTINATION4, AT4), Expr::In(REACH)];
            rule(chain, &[&FROM_SANDBOX, &IPV4, &pair, &accept]);
        }
        rule(chain, &[&drop]);
    }
    // ct state invalid drop: it would leave with the sandbox's own address
    rule("forward_out", &[&state(INVALID), &drop]);
    // ct state established,related accept
    rule("forward_out", &[&state(ESTABLISHED_OR_RELATED), &accept]);
    // ip saddr @internal4 reject; ip6 saddr @internal6 reject
    let refuse = [if reject { Expr::Reject } else { Expr::Verdict(NF_DROP) }];
    for (family, source, set) in [(IPV4, SOURCE4, INTERNAL4), (IPV6, SOURCE6, INTERNAL6)] {
        rule("forward_out", &[&family, &[network(source, R1), Expr::In(set)], &refuse]);
    }

    // iifname "garth*" goto host
    rule("input", &[&FROM_SANDBOX, &[Expr::Goto("host")]]);
    // ct state established,related accept
    rule("host", &[&state(ESTABLISHED_OR_RELATED), &accept]);
    // icmpv6 type { nd-router-advert, nd-redirect } drop: a sandbox is not the host's router
    for kind in [&[134], &[137]] {
        let icmpv6 = [protocol, Expr::Equal(&[libc::IPPROTO_ICMPV6 as u8])];
        let kind = [Expr::Payload(TRANSPORT, 0, 1, R1), Expr::Equal(kind)];
        rule("host", &[&icmpv6, &kind, &drop]);
    }
    // meta l4proto { icmp, ipv6-icmp } accept; drop
    rule("host", &[&[protocol, Expr::Equal(&[libc::IPPROTO_ICMP as u8])], &accept]);
    rule("host", &[&[protocol, Expr::Equal(&[libc::IPPROTO_ICMPV6 as u8])], &accept]);
    rule("host", &[&drop]);
}

/// The set and the key of an element.
type Key = (&'static str, Vec<u8>);

/// An element of a map: where a published port leads.
struct Element {
    map: &'static str,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What a sandbox has in the table.
pub struct Elements<'a> {
    /// Its IPv4 address, which no other sandbox has.
    pub inner4: Ipv4Addr,
    /// Its IPv6 address.
    pub inner6: Option<Ipv6Addr>,
    /// Its published ports.
    pub publish: &'a [Publish],
    /// It has no way out.
    pub internal: bool,
    /// The sandboxes to which it may connect.
    pub reaches: &'a BTreeMap<String, Ipv4Addr>,
    /// The owner, unique to this sandbox.
    pub owner: &'a str,
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
        for (set, key) in self.own() {
            nft::add_commented(&mut batch, "add an address", set, &key, self.owner, exclusive);
        }
        for (set, key) in self.paths() {
            nft::add_element(&mut batch, "set what it may reach", set, &key, None, false);
        }
        add_opened(&mut batch, opened);
        // Which `publish` a message of the batch is for; the bracket and own elements have none.
        let mut owner = vec![None; batch.len()];
        for (index, publish) in self.publish.iter().enumerate() {
            for Element { map, key, value } in self.elements(publish) {
                let value = Some(&*value);
                nft::add_element(&mut batch, "publish a port", map, &key, value, exclusive);
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
        let plain = self.own().into_iter().chain(self.paths());
        let mut wanted: Vec<(&str, Vec<u8>, Vec<u8>)> =
            plain.map(|(set, key)| (set, key, Vec::new())).collect();
        for publish in self.publish {
            wanted.extend(self.elements(publish).map(|e| (e.map, e.key, e.value)));
        }
        wanted.sort();
        let mut missing = 0;
        for of_set in wanted.chunk_by(|one, next| one.0 == next.0) {
            let there: HashSet<Pair> = dump(socket, of_set[0].0)?.into_iter().collect();
            let is_there = |(_, key, value): &&(&str, Vec<u8>, Vec<u8>)| {
                there.contains(&(key.clone(), value.clone()))
            };
            missing += of_set.len() - of_set.iter().filter(is_there).count();
        }
        Ok(missing)
    }

    /// Removes the entry. Does nothing if it does not exist, even if its ports or its address now
    /// belong to another sandbox.
    pub fn remove(&self, socket: &mut Socket) -> Result<(), Refusal> {
        if owner_of(socket, self.inner4)?.is_none_or(|owner| owner != self.owner) {
            return Ok(());
        }
        let mut all = self.own();
        all.extend(self.paths());
        for publish in self.publish {
            all.extend(self.elements(publish).map(|element| (element.map, element.key)));
        }
        let mut batch = Batch::transaction();
        let own = batch.len();
        for (set, key) in &all {
            delete(&mut batch, set, key);
        }
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

    /// The elements that only this sandbox can have, the IPv4 address first. The table is needed as
    /// long as any sandbox has such elements.
    fn own(&self) -> Vec<Key> {
        let mut own = vec![("sandboxes4", pair4(self.inner4).to_vec())];
        own.extend(self.inner6.map(|inner6| ("sandboxes6", pair6(inner6).to_vec())));
        own
    }

    /// What it may connect to.
    fn paths(&self) -> Vec<Key> {
        let pair = |other: &Ipv4Addr| (REACH, [self.inner4.octets(), other.octets()].concat());
        let mut paths: Vec<Key> = self.reaches.values().map(pair).collect();
        if self.internal {
            paths.push((INTERNAL4, self.inner4.octets().to_vec()));
            paths.extend(self.inner6.map(|inner6| (INTERNAL6, inner6.octets().to_vec())));
        }
        paths
    }

    fn elements(&self, publish: &Publish) -> impl Iterator<Item = Element> {
        let (port, protocol) = (publish.port, publish.protocol);
        let host_port = publish.host_port;
        let (inner4, inner6) = (self.inner4, self.inner6);
        publish.addresses().filter_map(move |address| {
            let mut key = field(&[match protocol {
                Protocol::Tcp => libc::IPPROTO_TCP as u8,
                Protocol::Udp => libc::IPPROTO_UDP as u8,
            }]);
            let any = address.is_unspecified();
            let (map, mut value) = match address {
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
            Some(Element { map, key, value })
        })
    }
}

fn add_opened(batch: &mut Batch, opened: &[Opened]) {
    for switch in opened {
        let (set, key) = switch.element();
        nft::add_element(batch, "record an interface", set, &key, None, false);
    }
}

/// Records switches that are about to be opened, so that what belongs to no sandbox is dropped.
pub fn record_opened(socket: &mut Socket, opened: &[Opened]) -> Result<(), Refusal> {
    let mut batch = Batch::transaction();
    add_opened(&mut batch, opened);
    socket.execute(batch)
}

/// The switches that were opened for sandboxes.
pub fn opened(socket: &mut Socket) -> Result<Vec<Opened>, Refusal> {
    let mut all = dump(socket, "opened")?;
    all.extend(dump(socket, "opened_everywhere")?);
    Ok(all.iter().filter_map(|(key, _)| Opened::of_element(key)).collect())
}

/// Whether any sandbox publishes a port on an address other than loopback.
pub fn publishes_beyond(socket: &mut Socket) -> Result<bool, Refusal> {
    let loopback = |map: &str, key: &[u8]| match map {
        "publish4" => key.get(4) == Some(&127),
        _ => key.get(4..20) == Some(&Ipv6Addr::LOCALHOST.octets()[..]),
    };
    for map in ["publish4_any", "publish6_any", "publish4", "publish6"] {
        let all = dump(socket, map)?;
        if all.iter().any(|(key, _)| map.ends_with("_any") || !loopback(map, key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether any sandbox has an IPv6 address.
pub fn has_ipv6(socket: &mut Socket) -> Result<bool, Refusal> {
    Ok(!dump(socket, "sandboxes6")?.is_empty())
}

/// The addresses of all sandboxes in the table.
pub fn list(socket: &mut Socket) -> Result<Vec<Ipv4Addr>, Refusal> {
    let mut found = Vec::new();
    for (key, _) in dump(socket, "sandboxes4")? {
        if let Some(octets) = key.first_chunk::<4>() {
            found.push(Ipv4Addr::from(*octets));
        }
    }
    Ok(found)
}

/// The owner of this address's elements, if there are any.
pub fn owner_of(socket: &mut Socket, inner4: Ipv4Addr) -> Result<Option<String>, Refusal> {
    let mut batch = Batch::new();
    nft::get_element(&mut batch, "sandboxes4", &pair4(inner4));
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
    let mut all = vec![("sandboxes4", pair4(inner4).to_vec())];
    // Of the pairs in REACH, those from it: what leads to it belongs to others.
    for set in ["sandboxes6", REACH, INTERNAL4, INTERNAL6] {
        let ours = |key: &[u8]| if set.contains('6') { six(key) } else { four(key) };
        all.extend(dump(socket, set)?.into_iter().filter(|e| ours(&e.0)).map(|e| (set, e.0)));
    }
    for map in ["publish4", "publish4_any", "publish6", "publish6_any"] {
        let ours = |value: &[u8]| if map.contains('4') { four(value) } else { six(value) };
        all.extend(dump(socket, map)?.into_iter().filter(|e| ours(&e.1)).map(|e| (map, e.0)));
    }
    delete_each(socket, &all)
}

/// A socket for the functions above.
pub fn socket() -> Result<Socket, crate::Error> {
    Socket::open(Family::Netfilter).map_err(|errno| crate::Error::os("open nfnetlink", errno))
}

/// The key and the value of an element.
type Pair = (Vec<u8>, Vec<u8>);

fn dump(socket: &mut Socket, set: &str) -> Result<Vec<Pair>, Refusal> {
    let mut batch = Batch::new();
    nft::list_elements(&mut batch, set);
    let mut found = Vec::new();
    // ENOENT: no table, so no elements.
    socket.ask(batch, &[libc::ENOENT], |body| {
        let elements = nft::elements(body);
        found.extend(elements.map(|(k, v)| (k.to_vec(), v.unwrap_or_default().to_vec())));
    })?;
    Ok(found)
}

/// Removes elements, whether or not they are present.
fn delete_each(socket: &mut Socket, all: &[Key]) -> Result<(), Refusal> {
    for (set, key) in all {
        let mut batch = Batch::transaction();
        delete(&mut batch, set, key);
        match socket.execute(batch) {
            Err(refusal) if is_missing(&refusal) => {}
            result => result?,
        }
    }
    Ok(())
}

fn delete(batch: &mut Batch, set: &str, key: &[u8]) {
    nft::delete_element(batch, "remove an element", set, key);
}

pub fn is_missing(refusal: &Refusal) -> bool {
    refusal.errno.0 == libc::ENOENT
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
