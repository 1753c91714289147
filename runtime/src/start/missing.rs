//! Missing mount points: creating them, and making room for them where nothing can be created. As
//! everywhere in the interpreter, nothing here allocates; and as the stack is small, a function
//! with a path or a list on the stack is never inlined into another such function.

use std::ffi::CStr;

use super::copy_up::{likeness, make_in};
use libc::{RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS};

use super::mounts::{MountTree, SysResult};
use crate::sys::Errno;
use crate::sys::raw::{self, MountAttr, RawFd};
use crate::sys::{copy, openat2};

/// The same limit as the kernel's (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A path on the stack, which is small: one holds the part already walked, another the rest, and
/// both are changed in place.
struct Text {
    /// A NUL byte follows.
    bytes: [u8; libc::PATH_MAX as usize],
    length: usize,
}

impl Text {
    const fn new() -> Text {
        Text { bytes: [0; libc::PATH_MAX as usize], length: 0 }
    }

    fn push(&mut self, part: &[u8]) -> SysResult {
        let end = self.length + part.len();
        let room = self.bytes.get_mut(self.length..end).filter(|_| end < libc::PATH_MAX as usize);
        room.ok_or(Errno(libc::ENAMETOOLONG))?.copy_from_slice(part);
        self.truncate(end);
        Ok(())
    }

    fn truncate(&mut self, length: usize) {
        self.length = length;
        self.bytes[length] = 0;
    }

    /// Replaces everything before `at` by `link`.
    fn replace(&mut self, at: usize, link: &[u8]) -> SysResult {
        let end = self.length - at + link.len();
        if end >= libc::PATH_MAX as usize {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.bytes.copy_within(at..self.length, link.len());
        self.bytes[..link.len()].copy_from_slice(link);
        self.truncate(end);
        Ok(())
    }

    /// As a path below the root; `.` if empty.
    fn path(&self) -> &CStr {
        path(&self.bytes)
    }

    /// Its length without the last component.
    fn above(&self) -> usize {
        self.bytes[..self.length].iter().rposition(|byte| *byte == b'/').unwrap_or(0)
    }

    /// The start and end of the first component from `at` on.
    fn name(&self, at: usize) -> Option<(usize, usize)> {
        let rest = self.bytes.get(at..self.length)?;
        let begin = at + rest.iter().position(|byte| *byte != b'/')?;
        let rest = &self.bytes[begin..self.length];
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        Some((begin, begin + length))
    }
}

fn path(bytes: &[u8]) -> &CStr {
    match CStr::from_bytes_until_nul(bytes) {
        Ok(path) if !path.is_empty() => path,
        _ => c".",
    }
}

impl MountTree {
    /// Creates the missing parts of a path: directories, and at its end a directory or an empty
    /// file. A dangling link is followed, relative to the sandbox's root. With `scaffold`, room is
    /// made where nothing can be written.
    #[inline(never)]
    pub(super) fn make(&mut self, path: &CStr, directory: bool, scaffold: bool) -> SysResult {
        let (mut rest, mut done) = (Text::new(), Text::new());
        rest.push(path.to_bytes())?;
        let (mut at, mut links) = (0, 0);
        while let Some((begin, end)) = rest.name(at) {
            let name = &rest.bytes[begin..end];
            at = end;
            if name == b"." {
                continue;
            }
            let above = done.length;
            if name == b".." {
                done.truncate(done.above());
                continue;
            }
            if above > 0 {
                done.push(b"/")?;
            }
            done.push(name)?;
            let there = match self.open(done.path(), libc::O_NOFOLLOW) {
                Err(Errno(libc::ENOENT)) => {
                    self.make_one(&mut done, directory || rest.name(at).is_some(), scaffold)?;
                    continue;
                }
                there => there?,
            };
            let mode = raw::stat(there)?.mode & libc::S_IFMT;
            if mode == libc::S_IFLNK {
                links += 1;
                let absolute = follow(there, &mut rest, at)?;
                done.truncate(if absolute { 0 } else { above });
                at = 0;
            }
            raw::close(there);
            if links > MOST_LINKS {
                return Err(Errno(libc::ELOOP));
            }
        }
        Ok(())
    }

    fn make_one(&mut self, done: &mut Text, directory: bool, scaffold: bool) -> SysResult {
        // A NUL in place of the slash ends the directory's path; the name begins after it.
        let slash = done.above();
        let slash = (slash > 0).then_some(slash);
        if let Some(slash) = slash {
            done.bytes[slash] = 0;
        }
        let name = path(&done.bytes[slash.map_or(0, |slash| slash + 1)..]);
        let above = if slash.is_some() { done.path() } else { c"." };
        let made = match self.make_below(above, name, directory) {
            Err(Errno(libc::EROFS)) if scaffold => {
                self.scaffold(above).and_then(|()| self.make_below(above, name, directory))
            }
            made => made,
        };
        if let Some(slash) = slash {
            done.bytes[slash] = b'/';
        }
        made
    }

    fn make_below(&mut self, above: &CStr, name: &CStr, directory: bool) -> SysResult {
        let above = self.open(above, libc::O_DIRECTORY)?;
        let made = make_in(above, name, directory);
        raw::close(above);
        match made {
            Err(Errno(libc::EEXIST)) | Ok(()) => Ok(()),
            made => made,
        }
    }

    /// Mounts a tmpfs over a directory that cannot be written, and bind-mounts every entry of that
    /// directory into it, together with what is already mounted there: so there is room for one
    /// more name, and nothing else has changed. It becomes read-only once everything is mounted
    /// ([`MountTree::finish`]).
    ///
    /// Not an overlayfs: once a lookup has failed there, it keeps hiding a file that the host
    /// creates later, and locks on its files are not locks on the host's files.
    #[inline(never)]
    fn scaffold(&mut self, path: &CStr) -> SysResult {
        let under = self.open(path, libc::O_DIRECTORY)?;
        let list = openat2::open(under, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let context = raw::fsopen(c"tmpfs")?;
        let cover = raw::fsmount(context, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
        raw::close(context);
        likeness(cover, c".", &raw::stat(under)?)?;
        raw::move_mount(cover, under)?;
        if path == c"." {
            self.enter(cover);
        }
        let mut buffer = [0u8; 2048];
        loop {
            let end = copy::entries(list, &mut buffer)?;
            if end == 0 {
                break;
            }
            let mut at = 0;
            while let Some(entry) = buffer.get(at..end).and_then(copy::first_entry) {
                at += entry.length;
                if entry.name != c"." && entry.name != c".." {
                    show(under, cover, entry.name)?;
                }
            }
        }
        raw::close(list);
        raw::close(under);
        match self.scaffolds.iter_mut().find(|fd| **fd < 0) {
            Some(free) => *free = cover,
            // No slot to remember it: if more is missing in it later, that gets a cover of its own.
            None => read_only(cover)?,
        }
        Ok(())
    }

    /// Called when everything is mounted.
    pub(super) fn finish(&mut self) -> SysResult {
        let scaffolds = std::mem::replace(&mut self.scaffolds, [-1; 8]);
        scaffolds.into_iter().filter(|fd| *fd >= 0).try_for_each(read_only)
    }
}

fn read_only(mount: RawFd) -> SysResult {
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    raw::mount_setattr(mount, &attr, false)
}

/// Replaces the part walked by the target of an open link. Returns whether that is absolute.
#[inline(never)]
fn follow(link: RawFd, rest: &mut Text, at: usize) -> SysResult<bool> {
    let mut text = [0u8; libc::PATH_MAX as usize];
    let text = copy::link_text(link, c"", &mut text)?.to_bytes();
    // The rest begins with a slash or is empty.
    rest.replace(at, text)?;
    Ok(text.starts_with(b"/"))
}

/// Shows one entry of directory `under` in `cover`.
#[inline(never)]
fn show(under: RawFd, cover: RawFd, name: &CStr) -> SysResult {
    let tree = match raw::open_tree_no_follow(under, name) {
        // It has been removed meanwhile.
        Err(Errno(libc::ENOENT)) => return Ok(()),
        tree => tree?,
    };
    match raw::stat(tree)?.mode & libc::S_IFMT {
        libc::S_IFLNK => {
            let mut text = [0u8; libc::PATH_MAX as usize];
            let text = copy::link_text(under, name, &mut text)?;
            raw::symlinkat(text, cover, name)?;
            raw::close(tree);
            return Ok(());
        }
        libc::S_IFDIR => raw::mkdirat(cover, name, 0o755)?,
        _ => raw::mknodat(cover, name, libc::S_IFREG | 0o444, 0)?,
    }
    let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    let point = openat2::open(cover, name, libc::O_PATH | libc::O_NOFOLLOW, resolve)?;
    let moved = raw::move_mount(tree, point);
    raw::close(point);
    raw::close(tree);
    moved
}
