//! Whether the program that a sandbox executes first may have been written by an untrusted process.
//!
//! If so, it may be anything, even a link to /proc/self/exe, which is this program
//! (`start/seal.rs`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::places::placed;
use crate::config::{Directory, MountKind, Root, Sandbox, variable};
use crate::error::Result;
use crate::plan::program::{self, SEARCH};
use crate::start::seal;
use crate::sys::Errno;

/// Whether the program that starts this sandbox must have its own file protected.
///
/// # Errors
/// A path of the sandbox does not exist.
pub fn needs_protection(sandbox: &Sandbox) -> Result<bool> {
    placed(sandbox, None).map(|placed| is_needed(&placed))
}

/// Protects this program's file if the sandbox needs that; may re-execute the program, like
/// [`seal::own_program`].
///
/// # Errors
/// A path of the sandbox does not exist, or protection is not possible.
pub fn protect(sandbox: &Sandbox) -> Result<()> {
    match needs_protection(sandbox)? {
        true => seal::own_program(),
        false => Ok(()),
    }
}

/// A tree of its own is not trusted, nor is what the caller has bound: a sandbox before this one
/// may have written there. What plugins provide is not known yet.
pub(super) fn is_needed(placed: &Sandbox) -> bool {
    if matches!(placed.root, Root::Dir { .. }) || !placed.plugins.is_empty() {
        return true;
    }
    let bound = |mount: &crate::config::Mount| match mount.kind {
        MountKind::Bind { .. } | MountKind::Volume { .. } => Some(mount.target.clone()),
        _ => None,
    };
    let bound: Vec<PathBuf> = placed.mounts.iter().filter_map(bound).collect();
    let Some(program) = placed.command.first().filter(|_| !bound.is_empty()) else { return false };
    if program.as_bytes().contains(&b'/') {
        let from = match &placed.cwd {
            Directory::At(dir) => vec![dir.as_path()],
            Directory::Preferred(dir) => vec![dir.as_path(), Path::new("/")],
            // It has no path.
            Directory::Callers => return true,
        };
        return from.into_iter().any(|dir| passes(&dir.join(program), &bound));
    }
    let path = variable(&placed.env, "PATH").unwrap_or(OsStr::new(SEARCH));
    program::candidates(program, path)
        .iter()
        .any(|path| !path.is_absolute() || passes(path, &bound))
}

/// Whether the path to this file, followed through links, leads through one of these directories.
fn passes(file: &Path, dirs: &[PathBuf]) -> bool {
    // As the kernel: path_resolution(7).
    const MOST_LINKS: usize = 40;
    let mut links = 0;
    let mut at = PathBuf::from("/");
    let parts = |path: &Path| -> Vec<PathBuf> {
        path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let mut rest = parts(file);
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::Normal(name)) => at.push(name),
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            _ => continue,
        }
        if dirs.iter().any(|dir| at.starts_with(dir)) {
            return true;
        }
        match fs::read_link(&at).map_err(Errno::from) {
            Ok(link) if links < MOST_LINKS => {
                links += 1;
                at.pop();
                if link.is_absolute() {
                    at = "/".into();
                }
                rest.extend(parts(&link));
            }
            Err(Errno(libc::EINVAL)) => {}
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return false,
            // Anything that cannot be inspected is not trusted.
            _ => return true,
        }
    }
    false
}
