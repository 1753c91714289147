//! Mounts that only the parent can open: id-mapped ones, whose user namespace must be made first;
//! those that stay in one peer group with the host's, which the child has left; and, with a user
//! namespace, all of them, since its root may not traverse other users' directories.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use crate::config::oci::{Config, IdMapping, Mount, MountOptions, NamespaceType};
use crate::error::{Error, Result};
use crate::facts;
use crate::facts::idmap;
use crate::sys::raw::{self, MountAttr};
use crate::sys::{file, fork, pidfd, process};
use crate::volume::usage::VolumeUse;

/// The mounts of RAID volumes, with their index. An empty volume is first given to the program's user.
///
/// # Errors
/// One cannot be mounted.
pub fn of_volumes(config: &Config, volumes: &[VolumeUse]) -> Result<Vec<(usize, OwnedFd)>> {
    let mut trees = Vec::new();
    for volume in volumes {
        for provided in &volume.provides {
            let is_it = |mount: &Mount| {
                Path::new(&mount.destination) == provided.destination
                    && mount.source.as_deref().map(Path::new) == Some(&provided.source)
            };
            let Some(index) = config.mounts.iter().rposition(is_it) else { continue };
            let read_only = provided.options.iter().any(|word| word == "ro");
            let owner = owner_outside(config).filter(|_| !read_only);
            trees.push((index, volume.mount(owner)?));
        }
    }
    Ok(trees)
}

/// The program's user and group as the host knows them, as far as they are mapped.
fn owner_outside(config: &Config) -> Option<(u32, u32)> {
    let user = config.process.as_ref().map(|program| &program.user)?;
    let linux = config.linux.as_ref();
    match linux.filter(|linux| linux.namespace(NamespaceType::User).is_some()) {
        None => Some((user.uid, user.gid)),
        Some(linux) => IdMapping::outside(&linux.uid_mappings, user.uid)
            .zip(IdMapping::outside(&linux.gid_mappings, user.gid)),
    }
}

/// The mounts of `config` that the parent opens, with their index, but for those that are `known`.
///
/// # Errors
/// A source cannot be opened, or its file system does not support id mapping.
pub fn open(config: &Config, known: &[(usize, OwnedFd)]) -> Result<Vec<(usize, OwnedFd)>> {
    let linux = config.linux.as_ref();
    let shared = matches!(
        linux.and_then(|linux| linux.rootfs_propagation.as_deref()),
        Some("shared" | "rshared")
    );
    let confined = linux.is_some_and(|linux| linux.namespace(NamespaceType::User).is_some())
        && facts::privileged();
    let mut trees = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let options = mount.parse_options()?;
        if known.iter().any(|(of, _)| *of == index) {
            continue;
        }
        let mapped = options.idmap.is_some() || !mount.uid_mappings.is_empty();
        if options.is_bind() && !options.remount && (mapped || shared || confined) {
            let open = open_one(config, mount, &options, mapped).and_then(|tree| {
                if confined && !shared {
                    file::leave_peers(&tree)
                        .map_err(|errno| Error::os("make a mount a slave of the host's", errno))?;
                }
                Ok(tree)
            });
            trees.push((
                index,
                open.map_err(|error| error.within(format_args!("mounts[{index}]")))?,
            ));
        }
    }
    Ok(trees)
}

fn open_one(
    config: &Config,
    mount: &Mount,
    options: &MountOptions,
    mapped: bool,
) -> Result<OwnedFd> {
    let source = mount.source.as_deref().unwrap_or("");
    let path =
        CString::new(source).map_err(|_| Error::new(format!("{source:?} contains a NUL byte")))?;
    let tree = file::detached_copy(&path, options.bind == Some(true))
        .map_err(|errno| Error::os(format!("open {source}"), errno))?;
    if !mapped {
        return Ok(tree);
    }
    let linux = config.linux.as_ref();
    let of_container = || linux.map(|linux| (&linux.uid_mappings[..], &linux.gid_mappings[..]));
    let (uids, gids) = match (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice()) {
        ([], []) => of_container().unwrap_or_default(),
        own => own,
    };
    let joined = linux.and_then(|linux| linux.namespace(NamespaceType::User)?.path.as_deref());
    let userns = match joined {
        Some(path) if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() => {
            File::open(path).map_err(|e| Error::io(format!("open {path}"), &e))?
        }
        _ => user_namespace(uids, gids)?,
    };
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    raw::mount_setattr(tree.as_raw_fd(), &attr, options.idmap == Some(true)).map_err(|errno| {
        Error::os(format!("map the ids of {source}"), errno)
            .hint("not every file system supports id-mapped mounts, and none can be mapped twice: see KERNEL.md")
    })?;
    Ok(tree)
}

/// A user namespace with these maps and no process in it.
///
/// # Errors
/// None can be made, or the caller may not map these ids.
pub fn user_namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<File> {
    let kind = libc::CLONE_NEWUSER as u64;
    let made = match idmap::reaches_undumpable() {
        true => fork::idle(kind).map(|idle| (idle, None)),
        false => fork::idle_within_reach(kind).map(|(idle, channel)| (idle, Some(channel))),
    };
    let (idle, _channel) = made.map_err(|errno| {
        Error::os("create a user namespace", errno)
            .hint("`garth doctor` shows what user namespaces need here")
    })?;
    let path = format!("/proc/{}/ns/user", idle.pid);
    let made = idmap::write(idle.pid, uids, gids)
        .and_then(|()| File::open(&path).map_err(|e| Error::io(format!("open {path}"), &e)));
    let _ = pidfd::send_signal(idle.pidfd.as_fd(), libc::SIGKILL);
    let _ = process::wait(idle.pidfd.as_fd(), true);
    made
}
