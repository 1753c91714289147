//! The host's ends of the links that an engine has made for a container.
//!
//! Engines set up the network themselves, each in its own way. What they have in common is a veth
//! pair with one end in the container's network namespace, and the kernel tells which the other end
//! is: its index (IFLA_LINK), and its namespace (IFLA_LINK_NETNSID, kernel 4.0).

use std::os::unix::fs::MetadataExt;

use libc::{
    IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU, NLM_F_DUMP, RTM_GETLINK,
    RTM_GETNSID,
};

use super::tc;
use crate::error::{Error, Result};
use crate::network::HostEnd;
use crate::network::link::ifinfomsg;
use crate::network::refusal::{self, route_socket};
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};
use crate::sys::netns;

// linux/if_link.h, linux/net_namespace.h; not in libc.
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;

/// A network device inside.
struct Inner {
    name: String,
    kind: String,
    peer: Option<u32>,
    /// The number by which its namespace knows that of the peer; `None`: it is the same one.
    peer_namespace: Option<u32>,
}

/// The host's end of every link in process `pid`'s network namespace.
///
/// # Errors
/// A network device has no end here, or there is no network device at all: then no rate could be
/// enforced.
pub fn ends_of(pid: i32) -> Result<Vec<HostEnd>> {
    let refuse = |why: &str| Error::new(why.to_owned());
    if namespace(pid)? == namespace_here()? {
        return Err(refuse(
            "the container shares the host's network, which cannot be limited per container",
        )
        .hint("use a separate network for the container"));
    }
    let own = std::process::id();
    let mut inside = netns::in_netns_of(pid, route_socket)
        .map_err(|errno| Error::os("enter the container's network namespace", errno))??;
    let here = number_of(&mut inside, own).map_err(|r| worded(r, ""))?;
    let links = list(&mut inside).map_err(|r| worded(r, ""))?;
    if links.is_empty() {
        return Err(refuse("the container has no network device but loopback")
            .hint("the engine must set up its network beforehand or by a prestart hook"));
    }
    let hosts = all(&mut route_socket()?).map_err(|r| worded(r, ""))?;
    let mut ends = Vec::new();
    for link in links {
        let end = link.peer.and_then(|peer| hosts.iter().find(|end| end.index == peer));
        match end {
            // The same link index may exist in several namespaces.
            Some(end) if link.kind == "veth" && here.is_some() && link.peer_namespace == here => {
                ends.push(end.clone());
            }
            _ => {
                let Inner { name, kind, .. } = link;
                let what = if kind.is_empty() { "not a veth" } else { &kind };
                return Err(refuse(&format!(
                    "{name} of the container ({what}) has no peer on this host"
                ))
                .hint("rates are enforced at the host's end of a veth pair"));
            }
        }
    }
    Ok(ends)
}

fn namespace(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/ns/net");
    let file = std::fs::metadata(&path);
    file.map(|file| file.ino()).map_err(|e| Error::io(format!("stat {path}"), &e))
}

fn namespace_here() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    let file = std::fs::metadata(path);
    file.map(|file| file.ino()).map_err(|e| Error::io(format!("stat {path}"), &e))
}

/// The number by which the socket's namespace knows that of process `pid`, if it has one.
fn number_of(socket: &mut Socket, pid: u32) -> std::result::Result<Option<u32>, Refusal> {
    let mut batch = Batch::new();
    // struct rtgenmsg is one byte.
    batch.message("look up the id of a network namespace", RTM_GETNSID, 0, &[0]);
    batch.u32(NETNSA_PID, pid);
    let mut found = Ok(None);
    socket.exchange(batch, |_, answer| match answer {
        Ok((_, body)) => {
            let number = body.get(4..).and_then(|body| attribute(body, NETNSA_NSID));
            found = Ok(number.and_then(|n| tc::word(n, 0)).filter(|n| *n as i32 >= 0));
        }
        Err(refusal) => found = Err(refusal),
    })?;
    found
}

/// All links except loopback.
fn list(socket: &mut Socket) -> std::result::Result<Vec<Inner>, Refusal> {
    let mut found = Vec::new();
    dump(socket, |kind, _, attributes| {
        if kind == libc::ARPHRD_LOOPBACK {
            return;
        }
        let info = attribute(attributes, IFLA_LINKINFO);
        let kind = info.and_then(|info| attribute(info, IFLA_INFO_KIND)).map(text);
        found.push(Inner {
            name: attribute(attributes, IFLA_IFNAME).map(text).unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            peer: attribute(attributes, IFLA_LINK).and_then(|value| tc::word(value, 0)),
            peer_namespace: attribute(attributes, IFLA_LINK_NETNSID)
                .and_then(|value| tc::word(value, 0)),
        });
    })?;
    // Every new namespace has these if their modules are loaded, and no traffic passes through
    // them: they are not the container's links.
    found.retain(|link| {
        !matches!(
            &*link.kind,
            "ipip" | "gre" | "gretap" | "erspan" | "sit" | "ip6tnl" | "ip6gre" | "vti" | "vti6"
        )
    });
    Ok(found)
}

/// All links of the socket's namespace.
pub fn all(socket: &mut Socket) -> std::result::Result<Vec<HostEnd>, Refusal> {
    let mut found = Vec::new();
    dump(socket, |_, index, attributes| {
        found.push(HostEnd {
            name: attribute(attributes, IFLA_IFNAME).map(text).unwrap_or_default(),
            index,
            mtu: attribute(attributes, IFLA_MTU).and_then(|v| tc::word(v, 0)).unwrap_or(1500),
        });
    })?;
    Ok(found)
}

/// Calls `each` with the type (ARPHRD_*), index and attributes of each link.
fn dump(
    socket: &mut Socket,
    mut each: impl FnMut(u16, u32, &[u8]),
) -> std::result::Result<(), Refusal> {
    let mut batch = Batch::new();
    batch.message("list links", RTM_GETLINK, NLM_F_DUMP, &ifinfomsg(0, false));
    let mut refused = Ok(());
    socket.exchange(batch, |_, answer| match answer {
        Ok((_, body)) => {
            // struct ifinfomsg: family, padding, type (2), index (4), flags (4), change (4).
            if let (Some(kind), Some(index), Some(attributes)) =
                (body.get(2..4), tc::word(body, 4), body.get(16..))
            {
                each(u16::from_ne_bytes([kind[0], kind[1]]), index, attributes);
            }
        }
        Err(refusal) => refused = Err(refusal),
    })?;
    refused
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// `set the rate of garth0ae70001: the kernel's words: EINVAL (Invalid argument)`.
pub(super) fn worded(refusal: Refusal, object: &str) -> Error {
    let error = refusal::plain(refusal, object);
    match error.errno().map_or(0, |errno| errno.0) {
        libc::EPERM | libc::EACCES => error.hint("a rate needs CAP_NET_ADMIN"),
        // The kernel's answer for a discipline, filter, action or link type that it does not have.
        libc::ENOENT | libc::EOPNOTSUPP => {
            error.hint("the kernel needs sch_tbf, sch_ingress, cls_u32, act_mirred and ifb; sch_htb for groups")
        }
        _ => error,
    }
}
