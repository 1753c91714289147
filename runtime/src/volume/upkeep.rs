//! What keeps a volume whole: members that were away come back, one is taken out of service, another
//! takes its place. What md does in the background is waited for without holding the volume.

use std::path::Path;
use std::time::Duration;

use super::device::{VolumeDevice, here};
use super::mend::{self, Mending};
use super::perform::Performer;
use super::program;
use super::record::{LeavingDevice, VolumePhase, VolumeRecord};
use super::status::{MemberHealth, MemberStatus, VolumeStatus};
use super::step::{VolumeStep, VolumeWord};
use super::verbs::{open, ready, refuse_connected, seen_now, status, unreachable};
use super::{host, names};
use crate::config::Size;
use crate::error::{Error, Result};
use crate::journal::Journal;

/// Makes members of what is there again, and finishes what was begun. md then copies in the
/// background: see [`wait`].
///
/// # Errors
/// It is not assembled, or a member cannot be added.
pub fn repair(journal: &Journal, name: &str, force: bool, tell: &dyn Fn(&str)) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    ready(&volume)?;
    refuse_stopped(&volume)?;
    let mut how = Mending { lost: unreachable(&volume, tell), force };
    let mut performer = Performer::new(volume, entry, tell);
    let all = performer.volume.with_leaving();
    for portal in program::portals(&all) {
        if how.lost.contains(portal) {
            continue;
        }
        // A server whose devices cannot be connected is no obstacle to the others.
        if let Err(error) = performer.perform(&mend::reconnect(&performer.volume, Some(portal))) {
            tell(&format!("{portal} is left out: {error}"));
            how.lost.push(portal.clone());
        }
    }
    performer.perform(&mend::reconnect(&performer.volume, None))?;
    for device in performer.volume.superseded.iter().filter(|_| !force) {
        tell(&format!("{device} has data that was given up: --force overwrites it"));
    }
    performer.perform(&mend::repair(&performer.volume, &how))?;
    retire(&mut performer, &how)?;
    performer.perform(&[VolumeStep::Remember])
}

/// Lets those go that others have taken the place of.
fn retire(performer: &mut Performer<'_>, how: &Mending) -> Result<()> {
    for leaving in performer.volume.leaving.clone() {
        let volume = &performer.volume;
        let Some(number) = volume.array_of(leaving.place) else { continue };
        let is_own = volume.devices.contains(&leaving.device);
        if !is_in_sync(volume, number, &volume.devices[leaving.place])? {
            continue;
        }
        // The other is up to date a moment before this one is out of service.
        let out = mend::take_out(volume, leaving.place);
        performer.perform(&out)?;
        let volume = &performer.volume;
        if !is_own && is_member(volume, number, &leaving.device)? {
            continue;
        }
        let is_lost = program::portals(&alone(volume, &leaving.device))
            .into_iter()
            .any(|portal| how.lost.contains(portal));
        let here = !is_lost && host::block_device(&leaving.device)?.is_some();
        if !here && !is_own {
            (performer.tell)(&format!(
                "{} is not reachable: its superblock stays, wipefs -a removes it",
                leaving.device
            ));
        }
        let steps = mend::retire(volume, leaving.place, here);
        performer.perform(&steps)?;
    }
    Ok(())
}

/// Waits until md has copied all that it copies, or is not going to. `seen` is told how the volume is
/// once a second; the volume is not held.
///
/// # Errors
/// How it is cannot be determined.
pub fn wait(
    journal: &Journal,
    name: &str,
    seen: &mut dyn FnMut(&VolumeStatus),
) -> Result<VolumeStatus> {
    let mut idle = 0;
    loop {
        let now = status(journal, name)?;
        let copies = now.arrays.iter().any(|array| array.progress.is_some());
        let waits = |member: &MemberStatus| member.state == MemberHealth::Rebuilding;
        let waits = now.arrays.iter().flat_map(|array| &array.members).any(waits);
        seen(&now);
        // md begins a moment after it was given a member.
        idle = if copies { 0 } else { idle + 1 };
        if idle > if waits { 10 } else { 1 } {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Begins to compare the members of each array, or goes on where that was interrupted since it was
/// assembled. `action`: `check`, `repair` what differs, or `idle` to interrupt it.
///
/// # Errors
/// It is not assembled, or copies something.
pub fn scrub(
    journal: &Journal,
    name: &str,
    action: &'static str,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    ready(&volume)?;
    refuse_stopped(&volume)?;
    let steps = mend::scrub(&volume, action);
    Performer::new(volume, entry, tell).perform(&steps)
}

/// Takes a member out of service.
///
/// # Errors
/// It is none, or has the only copy of some data.
pub fn fail(journal: &Journal, name: &str, device: &str, tell: &dyn Fn(&str)) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    ready(&volume)?;
    refuse_stopped(&volume)?;
    let place = place_of(&volume, device)?;
    let device = volume.devices[place].clone();
    let now = seen_now(&volume)?;
    let without = now.without(&volume, place);
    if without.is_none() {
        return Err(Error::new(format!("{device} has the only copy of some data"))
            .hint("garth volume repair brings others back first"));
    }
    let number = volume.array_of(place).unwrap_or_default();
    let steps = mend::fail(&volume, &device, number);
    Performer::new(volume, entry, tell).perform(&steps)
}

/// Puts a device in the place of another, or continues that.
///
/// # Errors
/// It cannot take that place. Nothing was written then, unless its superblock is on it.
pub fn replace(
    journal: &Journal,
    name: &str,
    (old, new): (&str, &str),
    force: bool,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let (entry, mut volume) = open(journal, name)?;
    ready(&volume)?;
    refuse_stopped(&volume)?;
    // As many as were given.
    let new = names::resolved(vec![VolumeDevice::parse(new, &here()?)?])?.remove(0);
    let record = VolumeStep::Record { volume: volume.name.clone(), phase: VolumePhase::Ready };
    let reversed = volume.leaving.iter().position(|leaving| {
        let other = &volume.devices[leaving.place];
        !leaving.joined && leaving.device == new && *other != new && is_named(other, old)
    });
    if let Some(reversed) = reversed {
        let LeavingDevice { device, place, .. } = volume.leaving.remove(reversed);
        let other = std::mem::replace(&mut volume.devices[place], device);
        let number = volume.array_of(place).unwrap_or_default();
        if is_member(&volume, number, &other)? {
            return Err(Error::new(format!("{other} has joined already"))
                .hint(format!("garth volume repair {name} finishes it")));
        }
        let mut steps = mend::release(&volume, &other);
        steps.push(record);
        return Performer::new(volume, entry, tell).perform(&steps);
    }
    let begun = volume
        .leaving
        .iter()
        .position(|leaving| volume.devices[leaving.place] == new && is_named(&leaving.device, old));
    if let Some(begun) = begun {
        if volume.leaving[begun].joined {
            drop(entry);
            return repair(journal, name, force, tell);
        }
    } else {
        let place = place_of(&volume, old)?;
        check_new(journal, &volume, place, &new)?;
        let device = std::mem::replace(&mut volume.devices[place], new.clone());
        volume.leaving.push(LeavingDevice { device, place, joined: false });
    }
    let place = volume.devices.iter().position(|device| *device == new).unwrap_or_default();
    let mut performer = Performer::new(volume, entry, tell);
    performer.perform(std::slice::from_ref(&record))?;
    if let Err(error) = inspect(&mut performer, place, force) {
        // Nothing is written yet: nothing remains.
        let volume = &mut performer.volume;
        let at = volume.leaving.iter().position(|leaving| leaving.place == place);
        if let Some(at) = at {
            volume.devices[place] = volume.leaving.remove(at).device;
        }
        let mut steps = mend::release(volume, &new);
        steps.push(record);
        return Err(match performer.perform(&steps) {
            Ok(()) => error,
            Err(also) => error.because(also),
        });
    }
    let how = Mending { lost: unreachable(&performer.volume, &|_| ()), force };
    performer.perform(&mend::repair(&performer.volume, &how))?;
    retire(&mut performer, &how)
}

/// Connects a device, and looks whether it can be written to.
fn inspect(performer: &mut Performer<'_>, place: usize, force: bool) -> Result<()> {
    let volume = &performer.volume;
    let device = volume.devices[place].clone();
    let steps = inspection(volume, place, force);
    performer.smallest = None;
    performer.perform(&steps)?;
    let needed = performer.volume.capacity.map(|sizes| sizes.offset + sizes.member);
    match (performer.smallest, needed) {
        (Some(has), Some(needed)) if has < needed => Err(Error::new(format!(
            "{device} has {}, and needs {} to take that place",
            Size(has),
            Size(needed)
        ))),
        _ => Ok(()),
    }
}

/// The device at this position is connected, and looked at.
pub(super) fn inspection(volume: &VolumeRecord, place: usize, force: bool) -> Vec<VolumeStep> {
    let device = &volume.devices[place];
    let own = volume.array_of(place).map(|number| volume.arrays[number]);
    let mut steps = Vec::new();
    program::connect(&alone(volume, device), &[], &mut steps);
    steps.push(VolumeStep::Inspect { what: VolumeWord::Device(device.clone()), force, own });
    steps
}

/// Whether a device may take the place of another.
fn check_new(
    journal: &Journal,
    volume: &VolumeRecord,
    place: usize,
    new: &VolumeDevice,
) -> Result<()> {
    let Some(number) = volume.array_of(place) else {
        return Err(Error::new(format!("{} is in no array", volume.devices[place])));
    };
    if volume.leaving.iter().any(|leaving| volume.array_of(leaving.place) == Some(number)) {
        return Err(Error::new("another member of the same array is being replaced")
            .hint(format!("garth volume repair {} finishes that", volume.name)));
    }
    let old = &volume.devices[place];
    let serves = is_in_sync(volume, number, old)?;
    if new == old {
        if serves {
            return Err(Error::new(format!("{old} is in service"))
                .hint("garth volume fail takes it out, if what it has is to be overwritten"));
        }
        return Ok(());
    }
    if volume.devices.contains(new) {
        return Err(Error::new(format!("{new} is a member of volume {} already", volume.name)));
    }
    // md gives a new member to the first place that is free.
    for other in volume.places.arrays[number].iter().filter(|other| **other != place) {
        if !is_in_sync(volume, number, &volume.devices[*other])? {
            return Err(Error::new(format!(
                "{} is out of the same array, and has to be back first",
                volume.devices[*other]
            ))
            .hint(format!("garth volume repair {}, or replace that one", volume.name)));
        }
    }
    let mut with = volume.clone();
    with.devices[place] = new.clone();
    with.places.check_apart(&with.servers())?;
    refuse_connected(&journal.raid(), &alone(volume, new))
}

fn is_in_sync(volume: &VolumeRecord, number: usize, device: &VolumeDevice) -> Result<bool> {
    let now = seen_now(volume)?;
    let mut members = now.arrays[number].members.iter();
    Ok(members.any(|member| member.address == *device && member.state == MemberHealth::InSync))
}

/// Whether the array has a device in whatever state.
fn is_member(volume: &VolumeRecord, number: usize, device: &VolumeDevice) -> Result<bool> {
    let Some(path) = host::block_device(device)? else { return Ok(false) };
    let name = host::kernel_name(&path)?;
    let array = host::array(volume.arrays[number])?;
    Ok(array.is_some_and(|array| array.members.iter().any(|member| member.device == name)))
}

/// The record with this device only.
fn alone(volume: &VolumeRecord, device: &VolumeDevice) -> VolumeRecord {
    VolumeRecord { devices: vec![device.clone()], leaving: Vec::new(), ..volume.clone() }
}

fn refuse_stopped(volume: &VolumeRecord) -> Result<()> {
    let name = &volume.name;
    let Some(top) = volume.top() else { return Ok(()) };
    let Some(_) = host::array(top)? else {
        return Err(Error::new(format!("volume {name} is not assembled")).hint(format!(
            "garth volume assemble {name}, with --degraded if members are missing"
        )));
    };
    let now = seen_now(volume)?;
    if now.arrays.iter().any(|array| array.broken) {
        return Err(Error::new(format!("volume {name} had lost too much, and refuses writes"))
            .hint(format!("unmount it, garth volume stop {name}, then assemble it again")));
    }
    Ok(())
}

/// The position of a device, by its address or its block device.
pub(super) fn place_of(volume: &VolumeRecord, text: &str) -> Result<usize> {
    let found = volume.devices.iter().position(|device| is_named(device, text));
    found.ok_or_else(|| {
        Error::new(format!("{text} is no device of volume {}", volume.name))
            .hint(format!("garth volume status {} shows them", volume.name))
    })
}

fn is_named(device: &VolumeDevice, text: &str) -> bool {
    let path = here().and_then(|here| VolumeDevice::parse(text, &here));
    path.is_ok_and(|named| named == *device)
        || host::block_device(device).is_ok_and(|found| found.as_deref() == Some(Path::new(text)))
}
