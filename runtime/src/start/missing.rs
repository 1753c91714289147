//! Mount points that are not there: making them, and making room for them where nothing can be made.
//! Like all of the interpreter, nothing here allocates; and as the stack is small, what has a path or a
//! list on it is never inlined into what has another.

use std::ffi::CStr;

use super::copy_up::{likeness, make_in};
use libc::{RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS};

use super::mounts::{MountTree, SysResult};
use crate::sys::Errno;
use crate::sys::raw::{self, MountAttr, RawFd};
use crate::sys::{copy, openat2};

/// As the kernel's own walk (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A path on the stack, which is small: there is one of what is done and one of what is left, and
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

    /// Puts `link` in the place of everything before `at`.
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

    /// As a path below the root, which is `.` when there is nothing in it.
    fn path(&self) -> &CStr {
        path(&self.bytes)
    }

    /// Its length without the last name.
    fn above(&self) -> usize {
        self.bytes[..self.length].iter().rposition(|byte| *byte == b'/').unwrap_or(0)
    }

    /// Where the first name from `at` on begins and ends.
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
    /// Makes what is missing of a path: directories, and at its end a directory or an empty file. A
    /// link that leads nowhere is followed, as if the root were the sandbox's already. `scaffold`:
    /// where nothing can be written, room is made for it.
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
        // The slash becomes the end of the one and the beginning of the other.
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

    /// Lays a tmpfs over a directory that cannot be written, and binds on it everything that is in
    /// that directory, with what is mounted there already: so there is room for one name more, and
    /// nothing else has changed. It becomes read-only when all is mounted ([`MountTree::finish`]).
    ///
    /// Not an overlayfs: that would go on to deny files that the host makes below it later, once
    /// somebody has looked for them in vain, and its files are not the host's when they are locked.
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
            // No place to remember it: what is missing in it later gets a cover of its own.
            None => read_only(cover)?,
        }
        Ok(())
    }

    /// When all is mounted.
    pub(super) fn finish(&mut self) -> SysResult {
        let scaffolds = std::mem::replace(&mut self.scaffolds, [-1; 8]);
        scaffolds.into_iter().filter(|fd| *fd >= 0).try_for_each(read_only)
    }
}

fn read_only(mount: RawFd) -> SysResult {
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    raw::mount_setattr(mount, &attr, false)
}

/// Puts what an open link says in the place of what was walked. Does it begin at the root?
#[inline(never)]
fn follow(link: RawFd, rest: &mut Text, at: usize) -> SysResult<bool> {
    let mut text = [0u8; libc::PATH_MAX as usize];
    let text = copy::link_text(link, c"", &mut text)?.to_bytes();
    // What follows begins with a slash, or there is nothing.
    rest.replace(at, text)?;
    Ok(text.starts_with(b"/"))
}

/// Makes one entry of directory `under` seen in `cover`.
#[inline(never)]
fn show(under: RawFd, cover: RawFd, name: &CStr) -> SysResult {
    let tree = match raw::open_tree_no_follow(under, name) {
        // It has gone meanwhile.
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
