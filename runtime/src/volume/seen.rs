//! Which members were up to date when it was last looked, beside the record of a volume. After a
//! loss of power, or of servers one after the other, this tells a member that the others went on
//! without from one that has the latest state: md takes what it finds for the latest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::array::{MdArray, MdMember, MemberState};
use super::device::VolumeDevice;
use super::host;
use super::mdadm::ArrayUuid;
use super::record::VolumeRecord;
use super::session::IscsiSession;
use super::tools::{check_readable, superblock, superblocks};
use crate::error::{Error, Result};
use crate::journal::{read_json, write_whole};

/// What is known of a volume's members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// The arrays that were looked at.
    pub arrays: Vec<SeenArray>,
}

/// What is known of an array's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenArray {
    /// The array.
    pub array: ArrayUuid,
    /// How often its state had changed.
    pub events: u64,
    /// The members that had all of the data.
    pub up_to_date: Vec<VolumeDevice>,
}

impl SeenArray {
    /// Whether a member whose superblock says `events` has the latest state. The loss of another
    /// member counts two events or more; an array that becomes idle may take one back.
    pub fn is_latest(&self, device: &VolumeDevice, events: u64) -> bool {
        let was = self.up_to_date.contains(device);
        events > self.events || (was && events + 1 >= self.events)
    }
}

impl LastSeen {
    /// What is on record of a volume, below the directory of its entry.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(dir: &Path) -> Result<LastSeen> {
        Ok(read_json(&dir.join(NAME))?.unwrap_or_default())
    }

    /// What is known of this array.
    pub fn of(&self, array: ArrayUuid) -> Option<&SeenArray> {
        self.arrays.iter().find(|seen| seen.array == array)
    }
}

/// The file of an entry.
const NAME: &str = "seen.json";

/// A member that is up to date, and its block device.
type UpToDate<'a> = (&'a VolumeDevice, PathBuf);

/// The members of the arrays that run which are up to date.
fn up_to_date(volume: &VolumeRecord) -> Result<Vec<(ArrayUuid, Vec<UpToDate<'_>>)>> {
    let sys = Path::new(host::SYS);
    let (arrays, sessions) = (MdArray::all(sys)?, IscsiSession::all(sys)?);
    let mut all = Vec::new();
    for (number, uuid) in volume.arrays.iter().enumerate() {
        let Some(array) = arrays.iter().find(|array| array.uuid == Some(*uuid)) else { continue };
        let mut found = Vec::new();
        for device in volume.candidates(number) {
            if let Some(path) = up_to_date_at(device, array, &sessions)? {
                found.push((device, path));
            }
        }
        if !found.is_empty() {
            all.push((*uuid, found));
        }
    }
    Ok(all)
}

/// Whether others are up to date than is on record below `dir`. This reads no superblock.
///
/// # Errors
/// It cannot be determined.
pub fn is_news(volume: &VolumeRecord, dir: &Path) -> Result<bool> {
    let seen = LastSeen::read(dir)?;
    let is_known = |(array, found): &(ArrayUuid, Vec<UpToDate<'_>>)| {
        let names = found.iter().map(|(device, _)| *device);
        seen.of(*array).is_some_and(|known| known.up_to_date.iter().eq(names))
    };
    Ok(!up_to_date(volume)?.iter().all(is_known))
}

/// Notes which members of the arrays that run are up to date; what is known of the others stays.
///
/// # Errors
/// It cannot be determined, or not be written.
pub fn remember(volume: &VolumeRecord, dir: &Path) -> Result<()> {
    let mut seen = LastSeen::read(dir)?;
    let before = seen.clone();
    let mut arrays = Vec::new();
    for (array, found) in up_to_date(volume)? {
        // One that is lost just now cannot be read.
        let (up_to_date, paths): (Vec<_>, Vec<_>) = found
            .into_iter()
            .filter(|(_, path)| check_readable(path).is_ok())
            .map(|(device, path)| (device.clone(), path))
            .unzip();
        arrays.push((array, up_to_date, paths));
    }
    // md writes the same count to all that are in sync.
    let first = arrays.iter().filter_map(|(_, _, paths)| paths.first().cloned());
    let known = superblocks(&first.collect::<Vec<_>>()).unwrap_or_default();
    for (array, up_to_date, paths) in arrays {
        let first = known.iter().find(|found| found.array == array).map(|found| found.events);
        let others = || paths.iter().find_map(|path| superblock(path).ok().flatten());
        let Some(events) = first.or_else(|| others().map(|found| found.events)) else { continue };
        seen.arrays.retain(|known| known.array != array);
        seen.arrays.push(SeenArray { array, events, up_to_date });
    }
    if seen == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&seen)
        .map_err(|error| Error::new(format!("note what was seen of the volume: {error}")))?;
    write_whole(&dir.join(NAME), &text, true)
}

/// The block device of a member that has all of the data, as far as md and the session know.
fn up_to_date_at(
    device: &VolumeDevice,
    array: &MdArray,
    sessions: &[IscsiSession],
) -> Result<Option<PathBuf>> {
    // md learns of a lost server with the next request only.
    let (path, works) = host::working(sessions, device)?;
    let Some(path) = path.filter(|_| works) else { return Ok(None) };
    let name = host::kernel_name(&path)?;
    let mut members = array.members.iter();
    let is_it = |member: &MdMember| member.device == name && member.state == MemberState::InSync;
    Ok(members.any(is_it).then_some(path))
}
