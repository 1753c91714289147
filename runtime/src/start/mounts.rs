//! The mount steps. What lies in a root file system is not trusted: a path below it is resolved by
//! the kernel with RESOLVE_IN_ROOT to a descriptor (openat2(2)), and everything is attached to or
//! made below descriptors. Like all of the interpreter, nothing here allocates.

use std::ffi::CStr;

use crate::plan::{MountStep, Path, Source};
use crate::sys::Errno;
use crate::sys::raw::{self, MountAttr, RawFd};

type Result<T = ()> = std::result::Result<T, Errno>;

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// The tree that is being built: its root, once something needed it.
#[derive(Default)]
pub struct Tree {
    root: Option<RawFd>,
    /// The empty directory that masks directories. One file system for all: making and ending one
    /// costs ten times as much as another mount of it.
    empty: Option<RawFd>,
}

impl Tree {
    /// The new root; before [`Tree::lay_root`], and for sandboxes that keep the mount table, `/`.
    fn root(&mut self) -> Result<RawFd> {
        match self.root {
            Some(root) => Ok(root),
            None => {
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                let root = raw::openat2(raw::AT_FDCWD, c"/", flags, 0)?;
                self.root = Some(root);
                Ok(root)
            }
        }
    }

    /// Opens a path below the root, whatever links are in it, without leaving the root.
    fn open(&mut self, path: &CStr, flags: i32) -> Result<RawFd> {
        let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
        raw::openat2(self.root()?, path, libc::O_PATH | flags, resolve)
    }

    /// The directory that `path` is in, and its name there.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(RawFd, &'p CStr)> {
        let (parent, name) = path.parts.last().ok_or(Errno(libc::EBUSY))?;
        Ok((self.open(parent, libc::O_DIRECTORY)?, name))
    }

    pub fn propagation(&mut self, kind: u64) -> Result {
        let attr = MountAttr { propagation: kind, ..MountAttr::default() };
        raw::mount_setattr(self.root()?, &attr, true)
    }

    pub fn lay_root(&mut self, source: &CStr, recursive: bool, attr: &MountAttr) -> Result {
        let root = raw::open_tree(raw::AT_FDCWD, source, recursive)?;
        raw::mount_setattr(root, attr, recursive)?;
        raw::move_mount(root, self.root()?)?;
        self.root = Some(root);
        Ok(())
    }

    pub fn mount(&mut self, mount: &MountStep) -> Result {
        let (new, directory) = match &mount.source {
            Source::Bind { path, recursive } => {
                let tree = match raw::open_tree(raw::AT_FDCWD, path, *recursive) {
                    Err(Errno(libc::ENOENT)) if mount.optional => return Ok(()),
                    tree => tree?,
                };
                raw::mount_setattr(tree, &mount.attr, *recursive)?;
                (tree, is_directory(tree)?)
            }
            Source::New { kind, options } => {
                let context = raw::fsopen(kind)?;
                for (key, value) in options {
                    raw::fsconfig_set(context, key, value.as_deref())?;
                }
                let tree = raw::fsmount(context, mount.attr.set)?;
                raw::close(context);
                (tree, true)
            }
        };
        let target = match self.open(&mount.target.whole, 0) {
            Err(Errno(libc::ENOENT)) => match self.make(&mount.target, directory) {
                Err(Errno(libc::EROFS)) if mount.optional => {
                    raw::close(new);
                    return Ok(());
                }
                made => made.and_then(|()| self.open(&mount.target.whole, 0))?,
            },
            target => target?,
        };
        raw::move_mount(new, target)?;
        raw::close(target);
        raw::close(new);
        Ok(())
    }

    /// Makes what is missing of `path`: directories, and at its end a directory or an empty file.
    fn make(&mut self, path: &Path, directory: bool) -> Result {
        let last = path.parts.len().saturating_sub(1);
        for (depth, (parent, name)) in path.parts.iter().enumerate() {
            let parent = self.open(parent, libc::O_DIRECTORY)?;
            let made = if depth < last || directory {
                raw::mkdirat(parent, name, 0o755)
            } else {
                raw::mknodat(parent, name, libc::S_IFREG | 0o644, 0)
            };
            raw::close(parent);
            match made {
                Err(Errno(libc::EEXIST)) | Ok(()) => {}
                // Read-only above, yet it may exist: the open that follows tells.
                Err(Errno(libc::EROFS)) if depth < last => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    pub fn device(&mut self, path: &Path, device: u64) -> Result {
        let (parent, name) = self.parent(path)?;
        let made = raw::mknodat(parent, name, libc::S_IFCHR | 0o666, device);
        raw::close(parent);
        made
    }

    pub fn link(&mut self, path: &Path, text: &CStr) -> Result {
        let (parent, name) = self.parent(path)?;
        let made = raw::symlinkat(text, parent, name);
        raw::close(parent);
        made
    }

    pub fn mask(&mut self, path: &Path) -> Result {
        let target = match self.open(&path.whole, 0) {
            Err(Errno(libc::ENOENT)) => return Ok(()),
            target => target?,
        };
        if is_directory(target)? {
            self.mask_directory(target)?;
        } else {
            let cover = self.null()?;
            raw::move_mount(cover, target)?;
            raw::close(cover);
        }
        raw::close(target);
        Ok(())
    }

    fn mask_directory(&mut self, target: RawFd) -> Result {
        if let Some(empty) = self.empty {
            let cover = raw::open_tree(empty, c"", false)?;
            raw::move_mount(cover, target)?;
            raw::close(cover);
            return Ok(());
        }
        let context = raw::fsopen(c"tmpfs")?;
        raw::fsconfig_set(context, c"mode", Some(c"0000"))?;
        let read_only = libc::MOUNT_ATTR_RDONLY;
        let rest = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let empty = raw::fsmount(context, read_only | rest)?;
        raw::close(context);
        raw::move_mount(empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }

    /// A detached mount of the sandbox's /dev/null, which must be the real one: a root file system
    /// could have put a file of its own there (and then read what is written to it).
    fn null(&mut self) -> Result<RawFd> {
        let null = self.open(c"dev/null", 0)?;
        let stat = raw::stat(null)?;
        if stat.mode & libc::S_IFMT != libc::S_IFCHR || stat.rdev != libc::makedev(1, 3) {
            return Err(Errno(libc::ENODEV));
        }
        let cover = raw::open_tree(null, c"", false)?;
        raw::close(null);
        Ok(cover)
    }

    pub fn read_only(&mut self, path: &Path) -> Result {
        let target = match self.open(&path.whole, 0) {
            Err(Errno(libc::ENOENT)) => return Ok(()),
            target => target?,
        };
        let tree = raw::open_tree(target, c"", true)?;
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        raw::mount_setattr(tree, &attr, true)?;
        raw::move_mount(tree, target)?;
        raw::close(tree);
        raw::close(target);
        Ok(())
    }

    pub fn pivot(&mut self) -> Result {
        raw::fchdir(self.root()?)?;
        raw::pivot_root_here()?;
        // The old root now lies over the new one; without it only the sandbox's mounts are left.
        raw::detach(c".")?;
        raw::chdir(c"/")
    }
}

fn is_directory(fd: RawFd) -> Result<bool> {
    Ok(raw::stat(fd)?.mode & libc::S_IFMT == libc::S_IFDIR)
}
