//! The host's own interfaces: the way out, and forwarding on them.
//!
//! Replies to a sandbox, and connections to its published ports, enter the host on one of its
//! interfaces, and are forwarded only if forwarding is on *there*. Turning it on for the whole host
//! would make it a router for all its neighbours; so it is turned on only for the interfaces that
//! need it, and other traffic that enters there is dropped as before (the firewall's set `opened`).
//!
//! IPv4 has a switch for each interface. IPv6 has one since Linux 6.17 (`force_forwarding`). Before
//! that, there is only `all/forwarding`, which also makes every interface ignore router
//! advertisements unless its `accept_ra` is 2: that is written first.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{RTA_DST, RTA_MULTIPATH, RTA_OIF, RTM_F_FIB_MATCH, RTM_GETROUTE};

use super::listing::{self, Link, u32_of};
use super::names::{IFB_PREFIX, LINK_PREFIX};
use crate::sys::file::read_kernel;
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};
use crate::{Error, Result};

/// How the host would reach an address now.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Not at all.
    None,
    /// By its default route, through these links (interface indexes). The two halves of the address
    /// space that VPNs use to override a default route count as one.
    Default(Vec<u32>),
    /// By a more specific route, so the address is in use.
    Known {
        /// The prefix.
        prefix: String,
        /// The link's interface index.
        link: Option<u32>,
    },
}

/// The routes that cover `v4` and `v6`, in one request (RTM_F_FIB_MATCH, kernel 4.13).
pub fn routes(
    socket: &mut Socket,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
) -> Result<(Route, Route), Refusal> {
    let mut batch = Batch::new();
    let mut ask = |family: i32, address: &[u8]| {
        let mut fixed = [0u8; 12];
        fixed[0] = family as u8;
        fixed[1] = 8 * address.len() as u8;
        fixed[8..].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
        batch.message("look up a route", RTM_GETROUTE, 0, &fixed);
        batch.attr(RTA_DST, address);
    };
    ask(libc::AF_INET, &v4.octets());
    if let Some(v6) = v6 {
        ask(libc::AF_INET6, &v6.octets());
    }
    let mut found = [Route::None, Route::None];
    socket.exchange(batch, |index, answer| {
        // A refusal means that there is no route, or one of type "unreachable".
        if let Ok((_, body)) = answer {
            found[index] = read_route(body);
        }
    })?;
    let [four, six] = found;
    Ok((four, six))
}

fn read_route(body: &[u8]) -> Route {
    let (Some(&family), Some(&length)) = (body.first(), body.get(1)) else { return Route::None };
    let attributes = body.get(12..).unwrap_or_default();
    let mut links: Vec<u32> = attribute(attributes, RTA_OIF).and_then(u32_of).into_iter().collect();
    let mut hops = attribute(attributes, RTA_MULTIPATH).unwrap_or_default();
    // struct rtnexthop: length (2), flags, hops, interface index (4).
    while let (Some(size), Some(index)) = (hops.first_chunk::<2>(), hops.get(4..8).and_then(u32_of))
    {
        links.push(index);
        let size = usize::from(u16::from_ne_bytes(*size)).max(8).next_multiple_of(4);
        hops = hops.get(size..).unwrap_or_default();
    }
    if length <= 1 {
        return Route::Default(links);
    }
    let address = attribute(attributes, RTA_DST).map(|d| match i32::from(family) {
        libc::AF_INET => d.first_chunk::<4>().map(|o| IpAddr::from(*o)),
        _ => d.first_chunk::<16>().map(|o| IpAddr::from(*o)),
    });
    let prefix = match address.flatten() {
        Some(address) => format!("{address}/{length}"),
        None => format!("a prefix of {length} bits"),
    };
    Route::Known { prefix, link: links.first().copied() }
}

/// The interfaces through which the host would reach the rest of the world now.
pub fn ways_out(socket: &mut Socket, ipv6: bool) -> Result<Vec<Link>, Refusal> {
    // Unassigned addresses, to which no specific route leads (RFC 7600, RFC 4291).
    const NOWHERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
    const NOWHERE6: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let (four, six) = routes(socket, NOWHERE4, ipv6.then_some(NOWHERE6))?;
    let mut indexes = Vec::new();
    for route in [four, six] {
        match route {
            Route::Default(links) => indexes.extend(links),
            Route::Known { link, .. } => indexes.extend(link),
            Route::None => {}
        }
    }
    match indexes.is_empty() {
        true => Ok(Vec::new()),
        false => listing::of(socket, &indexes),
    }
}

/// A forwarding switch that is off and has to be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// IPv4 on an interface.
    Ipv4(String),
    /// IPv6 on an interface.
    Ipv6(String),
    /// IPv6 on all interfaces, where the kernel has no other switch.
    Ipv6Everywhere,
    /// Not forwarding: packets of loopback addresses may leave by an interface, and answers enter.
    Localnet(String),
}

impl std::fmt::Display for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Opened::Ipv4(name) => write!(f, "IPv4 forwarding on {name}"),
            Opened::Ipv6(name) => write!(f, "IPv6 forwarding on {name}"),
            Opened::Ipv6Everywhere => write!(f, "IPv6 forwarding"),
            Opened::Localnet(name) => write!(f, "route_localnet on {name}"),
        }
    }
}

impl Opened {
    /// The firewall's set, and the key in it, that still keep other traffic out.
    pub fn element(&self) -> (&'static str, Vec<u8>) {
        let (set, family, name) = match self {
            Opened::Ipv4(name) => ("opened", libc::NFPROTO_IPV4, name),
            Opened::Ipv6(name) => ("opened", libc::NFPROTO_IPV6, name),
            Opened::Localnet(name) => ("localnet", libc::NFPROTO_IPV4, name),
            Opened::Ipv6Everywhere => {
                return ("opened_everywhere", vec![libc::NFPROTO_IPV6 as u8, 0, 0, 0]);
            }
        };
        let mut key = vec![family as u8, 0, 0, 0];
        key.extend(name.as_bytes());
        key.resize(4 + libc::IFNAMSIZ, 0);
        (set, key)
    }

    /// The switch for an element from [`Opened::element`].
    pub fn of_element(set: &str, key: &[u8]) -> Option<Opened> {
        let name = key.get(4..).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        match (set, i32::from(*key.first()?), name.is_empty()) {
            ("localnet", _, false) => Some(Opened::Localnet(name)),
            (_, libc::NFPROTO_IPV4, false) => Some(Opened::Ipv4(name)),
            (_, libc::NFPROTO_IPV6, false) => Some(Opened::Ipv6(name)),
            (_, libc::NFPROTO_IPV6, true) => Some(Opened::Ipv6Everywhere),
            _ => None,
        }
    }

    /// Turns the switch off again: the last sandbox is gone. Not if the host has meanwhile been
    /// made a router on all its interfaces, as engines do when they start.
    pub fn shut(&self) -> Result<()> {
        let (all, path) = match self {
            Opened::Ipv4(name) => ("ipv4", conf("ipv4", name, "forwarding")),
            Opened::Ipv6(name) => ("", conf("ipv6", name, "force_forwarding")),
            Opened::Ipv6Everywhere => ("", conf("ipv6", "all", "forwarding")),
            Opened::Localnet(name) => ("", conf("ipv4", name, "route_localnet")),
        };
        if !all.is_empty() && read(&conf(all, "all", "forwarding")).is_ok_and(|v| v == "1") {
            return Ok(());
        }
        match fs::write(&path, "0") {
            // The interface went away.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(format!("write 0 to {path}"), &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Turns the switch on.
    pub fn open(&self) -> Result<()> {
        match self {
            Opened::Ipv4(name) => write(&conf("ipv4", name, "forwarding"), "1"),
            Opened::Ipv6(name) => write(&conf("ipv6", name, "force_forwarding"), "1"),
            Opened::Localnet(name) => write(&conf("ipv4", name, "route_localnet"), "1"),
            Opened::Ipv6Everywhere => {
                for name in interfaces() {
                    let accept_ra = conf("ipv6", &name, "accept_ra");
                    if read(&accept_ra).is_ok_and(|value| value == "1") {
                        write(&accept_ra, "2")?;
                    }
                }
                write(&conf("ipv6", "all", "forwarding"), "1")
            }
        }
    }
}

/// Which switches are off for `ways_out` and, if ports are published beyond loopback, for every
/// interface on which a connection may come in. Reads /proc/sys/net of the thread's network
/// namespace.
pub fn closed(ways_out: &[String], published: bool, ipv6: bool) -> Result<Vec<Opened>> {
    let all;
    let names = if published {
        all = interfaces();
        all.as_slice()
    } else {
        ways_out
    };
    let is_off = |path: &str| match read(path) {
        Ok(value) => Ok(value == "0"),
        // The interface went away.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("read {path}"), &error)),
    };
    let mut off = Vec::new();
    for name in names {
        if is_off(&conf("ipv4", name, "forwarding"))? {
            off.push(Opened::Ipv4(name.clone()));
        }
    }
    if ipv6 && !names.is_empty() && is_off(&conf("ipv6", "all", "forwarding"))? {
        if fs::exists(conf("ipv6", "all", "force_forwarding")).unwrap_or(false) {
            for name in names {
                if is_off(&conf("ipv6", name, "force_forwarding"))? {
                    off.push(Opened::Ipv6(name.clone()));
                }
            }
        } else {
            off.push(Opened::Ipv6Everywhere);
        }
    }
    Ok(off)
}

/// The switch that lets a client on 127.0.0.1 reach what is behind this interface, if it is off.
pub fn without_localnet(name: &str) -> Option<Opened> {
    let value = read(&conf("ipv4", name, "route_localnet"));
    value.is_ok_and(|value| value == "0").then(|| Opened::Localnet(name.to_owned()))
}

/// The host's interfaces that do not belong to a sandbox.
fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let special = ["all", "default", "lo"];
    let ours = |n: &String| n.starts_with(LINK_PREFIX) || n.starts_with(IFB_PREFIX);
    names.filter(|n| !special.contains(&n.as_str()) && !ours(n)).collect()
}

/// Whether interfaces get IPv6 here at all.
pub fn has_ipv6() -> bool {
    read(&conf("ipv6", "default", "disable_ipv6")).is_ok_and(|value| value == "0")
}

/// Sets what a sandbox's interface needs and rtnetlink cannot express: it forwards IPv6 and ignores
/// router advertisements.
pub fn settle_ipv6(link: &str) -> Result<()> {
    write(&conf("ipv6", link, "accept_ra"), "0")?;
    match fs::write(conf("ipv6", link, "force_forwarding"), "1") {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("turn on IPv6 forwarding on {link}"), &error))
        }
        _ => Ok(()),
    }
}

fn conf(family: &str, interface: &str, key: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{interface}/{key}")
}

fn read(path: &str) -> io::Result<String> {
    Ok(read_kernel(path)?.trim_end().to_owned())
}

fn write(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| {
        let error = Error::io(format!("write {value} to {path}"), &error);
        error.hint("is /proc/sys writable here?")
    })
}
