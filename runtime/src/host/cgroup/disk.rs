//! From a path to the device whose throttle counts what is read and written there.
//!
//! The kernel throttles at whole disks: a partition is refused (ENODEV), its disk is meant. Devices
//! made of others (dm, md, loop) are disks of their own, and the topmost is the one to limit: there
//! a byte that the sandbox writes is one byte, while below a mirror writes it twice, a stripe a part
//! of it on each, and RAID 5 in a thread of its own that belongs to nobody. (Measured on Linux 6.1,
//! 4 MB/s asked at each disk of a RAID 5 of three: reading 12.9 MB/s, writing 430; at the array 4.1
//! and 4.1.) What is below is looked up for people, in [`Found::words`].
//!
//! Everything is read below a directory and from a text that are given, so made-up machines can be
//! looked at.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::hierarchy::unescape;
use crate::{Error, Result};

/// The machine, as far as it matters here.
pub(super) struct Machine<'a> {
    /// /sys.
    pub sys: PathBuf,
    /// /proc/self/mountinfo (proc_pid_mountinfo(5)).
    pub mounts: String,
    /// Says what a path leads to.
    pub locate: &'a dyn Fn(&Path) -> Result<Spot>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// A block device, by its numbers.
    Device(u32, u32),
    /// Something on the mount of this id.
    Mount(u64),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The disks to limit, `major:minor` and name; one, but for a file system on several.
    pub disks: Vec<(String, String)>,
    /// The file system, unless the path is that of a device.
    pub kind: Option<String>,
    /// How the path came to be these.
    pub words: String,
}

/// Those that keep nothing on a disk.
const MEMORY: [&str; 22] = [
    "tmpfs",
    "ramfs",
    "rootfs",
    "devtmpfs",
    "devpts",
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "hugetlbfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "pstore",
    "configfs",
    "efivarfs",
    "binfmt_misc",
    "fusectl",
    "nsfs",
    "resctrl",
];

/// Those whose disk is on another machine.
const NETWORK: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "virtiofs"];

/// How deep an overlay on an overlay may be: the kernel has two (FILESYSTEM_MAX_STACK_DEPTH).
const DEEPEST: u32 = 2;

impl Machine<'_> {
    /// This machine.
    ///
    /// # Errors
    /// Without /proc.
    pub fn read() -> Result<Machine<'static>> {
        let path = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
        Ok(Machine { sys: "/sys".into(), mounts, locate: &locate })
    }

    /// The disks below `path`.
    ///
    /// # Errors
    /// Where there is none that a limit would have an effect on, and why.
    pub fn find(&self, path: &Path) -> Result<Found> {
        self.find_below(path, DEEPEST)
    }

    fn find_below(&self, path: &Path, depth: u32) -> Result<Found> {
        let id = match (self.locate)(path)? {
            Spot::Device(major, minor) => {
                let (disk, words) = self.disk(major, minor)?;
                return Ok(Found { disks: vec![disk], kind: None, words });
            }
            Spot::Mount(id) => id,
        };
        let mount = self.mounts.lines().filter_map(Mount::parse).find(|mount| mount.id == id);
        let mount = mount.ok_or_else(|| {
            Error::new(format!("no mount {id} in /proc/self/mountinfo"))
                .hint("it is outside of what this process sees")
        })?;
        let kind = mount.kind;
        let nothing = |why: &str| Error::new(format!("on {kind} a limit would do nothing: {why}"));
        if MEMORY.contains(&kind) {
            return Err(nothing("it is in memory and on no disk"));
        }
        if NETWORK.contains(&kind) {
            return Err(nothing("its disk is another machine's").hint("limit it there"));
        }
        if kind.starts_with("fuse") {
            return Err(nothing("another process does its reading and writing")
                .hint("limit the disk below by a path on that"));
        }
        match kind {
            "zfs" => return Err(nothing("threads of its own do its reading and writing")),
            "overlay" => return self.overlay(&mount, depth),
            "btrfs" | "bcachefs" => return self.several(&mount),
            _ => {}
        }
        match mount.device.split_once(':').map(|(major, minor)| (major.parse(), minor.parse())) {
            Some((Ok(major), Ok(minor))) if major != 0 => {
                let (disk, words) = self.disk(major, minor)?;
                let words = format!("{kind} on {words}");
                Ok(Found { disks: vec![disk], kind: Some(kind.to_owned()), words })
            }
            _ => Err(nothing("it is on no block device")),
        }
    }

    /// What is written goes to the upper directory; without one, reading is all there is.
    fn overlay(&self, mount: &Mount, depth: u32) -> Result<Found> {
        // A comma in a path is escaped, too.
        let option = |name: &str| mount.options.split(',').find_map(|one| one.strip_prefix(name));
        let first = |dirs: &'_ str| dirs.split(':').next().map(str::to_owned);
        let lower = || option("lowerdir=").or_else(|| option("lowerdir+=")).and_then(first);
        let dir = option("upperdir=").map(str::to_owned).or_else(lower);
        let failed = |error: Error| error.within("the directories of an overlay");
        let dir = dir.and_then(|dir| unescape(&dir)).filter(|_| depth > 0);
        let dir = dir.ok_or_else(|| failed(Error::new("not to be found")))?;
        let mut found = self.find_below(Path::new(&dir), depth - 1).map_err(failed)?;
        found.words = format!("overlay with {dir} on {}", found.words);
        Ok(found)
    }

    /// These have no device number of their own, and perhaps several devices; those of btrfs are in
    /// /sys/fs/btrfs/UUID/devices, by their names.
    fn several(&self, mount: &Mount) -> Result<Found> {
        let kind = mount.kind;
        let source = unescape(mount.source).unwrap_or_default();
        let failed = |error: Error| error.within(format_args!("the devices of {kind}"));
        let device = |path: &str| match (self.locate)(Path::new(path)).map_err(failed)? {
            Spot::Device(major, minor) => Ok((major, minor)),
            Spot::Mount(_) => Err(failed(Error::new(format!("{path} is none")))),
        };
        let devices: Vec<(u32, u32)> = match kind {
            // Here all are named as the source.
            "bcachefs" => source.split(':').map(device).collect::<Result<_>>()?,
            _ => {
                let (major, minor) = device(&source)?;
                self.members(kind, &self.name(major, minor)?).unwrap_or(vec![(major, minor)])
            }
        };
        let mut disks = Vec::new();
        let mut words = Vec::new();
        for (major, minor) in devices {
            let (disk, how) = self.disk(major, minor)?;
            if !disks.contains(&disk) {
                disks.push(disk);
            }
            words.push(how);
        }
        let each = if disks.len() > 1 { " (each is limited)" } else { "" };
        let words = format!("{kind} on {}{each}", words.join(" and "));
        Ok(Found { disks, kind: Some(kind.to_owned()), words })
    }

    /// The devices of the file system that has this one among them.
    fn members(&self, kind: &str, name: &str) -> Option<Vec<(u32, u32)>> {
        let lists = list(&self.sys.join("fs").join(kind)).into_iter();
        let mut lists = lists.map(|directory| list(&directory.join("devices")));
        let all = lists.find(|all| all.iter().any(|one| name_of(one) == name))?;
        Some(all.iter().filter_map(|one| numbers(&one.join("dev"))).collect())
    }

    /// The whole disk of a device, and how it is one.
    fn disk(&self, major: u32, minor: u32) -> Result<((String, String), String)> {
        let directory = self.directory(major, minor)?;
        let own = name_of(&directory);
        if !directory.join("partition").exists() {
            return Ok(((format!("{major}:{minor}"), own.clone()), self.described(&directory, 4)));
        }
        let whole = directory.parent().unwrap_or(&directory);
        let (major, minor) = numbers(&whole.join("dev")).ok_or_else(|| {
            Error::new(format!("no disk for the partition {own} in {}", whole.display()))
        })?;
        let words = format!("{own}, a partition of {}", self.described(whole, 4));
        Ok(((format!("{major}:{minor}"), name_of(whole)), words))
    }

    /// `dm-0 (data) over md0 over sda, sdb`.
    fn described(&self, directory: &Path, depth: u32) -> String {
        let read = |file: &str| {
            let text = fs::read_to_string(directory.join(file)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let mut words = name_of(directory);
        if let Some(name) = read("dm/name") {
            words += &format!(" ({name})");
        }
        if let Some(file) = read("loop/backing_file") {
            return words + &format!(" over the file {file}");
        }
        let below = list(&directory.join("slaves"));
        if !below.is_empty() && depth > 0 {
            let below: Vec<String> = below
                .iter()
                .map(|link| fs::canonicalize(link).unwrap_or_else(|_| link.clone()))
                .map(|directory| self.described(&directory, depth - 1))
                .collect();
            words += &format!(" over {}", below.join(", "));
        }
        words
    }

    fn directory(&self, major: u32, minor: u32) -> Result<PathBuf> {
        let link = self.sys.join("dev/block").join(format!("{major}:{minor}"));
        fs::canonicalize(&link).map_err(|e| Error::io(format!("look at {}", link.display()), &e))
    }

    fn name(&self, major: u32, minor: u32) -> Result<String> {
        Ok(name_of(&self.directory(major, minor)?))
    }
}

/// What a path of this machine leads to.
fn locate(path: &Path) -> Result<Spot> {
    let failed = |e: &std::io::Error| Error::io(format!("look at {}", path.display()), e);
    // Only for looking: a fifo is not waited for, and a device does not notice.
    let file = fs::File::options().read(true).custom_flags(libc::O_PATH).open(path);
    let file = file.map_err(|e| failed(&e))?;
    let meta = file.metadata().map_err(|e| failed(&e))?;
    if meta.file_type().is_block_device() {
        let device = meta.rdev();
        return Ok(Spot::Device(libc::major(device), libc::minor(device)));
    }
    // The mount, and not the longest of the mount points: others may be hidden below it.
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = fs::read_to_string(&info).map_err(|e| Error::io(format!("read {info}"), &e))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.map(Spot::Mount).ok_or_else(|| Error::new(format!("{info}: no mnt_id in it")))
}

/// A line of mountinfo, as far as it is used; escapes are kept.
struct Mount<'a> {
    id: u64,
    device: &'a str,
    kind: &'a str,
    source: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ');
        let mut back = back.split(' ');
        Some(Mount {
            id: front.next()?.parse().ok()?,
            device: front.nth(1)?,
            kind: back.next()?,
            source: back.next()?,
            options: back.next().unwrap_or_default(),
        })
    }
}

fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The entries of a directory, in the order of their names; none if it is not there.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn numbers(file: &Path) -> Option<(u32, u32)> {
    let text = fs::read_to_string(file).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests;
