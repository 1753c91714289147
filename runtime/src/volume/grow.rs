//! A volume grows when its devices have.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host;
use super::layout::RaidLayout;
use super::mend;
use super::perform::Performer;
use super::record::FileSystem;
use super::status::VolumeHealth;
use super::verbs::{open, ready, seen_now};
use crate::config::Size;
use crate::error::{Error, Result};
use crate::facts::mountinfo;
use crate::journal::Journal;

/// Makes a volume as large as its devices allow now, and its file system too, or continues that.
///
/// # Errors
/// It cannot grow, or not now.
pub fn grow(journal: &Journal, name: &str, tell: &dyn Fn(&str)) -> Result<()> {
    let (entry, volume) = open(journal, name)?;
    ready(&volume)?;
    if volume.places.shape.layout == RaidLayout::Far {
        return Err(Error::new("md cannot resize arrays of layout far")
            .hint("make another volume, and copy the data"));
    }
    let now = seen_now(&volume)?;
    let busy = now.arrays.iter().any(|array| array.progress.is_some());
    if now.health != VolumeHealth::Healthy || busy || !volume.leaving.is_empty() {
        let repair = format!("garth volume repair {name} waits until it is whole");
        return Err(Error::new(format!("volume {name} is not whole")).hint(repair));
    }
    let Some(from) = volume.capacity else {
        return Err(Error::new(format!("the record of volume {name} has no sizes")));
    };
    let device = now.device.clone().unwrap_or_default();
    let mounted = mounted_at(Path::new(&device))?;
    if volume.stripe.is_some() && host::is_busy(Path::new(&device))? {
        return Err(Error::new(format!("volume {name} is in use"))
            .hint("unmount it first: md cannot resize a stripe that is in use"));
    }
    let mut performer = Performer::new(volume, entry, tell);
    performer.perform(&mend::rescan(&performer.volume))?;
    let smallest = performer.smallest.ok_or_else(|| Error::new("no device was seen"))?;
    let shape = performer.volume.places.shape;
    let Some(sizes) = shape.grown(from, smallest, performer.volume.chunk.0) else {
        return finish_file_system(&mut performer, mounted.as_deref(), smallest);
    };
    performer.volume.capacity = Some(sizes);
    performer.perform(&mend::grow(&performer.volume, sizes))?;
    tell(&format!("{name} has {} instead of {}", Size(sizes.volume), Size(from.volume)));
    grow_file_system(&mut performer, mounted.as_deref())
}

/// After an interruption the arrays may be as large as they can be, and the file system not yet.
fn finish_file_system(
    performer: &mut Performer<'_>,
    mounted: Option<&str>,
    smallest: u64,
) -> Result<()> {
    (performer.tell)(&format!(
        "its smallest device has {}: the arrays use all of it already",
        Size(smallest)
    ));
    grow_file_system(performer, mounted)
}

fn grow_file_system(performer: &mut Performer<'_>, mounted: Option<&str>) -> Result<()> {
    let steps = mend::grow_file_system(&performer.volume, mounted);
    performer.perform(&steps)?;
    if mounted.is_none() && performer.volume.file_system == FileSystem::Xfs {
        (performer.tell)("XFS grows while it is mounted: mount it, and repeat this, or xfs_growfs");
    }
    Ok(())
}

/// Where a block device is mounted, if it is.
fn mounted_at(device: &Path) -> Result<Option<String>> {
    let number = std::fs::metadata(device)
        .map_err(|error| Error::io(format!("stat {}", device.display()), &error))?
        .rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let mounts = mountinfo::read()?;
    let mount = mountinfo::lines(&mounts).find(|mount| mount.device == number.as_bytes());
    Ok(mount.map(|mount| mount.point().to_string_lossy().into_owned()))
}
