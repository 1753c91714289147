//! Defaults and relative paths, resolved before a start so that they mean the same in the child and
//! in the record.

use std::env::current_dir;
use std::path::{Component, Path, PathBuf};

use crate::config::mount::clean;
use crate::config::{Directory, Mount, MountKind, Root, Sandbox, Secret};
use crate::error::{Error, Result};
use crate::facts::resolver;

/// The same sandbox, named `name` if it has a name, with absolute paths, the host's name servers
/// visible, and the default host name.
///
/// # Errors
/// A path that must be resolved does not exist.
pub fn placed(sandbox: &Sandbox, name: Option<&str>) -> Result<Sandbox> {
    let mut placed = sandbox.clone();
    if placed.hostname.is_none() && placed.namespaces.uts.is_new() {
        placed.hostname = Some(name.unwrap_or("garth").to_owned());
        placed.usual_hostname = true;
    }
    show_name_servers(&mut placed);
    for throttle in &mut placed.limits.io {
        throttle.path = absolute(&throttle.path)?;
    }
    if let Root::Dir { path, .. } = &mut placed.root {
        *path = absolute(path).map_err(|error| error.within("--rootfs"))?;
    }
    for secret in &mut placed.secrets {
        secret.file = absolute(&secret.file).map_err(|error| error.within("--secret"))?;
    }
    if !placed.secrets.is_empty() {
        placed.mounts.push(Secret::mount());
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
        // A directory that has been removed has no path.
        (Directory::Callers, _) => current_dir().map_or(Directory::Callers, Directory::Preferred),
        (Directory::At(dir), Root::Dir { .. }) => Directory::At(Path::new("/").join(dir)),
        (Directory::At(dir), _) if !dir.is_absolute() => {
            Directory::At(absolute(&dir).map_err(|error| error.within("-w"))?)
        }
        (given, _) => given,
    };
    Ok(placed)
}

/// In a view of the host's root, shows the file that /etc/resolv.conf leads to. It is mounted
/// directly over the mount that hides it, below all requested mounts.
fn show_name_servers(placed: &mut Sandbox) {
    if placed.root != Root::Host {
        return;
    }
    let Some(mount) = resolver::mount(&placed.network) else { return };
    let hides = |over: &Mount| mount.target.starts_with(&over.target);
    let at = placed.mounts.iter().position(hides).map_or(0, |at| at + 1);
    placed.mounts.insert(at, mount);
}

/// Relative to the caller's directory; `..` is resolved as the kernel does, through links.
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
