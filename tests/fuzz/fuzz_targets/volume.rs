//! References to devices, and what mdadm, wipefs and the kernel write about volumes, where the names
//! of arrays, labels and exports are anybody's: an answer or an error in one line, never a panic.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use garth::volume::array::MdArray;
use garth::volume::device::VolumeDevice;
use garth::volume::layout::{AskedShape, RaidLayout};
use garth::volume::mdadm::{ArrayDetail, ArrayUuid, Superblock};
use garth::volume::mdstat::mdstat_of;
use garth::volume::place::Places;
use garth::volume::signature::signatures_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let one_line = |error: garth::Error| assert!(!error.to_string().contains('\n'), "{error}");
    let here = Path::new("/srv");
    if let Ok(devices) = VolumeDevice::parse_all(&[text], here).map_err(one_line) {
        for device in &devices {
            // What is printed is read back as the same.
            assert_eq!(VolumeDevice::parse(&device.to_string(), here).as_ref().ok(), Some(device));
        }
        let servers: Vec<Option<&str>> = devices.iter().map(VolumeDevice::server).collect();
        for layout in ["mirror", "1e", "near", "far", "raid5", "raid6"] {
            let layout: RaidLayout = layout.parse().unwrap();
            for mirrors in [None, Some(2), Some(3)] {
                let asked = AskedShape { layout, mirrors, stripes: None };
                let Ok(shape) = asked.of(devices.len()).map_err(one_line) else { continue };
                if let Ok(places) = Places::find(shape, &servers).map_err(one_line) {
                    assert!(places.losses(&servers, &|_| false).is_some());
                }
            }
        }
    }
    if let Ok(uuid) = text.parse::<ArrayUuid>().map_err(one_line) {
        assert_eq!(uuid.to_string().parse::<ArrayUuid>().unwrap(), uuid);
    }
    let _ = text.parse::<RaidLayout>().map_err(one_line);
    let _ = Superblock::parse(text).map_err(one_line);
    let _ = Superblock::parse_all(text).map_err(one_line);
    let _ = ArrayDetail::parse(text).map_err(one_line);
    let _ = mdstat_of(text).map_err(one_line);
    let _ = signatures_of(text).map_err(one_line);
    // A line is a file: its path below md, and its content.
    let line = |line: &str| line.split_once('=').map(|(path, text)| (path.into(), text.into()));
    let values: BTreeMap<String, String> = text.lines().filter_map(line).collect();
    let _ = MdArray::parse("md0", &values).map_err(one_line);
});
