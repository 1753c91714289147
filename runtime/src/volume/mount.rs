//! The file system of a volume, mounted for one sandbox or container.
//!
//! The mount is attached nowhere on this machine: a descriptor is passed to the process that
//! attaches it in its own mount namespace. So it ends with that namespace, however that ends. All
//! mounts of a volume are of one file system, which the kernel finds again by its device.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use super::record::FileSystem;
use crate::error::{Error, Result};
use crate::sys::{Errno, file};

/// What mkfs.ext4 makes for e2fsck, which makes it again when it needs it.
const LOST_AND_FOUND: &str = "lost+found";

/// Mounts `device`, without set-user-id programs and devices.
///
/// # Errors
/// It cannot be mounted.
pub fn detached(device: &Path, kind: FileSystem) -> Result<OwnedFd> {
    let doing = || format!("mount {}", device.display());
    let kind = match kind {
        FileSystem::Ext4 => c"ext4",
        FileSystem::Xfs => c"xfs",
        FileSystem::None => {
            return Err(Error::new(format!("{}: no file system of ours", doing())));
        }
    };
    let source = CString::new(device.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::new("a path has no NUL"))?;
    file::new_mount(kind, &source).map_err(|errno| {
        let error = Error::os(doing(), errno);
        match errno {
            Errno(libc::ENODEV) => {
                error.hint(format!("the kernel has no {0}: modprobe {0}", kind.to_string_lossy()))
            }
            Errno(libc::EPERM) => error.hint("it needs root of the whole machine"),
            Errno(libc::EBUSY) => error.hint("another program holds the device"),
            _ => error.hint("dmesg may say why"),
        }
    })
}

/// Gives a file system on which nothing has been written to this user and group, as docker does with
/// an empty volume. One that has anything on it, or an owner, is left as it is.
///
/// # Errors
/// It cannot be determined or changed.
pub fn give_if_empty(mount: &OwnedFd, (uid, gid): (u32, u32)) -> Result<()> {
    let failed = |doing: &str, errno: Errno| Error::os(format!("{doing} the new volume"), errno);
    let root = file::open_directory(mount.as_fd(), ".").map_err(|errno| failed("open", errno))?;
    let meta = File::from(root.try_clone().map_err(|error| failed("open", error.into()))?);
    let meta = meta.metadata().map_err(|error| failed("stat", error.into()))?;
    if (meta.uid(), meta.gid()) != (0, 0) {
        return Ok(());
    }
    let names = file::names_in(root.as_fd()).map_err(|errno| failed("read", errno))?;
    if names.iter().any(|name| name.to_bytes() != LOST_AND_FOUND.as_bytes()) {
        return Ok(());
    }
    if !names.is_empty() {
        // It would be in the way of programs that want an empty directory, as initdb does.
        match file::remove_directory(root.as_fd(), LOST_AND_FOUND) {
            Ok(()) => {}
            // Something was found.
            Err(Errno(libc::ENOTEMPTY | libc::ENOTDIR)) => return Ok(()),
            Err(errno) => return Err(failed("remove lost+found of", errno)),
        }
    }
    fchown(&root, Some(uid), Some(gid)).map_err(|error| failed("chown", error.into()))
}
