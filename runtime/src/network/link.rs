//! The link: a veth pair, one end on the host, the other created inside the sandbox's namespace.
//!
//! The names, interface indexes and hardware addresses of both ends are ours to choose, and all are
//! derived from the sandbox's IPv4 address. So everything can be specified before anything exists:
//! one batch for the host's end, one for the inner end, and no query in between. Creating the peer
//! inside, rather than moving it there, saves 15-35 ms.
//!
//! The host knows the inner end's hardware address and needs no ARP or neighbour discovery to reach
//! it; so its end has no link-local address either, and the kernel sends nothing of its own there.

use std::net::{Ipv4Addr, Ipv6Addr};

use libc::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_F_NODAD, IFA_FLAGS, IFA_LOCAL, IFLA_ADDRESS, IFLA_AF_SPEC,
    IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_PID,
    IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, NDA_DST, NDA_LLADDR, NLM_F_CREATE, NLM_F_EXCL,
    NLM_F_REPLACE, NUD_PERMANENT, RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, RT_TABLE_LOCAL, RT_TABLE_MAIN,
    RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWNEIGH, RTM_NEWROUTE, RTN_LOCAL, RTN_UNICAST, RTPROT_BOOT,
};

use super::PrivateNetwork;
use super::listing::ifinfomsg;
use super::refusal::worded;
use crate::sys::netlink::{Batch, Refusal, Socket};

// linux/if_link.h, linux/veth.h, linux/ip.h; not in libc.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const IPV4_FORWARDING: u16 = 1;
const IPV4_ACCEPT_REDIRECTS: u16 = 4;
const IPV4_SEND_REDIRECTS: u16 = 6;
const IPV4_ROUTE_LOCALNET: u16 = 26;

/// The inner end's index: the first after loopback in a new namespace.
const INNER: u32 = 2;
/// The name of the inner end.
pub const INNER_NAME: &str = "eth0";

/// Our own interface indexes start here: the kernel counts up from 1 and does not get this far.
pub const FIRST_INDEX: u32 = 0x4000_0000;

/// The host end's interface index.
pub fn index(inner4: Ipv4Addr) -> u32 {
    FIRST_INDEX | (u32::from(inner4) & (FIRST_INDEX - 1))
}

/// A locally administered hardware address.
fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x67, a, b, c, d]
}

/// Creates the pair and sets up the host's end: addresses, neighbours, up.
pub fn make(socket: &mut Socket, network: &PrivateNetwork, pid: i32) -> Result<(), Refusal> {
    let index = index(network.inner4);
    let inner_hardware = hardware(network.inner4);
    let mut batch = Batch::new();

    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.message("create the link", RTM_NEWLINK, flags, &ifinfomsg(index, false));
    end_of_link(&mut batch, &network.link, network.mtu, hardware(network.host4));
    batch.nest(IFLA_LINKINFO, |batch| {
        batch.text(IFLA_INFO_KIND, "veth");
        batch.nest(IFLA_INFO_DATA, |batch| {
            batch.nest(VETH_INFO_PEER, |batch| {
                batch.raw(&ifinfomsg(INNER, false));
                end_of_link(batch, INNER_NAME, network.mtu, inner_hardware);
                batch.u32(IFLA_NET_NS_PID, pid as u32);
            });
        });
    });

    // route_localnet lets in the replies to a client on 127.0.0.1, on this interface only.
    batch.message("set up the link", RTM_NEWLINK, 0, &ifinfomsg(index, false));
    batch.nest(IFLA_AF_SPEC, |batch| {
        batch.nest(AF_INET as u16, |batch| {
            batch.nest(IFLA_INET_CONF, |batch| {
                batch.u32(IPV4_FORWARDING, 1);
                batch.u32(IPV4_ROUTE_LOCALNET, 1);
                batch.u32(IPV4_ACCEPT_REDIRECTS, 0);
                batch.u32(IPV4_SEND_REDIRECTS, 0);
            });
        });
        if network.inner6.is_some() {
            batch.nest(AF_INET6 as u16, |batch| {
                batch.attr(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        }
    });
    batch.message("bring the link up", RTM_NEWLINK, 0, &ifinfomsg(index, true));

    add_address4(&mut batch, index, network.host4);
    add_neighbour(&mut batch, index, AF_INET, &network.inner4.octets(), &inner_hardware);
    if let (Some(host6), Some(inner6)) = (network.host6, network.inner6) {
        add_address6(&mut batch, index, host6);
        add_neighbour(&mut batch, index, AF_INET6, &inner6.octets(), &inner_hardware);
        if network.answers_loopback6() {
            accept_loopback6(&mut batch, index);
        }
    }
    socket.execute(batch)
}

/// Sets up the inner end, through a socket of the sandbox's namespace.
pub fn make_inner(socket: &mut Socket, network: &PrivateNetwork) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    batch.message("bring eth0 up", RTM_NEWLINK, 0, &ifinfomsg(INNER, true));
    add_address4(&mut batch, INNER, network.inner4);
    add_default_route(&mut batch, AF_INET, &network.host4.octets());
    if let (Some(host6), Some(inner6)) = (network.host6, network.inner6) {
        add_address6(&mut batch, INNER, inner6);
        add_default_route(&mut batch, AF_INET6, &host6.octets());
    }
    socket.execute(batch)
}

/// Removes a link of the host, which takes 25-40 ms; for one that outlived its namespace.
pub fn remove(socket: &mut Socket, name: &str) -> crate::Result<()> {
    let mut batch = Batch::new();
    batch.message("delete the link", RTM_DELLINK, 0, &ifinfomsg(0, false));
    batch.text(IFLA_IFNAME, name);
    match socket.execute(batch) {
        Err(refusal) if refusal.errno.0 == libc::ENODEV => Ok(()),
        result => result.map_err(|refusal| worded(refusal, &format!(" {name}"))),
    }
}

/// The attributes of one end of the pair. A veth uses one queue anyway; specified here, it keeps
/// the kernel from first creating one per CPU and then waiting 0.3-4 ms for an RCU grace period to
/// drop them.
fn end_of_link(batch: &mut Batch, name: &str, mtu: u32, hardware: [u8; 6]) {
    batch.text(IFLA_IFNAME, name);
    batch.u32(IFLA_MTU, mtu);
    batch.attr(IFLA_ADDRESS, &hardware);
    batch.u32(IFLA_NUM_TX_QUEUES, 1);
    batch.u32(IFLA_NUM_RX_QUEUES, 1);
}

fn add_address4(batch: &mut Batch, index: u32, address: Ipv4Addr) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.message("add an IPv4 address", RTM_NEWADDR, flags, &ifaddrmsg(AF_INET, 31, index));
    batch.attr(IFA_LOCAL, &address.octets());
    batch.attr(IFA_ADDRESS, &address.octets());
}

/// Without duplicate address detection, which would make the address unusable for the first second:
/// there are only two addresses on this link and both are ours.
fn add_address6(batch: &mut Batch, index: u32, address: Ipv6Addr) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.message("add an IPv6 address", RTM_NEWADDR, flags, &ifaddrmsg(AF_INET6, 127, index));
    batch.attr(IFA_LOCAL, &address.octets());
    batch.attr(IFA_ADDRESS, &address.octets());
    batch.u32(IFA_FLAGS, IFA_F_NODAD);
}

fn add_neighbour(batch: &mut Batch, index: u32, family: i32, address: &[u8], hardware: &[u8]) {
    // struct ndmsg: family, padding (3), interface index (4), state (2), flags, type.
    let mut fixed = [0u8; 12];
    fixed[0] = family as u8;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.message("add a neighbour", RTM_NEWNEIGH, flags, &fixed);
    batch.attr(NDA_DST, address);
    batch.attr(NDA_LLADDR, hardware);
}

fn add_default_route(batch: &mut Batch, family: i32, gateway: &[u8]) {
    let fixed = rtmsg(family, 0, RT_TABLE_MAIN, RT_SCOPE_UNIVERSE, RTN_UNICAST);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.message("add a default route", RTM_NEWROUTE, flags, &fixed);
    batch.attr(RTA_GATEWAY, gateway);
    batch.u32(RTA_OIF, INNER);
}

/// IPv6 has no route_localnet. A packet to ::1 must match a route of the very interface it came in
/// on, and the one of `lo` is not; so the replies to a client on ::1, translated back by connection
/// tracking, would be lost. A local route for ::1 on our interface lets them in. Its metric keeps
/// it behind that of `lo` for all other traffic; packets that arrive with ::1 are dropped before
/// routing.
fn accept_loopback6(batch: &mut Batch, index: u32) {
    let fixed = rtmsg(AF_INET6, 128, RT_TABLE_LOCAL, RT_SCOPE_HOST, RTN_LOCAL);
    batch.message("add a route for ::1", RTM_NEWROUTE, NLM_F_CREATE, &fixed);
    batch.attr(RTA_DST, &Ipv6Addr::LOCALHOST.octets());
    batch.u32(RTA_OIF, index);
    batch.u32(RTA_PRIORITY, 1000);
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index (4).
fn ifaddrmsg(family: i32, prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family as u8, prefix, 0, 0, a, b, c, d]
}

/// struct rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags.
fn rtmsg(family: i32, length: u8, table: u8, scope: u8, kind: u8) -> [u8; 12] {
    [family as u8, length, 0, 0, table, RTPROT_BOOT, scope, kind, 0, 0, 0, 0]
}
