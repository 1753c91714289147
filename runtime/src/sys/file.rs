//! Calls on files that `std` lacks.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Errno;
use super::errno::check;

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))
}

/// The text of a small file that the kernel makes up. Names in it (of processes, mounts, devices) are
/// chosen by anybody, and may be no text: what is none is U+FFFD here, and never an error.
pub fn read_kernel(path: impl AsRef<Path>) -> std::io::Result<String> {
    let bytes = read_kernel_bytes(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The same as it is. Such a file tells no size, and std would ask for it and begin with 32 bytes.
pub fn read_kernel_bytes(path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// renameat2(RENAME_NOREPLACE), Linux 3.15: EEXIST if `to` exists.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let cwd = libc::AT_FDCWD;
    // SAFETY: two C strings that live through the call.
    let result =
        unsafe { libc::renameat2(cwd, from.as_ptr(), cwd, to.as_ptr(), libc::RENAME_NOREPLACE) };
    check(result).map(drop)
}

/// From now on whoever reads or writes this open file without being able to gets EAGAIN instead of
/// waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = flags as libc::c_int | libc::O_NONBLOCK;
    // SAFETY: plain numbers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Was this descriptor given to us by whoever started this program? Those that we open ourselves are
/// closed at execve.
pub fn is_inherited(fd: super::raw::RawFd) -> bool {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Whatever this process executes inherits the open file.
pub fn inherit(file: &File) -> Result<(), Errno> {
    super::raw::set_cloexec(file.as_raw_fd(), false)
}

/// Is the open file the one that is at `path` now? When nothing is there, it is not.
pub fn is_at(fd: impl AsRawFd, path: &Path) -> Result<bool, Errno> {
    let path = c_path(path)?;
    let mut stats = [const { MaybeUninit::<libc::stat>::uninit() }; 2];
    // SAFETY: a C string that lives through the call, and room for the answer.
    let now = check(unsafe { libc::stat(path.as_ptr(), stats[0].as_mut_ptr()) });
    match now {
        Err(Errno(libc::ENOENT)) => return Ok(false),
        now => now.map(drop)?,
    }
    // SAFETY: room for the answer.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stats[1].as_mut_ptr()) })?;
    // SAFETY: both calls have succeeded, and filled it.
    let [now, open] = stats.map(|stat| unsafe { stat.assume_init() });
    Ok((now.st_dev, now.st_ino) == (open.st_dev, open.st_ino))
}

/// A detached copy of the mount at `path`, with all below it if `recursive` (open_tree(2)).
pub fn tree(path: &std::ffi::CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let tree = super::raw::open_tree(super::raw::AT_FDCWD, path, recursive)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
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

/// An executable file in memory that holds `contents` and cannot be changed any more, not even its
/// mode where the kernel can forbid that (memfd_create(2)); close-on-exec.
///
/// EACCES: this pid namespace forbids executable memory files (sysctl `vm.memfd_noexec` = 2).
pub fn sealed(name: &std::ffi::CStr, contents: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    // include/uapi/linux/memfd.h and fcntl.h; both since Linux 6.3.
    const MFD_EXEC: libc::c_uint = 0x10;
    const F_SEAL_EXEC: libc::c_int = 0x20;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string.
    let make = |flags| check(unsafe { libc::memfd_create(name.as_ptr(), flags) });
    let fd = match make(flags | MFD_EXEC) {
        Err(Errno(libc::EINVAL)) => make(flags)?,
        fd => fd?,
    };
    // SAFETY: the kernel has just given us this fd, and no one else has it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(contents)?;
    let fd = OwnedFd::from(file);
    // SAFETY: changes the mode of a file that we own.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
    let seal = |seals: libc::c_int| {
        // SAFETY: F_ADD_SEALS takes an integer.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })
    };
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    match seal(seals | F_SEAL_EXEC | libc::F_SEAL_SEAL) {
        Err(Errno(libc::EINVAL)) => seal(seals | libc::F_SEAL_SEAL)?,
        result => result?,
    };
    Ok(fd)
}

/// Executes an open file in this process (execveat(2), AT_EMPTY_PATH); returns only on failure.
pub fn exec_fd(program: &OwnedFd, argv: &super::CStrings, envp: &super::CStrings) -> Errno {
    super::raw::execveat(program.as_raw_fd(), argv, envp)
}
