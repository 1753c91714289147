//! Calls on files that `std` lacks.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Errno;

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))
}

fn check(result: i64) -> Result<i64, Errno> {
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(result) }
}

/// renameat2(RENAME_NOREPLACE), Linux 3.15: EEXIST if `to` exists.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let cwd = libc::AT_FDCWD;
    // SAFETY: two C strings that live through the call.
    let result =
        unsafe { libc::renameat2(cwd, from.as_ptr(), cwd, to.as_ptr(), libc::RENAME_NOREPLACE) };
    check(result.into()).map(drop)
}

/// Is the open file the one that is at `path` now?
pub fn is_at(fd: BorrowedFd<'_>, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(now) = std::fs::metadata(path) else { return false };
    let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::metadata(own).is_ok_and(|open| (open.dev(), open.ino()) == (now.dev(), now.ino()))
}

/// This program's own file as a read-only mount of its own, attached nowhere: executing it through
/// this descriptor gives a process whose /proc/PID/exe cannot be opened for writing. Needs
/// CAP_SYS_ADMIN.
pub fn own_program_read_only() -> Result<OwnedFd, Errno> {
    let attr = super::raw::MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    let tree = super::raw::open_tree(super::raw::AT_FDCWD, c"/proc/self/exe", false)?;
    // SAFETY: a new descriptor that nobody else owns.
    let tree = unsafe { OwnedFd::from_raw_fd(tree) };
    super::raw::mount_setattr(tree.as_raw_fd(), &attr, false)?;
    Ok(tree)
}

/// Is the file system that holds this program's file mounted read-only, or the file sealed?
pub fn own_program_is_protected() -> bool {
    // SAFETY: statvfs is plain memory that the call fills; the path is a C string.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(c"/proc/self/exe".as_ptr(), &raw mut stat) != 0 {
            return false;
        }
        if stat.f_flag & libc::ST_RDONLY != 0 {
            return true;
        }
        let fd = libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let seals = libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS);
        seals >= 0 && seals & libc::F_SEAL_WRITE != 0
    }
}

/// An anonymous file that holds `contents` and cannot be changed any more (memfd_create(2)).
pub fn sealed(name: &std::ffi::CStr, contents: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: a C string, a buffer with its length, and a descriptor that is ours alone.
    unsafe {
        let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // MFD_EXEC (Linux 6.3) says that it shall be executable even where that is not the default.
        const MFD_EXEC: u32 = 0x10;
        let fd = match check(libc::memfd_create(name.as_ptr(), base | MFD_EXEC).into()) {
            Err(Errno(libc::EINVAL)) => check(libc::memfd_create(name.as_ptr(), base).into())?,
            fd => fd?,
        };
        let fd = OwnedFd::from_raw_fd(fd as i32);
        let mut rest = contents;
        while !rest.is_empty() {
            let written = libc::write(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len());
            rest = &rest[check(written as i64)? as usize..];
        }
        check(libc::fchmod(fd.as_raw_fd(), mode).into())?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals).into())?;
        Ok(fd)
    }
}

/// Executes an open file in this process (execveat(2), AT_EMPTY_PATH); returns only on failure.
pub fn exec_fd(program: &OwnedFd, argv: &super::CStrings, envp: &super::CStrings) -> Errno {
    super::raw::execveat(program.as_raw_fd(), argv, envp)
}
