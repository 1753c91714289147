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
//! - *near*: to a container's published port a client of the container's own network, or on
//!   loopback, comes with the host's address: the answer would go past the host, or nowhere.
//! - *opened*: where forwarding was off and a sandbox needed it on, traffic that belongs to no
//!   sandbox is still dropped, unless other rules redirected it on purpose or it is a reply to
//!   traffic that was let out.

use libc::{
    NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING, NF_IP_PRI_FILTER, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC, NF_IP_PRI_RAW,
    NFPROTO_IPV4, NFPROTO_IPV6, NFT_CT_STATE, NFT_CT_STATUS, NFT_META_IIFNAME, NFT_META_L4PROTO,
    NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_PAYLOAD_NETWORK_HEADER as NETWORK,
    NFT_PAYLOAD_TRANSPORT_HEADER as TRANSPORT, NFT_RETURN,
};

use super::names::LINK_PREFIX;
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
pub const REACH: &str = "reach";
/// The sets of sandboxes without a way out.
pub const INTERNAL4: &str = "internal4";
pub const INTERNAL6: &str = "internal6";
/// The sets of those with elements, each twice, as a pair: sandboxes, and containers with ports.
pub const SANDBOXES: [&str; 2] = ["sandboxes4", "sandboxes6"];
pub const CONTAINERS: [&str; 2] = ["containers4", "containers6"];
/// The sets of pairs of a client's addresses and a container near them.
pub const NEAR: [&str; 2] = ["near4", "near6"];
/// The set of interfaces on which packets for loopback are let in for containers' published ports.
pub const LOCALNET: &str = "localnet";
/// The maps of published ports: on one address, and on all of a family.
pub const PORTS: [&str; 4] = ["publish4", "publish4_any", "publish6", "publish6_any"];

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
    nft::set(batch, PORTS[0], 1, &[Protocol, Ipv4, Port], &[Ipv4, Port]);
    nft::set(batch, PORTS[1], 2, &[Protocol, Port], &[Ipv4, Port]);
    nft::set(batch, PORTS[2], 3, &[Protocol, Ipv6, Port], &[Ipv6, Port]);
    nft::set(batch, PORTS[3], 4, &[Protocol, Port], &[Ipv6, Port]);
    nft::set(batch, SANDBOXES[0], 5, &[Ipv4, Ipv4], &[]);
    nft::set(batch, SANDBOXES[1], 6, &[Ipv6, Ipv6], &[]);
    nft::set(batch, "opened", 7, &[Family, Interface], &[]);
    nft::set(batch, "opened_everywhere", 8, &[Family], &[]);
    nft::set(batch, REACH, 9, &[Ipv4, Ipv4], &[]);
    nft::set(batch, INTERNAL4, 10, &[Ipv4], &[]);
    nft::set(batch, INTERNAL6, 11, &[Ipv6], &[]);
    nft::set(batch, CONTAINERS[0], 12, &[Ipv4, Ipv4], &[]);
    nft::set(batch, CONTAINERS[1], 13, &[Ipv6, Ipv6], &[]);
    nft::set_of_ranges(batch, NEAR[0], 14, &[Ipv4, Ipv4]);
    nft::set_of_ranges(batch, NEAR[1], 15, &[Ipv6, Ipv6]);
    nft::set(batch, LOCALNET, 16, &[Family, Interface], &[]);

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
    // meta nfproto . iifname @localnet ip daddr 127.0.0.0/8 drop
    let family = Expr::Meta(NFT_META_NFPROTO, R1);
    let let_in = [family, Expr::Meta(NFT_META_IIFNAME, AT4), Expr::In(LOCALNET)];
    rule("raw", &[&let_in, &IPV4, &loopback(DESTINATION4), &drop]);

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
    // ct status dnat ip saddr . ip daddr @near4 masquerade
    let pair = [network(SOURCE4, R1), network(DESTINATION4, AT4), Expr::In(NEAR[0])];
    rule("postrouting", &[&redirected, &IPV4, &pair, &[Expr::Masquerade]]);
    // ct status dnat ip6 saddr . ip6 daddr @near6 masquerade
    let pair = [network(SOURCE6, R1), network(DESTINATION6, R2), Expr::In(NEAR[1])];
    rule("postrouting", &[&redirected, &IPV6, &pair, &[Expr::Masquerade]]);
    // ip saddr 127.0.0.0/8 masquerade
    rule("to_sandbox", &[&IPV4, &loopback(SOURCE4), &[Expr::Masquerade]]);
    // ip6 saddr ::1 masquerade
    let one = Expr::Equal(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    rule("to_sandbox", &[&IPV6, &[network(SOURCE6, R1), one, Expr::Masquerade]]);
    // ip saddr . ip daddr @sandboxes4 masquerade
    let pair = [network(SOURCE4, R1), network(DESTINATION4, AT4), Expr::In(SANDBOXES[0])];
    rule("to_sandbox", &[&IPV4, &pair, &[Expr::Masquerade]]);
    // ip6 saddr . ip6 daddr @sandboxes6 masquerade
    let pair = [network(SOURCE6, R1), network(DESTINATION6, R2), Expr::In(SANDBOXES[1])];
    rule("to_sandbox", &[&IPV6, &pair, &[Expr::Masquerade]]);

    // oifname "garth*" goto forward_in
    rule("forward", &[&TO_SANDBOX, &[Expr::Goto("forward_in")]]);
    // iifname "garth*" goto forward_out
    rule("forward", &[&FROM_SANDBOX, &[Expr::Goto("forward_out")]]);
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

/// A socket for the table, and for what is in it.
pub fn socket() -> Result<Socket, crate::Error> {
    Socket::open(Family::Netfilter).map_err(|errno| crate::Error::os("open nfnetlink", errno))
}

/// Whether what was named is not there.
pub fn is_missing(refusal: &Refusal) -> bool {
    refusal.errno.0 == libc::ENOENT
}
