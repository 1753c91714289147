//! The calls for copying a tree of files, by descriptor. All of them may be used between clone3 and
//! execve.

use core::ffi::CStr;

use super::Errno;
use super::raw::{RawFd, call};

type Result<T = ()> = core::result::Result<T, Errno>;

/// getdents64(2): as many entries of an open directory as fit; 0: no more.
pub fn entries(dir: RawFd, buffer: &mut [u8]) -> Result<usize> {
    call!(libc::SYS_getdents64, dir, buffer.as_mut_ptr(), buffer.len())
}

/// One entry of a directory, as getdents64(2) lays it out.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// The position of the next one, for [`seek`].
    pub next: i64,
    /// Its size in the buffer.
    pub length: usize,
}

/// The entry at the beginning of `bytes`; `None` if there is no complete one.
pub fn first_entry(bytes: &[u8]) -> Option<DirEntry<'_>> {
    // d_ino: 8 bytes, d_off: 8, d_reclen: 2, d_type: 1, then the name.
    const NAME: usize = 19;
    let next = i64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let length = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let name = CStr::from_bytes_until_nul(bytes.get(NAME..length)?).ok()?;
    Some(DirEntry { name, next, length })
}

/// lseek(2) from the beginning.
pub fn seek(fd: RawFd, offset: i64) -> Result {
    call!(libc::SYS_lseek, fd, offset, libc::SEEK_SET).map(drop)
}

/// Creates a regular file that no other process can open yet, opened for writing.
pub fn create(dir: RawFd, name: &CStr) -> Result<RawFd> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    call!(libc::SYS_openat, dir, name.as_ptr(), flags, 0o600).map(|fd| fd as RawFd)
}

/// Copies an open file's contents, from its offset on, to another file within the kernel
/// (sendfile(2)).
pub fn contents(from: RawFd, to: RawFd) -> Result {
    const MOST: usize = 0x7fff_f000;
    while call!(libc::SYS_sendfile, to, from, 0, MOST)? != 0 {}
    Ok(())
}

/// readlinkat(2): the target of a symbolic link, NUL-terminated.
pub fn link_text<'b>(dir: RawFd, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b CStr> {
    let room = buffer.len();
    let length = call!(libc::SYS_readlinkat, dir, name.as_ptr(), buffer.as_mut_ptr(), room)?;
    let end = buffer.get_mut(length).ok_or(Errno(libc::ENAMETOOLONG))?;
    *end = 0;
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno(libc::EINVAL))
}

/// utimensat(2): sets the modification time, of a link itself.
pub fn set_modified(dir: RawFd, name: &CStr, (seconds, nanoseconds): (i64, i64)) -> Result {
    let times: [i64; 4] = [0, libc::UTIME_OMIT, seconds, nanoseconds];
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    call!(libc::SYS_utimensat, dir, name.as_ptr(), times.as_ptr(), flags).map(drop)
}

/// Copies one extended attribute of an open file, if present and no longer than a file capabilities
/// attribute.
pub fn attribute(from: RawFd, to: RawFd, name: &CStr) -> Result {
    let mut value = [0u8; 64];
    let room = value.len();
    match call!(libc::SYS_fgetxattr, from, name.as_ptr(), value.as_mut_ptr(), room) {
        Err(Errno(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(()),
        Err(errno) => Err(errno),
        Ok(length) => {
            call!(libc::SYS_fsetxattr, to, name.as_ptr(), value.as_ptr(), length, 0).map(drop)
        }
    }
}
