//! How a volume is: what the kernel says of its arrays, members and sessions, and what may still fail
//! before data is lost.

use std::path::Path;

use serde::Serialize;

use super::array::{MdArray, MdMember, MdState, MemberState};
use super::device::VolumeDevice;
use super::host;
use super::mdadm::ArrayUuid;
use super::mdstat::SyncProgress;
use super::place::Losses;
use super::record::{FileSystem, VolumePhase, VolumeRecord};
use super::session::{IscsiSession, SessionState};
use crate::error::Result;

/// How a volume is, on the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeHealth {
    /// It can be used, and has all its members.
    Healthy,
    /// It can be used, and may lose less than it was made for.
    Degraded,
    /// It is not assembled, or its creation or removal was interrupted.
    Stopped,
    /// Some of its data cannot be reached.
    Failed,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// How it is.
    pub health: VolumeHealth,
    /// What is being done with it, or was when that was interrupted.
    pub phase: VolumePhase,
    /// What is mounted, if it is assembled: `/dev/md127`.
    pub device: Option<String>,
    /// Its UUID.
    pub uuid: Option<ArrayUuid>,
    /// How much it holds, in bytes.
    pub size: Option<u64>,
    /// What is on it.
    pub file_system: FileSystem,
    /// How its arrays have the data.
    pub layout: String,
    /// How often.
    pub copies: u32,
    /// Whether a stripe is over the arrays.
    pub striped: bool,
    /// What can still be lost before data is; `None`: it is lost, or not there now.
    pub may_lose: Option<Losses>,
    /// What it may lose when it has all its members.
    pub made_for: Option<Losses>,
    /// Its arrays.
    pub arrays: Vec<ArrayStatus>,
}

/// An array of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArrayStatus {
    /// Its UUID.
    pub uuid: ArrayUuid,
    /// Its device, if it is assembled: `/dev/md127`.
    pub device: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether it had lost too much: it refuses to be written until it is assembled again.
    pub broken: bool,
    /// What is being copied or checked.
    pub progress: Option<SyncStatus>,
    /// Sectors that differed in the last check.
    pub mismatches: u64,
    /// Its members, in the order of their slots.
    pub members: Vec<MemberStatus>,
}

/// A copy or a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncStatus {
    /// `resync`, `recovery`, `check`, `repair` or `reshape`.
    pub action: String,
    /// How much of it is done, in thousandths; `None`: it waits.
    pub permille: Option<u32>,
    /// Bytes a second.
    pub speed: Option<u64>,
    /// Seconds it will take at that speed.
    pub seconds_left: Option<u64>,
}

/// A member of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// What it is, as it was written.
    pub address: VolumeDevice,
    /// Its server; `None`: this machine.
    pub server: Option<String>,
    /// Its block device, if it has one: `/dev/sda`.
    pub device: Option<String>,
    /// Whether it has its data.
    pub state: MemberHealth,
    /// Whether its server answers; `None`: it needs none.
    pub connected: Option<bool>,
    /// Read errors that were corrected.
    pub errors: u64,
    /// An older state was insisted on: what it has is not used.
    pub given_up: bool,
    /// The member whose place it takes: it stays one until this one is up to date.
    pub replaces: Option<Box<MemberStatus>>,
}

/// What a member is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberHealth {
    /// It has all of its data.
    InSync,
    /// Its data is being copied.
    Rebuilding,
    /// It waits to take the place of another.
    Spare,
    /// It was taken out of service.
    Faulty,
    /// The array goes on without it, or is not assembled.
    Missing,
}

/// What there is, at one moment.
#[derive(Debug, Clone)]
pub struct SeenNow {
    /// The arrays.
    pub arrays: Vec<MdArray>,
    /// The sessions.
    pub sessions: Vec<IscsiSession>,
}

impl SeenNow {
    /// What this machine has now.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn now() -> Result<SeenNow> {
        let sys = Path::new(host::SYS);
        Ok(SeenNow { arrays: MdArray::all(sys)?, sessions: IscsiSession::all(sys)? })
    }

    fn array(&self, uuid: ArrayUuid) -> Option<&MdArray> {
        self.arrays.iter().find(|array| array.uuid == Some(uuid))
    }
}

/// How a volume is, by what was seen. `disk` is the name of the block device of a device that is
/// neither an iSCSI unit nor unknown.
pub fn of(
    volume: &VolumeRecord,
    seen: &SeenNow,
    disk: &dyn Fn(&VolumeDevice) -> Option<String>,
) -> VolumeStatus {
    let shape = volume.places.shape;
    let mut arrays = Vec::new();
    for (places, uuid) in volume.places.arrays.iter().zip(&volume.arrays) {
        let array = seen.array(*uuid);
        let member = |(slot, place): (usize, &usize)| {
            let of = |device| member(device, slot, array, seen, disk);
            let device = &volume.devices[*place];
            let leaving = volume.leaving_for(*place).filter(|one| one.device != *device);
            MemberStatus {
                given_up: volume.superseded.contains(device),
                replaces: leaving.map(|leaving| Box::new(of(&leaving.device))),
                ..of(device)
            }
        };
        let members = places.iter().enumerate().map(member).collect();
        arrays.push(ArrayStatus {
            uuid: *uuid,
            device: array.map(|array| format!("/dev/{}", array.device)),
            running: array.is_some_and(MdArray::works),
            broken: array.is_some_and(|array| array.state == MdState::Broken),
            progress: array.and_then(|array| array.progress.as_ref()).map(progress),
            mismatches: array.map_or(0, |array| array.mismatches),
            members,
        });
    }
    let top = volume.top().and_then(|uuid| seen.array(uuid));
    let running = top.is_some_and(MdArray::works) && arrays.iter().all(|array| array.running);
    let servers = volume.servers();
    let made_for = volume.places.losses(&servers, &|_| false);
    let may_lose = if running {
        volume.places.losses(&servers, &|wanted| is_lost(volume, &arrays, wanted))
    } else {
        None
    };
    let whole = arrays.iter().flat_map(|array| &array.members).all(MemberStatus::counts);
    let assembled = top.is_some() || arrays.iter().any(|array| array.device.is_some());
    let health = match (running, may_lose) {
        _ if volume.phase != VolumePhase::Ready => VolumeHealth::Stopped,
        (true, Some(_)) if whole => VolumeHealth::Healthy,
        (true, Some(_)) => VolumeHealth::Degraded,
        (true, None) => VolumeHealth::Failed,
        (false, _) if assembled => VolumeHealth::Failed,
        (false, _) => VolumeHealth::Stopped,
    };
    VolumeStatus {
        name: volume.name.clone(),
        health,
        phase: volume.phase,
        device: top.filter(|top| top.works()).map(|top| format!("/dev/{}", top.device)),
        uuid: volume.top(),
        size: volume.capacity.map(|capacity| capacity.volume),
        file_system: volume.file_system,
        layout: shape.layout.to_string(),
        copies: shape.copies,
        striped: shape.is_striped(),
        may_lose,
        made_for,
        arrays,
    }
}

impl VolumeStatus {
    /// What may still be lost without the device at this position of the record.
    pub fn without(&self, volume: &VolumeRecord, place: usize) -> Option<Losses> {
        let is_lost = |wanted| wanted == place || is_lost(volume, &self.arrays, wanted);
        volume.places.losses(&volume.servers(), &is_lost)
    }

    /// How it is: `is degraded, may still lose any 1 device or any 1 server`.
    pub fn in_words(&self) -> String {
        match (self.health, self.may_lose) {
            (VolumeHealth::Healthy, _) => "is healthy".to_owned(),
            (VolumeHealth::Degraded, None) => "is degraded".to_owned(),
            (VolumeHealth::Degraded, Some(may_lose)) => {
                format!("is degraded, may still lose {may_lose}")
            }
            (VolumeHealth::Stopped, _) => "is stopped".to_owned(),
            (VolumeHealth::Failed, _) => {
                "has failed: some of its data cannot be reached".to_owned()
            }
        }
    }
}

/// Whether what the device at this position of the record has cannot be read.
fn is_lost(volume: &VolumeRecord, arrays: &[ArrayStatus], wanted: usize) -> bool {
    let at = volume.places.arrays.iter().zip(arrays);
    let mut at = at.flat_map(|(places, array)| places.iter().zip(&array.members));
    at.any(|(device, member)| *device == wanted && !member.counts())
}

fn member(
    device: &VolumeDevice,
    slot: usize,
    array: Option<&MdArray>,
    seen: &SeenNow,
    disk: &dyn Fn(&VolumeDevice) -> Option<String>,
) -> MemberStatus {
    let session = seen.sessions.iter().find(|session| session.has(device));
    let (own, connected) = match device {
        VolumeDevice::Iscsi { .. } => {
            let path = host::disk_of(&seen.sessions, device);
            let name = path.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            (name, Some(session.is_some_and(|session| session.state == SessionState::LoggedIn)))
        }
        _ => (disk(device), None),
    };
    let members = array.map_or(&[][..], |array| &array.members);
    let in_slot = |member: &&MdMember| member.slot == u32::try_from(slot).ok();
    let is_own = |member: &&MdMember| Some(&member.device) == own.as_ref();
    // By its disk; by its slot only if it has none. A disk that was connected anew has another name,
    // and is no member.
    let found = match own {
        Some(_) => members.iter().find(is_own),
        None => members.iter().find(in_slot),
    };
    let state = match found.map(|member| member.state) {
        Some(MemberState::InSync) => MemberHealth::InSync,
        Some(MemberState::Rebuilding) => MemberHealth::Rebuilding,
        Some(MemberState::Spare) => MemberHealth::Spare,
        Some(MemberState::Faulty) => MemberHealth::Faulty,
        None => MemberHealth::Missing,
    };
    MemberStatus {
        address: device.clone(),
        server: device.server().map(str::to_owned),
        device: found.map(|member| member.device.clone()).or(own).map(|n| format!("/dev/{n}")),
        state,
        connected,
        errors: found.map_or(0, |member| member.errors),
        given_up: false,
        replaces: None,
    }
}

fn progress(of: &SyncProgress) -> SyncStatus {
    SyncStatus {
        action: of.action.clone(),
        permille: of.at.map(|at| at.permille()),
        speed: of.at.map(|at| at.speed),
        seconds_left: of.at.and_then(|at| at.seconds_left()),
    }
}

impl MemberStatus {
    /// Whether its data can be read, from it or from the one it replaces: a member whose server is gone
    /// is not yet known as faulty to an array that nothing is read from.
    pub fn counts(&self) -> bool {
        let own = self.state == MemberHealth::InSync && self.connected != Some(false);
        own || self.replaces.as_ref().is_some_and(|old| old.counts())
    }
}
