//! Visiting another mount namespace (mount_namespaces(7), setns(2)), and telling mounts apart.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::raw::{RawFd, call};
use super::{Errno, openat2, raw};

/// Runs `visit` on a separate thread in the mount namespace behind `there`, an open namespace file;
/// the thread's root and working directory are that namespace's. Needs CAP_SYS_ADMIN and
/// CAP_SYS_CHROOT.
pub fn in_mount_namespace<T: Send>(
    there: BorrowedFd<'_>,
    visit: impl FnOnce() -> T + Send,
) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Otherwise EINVAL: root and working directory are shared with the other threads.
            raw::unshare(libc::CLONE_FS)?;
            raw::setns(there.as_raw_fd(), libc::CLONE_NEWNS)?;
            Ok(visit())
        });
        thread.join().unwrap_or(Err(Errno(libc::EFAULT)))
    })
}

/// Runs `visit` on a separate thread, in a copy of this mount namespace in which `path` is a mount
/// of its own. Processes that `visit` starts are in the copy too; it ends with them.
pub fn with_own_mount<T: Send>(path: &Path, visit: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            raw::unshare(libc::CLONE_NEWNS)?;
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let root = openat2::open(raw::AT_FDCWD, c"/", flags, 0)?;
            let private = raw::MountAttr { propagation: libc::MS_PRIVATE, ..Default::default() };
            raw::mount_setattr(root, &private, true)?;
            raw::close(root);
            let tree = raw::open_tree(raw::AT_FDCWD, &path, true)?;
            let target = openat2::open(raw::AT_FDCWD, &path, flags, 0)?;
            raw::move_mount(tree, target)?;
            raw::close(target);
            raw::close(tree);
            Ok(visit())
        });
        thread.join().unwrap_or(Err(Errno(libc::EFAULT)))
    })
}

/// statx(2), STATX_MNT_ID, Linux 5.8: the mount that an open file is on. It may
/// be used between clone3 and execve.
pub fn mount_id(fd: RawFd) -> Result<u64, Errno> {
    // SAFETY: libc::statx is plain integers, for which all zeroes is a value.
    let mut stat: libc::statx = unsafe { core::mem::zeroed() };
    let path = c"".as_ptr();
    call!(libc::SYS_statx, fd, path, libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, &raw mut stat)?;
    match stat.stx_mask & libc::STATX_MNT_ID {
        0 => Err(Errno(libc::ENOSYS)),
        _ => Ok(stat.stx_mnt_id),
    }
}
