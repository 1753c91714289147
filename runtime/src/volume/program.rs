//! A volume is a short program: what each verb does, as a flat list of steps. Pure; `explain` prints
//! it, and what executes it decides nothing. Each step may be done already, and is repeated without
//! harm, so a program that was interrupted is run again from its beginning.

use super::device::{Portal, VolumeDevice};
use super::layout::RaidLayout;
use super::mdadm::ArrayUuid;
use super::record::{FileSystem, VolumePhase, VolumeRecord};
use super::step::{RunWhen, VolumeCommand, VolumeStep, VolumeWord, of_target};

/// The options of a creation that are not the volume's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Creation {
    /// What is on the devices is to be lost.
    pub force: bool,
    /// The members have the same content already, as new files of zeros have: there is no resync.
    pub assume_clean: bool,
}

/// How a volume is assembled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assembly {
    /// Also if members are missing, as long as none of the data is.
    pub degraded: bool,
    /// Servers that do not answer: their devices are left out.
    pub lost: Vec<Portal>,
    /// Also if only members are there that the others went on without: what those have is given up.
    pub stale: bool,
}

/// How long a server may take to answer when its devices are connected.
pub const REACH: u32 = 5;
/// How long a disk may take to appear after the login.
const APPEAR: u32 = 10;

/// open-iscsi's settings for members of mirrors: others have the same data, so a server that does
/// not answer costs seconds, where its defaults cost two minutes. It is asked every 2 s and has 2 s
/// to answer; after another 3 s its requests fail, and md goes on without it. A login is tried
/// once (by default for minutes: a target that does not exist is retried like one that is starting),
/// and only by us: which sessions are needed is known when a volume is assembled.
const ISCSI: [(&str, &str); 10] = [
    ("node.startup", "manual"),
    ("node.session.initial_login_retry_max", "1"),
    ("node.session.timeo.replacement_timeout", "3"),
    ("node.conn[0].timeo.noop_out_interval", "2"),
    ("node.conn[0].timeo.noop_out_timeout", "2"),
    ("node.conn[0].timeo.login_timeout", "5"),
    ("node.conn[0].timeo.logout_timeout", "5"),
    ("node.session.err_timeo.abort_timeout", "5"),
    ("node.session.err_timeo.lu_reset_timeout", "5"),
    ("node.session.err_timeo.tgt_reset_timeout", "5"),
];
/// How long the kernel waits for a disk whose server answers but does not serve, in seconds.
const REQUEST: &str = "10";

/// iscsiadm's ISCSI_ERR_NO_OBJS_FOUND, of a logout.
const NOT_THERE: &[i32] = &[21];

/// Creates a volume, or continues a creation that was interrupted.
pub fn create(volume: &VolumeRecord, how: Creation) -> Vec<VolumeStep> {
    let record = |phase| VolumeStep::Record { volume: volume.name.clone(), phase };
    let formatting = volume.phase == VolumePhase::Formatting;
    let continued = formatting || volume.phase == VolumePhase::Creating;
    let mut steps = Vec::new();
    if !continued {
        steps.push(record(VolumePhase::Connecting));
    }
    connect(volume, &[], &mut steps);
    for (array, uuid) in volume.places.arrays.iter().zip(&volume.arrays) {
        steps.extend(array.iter().map(|device| VolumeStep::Inspect {
            what: VolumeWord::Device(volume.devices[*device].clone()),
            force: how.force,
            own: continued.then_some(*uuid),
        }));
    }
    if !continued {
        steps.push(record(VolumePhase::Creating));
    }
    if how.force {
        // Also when it is continued: it may have been interrupted among these.
        for (number, uuid) in volume.arrays.iter().enumerate() {
            steps.extend(members(volume, number).map(|device| {
                let words = [text("wipefs"), text("--all"), text("--quiet"), device];
                run_when(RunWhen::Stopped(*uuid), words)
            }));
        }
    }
    for (number, uuid) in volume.arrays.iter().enumerate() {
        steps.push(run_when(RunWhen::Stopped(*uuid), create_array(volume, number, how)));
    }
    if let Some(uuid) = volume.stripe {
        steps.push(run_when(RunWhen::Stopped(uuid), create_stripe(volume, uuid)));
    }
    if let Some(top) = top(volume) {
        if !formatting {
            // The devices may have had a volume of the same shape before.
            let what = top.clone();
            steps.push(VolumeStep::Inspect { what, force: how.force, own: None });
            steps.push(record(VolumePhase::Formatting));
        }
        match volume.file_system {
            FileSystem::Ext4 => steps.push(run([text("mkfs.ext4"), text("-q"), text("-F"), top])),
            FileSystem::Xfs => steps.push(run([text("mkfs.xfs"), text("-q"), text("-f"), top])),
            FileSystem::None => {}
        }
    }
    steps.push(record(VolumePhase::Ready));
    steps
}

/// Takes a volume up again from its superblocks.
pub fn assemble(volume: &VolumeRecord, how: &Assembly) -> Vec<VolumeStep> {
    let mut steps = Vec::new();
    connect(&volume.with_leaving(), &how.lost, &mut steps);
    let is_here = |device: &&VolumeDevice| !is_on(device, &how.lost);
    for (number, uuid) in volume.arrays.iter().enumerate() {
        let devices = volume.candidates(number).into_iter().filter(is_here);
        steps.extend(
            devices.map(|device| VolumeStep::Identify { device: device.clone(), array: *uuid }),
        );
    }
    let numbers = 0..volume.arrays.len();
    steps.extend(numbers.map(|array| VolumeStep::Judge { array, stale: how.stale }));
    if how.stale {
        steps.push(VolumeStep::Record { volume: volume.name.clone(), phase: volume.phase });
    }
    // Without --run, mdadm starts an array only with all members that it had at last.
    let assembly = |name: String, uuid: String| {
        let run = how.degraded.then(|| text("--run"));
        let words =
            ["mdadm".into(), "--assemble".into(), format!("/dev/md/{name}")].map(VolumeWord::Text);
        words.into_iter().chain(run).chain([VolumeWord::Text(format!("--uuid={uuid}"))])
    };
    for (number, uuid) in volume.arrays.iter().enumerate() {
        let words = assembly(volume.array_name(number), uuid.to_string());
        let members = volume.candidates(number).into_iter().filter(is_here);
        let members = members.map(|device| VolumeWord::Device(device.clone()));
        steps.push(run_when(RunWhen::Stopped(*uuid), words.chain(members)));
    }
    if let Some(uuid) = volume.stripe {
        // A stripe cannot do without any of its arrays.
        let words = assembly(volume.volume_name(), uuid.to_string());
        let words = words.filter(|word| *word != text("--run")).chain(arrays(volume));
        steps.push(run_when(RunWhen::Stopped(uuid), words));
    }
    steps.push(VolumeStep::Remember);
    steps
}

/// Stops a volume that is not mounted, and disconnects its devices. Nothing is written to them but
/// that they are clean.
pub fn stop(volume: &VolumeRecord) -> Vec<VolumeStep> {
    let all = volume.with_leaving();
    let mut steps = vec![VolumeStep::Remember, VolumeStep::Quiet { devices: all.devices.clone() }];
    stop_arrays(volume, &mut steps);
    disconnect(&all, &mut steps);
    steps
}

/// Removes a volume from its devices: they are no longer members of anything. The data itself is
/// not overwritten. Those of `without` are left as they are: they are gone for good.
pub fn destroy(volume: &VolumeRecord, without: &[VolumeDevice]) -> Vec<VolumeStep> {
    let phase = VolumePhase::Destroying;
    let forget = VolumeStep::Forget { volume: volume.name.clone() };
    if volume.phase == VolumePhase::Connecting {
        // Nothing of it is on the devices, and they need not be there.
        let mut steps = Vec::new();
        disconnect(volume, &mut steps);
        steps.push(forget);
        return steps;
    }
    let mut steps = vec![VolumeStep::Record { volume: volume.name.clone(), phase }];
    let all = volume.with_leaving();
    let mut here = all.clone();
    here.devices.retain(|device| !without.contains(device));
    connect(&here, &[], &mut steps);
    stop_arrays(volume, &mut steps);
    for (number, uuid) in volume.arrays.iter().enumerate() {
        let members = volume.all_of(number).into_iter();
        for device in members.filter(|device| here.devices.contains(device)) {
            steps.push(VolumeStep::Identify { device: device.clone(), array: *uuid });
            let device = VolumeWord::Device(device.clone());
            steps.push(run([text("mdadm"), text("--zero-superblock"), device]));
        }
    }
    disconnect(&all, &mut steps);
    steps.push(forget);
    steps
}

pub(super) fn text(text: &str) -> VolumeWord {
    VolumeWord::Text(text.to_owned())
}

fn run(words: impl IntoIterator<Item = VolumeWord>) -> VolumeStep {
    run_when(RunWhen::Always, words)
}

pub(super) fn run_when(when: RunWhen, words: impl IntoIterator<Item = VolumeWord>) -> VolumeStep {
    run_or(words, &[], when)
}

/// A command for which these exit codes say that it was so already.
pub(super) fn run_or(
    words: impl IntoIterator<Item = VolumeWord>,
    done: &'static [i32],
    when: RunWhen,
) -> VolumeStep {
    VolumeStep::Run(VolumeCommand { words: words.into_iter().collect(), done, when })
}

/// Each once, in the order of the devices.
fn once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut found, one| {
        if !found.contains(&one) {
            found.push(one);
        }
        found
    })
}

/// The servers of the devices that are reached over the network.
pub fn portals(volume: &VolumeRecord) -> Vec<&Portal> {
    once(volume.devices.iter().filter_map(VolumeDevice::portal))
}

pub(super) fn is_on(device: &VolumeDevice, portals: &[Portal]) -> bool {
    device.portal().is_some_and(|portal| portals.contains(portal))
}

fn targets(volume: &VolumeRecord) -> Vec<(&Portal, &str)> {
    once(volume.devices.iter().filter_map(|device| match device {
        VolumeDevice::Iscsi { portal, target, .. } => Some((portal, target.as_str())),
        _ => None,
    }))
}

/// All devices have block devices, but for those on `lost`.
pub(super) fn connect(volume: &VolumeRecord, lost: &[Portal], steps: &mut Vec<VolumeStep>) {
    // First all servers: one that is not there is known before anything was changed.
    let portals = portals(volume).into_iter().filter(|portal| !lost.contains(portal));
    let reach = |portal: &Portal| VolumeStep::Reach { portal: portal.clone(), seconds: REACH };
    steps.extend(portals.map(reach));
    let mut targets = targets(volume);
    targets.retain(|(portal, _)| !lost.contains(portal));
    for portal in once(targets.iter().map(|(portal, _)| *portal)) {
        // Which targets there are: a login does not say that one is not.
        let portal = portal.to_string();
        let words = [
            "iscsiadm",
            "-m",
            "discovery",
            "-t",
            "sendtargets",
            "-o",
            "nonpersistent",
            "-p",
            &portal,
        ];
        steps.push(run(words.map(text)));
    }
    let targets: Vec<(Portal, String)> =
        targets.into_iter().map(|(portal, target)| (portal.clone(), target.to_owned())).collect();
    for (number, (portal, target)) in targets.iter().enumerate() {
        let (portal, target) = (portal.clone(), target.clone());
        let like = targets.first().filter(|_| number > 0).cloned();
        steps.push(VolumeStep::Node { portal: portal.clone(), target: target.clone(), like });
        let chap = volume.chap.clone();
        steps.push(VolumeStep::Configure { portal, target, settings: &ISCSI, chap });
    }
    if !targets.is_empty() {
        steps.push(VolumeStep::Login { targets });
    }
    let here = || volume.devices.iter().filter(|device| !is_on(device, lost)).cloned();
    let is_iscsi = |device: &VolumeDevice| matches!(device, VolumeDevice::Iscsi { .. });
    steps.extend(
        here().filter(is_iscsi).map(|device| VolumeStep::Await { device, seconds: APPEAR }),
    );
    steps.extend(here().filter(is_iscsi).map(|device| VolumeStep::Set {
        device,
        file: "device/timeout",
        value: REQUEST.to_owned(),
    }));
    for device in here() {
        match &device {
            VolumeDevice::Nbd { .. } => {
                steps.push(VolumeStep::Connect { device: device.clone() });
                steps.push(VolumeStep::Await { device, seconds: APPEAR });
            }
            VolumeDevice::File(_) => steps.push(VolumeStep::Attach { device }),
            VolumeDevice::Iscsi { .. } | VolumeDevice::Block(_) => {}
        }
    }
    let devices = here().collect();
    steps.push(VolumeStep::Quiet { devices });
}

pub(super) fn disconnect(volume: &VolumeRecord, steps: &mut Vec<VolumeStep>) {
    for device in &volume.devices {
        match device {
            VolumeDevice::Nbd { .. } => {
                steps.push(VolumeStep::Disconnect { device: device.clone() });
            }
            VolumeDevice::File(_) => steps.push(VolumeStep::Detach { device: device.clone() }),
            VolumeDevice::Iscsi { .. } | VolumeDevice::Block(_) => {}
        }
    }
    for rest in [&["--logout"][..], &["-o", "delete"]] {
        for (portal, target) in targets(volume) {
            // Other volumes may have disks of the target.
            let when = RunWhen::Unshared;
            steps.push(VolumeStep::Run(of_target(portal, target, rest, NOT_THERE, when)));
        }
    }
}

fn stop_arrays(volume: &VolumeRecord, steps: &mut Vec<VolumeStep>) {
    let stripe = volume.stripe.and_then(|uuid| Some((uuid, top(volume)?)));
    let arrays = volume.arrays.iter().copied().zip(arrays(volume));
    for (uuid, array) in stripe.into_iter().chain(arrays) {
        let words = [text("mdadm"), text("--stop"), array];
        steps.push(run_when(RunWhen::Running(uuid), words));
    }
}

/// What is mounted.
fn top(volume: &VolumeRecord) -> Option<VolumeWord> {
    volume.top().map(|uuid| VolumeWord::Array { uuid, name: volume.volume_name() })
}

pub(super) fn arrays(volume: &VolumeRecord) -> impl Iterator<Item = VolumeWord> {
    let array = |(number, uuid): (usize, &_)| VolumeWord::Array {
        uuid: *uuid,
        name: volume.array_name(number),
    };
    volume.arrays.iter().enumerate().map(array)
}

fn members(volume: &VolumeRecord, number: usize) -> impl Iterator<Item = VolumeWord> {
    let places = &volume.places.arrays[number];
    places.iter().map(|device| VolumeWord::Device(volume.devices[*device].clone()))
}

/// `mdadm --create`, as far as it is the same for all arrays. Nothing is left to defaults, which
/// depend on mdadm's version and on mdadm.conf. `--run`: there is nobody to ask.
fn create_words(
    volume: &VolumeRecord,
    name: &str,
    uuid: impl std::fmt::Display,
    offset_and_size: Option<(u64, u64)>,
) -> Vec<VolumeWord> {
    let mut words =
        vec![text("mdadm"), text("--create"), VolumeWord::Text(format!("/dev/md/{name}"))];
    words.extend(["--run", "--metadata=1.2"].map(text));
    words.push(VolumeWord::Text(format!("--homehost={}", volume.host)));
    words.push(VolumeWord::Text(format!("--name={name}")));
    words.push(VolumeWord::Text(format!("--uuid={uuid}")));
    match offset_and_size {
        Some((offset, size)) => {
            words.push(VolumeWord::Text(format!("--data-offset={}K", offset >> 10)));
            words.push(VolumeWord::Text(format!("--size={}K", size >> 10)));
        }
        None => {
            let later = ["--data-offset=<by size>", "--size=<of the smallest>"];
            words.extend(later.map(|word| VolumeWord::Later(word.to_owned())));
        }
    }
    words
}

fn create_array(volume: &VolumeRecord, number: usize, how: Creation) -> Vec<VolumeWord> {
    let shape = volume.places.shape;
    let sizes = volume.capacity.map(|sizes| (sizes.offset, sizes.member));
    let name = volume.array_name(number);
    let mut words = create_words(volume, &name, volume.arrays[number], sizes);
    let (level, layout) = match shape.layout {
        RaidLayout::Mirror => (1, None),
        RaidLayout::Offset => (10, Some(format!("o{}", shape.copies))),
        RaidLayout::Near => (10, Some(format!("n{}", shape.copies))),
        RaidLayout::Far => (10, Some(format!("f{}", shape.copies))),
        RaidLayout::Raid5 => (5, Some("left-symmetric".to_owned())),
        RaidLayout::Raid6 => (6, Some("left-symmetric".to_owned())),
    };
    words.push(VolumeWord::Text(format!("--level={level}")));
    if let Some(layout) = layout {
        words.push(VolumeWord::Text(format!("--layout={layout}")));
        words.push(VolumeWord::Text(format!("--chunk={}K", volume.chunk.0 >> 10)));
    }
    words.push(VolumeWord::Text(format!("--raid-devices={}", shape.members)));
    // What was written while a member was away is all that is copied when it is back.
    words.push(text("--bitmap=internal"));
    if how.assume_clean && matches!(level, 1 | 10) {
        words.push(text("--assume-clean"));
    }
    if volume.fails_fast(number) {
        words.push(text("--failfast"));
    }
    words.extend(members(volume, number));
    words
}

fn create_stripe(volume: &VolumeRecord, uuid: ArrayUuid) -> Vec<VolumeWord> {
    let sizes = volume.capacity.map(|sizes| (sizes.stripe_offset, sizes.stripe_member));
    let mut words = create_words(volume, &volume.volume_name(), uuid, sizes);
    words.push(text("--level=0"));
    words.push(VolumeWord::Text(format!("--chunk={}K", volume.chunk.0 >> 10)));
    words.push(VolumeWord::Text(format!("--raid-devices={}", volume.arrays.len())));
    words.extend(arrays(volume));
    words
}
