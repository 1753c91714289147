//! What can be done with a volume. Each verb holds the volume's entry in the journal, compiles its
//! program, and executes it; one that was interrupted is done again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::chap::ChapAccount;
use super::connect::reach_all;
use super::device::{Portal, VolumeDevice};
use super::host;
use super::layout::AskedShape;
use super::mdadm::ArrayUuid;
use super::perform::Performer;
use super::place::Places;
use super::program::{self, Assembly, Creation};
use super::record::{FileSystem, VolumePhase, VolumeRecord, check_volume_name};
use super::seen::{is_news, remember};
use super::session::IscsiSession;
use super::status::{self, SeenNow, VolumeStatus};
use super::step::VolumeStep;
use super::users::VolumeUser;
use crate::config::Size;
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::{Entry, Journal};

/// What is asked of a new volume.
#[derive(Debug, Clone)]
pub struct VolumeRequest {
    /// Its name.
    pub name: String,
    /// What it is made from.
    pub devices: Vec<VolumeDevice>,
    /// Its shape.
    pub shape: AskedShape,
    /// How large it is to be; all that the devices hold without it.
    pub size: Option<Size>,
    /// How much is read or written of a member before the next one's turn.
    pub chunk: Size,
    /// What is made on it.
    pub file_system: FileSystem,
    /// The file with the account that its iSCSI targets demand.
    pub chap: Option<PathBuf>,
}

impl VolumeRequest {
    /// The record of it, with new identities.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn record(&self) -> Result<VolumeRecord> {
        check_volume_name(&self.name)?;
        if let Some(file) = &self.chap {
            ChapAccount::read(file)?;
        }
        let shape = self.shape.of(self.devices.len())?;
        // A chunk that is none is refused before the devices are seen.
        shape.capacity(1 << 50, None, self.chunk.0)?;
        let servers: Vec<Option<&str>> = self.devices.iter().map(VolumeDevice::server).collect();
        let places = Places::find(shape, &servers)?;
        let mut identities = (0..=shape.arrays).map(|_| random_uuid());
        let stripe = identities.next().transpose()?;
        Ok(VolumeRecord {
            name: self.name.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            phase: VolumePhase::Connecting,
            devices: self.devices.clone(),
            places,
            chunk: self.chunk,
            size: self.size,
            capacity: None,
            arrays: identities.collect::<Result<_>>()?,
            stripe: stripe.filter(|_| shape.is_striped()),
            file_system: self.file_system,
            superseded: Vec::new(),
            leaving: Vec::new(),
            chap: self.chap.clone(),
        })
    }
}

fn random_uuid() -> Result<ArrayUuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("read /dev/urandom", &error))?;
    Ok(ArrayUuid(bytes))
}

/// Creates a volume, or continues the creation of the same one.
///
/// # Errors
/// It cannot be created. What has been done is on record.
pub fn create(
    journal: &Journal,
    request: &VolumeRequest,
    how: Creation,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let fresh = request.record()?;
    let raid = journal.raid();
    if facts::privileged() && journal.volume(&request.name)?.is_some() {
        let dir = journal.volume_path(&request.name)?;
        return Err(Error::new(format!("a directory has the name {} as a volume", request.name))
            .hint(format!("{} is what -v {}:TARGET mounts", dir.display(), request.name)));
    }
    let entry = match raid.has(&request.name)? {
        true => hold(&raid, &request.name)?,
        false => raid.create(&request.name)?,
    };
    // Without a record, one was killed before it did anything.
    let known = match VolumeRecord::is_written(&raid, &request.name)? {
        true => Some(VolumeRecord::read(&raid, &request.name)?),
        false => None,
    };
    let volume = match known {
        None => {
            if let Err(error) = refuse_connected(&raid, &fresh) {
                return Err(match entry.remove() {
                    Ok(()) => error,
                    Err(also) => error.because(also),
                });
            }
            fresh
        }
        Some(known) => continued(known, &fresh)?,
    };
    let steps = program::create(&volume, how);
    let mut performer = Performer::new(volume, entry, tell);
    if performer.volume.capacity.is_some() {
        return performer.perform(&steps);
    }
    // The rest depends on the sizes of the devices.
    let is_end =
        |step: &VolumeStep| matches!(step, VolumeStep::Record { phase: VolumePhase::Creating, .. });
    let seen = steps.iter().position(is_end).unwrap_or(steps.len());
    let connected = performer.perform(&steps[..seen]);
    let sized = connected.and_then(|()| {
        let volume = &performer.volume;
        let smallest = performer.smallest.ok_or_else(|| Error::new("no device was seen"))?;
        let asked = volume.size.map(|size| size.0);
        volume.places.shape.capacity(smallest, asked, volume.chunk.0)
    });
    match sized {
        Ok(capacity) => performer.volume.capacity = Some(capacity),
        // Nothing is written yet: nothing remains.
        Err(error) => return Err(undone(performer, error)),
    }
    let steps = program::create(&performer.volume, how);
    performer.perform(&steps[seen..])
}

/// Disconnects and forgets a volume of which nothing was written.
fn undone(mut performer: Performer<'_>, error: Error) -> Error {
    let steps = program::destroy(&performer.volume, &[]);
    match performer.perform(&steps) {
        Ok(()) => error,
        Err(also) => error.hint(format!(
            "garth volume destroy {} removes what is connected ({also})",
            performer.volume.name
        )),
    }
}

/// The record of an interrupted creation, if it is of the same volume.
fn continued(known: VolumeRecord, fresh: &VolumeRecord) -> Result<VolumeRecord> {
    let name = &known.name;
    match known.phase {
        VolumePhase::Ready => {
            return Err(Error::new(format!("a RAID volume named {name} already exists"))
                .hint("garth volume ls lists them"));
        }
        VolumePhase::Destroying => return Err(being_destroyed(name)),
        VolumePhase::Connecting | VolumePhase::Creating | VolumePhase::Formatting => {}
    }
    let same = known.devices == fresh.devices
        && known.places == fresh.places
        && known.chunk == fresh.chunk
        && known.size == fresh.size
        && known.file_system == fresh.file_system;
    match same {
        // Perhaps it was interrupted by a wrong one.
        true => Ok(VolumeRecord { chap: fresh.chap.clone(), ..known }),
        false => Err(Error::new(format!("the creation of another volume {name} was interrupted"))
            .hint(format!("repeat it as it was, or garth volume destroy {name}"))),
    }
}

/// The steps that create it.
///
/// # Errors
/// There is no such volume.
pub fn explain_create(request: &VolumeRequest, how: Creation) -> Result<Vec<VolumeStep>> {
    Ok(program::create(&request.record()?, how))
}

/// Assembles a volume. With `degraded`, without the servers that do not answer.
///
/// # Errors
/// It cannot be assembled.
pub fn assemble(journal: &Journal, name: &str, how: Assembly, tell: &dyn Fn(&str)) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    assemble_held(entry, volume, how, tell).map(drop)
}

/// The same of a volume whose entry is held, and still is when this returns.
///
/// # Errors
/// It cannot be assembled.
pub fn assemble_held(
    entry: Entry,
    volume: VolumeRecord,
    mut how: Assembly,
    tell: &dyn Fn(&str),
) -> Result<Option<Entry>> {
    ready(&volume)?;
    if how.degraded {
        how.lost = unreachable(&volume, tell);
    }
    let steps = program::assemble(&volume, &how);
    let mut performer = Performer::new(volume, entry, tell);
    performer.perform(&steps)?;
    Ok(performer.entry)
}

/// The servers that do not answer.
pub(super) fn unreachable(volume: &VolumeRecord, tell: &dyn Fn(&str)) -> Vec<Portal> {
    let mut lost = Vec::new();
    let all = volume.with_leaving();
    let portals = program::portals(&all).into_iter().map(|portal| (portal, program::REACH));
    let portals: Vec<_> = portals.collect();
    for ((portal, _), reached) in portals.iter().zip(reach_all(&portals)) {
        if let Err(error) = reached {
            tell(&format!("{portal} is left out: {error}"));
            lost.push((*portal).clone());
        }
    }
    lost
}

/// Whether a volume can be used: it is neither being made nor removed.
pub(super) fn ready(volume: &VolumeRecord) -> Result<()> {
    let name = &volume.name;
    match volume.phase {
        VolumePhase::Ready => Ok(()),
        VolumePhase::Destroying => Err(being_destroyed(name)),
        _ => Err(Error::new(format!("the creation of volume {name} was interrupted"))
            .hint("repeat it as it was, or garth volume destroy")),
    }
}

fn being_destroyed(name: &str) -> Error {
    Error::new(format!("volume {name} is being destroyed"))
        .hint(format!("garth volume destroy {name} finishes that"))
}

/// Stops a volume and disconnects its devices.
///
/// # Errors
/// It is in use, or cannot be stopped.
pub fn stop(journal: &Journal, name: &str, tell: &dyn Fn(&str)) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    refuse_used(&journal.raid(), name)?;
    refuse_busy(&volume)?;
    let steps = program::stop(&volume);
    Performer::new(volume, entry, tell).perform(&steps)
}

/// Removes a volume from its devices, but for those that are said to be gone for good: servers, or
/// devices as they were given.
///
/// # Errors
/// It is in use, or cannot be removed.
pub fn destroy(
    journal: &Journal,
    name: &str,
    without: &[String],
    tell: &dyn Fn(&str),
) -> Result<()> {
    check_volume_name(name)?;
    let raid = journal.raid();
    let entry = hold(&raid, name)?;
    if !VolumeRecord::is_written(&raid, name)? {
        return entry.remove();
    }
    let volume = VolumeRecord::read(&raid, name)?;
    refuse_used(&raid, name)?;
    refuse_busy(&volume)?;
    let gone = given_up(&volume, without)?;
    let steps = program::destroy(&volume, &gone);
    Performer::new(volume, entry, tell).perform(&steps)?;
    for device in gone {
        tell(&format!(
            "{device} keeps its superblock, and what it has: wipefs -a removes it, if it is back"
        ));
    }
    Ok(())
}

/// The devices of servers, or as they were given, that are gone for good.
pub(super) fn given_up(volume: &VolumeRecord, without: &[String]) -> Result<Vec<VolumeDevice>> {
    let name = &volume.name;
    let all = volume.with_leaving().devices;
    let mut gone = Vec::new();
    for text in without {
        let is_it =
            |device: &&VolumeDevice| device.server() == Some(text) || device.to_string() == *text;
        let found: Vec<_> = all.iter().filter(is_it).cloned().collect();
        if found.is_empty() {
            return Err(Error::new(format!("{text} is no server and no device of volume {name}"))
                .hint(format!("garth volume status {name} shows them")));
        }
        gone.extend(found);
    }
    Ok(gone)
}

/// Before a volume is on record: what is connected already is another's, who would lose it when the
/// volume is stopped. What is connected later is the volume's.
pub(super) fn refuse_connected(raid: &Journal, volume: &VolumeRecord) -> Result<()> {
    let mut shared = Vec::new();
    for other in VolumeRecord::others(raid, &volume.name)? {
        shared.extend(other.with_leaving().devices);
        if let Some(device) = volume.devices.iter().find(|device| other.devices.contains(device)) {
            return Err(Error::new(format!("{device} belongs to volume {}", other.name)));
        }
    }
    let sessions = IscsiSession::all(Path::new(host::SYS))?;
    for device in &volume.devices {
        let connected = match device {
            // Another volume may have other disks of the target.
            VolumeDevice::Iscsi { portal, target, .. } => {
                let ours = shared.iter().any(|other| other.is_of(portal, target));
                !ours && sessions.iter().any(|session| session.has(device))
            }
            VolumeDevice::File(_) | VolumeDevice::Nbd { .. } => {
                host::block_device(device)?.is_some()
            }
            VolumeDevice::Block(_) => false,
        };
        if connected {
            return Err(Error::new(format!("{device} is connected already, by another"))
                .hint("disconnect it, or give its block device instead"));
        }
    }
    Ok(())
}

/// Before anything is done: a volume that a sandbox or container has.
fn refuse_used(raid: &Journal, name: &str) -> Result<()> {
    let users = VolumeUser::living(raid, name)?;
    if users.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = users.iter().map(ToString::to_string).collect();
    Err(Error::new(format!("volume {name} is in use by {}", names.join(", ")))
        .hint("end what uses it first; garth ps shows sandboxes"))
}

/// Before anything is done: a volume that is mounted is not half stopped, nor said to be destroyed.
fn refuse_busy(volume: &VolumeRecord) -> Result<()> {
    let Some(uuid) = volume.top() else { return Ok(()) };
    let Some(array) = host::array(uuid)? else { return Ok(()) };
    let path = Path::new("/dev").join(array.device);
    match path.exists() && host::is_busy(&path)? {
        true => Err(Error::new(format!("volume {} is in use", volume.name))
            .hint(format!("{} is mounted, or held otherwise", path.display()))),
        false => Ok(()),
    }
}

/// The names of all volumes.
///
/// # Errors
/// They cannot be read.
pub fn names(journal: &Journal) -> Result<Vec<String>> {
    VolumeRecord::names(&journal.raid())
}

/// How a volume is.
///
/// # Errors
/// There is none of this name, or it cannot be determined.
pub fn status(journal: &Journal, name: &str) -> Result<VolumeStatus> {
    check_volume_name(name)?;
    let raid = journal.raid();
    let volume = VolumeRecord::read(&raid, name)?;
    note(&raid, &volume);
    seen_now(&volume)
}

/// How a volume is, by its record.
pub(super) fn seen_now(volume: &VolumeRecord) -> Result<VolumeStatus> {
    // What is not there has no name, and is seen as missing.
    let disk = |device: &VolumeDevice| {
        let path = host::block_device(device).ok().flatten()?;
        host::kernel_name(&path).ok()
    };
    Ok(status::of(volume, &SeenNow::now()?, &disk))
}

/// Notes which members are up to date, if these are others than before. How a volume is, is said also
/// where nothing can be written, and while another process works on it.
fn note(raid: &Journal, volume: &VolumeRecord) {
    let dir = raid.file(&volume.name, "");
    // Before that, its arrays may be made anew.
    if volume.phase == VolumePhase::Ready
        && is_news(volume, &dir).unwrap_or(false)
        && let Ok(Some(_held)) = raid.lock(&volume.name)
    {
        let _ = remember(volume, &dir);
    }
}

pub(super) fn open(journal: &Journal, name: &str) -> Result<(Entry, VolumeRecord)> {
    check_volume_name(name)?;
    let raid = journal.raid();
    let entry = hold(&raid, name)?;
    let volume = VolumeRecord::read(&raid, name)?;
    Ok((entry, volume))
}

fn hold(raid: &Journal, name: &str) -> Result<Entry> {
    let held = raid.lock(name)?;
    held.ok_or_else(|| Error::new(format!("another process is working on volume {name}")))
}
