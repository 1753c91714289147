//! The host's device files, for a container that cannot make its own (only the initial user
//! namespace may mknod(2) devices): found by device number, whatever name they get inside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::linux;
use crate::config::oci::{Config, Device, DeviceType, NamespaceType};
use crate::error::{Error, Result};
use crate::facts;

/// Maps each device of the configuration, by its path inside, to the host's file. Empty where
/// devices can be made.
///
/// # Errors
/// The host has no file for a device.
pub fn bound(config: &Config) -> Result<BTreeMap<String, PathBuf>> {
    let linux = linux(config);
    if !facts::confined() && linux.namespace(NamespaceType::User).is_none() {
        return Ok(BTreeMap::new());
    }
    let devices = linux.devices.iter().filter(|device| device.kind != DeviceType::Fifo);
    devices.map(|device| Ok((device.path.clone(), file_of(device)?))).collect()
}

fn file_of(device: &Device) -> Result<PathBuf> {
    let block = device.kind == DeviceType::Block;
    let number = libc::makedev(device.major as u32, device.minor as u32);
    let same = |path: &Path| {
        fs::metadata(path).is_ok_and(|file| {
            let kind = file.file_type();
            let of_kind = if block { kind.is_block_device() } else { kind.is_char_device() };
            of_kind && file.rdev() == number
        })
    };
    let numbered = format!("{}:{}", device.major, device.minor);
    let by_number = Path::new("/dev").join(if block { "block" } else { "char" }).join(&numbered);
    let at_once = [PathBuf::from(&device.path), by_number];
    if let Some(path) = at_once.into_iter().find(|path| same(path)) {
        return Ok(path);
    }
    let named = fs::read_dir("/dev").map_err(|e| Error::io("read /dev", &e))?;
    // A symlink may lead to whatever happens to be open here, as /dev/stdin does.
    let is_link = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink());
    let mut named = named.flatten().map(|entry| entry.path()).filter(|path| !is_link(path));
    let named = named.find(|path| same(path));
    named.ok_or_else(|| {
        Error::new(format!("linux.devices: {}: no file in /dev for {numbered}", device.path))
            .hint("devices cannot be created in a user namespace, so the host's is bind-mounted")
    })
}
