//! What no single sandbox is responsible for: a firewall table that was lost, and forwarding.

use serde::Deserialize;

use super::firewall::{self, AddError};
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
}

/// The networks of the running sandboxes on record. Those that are just starting take care of
/// themselves.
fn live(journal: &Journal) -> Result<Vec<PrivateNetwork>> {
    let mut networks = Vec::new();
    for id in journal.ids()? {
        if journal.open_process(&id)?.is_none() {
            continue;
        }
        // `ps` reports a record that cannot be read.
        let record = journal.read(&id).ok().and_then(|text| serde_json::from_slice(&text).ok());
        networks.extend(record.and_then(|record: Record| record.resources.network));
    }
    Ok(networks)
}

/// Puts the elements of the running sandboxes of `journal` back into the table.
pub fn fill(socket: &mut Socket, journal: &Journal) -> Result<()> {
    live(journal)?.iter().try_for_each(|network| put_back(socket, network))
}

fn put_back(socket: &mut Socket, network: &PrivateNetwork) -> Result<()> {
    match network.entry(&network.owner()).add(socket, &[], false) {
        Ok(()) => Ok(()),
        Err(AddError::Refused(refusal)) => Err(refused(refusal)),
        Err(AddError::AddressTaken | AddError::PortTaken(_)) => Err(Error::new(format!(
            "restore the ports of {}: another sandbox uses one",
            network.id
        ))),
    }
}

/// Recreates the table and adds what is missing, or removes it if no sandbox needs it: for `garth
/// gc`. Returns what was done.
///
/// # Errors
/// Something could not be done.
pub fn mend(journal: &Journal) -> Result<Vec<String>> {
    let networks = live(journal)?;
    let mut table = match networks.is_empty() {
        true => match Table::find()? {
            None => return Ok(Vec::new()),
            Some(table) => table,
        },
        false => Table::make()?,
    };
    if networks.is_empty() && firewall::list(&mut table.socket).map_err(refused)?.is_empty() {
        table.dissolve()?;
        return Ok(vec!["firewall table inet garth".to_owned()]);
    }
    let mut result = Ok(());
    for network in &networks {
        let missing = network.entry(&network.owner()).missing(&mut table.socket).map_err(refused);
        result = result.and(match missing {
            Ok(0) => Ok(()),
            Ok(_) => put_back(&mut table.socket, network),
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
    if firewall::list(&mut table.socket).map_err(refused)?.is_empty() {
        return table.dissolve();
    }
    let result = forward(&mut table.socket);
    table.close()?;
    result
}

fn forward(socket: &mut Socket) -> Result<()> {
    let ipv6 = firewall::has_ipv6(socket).map_err(refused)?;
    let beyond = firewall::publishes_beyond(socket).map_err(refused)?;
    let ways = uplink::ways_out(&mut route_socket()?, ipv6).map_err(|r| worded(r, ""))?;
    let ways: Vec<String> = ways.into_iter().map(|link| link.name).collect();
    let closed = uplink::closed(&ways, beyond, ipv6)?;
    firewall::record_opened(socket, &closed).map_err(refused)?;
    closed.iter().try_for_each(uplink::Opened::open)
}
