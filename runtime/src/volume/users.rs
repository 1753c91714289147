//! Which sandboxes and containers use a volume: symbolic links `user.N` in its entry, each to
//! `KIND ID ROOT`, where ROOT is the state directory that the user is on record in.
//!
//! They are made while the entry is held, before the volume is mounted, and removed when the user is
//! released. A link says who may be using it; whether they do, their own entries tell. What must not
//! be stopped is protected by the kernel, which does not give up a mounted device.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::array::names;
use super::record::VolumeRecord;
use crate::error::{Error, Result};
use crate::journal::resource::Owner;
use crate::journal::{Journal, remove_file};

/// The names of the links, before their numbers.
const LINK: &str = "user.";

/// A sandbox or container that has been given a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUser {
    kind: String,
    id: String,
    root: PathBuf,
}

impl fmt::Display for VolumeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

impl VolumeUser {
    /// The owner of a resource.
    pub fn of(owner: &Owner) -> VolumeUser {
        VolumeUser {
            kind: owner.journal.kind().to_owned(),
            id: owner.id.to_owned(),
            root: owner.journal.root().to_owned(),
        }
    }

    /// All that are on record for a volume, whether they live or not, and their links.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn all(raid: &Journal, volume: &str) -> Result<Vec<(PathBuf, VolumeUser)>> {
        let dir = raid.file(volume, "");
        let mut found = Vec::new();
        for name in names(&dir)?.unwrap_or_default() {
            if !name.starts_with(LINK) {
                continue;
            }
            let path = dir.join(name);
            match fs::read_link(&path) {
                Ok(target) => found.extend(VolumeUser::read(&target).map(|user| (path, user))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(format!("read {}", path.display()), &error)),
            }
        }
        Ok(found)
    }

    /// `KIND ID ROOT`.
    fn read(target: &Path) -> Option<VolumeUser> {
        let mut words = target.to_str()?.splitn(3, ' ').map(str::to_owned);
        let (kind, id, root) = (words.next()?, words.next()?, words.next()?);
        Some(VolumeUser { kind, id, root: root.into() })
    }

    /// Puts it on record. The volume's entry is held.
    ///
    /// # Errors
    /// It cannot be.
    pub fn add(&self, raid: &Journal, volume: &str) -> Result<()> {
        if VolumeUser::all(raid, volume)?.iter().any(|(_, user)| user == self) {
            return Ok(());
        }
        let target = format!("{} {} {}", self.kind, self.id, self.root.display());
        for number in 0_u32.. {
            let path = raid.file(volume, &format!("{LINK}{number}"));
            match symlink(&target, &path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(format!("create {}", path.display()), &error)),
            }
        }
        Ok(())
    }

    /// Removes it from the record.
    ///
    /// # Errors
    /// It cannot be.
    pub fn remove(&self, raid: &Journal, volume: &str) -> Result<()> {
        let all = VolumeUser::all(raid, volume)?;
        all.iter().filter(|(_, user)| user == self).try_for_each(|(path, _)| remove_file(path))
    }

    /// Removes it from the record of every volume.
    ///
    /// # Errors
    /// It cannot be.
    pub fn forget(&self, raid: &Journal) -> Result<()> {
        VolumeRecord::names(raid)?.iter().try_for_each(|volume| self.remove(raid, volume))
    }

    /// Those of a volume that live, or are being started.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn living(raid: &Journal, volume: &str) -> Result<Vec<VolumeUser>> {
        let mut living = Vec::new();
        for (_, user) in VolumeUser::all(raid, volume)? {
            if user.lives()? {
                living.push(user);
            }
        }
        Ok(living)
    }

    fn lives(&self) -> Result<bool> {
        let Some(journal) = self.journal() else { return Ok(false) };
        Ok(journal.is_held(&self.id)? || journal.open_process(&self.id)?.is_some())
    }

    fn journal(&self) -> Option<Journal> {
        let journal = Journal::at(&self.root);
        [journal.containers(), journal].into_iter().find(|journal| journal.kind() == self.kind)
    }

    /// Removes the links of users that no longer exist; a line for each.
    ///
    /// # Errors
    /// They cannot be read or removed.
    pub fn sweep(raid: &Journal) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for volume in VolumeRecord::names(raid)? {
            for (path, user) in VolumeUser::all(raid, &volume)? {
                // An entry exists before its link.
                if !user.journal().map_or(Ok(false), |journal| journal.has(&user.id))? {
                    remove_file(&path)?;
                    removed.push(format!("use of volume {volume} by {user}"));
                }
            }
        }
        Ok(removed)
    }
}
