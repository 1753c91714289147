//! What the tools of Debian 12 and Linux 6.1 wrote (recorded/), when three servers exported two
//! targets each and one server was lost and came back.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use super::array::{MdArray, MdState, MemberState};
use super::device::VolumeDevice;
use super::host::disk_of;
use super::layout::{RaidLayout, Shape};
use super::mdadm::{ArrayDetail, ArrayUuid, Superblock};
use super::mdstat::{SyncPosition, SyncProgress, mdstat_of};
use super::place::{Losses, Places};
use super::record::{FileSystem, LeavingDevice, VolumePhase, VolumeRecord};
use super::seen::SeenArray;
use super::session::{IscsiDisk, IscsiSession, SessionState};
use super::signature::signatures_of;
use super::status::{self, MemberHealth, SeenNow, VolumeHealth};
use super::watch;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("recorded/", $name))
    };
}

/// A directory made of lines `path = content`.
struct Sysfs(PathBuf);

impl Sysfs {
    fn of(name: &str, tree: &str) -> Sysfs {
        let top = std::env::temp_dir().join(format!("garth-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        for line in tree.lines() {
            let (path, content) = line.split_once(" =").unwrap();
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{}\n", content.trim_start())).unwrap();
        }
        Sysfs(top)
    }
}

impl Drop for Sysfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn uuid(last: char) -> ArrayUuid {
    format!("11111111:22222222:33333333:4444aaa{last}").parse().unwrap()
}

fn states(array: &MdArray) -> Vec<(&str, Option<u32>, MemberState)> {
    array.members.iter().map(|m| (m.device.as_str(), m.slot, m.state)).collect()
}

#[test]
fn a_healthy_volume_is_read_from_sysfs() {
    let sysfs = Sysfs::of("md-healthy", recorded!("md-healthy.tree"));
    let [stripe, second, first] = &MdArray::all(&sysfs.0).unwrap()[..] else { panic!() };
    assert_eq!((stripe.uuid, stripe.level.as_str(), stripe.slots), (Some(uuid('9')), "raid0", 2));
    assert_eq!((first.uuid, first.state, first.degraded), (Some(uuid('1')), MdState::Running, 0));
    assert_eq!(
        (second.uuid, second.component, &second.progress),
        (Some(uuid('2')), 45 << 20, &None)
    );
    let in_sync = MemberState::InSync;
    assert_eq!(
        states(first),
        [("sda", Some(0), in_sync), ("sdc", Some(1), in_sync), ("sde", Some(2), in_sync)]
    );
}

#[test]
fn a_lost_member_has_no_slot_and_one_that_is_copied_to_has_its_own() {
    let sysfs = Sysfs::of("md-degraded", recorded!("md-degraded.tree"));
    let array = MdArray::read(&sysfs.0, "md127").unwrap().unwrap();
    assert_eq!((array.degraded, array.state), (1, MdState::Running));
    assert_eq!(states(&array)[0], ("sda", None, MemberState::Faulty));

    let sysfs = Sysfs::of("md-recovery", recorded!("md-recovery.tree"));
    let array = MdArray::read(&sysfs.0, "md126").unwrap().unwrap();
    assert_eq!(states(&array)[0], ("sdb", Some(0), MemberState::Rebuilding));

    let sysfs = Sysfs::of("md-raid5", recorded!("md-raid5.tree"));
    let array = MdArray::read(&sysfs.0, "md125").unwrap().unwrap();
    let at = SyncPosition { done: 13064 * 512, of: 40960 * 512, speed: 1301 * 1024 };
    assert_eq!(array.progress, Some(SyncProgress { action: "recovery".into(), at: Some(at) }));
    assert_eq!((at.permille(), at.seconds_left()), (318, Some(10)));
}

#[test]
fn a_device_whose_array_was_stopped_is_no_array() {
    let sysfs = Sysfs::of("md-stopped", recorded!("md-stopped.tree"));
    let names: Vec<String> =
        MdArray::all(&sysfs.0).unwrap().into_iter().map(|array| array.device).collect();
    assert_eq!(names, ["md124"]);
    assert_eq!(MdArray::read(&sysfs.0, "md1").unwrap(), None);
    assert_eq!(MdArray::all(Path::new("/nonexistent")).unwrap(), []);
    for array in MdArray::all(&sysfs.0).unwrap() {
        let Some(uuid) = array.uuid else { continue };
        assert_eq!(MdArray::of(&sysfs.0, uuid).unwrap(), Some(array));
    }
    assert_eq!(MdArray::of(&sysfs.0, ArrayUuid([9; 16])).unwrap(), None);
}

#[test]
fn a_value_of_sysfs_that_is_not_understood_is_an_error() {
    for (file, value) in [
        ("array_state", "dreaming"),
        ("raid_disks", "three"),
        ("degraded", "-1"),
        ("uuid", "1111"),
        ("sync_action", "dance"),
        ("dev-sda/state", "in_slumber"),
        ("dev-sda/slot", "first"),
    ] {
        let line = format!("block/md127/md/{file} = {value}");
        let tree = format!("{}{line}\n", recorded!("md-healthy.tree"));
        let sysfs = Sysfs::of("md-wrong", &tree);
        let refused = MdArray::read(&sysfs.0, "md127").unwrap_err().to_string();
        assert!(refused.contains(file) && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn mdstat_says_what_runs_and_how_far_a_resync_is() {
    let progress = |text: &str, device: &str| {
        let arrays = mdstat_of(text).unwrap();
        arrays.into_iter().find(|array| array.device == device).unwrap().progress
    };
    let at = |done: u64, of: u64, speed: u64| {
        Some(SyncPosition { done: done << 10, of: of << 10, speed: speed << 10 })
    };
    for (text, device, action, at) in [
        (recorded!("mdstat-resync"), "md126", "resync", at(2944, 46080, 2944)),
        (recorded!("mdstat-recovery"), "md127", "recovery", at(3072, 46080, 3072)),
        (recorded!("mdstat-check"), "md122", "check", at(512, 20480, 512)),
        (recorded!("mdstat-raid5"), "md125", "recovery", at(4992, 20480, 4992)),
        ("md0 : active raid1 a[1] b[0]\n      \tresync=DELAYED\n", "md0", "resync", None),
    ] {
        assert_eq!(progress(text, device), Some(SyncProgress { action: action.into(), at }));
    }
    assert_eq!(progress(recorded!("mdstat-check"), "md123"), None);
}

#[test]
fn mdstat_says_which_member_is_lost() {
    let arrays = mdstat_of(recorded!("mdstat-degraded")).unwrap();
    let [stripe, second, _] = &arrays[..] else { panic!() };
    assert_eq!((stripe.level.as_deref(), stripe.active), (Some("raid0"), true));
    let members: Vec<(&str, u32, bool)> =
        second.members.iter().map(|m| (m.device.as_str(), m.number, m.faulty)).collect();
    assert_eq!(members, [("sdf", 2, false), ("sdd", 1, false), ("sdb", 0, true)]);

    let text = "md0 : inactive sda[0](S)\nmd1 : active (auto-read-only) raid1 sdb[0]\nmd_d2 : broken raid0 sdc[0](F)\n";
    let arrays = mdstat_of(text).unwrap();
    let levels: Vec<_> = arrays.iter().map(|a| (a.active, a.level.as_deref())).collect();
    assert_eq!(levels, [(false, None), (true, Some("raid1")), (true, Some("raid0"))]);

    for wrong in [
        "md0 : asleep raid1",
        "md0",
        "md0 : active raid1 sda[x]",
        "md0 : active raid1 a[0]\n  resync = 1%",
    ] {
        let refused = mdstat_of(wrong).unwrap_err().to_string();
        assert!(refused.starts_with("/proc/mdstat: not understood"), "{refused}");
    }
}

#[test]
fn a_superblock_says_which_array_its_device_is_of() {
    let block = Superblock::parse(recorded!("examine")).unwrap();
    assert_eq!((block.array, block.level.as_str(), block.members), (uuid('1'), "raid10", 3));
    assert_eq!((block.host_and_name(), block.events), ((Some("client"), "garth-data.1"), 17));

    let other = recorded!("examine").replace("MD_EVENTS=17", "MD_EVENTS=18");
    let both = Superblock::parse_all(&format!("{}{other}", recorded!("examine"))).unwrap();
    assert_eq!(both.iter().map(|one| one.events).collect::<Vec<_>>(), [17, 18]);
    assert_eq!(both[0], block);
    assert!(Superblock::parse_all("").unwrap().is_empty());
    assert!(Superblock::parse_all(&other[other.find('\n').unwrap() + 1..]).is_err());

    let detail = ArrayDetail::parse(recorded!("detail-stripe")).unwrap();
    assert_eq!((detail.array, detail.device_name.as_deref()), (uuid('9'), Some("garth-data")));
    let slots: Vec<_> = detail.members.iter().map(|(at, slot)| (at.as_str(), *slot)).collect();
    assert_eq!(slots, [("/dev/md/garth-data.2", Some(1)), ("/dev/md/garth-data.1", Some(0))]);
    // One is being copied to.
    assert_eq!(ArrayDetail::parse(recorded!("detail")).unwrap().members.len(), 3);
}

#[test]
fn what_mdadm_did_not_write_is_refused() {
    let good = recorded!("examine");
    for wrong in [
        String::new(),
        good.replace("MD_UUID=11", "MD_UUID=1"),
        good.replace("MD_EVENTS=17", "MD_EVENTS=many"),
        good.replace("MD_EVENTS=17", "MD_UUID=11111111:22222222:33333333:4444aaa1"),
        good.replace("MD_EVENTS=17", "mdadm: something"),
        format!("MD_METADATA=imsm\n{good}"),
    ] {
        let refused = Superblock::parse(&wrong).unwrap_err().to_string();
        assert!(!refused.contains('\n'), "{refused}");
    }
}

#[test]
fn all_signatures_are_seen_also_of_what_is_below_another() {
    let words = |json: &str| -> Vec<String> {
        signatures_of(json).unwrap().iter().map(super::signature::Signature::words).collect()
    };
    let ext4 = words(recorded!("wipefs-both.json"));
    assert_eq!(ext4[0], "LVM2_member");
    assert!(ext4[1].starts_with("ext4 \""), "{ext4:?}");
    assert_eq!(words(recorded!("wipefs-gpt.json")), ["gpt", "gpt", "PMBR"]);
    assert!(words(recorded!("wipefs-empty.json")).is_empty());
    // Of several devices each names its own.
    let two = r#"{"signatures": [{"device": "sda", "offset": "0x438", "type": "ext4", "uuid": null, "label": null},
        {"device": "sdb", "offset": "0xff6", "type": "swap", "uuid": null, "label": null}]}"#;
    let named = signatures_of(two).unwrap().into_iter().map(|one| one.device.unwrap());
    assert!(named.eq(["sda", "sdb"]));
    for wrong in
        ["", "{}", "[]", r#"{"signatures":[{"offset":"9","type":"x","uuid":null,"label":null}]}"#]
    {
        let refused = signatures_of(wrong).unwrap_err().to_string();
        assert!(!refused.contains('\n'), "{refused}");
    }
}

#[test]
fn a_session_says_whether_its_server_is_there_and_which_disks_it_has() {
    let healthy = Sysfs::of("iscsi-healthy", recorded!("iscsi-healthy.tree"));
    let sessions = IscsiSession::all(&healthy.0).unwrap();
    let numbers: Vec<u32> = sessions.iter().map(|session| session.number).collect();
    assert_eq!(numbers, [1, 5, 6]);
    let text = "iscsi://10.0.3.1/iqn.2015-06.net.example:s3.vol1";
    let device = VolumeDevice::parse(text, Path::new("/")).unwrap();
    let of: Vec<bool> = sessions.iter().map(|session| session.has(&device)).collect();
    assert_eq!(of, [false, true, false]);
    let disk = &sessions[1].disks[0];
    assert_eq!((disk.lun, disk.device.as_str(), disk.state.as_str()), (0, "sde", "running"));
    assert_eq!(sessions[1].recovery_timeout, Some(3));
    assert_eq!(IscsiSession::of(&healthy.0, &device).unwrap(), sessions[1..2]);
    // Without a LUN it is the only disk, whatever its number; of several it is none.
    let sde = Some(Path::new("/dev/sde").to_owned());
    let named = |lun| VolumeDevice::parse(&format!("{text}/{lun}"), Path::new("/")).unwrap();
    assert_eq!((disk_of(&sessions, &device), disk_of(&sessions, &named(0))), (sde.clone(), sde));
    assert_eq!(disk_of(&sessions, &named(1)), None);
    let mut several = sessions.clone();
    several[1].disks.push(IscsiDisk { lun: 1, device: "sdz".into(), state: "running".into() });
    assert_eq!(disk_of(&several, &device), None);
    assert_eq!(disk_of(&several, &named(1)), Some(Path::new("/dev/sdz").to_owned()));

    let degraded = Sysfs::of("iscsi-degraded", recorded!("iscsi-degraded.tree"));
    let sessions = IscsiSession::all(&degraded.0).unwrap();
    assert_eq!(
        (sessions[0].state, sessions[1].state),
        (SessionState::Free, SessionState::LoggedIn)
    );
    assert_eq!(sessions[0].disks[0].state, "transport-offline");
    assert_eq!(IscsiSession::all(Path::new("/nonexistent")).unwrap(), []);
}

/// The volume that was recorded: some of its devices by their targets, the others by their disks.
fn recorded_volume() -> VolumeRecord {
    let target = |server: u8, volume: u8| {
        format!("iscsi://10.0.{server}.1/iqn.2015-06.net.example:s{server}.vol{volume}")
    };
    let devices = [
        target(1, 1),
        "/dev/sdc".into(),
        target(3, 1),
        "/dev/sdb".into(),
        "/dev/sdd".into(),
        target(3, 2),
    ];
    let shape = Shape { layout: RaidLayout::Offset, arrays: 2, members: 3, copies: 3 };
    let chunk = 512 << 10;
    VolumeRecord {
        name: "data".into(),
        host: "client".into(),
        phase: VolumePhase::Ready,
        devices: VolumeDevice::parse_all(&devices, Path::new("/")).unwrap(),
        places: Places { shape, arrays: vec![vec![0, 1, 2], vec![3, 4, 5]] },
        chunk: crate::config::Size(chunk),
        size: None,
        capacity: Some(shape.capacity(48 << 20, None, chunk).unwrap()),
        arrays: vec![uuid('1'), uuid('2')],
        stripe: Some(uuid('9')),
        file_system: FileSystem::Ext4,
        superseded: Vec::new(),
        leaving: Vec::new(),
        chap: None,
    }
}

fn status_by(volume: &VolumeRecord, name: &str, md: &str, iscsi: &str) -> status::VolumeStatus {
    let (md, iscsi) =
        (Sysfs::of(&format!("{name}-md"), md), Sysfs::of(&format!("{name}-iscsi"), iscsi));
    let seen = SeenNow {
        arrays: MdArray::all(&md.0).unwrap(),
        sessions: IscsiSession::all(&iscsi.0).unwrap(),
    };
    let disk = |device: &VolumeDevice| match device {
        VolumeDevice::Block(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
        _ => None,
    };
    status::of(volume, &seen, &disk)
}

#[test]
fn a_volume_says_what_may_still_be_lost() {
    let (md, iscsi) = (recorded!("md-healthy.tree"), recorded!("iscsi-healthy.tree"));
    let (md_lost, iscsi_lost) = (recorded!("md-degraded.tree"), recorded!("iscsi-degraded.tree"));
    let volume = recorded_volume();
    let losses = |devices| Some(Losses { devices, servers: None });

    let whole = status_by(&volume, "whole", md, iscsi);
    assert_eq!((whole.health, whole.may_lose), (VolumeHealth::Healthy, losses(2)));
    let devices = whole.arrays[0].members.iter().map(|member| member.device.as_deref());
    assert_eq!(devices.collect::<Vec<_>>(), [Some("/dev/sda"), Some("/dev/sdc"), Some("/dev/sde")]);

    // Nothing was read since the server went: md does not know yet, the session does.
    let soon = status_by(&volume, "soon", md, iscsi_lost);
    assert_eq!((soon.health, soon.may_lose), (VolumeHealth::Degraded, losses(1)));
    assert_eq!(soon.arrays[0].members[0].connected, Some(false));

    let lost = status_by(&volume, "lost", md_lost, iscsi_lost);
    assert_eq!((lost.health, lost.may_lose), (VolumeHealth::Degraded, losses(1)));
    let states = lost.arrays[1].members.iter().map(|member| member.state);
    assert_eq!(
        states.collect::<Vec<_>>(),
        [MemberHealth::Faulty, MemberHealth::InSync, MemberHealth::InSync]
    );
}

#[test]
fn what_has_happened_to_members_is_told_once_for_each_server() {
    let (md, iscsi) = (recorded!("md-healthy.tree"), recorded!("iscsi-healthy.tree"));
    let (md_lost, iscsi_lost) = (recorded!("md-degraded.tree"), recorded!("iscsi-degraded.tree"));
    let volume = recorded_volume();
    let mut whole = status_by(&volume, "before", md, iscsi);
    let mut lost = status_by(&volume, "after", md_lost, iscsi_lost);
    let before = watch::members(&whole);
    assert_eq!(watch::changes(&before, &whole), [""; 0]);
    let end = "lost; it is degraded, may still lose any 1 device";
    let one = "iscsi://10.0.1.1/iqn.2015-06.net.example:s1.vol1";
    let said = [one, "/dev/sdb"].map(|member| format!("RAID volume data: {member} is {end}"));
    assert_eq!(watch::changes(&before, &lost), said);
    // Both on one server.
    for status in [&mut whole, &mut lost] {
        status.arrays[1].members[0].server = Some("10.0.1.1".into());
    }
    let said = [format!("RAID volume data: 2 members on 10.0.1.1 are {end}")];
    assert_eq!(watch::changes(&before, &lost), said);
    // The same again is no news.
    let now = watch::members(&lost);
    assert_eq!(watch::changes(&now, &lost), [""; 0]);
    let said = ["RAID volume data: 2 members on 10.0.1.1 are back; it is healthy"];
    assert_eq!(watch::changes(&now, &whole), said);
    // Those that it did not have before are no news either.
    assert_eq!(watch::changes(&watch::VolumeSeen::new(), &lost), [""; 0]);
}

#[test]
fn a_volume_that_is_not_there_is_stopped_and_one_without_an_array_has_failed() {
    let volume = recorded_volume();
    let gone = status_by(&volume, "gone", "", "");
    assert_eq!((gone.health, gone.may_lose, gone.device), (VolumeHealth::Stopped, None, None));

    let lines = recorded!("md-healthy.tree").lines();
    let rest: Vec<&str> = lines.filter(|line| !line.starts_with("block/md127/")).collect();
    let partly =
        status_by(&volume, "partly", &(rest.join("\n") + "\n"), recorded!("iscsi-healthy.tree"));
    assert_eq!((partly.health, partly.may_lose), (VolumeHealth::Failed, None));

    let unfinished = VolumeRecord { phase: VolumePhase::Formatting, ..volume };
    let unfinished = status_by(
        &unfinished,
        "unfinished",
        recorded!("md-healthy.tree"),
        recorded!("iscsi-healthy.tree"),
    );
    assert_eq!(unfinished.health, VolumeHealth::Stopped);
}

#[test]
fn a_member_whose_disk_was_connected_anew_is_none() {
    let mut volume = recorded_volume();
    // The array has sdb still; what is at that address now is another disk.
    volume.devices[3] = VolumeDevice::Block("/dev/sdx".into());
    let status =
        status_by(&volume, "anew", recorded!("md-healthy.tree"), recorded!("iscsi-healthy.tree"));
    assert_eq!(status.arrays[1].members[0].state, MemberHealth::Missing);
    assert_eq!(status.health, VolumeHealth::Degraded);
}

#[test]
fn what_is_being_replaced_counts_until_the_other_is_up_to_date() {
    let mut volume = recorded_volume();
    let old = std::mem::replace(&mut volume.devices[3], VolumeDevice::Block("/dev/sdx".into()));
    volume.leaving.push(LeavingDevice { device: old, place: 3, joined: true });
    let by = |volume: &VolumeRecord, name: &str, md| {
        status_by(volume, name, md, recorded!("iscsi-healthy.tree"))
    };
    let begun = by(&volume, "begun", recorded!("md-healthy.tree"));
    assert_eq!(begun.health, VolumeHealth::Healthy);
    let member = &begun.arrays[1].members[0];
    assert_eq!(member.state, MemberHealth::Missing);
    assert_eq!(member.replaces.as_ref().unwrap().state, MemberHealth::InSync);
    // The old one is lost meanwhile.
    let lost = by(&volume, "old-lost", recorded!("md-degraded.tree"));
    assert_eq!(lost.health, VolumeHealth::Degraded);
}

#[test]
fn only_a_member_that_has_seen_the_last_change_is_the_latest() {
    let device = |name: &str| VolumeDevice::Block(name.into());
    let (a, b) = (device("/dev/a"), device("/dev/b"));
    let seen = SeenArray { array: uuid('1'), events: 20, up_to_date: vec![b.clone()] };
    // b went on without a; clean, it may be one event back.
    for (device, events, latest) in [
        (&a, 18, false),
        (&a, 20, false),
        (&a, 21, true),
        (&b, 18, false),
        (&b, 19, true),
        (&b, 30, true),
    ] {
        assert_eq!(seen.is_latest(device, events), latest, "{device} {events}");
    }
}
