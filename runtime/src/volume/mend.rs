//! The programs that keep a volume whole: members that were away are members again, one is taken out
//! of service, another takes its place. Pure, as [`super::program`].

use super::device::{Portal, VolumeDevice};
use super::layout::Capacity;
use super::mdadm::ArrayUuid;
use super::program::{arrays, connect, disconnect, is_on, portals, run_or, run_when, text};
use super::record::{FileSystem, LeavingDevice, VolumeRecord};
use super::step::{RunWhen, VolumeStep, VolumeWord};

/// How a volume is repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mending {
    /// Servers that do not answer: their devices are left as they are.
    pub lost: Vec<Portal>,
    /// What is on a device that takes another's place, and what was given up, is to be lost.
    pub force: bool,
}

/// mdadm's exit code for a command that was refused.
const REFUSED: &[i32] = &[1];

/// The devices of a server, or without one those of this machine, are connected.
pub fn reconnect(volume: &VolumeRecord, portal: Option<&Portal>) -> Vec<VolumeStep> {
    let all = volume.with_leaving();
    let mut part = all.clone();
    part.devices.retain(|device| match portal {
        Some(portal) => is_on(device, std::slice::from_ref(portal)),
        None => !portals(&all).iter().any(|portal| is_on(device, std::slice::from_ref(portal))),
    });
    let mut steps = Vec::new();
    connect(&part, &[], &mut steps);
    steps
}

/// The devices that are connected become members of the arrays again, if they are not. md copies
/// what was written in between, by the bitmap; if it cannot tell that, it copies everything, onto
/// what has the superblock of the array.
pub fn repair(volume: &VolumeRecord, how: &Mending) -> Vec<VolumeStep> {
    let mut steps = Vec::new();
    for (number, (uuid, array)) in volume.arrays.iter().zip(arrays(volume)).enumerate() {
        let words = ["--fail", "detached", "--remove", "detached"].map(text);
        steps.push(run_when(RunWhen::Detached(*uuid), manage(&array, words)));
        for place in &volume.places.arrays[number] {
            let device = &volume.devices[*place];
            if is_on(device, &how.lost) {
                continue;
            }
            match volume.leaving_for(*place) {
                Some(leaving) => replace(volume, *place, leaving.joined, how, &mut steps),
                None => rejoin(volume, *place, how, &mut steps),
            }
        }
    }
    let given_up = |device: &VolumeDevice| !is_on(device, &how.lost);
    for device in volume.superseded.iter().filter(|device| how.force && given_up(device)) {
        steps.push(VolumeStep::Rebuilt { device: device.clone() });
    }
    steps
}

/// A device is a member again.
fn rejoin(volume: &VolumeRecord, place: usize, how: &Mending, steps: &mut Vec<VolumeStep>) {
    let Some((uuid, array)) = array_of(volume, place) else { return };
    let device = &volume.devices[place];
    let is_given_up = volume.superseded.contains(device);
    if is_given_up && !how.force {
        return;
    }
    steps.push(VolumeStep::Identify { device: device.clone(), array: uuid });
    steps.push(remove(uuid, &array, device));
    if !is_given_up {
        steps.push(re_add(uuid, &array, device));
    }
    steps.push(add(volume, place, uuid, &array));
}

/// A device takes the place of another, which stays a member until it is up to date, if it is one.
fn replace(
    volume: &VolumeRecord,
    place: usize,
    joined: bool,
    how: &Mending,
    steps: &mut Vec<VolumeStep>,
) {
    let Some((uuid, array)) = array_of(volume, place) else { return };
    let Some(leaving) = volume.leaving_for(place) else { return };
    let (old, new) = (&leaving.device, &volume.devices[place]);
    steps.push(remove(uuid, &array, new));
    if joined {
        steps.push(VolumeStep::Identify { device: new.clone(), array: uuid });
        steps.push(re_add(uuid, &array, new));
    } else {
        steps.push(VolumeStep::Inspect { what: word(new), force: how.force, own: Some(uuid) });
        if how.force {
            let words = [text("wipefs"), text("--all"), text("--quiet"), word(new)];
            steps.push(run_when(RunWhen::Absent(uuid), words));
        }
    }
    // What is out of service has a slot no longer, and md gives it to the other.
    if old != new {
        steps.push(remove(uuid, &array, old));
    }
    steps.push(add(volume, place, uuid, &array));
    if !joined {
        steps.push(VolumeStep::Joined { device: new.clone() });
    }
    if old != new {
        let words = [text("--replace"), word(old), text("--with"), word(new)];
        steps.push(run_when(RunWhen::Replaceable(uuid), manage(&array, words)));
    }
}

/// What leaves for the device at this position is taken out of its array, if it is out of service.
pub fn take_out(volume: &VolumeRecord, place: usize) -> Vec<VolumeStep> {
    let leaving = volume.leaving_for(place).filter(|one| !volume.devices.contains(&one.device));
    let of = |leaving: &LeavingDevice| {
        let (uuid, array) = array_of(volume, place)?;
        Some(remove(uuid, &array, &leaving.device))
    };
    leaving.and_then(of).into_iter().collect()
}

/// A device leaves, that is no longer a member, as another is up to date in its place. `here`: it is
/// connected, so that its superblock can be removed.
pub fn retire(volume: &VolumeRecord, place: usize, here: bool) -> Vec<VolumeStep> {
    let mut steps = Vec::new();
    let Some((uuid, _)) = array_of(volume, place) else { return steps };
    let Some(leaving) = volume.leaving_for(place) else { return steps };
    let old = &leaving.device;
    if !volume.devices.contains(old) {
        if here {
            steps.push(VolumeStep::Identify { device: old.clone(), array: uuid });
            let words = [text("mdadm"), text("--zero-superblock"), word(old)];
            steps.push(run_when(RunWhen::Absent(uuid), words));
        }
        steps.extend(release(volume, old));
    }
    steps.push(VolumeStep::Left { device: old.clone() });
    steps
}

/// A device that is no longer the volume's is disconnected, unless it shares a session with others.
pub fn release(volume: &VolumeRecord, device: &VolumeDevice) -> Vec<VolumeStep> {
    let mut alone = volume.clone();
    alone.devices = vec![device.clone()];
    let shares = |other: &VolumeDevice| match (other, device) {
        (
            VolumeDevice::Iscsi { portal, target, .. },
            VolumeDevice::Iscsi { portal: own_portal, target: own_target, .. },
        ) => (portal, target) == (own_portal, own_target),
        _ => other == device,
    };
    let mut steps = Vec::new();
    if !volume.devices.iter().any(shares) {
        disconnect(&alone, &mut steps);
    }
    steps
}

/// A member is taken out of service.
pub fn fail(volume: &VolumeRecord, device: &VolumeDevice, number: usize) -> Vec<VolumeStep> {
    let uuid = volume.arrays[number];
    let array = VolumeWord::Array { uuid, name: volume.array_name(number) };
    let words = manage(&array, [text("--fail"), word(device)]);
    vec![run_when(RunWhen::Serving(uuid), words), VolumeStep::Remember]
}

/// The members of all arrays are compared, and with `repair` made the same; or that is interrupted.
pub fn scrub(volume: &VolumeRecord, action: &'static str) -> Vec<VolumeStep> {
    (0..volume.arrays.len()).map(|array| VolumeStep::Scrub { array, action }).collect()
}

/// The sizes of the devices are looked at anew.
pub fn rescan(volume: &VolumeRecord) -> Vec<VolumeStep> {
    let devices = volume.devices.iter().cloned();
    devices.map(|device| VolumeStep::Rescan { device }).collect()
}

/// The arrays use of each member what `sizes` says, and a stripe over them is stopped and started with
/// all of that: md does not change the size of one that runs.
pub fn grow(volume: &VolumeRecord, sizes: Capacity) -> Vec<VolumeStep> {
    let size = VolumeWord::Text(format!("--size={}K", sizes.member >> 10));
    let mut steps = Vec::new();
    for array in arrays(volume) {
        let words = [text("mdadm"), text("--grow"), array, size.clone()];
        steps.push(run_when(RunWhen::Always, words));
    }
    if let Some(uuid) = volume.stripe {
        let name = volume.volume_name();
        let stripe = VolumeWord::Array { uuid, name: name.clone() };
        steps.push(run_when(RunWhen::Running(uuid), [text("mdadm"), text("--stop"), stripe]));
        let words = ["mdadm".into(), "--assemble".into(), format!("/dev/md/{name}")];
        let rest = ["--update=devicesize".into(), format!("--uuid={uuid}")];
        let words = words.into_iter().chain(rest).map(VolumeWord::Text).chain(arrays(volume));
        steps.push(run_when(RunWhen::Stopped(uuid), words));
    }
    steps.push(VolumeStep::Record { volume: volume.name.clone(), phase: volume.phase });
    steps
}

/// The file system has the size of the volume: mounted at `mounted`, or not.
pub fn grow_file_system(volume: &VolumeRecord, mounted: Option<&str>) -> Vec<VolumeStep> {
    let Some(uuid) = volume.top() else { return Vec::new() };
    let top = VolumeWord::Array { uuid, name: volume.volume_name() };
    let resize = run_when(RunWhen::Always, [text("resize2fs"), top.clone()]);
    match (volume.file_system, mounted) {
        (FileSystem::Ext4, Some(_)) => vec![resize],
        (FileSystem::Ext4, None) => {
            // 1: errors were corrected.
            let words = [text("e2fsck"), text("-f"), text("-p"), top].to_vec();
            vec![run_or(words, &[1], RunWhen::Always), resize]
        }
        (FileSystem::Xfs, Some(at)) => {
            vec![run_when(RunWhen::Always, [text("xfs_growfs"), text(at)])]
        }
        (FileSystem::Xfs, None) | (FileSystem::None, _) => Vec::new(),
    }
}

fn array_of(volume: &VolumeRecord, place: usize) -> Option<(ArrayUuid, VolumeWord)> {
    let number = volume.array_of(place)?;
    let uuid = volume.arrays[number];
    Some((uuid, VolumeWord::Array { uuid, name: volume.array_name(number) }))
}

fn word(device: &VolumeDevice) -> VolumeWord {
    VolumeWord::Device(device.clone())
}

/// `mdadm ARRAY WORDS`.
fn manage(array: &VolumeWord, words: impl IntoIterator<Item = VolumeWord>) -> Vec<VolumeWord> {
    [text("mdadm"), array.clone()].into_iter().chain(words).collect()
}

fn remove(uuid: ArrayUuid, array: &VolumeWord, device: &VolumeDevice) -> VolumeStep {
    run_when(RunWhen::Faulty(uuid), manage(array, [text("--remove"), word(device)]))
}

/// What was written meanwhile is copied to it, if md can tell what that was.
fn re_add(uuid: ArrayUuid, array: &VolumeWord, device: &VolumeDevice) -> VolumeStep {
    let words = manage(array, [text("--re-add"), word(device)]);
    run_or(words, REFUSED, RunWhen::Absent(uuid))
}

/// Whatever its superblock says, everything is copied to it.
fn add(volume: &VolumeRecord, place: usize, uuid: ArrayUuid, array: &VolumeWord) -> VolumeStep {
    let number = volume.array_of(place).unwrap_or_default();
    let fast = volume.fails_fast(number).then(|| text("--failfast"));
    let words = [text("--add-spare")].into_iter().chain(fast);
    let words = words.chain([word(&volume.devices[place])]);
    run_when(RunWhen::Absent(uuid), manage(array, words))
}
