//! Directories inside that are asked for by name: where a command begins, and its own below /run.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mount::{Mount, MountKind};
use crate::error::{Error, Result};

/// Where a command begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Directory {
    /// Where the caller is, if that directory is there inside and the command's user may enter it;
    /// otherwise `/`, and it is told so. With a root of its own, `/`.
    #[default]
    Callers,
    /// What [`Directory::Callers`] was when the sandbox was started.
    Preferred(#[serde(with = "super::os_path")] PathBuf),
    /// This one, or it is an error; one that is relative begins where the caller is, or at `/` with a
    /// root of its own.
    At(#[serde(with = "super::os_path")] PathBuf),
}

/// A name below a /run that is the sandbox's own.
pub(super) fn check_run_dir(name: &Path, mounts: &[Mount]) -> Result<()> {
    let refuse = |why: &str| Error::new(format!("--run-dir {}: {why}", name.display()));
    let below = |part| matches!(part, Component::Normal(_));
    if name.as_os_str().is_empty() || !name.components().all(below) {
        return Err(refuse("not a name below /run").hint("as in --run-dir sshd"));
    }
    let above = mounts.iter().rev().find(|mount| Path::new("/run") == mount.target);
    match above.map(|mount| &mount.kind) {
        Some(MountKind::Tmpfs { .. }) => Ok(()),
        _ => Err(refuse("the sandbox has no /run of its own")),
    }
}
