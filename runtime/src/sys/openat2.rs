//! Opening paths inside a tree that another user controls (openat2(2), Linux 5.6). [`open`] and
//! [`may_execute`] may be used between clone3 and execve.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::raw::{self, RawFd, call};
use super::{Errno, resolve};

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2), Linux 5.6: opens `path` below `dir`, with `resolve` flags (RESOLVE_*).
pub fn open(dir: RawFd, path: &CStr, flags: i32, resolve: u64) -> Result<RawFd, Errno> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    let mut tries = 0;
    loop {
        // EAGAIN: a rename elsewhere disturbed a walk that must stay below a root.
        match call!(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size_of::<OpenHow>()) {
            Err(Errno(libc::EAGAIN)) if tries < 64 => tries += 1,
            Err(Errno(libc::ENOSYS)) => return resolve::open(dir, path, flags, resolve),
            result => return result.map(|fd| fd as RawFd),
        }
    }
}

/// Opens `path` as if `root` were `/`: absolute links and `..` stay inside, magic links (those in
/// /proc that lead anywhere) are refused. `flags` as for open(2); O_CLOEXEC is added.
pub fn in_root(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    open(root.as_raw_fd(), path, flags, resolve).map(raw::own)
}

/// Is `path` a regular file that this task may execute (faccessat2(2) with AT_EACCESS, Linux 5.8)?
/// ENOENT if it is not a regular file either.
pub fn may_execute(path: &CStr) -> Result<(), Errno> {
    let file = open(raw::AT_FDCWD, path, libc::O_PATH, 0)?;
    let regular = raw::stat(file).map(|stat| stat.mode & libc::S_IFMT == libc::S_IFREG);
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    let allowed = call!(libc::SYS_faccessat2, file, c"".as_ptr(), libc::X_OK, flags);
    raw::close(file);
    match regular? {
        true => allowed.map(drop),
        false => Err(Errno(libc::EACCES)),
    }
}
