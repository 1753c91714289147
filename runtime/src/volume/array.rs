//! One md array, as sysfs shows it: /sys/block/mdX/md (the kernel's admin-guide/md).
//!
//! Preferred to /proc/mdstat and `mdadm --detail`: one value a file, whose words are the kernel's
//! interface; slots and states of members, which mdstat draws as a picture; and the identity of the
//! array. Names below /dev/md are no identity: they are links that stay after the array has stopped,
//! and then lead to another, as numbers are given again.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::mdadm::ArrayUuid;
use super::mdstat::{SyncPosition, SyncProgress};
use crate::error::{Error, Result};
use crate::sys::file::read_kernel;

/// An array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdArray {
    /// `md127`.
    pub device: String,
    /// Which array it is; `None`: this kernel does not say, or its metadata has none.
    pub uuid: Option<ArrayUuid>,
    /// `raid10`.
    pub level: String,
    /// What holds it up.
    pub state: MdState,
    /// How many slots it has.
    pub slots: u32,
    /// How many of them are without a member that is up to date.
    pub degraded: u32,
    /// The bytes of each member that are used.
    pub component: u64,
    /// What is being copied, checked or moved.
    pub progress: Option<SyncProgress>,
    /// Sectors that differed in the last check.
    pub mismatches: u64,
    /// Its members, by device.
    pub members: Vec<MdMember>,
}

/// The kernel's `array_state`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MdState {
    /// It has members, and does not run.
    Inactive,
    /// It can only be read.
    ReadOnly,
    /// It can be written.
    Running,
    /// It has lost too much, and fails every write.
    Broken,
}

/// A member of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdMember {
    /// `sda`.
    pub device: String,
    /// Its slot, if it has one.
    pub slot: Option<u32>,
    /// Whether it has its part of the data.
    pub state: MemberState,
    /// Read errors that were corrected.
    pub errors: u64,
}

/// What a member is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has all of its data.
    InSync,
    /// It has a slot, and its data is being copied.
    Rebuilding,
    /// It waits to take the place of another.
    Spare,
    /// It has been taken out of service.
    Faulty,
}

/// What is read of an array, and of each of its members.
const OF_ARRAY: [&str; 10] = [
    "array_state",
    "level",
    "uuid",
    "raid_disks",
    "degraded",
    "component_size",
    "sync_action",
    "sync_completed",
    "sync_speed",
    "mismatch_cnt",
];
const OF_MEMBER: [&str; 3] = ["state", "slot", "errors"];

impl MdArray {
    /// Whether it is more than assembled.
    pub fn is_started(&self) -> bool {
        self.state != MdState::Inactive
    }

    /// Whether it can be read.
    pub fn works(&self) -> bool {
        matches!(self.state, MdState::Running | MdState::ReadOnly)
    }

    /// All arrays of the kernel whose sysfs is at `sys`.
    ///
    /// # Errors
    /// It cannot be read, or is not understood.
    pub fn all(sys: &Path) -> Result<Vec<MdArray>> {
        let dir = sys.join("block");
        let mut found = Vec::new();
        for device in names(&dir)?.unwrap_or_default() {
            if device.starts_with("md") {
                found.extend(MdArray::read(sys, &device)?);
            }
        }
        Ok(found)
    }

    /// The array with this identity, if it is assembled. Of the others only the identity is read.
    ///
    /// # Errors
    /// It cannot be read, or is not understood.
    pub fn of(sys: &Path, uuid: ArrayUuid) -> Result<Option<MdArray>> {
        let dir = sys.join("block");
        for device in names(&dir)?.unwrap_or_default() {
            if !device.starts_with("md") {
                continue;
            }
            // Its own: empty while it is being made or stopped.
            match value(&dir.join(&device).join("md/uuid"))? {
                Some(text) if !text.is_empty() && text.parse::<ArrayUuid>()? == uuid => {}
                _ => continue,
            }
            if let Some(array) = MdArray::read(sys, &device)? {
                return Ok(Some(array));
            }
        }
        Ok(None)
    }

    /// The array with this device; `None`: it does not exist, or was stopped.
    ///
    /// # Errors
    /// It cannot be read, or is not understood.
    pub fn read(sys: &Path, device: &str) -> Result<Option<MdArray>> {
        let md = sys.join("block").join(device).join("md");
        let mut values = BTreeMap::new();
        let mut take = |name: String| -> Result<()> {
            if let Some(value) = value(&md.join(&name))? {
                values.insert(name, value);
            }
            Ok(())
        };
        for name in OF_ARRAY {
            take(name.to_owned())?;
        }
        // None, if it is being stopped.
        let members = names(&md)?.unwrap_or_default();
        for member in members.iter().filter(|name| name.starts_with("dev-")) {
            for name in OF_MEMBER {
                take(format!("{member}/{name}"))?;
            }
        }
        MdArray::parse(device, &values)
    }

    /// Reads the values of the files, by their paths below `md`; `None`: there is no array.
    ///
    /// # Errors
    /// They are not understood.
    pub fn parse(device: &str, values: &BTreeMap<String, String>) -> Result<Option<MdArray>> {
        let wrong = |name: &str, text: &str| {
            let text: String = text.chars().take(60).collect();
            Error::new(format!("{device}: md/{name}: not understood: {text:?}"))
        };
        let text = |name: &str| values.get(name).map_or("", |text| text.trim_end_matches('\n'));
        // Not every level has it.
        let number = |name: &str| match text(name) {
            "" => Ok(0),
            digits => digits.parse().map_err(|_| wrong(name, digits)),
        };
        let state = match text("array_state") {
            // Stopped: the device stays until it is closed.
            "" | "clear" => return Ok(None),
            "inactive" => MdState::Inactive,
            "suspended" | "readonly" | "read-auto" => MdState::ReadOnly,
            "clean" | "active" | "write-pending" | "active-idle" => MdState::Running,
            "broken" => MdState::Broken,
            other => return Err(wrong("array_state", other)),
        };
        let uuid = match text("uuid") {
            "" => None,
            uuid => Some(uuid.parse().map_err(|_| wrong("uuid", uuid))?),
        };
        let uuid = uuid.filter(|uuid| *uuid != ArrayUuid([0; 16]));
        let small = |name: &str| {
            number(name).and_then(|n: u64| u32::try_from(n).map_err(|_| wrong(name, text(name))))
        };
        let component = number("component_size")?;
        Ok(Some(MdArray {
            device: device.to_owned(),
            uuid,
            level: text("level").to_owned(),
            state,
            slots: small("raid_disks")?,
            degraded: small("degraded")?,
            component: component.checked_mul(1024).ok_or_else(|| wrong("component_size", ""))?,
            progress: progress(text("sync_action"), text("sync_completed"), text("sync_speed"))
                .ok_or_else(|| wrong("sync_action", text("sync_action")))?,
            mismatches: number("mismatch_cnt")?,
            members: members(values).map_err(|(name, text)| wrong(&name, &text))?,
        }))
    }
}

/// What `sync_action`, `sync_completed` (in sectors) and `sync_speed` (in KiB) say.
fn progress(action: &str, completed: &str, speed: &str) -> Option<Option<SyncProgress>> {
    let action = match action {
        "" | "idle" | "frozen" => return Some(None),
        // As in /proc/mdstat.
        "recover" => "recovery",
        "resync" | "check" | "repair" | "reshape" => action,
        _ => return None,
    };
    let at = match completed {
        // It waits, or has just begun or ended.
        "" | "none" | "delayed" => None,
        _ => {
            let (done, of) = completed.split_once(" / ")?;
            let bytes = |text: &str| text.parse::<u64>().ok()?.checked_mul(512);
            let speed = match speed {
                "" | "none" => 0,
                speed => speed.parse::<u64>().ok()?.checked_mul(1024)?,
            };
            Some(SyncPosition { done: bytes(done)?, of: bytes(of)?, speed })
        }
    };
    Some(Some(SyncProgress { action: action.to_owned(), at }))
}

/// The members; if a file is not understood, its name and content.
fn members(values: &BTreeMap<String, String>) -> Result<Vec<MdMember>, (String, String)> {
    let mut found = Vec::new();
    for (name, state) in values {
        let path = name.strip_prefix("dev-").and_then(|name| name.strip_suffix("/state"));
        let Some(device) = path else { continue };
        let wrong = |name: &str, text: &str| (format!("dev-{device}/{name}"), text.to_owned());
        let text = |name: &str| {
            values.get(&format!("dev-{device}/{name}")).map_or("", |text| text.trim_end())
        };
        let slot = match text("slot") {
            "" | "none" | "journal" => None,
            slot => Some(slot.parse().map_err(|_| wrong("slot", slot))?),
        };
        let has = |word: &str| state.trim_end().split(',').any(|known| known == word);
        let state = match slot {
            _ if has("faulty") => MemberState::Faulty,
            _ if has("in_sync") => MemberState::InSync,
            Some(_) if has("spare") => MemberState::Rebuilding,
            None if has("spare") || has("journal") => MemberState::Spare,
            _ => return Err(wrong("state", state)),
        };
        let errors = match text("errors") {
            "" => 0,
            errors => errors.parse().map_err(|_| wrong("errors", errors))?,
        };
        found.push(MdMember { device: device.to_owned(), slot, state, errors });
    }
    Ok(found)
}

/// The value of a file; `None`: it does not exist, or its device is going away.
pub(super) fn value(path: &Path) -> Result<Option<String>> {
    match read_kernel(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound || is_gone(&error) => Ok(None),
        Err(error) => Err(Error::io(format!("read {}", path.display()), &error)),
    }
}

/// The sorted names in a directory; `None`: it does not exist.
pub(super) fn names(dir: &Path) -> Result<Option<Vec<String>>> {
    let failed = |error| Error::io(format!("read {}", dir.display()), &error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())
    };
    let mut names = entries.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(Some(names))
}

/// sysfs answers so for what is being removed (md_attr_show, rdev_attr_show).
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EBUSY))
}
