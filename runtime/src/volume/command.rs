//! The commands of a program: whether they are needed, and with which words they are run.

use std::path::Path;

use super::array::{MdArray, MemberState};
use super::device::VolumeDevice;
use super::host;
use super::record::{VolumePhase, VolumeRecord};
use super::step::{RunWhen, VolumeCommand, VolumeWord};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::run::Finished;

/// Whether it has done what it is for, or that was so already.
pub fn is_done(command: &VolumeCommand, finished: &Finished) -> bool {
    finished.status.code().is_some_and(|code| code == 0 || command.done.contains(&code))
}

/// Whether a command is needed. `raid` is the journal of volumes, `volume` the one that it is for.
///
/// # Errors
/// It cannot be determined.
pub fn is_needed(command: &VolumeCommand, raid: Option<&Journal>, volume: &str) -> Result<bool> {
    let mut devices = command.words.iter().filter_map(|word| match word {
        VolumeWord::Device(device) => Some(device),
        _ => None,
    });
    let first = devices.next();
    let last = devices.next_back().or(first);
    // What the array says of a device; `None`: nothing, or it does not run.
    let state = |uuid, device: Option<&VolumeDevice>| -> Result<Option<Option<MemberState>>> {
        let Some(array) = host::array(uuid)?.filter(MdArray::is_started) else { return Ok(None) };
        let path = device.map(host::block_device).transpose()?.flatten();
        let Some(path) = path else { return Ok(Some(None)) };
        let name = host::kernel_name(&path)?;
        let member = array.members.iter().find(|member| member.device == name);
        Ok(Some(member.map(|member| member.state)))
    };
    let serves = |state| matches!(state, Some(Some(MemberState::InSync | MemberState::Rebuilding)));
    Ok(match command.when {
        RunWhen::Unshared => {
            let is =
                |word: &VolumeWord, flag| matches!(word, VolumeWord::Text(text) if text == flag);
            let after = |flag| match command.words.iter().skip_while(|word| !is(word, flag)).nth(1)
            {
                Some(VolumeWord::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            match (raid, after("-p"), after("-T")) {
                (Some(raid), Some(portal), Some(target)) => {
                    !is_shared(raid, volume, portal, target)?
                }
                _ => true,
            }
        }
        RunWhen::Always => true,
        RunWhen::Stopped(uuid) => !host::array(uuid)?.is_some_and(|array| array.is_started()),
        RunWhen::Running(uuid) => host::array(uuid)?.is_some(),
        RunWhen::Absent(uuid) => state(uuid, last)? == Some(None),
        RunWhen::Faulty(uuid) => state(uuid, last)? == Some(Some(MemberState::Faulty)),
        RunWhen::Serving(uuid) => serves(state(uuid, last)?),
        RunWhen::Replaceable(uuid) => {
            state(uuid, last)? == Some(Some(MemberState::Spare)) && serves(state(uuid, first)?)
        }
        RunWhen::Detached(uuid) => {
            let array = host::array(uuid)?.filter(MdArray::is_started);
            let members = array.into_iter().flat_map(|array| array.members);
            let disks = Path::new(host::SYS).join("class/block");
            let gone = members.map(|member| crate::journal::is_there(&disks.join(member.device)));
            gone.collect::<Result<Vec<_>>>()?.contains(&false)
        }
    })
}

/// A word of a command as it is given.
///
/// # Errors
/// It stands for what is not there.
pub fn word(word: &VolumeWord) -> Result<String> {
    match word {
        VolumeWord::Text(text) => Ok(text.clone()),
        VolumeWord::Later(text) => Err(Error::new(format!("{text} is not known yet"))),
        VolumeWord::Device(device) => {
            let path = host::block_device(device)?;
            let path = path.ok_or_else(|| Error::new(format!("{device} is not there")))?;
            Ok(path.display().to_string())
        }
        VolumeWord::Array { uuid, name } => match host::array(*uuid)? {
            Some(array) => Ok(format!("/dev/{}", array.device)),
            None => Err(Error::new(format!("array {name} ({uuid}) is not assembled"))),
        },
    }
}

/// Whether a volume other than this one runs on the target.
fn is_shared(raid: &Journal, volume: &str, at: &str, name: &str) -> Result<bool> {
    for other in VolumeRecord::others(raid, volume)? {
        let uses = other.with_leaving().devices.iter().any(|device| match device {
            VolumeDevice::Iscsi { portal, target, .. } => {
                portal.to_string() == at && target == name
            }
            _ => false,
        });
        let begun = other.phase != VolumePhase::Ready;
        if uses && (begun || any_runs(&other)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn any_runs(volume: &VolumeRecord) -> Result<bool> {
    let all = MdArray::all(Path::new(host::SYS))?;
    Ok(all.iter().any(|array| array.uuid.is_some_and(|uuid| volume.arrays.contains(&uuid))))
}
