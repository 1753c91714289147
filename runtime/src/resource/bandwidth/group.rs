//! A budget that several sandboxes share ([`RateGroup`]).
//!
//! ```text
//!  garth0ae70001 ── ingress ─┐                 ┌─ 6763:2  quantum 1 ─┐
//!  garth0ae70003 ── ingress ─┴▶ gifbu-office ──┤  (htb, in turns)     ├─ 6763:1 [up] ─▶ as if received
//!                                               └─ 6763:3  quantum 2 ─┘
//! ```
//!
//! One ifb for each direction, created by the first member and removed with the last. All traffic
//! of a member's link in that direction is redirected to it, classified there by the device it came
//! from, which nothing inside can change, and then continues from where it was redirected. htb's
//! classes have almost no rate of their own and borrow the rest of the budget in turns: the share
//! sets the bytes of a turn (tc-htb(8), quantum), so nothing has to be recomputed when members come
//! and go. A member's own `--rate` is its class's ceiling.
//!
//! The class number derives from the index of the link, and the index from the address, so a member
//! of which only the mark is left can still be removed. The state of a group is read from the
//! kernel; a lock serializes the last member that leaves and the next that joins.

use std::fs::File;
use std::path::Path;

use super::ends::{has_ipv6, worded};
use super::shape::Bucket;
use super::tc::QueueCounter;
use super::{htb, tc};
use crate::config::rate::Change;
use crate::config::units::Rate;
use crate::config::{RateGroup, Rates};
use crate::error::{Error, Result};
use crate::journal::lock_file;
use crate::network::link::FIRST_INDEX;
use crate::network::listing::{self, Link};
use crate::network::refusal::route_socket;
use crate::network::{HostEnd, IFB_PREFIX};
use crate::sys::netlink::{Batch, Refusal, Socket};

/// The two directions of a group, and the hook of a link where each is redirected.
const WAYS: [(char, u32); 2] = [('u', tc::CLSACT_IN), ('d', tc::CLSACT_OUT)];

fn ifb_name(way: char, group: &str) -> String {
    format!("{IFB_PREFIX}{way}-{group}")
}

/// The class of a link; 1 is the budget. For a sandbox's link it is the number of its pair within
/// the lower half of its address; for an engine's link it follows from the kernel's index.
fn class_of(link: u32) -> u16 {
    const LAST_SANDBOX: u16 = 0x8001;
    match link >= FIRST_INDEX {
        true => ((link >> 1) & 0x7fff) as u16 + 2,
        false => LAST_SANDBOX + 1 + (link % u32::from(u16::MAX - LAST_SANDBOX)) as u16,
    }
}

fn of_way(way: char, rates: &Rates) -> Option<Rate> {
    if way == 'u' { rates.up } else { rates.down }
}

/// Puts a new link into a group; `own` is its own ceiling.
///
/// # Errors
/// The group exists with another budget, or the kernel lacks or refuses something.
pub fn join(root: &Path, end: &HostEnd, group: &RateGroup, own: &Rates) -> Result<()> {
    let _lock = lock(root)?;
    let mut socket = route_socket()?;
    let class = class_of(end.index);
    let links = listing::all(&mut socket).map_err(|r| worded(r, ""))?;
    let mut batch = Batch::new();
    let mut redirected = Batch::new();
    tc::add_clsact(&mut redirected, end.index);
    for (way, hook) in WAYS {
        let name = ifb_name(way, &group.name);
        let there = links.iter().find(|link| link.name == name).map(|link| link.index);
        let Some(budget) = of_way(way, &group.rates) else {
            if there.is_some() {
                return Err(other_budget(&group.name, &name, None));
            }
            continue;
        };
        let ifb = match there {
            Some(index) => index,
            None => {
                tc::make_ifb(&mut socket, &name).map_err(|r| worded(r, &format!(" {name}")))?;
                let index = tc::index_of(&mut socket, &name).map_err(|r| worded(r, ""))?;
                index.ok_or_else(|| Error::new(format!("{name}: removed by another process")))?
            }
        };
        let classes = htb::classes(&mut socket, ifb).map_err(|r| worded(r, &format!(" {name}")))?;
        match classes.iter().find(|class| class.minor == htb::BUDGET) {
            Some(known) if known.ceiling != budget.0 / 8 => {
                return Err(other_budget(&group.name, &name, Some(Rate(known.ceiling * 8))));
            }
            Some(_) => {}
            None => {
                tc::bring_up(&mut batch, ifb, has_ipv6());
                htb::begin(&mut batch, ifb, &Bucket::new(budget, end.mtu));
            }
        }
        // The same lower half of an address, in pools larger than a /16, or an index that is 32,766
        // higher.
        let same = |link: &&Link| link.index != end.index && class_of(link.index) == class;
        if let Some(other) = links.iter().find(same)
            && classes.iter().any(|known| known.minor == class)
        {
            return Err(Error::new(format!(
                "rate group {}: {} and {} would need the same class",
                group.name, other.name, end.name
            ))
            .hint("start it again to get another address"));
        }
        let member = member(end, group.share, budget, of_way(way, own));
        // A class of the same number is a leftover, as the address is this sandbox's alone.
        htb::leave(&mut socket, ifb, class).map_err(|r| worded(r, &format!(" {name}")))?;
        htb::join(&mut batch, ifb, &end.name, &member);
        tc::redirect(&mut redirected, end.index, hook, ifb);
    }
    let within = |r| worded(r, &format!(" of {} in rate group {}", end.name, group.name));
    socket.execute(batch).map_err(within)?;
    socket.execute(redirected).map_err(within)
}

/// Changes a member's ceilings; returns the new ones.
///
/// # Errors
/// It is no longer a member, or the kernel refuses.
pub fn change(root: &Path, end: &HostEnd, group: &RateGroup, change: Change) -> Result<Rates> {
    let _lock = lock(root)?;
    let mut socket = route_socket()?;
    let within = |r| worded(r, &format!(" of {} in rate group {}", end.name, group.name));
    let links = listing::all(&mut socket).map_err(within)?;
    let members = Members::read(&mut socket, &links).map_err(within)?;
    let gone = || Error::new(format!("{} is not in rate group {}", end.name, group.name));
    let own = change.of(members.of(end.index, group).ok_or_else(gone)?);
    own.check()?;
    group.check_own(&own)?;
    let mut batch = Batch::new();
    for (way, _) in WAYS {
        let Some(budget) = of_way(way, &group.rates) else { continue };
        let name = ifb_name(way, &group.name);
        let ifb = links.iter().find(|link| link.name == name).ok_or_else(gone)?;
        htb::change(&mut batch, ifb.index, &member(end, group.share, budget, of_way(way, &own)));
    }
    socket.execute(batch).map_err(within)?;
    Ok(own)
}

/// The class of a link in a group with this budget, with or without a ceiling of its own.
fn member(end: &HostEnd, share: u32, budget: Rate, own: Option<Rate>) -> htb::ClassMember {
    htb::ClassMember {
        class: class_of(end.index),
        bucket: Bucket::new(ceiling(budget, own), end.mtu),
        quantum: quantum(budget, end.mtu, share),
    }
}

fn ceiling(budget: Rate, own: Option<Rate>) -> Rate {
    own.map_or(budget, |own| own.min(budget))
}

/// The members' classes, read from the kernel.
#[derive(Debug, Default)]
pub struct Members {
    /// By the name of the ifb.
    classes: Vec<(String, htb::Class)>,
}

impl Members {
    /// The members of all groups whose ifbs are among `links`.
    pub fn read(socket: &mut Socket, links: &[Link]) -> Result<Members, Refusal> {
        let mut members = Members::default();
        for ifb in links.iter().filter(|link| is_group(&link.name)) {
            let classes = htb::classes(socket, ifb.index)?.into_iter();
            members.classes.extend(classes.map(|class| (ifb.name.clone(), class)));
        }
        Ok(members)
    }

    /// A member's own ceilings, except where they equal the budget. `None`: it is not a member.
    pub fn of(&self, link: u32, group: &RateGroup) -> Option<Rates> {
        let [up, down] =
            ['u', 'd'].map(|way| self.class(way, link, group).map(|class| Rate(class.ceiling * 8)));
        let own = |ceiling: Option<Rate>, budget| ceiling.filter(|own| Some(*own) < budget);
        let own = Rates { up: own(up, group.rates.up), down: own(down, group.rates.down) };
        (up.is_some() || down.is_some()).then_some(own)
    }

    /// What the two queues of a member have done, up and down.
    pub fn queues_of(&self, link: u32, group: &RateGroup) -> [Option<QueueCounter>; 2] {
        ['u', 'd'].map(|way| self.class(way, link, group).map(|class| class.queue))
    }

    fn class(&self, way: char, link: u32, group: &RateGroup) -> Option<&htb::Class> {
        let name = ifb_name(way, &group.name);
        let is_its =
            |(ifb, class): &&(String, htb::Class)| *ifb == name && class.minor == class_of(link);
        self.classes.iter().find(is_its).map(|(_, class)| class)
    }
}

/// Removes the link with this index from a group, and removes the group with its last member.
/// Either may already be gone.
///
/// # Errors
/// The kernel refuses.
pub fn leave(root: &Path, link: u32, group: &str) -> Result<()> {
    let _lock = lock(root)?;
    let mut socket = route_socket()?;
    let mut batch = Batch::new();
    tc::remove_ingress(&mut batch, link);
    // The link may be gone, or this may already have been done.
    let _ = socket.execute(batch);
    for (way, _) in WAYS {
        let name = ifb_name(way, group);
        let failed = |r| worded(r, &format!(" {name}"));
        let Some(ifb) = tc::index_of(&mut socket, &name).map_err(failed)? else { continue };
        htb::leave(&mut socket, ifb, class_of(link)).map_err(failed)?;
        let classes = htb::classes(&mut socket, ifb).map_err(failed)?;
        if classes.iter().all(|class| class.minor == htb::BUDGET) {
            // Not in the background: the next member would still find it.
            tc::delete_link(&mut socket, ifb).map_err(failed)?;
        }
    }
    Ok(())
}

/// What exists of a group for the links with these indexes, one line each.
///
/// # Errors
/// The kernel returns no answer.
pub fn inspect(links: &[u32], group: &str) -> Result<Vec<String>> {
    let mut socket = route_socket()?;
    let mut there = Vec::new();
    for (way, _) in WAYS {
        let name = ifb_name(way, group);
        let failed = |r| worded(r, &format!(" {name}"));
        let Some(ifb) = tc::index_of(&mut socket, &name).map_err(failed)? else { continue };
        for class in htb::classes(&mut socket, ifb).map_err(failed)? {
            if links.iter().any(|link| class_of(*link) == class.minor) {
                let rate = Rate(class.ceiling * 8);
                there.push(format!("class 6763:{:x} with ceil {rate} on {name}", class.minor));
            }
        }
    }
    Ok(there)
}

/// What will be done to a link, in order, in the terms of tc(8); for `garth explain`.
pub fn describe(end: &HostEnd, group: &RateGroup, own: &Rates) -> Vec<String> {
    let mut lines = Vec::new();
    for (way, _) in WAYS {
        let Some(budget) = of_way(way, &group.rates) else { continue };
        let ceiling = ceiling(budget, of_way(way, own));
        let name = ifb_name(way, &group.name);
        let hook = if way == 'u' { "ingress" } else { "egress" };
        lines.push(format!("ifb {name}, unless it exists: htb with {budget}"));
        lines.push(format!(
            "class 6763:{:x} on {name}: ceil {ceiling} quantum {}",
            class_of(end.index),
            quantum(budget, end.mtu, group.share)
        ));
        lines.push(format!("clsact {hook} on {}: redirect everything to {name}", end.name));
    }
    lines
}

/// Ifbs of groups in which no member has a link any more, by name and index.
///
/// # Errors
/// The kernel returns no answer.
pub fn strays() -> Result<Vec<(String, u32)>> {
    let mut socket = route_socket()?;
    let links = listing::all(&mut socket).map_err(|r| worded(r, ""))?;
    let lives = |minor: u16| links.iter().any(|link| class_of(link.index) == minor);
    let mut found = Vec::new();
    for end in links.iter().filter(|end| is_group(&end.name)) {
        let classes = htb::classes(&mut socket, end.index).map_err(|r| worded(r, ""))?;
        if !classes.iter().any(|class| lives(class.minor)) {
            found.push((end.name.clone(), end.index));
        }
    }
    Ok(found)
}

fn is_group(name: &str) -> bool {
    WAYS.iter().any(|(way, _)| name.starts_with(&ifb_name(*way, "")))
}

/// The bytes of one turn: 10 ms of the budget, so that members do not notice each other's turns. A
/// train of segments (GSO, 64 kB) larger than a turn would count as one.
fn quantum(budget: Rate, mtu: u32, share: u32) -> u32 {
    let frames = 2 * u64::from(mtu + 14);
    (budget.0 / 800).clamp(frames, frames.max(65_536)) as u32 * share
}

fn other_budget(group: &str, device: &str, rate: Option<Rate>) -> Error {
    let has = rate.map_or("another limit".to_owned(), |rate| rate.to_string());
    Error::new(format!("rate group {group} already exists with {has} on {device}")).hint(
        "all members of a group must give the same limits; they can change once all have ended",
    )
}

/// Members join and leave one at a time: the state directory itself is the lock.
fn lock(root: &Path) -> Result<File> {
    lock_file(root, "rate groups are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_classes_of_their_own() {
        let of = |address: [u8; 4]| class_of(crate::network::link::index(address.into()));
        // The first and the last pair of a pool of 32,768, and two adjacent ones.
        assert_eq!(of([10, 231, 0, 1]), 2);
        assert_eq!(of([10, 231, 0, 3]), 3);
        assert_eq!(of([10, 231, 255, 255]), 0x8001);
        // Those of engines come after them.
        assert_eq!([class_of(1), class_of(2), class_of(32_765)], [0x8003, 0x8004, 0xffff]);
        assert_eq!(class_of(32_766), 0x8002);
    }

    #[test]
    fn a_turn_is_ten_milliseconds_and_between_two_frames_and_a_train() {
        assert_eq!(quantum(Rate(8_000), 1500, 1), 3028);
        assert_eq!(quantum(Rate(20_000_000), 1500, 1), 25_000);
        assert_eq!(quantum(Rate(1_000_000_000), 1500, 3), 196_608);
        assert_eq!(quantum(Rate(8_000), 65_535, 1), 131_098);
    }

    #[test]
    fn devices_of_groups_are_known_by_their_names() {
        assert_eq!(ifb_name('u', "office-12").len(), 15);
        assert!(is_group("gifbu-x") && is_group("gifbd-x"));
        assert!(!is_group("gifb4ae70001") && !is_group("gifbx-y"));
    }
}
