//! What a plugin provides inside a sandbox or container: files and devices of the host.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::oci::{self, DeviceRule, DeviceType};
use super::{Mount, MountKind};
use crate::error::{Error, Result};

/// What a resource provides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provided {
    /// The resource, for errors: `plugin data`.
    pub origin: String,
    /// Bind mounts, in order.
    pub mounts: Vec<ProvidedMount>,
    /// Devices.
    pub devices: Vec<ProvidedDevice>,
    /// What the user should know of it.
    pub remarks: Vec<String>,
}

/// A file or directory of the host, as a plugin answers; the keys are those of config.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedMount {
    /// Where it appears inside, absolute.
    pub destination: PathBuf,
    /// Its path on the host, absolute.
    pub source: PathBuf,
    /// The options of `-v`; nosuid and nodev unless they say otherwise.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A device of the host that may be read and written inside.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvidedDevice {
    /// Its path inside, absolute.
    pub path: PathBuf,
    /// Its path on the host.
    pub source: PathBuf,
    /// Block or character.
    pub kind: DeviceType,
    /// Major and minor number.
    pub number: (u32, u32),
}

impl Provided {
    /// The mounts of a sandbox; a device is a mount of its file.
    ///
    /// # Errors
    /// A path that is not absolute, or an unknown option.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        let origin = |path: &PathBuf| format!("{}: {}", self.origin, path.display());
        let mounts = self.mounts.iter().map(|mount| {
            let words = mount.options.iter().map(String::as_str);
            let origin = origin(&mount.destination);
            if !mount.source.is_absolute() {
                let source = &mount.source;
                return Err(Error::new(format!("{origin}: {source:?} is not an absolute path")));
            }
            Mount::bind(mount.source.as_os_str(), mount.destination.as_os_str(), words, origin)
        });
        let devices = self.devices.iter().map(|device| {
            let (source, path) = (device.source.as_os_str(), device.path.as_os_str());
            Mount::bind(source, path, ["dev", "noexec"].into_iter(), origin(&device.path))
        });
        mounts.chain(devices).collect()
    }

    /// Adds it to the configuration of a container.
    ///
    /// # Errors
    /// A path that is not absolute or not UTF-8, or an unknown option.
    pub fn add_to(&self, config: &mut oci::Config) -> Result<()> {
        let text = |path: PathBuf| {
            let path = path.into_os_string().into_string();
            path.map_err(|path| Error::new(format!("{}: {path:?} is not UTF-8", self.origin)))
        };
        // Those of the devices come last.
        let mounts = self.mounts()?.into_iter().take(self.mounts.len());
        for Mount { target, kind, access, .. } in mounts {
            let MountKind::Bind { source, recursive } = kind else { continue };
            let bind = if recursive { "rbind" } else { "bind" };
            // `rw` would be more than `-v` does: make a read-only mount of the host's writable.
            let words = access.words();
            let words = words.split(',').filter(|word| *word != "rw");
            config.mounts.push(oci::Mount {
                destination: text(target)?,
                kind: Some("bind".into()),
                source: Some(text(source)?),
                options: [bind].into_iter().chain(words).map(str::to_owned).collect(),
                ..oci::Mount::default()
            });
        }
        let linux = config.linux.get_or_insert_default();
        for device in &self.devices {
            let (major, minor) = (device.number.0.into(), device.number.1.into());
            linux.devices.push(oci::Device {
                path: text(device.path.clone())?,
                kind: device.kind,
                major,
                minor,
                file_mode: None,
                uid: None,
                gid: None,
            });
            // Without rules every device is allowed.
            let rules = linux.resources.iter_mut().map(|resources| &mut resources.devices);
            for rules in rules.filter(|rules| !rules.is_empty()) {
                rules.push(DeviceRule {
                    allow: true,
                    kind: Some(if device.kind == DeviceType::Block { "b" } else { "c" }.into()),
                    major: Some(major),
                    minor: Some(minor),
                    access: "rw".into(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provided(options: &[&str]) -> Provided {
        let mount = ProvidedMount {
            destination: "/srv/./data/".into(),
            source: "/mnt/data".into(),
            options: options.iter().map(|&word| word.to_owned()).collect(),
        };
        let device = ProvidedDevice {
            path: "/dev/data".into(),
            source: "/dev/md7".into(),
            kind: DeviceType::Block,
            number: (9, 7),
        };
        let (mounts, devices) = (vec![mount], vec![device]);
        Provided { origin: "plugin data".into(), mounts, devices, ..Provided::default() }
    }

    #[test]
    fn both_faces_get_the_same() {
        let provided = provided(&["ro", "norec"]);
        let mounts = provided.mounts().unwrap();
        assert_eq!(mounts[0].target, PathBuf::from("/srv/data"));
        assert_eq!(mounts[0].access.words(), "ro,nosuid,nodev");
        assert_eq!(mounts[1].access.words(), "rw,nosuid,noexec");
        let rule = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
        let resources = oci::Resources { devices: vec![rule], ..oci::Resources::default() };
        let linux = oci::Linux { resources: Some(resources), ..oci::Linux::default() };
        let mut config = oci::Config { linux: Some(linux), ..oci::Config::default() };
        provided.add_to(&mut config).unwrap();
        assert_eq!(config.mounts[0].destination, "/srv/data");
        assert_eq!(config.mounts[0].options, ["bind", "ro", "nosuid", "nodev"]);
        let linux = config.linux.unwrap();
        assert_eq!((linux.devices[0].major, linux.devices[0].minor), (9, 7));
        let rules = linux.resources.unwrap().devices;
        assert_eq!((rules[1].allow, rules[1].major, &*rules[1].access), (true, Some(9), "rw"));
    }

    #[test]
    fn without_rules_for_devices_none_is_added() {
        let mut config = oci::Config::default();
        provided(&[]).add_to(&mut config).unwrap();
        let linux = config.linux.unwrap();
        assert!(linux.resources.is_none() && linux.devices.len() == 1);
    }

    #[test]
    fn what_is_odd_is_refused_by_name() {
        let refused = |provided: &Provided| provided.mounts().unwrap_err().to_string();
        let error = refused(&provided(&["rox"]));
        assert!(error.starts_with("plugin data: /srv/./data/: unknown option \"rox\""), "{error}");
        for change in [
            |mount: &mut ProvidedMount| mount.source = "data".into(),
            |mount: &mut ProvidedMount| mount.destination = "data".into(),
        ] {
            let mut provided = provided(&[]);
            change(&mut provided.mounts[0]);
            assert!(refused(&provided).contains("\"data\" is not an absolute path"));
        }
    }
}
