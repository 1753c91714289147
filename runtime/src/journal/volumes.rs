//! Named volumes: directories for what is to outlive sandboxes and reboots,
//! `<root>/volumes/<name>`, where the root is that of services. Nothing here removes one.
//!
//! A volume belongs to the user of the command it was made for, so it is made with another name,
//! and renamed when it is complete. The directory that they are in belongs to the caller, and no
//! other user may enter it: so nobody can put something else in a volume's place, and the mode of a
//! volume matters only inside of sandboxes.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::{Journal, lock_file};
use crate::error::{Error, Result};
use crate::sys::{Errno, file, process};

/// Of a new volume: it may be shared with services of other users, which then read it.
const MODE: u32 = 0o755;

/// One that is being made. No volume has this name, and a killed start's is used again.
const NEW: &str = ".new";

impl Journal {
    /// Where a volume is.
    ///
    /// # Errors
    /// This user has no place for what outlives a reboot.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.volumes()?.join(name))
    }

    /// A volume, open; `None` if it has not been made yet.
    ///
    /// # Errors
    /// It is not a directory, or another user could have put it there.
    pub fn volume(&self, name: &str) -> Result<Option<OwnedFd>> {
        let dir = self.volumes()?;
        match self.open_volumes(&dir)? {
            Some(open) => volume_in(&open, &dir, name),
            None => Ok(None),
        }
    }

    /// The same; if it is not there yet it is made, and belongs to this user and group.
    ///
    /// # Errors
    /// See [`Journal::volume`]; or it cannot be made.
    pub fn make_volume(&self, name: &str, (uid, gid): (u32, u32)) -> Result<OwnedFd> {
        let dir = self.volumes()?;
        let failed = |verb: &str, error: &std::io::Error| {
            Error::io(format!("{verb} {}", dir.join(name).display()), error)
        };
        let open = match self.open_volumes(&dir)? {
            Some(open) => open,
            None => {
                let made = DirBuilder::new().mode(0o700).recursive(true).create(&dir);
                made.map_err(|e| Error::io(format!("create {}", dir.display()), &e))?;
                let gone = || Error::os(format!("open {}", dir.display()), Errno(libc::ENOENT));
                self.open_volumes(&dir)?.ok_or_else(gone)?
            }
        };
        if let Some(volume) = volume_in(&open, &dir, name)? {
            return Ok(volume);
        }
        if self.raid().has(name)? {
            return Err(Error::new(format!("{name} is the name of a RAID volume")));
        }
        let _lock = lock_file(&dir, "the volumes are")?;
        if let Some(volume) = volume_in(&open, &dir, name)? {
            return Ok(volume);
        }
        let made = file::make_directory(open.as_fd(), NEW, 0o700);
        if let Err(errno) = made
            && errno != Errno(libc::EEXIST)
        {
            return Err(failed("create", &errno.into()));
        }
        let new = file::open_directory(open.as_fd(), NEW);
        let new = File::from(new.map_err(|errno| failed("create", &errno.into()))?);
        let owner = new.metadata().map_err(|e| failed("stat", &e))?;
        if (owner.uid(), owner.gid()) != (uid, gid) {
            fchown(&new, Some(uid), Some(gid)).map_err(|e| {
                failed("chown", &e).hint(format!("it is for the command's user, {uid}:{gid}"))
            })?;
        }
        new.set_permissions(Permissions::from_mode(MODE)).map_err(|e| failed("chmod", &e))?;
        file::rename_new_in(open.as_fd(), NEW, name)
            .map_err(|errno| failed("create", &errno.into()))?;
        Ok(new.into())
    }

    /// Removes the beginning of a volume whose maker was killed; false if there is none. It is empty:
    /// nobody has seen it.
    ///
    /// # Errors
    /// It cannot be removed, or looked for.
    pub fn sweep_volumes(&self) -> Result<bool> {
        let Ok(dir) = self.volumes() else { return Ok(false) };
        if self.open_volumes(&dir)?.is_none() {
            return Ok(false);
        }
        let _lock = lock_file(&dir, "the volumes are")?;
        let new = dir.join(NEW);
        match fs::remove_dir(&new) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(format!("remove {}", new.display()), &e)),
        }
    }

    fn volumes(&self) -> Result<PathBuf> {
        let root = self.lasting();
        if root == self.root && root == Journal::default_root() {
            return Err(Error::new("a volume needs a directory that outlives a reboot")
                .hint("set XDG_STATE_HOME or HOME to one of this user, or use --root DIR"));
        }
        Ok(root.join("volumes"))
    }

    /// The directory of the volumes; `None` if it does not exist.
    fn open_volumes(&self, dir: &Path) -> Result<Option<OwnedFd>> {
        Journal { root: self.lasting(), part: self.part }.check_owner()?;
        let failed = |errno| Error::os(format!("open {}", dir.display()), errno);
        let above = dir.parent().unwrap_or(dir);
        let open = match File::open(above) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            above => above.map_err(|e| failed(e.into()))?,
        };
        let open = match file::open_directory(open.as_fd(), "volumes") {
            Err(Errno(libc::ENOENT)) => return Ok(None),
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => return Err(no_directory(dir)),
            open => File::from(open.map_err(failed)?),
        };
        let meta = open.metadata().map_err(|e| failed(e.into()))?;
        if meta.uid() != process::effective_ids().0 || meta.mode() & 0o077 != 0 {
            return Err(Error::new(format!(
                "{} belongs to another user or can be entered by others",
                dir.display()
            ))
            .hint("it must be this user's, with mode 700"));
        }
        Ok(Some(open.into()))
    }
}

fn volume_in(open: &OwnedFd, dir: &Path, name: &str) -> Result<Option<OwnedFd>> {
    match file::open_directory(open.as_fd(), name) {
        Ok(volume) => Ok(Some(volume)),
        Err(Errno(libc::ENOENT)) => Ok(None),
        Err(Errno(libc::ENOTDIR | libc::ELOOP)) => Err(no_directory(&dir.join(name))),
        Err(errno) => Err(Error::os(format!("open {}", dir.join(name).display()), errno)),
    }
}

fn no_directory(path: &Path) -> Error {
    Error::new(format!("{} is not a directory", path.display())).hint(
        "a volume is a directory and no link; for one elsewhere, write its path: -v /PATH:TARGET",
    )
}
