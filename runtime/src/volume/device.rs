//! What a volume is made from, as it is written: an iSCSI target, an NBD export, a block device or a
//! file of this machine. Pure: whether it is there is seen later.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::braces;
use crate::error::{Error, Result};

/// A device by its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeDevice {
    /// A logical unit of an iSCSI target.
    Iscsi {
        /// Where the target is.
        portal: Portal,
        /// Its name (RFC 3720, 3.2.6).
        target: String,
        /// The unit; `None`: the only disk of the target.
        lun: Option<u32>,
    },
    /// An export of an NBD server.
    Nbd {
        /// Where the server is.
        portal: Portal,
        /// The name of the export.
        export: String,
    },
    /// A block device of this machine, below /dev.
    Block(PathBuf),
    /// A file of this machine, used through a loop device.
    File(PathBuf),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Portal {
    /// An address in its shortest form, or a name in small letters.
    pub host: String,
    /// The port.
    pub port: u16,
}

const ISCSI: &str = "iscsi://";
const ISCSI_PORT: u16 = 3260;
const NBD: &str = "nbd://";
const NBD_PORT: u16 = 10809;

const SPELLINGS: &str =
    "write iscsi://HOST[:PORT]/TARGET[/LUN], nbd://HOST[:PORT]/EXPORT, /dev/NAME or a file";

/// The directory that paths of devices are relative to: that of the caller.
///
/// # Errors
/// It is gone, or out of reach.
pub fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Error::io("find the working directory", &error))
}

impl VolumeDevice {
    /// Reads references, with braces expanded: `iscsi://10.0.1.1/iqn.2015-06.net.example:vol{1..5}`.
    /// Paths are relative to `here`.
    ///
    /// # Errors
    /// One of them is none, or is given twice.
    pub fn parse_all<T: AsRef<str>>(texts: &[T], here: &Path) -> Result<Vec<VolumeDevice>> {
        let mut found: Vec<VolumeDevice> = Vec::new();
        for text in texts {
            for text in braces::expand(text.as_ref())? {
                found.push(VolumeDevice::parse(&text, here)?);
            }
        }
        VolumeDevice::check_distinct(&found)?;
        Ok(found)
    }

    /// Refuses a device that is given twice, or may be.
    ///
    /// # Errors
    /// There is one.
    pub fn check_distinct(devices: &[VolumeDevice]) -> Result<()> {
        let mut known = std::collections::HashSet::new();
        for (at, device) in devices.iter().enumerate() {
            if !known.insert(device) {
                return Err(Error::new(format!("device {device} is given twice")));
            }
            if let Some(other) = devices[..at].iter().find(|other| device.may_be(other)) {
                return Err(Error::new(format!("{other} and {device} may be the same disk"))
                    .hint("write the LUN of both"));
            }
        }
        Ok(())
    }

    /// The same device of a server that is known by this address.
    pub fn at_host(mut self, host: String) -> VolumeDevice {
        if let VolumeDevice::Iscsi { portal, .. } | VolumeDevice::Nbd { portal, .. } = &mut self {
            portal.host = host;
        }
        self
    }

    /// Reads one reference, without braces.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str, here: &Path) -> Result<VolumeDevice> {
        let wrong =
            |why: &str| Error::new(format!("device {}: {why}", shown(text))).hint(SPELLINGS);
        if let Some(rest) = text.strip_prefix(ISCSI) {
            return iscsi(rest).map_err(wrong);
        }
        if let Some(rest) = text.strip_prefix(NBD) {
            let (portal, export) = rest.split_once('/').ok_or_else(|| wrong("no export"))?;
            let portal = Portal::parse(portal, NBD_PORT).map_err(wrong)?;
            if export.is_empty() || export.len() > 4096 || export.contains(char::is_control) {
                return Err(wrong("no name of an export"));
            }
            return Ok(VolumeDevice::Nbd { portal, export: export.to_owned() });
        }
        if text.contains("://") {
            return Err(wrong("no such transport"));
        }
        if text.is_empty() || text.ends_with('/') || text.contains(char::is_control) {
            return Err(wrong("not a file"));
        }
        let path = here.join(text);
        // /dev/../x is not below /dev.
        let plain = path.components().all(|part| part != Component::ParentDir);
        Ok(match plain && path.starts_with("/dev") {
            true => VolumeDevice::Block(path),
            false => VolumeDevice::File(path),
        })
    }

    /// Whether one of them is the only disk of the target that the other has a disk of.
    fn may_be(&self, other: &VolumeDevice) -> bool {
        let target = |device: &VolumeDevice| match device {
            VolumeDevice::Iscsi { portal, target, lun } => {
                Some((portal.clone(), target.clone(), lun.is_none()))
            }
            _ => None,
        };
        let (Some(one), Some(two)) = (target(self), target(other)) else { return false };
        (&one.0, &one.1) == (&two.0, &two.1) && (one.2 || two.2)
    }

    /// Whether it is a disk of this target.
    pub fn is_of(&self, at: &Portal, name: &str) -> bool {
        matches!(self, VolumeDevice::Iscsi { portal, target, .. } if portal == at && target == name)
    }

    /// Where its server is.
    pub fn portal(&self) -> Option<&Portal> {
        match self {
            VolumeDevice::Iscsi { portal, .. } | VolumeDevice::Nbd { portal, .. } => Some(portal),
            VolumeDevice::Block(_) | VolumeDevice::File(_) => None,
        }
    }

    /// The server it is on; `None`: this machine, and with it a server on a loopback address.
    pub fn server(&self) -> Option<&str> {
        let (VolumeDevice::Iscsi { portal, .. } | VolumeDevice::Nbd { portal, .. }) = self else {
            return None;
        };
        let host = portal.host.as_str();
        let is_own = match host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        (!is_own).then_some(host)
    }
}

/// What follows `iscsi://`. A target's name contains no slash.
fn iscsi(text: &str) -> Result<VolumeDevice, &'static str> {
    let mut parts = text.split('/');
    let portal = Portal::parse(parts.next().unwrap_or_default(), ISCSI_PORT)?;
    let target = parts.next().ok_or("no target")?;
    let lun = match parts.next() {
        None => None,
        // LUNs of more than 14 bits have no plain number (SAM-5, 4.7).
        Some(lun) => Some(number(lun).filter(|lun| *lun < 1 << 14).ok_or("not a LUN")?),
    };
    if parts.next().is_some() {
        return Err("more than a portal, a target and a LUN");
    }
    if !is_target(target) {
        return Err("not a target's name, as in iqn.2015-06.net.example:vol1");
    }
    Ok(VolumeDevice::Iscsi { portal, target: target.to_owned(), lun })
}

/// `iqn.`, a month, a domain; `eui.` or `naa.` and digits (RFC 3720, 3.2.6.3; RFC 3980).
pub fn is_target(name: &str) -> bool {
    let digits = |text: &str, lengths: &[usize]| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if let Some(rest) = name.strip_prefix("eui.") {
        return digits(rest, &[16]);
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return digits(rest, &[16, 32]);
    }
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let month = |text: &str| {
        let (year, month) = text.split_once('-')?;
        let is_number = |text: &str, length| text.len() == length && number(text).is_some();
        (is_number(year, 4) && is_number(month, 2)).then_some(())
    };
    let Some((date, domain)) = rest.split_once('.') else { return false };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    let begins = domain.starts_with(|c: char| c.is_ascii_alphanumeric());
    month(date).is_some() && begins && domain.chars().all(known) && name.len() <= 223
}

/// Digits only: `parse` also reads `+1`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Portal {
    fn parse(text: &str, port: u16) -> Result<Portal, &'static str> {
        let (host, after) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("no ] after the address")?;
                let address: Ipv6Addr = host.parse().map_err(|_| "not an IPv6 address in [ ]")?;
                (address.to_string(), after)
            }
            None => {
                let host = text.split(':').next().unwrap_or_default();
                (host_of(host).ok_or("not a host")?, &text[host.len()..])
            }
        };
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => port,
            None => return Err("not a host and a port"),
            Some(_) if after.matches(':').count() > 1 => {
                return Err("not a port: an IPv6 address is written in [ ]");
            }
            Some(port) => number(port)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0)
                .ok_or("not a port")?,
        };
        Ok(Portal { host, port })
    }
}

/// An IPv4 address, or a name as in DNS.
fn host_of(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(known)
            && !label.starts_with('-')
    };
    // 10.0.1 is a mistake, not a name.
    let numeric = name.rsplit('.').next().is_none_or(|last| number(last).is_some());
    (name.len() <= 253 && !numeric && name.split('.').all(label)).then_some(name)
}

/// A text of any length, in one line.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for VolumeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |portal: &Portal, usual: u16| {
            let mut text = portal.to_string();
            if portal.port == usual {
                text.truncate(text.rfind(':').unwrap_or(text.len()));
            }
            text
        };
        match self {
            VolumeDevice::Iscsi { portal, target, lun } => {
                write!(f, "{ISCSI}{}/{target}", at(portal, ISCSI_PORT))?;
                lun.map_or(Ok(()), |lun| write!(f, "/{lun}"))
            }
            VolumeDevice::Nbd { portal, export } => {
                write!(f, "{NBD}{}/{export}", at(portal, NBD_PORT))
            }
            VolumeDevice::Block(path) | VolumeDevice::File(path) => {
                write!(f, "{}", path.display())
            }
        }
    }
}

impl Serialize for VolumeDevice {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VolumeDevice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<VolumeDevice, D::Error> {
        let text = String::deserialize(from)?;
        VolumeDevice::parse(&text, Path::new("/")).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> VolumeDevice {
        VolumeDevice::parse(text, Path::new("/srv")).unwrap()
    }

    fn refused(text: &str) -> String {
        let refused = VolumeDevice::parse(text, Path::new("/srv"));
        refused.err().unwrap_or_else(|| panic!("{text:?} was read")).to_string()
    }

    #[test]
    fn the_devices_of_the_blog_are_five_targets_of_each_server() {
        let texts = [1, 2, 3].map(|server| {
            format!("iscsi://10.0.{server}.1/iqn.2015-06.net.example:s{server}.vol{{1..5}}")
        });
        let all = VolumeDevice::parse_all(&texts, Path::new("/")).unwrap();
        assert_eq!(all.len(), 15);
        assert_eq!(all[5].to_string(), "iscsi://10.0.2.1/iqn.2015-06.net.example:s2.vol1");
        assert_eq!(all[14].server(), Some("10.0.3.1"));
    }

    #[test]
    fn what_is_printed_is_read_back_as_the_same() {
        for (text, printed) in [
            (
                "iscsi://10.0.1.1:3260/iqn.2015-06.net.example:a/0",
                "iscsi://10.0.1.1/iqn.2015-06.net.example:a/0",
            ),
            (
                "iscsi://[FD00:0::1]:860/iqn.2015-06.net.example/7",
                "iscsi://[fd00::1]:860/iqn.2015-06.net.example/7",
            ),
            ("iscsi://[fd00::1]/naa.6001405a0b1c2d3e", "iscsi://[fd00::1]/naa.6001405a0b1c2d3e"),
            (
                "iscsi://Store1.Example.net./eui.02004567a425678d",
                "iscsi://store1.example.net/eui.02004567a425678d",
            ),
            ("nbd://store1:10809/vol 1/x", "nbd://store1/vol 1/x"),
            ("/dev/disk/by-id/x", "/dev/disk/by-id/x"),
            ("vol1.img", "/srv/vol1.img"),
            ("./iqn.2015-06.net.example:a", "/srv/./iqn.2015-06.net.example:a"),
        ] {
            let device = read(text);
            assert_eq!(device.to_string(), printed);
            assert_eq!(read(printed).to_string(), printed);
            assert_eq!(
                serde_json::from_str::<VolumeDevice>(&serde_json::to_string(&device).unwrap())
                    .unwrap(),
                read(printed)
            );
        }
        assert_eq!(read("/dev/sdb"), VolumeDevice::Block("/dev/sdb".into()));
        assert_eq!(read("/dev/../srv/x"), VolumeDevice::File("/dev/../srv/x".into()));
        assert_eq!(read("/device"), VolumeDevice::File("/device".into()));
    }

    #[test]
    fn a_device_of_this_machine_has_no_server() {
        for text in ["/dev/sdb", "x.img", "nbd://localhost/x", "nbd://127.0.0.2/x", "nbd://[::1]/x"]
        {
            assert_eq!(read(text).server(), None, "{text}");
        }
        assert_eq!(read("nbd://Store1/x").server(), Some("store1"));
        assert_eq!(
            read("nbd://[fd00:0::1]/x").server(),
            read("iscsi://[fd00::1]/naa.6001405a0b1c2d3e").server()
        );
    }

    #[test]
    fn what_is_no_device_is_refused_in_one_line_with_a_right_spelling() {
        assert_eq!(
            refused("iscsi://10.0.1.1/vol1"),
            "device \"iscsi://10.0.1.1/vol1\": not a target's name, as in iqn.2015-06.net.example:vol1; \
             write iscsi://HOST[:PORT]/TARGET[/LUN], nbd://HOST[:PORT]/EXPORT, /dev/NAME or a file"
        );
        let iqn = "iqn.2015-06.net.example:a";
        let long = format!("iscsi://h/iqn.2015-06.{}", "a".repeat(300));
        for text in [
            "",
            "/srv/",
            "a\nb",
            "rbd://pool/image",
            "iscsi://",
            "iscsi://10.0.1.1",
            "nbd://10.0.1.1",
            "nbd://10.0.1.1/",
            "nbd:///x",
            "nbd://10.0.1/x",
            "nbd://h:0/x",
            "nbd://h:65536/x",
            "nbd://h:+1/x",
            "nbd://fd00::1/x",
            "nbd://[fd00::1/x",
            "nbd://[10.0.1.1]/x",
            "nbd://[::1]x/x",
            "nbd://-h/x",
            "nbd://h h/x",
            &format!("iscsi://h/{iqn}/16384"),
            &format!("iscsi://h/{iqn}/1/2"),
            &format!("iscsi://h/{iqn}/"),
            &format!("iscsi://h/{iqn} -o"),
            "iscsi://h/iqn.201506.net.example",
            "iscsi://h/iqn.2015-06.",
            "iscsi://h/eui.12",
            &long,
        ] {
            let line = refused(text);
            assert!(!line.contains('\n') && line.len() < 300, "{line}");
        }
    }

    #[test]
    fn a_device_that_is_given_twice_is_refused() {
        let twice = ["nbd://h/x", "nbd://H:10809/{w,x}"];
        let refused = VolumeDevice::parse_all(&twice, Path::new("/")).unwrap_err().to_string();
        assert_eq!(refused, "device nbd://h/x is given twice");
        let several = ["iscsi://10.0.1.1/iqn.2015-06.x:a/1", "iscsi://10.0.1.1/iqn.2015-06.x:a/2"];
        assert_eq!(VolumeDevice::parse_all(&several, Path::new("/")).unwrap().len(), 2);
        let unclear = [several[0], "iscsi://10.0.1.1/iqn.2015-06.x:a"];
        let refused = VolumeDevice::parse_all(&unclear, Path::new("/")).unwrap_err().to_string();
        assert!(refused.contains("may be the same disk; write the LUN of both"), "{refused}");
    }
}
