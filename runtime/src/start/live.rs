//! Adding mounts to a running container, and removing them.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::mounts::MountTree;
use crate::error::{Error, Result};
use crate::plan::{Path, Planned, Step};
use crate::sys::mntns::in_mount_namespace;

/// A container's mount namespace and its root, both open.
#[derive(Clone, Copy, Debug)]
pub struct LiveRoot<'a> {
    /// The namespace file.
    pub namespace: BorrowedFd<'a>,
    /// The root, below which every path is resolved.
    pub root: BorrowedFd<'a>,
}

impl LiveRoot<'_> {
    /// Executes mount steps; their sources outside the container are already open.
    ///
    /// # Errors
    /// The first step that failed; earlier ones are not undone.
    pub fn mount(&self, steps: &[Planned]) -> Result<()> {
        let root = self.root.as_raw_fd();
        let all = in_mount_namespace(self.namespace, || {
            let mut tree = MountTree::at(root);
            steps.iter().find_map(|planned| {
                let result = match &planned.step {
                    Step::Mount(mount) => tree.mount(mount),
                    Step::Attributes { path, attr, recursive } => {
                        tree.attributes(path, attr, *recursive)
                    }
                    Step::Link { path, text } => tree.link(path, text),
                    _ => Err(crate::sys::Errno(libc::ENOSYS)),
                };
                result.err().map(|errno| (planned, errno))
            })
        });
        match all.map_err(enter)? {
            None => Ok(()),
            Some((Planned { step, origin, .. }, errno)) => {
                Err(Error::os(format!("{step} ({origin})"), errno))
            }
        }
    }

    /// Detaches mounts; processes that use one keep it until they let go of it.
    ///
    /// # Errors
    /// The first that failed, with EINVAL if nothing is mounted there; earlier ones are not undone.
    pub fn unmount(&self, paths: &[Path]) -> Result<()> {
        let root = self.root.as_raw_fd();
        let all = in_mount_namespace(self.namespace, || {
            let mut tree = MountTree::at(root);
            paths.iter().find_map(|path| tree.unmount(path).err().map(|errno| (path, errno)))
        });
        match all.map_err(enter)? {
            None => Ok(()),
            Some((path, errno)) => {
                let shown = path.whole.to_string_lossy();
                let error = Error::os(format!("unmount /{shown}"), errno);
                Err(match errno.0 {
                    libc::EINVAL => error.hint("nothing is mounted there"),
                    _ => error,
                })
            }
        }
    }
}

fn enter(errno: crate::sys::Errno) -> Error {
    Error::os("enter the container's mount namespace", errno)
}
