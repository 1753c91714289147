//! Copying the contents of a directory into the tmpfs that will cover it (the mount option
//! `tmpcopyup`), by descriptors only and without allocating. Links are copied, never followed.

use std::ffi::CStr;

use crate::sys::copy::{self, DirEntry};
use crate::sys::raw::{self, RawFd, Stat};
use libc::{RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS};

use crate::sys::{Errno, openat2};

type SysResult<T = ()> = Result<T, Errno>;

/// The maximum depth of directories; each level has two open descriptors.
const DEEPEST: usize = 128;

/// A directory that is being copied.
#[derive(Clone, Copy)]
struct Level {
    from: RawFd,
    to: RawFd,
    /// The position of its next entry: the buffer is reused for the levels below.
    next: i64,
}

/// Copies the contents of directory `from` into the mount `to`, and its mode and owner too.
/// ELOOP: too many levels.
#[inline(never)]
pub fn copy_up(from: RawFd, to: RawFd) -> SysResult {
    let mut levels = [Level { from: -1, to: -1, next: 0 }; DEEPEST];
    levels[0] = Level { from: directory(from, c".")?, to: directory(to, c".")?, next: 0 };
    let mut depth = 1;
    while depth > 0 {
        let level = &mut levels[depth - 1];
        match next_directory(level)? {
            Some(below) => {
                *levels.get_mut(depth).ok_or(Errno(libc::ELOOP))? = below;
                depth += 1;
            }
            None => {
                // Only now: creating entries changes its time, and needs a mode that allows it.
                likeness(level.to, c".", &raw::stat(level.from)?)?;
                raw::close(level.from);
                raw::close(level.to);
                depth -= 1;
            }
        }
    }
    Ok(())
}

/// Gives the mount `to` the mode of the directory it covers.
pub fn mode_of(covered: RawFd, to: RawFd) -> SysResult {
    raw::fchmodat(to, c".", raw::stat(covered)?.mode & 0o7777)
}

/// Copies entries until one is a directory, which is to be copied next; `None` at the end.
fn next_directory(level: &mut Level) -> SysResult<Option<Level>> {
    let mut buffer = [0u8; 2048];
    copy::seek(level.from, level.next)?;
    loop {
        let end = copy::entries(level.from, &mut buffer)?;
        if end == 0 {
            return Ok(None);
        }
        let mut at = 0;
        while let Some(entry) = buffer.get(at..end).and_then(copy::first_entry) {
            at += entry.length;
            level.next = entry.next;
            if entry.name != c"."
                && entry.name != c".."
                && let Some(below) = copy_entry(level, &entry)?
            {
                return Ok(Some(below));
            }
        }
    }
}

fn copy_entry(level: &Level, entry: &DirEntry<'_>) -> SysResult<Option<Level>> {
    let name = entry.name;
    let there = open(level.from, name, libc::O_PATH | libc::O_NOFOLLOW)?;
    let stat = raw::stat(there);
    raw::close(there);
    let stat = stat?;
    match stat.mode & libc::S_IFMT {
        libc::S_IFDIR => {
            match raw::mkdirat(level.to, name, 0o700) {
                Ok(()) | Err(Errno(libc::EEXIST)) => {}
                Err(errno) => return Err(errno),
            }
            let (from, to) = (directory(level.from, name)?, directory(level.to, name)?);
            return Ok(Some(Level { from, to, next: 0 }));
        }
        libc::S_IFREG => file(level, name)?,
        libc::S_IFLNK => {
            let mut text = [0u8; 4096];
            let text = copy::link_text(level.from, name, &mut text)?;
            raw::symlinkat(text, level.to, name)?;
            owner(level.to, name, &stat)?;
            copy::set_modified(level.to, name, stat.modified)?;
        }
        // A copy of a socket file would not lead to the socket.
        libc::S_IFSOCK => {}
        kind => match raw::mknodat(level.to, name, kind | 0o600, stat.rdev) {
            // Devices cannot be made in a user namespace; fifos can.
            Err(Errno(libc::EPERM)) if kind != libc::S_IFIFO => {}
            made => made.and_then(|()| likeness(level.to, name, &stat))?,
        },
    }
    Ok(None)
}

fn file(level: &Level, name: &CStr) -> SysResult {
    // O_NONBLOCK: if it has been replaced by a fifo, opening it would wait for a writer.
    let from = open(level.from, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK)?;
    let stat = raw::stat(from)?;
    if stat.mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Errno(libc::ESTALE));
    }
    let to = copy::create(level.to, name)?;
    copy::contents(from, to)?;
    likeness(level.to, name, &stat)?;
    // After the owner: chown removes it.
    match copy::attribute(from, to, c"security.capability") {
        Err(Errno(libc::EPERM)) | Ok(()) => {}
        Err(errno) => return Err(errno),
    }
    raw::close(to);
    raw::close(from);
    Ok(())
}

fn open(dir: RawFd, name: &CStr, flags: i32) -> SysResult<RawFd> {
    let resolve = match flags & libc::O_PATH {
        0 => RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        // With O_NOFOLLOW, opens the link itself.
        _ => RESOLVE_BENEATH,
    };
    openat2::open(dir, name, flags, resolve)
}

fn directory(dir: RawFd, name: &CStr) -> SysResult<RawFd> {
    open(dir, name, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Makes a directory or an empty file.
pub(super) fn make_in(above: RawFd, name: &CStr, directory: bool) -> SysResult {
    match directory {
        true => raw::mkdirat(above, name, 0o755),
        false => raw::mknodat(above, name, libc::S_IFREG | 0o644, 0),
    }
}

/// Copies owner, mode and time, of anything but a link; the owner first, as chown clears mode bits.
pub(super) fn likeness(dir: RawFd, name: &CStr, stat: &Stat) -> SysResult {
    owner(dir, name, stat)?;
    raw::fchmodat(dir, name, stat.mode & 0o7777)?;
    copy::set_modified(dir, name, stat.modified)
}

/// An owner that is not mapped in the user namespace is left out.
fn owner(dir: RawFd, name: &CStr, stat: &Stat) -> SysResult {
    match raw::fchownat(dir, name, stat.owner.0, stat.owner.1) {
        Err(Errno(libc::EINVAL | libc::EPERM)) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
