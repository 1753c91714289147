//! Calls on files that `std` lacks.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, RenameFlags, SealFlags, StatVfs,
    StatVfsMountFlags,
};

use super::raw::{self, call};
use super::{CStrings, Errno};

/// The text of a small file that the kernel generates. Names in it (of processes, mounts, devices)
/// can be chosen by any user and may not be UTF-8: invalid bytes become U+FFFD, never an error.
pub fn read_kernel(path: impl AsRef<Path>) -> std::io::Result<String> {
    let bytes = read_kernel_bytes(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The same, as bytes. Such a file reports no size; std would ask for it and start with 32 bytes.
pub fn read_kernel_bytes(path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// renameat2(RENAME_NOREPLACE), Linux 3.15: EEXIST if `to` exists.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// From now on reads and writes on this open file return EAGAIN instead of blocking.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK;
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

/// A pipe with a name (fifo(7)), of this mode; made if it does not exist. Two descriptors: one that
/// reads without blocking, and one that writes, or rather does both, so that there is always a reader.
pub fn named_pipe(path: &Path, mode: u32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mode = Mode::from_bits_truncate(mode);
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0) {
        Err(rustix::io::Errno::EXIST) => {}
        made => {
            made?;
            // Whatever the umask is.
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?;
        }
    }
    let open = |more| {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
        rustix::fs::openat(CWD, path, flags, Mode::empty())
    };
    Ok((open(OFlags::NONBLOCK)?, open(OFlags::empty())?))
}

/// Was this descriptor inherited by this program? Those that we open ourselves are close-on-exec.
pub fn is_inherited(fd: raw::RawFd) -> bool {
    call!(libc::SYS_fcntl, fd, libc::F_GETFD)
        .is_ok_and(|flags| flags & libc::FD_CLOEXEC as usize == 0)
}

/// Takes ownership of an inherited descriptor and makes it close-on-exec. EBADF: it was not
/// inherited.
pub fn inherited(fd: raw::RawFd) -> Result<OwnedFd, Errno> {
    if !is_inherited(fd) {
        return Err(Errno(libc::EBADF));
    }
    raw::set_cloexec(fd, true)?;
    Ok(raw::own(fd))
}

/// A copy of a descriptor, with the lowest free number not below `least`.
pub fn copy_from(fd: BorrowedFd<'_>, least: raw::RawFd) -> Result<OwnedFd, Errno> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, least)?)
}

/// Makes the open file survive execve.
pub fn inherit(file: &File) -> Result<(), Errno> {
    raw::set_cloexec(file.as_raw_fd(), false)
}

/// Is the open file the one currently at `path`? If `path` does not exist, it is not.
pub fn is_at(fd: impl AsFd, path: &Path) -> Result<bool, Errno> {
    let now = match rustix::fs::stat(path) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        now => now?,
    };
    let open = rustix::fs::fstat(fd)?;
    Ok((now.st_dev, now.st_ino) == (open.st_dev, open.st_ino))
}

/// A detached copy of the mount at `path` (`recursive`: with everything below; open_tree(2), Linux
/// 5.2).
pub fn detached_copy(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    raw::open_tree(raw::AT_FDCWD, path, recursive).map(raw::own)
}

/// The same of the mount at an open directory.
pub fn detached_copy_of(dir: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    raw::open_tree(dir.as_raw_fd(), c"", recursive).map(raw::own)
}

/// What is mounted in a detached copy must not appear at its origin; the reverse may, as in a copy
/// that a new mount namespace makes.
pub fn leave_peers(tree: &OwnedFd) -> Result<(), Errno> {
    let attr = raw::MountAttr { propagation: libc::MS_SLAVE, ..Default::default() };
    raw::mount_setattr(tree.as_raw_fd(), &attr, true)
}

/// Opens a directory in another, by its name; a symbolic link is ENOTDIR.
pub fn open_directory(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// A file system on a block device as a detached mount, nosuid and nodev (fsopen(2), fsmount(2), Linux
/// 5.2).
pub fn new_mount(kind: &CStr, device: &CStr) -> Result<OwnedFd, Errno> {
    let context = raw::own(raw::fsopen(kind)?);
    raw::fsconfig_set(context.as_raw_fd(), c"source", Some(device))?;
    let attr = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    raw::fsmount(context.as_raw_fd(), attr).map(raw::own)
}

/// The names in an open directory, but for `.` and `..`.
pub fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes an empty directory (unlinkat(2), AT_REMOVEDIR).
pub fn remove_directory(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// mkdirat(2).
pub fn make_directory(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<(), Errno> {
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

/// Same as [`rename_new`], within one directory.
pub fn rename_new_in(dir: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    Ok(rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE)?)
}

/// This program's own file as a detached read-only mount: executing it through this descriptor
/// gives a process whose /proc/PID/exe cannot be opened for writing. Needs CAP_SYS_ADMIN.
pub fn own_program_read_only() -> Result<OwnedFd, Errno> {
    let attr = raw::MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    let tree = detached_copy(c"/proc/self/exe", false)?;
    raw::mount_setattr(tree.as_raw_fd(), &attr, false)?;
    Ok(tree)
}

/// Is the file system that holds this program's file mounted read-only, or the file sealed?
pub fn own_program_is_protected() -> bool {
    let own = c"/proc/self/exe";
    let read_only = |stat: StatVfs| stat.f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = |seals: SealFlags| seals.contains(SealFlags::WRITE);
    match rustix::fs::statvfs(own).map(read_only) {
        Ok(false) => rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::fs::fcntl_get_seals)
            .is_ok_and(sealed),
        protected => protected.unwrap_or(false),
    }
}

/// An executable memory file that holds `contents` and can no longer be changed, not even its mode
/// where the kernel can forbid that (memfd_create(2)); close-on-exec.
///
/// EACCES: this pid namespace forbids executable memory files (sysctl `vm.memfd_noexec` = 2).
pub fn sealed(name: &CStr, contents: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let make = |flags| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | flags;
        rustix::fs::memfd_create(name, flags)
    };
    // MFD_EXEC, and the seal F_SEAL_EXEC: both since Linux 6.3.
    let fd = match make(MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => make(MemfdFlags::empty())?,
        fd => fd?,
    };
    let mut file = File::from(fd);
    file.write_all(contents)?;
    let fd = OwnedFd::from(file);
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let exec = SealFlags::from_bits_retain(libc::F_SEAL_EXEC as u32);
    match rustix::fs::fcntl_add_seals(&fd, seals | exec) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::fcntl_add_seals(&fd, seals)?,
        result => result?,
    }
    Ok(fd)
}

/// Executes an open file in this process (execveat(2), AT_EMPTY_PATH); returns only on failure.
pub fn exec_fd(program: &OwnedFd, argv: &CStrings, envp: &CStrings) -> Errno {
    raw::execveat(program.as_raw_fd(), argv, envp)
}
