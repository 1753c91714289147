//! Deleting UDP flows (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).
//!
//! The firewall decides where a flow goes when it sees its first packet. A UDP flow has no end, so
//! a client that keeps sending would keep reaching what was behind a port before: nothing if it was
//! not published yet, or a sandbox that is gone. So the flows to a port are deleted both at the
//! start and at the end: those that lead to the sandbox, and those that were never answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::network::{Protocol, Publish};
use crate::sys::netlink::{Batch, Refusal, Socket, attribute, attributes};

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CT_GET: u16 = 1;
const CT_DELETE: u16 = 2;
const IPS_SEEN_REPLY: u8 = 1 << 1; // linux/netfilter/nf_conntrack_common.h

/// Deletes the flows to the UDP ports in `publish` of the sandbox with these addresses. Dumps the
/// connection table, but only if there is such a port.
pub fn forget(
    socket: &mut Socket,
    publish: &[Publish],
    inner4: Ipv4Addr,
    inner6: Option<Ipv6Addr>,
) -> Result<(), Refusal> {
    let udp: Vec<&Publish> = publish.iter().filter(|p| p.protocol == Protocol::Udp).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let kind = |verb| (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | verb;
    let mut list = Batch::new();
    let header = crate::wire::nft::header(libc::AF_UNSPEC);
    list.message("list connections", kind(CT_GET), libc::NLM_F_DUMP, &header);
    let mut delete = Batch::new();
    // EINVAL: this kernel does not list connections (no nf_conntrack_netlink).
    socket.ask(list, &[libc::EINVAL], |body| {
        let Some((header, flow)) = body.split_at_checked(4) else { return };
        let Some((to, port)) = destination(flow) else { return };
        let answers = answerer(flow);
        let ours = answers.is_none()
            || answers == Some(inner4.into())
            || answers == inner6.map(IpAddr::from);
        if ours && udp.iter().any(|publish| covers(publish, to, port)) {
            delete.message("forget a connection", kind(CT_DELETE), 0, header);
            for (kind, value) in attributes(flow) {
                match kind {
                    CTA_TUPLE_ORIG => delete.attr(kind | libc::NLA_F_NESTED as u16, value),
                    CTA_ID | CTA_ZONE => delete.attr(kind, value),
                    _ => {}
                }
            }
        }
    })?;
    // Deleting a flow that has expired meanwhile fails, which is harmless.
    socket.exchange(delete, |_, _| {})
}

/// Where a UDP flow was sent to, before any translation.
fn destination(flow: &[u8]) -> Option<(IpAddr, u16)> {
    let tuple = attribute(flow, CTA_TUPLE_ORIG)?;
    let proto = attribute(tuple, CTA_TUPLE_PROTO)?;
    if attribute(proto, CTA_PROTO_NUM)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    let port = u16::from_be_bytes(attribute(proto, CTA_PROTO_DST_PORT)?.try_into().ok()?);
    Some((address(tuple, CTA_IP_V4_DST, CTA_IP_V6_DST)?, port))
}

/// The address that answers a flow; `None` if there was no reply yet.
fn answerer(flow: &[u8]) -> Option<IpAddr> {
    if attribute(flow, CTA_STATUS)?.get(3)? & IPS_SEEN_REPLY == 0 {
        return None;
    }
    address(attribute(flow, CTA_TUPLE_REPLY)?, CTA_IP_V4_SRC, CTA_IP_V6_SRC)
}

fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let ip = attribute(tuple, CTA_TUPLE_IP)?;
    let v4 = attribute(ip, v4).and_then(|a| a.first_chunk::<4>()).map(|a| IpAddr::from(*a));
    v4.or_else(|| attribute(ip, v6)?.first_chunk::<16>().map(|a| IpAddr::from(*a)))
}

fn covers(publish: &Publish, address: IpAddr, port: u16) -> bool {
    publish.host_port == port
        && publish.addresses().any(|published| {
            published == address
                || published.is_unspecified() && published.is_ipv4() == address.is_ipv4()
        })
}
