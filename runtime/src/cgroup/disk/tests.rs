//! Fake machines: the links of /sys as the kernel creates them, and a line of mountinfo for each
//! mount. A path resolves to the mount or device that its text names.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::symlink;

use super::super::hierarchy::{Controller, Version};
use super::super::io::{DiskLimits, block_io, resolve_on};
use super::super::setting::Setting;
use super::super::tests::Scratch;
use super::super::{v1, v2};
use super::*;
use crate::config::Throttle;
use crate::config::oci::Resources;

/// A disk sda with two partitions, a whole disk sdb, a RAID md0 of sda2 and sdb, an LVM volume
/// (dm-0) on that, a loop device on a file, and two devices of one btrfs.
fn machine(mounts: &str) -> (Scratch, Machine<'static>) {
    let scratch = Scratch::new();
    let sys = scratch.0.join("sys");
    let device = |path: &str, numbers: &str| {
        let dir = sys.join("devices").join(path);
        fs::create_dir_all(dir.join("slaves")).unwrap();
        fs::write(dir.join("dev"), format!("{numbers}\n")).unwrap();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        symlink(&dir, sys.join("dev/block").join(numbers)).unwrap();
        dir
    };
    let sda = device("pci0/block/sda", "8:0");
    let sda1 = device("pci0/block/sda/sda1", "8:1");
    let sda2 = device("pci0/block/sda/sda2", "8:2");
    for (number, partition) in [(1, &sda1), (2, &sda2)] {
        fs::write(partition.join("partition"), format!("{number}\n")).unwrap();
    }
    assert!(sda.join("dev").exists());
    let sdb = device("pci0/block/sdb", "8:16");
    let md0 = device("virtual/block/md0", "9:0");
    symlink(&sda2, md0.join("slaves/sda2")).unwrap();
    symlink(&sdb, md0.join("slaves/sdb")).unwrap();
    let dm = device("virtual/block/dm-0", "253:0");
    fs::create_dir(dm.join("dm")).unwrap();
    fs::write(dm.join("dm/name"), "vg-data\n").unwrap();
    symlink(&md0, dm.join("slaves/md0")).unwrap();
    let loop0 = device("virtual/block/loop0", "7:0");
    fs::create_dir(loop0.join("loop")).unwrap();
    fs::write(loop0.join("loop/backing_file"), "/srv/image\n").unwrap();
    let (c, d) = (device("pci0/block/nvme0n1", "259:0"), device("pci0/block/nvme1n1", "259:1"));
    let members = sys.join("fs/btrfs/11-22/devices");
    fs::create_dir_all(&members).unwrap();
    fs::create_dir_all(sys.join("fs/btrfs/features")).unwrap();
    symlink(c, members.join("nvme0n1")).unwrap();
    symlink(d, members.join("nvme1n1")).unwrap();
    let machine = Machine { sys, mounts: mounts.into(), locate: &locate_by_name };
    (scratch, machine)
}

/// `/dev/8:1` is that device, `/30/any/thing` is on mount 30, and nothing else exists.
fn locate_by_name(path: &Path) -> Result<Spot> {
    let text = path.to_string_lossy();
    if let Some((major, minor)) = text.strip_prefix("/dev/").and_then(|text| text.split_once(':')) {
        return Ok(Spot::Device(major.parse().unwrap(), minor.parse().unwrap()));
    }
    match &*text {
        "/dev/sda1" => return Ok(Spot::Device(8, 1)),
        "/dev/sdb" => return Ok(Spot::Device(8, 16)),
        _ => {}
    }
    let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
    let id = first.parse().map_err(|_| Error::new(format!("look at {text}: ENOENT")))?;
    Ok(Spot::Mount(id))
}

const MOUNTS: &str = r"20 1 0:20 / /proc rw - proc proc rw
21 1 0:21 / /run rw - tmpfs tmpfs rw
30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
31 30 253:0 / /data rw - xfs /dev/mapper/vg-data rw
32 30 7:0 / /image rw - vfat /dev/loop0 rw
33 30 0:40 /@sub /pool rw - btrfs /dev/259:1 rw,subvol=/@sub
34 30 0:41 / /merged rw - overlay overlay rw,lowerdir=/30/a\072b,upperdir=/31/with\040space,workdir=/31/w
35 30 0:42 / /looking ro - overlay overlay ro,lowerdir=/30/a:/31/b
36 30 0:43 / /newer ro - overlay overlay ro,lowerdir+=/30/a,lowerdir+=/31/b
37 30 0:44 / /nfs rw - nfs4 server:/x rw
38 30 0:45 / /sshfs rw - fuse.sshfs host: rw
39 30 8:16 / /ntfs rw - fuseblk /dev/sdb rw
40 30 0:46 / /tank rw - zfs tank rw
41 30 0:47 / /deep rw - overlay overlay rw,upperdir=/34/x
42 30 0:48 / /deeper rw - overlay overlay rw,upperdir=/41/x
44 30 0:50 / /b rw - bcachefs /dev/sda1:/dev/sdb rw
43 30 0:49 / /odd rw - hostfs none rw
";

fn found(path: &str) -> Found {
    let (_scratch, machine) = machine(MOUNTS);
    machine.find(Path::new(path)).unwrap()
}

fn refused(path: &str) -> String {
    let (_scratch, machine) = machine(MOUNTS);
    machine.find(Path::new(path)).unwrap_err().to_string()
}

fn disks(found: &Found) -> Vec<(&str, &str)> {
    found.disks.iter().map(|(device, name)| (device.as_str(), name.as_str())).collect()
}

#[test]
fn a_partition_is_its_disk() {
    let root = found("/30/etc");
    assert_eq!(disks(&root), [("8:0", "sda")]);
    assert_eq!(root.words, "ext4 on sda1, a partition of sda");
    assert_eq!(disks(&found("/dev/8:2")), [("8:0", "sda")]);
    assert_eq!(found("/dev/8:16").words, "sdb");
}

#[test]
fn of_a_stack_of_devices_the_topmost_is_limited_and_the_rest_is_told() {
    let data = found("/31/x");
    assert_eq!(disks(&data), [("253:0", "dm-0")]);
    assert_eq!(data.words, "xfs on dm-0 (vg-data) over md0 over sda2, sdb");
    let image = found("/32");
    assert_eq!(disks(&image), [("7:0", "loop0")]);
    assert_eq!(image.words, "vfat on loop0 over the file /srv/image");
}

#[test]
fn a_file_system_may_be_on_several_devices() {
    let pool = found("/33/x");
    assert_eq!(disks(&pool), [("259:0", "nvme0n1"), ("259:1", "nvme1n1")]);
    assert_eq!(pool.words, "btrfs on nvme0n1 and nvme1n1 (each is limited)");
    assert_eq!(disks(&found("/44")), [("8:0", "sda"), ("8:16", "sdb")]);
}

#[test]
fn an_overlay_is_where_it_writes_to() {
    let merged = found("/34/x");
    assert_eq!(disks(&merged), [("253:0", "dm-0")]);
    assert!(merged.words.starts_with("overlay with /31/with space on xfs on dm-0"), "{merged:?}");
    for path in ["/35", "/36"] {
        assert_eq!(disks(&found(path)), [("8:0", "sda")], "{path}");
    }
    assert_eq!(disks(&found("/41")), [("253:0", "dm-0")]);
    assert!(refused("/42").contains("the directories of an overlay: not found"));
}

#[test]
fn where_a_limit_would_do_nothing_the_reason_is_said() {
    for (path, why) in [
        ("/20", "a limit has no effect on proc: it is in memory"),
        ("/21/x", "a limit has no effect on tmpfs: it is in memory, not on a disk"),
        ("/37", "a limit has no effect on nfs4: its disk is on another machine"),
        ("/38", "a limit has no effect on fuse.sshfs: another process"),
        ("/39", "a limit has no effect on fuseblk: another process"),
        ("/40", "a limit has no effect on zfs: its own kernel threads"),
        ("/43", "a limit has no effect on hostfs: it is not on a block device"),
        ("/99", "no mount 99 in /proc/self/mountinfo"),
        ("/absent", "look at /absent: ENOENT"),
    ] {
        assert!(refused(path).starts_with(why), "{path}: {}", refused(path));
    }
}

fn resolved(texts: &[&str], version: Version) -> Result<Vec<DiskLimits>> {
    let throttles: Result<Vec<_>> = texts.iter().map(|text| Throttle::parse(text)).collect();
    let (_scratch, machine) = machine(MOUNTS);
    resolve_on(&machine, &throttles.unwrap().concat(), version)
}

fn writes(texts: &[&str], version: Version) -> Vec<String> {
    let limits = resolved(texts, version).unwrap();
    let resources = Resources { block_io: Some(block_io(&limits)), ..Resources::default() };
    let settings = match version {
        Version::V1 => v1::settings(Controller::Io, &resources, &|_| None),
        Version::V2 => v2::settings(Controller::Io, &resources, &|_| None),
    };
    let line = |item: Setting| format!("{} > /c/{}", item.value, item.file);
    settings.unwrap().into_iter().map(line).collect()
}

#[test]
fn a_disk_has_one_line_in_the_unified_tree_and_a_file_for_each_limit_in_v1() {
    let all = "read=50MB/s,write=8Mbit/s,riops=1k,wiops=7:/30";
    let v2 = ["8:0 rbps=50000000 wbps=1000000 riops=1000 wiops=7 > /c/io.max"];
    assert_eq!(writes(&[all], Version::V2), v2);
    assert_eq!(
        writes(&["read=50MB/s,riops=1k:/30"], Version::V1),
        [
            "8:0 50000000 > /c/blkio.throttle.read_bps_device",
            "8:0 1000 > /c/blkio.throttle.read_iops_device"
        ]
    );
    let pool = writes(&["read=1MB/s:/33"], Version::V2);
    assert_eq!(pool, ["259:0 rbps=1000000 > /c/io.max", "259:1 rbps=1000000 > /c/io.max"]);
}

#[test]
fn paths_on_one_disk_share_its_limits() {
    let both = ["read=1MB/s:/30/a,write=2MB/s:/30/b"];
    assert_eq!(writes(&both, Version::V2), ["8:0 rbps=1000000 wbps=2000000 > /c/io.max"]);
    let error = resolved(&["read=1MB/s:/30/a", "read=2MB/s:/dev/8:2"], Version::V2).unwrap_err();
    let said = "--io /dev/8:2: conflicting read= for sda: 1000000 and 2000000; ";
    assert!(error.to_string().starts_with(said), "{error}");
}

#[test]
fn writing_is_limited_only_where_the_kernel_knows_whose_it_is() {
    for text in ["write=1MB/s:/30", "wiops=5:/30", "read=1MB/s,write=1MB/s:/dev/8:0"] {
        let error = resolved(&[text], Version::V1).unwrap_err().to_string();
        assert!(error.contains("cgroup v1 cannot attribute buffered writes"), "{error}");
        assert_eq!(resolved(&[text], Version::V2).unwrap().len(), 1);
    }
    let error = resolved(&["write=1MB/s:/32"], Version::V2).unwrap_err().to_string();
    assert!(error.contains("vfat does not attribute writes to cgroups"), "{error}");
    assert!(resolved(&["read=1MB/s:/32"], Version::V2).is_ok());
}
