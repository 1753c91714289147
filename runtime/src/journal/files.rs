//! The files of an entry beside its record.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What is in a file; `None` if there is none.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Error::io(format!("read {}", path.display()), &e))?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| Error::new(format!("{}: {e}", path.display())))
}

/// Writes one that a reboot may lose: whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|e| Error::new(format!("write {}: {e}", path.display())))?;
    write_whole(path, &text, false)
}

/// Removes a file, or a link, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

/// Writes a file of an entry: whole or not at all. `synced`: it is on the disk when this returns.
///
/// # Errors
/// It cannot be written.
pub fn write_whole(path: &Path, text: &[u8], synced: bool) -> Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        if synced {
            file.sync_data()?;
        }
        fs::rename(&new, path)
    };
    write().map_err(|e| Error::io(format!("write {}", path.display()), &e))
}
