//! What is recorded of a volume, below /var/lib/garth, before any of it exists outside.
//!
//! The UUIDs of the arrays are chosen here, and given to mdadm. So after a crash at any point a
//! superblock is ours or another's for certain, whatever name it carries; and a volume is assembled
//! from what the superblocks say, with or without this record.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::VolumeDevice;
use super::layout::{Capacity, RaidLayout};
use super::mdadm::ArrayUuid;
use super::place::Places;
use crate::config::Size;
use crate::error::{Error, Result};
use crate::journal::{Journal, is_there};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name.
    pub name: String,
    /// The name of the host that made it, for the superblocks.
    pub host: String,
    /// What is being done with it.
    pub phase: VolumePhase,
    /// What it is made from.
    pub devices: Vec<VolumeDevice>,
    /// Which device is the member of which array.
    pub places: Places,
    /// How much is read or written of a member before the next one's turn.
    pub chunk: Size,
    /// The size that was asked for.
    pub size: Option<Size>,
    /// The sizes; not known before the devices have been seen.
    pub capacity: Option<Capacity>,
    /// The UUIDs of the arrays, in order.
    pub arrays: Vec<ArrayUuid>,
    /// The UUID of the stripe, if there is one.
    pub stripe: Option<ArrayUuid>,
    /// What is made on it.
    pub file_system: FileSystem,
    /// Devices whose state was given up, when an older one was insisted on: they are members again
    /// only when they have been rebuilt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<VolumeDevice>,
    /// Devices that others take the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<LeavingDevice>,
    /// The file with the account that its iSCSI targets demand. The account itself is not on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<PathBuf>,
}

/// A device that another takes the place of. It is a member until the other one is up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingDevice {
    /// It.
    pub device: VolumeDevice,
    /// The position of the other among the devices of the volume.
    pub place: usize,
    /// The other has a superblock: what it had before is overwritten.
    pub joined: bool,
}

/// How far a volume has come. A verb that was interrupted is continued, or undone, from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumePhase {
    /// Its devices are being connected: nothing is written to them.
    Connecting,
    /// Its arrays are being made: what their superblocks are on is not yet anybody's data.
    Creating,
    /// Its file system is being made: nor is what is in the arrays.
    Formatting,
    /// It has a file system, and is somebody's data.
    Ready,
    /// Its superblocks are being removed, as was asked for.
    Destroying,
}

/// What is made on a new volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
    /// Nothing: it is used as a block device.
    None,
}

/// A superblock has 32 bytes for `garth-NAME.NUMBER`, and for the name of the host before it if that
/// fits too.
const LONGEST_NAME: usize = 20;

/// Whether a volume can have this name. The dot is what separates the number of an array from it.
///
/// # Errors
/// It cannot.
pub fn check_volume_name(name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(known) && !name.starts_with('-')
    {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::new(format!("{shown:?} is not a valid name of a RAID volume")).hint(format!(
        "use 1 to {LONGEST_NAME} letters, digits, _ and -, starting with a letter, digit or _"
    )))
}

impl VolumeRecord {
    /// What is on record of volume `name`, in the journal of volumes.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(raid: &Journal, name: &str) -> Result<VolumeRecord> {
        if raid.has(name)? && !VolumeRecord::is_written(raid, name)? {
            return Err(Error::new(format!("the creation of volume {name} ended before it began"))
                .hint(format!("repeat it, or garth volume destroy {name}")));
        }
        serde_json::from_slice(&raid.read(name)?)
            .map_err(|error| Error::new(format!("the record of volume {name} is damaged: {error}")))
    }

    /// Whether more than the name of a volume is on record. Before that nothing was done for it, and
    /// afterwards nothing is left: its creation may have been killed before it began, or its removal
    /// after its end.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn is_written(raid: &Journal, name: &str) -> Result<bool> {
        is_there(&raid.file(name, "record.json"))
    }

    /// All volumes but `name` that are on record.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn others(raid: &Journal, name: &str) -> Result<Vec<VolumeRecord>> {
        let mut found = Vec::new();
        for other in VolumeRecord::names(raid)?.iter().filter(|other| *other != name) {
            if VolumeRecord::is_written(raid, other)? {
                found.push(VolumeRecord::read(raid, other)?);
            }
        }
        Ok(found)
    }

    /// The names of all volumes, but for unfinished entries.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn names(raid: &Journal) -> Result<Vec<String>> {
        Ok(raid.ids()?.into_iter().filter(|id| !id.starts_with('.')).collect())
    }

    /// The servers of its devices; `None`: this machine.
    pub fn servers(&self) -> Vec<Option<&str>> {
        self.devices.iter().map(VolumeDevice::server).collect()
    }

    /// The name of array `number`, counted from 0, in its superblock and below /dev/md; of the
    /// volume itself if there is only one.
    pub fn array_name(&self, number: usize) -> String {
        match self.places.shape.is_striped() {
            true => format!("garth-{}.{}", self.name, number + 1),
            false => self.volume_name(),
        }
    }

    /// The volume with the devices that are to leave it beside the others, for connections.
    pub fn with_leaving(&self) -> VolumeRecord {
        let mut all = self.clone();
        let leaving = self.leaving.iter().map(|leaving| leaving.device.clone());
        let leaving: Vec<_> = leaving.filter(|device| !self.devices.contains(device)).collect();
        all.devices.extend(leaving);
        all
    }

    /// All that may have a superblock of array `number`.
    pub fn all_of(&self, number: usize) -> Vec<&VolumeDevice> {
        let places = &self.places.arrays[number];
        let own = places.iter().map(|place| &self.devices[*place]);
        let leaving = self.leaving.iter().filter(|one| places.contains(&one.place));
        let leaving = leaving.map(|one| &one.device);
        own.chain(leaving.filter(|device| !self.devices.contains(device))).collect()
    }

    /// All that may be a member of array `number`: not what has yet to join, nor what was given up.
    pub fn candidates(&self, number: usize) -> Vec<&VolumeDevice> {
        let mut all = self.all_of(number);
        all.retain(|device| {
            let place = self.devices.iter().position(|one| one == *device);
            let leaving = place.and_then(|place| self.leaving_for(place));
            leaving.is_none_or(|one| one.joined) && !self.superseded.contains(device)
        });
        all
    }

    /// What leaves for the device at this position.
    pub fn leaving_for(&self, place: usize) -> Option<&LeavingDevice> {
        self.leaving.iter().find(|leaving| leaving.place == place)
    }

    /// The number of the array that the device at this position is a member of.
    pub fn array_of(&self, place: usize) -> Option<usize> {
        self.places.arrays.iter().position(|array| array.contains(&place))
    }

    /// The name of what is mounted.
    pub fn volume_name(&self) -> String {
        format!("garth-{}", self.name)
    }

    /// The array that is mounted: the stripe, or the only one.
    pub fn top(&self) -> Option<ArrayUuid> {
        self.stripe.or(self.arrays.first().copied())
    }

    /// Whether requests to the members of array `number` may fail at the first error, as on the
    /// network: all of them are on servers, and others have the same data. Not with parity, where
    /// md refuses it; and not on disks of this machine, where a bad sector is to be rewritten from
    /// the others rather than cost the member.
    pub fn fails_fast(&self, number: usize) -> bool {
        let parity = matches!(self.places.shape.layout, RaidLayout::Raid5 | RaidLayout::Raid6);
        let array = &self.places.arrays[number];
        !parity && array.iter().all(|device| self.devices[*device].server().is_some())
    }
}
