//! The root file system of a container: what containerd's snapshotter wants to have mounted at `rootfs` in the bundle.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use garth::{Error, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// mount(2) takes one page of options.
const MOST_OPTIONS: usize = 4095;

/// What the words of fstab(5) mean, and the flags that they clear.
const WORDS: &[(&str, MountFlags, bool)] = &[
    ("async", MountFlags::SYNCHRONOUS, false),
    ("atime", MountFlags::NOATIME, false),
    ("bind", MountFlags::BIND, true),
    ("dev", MountFlags::NODEV, false),
    ("diratime", MountFlags::NODIRATIME, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("nodev", MountFlags::NODEV, true),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("noexec", MountFlags::NOEXEC, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("rbind", MountFlags::BIND.union(MountFlags::REC), true),
    ("relatime", MountFlags::RELATIME, true),
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("suid", MountFlags::NOSUID, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
];

/// Mounts all of them, one over the other. What is mounted when one fails stays, for [`release`].
///
/// # Errors
/// The mount that failed.
pub fn provide(mounts: &[Mount], bundle: &Path) -> Result<()> {
    let root = root(bundle);
    if !mounts.is_empty() {
        std::fs::create_dir_all(&root)
            .map_err(|error| Error::io(format!("make {}", root.display()), &error))?;
    }
    mounts.iter().try_for_each(|one| {
        let failed = |errno: rustix::io::Errno| {
            Error::io(
                format!("mount {} {} at {}", one.type_, one.source, root.display()),
                &errno.into(),
            )
        };
        if !one.target.is_empty() && one.target != "/" {
            return Err(Error::new(format!(
                "mount {} at {} in the root: a mount of a snapshotter has no target",
                one.source, one.target
            )));
        }
        let (flags, data) = understood(&one.options);
        put(one, flags, data, &root).map_err(failed)?;
        // mount(2) ignores other flags of a bind mount.
        let rest = flags - MountFlags::BIND - MountFlags::REC;
        if flags.contains(MountFlags::BIND) && !rest.is_empty() {
            rustix::mount::mount_remount(&root, rest | MountFlags::BIND, c"").map_err(failed)?;
        }
        Ok(())
    })
}

/// Unmounts all at `rootfs`; nothing there is no error.
///
/// # Errors
/// Something stays mounted.
pub fn release(bundle: &Path) -> Result<()> {
    let root = root(bundle);
    loop {
        match unmount(&root, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or no directory.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            // Someone looks into it; it is gone once nobody does.
            Err(rustix::io::Errno::BUSY) => {
                let detached = unmount(&root, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
                detached.map_err(|errno| {
                    Error::io(format!("unmount {}", root.display()), &errno.into())
                })?;
            }
            Err(errno) => {
                return Err(Error::io(format!("unmount {}", root.display()), &errno.into()));
            }
        }
    }
}

fn root(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

fn understood(options: &[String]) -> (MountFlags, Vec<&str>) {
    let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
    for word in options.iter().filter(|word| !word.is_empty() && *word != "defaults") {
        match WORDS.iter().find(|(name, ..)| name == word) {
            Some((_, flag, sets)) => flags.set(*flag, *sets),
            None => data.push(word.as_str()),
        }
    }
    (flags, data)
}

fn put(one: &Mount, flags: MountFlags, data: Vec<&str>, root: &Path) -> rustix::io::Result<()> {
    let text = data.join(",");
    if text.len() <= MOST_OPTIONS {
        return at(one, flags, &text, root);
    }
    // The layers of an image are in one directory: from there, their names are short.
    let (directory, text) = shortened(&data).ok_or(rustix::io::Errno::INVAL)?;
    let back = rustix::fs::open(
        ".",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::process::chdir(&directory)?;
    let mounted = at(one, flags, &text, root);
    rustix::process::fchdir(back)?;
    mounted
}

fn at(one: &Mount, flags: MountFlags, text: &str, root: &Path) -> rustix::io::Result<()> {
    let text = std::ffi::CString::new(text).map_err(|_| rustix::io::Errno::INVAL)?;
    mount(one.source.as_str(), root, one.type_.as_str(), flags, text.as_c_str())
}

/// The options of an overlay with its lower directories relative to the one that they have in common.
fn shortened(data: &[&str]) -> Option<(PathBuf, String)> {
    let lower = data.iter().find_map(|word| word.strip_prefix("lowerdir="))?;
    let layers: Vec<&Path> = lower.split(':').map(Path::new).collect();
    let mut common = layers.first()?.parent()?.to_owned();
    while !layers.iter().all(|layer| layer.starts_with(&common)) {
        common = common.parent()?.to_owned();
    }
    let names: Option<Vec<_>> =
        layers.iter().map(|layer| layer.strip_prefix(&common).ok()?.to_str()).collect();
    let lower = format!("lowerdir={}", names?.join(":"));
    let words =
        data.iter().map(|word| if word.starts_with("lowerdir=") { lower.as_str() } else { word });
    Some((common, words.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems_own() {
        let words = ["rbind", "ro", "rw", "nosuid", "index=off", "defaults"].map(String::from);
        let (flags, data) = understood(&words);
        assert_eq!(flags, MountFlags::BIND | MountFlags::REC | MountFlags::NOSUID);
        assert_eq!(data, ["index=off"]);
    }

    #[test]
    fn many_layers_are_named_from_where_they_are() {
        let data = [
            "upperdir=/s/9/fs",
            "workdir=/s/9/work",
            "lowerdir=/s/snapshots/1/fs:/s/snapshots/22/fs",
        ];
        let (directory, text) = shortened(&data).unwrap();
        assert_eq!(directory, Path::new("/s/snapshots"));
        assert_eq!(text, "upperdir=/s/9/fs,workdir=/s/9/work,lowerdir=1/fs:22/fs");
    }
}
