//! The named volumes of a sandbox: found for a plan, and made before a start. Those that are RAID
//! volumes are mounted here.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::config::{MountKind, Sandbox};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::plan::{self, Facts, VolumeFact};
use crate::sys::file;
use crate::volume::usage::VolumeUse;

/// Whether it has any.
pub fn are_in(sandbox: &Sandbox) -> bool {
    named(sandbox).next().is_some()
}

/// Where the volumes are, without making any.
///
/// # Errors
/// One is not as it must be.
pub fn find(sandbox: &Sandbox, journal: &Journal, raid: &[VolumeUse]) -> Result<Vec<VolumeFact>> {
    named(sandbox)
        .map(|(mount, name, _, origin)| {
            if let Some(volume) = raid.iter().find(|volume| volume.name == name) {
                // Attached by a descriptor, which there is not yet.
                return Ok(VolumeFact { mount, path: volume.path(), tree: Some(-1) });
            }
            let path = journal.volume_path(name).map_err(|error| error.within(origin))?;
            Ok(VolumeFact { mount, path, tree: None })
        })
        .collect()
}

/// Puts the volumes into `facts`, and makes those that are not there yet, for the user that the
/// command runs as. What is returned must stay open until the start is over.
///
/// # Errors
/// One cannot be made, or is not as it must be.
pub fn make(
    sandbox: &Sandbox,
    facts: &mut Facts,
    journal: &Journal,
    raid: &[VolumeUse],
) -> Result<Vec<OwnedFd>> {
    facts.volumes = find(sandbox, journal, raid)?;
    if facts.volumes.is_empty() {
        return Ok(Vec::new());
    }
    let owner = owner(sandbox, facts)?;
    let mut trees = Vec::new();
    for ((index, name, recursive, origin), fact) in named(sandbox).zip(&mut facts.volumes) {
        let within = |error: Error| error.within(origin);
        if let Some(volume) = raid.iter().find(|volume| volume.name == name) {
            let writes = !sandbox.mounts[index].access.read_only;
            let tree = volume.mount(writes.then_some(owner)).map_err(within)?;
            fact.tree = Some(tree.as_raw_fd());
            trees.push(tree);
            continue;
        }
        let volume = journal.make_volume(name, owner).map_err(within)?;
        // Root of the sandbox may not enter the directory that they are in.
        if facts.privileged && sandbox.namespaces.user.is_new() {
            let tree = file::detached_copy_of(volume.as_fd(), recursive)
                .and_then(|tree| file::leave_peers(&tree).map(|()| tree))
                .map_err(|errno| Error::os("open the volume", errno).within(origin))?;
            fact.tree = Some(tree.as_raw_fd());
            trees.push(tree);
        }
    }
    Ok(trees)
}

/// What [`make`] would do, a line for each.
///
/// # Errors
/// One is not as it must be.
pub fn describe(sandbox: &Sandbox, facts: &Facts, journal: &Journal) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    // What is in no file system of the host is a resource, and described there.
    let directories = named(sandbox).zip(&facts.volumes).filter(|(_, fact)| fact.tree.is_none());
    for ((_, name, _, origin), fact) in directories {
        let (uid, gid) = owner(sandbox, facts)?;
        let path = fact.path.display();
        let line = match journal.volume(name).map_err(|error| error.within(origin))? {
            None => format!("volume {name}: make {path} for uid {uid}, gid {gid}"),
            Some(volume) => {
                let meta = File::from(volume).metadata();
                let meta = meta.map_err(|e| Error::io(format!("stat {path}"), &e))?;
                format!("volume {name}: {path}, of uid {}, gid {}", meta.uid(), meta.gid())
            }
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Mounts of volumes: their index, name, whether with the mounts below, and origin.
fn named(sandbox: &Sandbox) -> impl Iterator<Item = (usize, &str, bool, &str)> {
    let mounts = sandbox.mounts.iter().enumerate();
    mounts.filter_map(|(index, mount)| match &mount.kind {
        MountKind::Volume { name, recursive } => {
            Some((index, name.as_str(), *recursive, mount.origin.as_str()))
        }
        _ => None,
    })
}

/// The command's user and group as the host knows them.
fn owner(sandbox: &Sandbox, facts: &Facts) -> Result<(u32, u32)> {
    let user = &facts.user;
    match plan::maps_of(sandbox, facts)? {
        None => Ok((user.uid, user.gid)),
        Some(maps) => maps.outside(user.uid, user.gid).ok_or_else(|| {
            Error::new(format!("no ids of the host are known for {}:{}", user.uid, user.gid))
        }),
    }
}
