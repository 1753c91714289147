//! The mount steps. The contents of a root file system are not trusted: a path below it is resolved
//! by the kernel to a descriptor with RESOLVE_IN_ROOT (openat2(2)), and everything is attached to
//! or created below descriptors. As everywhere in the interpreter, nothing here allocates.

use std::ffi::{CStr, CString};

use super::copy_up::{copy_up, make_in, mode_of};
use crate::plan::{MountStep, Named, Path, Procfs, Source};
use crate::sys::mntns::mount_id;
use crate::sys::raw::{self, MountAttr, RawFd, Stat};
use crate::sys::{Errno, openat2, terminal};

pub(super) type SysResult<T = ()> = Result<T, Errno>;

use libc::{
    RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
};

/// The tree being built: its root, once something needed it.
pub struct MountTree {
    root: Option<RawFd>,
    /// The root was mounted over an earlier one.
    covered: bool,
    /// The empty directory that masks directories. One file system for all: creating and destroying
    /// one costs ten times as much as mounting it again.
    empty: Option<RawFd>,
    /// Mounts laid over directories to make room for mount points, still writable; -1: unused.
    pub(super) scaffolds: [RawFd; 8],
}

impl Default for MountTree {
    fn default() -> MountTree {
        MountTree { root: None, covered: false, empty: None, scaffolds: [-1; 8] }
    }
}

impl MountTree {
    /// An existing tree, below an open root.
    pub fn at(root: RawFd) -> MountTree {
        MountTree { root: Some(root), ..MountTree::default() }
    }

    /// The new root; before [`MountTree::lay_root`], and for sandboxes that keep the mount table,
    /// `/`.
    fn root(&mut self) -> SysResult<RawFd> {
        match self.root {
            Some(root) => Ok(root),
            None => {
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                let root = openat2::open(raw::AT_FDCWD, c"/", flags, 0)?;
                self.root = Some(root);
                Ok(root)
            }
        }
    }

    /// From here on, the root is the mount on top of it.
    pub(super) fn enter(&mut self, mount: RawFd) {
        self.root = Some(mount);
        self.covered = true;
    }

    /// Opens a path below the root; links in it cannot lead out of the root.
    pub(super) fn open(&mut self, path: &CStr, flags: i32) -> SysResult<RawFd> {
        let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
        openat2::open(self.root()?, path, libc::O_PATH | flags, resolve)
    }

    /// The directory that `path` is in, and its name there.
    fn parent<'p>(&mut self, path: &'p Path) -> SysResult<(RawFd, &'p CStr)> {
        let (parent, name) = path.parts.last().ok_or(Errno(libc::EBUSY))?;
        Ok((self.open(parent, libc::O_DIRECTORY)?, name))
    }

    pub fn propagation(&mut self, kind: u64) -> SysResult {
        let attr = MountAttr { propagation: kind, ..MountAttr::default() };
        raw::mount_setattr(self.root()?, &attr, true)
    }

    pub fn lay_root(
        &mut self,
        source: &CStr,
        over: &CStr,
        recursive: bool,
        attr: &MountAttr,
    ) -> SysResult {
        let root = raw::open_tree(raw::AT_FDCWD, source, recursive)?;
        raw::mount_setattr(root, attr, recursive)?;
        let under = openat2::open(raw::AT_FDCWD, over, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        raw::move_mount(root, under)?;
        raw::close(under);
        self.root = Some(root);
        Ok(())
    }

    pub fn mount(&mut self, mount: &MountStep) -> SysResult {
        let mut recursive = mount.recursive;
        let (new, directory) = match &mount.source {
            Source::Bind { path, recursive } => {
                let tree = match raw::open_tree(raw::AT_FDCWD, path, *recursive) {
                    Err(Errno(libc::ENOENT)) if mount.optional => return Ok(()),
                    tree => tree?,
                };
                change(tree, &mount.attr, false)?;
                (tree, is_directory(tree)?)
            }
            Source::Tree { fd, keeps, .. } => {
                let mut attr = mount.attr;
                if *keeps && attr.clear | recursive.clear != 0 {
                    let stays = raw::mount_flags(*fd)?;
                    attr.clear &= !stays;
                    recursive.clear &= !stays;
                }
                change(*fd, &attr, false)?;
                (*fd, is_directory(*fd)?)
            }
            Source::New { kind, options } => (file_system(kind, options, &mount.attr)?, true),
            Source::Long { kind, source, options } => {
                return self.mount_long(mount, kind, source, options);
            }
        };
        change(new, &recursive, true)?;
        let (target, made) = match self.target(mount, directory) {
            Err(Errno(libc::EROFS)) if mount.optional => {
                raw::close(new);
                return Ok(());
            }
            target => target?,
        };
        let allowed = match mount.procfs {
            Procfs::Free => true,
            Procfs::Off => !raw::is_procfs(target)?,
            Procfs::Only => raw::is_procfs(new)?,
        };
        if !allowed {
            return Err(Errno(libc::EXDEV));
        }
        match mount.copy_up {
            // A new mount point has nothing to copy and no mode to take over.
            _ if made => {}
            Some(named) => {
                let own = raw::stat(new)?;
                copy_up(target, new)?;
                given_by_name(new, named, &own)?;
            }
            None if mount.mode_of_target => mode_of(target, new)?,
            None => {}
        }
        match raw::move_mount(new, target) {
            // Newer kernels return EINVAL for ENOTDIR.
            Err(Errno(libc::EINVAL)) if is_directory(target)? != directory => {
                return Err(Errno(libc::ENOTDIR));
            }
            moved => moved?,
        }
        raw::close(target);
        self.complete(mount, new)
    }

    /// The target, and whether it was just created.
    fn target(&mut self, mount: &MountStep, directory: bool) -> SysResult<(RawFd, bool)> {
        match self.open_target(mount, &mount.target.whole, 0) {
            Err(Errno(libc::ENOENT)) => {}
            target => return Ok((target?, false)),
        }
        let made = match self.make_last(mount, directory) {
            // More of the path is missing, the target is a dangling link, or the place is
            // read-only.
            Err(Errno(libc::ENOENT | libc::EEXIST | libc::EROFS)) => {
                self.make(&mount.target.whole, directory, mount.scaffold)?;
                self.open_target(mount, &mount.target.whole, 0)?
            }
            made => made?,
        };
        Ok((made, true))
    }

    /// The common case: only the last component of the target is missing.
    fn make_last(&mut self, mount: &MountStep, directory: bool) -> SysResult<RawFd> {
        let (above, name) = mount.target.parts.last().ok_or(Errno(libc::ENOENT))?;
        let above = self.open_target(mount, above, libc::O_DIRECTORY)?;
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
        let made = make_in(above, name, directory)
            .and_then(|()| openat2::open(above, name, libc::O_PATH, resolve));
        raw::close(above);
        made
    }

    /// Final changes to an attached mount; by descriptor, as the path may now lead elsewhere.
    fn complete(&mut self, mount: &MountStep, new: RawFd) -> SysResult {
        for (attr, recursive) in &mount.finally {
            raw::mount_setattr(new, attr, *recursive)?;
        }
        match mount.target.parts.is_empty() {
            true => self.enter(new),
            false => raw::close(new),
        }
        Ok(())
    }

    /// fsconfig(2) takes up to 255 bytes per option; mount(2) takes a page for all of them.
    fn mount_long(
        &mut self,
        mount: &MountStep,
        kind: &CStr,
        source: &CStr,
        text: &CStr,
    ) -> SysResult {
        let (target, _) = self.target(mount, true)?;
        if mount.procfs != Procfs::Free && raw::is_procfs(target)? {
            return Err(Errno(libc::EXDEV));
        }
        let before = openat2::open(raw::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        raw::fchdir(target)?;
        let mounted = raw::mount_here(source, kind, text);
        raw::fchdir(before)?;
        raw::close(before);
        raw::close(target);
        mounted?;
        let new = self.open_target(mount, &mount.target.whole, 0)?;
        change(new, &mount.attr, false)?;
        change(new, &mount.recursive, true)?;
        self.complete(mount, new)
    }

    /// Opens the target, or a directory on the way to it.
    fn open_target(&mut self, mount: &MountStep, path: &CStr, flags: i32) -> SysResult<RawFd> {
        match mount.no_links {
            false => self.open(path, flags),
            true => {
                let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
                openat2::open(self.root()?, path, libc::O_PATH | flags, resolve)
            }
        }
    }

    /// Creates a directory and its parents.
    pub fn directory(&mut self, path: &Path, owner: Option<(u32, u32)>) -> SysResult {
        match self.open(&path.whole, libc::O_DIRECTORY) {
            Err(Errno(libc::ENOENT)) => {}
            open => return open.map(raw::close),
        }
        self.make(&path.whole, true, false)?;
        let (parent, name) = self.parent(path)?;
        let owned = match owner {
            Some((uid, gid)) => raw::fchownat(parent, name, uid, gid),
            None => Ok(()),
        };
        raw::close(parent);
        owned
    }

    /// Makes a file on a file system of the sandbox's own.
    pub fn file(&mut self, path: &Path, text: &[u8], mode: u32, owner: (u32, u32)) -> SysResult {
        let (parent, name) = self.parent(path)?;
        // Nobody can read it before it is whole.
        let made = raw::mknodat(parent, name, libc::S_IFREG | 0o200, 0).and_then(|()| {
            let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
            let file = openat2::open(parent, name, libc::O_WRONLY, resolve)?;
            let written = raw::write(file, text);
            raw::close(file);
            written?;
            raw::fchmodat(parent, name, mode)?;
            raw::fchownat(parent, name, owner.0, owner.1)
        });
        raw::close(parent);
        made
    }

    pub fn device(
        &mut self,
        path: &Path,
        mode: u32,
        device: u64,
        owner: Option<(u32, u32)>,
    ) -> SysResult {
        let (parent, name) = match self.parent(path) {
            Err(Errno(libc::ENOENT)) => {
                let (above, _) = path.parts.last().ok_or(Errno(libc::EBUSY))?;
                self.make(above, true, false)?;
                self.parent(path)?
            }
            parent => parent?,
        };
        let made = match raw::mknodat(parent, name, mode, device) {
            // An existing node must be the requested device.
            Err(Errno(libc::EEXIST)) => self.same_device(&path.whole, mode, device),
            made => made,
        };
        let owned = match (made, owner) {
            (Ok(()), Some((uid, gid))) => raw::fchownat(parent, name, uid, gid),
            (made, _) => made,
        };
        raw::close(parent);
        owned
    }

    fn same_device(&mut self, path: &CStr, mode: u32, device: u64) -> SysResult {
        let there = self.open(path, libc::O_NOFOLLOW)?;
        let stat = raw::stat(there)?;
        raw::close(there);
        let same = stat.mode & libc::S_IFMT == mode & libc::S_IFMT && stat.rdev == device;
        if same { Ok(()) } else { Err(Errno(libc::EEXIST)) }
    }

    /// Changes the mount at `path`.
    pub fn attributes(&mut self, path: &Path, attr: &MountAttr, recursive: bool) -> SysResult {
        if path.parts.is_empty() {
            return raw::mount_setattr(self.root()?, attr, recursive);
        }
        let mount = self.open(&path.whole, 0)?;
        let changed = raw::mount_setattr(mount, attr, recursive);
        raw::close(mount);
        changed
    }

    /// A terminal of the sandbox's own devpts: master and peer.
    pub fn terminal(&mut self) -> SysResult<(RawFd, RawFd)> {
        // Checked before anything in it is opened for more than its path: something planted there
        // instead (a fifo, another device) must not even be opened.
        let pts = self.open(c"dev/pts", libc::O_DIRECTORY)?;
        if !terminal::is_devpts(pts)? {
            return Err(Errno(libc::ENOTTY));
        }
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = match openat2::open(pts, c"ptmx", flags, resolve) {
            // The host's, in a sandbox that keeps it, is for root only; users have a device file.
            Err(Errno(libc::EACCES)) => self.multiplexer(flags)?,
            master => master?,
        };
        raw::close(pts);
        let peer = terminal::open_peer(master)?;
        // The numbers of closed standard files are about to be used.
        Ok((raw::above_stdio(master)?, raw::above_stdio(peer)?))
    }

    /// Opens /dev/ptmx if it is the device file.
    fn multiplexer(&mut self, flags: i32) -> SysResult<RawFd> {
        let found = self.open(c"dev/ptmx", libc::O_NOFOLLOW)?;
        let Stat { mode, rdev, .. } = raw::stat(found)?;
        raw::close(found);
        if mode & libc::S_IFMT != libc::S_IFCHR || rdev != libc::makedev(5, 2) {
            return Err(Errno(libc::EACCES));
        }
        openat2::open(self.root()?, c"dev/ptmx", flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    }

    /// Mounts the terminal over /dev/console.
    pub fn console(&mut self, peer: RawFd) -> SysResult {
        let cover = raw::open_tree(peer, c"", false)?;
        let dev = self.open(c"dev", libc::O_DIRECTORY)?;
        match raw::mknodat(dev, c"console", libc::S_IFREG | 0o600, 0) {
            Err(Errno(libc::EEXIST)) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let target = openat2::open(dev, c"console", flags, RESOLVE_BENEATH)?;
        raw::move_mount(cover, target)?;
        raw::close(target);
        raw::close(dev);
        raw::close(cover);
        Ok(())
    }

    /// The last resort where pivot_root(2) is not possible.
    pub fn chroot(&mut self, in_place: bool, without: &[CString]) -> SysResult {
        self.finish()?;
        for path in without {
            match raw::detach_no_follow(path) {
                Err(Errno(libc::ENOENT)) | Ok(()) => {}
                // A locked mount cannot be detached, only covered.
                Err(Errno(libc::EINVAL | libc::EPERM)) => cover(path)?,
                Err(errno) => return Err(errno),
            }
        }
        if in_place {
            raw::fchdir(self.root()?)?;
            raw::chroot_here()?;
            return raw::chdir(c"/");
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let top = openat2::open(raw::AT_FDCWD, c"/", flags, 0)?;
        raw::move_mount(self.root()?, top)?;
        raw::close(top);
        raw::fchdir(self.root()?)?;
        raw::chroot_here()?;
        raw::chdir(c"/")
    }

    /// Detaches the mount at `path`. Changes the working directory.
    pub fn unmount(&mut self, path: &Path) -> SysResult {
        let (parent, name) = self.parent(path)?;
        let gone = raw::fchdir(parent).and_then(|()| raw::detach_no_follow(name));
        raw::close(parent);
        gone
    }

    pub fn link(&mut self, path: &Path, text: &CStr) -> SysResult {
        let (parent, name) = self.parent(path)?;
        let made = raw::symlinkat(text, parent, name);
        raw::close(parent);
        match made {
            // A root file system may have it already.
            Err(Errno(libc::EEXIST)) => Ok(()),
            made => made,
        }
    }

    pub fn mask(&mut self, path: &Path) -> SysResult {
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

    /// The file is created in an existing file system, as creating a new one costs ten times as
    /// much, and is unlinked once mounted in place.
    pub fn cover(&mut self, path: &Path, text: &[u8], beside: &Path) -> SysResult {
        const NAME: &CStr = c".cover";
        let target = match self.open(&path.whole, 0) {
            Err(Errno(libc::ENOENT)) => return Ok(()),
            target => target?,
        };
        let beside = self.open(&beside.whole, libc::O_DIRECTORY)?;
        raw::mknodat(beside, NAME, libc::S_IFREG | 0o644, 0)?;
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
        let file = openat2::open(beside, NAME, libc::O_WRONLY, resolve)?;
        let written = raw::write(file, text);
        let laid = written.and_then(|()| lay(file, target));
        raw::close(file);
        // Only now: an unlinked file cannot be mounted.
        let unnamed = raw::unlinkat(beside, NAME);
        raw::close(beside);
        raw::close(target);
        laid.and(unnamed)
    }

    fn mask_directory(&mut self, target: RawFd) -> SysResult {
        if let Some(empty) = self.empty {
            let cover = raw::open_tree(empty, c"", false)?;
            raw::move_mount(cover, target)?;
            raw::close(cover);
            return Ok(());
        }
        let context = raw::fsopen(c"tmpfs")?;
        raw::fsconfig_set(context, c"mode", Some(c"0555"))?;
        let read_only = libc::MOUNT_ATTR_RDONLY;
        let rest = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let empty = raw::fsmount(context, read_only | rest)?;
        raw::close(context);
        raw::move_mount(empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }

    /// A detached mount of the sandbox's /dev/null, which must be the real one: an untrusted root
    /// file system could have a regular file there (and read what is written to it).
    fn null(&mut self) -> SysResult<RawFd> {
        let null = self.open(c"dev/null", 0)?;
        let stat = raw::stat(null)?;
        if stat.mode & libc::S_IFMT != libc::S_IFCHR || stat.rdev != libc::makedev(1, 3) {
            return Err(Errno(libc::ENODEV));
        }
        let cover = raw::open_tree(null, c"", false)?;
        raw::close(null);
        Ok(cover)
    }

    pub fn read_only(&mut self, path: &Path) -> SysResult {
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

    pub fn pivot(&mut self) -> SysResult {
        self.finish()?;
        raw::fchdir(self.root()?)?;
        raw::pivot_root_here()?;
        // The old root now covers the new one; once detached, only the sandbox's mounts are left.
        raw::detach(c".")?;
        if self.covered {
            self.uncover()?;
        }
        raw::chdir(c"/")
    }

    /// Detaches what else covers the root. An earlier root of the sandbox stays where it was mounted,
    /// on top of the host's root; so the host's is not the first to be detached. A process that joins
    /// the mount namespace begins at the topmost.
    #[inline(never)]
    fn uncover(&mut self) -> SysResult {
        let own = mount_id(self.root()?)?;
        loop {
            // At the root, this leads to what is mounted on it; `.` and `/` do not.
            let top = openat2::open(raw::AT_FDCWD, c"..", libc::O_PATH | libc::O_DIRECTORY, 0)?;
            let topmost = mount_id(top)?;
            raw::close(top);
            if topmost == own {
                return Ok(());
            }
            raw::detach(c".")?;
        }
    }
}

/// A new file system, as a detached mount.
fn file_system(
    kind: &CStr,
    options: &[(CString, Option<CString>)],
    attr: &MountAttr,
) -> SysResult<RawFd> {
    let context = raw::fsopen(kind)?;
    for (key, value) in options {
        raw::fsconfig_set(context, key, value.as_deref())?;
    }
    let tree = raw::fsmount(context, attr.set)?;
    raw::close(context);
    let propagation = MountAttr { propagation: attr.propagation, ..MountAttr::default() };
    change(tree, &propagation, false)?;
    Ok(tree)
}

/// Skips the call if nothing changes: in a user namespace even that could be refused.
fn change(mount: RawFd, attr: &MountAttr, recursive: bool) -> SysResult {
    match *attr == MountAttr::default() {
        true => Ok(()),
        false => raw::mount_setattr(mount, attr, recursive),
    }
}

/// Mounts a file over another, read-only.
fn lay(file: RawFd, target: RawFd) -> SysResult {
    let cover = raw::open_tree(file, c"", false)?;
    let rest = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY | rest, ..MountAttr::default() };
    raw::mount_setattr(cover, &attr, false)?;
    let laid = raw::move_mount(cover, target);
    raw::close(cover);
    laid
}

fn cover(path: &CStr) -> SysResult {
    let cover = file_system(c"tmpfs", &[], &MountAttr::default())?;
    let target = openat2::open(raw::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let covered = raw::move_mount(cover, target);
    raw::close(target);
    raw::close(cover);
    covered
}

/// Restores the requested owner and mode of a mount that has taken over those of another directory.
fn given_by_name(mount: RawFd, named: Named, own: &Stat) -> SysResult {
    const AS_IT_IS: u32 = u32::MAX;
    let or_not = |given: bool, id: u32| if given { id } else { AS_IT_IS };
    if named.uid || named.gid {
        let (uid, gid) = (or_not(named.uid, own.owner.0), or_not(named.gid, own.owner.1));
        raw::fchownat(mount, c".", uid, gid)?;
    }
    if named.mode { raw::fchmodat(mount, c".", own.mode & 0o7777) } else { Ok(()) }
}

fn is_directory(fd: RawFd) -> SysResult<bool> {
    Ok(raw::stat(fd)?.mode & libc::S_IFMT == libc::S_IFDIR)
}
