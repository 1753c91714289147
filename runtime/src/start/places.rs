//! What in a sandbox is named from where the caller is.

use std::env::current_dir;
use std::path::{Component, Path, PathBuf};

use crate::config::mount::clean;
use crate::config::{Directory, MountKind, Root, Sandbox};
use crate::error::{Error, Result};

/// The same sandbox with paths that mean the same wherever they are read: in the child, and from its
/// record.
///
/// # Errors
/// A path that leads nowhere, where it must be followed.
pub fn placed(sandbox: &Sandbox) -> Result<Sandbox> {
    let mut placed = sandbox.clone();
    if let Root::Dir { path, .. } = &mut placed.root {
        *path = absolute(path).map_err(|error| error.within("--rootfs"))?;
    }
    for mount in &mut placed.mounts {
        let MountKind::Bind { source, .. } = &mut mount.kind else { continue };
        let in_place = *source == mount.target;
        *source = absolute(source).map_err(|error| error.within(&mount.origin))?;
        if in_place {
            mount.target.clone_from(source);
        }
    }
    placed.cwd = match (placed.cwd, &placed.root) {
        (Directory::Callers, Root::Dir { .. }) => Directory::At("/".into()),
        // Of a directory that is gone there is no name.
        (Directory::Callers, _) => current_dir().map_or(Directory::Callers, Directory::Preferred),
        (Directory::At(dir), Root::Dir { .. }) => Directory::At(Path::new("/").join(dir)),
        (Directory::At(dir), _) if !dir.is_absolute() => {
            Directory::At(absolute(&dir).map_err(|error| error.within("-w"))?)
        }
        (given, _) => given,
    };
    Ok(placed)
}

/// From where the caller is; `..` as the kernel goes up, past links.
fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |e: &std::io::Error| Error::io(path.display(), e);
    let whole = match path.is_absolute() {
        true => path.to_owned(),
        false => current_dir().map_err(|e| failed(&e))?.join(path),
    };
    match whole.components().any(|part| part == Component::ParentDir) {
        true => std::fs::canonicalize(&whole).map_err(|e| failed(&e)),
        false => Ok(clean(&whole)),
    }
}
