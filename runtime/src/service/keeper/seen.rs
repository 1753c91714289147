//! How the RAID volumes of a sandbox were seen last, in its entry.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::error::Result;
use crate::journal::{Journal, write_json};
use crate::volume::usage::VolumeUse;
use crate::volume::watch::VolumeWatch;

/// The file of sandbox `name`.
pub fn seen(journal: &Journal, name: &str) -> PathBuf {
    journal.file(name, "volumes.json")
}

/// Looks at the volumes for the first time. What is returned can be waited for; `None`: there are
/// none.
///
/// # Errors
/// It cannot be determined how they are, or recorded.
pub fn look_first(journal: &Journal, name: &str, volumes: &[VolumeUse]) -> Result<Option<OwnedFd>> {
    let Some(watch) = VolumeWatch::begin(volumes)? else { return Ok(None) };
    write_json(&seen(journal, name), &watch.seen)?;
    Ok(Some(watch.into_fd()))
}
