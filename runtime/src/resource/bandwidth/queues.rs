//! Setting, changing and removing the queues of one link, and reading the queues of all.

use std::collections::HashMap;

use super::ends::{has_ipv6, worded};
use super::group::Members;
use super::shape::Bucket;
use super::tc::{self, Qdisc, QueueCounter};
use crate::config::units::Rate;
use crate::config::{RateGroup, Rates};
use crate::error::{Error, Result};
use crate::network::listing::{self, Link};
use crate::network::refusal::route_socket;
use crate::network::{HostEnd, IFB_PREFIX};
use crate::sys::netlink::{Batch, Socket};

fn ifb_name(link: u32) -> String {
    format!("{IFB_PREFIX}{link:08x}")
}

/// The index of the link that an ifb of this name belongs to.
fn link_of(ifb: &str) -> Option<u32> {
    let digits = ifb.strip_prefix(IFB_PREFIX).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The existing links among these indexes.
///
/// # Errors
/// The kernel returns no answer.
pub(super) fn by_index(indexes: &[u32]) -> Result<Vec<HostEnd>> {
    let links = listing::of(&mut route_socket()?, indexes).map_err(|r| worded(r, ""))?;
    Ok(links.iter().map(Link::end).collect())
}

/// What already exists on a link.
#[derive(Debug, Default)]
struct Present {
    root: Option<Qdisc>,
    ingress: bool,
    ifb: Option<u32>,
    ifb_root: Option<Qdisc>,
}

impl Present {
    fn look(socket: &mut Socket, end: &HostEnd) -> Result<Present> {
        let ifb = tc::index_of(socket, &ifb_name(end.index)).map_err(|r| worded(r, ""))?;
        let mut present = Present { ifb, ..Present::default() };
        for qdisc in tc::qdiscs(socket).map_err(|r| worded(r, ""))? {
            match qdisc.ingress {
                true if qdisc.link == end.index => present.ingress = true,
                false if qdisc.link == end.index => present.root = Some(qdisc),
                false if Some(qdisc.link) == ifb => present.ifb_root = Some(qdisc),
                _ => {}
            }
        }
        Ok(present)
    }
}

/// Sets the rates of a new link that has no queue yet.
///
/// # Errors
/// The kernel lacks or refuses something.
pub fn begin(end: &HostEnd, rates: &Rates) -> Result<()> {
    let mut socket = route_socket()?;
    apply(&mut socket, end, rates, Present::default())
}

/// Refuses an engine's link that has another program's ingress filter.
///
/// # Errors
/// It has a filter on incoming packets.
pub(super) fn check_free(end: &HostEnd) -> Result<()> {
    match Present::look(&mut route_socket()?, end)?.ingress {
        false => Ok(()),
        true => Err(not_ours(end, "an ingress filter")),
    }
}

fn not_ours(end: &HostEnd, what: &str) -> Error {
    Error::new(format!("{} has {what} that was not set by Garth", end.name))
        .hint(format!("`tc qdisc show dev {}` shows it", end.name))
}

/// Sets the rates of a link, whatever it had before; empty rates remove the limit.
///
/// # Errors
/// The kernel lacks or refuses something, or the link has another program's queue.
pub fn change(end: &HostEnd, rates: &Rates) -> Result<()> {
    let mut socket = route_socket()?;
    let present = Present::look(&mut socket, end)?;
    let other = |what: &str| not_ours(end, what).within(format_args!("--rate {rates}"));
    if let Some(root) = present.root.as_ref().filter(|root| root.is_configured())
        && rates.down.is_some()
        && root.rate.is_none()
    {
        return Err(other(&format!("a queue ({})", root.kind)));
    }
    if rates.up.is_some() && present.ingress && present.ifb.is_none() {
        return Err(other("an ingress filter"));
    }
    apply(&mut socket, end, rates, present)
}

fn apply(socket: &mut Socket, end: &HostEnd, rates: &Rates, present: Present) -> Result<()> {
    let name = ifb_name(end.index);
    let mut batch = Batch::new();
    let root = present.root.as_ref();
    match (rates.down, root.filter(|root| root.rate.is_some())) {
        (Some(rate), _) => tc::set_tbf(&mut batch, end.index, Bucket::new(rate, end.mtu), root),
        (None, Some(ours)) => tc::remove_tbf(&mut batch, ours),
        (None, None) => {}
    }
    let Some(rate) = rates.up else {
        if present.ifb.is_some() && present.ingress {
            tc::remove_ingress(&mut batch, end.index);
        }
        socket.execute(batch).map_err(|r| worded(r, &format!(" of {}", end.name)))?;
        return match present.ifb {
            Some(ifb) => tc::delete_link(socket, ifb).map_err(|r| worded(r, &format!(" {name}"))),
            None => Ok(()),
        };
    };
    // An ifb without a redirection to it is a leftover that may be about to be deleted.
    let (ifb, root) = match present.ifb.filter(|_| present.ingress) {
        Some(ifb) => (ifb, present.ifb_root.as_ref()),
        None => (make_ifb(socket, &name)?, None),
    };
    tc::set_tbf(&mut batch, ifb, Bucket::new(rate, end.mtu), root);
    tc::bring_up(&mut batch, ifb, has_ipv6());
    if !present.ingress {
        // In one batch: never a filter without its target, nor half of the setup.
        tc::add_ingress(&mut batch, end.index);
        tc::redirect(&mut batch, end.index, tc::INGRESS_HANDLE, ifb);
    }
    let applied = socket.execute(batch).map_err(|r| worded(r, &format!(" of {}", end.name)));
    if applied.is_err() && !present.ingress {
        let mut batch = Batch::new();
        tc::remove_ingress(&mut batch, end.index);
        let _ = socket.execute(batch);
        let _ = tc::delete_link(socket, ifb);
    }
    applied
}

/// An ifb of the same name is a leftover: its link had the same index and is gone, or else it would
/// have been found.
fn make_ifb(socket: &mut Socket, name: &str) -> Result<u32> {
    let failed = |refusal| worded(refusal, &format!(" {name}"));
    match tc::make_ifb(socket, name) {
        Err(refusal) if refusal.errno.0 == libc::EEXIST => {
            if let Some(index) = tc::index_of(socket, name).map_err(failed)? {
                tc::delete_link(socket, index).map_err(failed)?;
            }
            tc::make_ifb(socket, name).map_err(failed)?;
        }
        made => made.map_err(failed)?,
    }
    let index = tc::index_of(socket, name).map_err(failed)?;
    index.ok_or_else(|| Error::new(format!("{name}: removed by another process")))
}

/// The rates of all links, and what their queues have done, read in one go.
#[derive(Debug, Default)]
pub struct Kept {
    down: HashMap<u32, (Rate, QueueCounter)>,
    up: HashMap<u32, (Rate, QueueCounter)>,
    members: Members,
}

impl Kept {
    /// Reads the rates.
    ///
    /// # Errors
    /// The kernel returns no answer.
    pub fn read() -> Result<Kept> {
        let mut socket = route_socket()?;
        let links = listing::all(&mut socket).map_err(|r| worded(r, ""))?;
        let members = Members::read(&mut socket, &links).map_err(|r| worded(r, ""))?;
        let mut kept = Kept { members, ..Kept::default() };
        let ifbs: HashMap<u32, u32> =
            links.iter().filter_map(|link| Some((link.index, link_of(&link.name)?))).collect();
        for qdisc in tc::qdiscs(&mut socket).map_err(|r| worded(r, ""))? {
            let Some(rate) = qdisc.rate else { continue };
            match ifbs.get(&qdisc.link) {
                Some(link) => kept.up.insert(*link, (rate, qdisc.queue)),
                None => kept.down.insert(qdisc.link, (rate, qdisc.queue)),
            };
        }
        Ok(kept)
    }

    /// The rates of one link.
    pub fn of(&self, link: u32) -> Rates {
        let [up, down] = [&self.up, &self.down].map(|way| way.get(&link).map(|(rate, _)| *rate));
        Rates { up, down }
    }

    /// What its two queues have done, up and down: those of its own rates, or of its membership in a group.
    pub fn queues_of(&self, link: u32, group: Option<&RateGroup>) -> [Option<QueueCounter>; 2] {
        match group {
            Some(group) => self.members.queues_of(link, group),
            None => [&self.up, &self.down].map(|way| way.get(&link).map(|(_, queue)| *queue)),
        }
    }

    /// The rates of one link within a group; `None`: it is not a member.
    pub fn within(&self, link: u32, group: &RateGroup) -> Option<Rates> {
        self.members.of(link, group)
    }
}

/// Removes what does not die with a link that is about to go, in the background, as it takes 20 ms
/// that nothing needs to wait for. There may be nothing to remove.
///
/// The link may live on for a while, as long as the kernel still has to send what a program wrote
/// before it ended. That passes without a limit, and is at most what socket buffers hold; through a
/// removed ifb it would not pass at all.
///
/// # Errors
/// The kernel refuses.
pub fn release(link: u32) -> Result<()> {
    let name = ifb_name(link);
    let failed = |refusal| worded(refusal, &format!(" {name}"));
    let mut socket = route_socket()?;
    let Some(index) = tc::index_of(&mut socket, &name).map_err(failed)? else { return Ok(()) };
    let mut batch = Batch::new();
    tc::remove_ingress(&mut batch, link);
    // The link may be gone, or this may already have been done.
    let _ = socket.execute(batch);
    // By its index, which is not reused: a sandbox with the same address may meanwhile create one
    // of the same name.
    let deleted = tc::delete_link_behind(&mut socket, index);
    deleted.map_err(|errno| Error::os(format!("delete the ifb {name}"), errno))
}

/// Removes everything of ours from a link that lives on, as that of an engine's container may; a
/// missing link is not an error.
///
/// # Errors
/// The kernel refuses.
pub fn take_off(link: u32) -> Result<()> {
    let end = HostEnd { name: format!("link {link}"), index: link, mtu: 0 };
    match change(&end, &Rates::default()) {
        Err(error) if error.errno().is_some_and(|errno| errno.0 == libc::ENODEV) => release(link),
        result => result,
    }
}

/// What of ours exists on these links, one line each.
///
/// # Errors
/// The kernel returns no answer.
pub(super) fn inspect(links: &[u32]) -> Result<Vec<String>> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = route_socket()?;
    let mut there = Vec::new();
    let all = listing::all(&mut socket).map_err(|r| worded(r, ""))?;
    for qdisc in tc::qdiscs(&mut socket).map_err(|r| worded(r, ""))? {
        let device = all.iter().find(|end| end.index == qdisc.link).map(|end| &end.name);
        if let (Some(rate), Some(device)) = (qdisc.rate, device)
            && (links.contains(&qdisc.link) || link_of(device).is_some_and(|l| links.contains(&l)))
        {
            there.push(format!("rate {rate} on {device}"));
        }
    }
    Ok(there)
}

/// Ifbs whose link is gone, by name and index.
///
/// # Errors
/// The kernel returns no answer.
pub fn strays() -> Result<Vec<(String, u32)>> {
    let links = listing::all(&mut route_socket()?).map_err(|r| worded(r, ""))?;
    let lives = |link: u32| links.iter().any(|end| end.index == link);
    let is_stray = |end: &&Link| link_of(&end.name).is_some_and(|link| !lives(link));
    Ok(links.iter().filter(is_stray).map(|end| (end.name.clone(), end.index)).collect())
}

/// Removes one of [`strays`].
///
/// # Errors
/// The kernel refuses.
pub fn remove_stray(name: &str, index: u32) -> Result<()> {
    tc::delete_link(&mut route_socket()?, index).map_err(|r| worded(r, &format!(" {name}")))
}

/// What will be done to a link, in order, in the terms of tc(8); for `garth explain`.
pub fn describe(end: &HostEnd, rates: &Rates) -> Vec<String> {
    let tbf = |device: &str, rate, way: &str| {
        let Bucket { burst, limit, .. } = Bucket::new(rate, end.mtu);
        format!("qdisc tbf on {device}: rate {rate} burst {burst} limit {limit} ({way})")
    };
    let mut lines = Vec::new();
    if let Some(rate) = rates.down {
        lines.push(tbf(&end.name, rate, "down"));
    }
    if let Some(rate) = rates.up {
        let ifb = ifb_name(end.index);
        lines.push(format!("ifb {ifb}"));
        lines.push(tbf(&ifb, rate, "up"));
        lines.push(format!("qdisc ingress on {}: redirect everything to {ifb}", end.name));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ifb_is_known_by_the_index_of_its_link() {
        assert_eq!(ifb_name(0x4ae7_0001), "gifb4ae70001");
        assert_eq!(link_of("gifb4ae70001"), Some(0x4ae7_0001));
        for other in ["gifb", "gifb1", "gifb4ae7000x", "garth4ae70001", "gifb4ae700012"] {
            assert_eq!(link_of(other), None, "{other}");
        }
    }
}
