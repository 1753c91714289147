//! Directories inside that are requested by name: a command's working directory, and its own below
//! /run.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mount::{Mount, MountKind};
use crate::error::{Error, Result};

/// A command's working directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Directory {
    /// The caller's, if that directory exists inside and the command's user may enter it; otherwise
    /// `/`, with a remark. With its own root, `/`.
    #[default]
    Callers,
    /// What [`Directory::Callers`] was when the sandbox was started.
    Preferred(#[serde(with = "super::os_path")] PathBuf),
    /// This one, or an error; a relative one is resolved from the caller's directory, or from `/`
    /// with a root of the sandbox's own.
    At(#[serde(with = "super::os_path")] PathBuf),
}

/// Checks a name below a /run that is the sandbox's own.
pub(super) fn check_run_dir(name: &Path, mounts: &[Mount]) -> Result<()> {
    let refuse = |why: &str| Error::new(format!("--run-dir {}: {why}", name.display()));
    let below = |part| matches!(part, Component::Normal(_));
    if name.as_os_str().is_empty() || !name.components().all(below) {
        return Err(refuse("not a relative path below /run").hint("e.g. --run-dir sshd"));
    }
    let above = mounts.iter().rev().find(|mount| Path::new("/run") == mount.target);
    match above.map(|mount| &mount.kind) {
        Some(MountKind::Tmpfs { .. }) => Ok(()),
        _ => Err(refuse("the sandbox has no private /run")),
    }
}
