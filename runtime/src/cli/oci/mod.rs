//! The verbs of an OCI runtime, with the command line of runc.

mod criu;
mod events;
mod exec;
mod lifecycle;
mod list;
mod mounts;
mod spec;
mod update;

pub use criu::{Checkpoint, Restore};
pub use events::Events;
pub use exec::ExecFlags;
pub use lifecycle::{Create, Pause, Resume, Run, Start, State};
pub use list::{List, ps};
pub use mounts::Mounts;
pub use spec::{Spec, features};
pub use update::Update;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Serialize;

use crate::config::oci::Status;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::journal::Journal;

/// The exit code of these verbs for failures of garth itself.
pub const FAILED: i32 = 1;

/// The same for `exec`, whose other exit codes are the program's.
pub const EXEC_FAILED: i32 = 255;

/// The exit code for invalid arguments, if the verb is one of an OCI runtime. Like runc, an `exec`
/// that lacks only its program fails with a code of its own.
pub fn usage(verb: &str, error: &clap::Error) -> Option<i32> {
    const VERBS: [&str; 18] = [
        "create",
        "start",
        "run",
        "state",
        "exec",
        "kill",
        "delete",
        "list",
        "pause",
        "resume",
        "update",
        "events",
        "mounts",
        "spec",
        "features",
        "checkpoint",
        "restore",
        "ps",
    ];
    let lacks_program = || {
        let lacks = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(names)) => names.as_slice(),
            _ => &[],
        };
        error.kind() == ErrorKind::MissingRequiredArgument && !lacks.iter().any(|n| n == "<NAME>")
    };
    match verb {
        "exec" if lacks_program() => Some(EXEC_FAILED),
        verb => VERBS.contains(&verb).then_some(FAILED),
    }
}

/// The contents of a file, or of standard input for `-`, and its name for error messages.
///
/// # Errors
/// It cannot be read.
fn read_input(file: PathBuf) -> Result<(Vec<u8>, String)> {
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut text);
        read.map_err(|e| Error::io("read standard input", &e))?;
        return Ok((text, "standard input".into()));
    }
    let shown = file.display().to_string();
    let text = std::fs::read(&file).map_err(|e| Error::io(format!("read {shown}"), &e))?;
    Ok((text, shown))
}

/// Calls `each` for every container that the pattern of `--regex` matches; all are tried, and the
/// first error is returned.
///
/// # Errors
/// The pattern is invalid, or `each` failed.
pub fn for_each(
    containers: &Journal,
    pattern: &str,
    each: impl Fn(&str) -> Result<()>,
) -> Result<()> {
    let regex = regex_lite::Regex::new(pattern)
        .map_err(|e| Error::new(format!("--regex {pattern:?}: {e}")))?;
    let ids = containers.ids()?;
    let matching = ids.iter().filter(|id| !id.starts_with('.') && regex.is_match(id));
    let results: Vec<Result<()>> = matching.map(|id| each(id)).collect();
    results.into_iter().collect()
}

/// A container as `state` and `list` print it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    oci_version: String,
    id: String,
    pid: i32,
    status: Status,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl Row {
    /// From the record and the current state.
    ///
    /// # Errors
    /// The state cannot be determined.
    pub fn of(container: &Container) -> Result<Row> {
        let state = container.state()?;
        Ok(Row {
            oci_version: state.oci_version,
            id: state.id,
            pid: state.pid,
            status: state.status,
            bundle: state.bundle,
            rootfs: container.record.rootfs().to_string_lossy().into_owned(),
            created: container.record.created(),
            annotations: state.annotations,
            owner: crate::facts::users::lookup(&container.record.asked.owner.to_string(), None)
                .map_or_else(|_| container.record.asked.owner.to_string(), |user| user.name),
        })
    }
}
