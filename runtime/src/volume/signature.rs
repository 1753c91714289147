//! What is on a device already: every signature that libblkid knows, by `wipefs --json`.
//!
//! Not by `blkid -p`: that exits with 2 both if there is nothing and if the device could not be
//! read, and of two signatures it shows one. wipefs lists all of them, with their place, and exits
//! with 1 if it could not look.

use serde::Deserialize;

use crate::error::{Error, Result};

/// A known signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `ext4`, `LVM2_member`, `gpt`, `linux_raid_member`, ...
    pub kind: String,
    /// Where it is, in bytes.
    pub offset: u64,
    /// The UUID of what it is of, as libblkid writes it.
    pub uuid: Option<String>,
    /// Its name.
    pub label: Option<String>,
    /// The last part of the path of the device that has it, if wipefs says that.
    pub device: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    signatures: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    offset: String,
    #[serde(rename = "type")]
    kind: String,
    uuid: Option<String>,
    label: Option<String>,
    #[serde(default)]
    device: Option<String>,
}

/// Reads what `wipefs --json DEVICE...` writes when it exits with 0.
///
/// # Errors
/// It is something else.
pub fn signatures_of(json: &str) -> Result<Vec<Signature>> {
    let wrong =
        |why: &dyn std::fmt::Display| Error::new(format!("wipefs --json: not understood: {why}"));
    let listed: Listed = serde_json::from_str(json).map_err(|error| wrong(&error))?;
    let signature = |line: Line| {
        let digits = line.offset.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        let offset = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let offset = offset.ok_or_else(|| wrong(&format!("offset {:?}", line.offset)))?;
        let Line { kind, uuid, label, device, .. } = line;
        Ok(Signature { kind, offset, uuid, label, device })
    };
    listed.signatures.into_iter().map(signature).collect()
}

impl Signature {
    /// What it is, in words that say what would be destroyed: `ext4 "my data"`.
    pub fn words(&self) -> String {
        let kind = self.kind.escape_debug();
        match self.label.as_ref().or(self.uuid.as_ref()) {
            Some(name) => format!("{kind} {name:?}"),
            None => kind.to_string(),
        }
    }
}
