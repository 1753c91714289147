//! Published ports of a container, whose network an engine has made.
//!
//! The engine gives the container an address that this host can reach: on a bridge, or by a route
//! of its own. A published port is redirected there by the table that does this for sandboxes, and
//! the same rules say who comes first. What a sandbox's own link has by itself is added here: a
//! client of the container's network, or on 127.0.0.1, comes with the host's address, and the
//! interface that leads to the container lets packets of loopback pass.
//!
//! No process stays for a container, so the ports are not held as those of a sandbox are: a server
//! on the host may bind one later, and is not reached by it then.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::symlink;
use std::str::FromStr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use libc::{IFA_ADDRESS, IFA_LOCAL, RT_SCOPE_UNIVERSE};
use serde::{Deserialize, Serialize};

use super::choose::one_link;
use super::elements::{self, AddError, Elements};
use super::refusal::{refused, route_socket, worded};
use super::table::Table;
use super::uplink::{self, Route};
use super::{conntrack, firewall, in_turn, inside, listing, port_taken, reserve};
use crate::config::annotation;
use crate::config::network::Publish;
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Journal;
use crate::journal::resource::{Owner, Resource};
use crate::sys::netlink::{Refusal, Socket, attribute};

/// The ports that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Each of them.
    pub publish: Vec<Publish>,
}

/// Where they lead, as a symbolic link in the owner's directory records it before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    four: Ipv4Network,
    six: Option<Ipv6Network>,
    /// The inode of the network namespace: who has it shares the ports.
    namespace: u64,
}

/// The name of that link.
const MARK: &str = "ports";

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.namespace, self.four)?;
        self.six.map_or(Ok(()), |six| write!(f, " {six}"))
    }
}

impl FromStr for Destination {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Destination, ()> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(());
        let namespace = word()?.parse().map_err(drop)?;
        let four = word()?.parse().map_err(drop)?;
        let six = words.next().map(|text| text.parse().map_err(drop)).transpose()?;
        Ok(Destination { four, six, namespace })
    }
}

impl Destination {
    /// Where the process is.
    fn of(pid: i32) -> Result<Destination> {
        let namespace = inside::own_namespace(pid)?.ok_or_else(|| {
            Error::new("the container shares the host's network")
                .hint("its ports are the host's: leave the annotation out")
        })?;
        let mut inside = inside::route_socket_of(pid)?;
        let (mut four, mut six) = (None, None);
        for (address, length) in addresses(&mut inside).map_err(|r| worded(r, ""))? {
            match address {
                IpAddr::V4(address) => four = four.or(Ipv4Network::new(address, length).ok()),
                IpAddr::V6(address) => six = six.or(Ipv6Network::new(address, length).ok()),
            }
        }
        let four = four.ok_or_else(|| {
            Error::new("the container has no IPv4 address")
                .hint("the engine must set up its network beforehand or by a prestart hook")
        })?;
        Ok(Destination { four, six, namespace })
    }

    /// What the owner's directory says.
    pub fn marked(journal: &Journal, id: &str) -> Result<Option<Destination>> {
        let path = journal.file(id, MARK);
        match fs::read_link(&path) {
            Ok(text) => match text.to_string_lossy().parse() {
                Ok(destination) => Ok(Some(destination)),
                Err(()) => Err(Error::new(format!("{}: not a destination", path.display()))),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()), &error)),
        }
    }

    fn mark(&self, owner: &Owner) -> Result<()> {
        let path = owner.file(MARK);
        symlink(self.to_string(), &path)
            .map_err(|e| Error::io(format!("write {}", path.display()), &e))
    }

    /// The interface by which this host reaches it.
    fn way(&self) -> Result<String> {
        let mut socket = route_socket()?;
        let address = self.inner4();
        let (route, _) = uplink::routes(&mut socket, address, None).map_err(|r| worded(r, ""))?;
        let link = match route {
            Route::Known { link, .. } if link.is_some() => link,
            _ => {
                return Err(Error::new(format!("no route of this host leads to {address}"))
                    .hint("a port leads to an address on a bridge or a link of this host"));
            }
        };
        let link = one_link(&mut socket, link)?;
        link.ok_or_else(|| Error::new("a link went away meanwhile"))
    }

    fn inner4(&self) -> Ipv4Addr {
        self.four.ip()
    }

    fn inner6(&self) -> Option<Ipv6Addr> {
        self.six.map(|six| six.ip())
    }

    /// Who has the elements: as a comment it has at most 250 bytes.
    fn owner(&self, id: &str) -> String {
        format!("{} {:.200}", self.namespace, id)
    }
}

impl Ports {
    /// Those that a container's annotations ask for.
    ///
    /// # Errors
    /// A value is invalid, or the caller is not root.
    pub fn of_container(annotations: &BTreeMap<String, String>) -> Result<Option<Ports>> {
        let publish = annotation::publish(annotations)?;
        if !publish.is_empty() && !facts::privileged() {
            return Err(Error::new(format!("annotation {}: needs root", annotation::PUBLISH))
                .hint("without root, engines publish ports themselves, e.g. podman run -p"));
        }
        Ok((!publish.is_empty()).then_some(Ports { publish }))
    }

    /// What they are in the table, for the owner of this name.
    pub fn with_entry<T>(
        &self,
        destination: &Destination,
        id: &str,
        run: impl FnOnce(Elements) -> T,
    ) -> T {
        run(Elements {
            inner4: destination.inner4(),
            inner6: destination.inner6(),
            publish: &self.publish,
            internal: false,
            reaches: &Default::default(),
            owner: &destination.owner(id),
            container: Some((destination.four, destination.six)),
        })
    }

    fn check(&self, destination: &Destination) -> Result<()> {
        let beyond = |publish: &&Publish| publish.host.is_some_and(|host| host.is_ipv6());
        match self.publish.iter().find(beyond) {
            Some(publish) if destination.six.is_none() => {
                Err(Error::new(format!("-p {publish}: the container has no IPv6 address")))
            }
            _ => Ok(()),
        }
    }

    /// Whether another container of the same network has these ports: those of a pod share it, the
    /// first has them, and the others may ask for the same. What has another network with the same
    /// address is gone: its elements are removed.
    fn are_there(&self, socket: &mut Socket, destination: &Destination) -> Result<bool> {
        let address = destination.inner4();
        let Some(other) = elements::container_at(socket, address).map_err(refused)? else {
            return Ok(false);
        };
        let (namespace, id) = other.split_once(' ').unwrap_or_default();
        if namespace != destination.namespace.to_string() {
            let six = destination.inner6();
            elements::purge_container(socket, address, six).map_err(refused)?;
            return Ok(false);
        }
        match self.with_entry(destination, id, |entry| entry.missing(socket)).map_err(refused)? {
            0 => Ok(true),
            _ => Err(Error::new(format!("container {id} of the same network publishes others"))
                .hint("give all ports to the first container")),
        }
    }

    fn add(&self, owner: &Owner, destination: &Destination, way: &str) -> Result<()> {
        // Only while they are added: see above.
        let _reserved = reserve(&self.publish, destination.six.is_some())?;
        let (_, opened) = in_turn(owner.journal, |socket| {
            if self.are_there(socket, destination)? {
                return Ok(Vec::new());
            }
            // Only now: a table that was lost is refilled with the ports of those that have a mark.
            destination.mark(owner)?;
            let beyond = self.publish.iter().any(|publish| !publish.is_loopback());
            let mut closed = uplink::closed(&[], beyond, destination.six.is_some())?;
            closed.extend(uplink::without_localnet(way));
            self.with_entry(destination, owner.id, |entry| entry.add(socket, &closed, true))
                .map_err(|error| match error {
                    AddError::AddressTaken => Error::new(format!(
                        "address {}: another container has ports there",
                        destination.inner4()
                    )),
                    AddError::PortTaken(index) => port_taken(&self.publish[index]),
                    AddError::Refused(refusal) => refused(refusal),
                })?;
            conntrack::forget(socket, &self.publish, destination.inner4(), destination.inner6())
                .map_err(|r| worded(r, ""))?;
            Ok(closed)
        })?;
        // Only now, so that other traffic does not pass even for a moment.
        opened.iter().try_for_each(uplink::Opened::open)
    }

    /// Releases what the mark leads to, when the record is lost.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(owner: &Owner) -> Result<()> {
        let Some(destination) = Destination::marked(owner.journal, owner.id)? else {
            return Ok(());
        };
        let Some(mut table) = Table::find()? else { return Ok(()) };
        let there =
            elements::container_at(&mut table.socket, destination.inner4()).map_err(refused)?;
        if there == Some(destination.owner(owner.id)) {
            let six = destination.inner6();
            elements::purge_container(&mut table.socket, destination.inner4(), six)
                .map_err(refused)?;
        }
        table.close_released()
    }
}

impl Resource for Ports {
    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        let connect = || {
            let destination = Destination::of(pid)?;
            self.check(&destination)?;
            let way = destination.way()?;
            self.add(owner, &destination, &way)
        };
        connect().map_err(|error| error.within("annotation dev.garth.publish"))
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        let Some(destination) = Destination::marked(owner.journal, owner.id)? else {
            // Nothing is ours but perhaps a table that was just made; who may not look for it made none.
            return Table::find().ok().flatten().map_or(Ok(()), Table::close_released);
        };
        let Some(mut table) = Table::find()? else { return Ok(()) };
        let remove = |entry: Elements| entry.remove(&mut table.socket);
        self.with_entry(&destination, owner.id, remove).map_err(refused)?;
        let six = destination.inner6();
        conntrack::forget(&mut table.socket, &self.publish, destination.inner4(), six)
            .map_err(|r| worded(r, ""))?;
        table.close_released()
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let Some(destination) = Destination::marked(owner.journal, owner.id)? else {
            return Ok(Vec::new());
        };
        let there = elements::container_at(&mut firewall::socket()?, destination.inner4());
        let ours = there.map_err(refused)? == Some(destination.owner(owner.id));
        Ok(ours
            .then(|| format!("firewall elements of {}", destination.inner4()))
            .into_iter()
            .collect())
    }

    fn lacks(&self, owner: &Owner) -> Result<Vec<String>> {
        let Some(destination) = Destination::marked(owner.journal, owner.id)? else {
            return Ok(Vec::new());
        };
        let mut socket = firewall::socket()?;
        let missing = self.with_entry(&destination, owner.id, |entry| entry.missing(&mut socket));
        Ok(match missing.map_err(refused)? {
            0 => Vec::new(),
            _ => vec![format!("firewall elements of {} missing", destination.inner4())],
        })
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        let line = |publish: &Publish| format!("publish {publish} at the container's address");
        self.publish.iter().map(line).collect()
    }
}

/// The addresses of global scope in the socket's namespace, with the lengths of their prefixes.
fn addresses(socket: &mut Socket) -> std::result::Result<Vec<(IpAddr, u8)>, Refusal> {
    let mut found = Vec::new();
    listing::addresses(socket, "list the addresses", |head, rest| {
        if head[3] != RT_SCOPE_UNIVERSE {
            return;
        }
        // On a link with a peer, the other's; IFA_LOCAL is its own then.
        let own = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS));
        let address = own.and_then(|bytes| match bytes.len() {
            4 => bytes.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            _ => bytes.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        });
        found.extend(address.map(|address| (address, head[1])));
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_as_it_was_written() {
        for text in ["4026531840 10.88.0.5/16", "1 192.0.2.1/32 fd00::5/64"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1 10.88.0.5/33", "x 10.88.0.5/16", "1 10.88.0.5/16 fd00::5/129"] {
            assert!(text.parse::<Destination>().is_err(), "{text:?}");
        }
    }
}
