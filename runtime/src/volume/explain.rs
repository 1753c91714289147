//! What the verbs would do, as the steps that they execute. Each step says when it is not needed.

use super::device::{VolumeDevice, here};
use super::mend::{self, Mending};
use super::program::{self, Assembly};
use super::record::{LeavingDevice, VolumePhase, VolumeRecord};
use super::step::VolumeStep;
use super::upkeep::{inspection, place_of};
use super::verbs::{given_up, ready};
use crate::error::Result;
use crate::journal::Journal;

/// What is asked of a volume that there is.
#[derive(Debug, Clone)]
pub enum VolumeAction {
    /// [`super::verbs::assemble`]
    Assemble(Assembly),
    /// [`super::verbs::stop`]
    Stop,
    /// [`super::verbs::destroy`]
    Destroy {
        /// Servers, or devices as they were given, that are gone for good.
        without: Vec<String>,
    },
    /// [`super::upkeep::repair`]
    Repair {
        /// Also overwrites what was given up.
        force: bool,
    },
    /// [`super::upkeep::fail`]
    Fail {
        /// The member.
        device: String,
    },
    /// [`super::upkeep::replace`]
    Replace {
        /// The member.
        old: String,
        /// The device that takes its place.
        new: String,
        /// What is on that is to be lost.
        force: bool,
    },
    /// [`super::upkeep::scrub`], with what it is told.
    Scrub(&'static str),
}

/// The steps of `action`, if all servers answer. How much a volume grows is only known from its
/// devices, so that is not among them.
///
/// # Errors
/// There is no such volume, or no such device.
pub fn explain(journal: &Journal, name: &str, action: &VolumeAction) -> Result<Vec<VolumeStep>> {
    let volume = VolumeRecord::read(&journal.raid(), name)?;
    Ok(match action {
        VolumeAction::Stop => program::stop(&volume),
        VolumeAction::Destroy { without } => {
            program::destroy(&volume, &given_up(&volume, without)?)
        }
        VolumeAction::Assemble(how) => {
            ready(&volume)?;
            program::assemble(&volume, how)
        }
        VolumeAction::Repair { force } => {
            ready(&volume)?;
            repaired(&volume, *force)
        }
        VolumeAction::Fail { device } => {
            ready(&volume)?;
            let place = place_of(&volume, device)?;
            let number = volume.array_of(place).unwrap_or_default();
            mend::fail(&volume, &volume.devices[place], number)
        }
        VolumeAction::Replace { old, new, force } => {
            ready(&volume)?;
            replaced(volume, old, new, *force)?
        }
        VolumeAction::Scrub(action) => {
            ready(&volume)?;
            mend::scrub(&volume, action)
        }
    })
}

fn repaired(volume: &VolumeRecord, force: bool) -> Vec<VolumeStep> {
    let how = Mending { force, ..Mending::default() };
    let all = volume.with_leaving();
    let portals = program::portals(&all).into_iter().map(Some).chain([None]);
    let mut steps: Vec<_> = portals.flat_map(|portal| mend::reconnect(volume, portal)).collect();
    steps.extend(mend::repair(volume, &how));
    for leaving in &volume.leaving {
        steps.extend(mend::take_out(volume, leaving.place));
        steps.extend(mend::retire(volume, leaving.place, true));
    }
    steps.push(VolumeStep::Remember);
    steps
}

fn replaced(
    mut volume: VolumeRecord,
    old: &str,
    new: &str,
    force: bool,
) -> Result<Vec<VolumeStep>> {
    let place = place_of(&volume, old)?;
    let new = VolumeDevice::parse(new, &here()?)?;
    let device = std::mem::replace(&mut volume.devices[place], new);
    volume.leaving.push(LeavingDevice { device, place, joined: false });
    let record = VolumeStep::Record { volume: volume.name.clone(), phase: VolumePhase::Ready };
    let mut steps = vec![record];
    steps.extend(inspection(&volume, place, force));
    steps.extend(mend::repair(&volume, &Mending { force, ..Mending::default() }));
    steps.extend(mend::take_out(&volume, place));
    steps.extend(mend::retire(&volume, place, true));
    Ok(steps)
}
