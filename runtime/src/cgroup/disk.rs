//! From a path to the device whose throttle counts what is read and written there.
//!
//! The kernel throttles whole disks: for a partition it returns ENODEV, so its disk is used.
//! Stacked devices (dm, md, loop) are disks of their own, and the topmost is the one to limit:
//! there a byte that the sandbox writes is one byte, while below it a mirror writes it twice, a
//! stripe splits it, and RAID 5 writes it from a kernel thread of its own. (Measured on Linux 6.1,
//! 4 MB/s asked at each disk of a RAID 5 of three: reading 12.9 MB/s, writing 430; at the array 4.1
//! and 4.1.) What is below is looked up only for the message, [`Found::words`].
//!
//! Everything is read below a given directory and from a given text, so that fake machines can be
//! tested.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::facts::mountinfo::{self, MountLine, unescape};
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// The machine, as far as it matters here.
pub(super) struct Machine<'a> {
    /// /sys.
    pub sys: PathBuf,
    /// /proc/self/mountinfo.
    pub mounts: Vec<u8>,
    /// Resolves a path.
    pub locate: &'a dyn Fn(&Path) -> Result<Spot>,
}

/// What a path resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// A block device, by its numbers.
    Device(u32, u32),
    /// Something on the mount with this id.
    Mount(u64),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The disks to limit, `major:minor` and name; one, unless the file system spans several.
    pub disks: Vec<(String, String)>,
    /// The file system, unless the path is a device.
    pub kind: Option<String>,
    /// How the path led to these disks.
    pub words: String,
}

/// File systems that store nothing on a disk.
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

/// File systems whose disk is on another machine.
const NETWORK: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "virtiofs"];

/// How deep overlays may be stacked: the kernel allows two (FILESYSTEM_MAX_STACK_DEPTH).
const DEEPEST: u32 = 2;

impl Machine<'_> {
    /// This machine.
    ///
    /// # Errors
    /// /proc is missing.
    pub fn read() -> Result<Machine<'static>> {
        Ok(Machine { sys: "/sys".into(), mounts: mountinfo::read()?, locate: &locate })
    }

    /// The disks below `path`.
    ///
    /// # Errors
    /// There is no disk on which a limit would have an effect; says why.
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
        let mount = mountinfo::lines(&self.mounts).find(|mount| mount.id == id);
        let mount = mount.ok_or_else(|| {
            Error::new(format!("no mount {id} in /proc/self/mountinfo"))
                .hint("it is not visible to this process")
        })?;
        let kind = &*String::from_utf8_lossy(mount.kind);
        let nothing = |why: &str| Error::new(format!("a limit has no effect on {kind}: {why}"));
        if MEMORY.contains(&kind) {
            return Err(nothing("it is in memory, not on a disk"));
        }
        if NETWORK.contains(&kind) {
            return Err(nothing("its disk is on another machine").hint("limit it there"));
        }
        if kind.starts_with("fuse") {
            return Err(nothing("another process does its I/O")
                .hint("limit the underlying disk, by a path on it"));
        }
        match kind {
            "zfs" => return Err(nothing("its own kernel threads do its I/O")),
            "overlay" => return self.overlay(&mount, depth),
            "btrfs" | "bcachefs" => return self.several(kind, &mount),
            _ => {}
        }
        match std::str::from_utf8(mount.device).ok().and_then(pair) {
            Some((major, minor)) if major != 0 => {
                let (disk, words) = self.disk(major, minor)?;
                let words = format!("{kind} on {words}");
                Ok(Found { disks: vec![disk], kind: Some(kind.to_owned()), words })
            }
            _ => Err(nothing("it is not on a block device")),
        }
    }

    /// Writes go to the upper directory; without one, the overlay is read-only.
    fn overlay(&self, mount: &MountLine, depth: u32) -> Result<Found> {
        let option = |name| option(mount.super_options, name);
        let lower = option("lowerdir=").or_else(|| option("lowerdir+="));
        let lower = lower.and_then(|dirs| dirs.split(|byte| *byte == b':').next());
        let dir = option("upperdir=").or(lower);
        let failed = |error: Error| error.within("the directories of an overlay");
        let dir = dir.filter(|_| depth > 0).map(unescape);
        let dir = dir.ok_or_else(|| failed(Error::new("not found")))?;
        let dir = Path::new(OsStr::from_bytes(&dir));
        let mut found = self.find_below(dir, depth - 1).map_err(failed)?;
        found.words = format!("overlay with {} on {}", dir.display(), found.words);
        Ok(found)
    }

    /// These have no device number of their own, and perhaps several devices; those of btrfs are
    /// listed by name in /sys/fs/btrfs/UUID/devices.
    fn several(&self, kind: &str, mount: &MountLine) -> Result<Found> {
        let source = unescape(mount.source);
        let source = String::from_utf8_lossy(&source);
        let failed = |error: Error| error.within(format_args!("the devices of {kind}"));
        let device = |path: &str| match (self.locate)(Path::new(path)).map_err(failed)? {
            Spot::Device(major, minor) => Ok((major, minor)),
            Spot::Mount(_) => Err(failed(Error::new(format!("{path} is not a block device")))),
        };
        let devices: Vec<(u32, u32)> = match kind {
            // The source names all of them.
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

    /// The devices of the file system that includes this one.
    fn members(&self, kind: &str, name: &str) -> Option<Vec<(u32, u32)>> {
        let lists = list(&self.sys.join("fs").join(kind)).into_iter();
        let mut lists = lists.map(|directory| list(&directory.join("devices")));
        let all = lists.find(|all| all.iter().any(|one| name_of(one) == name))?;
        Some(all.iter().filter_map(|one| numbers(&one.join("dev"))).collect())
    }

    /// The whole disk of a device, and how the two are related.
    fn disk(&self, major: u32, minor: u32) -> Result<((String, String), String)> {
        let directory = self.directory(major, minor)?;
        let own = name_of(&directory);
        if !directory.join("partition").exists() {
            return Ok(((format!("{major}:{minor}"), own.clone()), self.described(&directory, 4)));
        }
        let whole = directory.parent().unwrap_or(&directory);
        let (major, minor) = numbers(&whole.join("dev")).ok_or_else(|| {
            Error::new(format!("no disk found for partition {own} in {}", whole.display()))
        })?;
        let words = format!("{own}, a partition of {}", self.described(whole, 4));
        Ok(((format!("{major}:{minor}"), name_of(whole)), words))
    }

    /// `dm-0 (data) over md0 over sda, sdb`.
    fn described(&self, directory: &Path, depth: u32) -> String {
        let read = |file: &str| {
            let text = read_kernel(directory.join(file)).ok()?;
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
        fs::canonicalize(&link).map_err(|e| Error::io(format!("stat {}", link.display()), &e))
    }

    fn name(&self, major: u32, minor: u32) -> Result<String> {
        Ok(name_of(&self.directory(major, minor)?))
    }
}

/// Resolves a path on this machine.
fn locate(path: &Path) -> Result<Spot> {
    let failed = |e: &std::io::Error| Error::io(format!("stat {}", path.display()), e);
    // O_PATH: does not wait for a fifo, and does not touch a device.
    let file = fs::File::options().read(true).custom_flags(libc::O_PATH).open(path);
    let file = file.map_err(|e| failed(&e))?;
    let meta = file.metadata().map_err(|e| failed(&e))?;
    if meta.file_type().is_block_device() {
        let device = meta.rdev();
        return Ok(Spot::Device(libc::major(device), libc::minor(device)));
    }
    // By mount id, not by the longest matching mount point: others may be hidden below it.
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = read_kernel(&info).map_err(|e| Error::io(format!("read {info}"), &e))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.map(Spot::Mount).ok_or_else(|| Error::new(format!("{info}: no mnt_id in it")))
}

fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The entries of a directory, sorted by name; none if it does not exist.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn numbers(file: &Path) -> Option<(u32, u32)> {
    pair(read_kernel(file).ok()?.trim())
}

/// The value of `name` among mount options, in which a comma in a path is escaped.
fn option<'a>(options: &'a [u8], name: &str) -> Option<&'a [u8]> {
    options.split(|byte| *byte == b',').find_map(|one| one.strip_prefix(name.as_bytes()))
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests;
