//! The host's ends of the links that an engine has created for a container.
//!
//! Engines set up the network themselves, each in its own way. What they have in common is a veth
//! pair with one end in the container's network namespace, and the kernel identifies the other end:
//! its index (IFLA_LINK) and its namespace (IFLA_LINK_NETNSID, Linux 4.0).

use libc::RTM_GETNSID;

use super::tc;
use crate::error::{Error, Result};
use crate::network::listing::{self, Link};
use crate::network::refusal::{self, route_socket};
use crate::network::{HostEnd, inside};
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};

// linux/net_namespace.h; not in libc.
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;

/// The host's end of every link in process `pid`'s network namespace.
///
/// # Errors
/// A network device has no end on the host, or there is no network device at all: then no rate
/// could be enforced.
pub fn ends_of(pid: i32) -> Result<Vec<HostEnd>> {
    let refuse = |why: &str| Error::new(why.to_owned());
    if inside::own_namespace(pid)?.is_none() {
        return Err(refuse(
            "the container shares the host's network, which cannot be limited per container",
        )
        .hint("use a separate network for the container"));
    }
    let own = std::process::id();
    let mut inside = inside::route_socket_of(pid)?;
    let here = number_of(&mut inside, own).map_err(|r| worded(r, ""))?;
    let links = list(&mut inside).map_err(|r| worded(r, ""))?;
    if links.is_empty() {
        return Err(refuse("the container has no network device but loopback")
            .hint("the engine must set up its network beforehand or by a prestart hook"));
    }
    let hosts = listing::all(&mut route_socket()?).map_err(|r| worded(r, ""))?;
    let mut ends = Vec::new();
    for link in links {
        let end = link.peer.and_then(|peer| hosts.iter().find(|end| end.index == peer));
        match end {
            // The same link index may exist in several namespaces.
            Some(end) if link.kind == "veth" && here.is_some() && link.peer_namespace == here => {
                ends.push(end.end());
            }
            _ => {
                let Link { name, kind, .. } = link;
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

/// The id by which the socket's namespace knows that of process `pid`, if it has one.
fn number_of(socket: &mut Socket, pid: u32) -> std::result::Result<Option<u32>, Refusal> {
    let mut batch = Batch::new();
    // struct rtgenmsg is one byte.
    batch.message("look up the id of a network namespace", RTM_GETNSID, 0, &[0]);
    batch.u32(NETNSA_PID, pid);
    let mut found = None;
    socket.ask(batch, &[], |body| {
        let number = body.get(4..).and_then(|body| attribute(body, NETNSA_NSID));
        found = number.and_then(|n| tc::word(n, 0)).filter(|n| *n as i32 >= 0);
    })?;
    Ok(found)
}

/// All links that a container's traffic may pass.
fn list(socket: &mut Socket) -> std::result::Result<Vec<Link>, Refusal> {
    let mut found = listing::all(socket)?;
    // Every new namespace has these if their modules are loaded, and no traffic passes through
    // them: they are not the container's links.
    found.retain(|link| {
        !link.loopback
            && !matches!(
                &*link.kind,
                "ipip" | "gre" | "gretap" | "erspan" | "sit" | "ip6tnl" | "ip6gre" | "vti" | "vti6"
            )
    });
    Ok(found)
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
