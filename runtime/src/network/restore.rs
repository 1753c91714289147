//! What no single sandbox is responsible for: a firewall table that was lost, and forwarding.

use serde::Deserialize;

use super::elements::{self, AddError, Elements};
use super::ports::{Destination, Ports};
use super::refusal::{refused, route_socket, worded};
use super::table::Table;
use super::{PrivateNetwork, uplink};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::netlink::Socket;

/// The part of a record that describes the network.
#[derive(Deserialize)]
struct Record {
    resources: Resources,
}

#[derive(Deserialize)]
struct Resources {
    network: Option<PrivateNetwork>,
    #[serde(default)]
    ports: Option<Ports>,
}

/// One with elements in the table.
enum Live {
    Sandbox(PrivateNetwork),
    Container(String, Ports, Destination),
}

impl Live {
    fn id(&self) -> &str {
        match self {
            Live::Sandbox(network) => &network.id,
            Live::Container(id, ..) => id,
        }
    }

    fn with_entry<T>(&self, run: impl FnOnce(Elements) -> T) -> T {
        match self {
            Live::Sandbox(network) => run(network.entry(&network.owner())),
            Live::Container(id, ports, destination) => ports.with_entry(destination, id, run),
        }
    }
}

/// The running sandboxes on record with a network, and containers with ports. Those that are just
/// starting take care of themselves.
fn live(journal: &Journal) -> Result<Vec<Live>> {
    let mut live = Vec::new();
    let sandboxes = Journal::at(journal.root());
    for part in [sandboxes.containers(), sandboxes] {
        for id in part.ids()? {
            if part.open_process(&id)?.is_none() {
                continue;
            }
            // `ps` reports a record that cannot be read.
            let record = part.read(&id).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let Some(Record { resources }) = record else { continue };
            live.extend(resources.network.map(Live::Sandbox));
            if let (Some(ports), Some(destination)) =
                (resources.ports, Destination::marked(&part, &id)?)
            {
                live.push(Live::Container(id, ports, destination));
            }
        }
    }
    Ok(live)
}

/// Puts the elements of what runs on record of `journal` back into the table.
pub fn fill(socket: &mut Socket, journal: &Journal) -> Result<()> {
    live(journal)?.iter().try_for_each(|one| put_back(socket, one))
}

fn put_back(socket: &mut Socket, one: &Live) -> Result<()> {
    match one.with_entry(|entry| entry.add(socket, &[], false)) {
        Ok(()) => Ok(()),
        Err(AddError::Refused(refusal)) => Err(refused(refusal)),
        Err(AddError::AddressTaken | AddError::PortTaken(_)) => {
            Err(Error::new(format!("restore the ports of {}: another uses one", one.id())))
        }
    }
}

/// Recreates the table and adds what is missing, or removes it if no sandbox needs it: for `garth
/// gc`. Returns what was done.
///
/// # Errors
/// Something could not be done.
pub fn mend(journal: &Journal) -> Result<Vec<String>> {
    let live = live(journal)?;
    let mut table = match live.is_empty() {
        true => match Table::find()? {
            None => return Ok(Vec::new()),
            Some(table) => table,
        },
        false => Table::make()?,
    };
    if live.is_empty() && elements::is_empty(&mut table.socket).map_err(refused)? {
        table.dissolve()?;
        return Ok(vec!["firewall table inet garth".to_owned()]);
    }
    let mut result = Ok(());
    for one in &live {
        let missing = one.with_entry(|entry| entry.missing(&mut table.socket)).map_err(refused);
        result = result.and(match missing {
            Ok(0) => Ok(()),
            Ok(_) => put_back(&mut table.socket, one),
            Err(error) => Err(error),
        });
    }
    let result = result.and_then(|()| forward(&mut table.socket));
    table.close()?;
    result.map(|()| Vec::new())
}

/// What the holder of the table runs: removes the table when no sandbox is left; otherwise turns on
/// forwarding on the interface of the host's current way out.
///
/// # Errors
/// Something could not be done.
pub fn tend() -> Result<()> {
    let Some(mut table) = Table::find()? else { return Ok(()) };
    if elements::is_empty(&mut table.socket).map_err(refused)? {
        return table.dissolve();
    }
    let result = forward(&mut table.socket);
    table.close()?;
    result
}

fn forward(socket: &mut Socket) -> Result<()> {
    let ipv6 = elements::has_ipv6(socket).map_err(refused)?;
    let beyond = elements::publishes_beyond(socket).map_err(refused)?;
    let ways = uplink::ways_out(&mut route_socket()?, ipv6).map_err(|r| worded(r, ""))?;
    let ways: Vec<String> = ways.into_iter().map(|link| link.name).collect();
    let closed = uplink::closed(&ways, beyond, ipv6)?;
    elements::record_opened(socket, &closed).map_err(refused)?;
    closed.iter().try_for_each(uplink::Opened::open)
}
