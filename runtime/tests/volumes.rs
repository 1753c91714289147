//! The programs of volumes as data: golden texts, and rules that hold for every shape.
//!
//! `UPDATE=1 cargo test --test volumes` rewrites the golden texts; read the diff.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use garth::config::Size;
use garth::journal::Journal;
use garth::volume::device::VolumeDevice;
use garth::volume::explain::{VolumeAction, explain};
use garth::volume::layout::{AskedShape, RaidLayout};
use garth::volume::mdadm::ArrayUuid;
use garth::volume::mend::{Mending, repair, retire};
use garth::volume::place::Places;
use garth::volume::program::{Assembly, Creation, assemble, create, destroy, stop};
use garth::volume::record::{FileSystem, LeavingDevice, VolumePhase, VolumeRecord};
use garth::volume::step::{RunWhen, VolumeCommand, VolumeStep, VolumeWord};

/// A volume on these devices, of which the smallest has `size` bytes, if it is known.
fn volume(name: &str, asked: AskedShape, devices: &[&str], size: Option<u64>) -> VolumeRecord {
    let devices = VolumeDevice::parse_all(devices, Path::new("/srv")).unwrap();
    let shape = asked.of(devices.len()).unwrap();
    let servers: Vec<Option<&str>> = devices.iter().map(VolumeDevice::server).collect();
    let places = Places::find(shape, &servers).unwrap();
    let uuid = |last: u32| {
        ArrayUuid([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 1, 2, 3, 4, 5, 6, last as u8])
    };
    let chunk = Size(512 << 10);
    VolumeRecord {
        name: name.into(),
        host: "client".into(),
        phase: VolumePhase::Connecting,
        capacity: size.map(|size| shape.capacity(size, None, chunk.0).unwrap()),
        arrays: (1..=shape.arrays).map(uuid).collect(),
        stripe: shape.is_striped().then(|| uuid(0)),
        devices,
        places,
        chunk,
        size: None,
        file_system: FileSystem::Ext4,
        superseded: Vec::new(),
        leaving: Vec::new(),
        chap: None,
    }
}

/// The blog's: three servers, five targets each.
fn blog(size: Option<u64>) -> VolumeRecord {
    let asked = AskedShape { mirrors: Some(3), stripes: Some(5), ..AskedShape::default() };
    let devices = [
        "iscsi://10.0.1.1/iqn.2015-06.net.example:s1.vol{1..5}",
        "iscsi://10.0.2.1/iqn.2015-06.net.example:s2.vol{1..5}",
        "iscsi://10.0.3.1/iqn.2015-06.net.example:s3.vol{1..5}",
    ];
    volume("data", asked, &devices, size)
}

fn nbd() -> VolumeRecord {
    let asked = AskedShape { layout: RaidLayout::Mirror, mirrors: Some(2), stripes: None };
    let devices = ["nbd://store1:10810/my disk", "nbd://[fd00::2]/disk"];
    volume("pair", asked, &devices, Some(1 << 30))
}

fn files() -> VolumeRecord {
    let asked = AskedShape { layout: RaidLayout::Raid6, ..AskedShape::default() };
    let devices = ["disk{1..3}.img", "/dev/sdb"];
    VolumeRecord { file_system: FileSystem::Xfs, ..volume("local", asked, &devices, Some(1 << 30)) }
}

fn ready(volume: VolumeRecord) -> VolumeRecord {
    VolumeRecord { phase: VolumePhase::Ready, ..volume }
}

fn whole(degraded: bool) -> Assembly {
    Assembly { degraded, ..Assembly::default() }
}

fn text(steps: &[VolumeStep]) -> String {
    let mut text = String::new();
    for (number, step) in steps.iter().enumerate() {
        writeln!(text, "{number:>3}  {step}").unwrap();
    }
    text
}

fn golden(name: &str, steps: &[VolumeStep]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = text(steps);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{name} differs: UPDATE=1 rewrites it, then read the diff");
}

#[test]
fn the_programs_are_those_that_were_read() {
    golden("volume-create.txt", &create(&blog(Some(15 << 30)), Creation::default()));
    golden("volume-explain.txt", &create(&blog(None), Creation::default()));
    golden("volume-assemble.txt", &assemble(&blog(Some(15 << 30)), &Assembly::default()));
    golden("volume-stop.txt", &stop(&blog(Some(15 << 30))));
    golden("volume-repair.txt", &repair(&ready(small()), &Mending::default()));
    golden("volume-replace.txt", &repair(&replaced(false), &Mending::default()));
    golden("volume-retire.txt", &retire(&replaced(true), 3, true));
    golden("volume-destroy.txt", &destroy(&ready(nbd()), &[]));
    golden("volume-nbd.txt", &create(&nbd(), Creation { assume_clean: true, force: false }));
    golden("volume-local.txt", &create(&files(), Creation { assume_clean: true, force: true }));
}

/// Two servers, two targets each.
fn small() -> VolumeRecord {
    let asked = AskedShape { mirrors: Some(2), ..AskedShape::default() };
    let devices = ["iscsi://10.0.{1,2}.1/iqn.2015-06.net.example:vol{1,2}"];
    volume("small", asked, &devices, Some(1 << 30))
}

/// Its last device is to make room for a disk.
fn replaced(joined: bool) -> VolumeRecord {
    let mut volume = ready(small());
    let new = VolumeDevice::Block("/dev/sdx".into());
    let device = std::mem::replace(&mut volume.devices[3], new);
    volume.leaving.push(LeavingDevice { device, place: 3, joined });
    volume
}

#[test]
fn a_device_is_added_only_after_its_superblock_was_seen_or_its_content_given_up() {
    let of = |volume: &VolumeRecord, force| repair(volume, &Mending { lost: Vec::new(), force });
    for force in [false, true] {
        let mut superseded = ready(small());
        superseded.superseded.push(superseded.devices[1].clone());
        for volume in [ready(small()), replaced(false), replaced(true), superseded] {
            let steps = of(&volume, force);
            let mut looked = Vec::new();
            for step in &steps {
                match step {
                    VolumeStep::Identify { device, .. }
                    | VolumeStep::Inspect { what: VolumeWord::Device(device), .. } => {
                        looked.push(device.clone());
                    }
                    _ => {}
                }
                if word(step, "--add-spare") || word(step, "--re-add") {
                    let VolumeStep::Run(command) = step else { panic!("{step}") };
                    let Some(VolumeWord::Device(device)) = command.words.last() else { panic!() };
                    assert!(looked.contains(device), "{step}");
                    let given_up = volume.superseded.contains(device);
                    assert!(!given_up || (force && !word(step, "--re-add")), "{step}");
                }
                for text in ["--create", "--zero-superblock", "mkfs.ext4"] {
                    assert!(!word(step, text), "{step}");
                }
                assert!(!word(step, "wipefs") || (force && !volume.leaving.is_empty()), "{step}");
            }
        }
    }
}

#[test]
fn what_was_given_up_is_assembled_never_and_destroyed_too() {
    let mut volume = ready(small());
    let gone = volume.devices[1].clone();
    volume.superseded.push(gone.clone());
    let takes = |steps: &[VolumeStep], text| {
        steps.iter().filter(|step| word(step, text)).any(|step| match step {
            VolumeStep::Run(command) => command.words.contains(&VolumeWord::Device(gone.clone())),
            _ => false,
        })
    };
    assert!(!takes(&assemble(&volume, &whole(true)), "--assemble"));
    assert!(takes(&destroy(&volume, &[]), "--zero-superblock"));
    assert!(!takes(&destroy(&volume, std::slice::from_ref(&gone)), "--zero-superblock"));
}

#[test]
fn what_is_replaced_is_connected_and_assembled_with_the_other() {
    let volume = replaced(true);
    let old = volume.leaving[0].device.to_string();
    for steps in [assemble(&volume, &whole(false)), destroy(&volume, &[])] {
        assert!(text(&steps).contains(&format!("wait for the disk of {old}")), "{old}");
    }
    let assembled = text(&assemble(&volume, &whole(false)));
    assert!(assembled.contains(&format!("/dev/sdx <{old}>")), "{assembled}");
    // Before it has a superblock, there is nothing to be assembled.
    let before = text(&assemble(&replaced(false), &whole(false)));
    assert!(!before.contains("/dev/sdx") && before.contains(&format!("<{old}>")), "{before}");
}

/// The position of the only step of which this is true.
fn only(steps: &[VolumeStep], is: impl Fn(&VolumeStep) -> bool) -> usize {
    let mut found = steps.iter().enumerate().filter(|(_, step)| is(step));
    let at = found.next().unwrap().0;
    assert!(found.next().is_none());
    at
}

fn word(step: &VolumeStep, text: &str) -> bool {
    let VolumeStep::Run(command) = step else { return false };
    command.words.contains(&VolumeWord::Text(text.into()))
}

#[test]
fn nothing_is_written_before_all_devices_were_inspected_and_the_uuids_recorded() {
    for volume in [blog(Some(15 << 30)), nbd(), files()] {
        for force in [false, true] {
            let steps = create(&volume, Creation { force, assume_clean: false });
            assert!(matches!(steps[0], VolumeStep::Record { phase: VolumePhase::Connecting, .. }));
            let creating = only(&steps, |step| {
                matches!(step, VolumeStep::Record { phase: VolumePhase::Creating, .. })
            });
            let writes = |step: &VolumeStep| {
                ["--create", "wipefs", "mkfs.ext4", "mkfs.xfs"].iter().any(|text| word(step, text))
            };
            assert!(!steps[..creating].iter().any(writes));
            let inspected = steps[..creating].iter().filter(|step| {
                matches!(step, VolumeStep::Inspect { what: VolumeWord::Device(_), .. })
            });
            assert_eq!(inspected.count(), volume.devices.len());
            let made = steps.iter().filter(|step| word(step, "--create")).count();
            assert_eq!(made, volume.arrays.len() + volume.stripe.iter().len());
            assert_eq!(steps.iter().any(|step| word(step, "wipefs")), force);
            let mkfs = only(&steps, |step| word(step, "mkfs.ext4") || word(step, "mkfs.xfs"));
            let formatting = VolumePhase::Formatting;
            assert!(
                matches!(&steps[mkfs - 1], VolumeStep::Record { phase, .. } if *phase == formatting)
            );
            assert!(matches!(
                &steps[mkfs - 2],
                VolumeStep::Inspect { what: VolumeWord::Array { .. }, own: None, .. }
            ));
            assert!(matches!(
                steps.last(),
                Some(VolumeStep::Record { phase: VolumePhase::Ready, .. })
            ));
        }
    }
}

#[test]
fn only_a_creation_formats_and_only_destroy_touches_superblocks() {
    let volume = blog(Some(15 << 30));
    for steps in [assemble(&volume, &whole(false)), assemble(&volume, &whole(true)), stop(&volume)]
    {
        for text in ["--create", "wipefs", "mkfs.ext4", "--zero-superblock"] {
            assert!(!steps.iter().any(|step| word(step, text)), "{text}");
        }
    }
    let steps = destroy(&ready(volume), &[]);
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| word(step, "--zero-superblock")) {
        let VolumeStep::Run(command) = step else { panic!() };
        let VolumeStep::Identify { device, .. } = &steps[at - 1] else { panic!("{step}") };
        assert_eq!(command.words.last(), Some(&VolumeWord::Device(device.clone())));
    }
}

#[test]
fn missing_members_are_insisted_on_only_when_asked_and_never_for_the_stripe() {
    let run = |degraded| {
        let steps = assemble(&blog(Some(15 << 30)), &whole(degraded));
        steps.iter().filter(|step| word(step, "--run")).count()
    };
    assert_eq!((run(false), run(true)), (0, 5));
}

#[test]
fn requests_fail_at_once_only_where_all_members_are_on_servers_with_the_same_data() {
    let fails_fast = |volume: &VolumeRecord| {
        create(volume, Creation::default()).iter().filter(|step| word(step, "--failfast")).count()
    };
    assert_eq!((fails_fast(&blog(None)), fails_fast(&nbd()), fails_fast(&files())), (5, 1, 0));
    let mirror = AskedShape { mirrors: Some(2), ..AskedShape::default() };
    assert_eq!(fails_fast(&volume("mixed", mirror, &["nbd://store1/x", "/dev/sdb"], None)), 0);
    let raid5 = AskedShape { layout: RaidLayout::Raid5, ..AskedShape::default() };
    assert_eq!(fails_fast(&volume("parity", raid5, &["nbd://store{1..3}/x"], None)), 0);
}

#[test]
fn a_session_is_made_once_for_all_units_of_a_target() {
    let asked = AskedShape { mirrors: Some(2), ..AskedShape::default() };
    let devices =
        ["iscsi://a/iqn.2015-06.net.example:x/{0,1}", "iscsi://b/iqn.2015-06.net.example:x/{0,1}"];
    let steps = create(&volume("units", asked, &devices, None), Creation::default());
    let login = |step: &VolumeStep| match step {
        VolumeStep::Login { targets } => Some(targets.len()),
        _ => None,
    };
    assert_eq!(steps.iter().filter_map(login).collect::<Vec<_>>(), [2]);
    assert_eq!(steps.iter().filter(|step| matches!(step, VolumeStep::Await { .. })).count(), 4);
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    for volume in [blog(Some(15 << 30)), nbd(), files()] {
        let text = serde_json::to_string(&volume).unwrap();
        assert_eq!(serde_json::from_str::<VolumeRecord>(&text).unwrap(), volume);
    }
}

#[test]
fn a_creation_that_was_interrupted_accepts_its_own_superblocks_and_no_other_signature() {
    let own = |steps: &[VolumeStep]| {
        let own =
            steps.iter().filter(|step| matches!(step, VolumeStep::Inspect { own: Some(_), .. }));
        own.count()
    };
    let inspects_the_volume = |steps: &[VolumeStep]| {
        steps.iter().any(|step| {
            matches!(step, VolumeStep::Inspect { what: VolumeWord::Array { .. }, force: false, .. })
        })
    };
    let volume = blog(Some(15 << 30));
    let of = |phase| create(&VolumeRecord { phase, ..volume.clone() }, Creation::default());
    assert_eq!(own(&of(VolumePhase::Connecting)), 0);
    assert_eq!(own(&of(VolumePhase::Creating)), 15);
    // An ext4 in the arrays may be of an earlier volume, until making ours has begun.
    assert!(inspects_the_volume(&of(VolumePhase::Creating)));
    assert!(!inspects_the_volume(&of(VolumePhase::Formatting)));
    golden("volume-continue.txt", &of(VolumePhase::Formatting));
}

#[test]
fn the_devices_of_a_server_that_does_not_answer_are_left_out_of_everything() {
    let volume = blog(Some(15 << 30));
    let VolumeDevice::Iscsi { portal, .. } = &volume.devices[5] else { panic!() };
    let lost = vec![portal.clone()];
    let steps = assemble(&volume, &Assembly { degraded: true, lost, stale: false });
    let text = text(&steps);
    assert!(!text.contains("10.0.2.1") && !text.contains("s2.vol"), "{text}");
    assert!(text.contains("10.0.1.1") && text.contains("s3.vol5"), "{text}");
}

#[test]
fn a_volume_of_which_nothing_was_written_is_forgotten_without_its_servers() {
    let mut volume = blog(None);
    let reached = |volume: &VolumeRecord| text(&destroy(volume, &[])).contains("connect to");
    assert!(!reached(&volume));
    volume.phase = VolumePhase::Creating;
    assert!(reached(&volume));
}

#[test]
fn a_creation_that_is_continued_with_force_wipes_only_where_no_array_runs_yet() {
    let volume = VolumeRecord { phase: VolumePhase::Creating, ..blog(Some(15 << 30)) };
    let wiped = |force| {
        let steps = create(&volume, Creation { force, assume_clean: false });
        let wipes = steps.into_iter().filter(|step| word(step, "wipefs"));
        wipes
            .map(|step| match step {
                VolumeStep::Run(VolumeCommand { when: RunWhen::Stopped(uuid), .. }) => uuid,
                other => panic!("{other}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(wiped(false), []);
    // Three members of each array.
    let of_each = volume.arrays.iter().flat_map(|uuid| [*uuid; 3]);
    assert_eq!(wiped(true), of_each.collect::<Vec<_>>());
}

/// What is explained is what is done.
#[test]
fn verbs_are_explained_by_the_record() {
    let root = std::env::temp_dir().join(format!("garth-explain-{}", std::process::id()));
    let journal = Journal::at(&root);
    let mut record = ready(files());
    record.capacity = None;
    let entry = journal.raid().create("local").unwrap();
    std::fs::write(entry.file("record.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let explained = |action| explain(&journal, "local", &action).unwrap();
    assert_eq!(explained(VolumeAction::Stop), stop(&record));
    assert_eq!(explained(VolumeAction::Destroy { without: vec![] }), destroy(&record, &[]));
    assert_eq!(explained(VolumeAction::Assemble(whole(false))), assemble(&record, &whole(false)));
    let repaired = text(&explained(VolumeAction::Repair { force: false }));
    assert!(
        repaired.contains(&text(&repair(&record, &Mending::default())[..1])[4..]),
        "{repaired}"
    );
    let (old, new) = ("/dev/sdb".to_owned(), "/dev/sdc".to_owned());
    let replaced = text(&explained(VolumeAction::Replace { old, new, force: false }));
    assert!(replaced.contains("--replace /dev/sdb --with /dev/sdc"), "{replaced}");
    let none = VolumeAction::Fail { device: "/dev/sdz".into() };
    assert!(
        explain(&journal, "local", &none).unwrap_err().to_string().contains("no device of volume")
    );
    std::fs::remove_dir_all(&root).unwrap();
}
