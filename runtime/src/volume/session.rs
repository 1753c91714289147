//! The iSCSI sessions of this machine, from sysfs (/sys/class/iscsi_session).
//!
//! `iscsiadm -m session -P3` draws the same as indented English, starts with its own version, and
//! asks iscsid, which may be gone while the sessions live on in the kernel. Neither tells secrets
//! here: `password` is not read.

use std::path::Path;

use super::array::{names, value};
use super::device::VolumeDevice;
use crate::error::{Error, Result};

/// A session with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IscsiSession {
    /// The number of it.
    pub number: u32,
    /// The target.
    pub target: String,
    /// Where it was asked for, as address and port.
    pub portal: (String, u16),
    /// Whether it works.
    pub state: SessionState,
    /// After how many seconds without the server requests fail.
    pub recovery_timeout: Option<u32>,
    /// Its disks.
    pub disks: Vec<IscsiDisk>,
}

/// The kernel's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It works.
    LoggedIn,
    /// The connection is lost; requests wait until the recovery timeout.
    Failed,
    /// The recovery timeout is over: requests fail at once.
    Free,
}

/// A disk of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IscsiDisk {
    /// The number of the logical unit.
    pub lun: u32,
    /// `sda`.
    pub device: String,
    /// `running`, `blocked`, `transport-offline`, `offline`.
    pub state: String,
}

impl IscsiSession {
    /// All sessions of the kernel whose sysfs is at `sys`.
    ///
    /// # Errors
    /// They cannot be read, or are not understood.
    pub fn all(sys: &Path) -> Result<Vec<IscsiSession>> {
        let class = sys.join("class/iscsi_session");
        // None: the module is not loaded.
        let names = names(&class)?.unwrap_or_default();
        let mut found = Vec::new();
        for name in names {
            found.extend(IscsiSession::read(sys, &name)?);
        }
        found.sort_by_key(|session| session.number);
        Ok(found)
    }

    /// The sessions that `device` is on. Of the others only the target is read: there may be many.
    ///
    /// # Errors
    /// They cannot be read, or are not understood.
    pub fn of(sys: &Path, device: &VolumeDevice) -> Result<Vec<IscsiSession>> {
        let VolumeDevice::Iscsi { target, .. } = device else { return Ok(Vec::new()) };
        let class = sys.join("class/iscsi_session");
        let mut found = Vec::new();
        for name in names(&class)?.unwrap_or_default() {
            if value(&class.join(&name).join("targetname"))?.as_ref() == Some(target) {
                found.extend(IscsiSession::read(sys, &name)?.filter(|session| session.has(device)));
            }
        }
        Ok(found)
    }

    /// Reads session `name`; `None`: it is going away.
    fn read(sys: &Path, name: &str) -> Result<Option<IscsiSession>> {
        let dir = sys.join("class/iscsi_session").join(name);
        let wrong = |file: &str, text: &str| {
            let text: String = text.chars().take(60).collect();
            Error::new(format!("{}: not understood: {text:?}", dir.join(file).display()))
        };
        let number = name.strip_prefix("session").and_then(|number| number.parse().ok());
        let number: u32 = number.ok_or_else(|| wrong("", name))?;
        let Some(target) = value(&dir.join("targetname"))? else { return Ok(None) };
        let state = match value(&dir.join("state"))?.as_deref() {
            None => return Ok(None),
            Some("LOGGED_IN") => SessionState::LoggedIn,
            Some("FAILED") => SessionState::Failed,
            Some("FREE") => SessionState::Free,
            Some(other) => return Err(wrong("state", other)),
        };
        let recovery_timeout = match value(&dir.join("recovery_tmo"))?.as_deref() {
            // Off: it waits forever.
            None | Some("-1" | "off") => None,
            Some(seconds) => Some(seconds.parse().map_err(|_| wrong("recovery_tmo", seconds))?),
        };
        // There is one connection: open-iscsi makes no more.
        let connection = sys.join(format!("class/iscsi_connection/connection{number}:0"));
        let address = value(&connection.join("persistent_address"))?;
        let port = value(&connection.join("persistent_port"))?;
        let (Some(address), Some(port)) = (address, port) else { return Ok(None) };
        let port = port.parse().map_err(|_| wrong("persistent_port", &port))?;
        let portal = (address.trim_matches(['[', ']']).to_owned(), port);
        let disks = disks(&dir.join("device"))?;
        Ok(Some(IscsiSession { number, target, portal, state, recovery_timeout, disks }))
    }

    /// Whether `device` is on this session.
    pub fn has(&self, device: &VolumeDevice) -> bool {
        let VolumeDevice::Iscsi { portal, target, .. } = device else { return false };
        *target == self.target
            && (portal.host.as_str(), portal.port) == (&self.portal.0, self.portal.1)
    }
}

/// The disks below targetH:C:T/H:C:T:LUN/block.
fn disks(session: &Path) -> Result<Vec<IscsiDisk>> {
    let mut found = Vec::new();
    for target in names(session)?.unwrap_or_default() {
        if !target.starts_with("target") {
            continue;
        }
        let target = session.join(target);
        for unit in names(&target)?.unwrap_or_default() {
            let Some(lun) = unit.rsplit_once(':').and_then(|(_, lun)| lun.parse().ok()) else {
                continue;
            };
            let unit = target.join(unit);
            let state = value(&unit.join("state"))?.unwrap_or_default();
            for device in names(&unit.join("block"))?.unwrap_or_default() {
                found.push(IscsiDisk { lun, device, state: state.clone() });
            }
        }
    }
    Ok(found)
}
