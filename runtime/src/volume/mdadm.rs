//! What mdadm(8) writes with `--export`: a line `KEY=VALUE` each.
//!
//! `--examine --export DEVICE` says which array a device belongs to, whether or not it runs; nothing
//! else does without reading the superblock ourselves, which has several formats. Of an array that
//! runs, sysfs says more ([`super::array`]): `--detail --export` is for kernels without `md/uuid`,
//! and for the names of arrays, which only udev and mdadm know.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// The identity of an array, in its members' superblocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArrayUuid(pub [u8; 16]);

impl FromStr for ArrayUuid {
    type Err = Error;

    /// As mdadm writes it, `11111111:22222222:33333333:44444444`, or as sysfs does, with hyphens.
    fn from_str(text: &str) -> Result<ArrayUuid> {
        let wrong = || {
            let shown: String = text.chars().take(50).collect();
            Error::new(format!("not the UUID of an array: {shown:?}"))
        };
        let places: &[usize] = match text.contains(':') {
            true => &[8, 17, 26],
            false => &[8, 13, 18, 23],
        };
        let is_mark = |(at, byte): &(usize, u8)| places.contains(at) && matches!(byte, b':' | b'-');
        let bytes = text.bytes().enumerate();
        let (marks, digits): (Vec<_>, Vec<_>) = bytes.partition(is_mark);
        if marks.len() != places.len() || digits.len() != 32 {
            return Err(wrong());
        }
        let mut uuid = [0; 16];
        for (at, (_, byte)) in digits.into_iter().enumerate() {
            let digit = char::from(byte).to_digit(16).ok_or_else(wrong)?;
            uuid[at / 2] = uuid[at / 2] << 4 | digit as u8;
        }
        Ok(ArrayUuid(uuid))
    }
}

impl fmt::Display for ArrayUuid {
    /// As mdadm writes and takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let mark = if at != 0 && at % 4 == 0 { ":" } else { "" };
            write!(f, "{mark}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for ArrayUuid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArrayUuid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ArrayUuid, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the superblock of a member says: `mdadm --examine --export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The array it is a member of.
    pub array: ArrayUuid,
    /// The array's name, `HOST:NAME`, or only a name. Anything may have been written there.
    pub name: String,
    /// `raid10`.
    pub level: String,
    /// How many slots the array has.
    pub members: u32,
    /// How often the array's state had changed: the members that are up to date have the most.
    pub events: u64,
    /// The member's own identity.
    pub member: ArrayUuid,
}

/// What an array that runs says: `mdadm --detail --export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayDetail {
    /// Its identity.
    pub array: ArrayUuid,
    /// Its name in the superblock.
    pub name: String,
    /// Its name below /dev/md, if it has one.
    pub device_name: Option<String>,
    /// Its members and their slots; `None` is a spare.
    pub members: Vec<(String, Option<u32>)>,
}

/// The lines by their keys.
fn lines(text: &str) -> Result<BTreeMap<&str, &str>> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let wrong = || wrong(&format_args!("{:?}", line.chars().take(120).collect::<String>()));
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        if !key.starts_with("MD_") || found.insert(key, value).is_some() {
            return Err(wrong());
        }
    }
    Ok(found)
}

fn wrong(what: &dyn fmt::Display) -> Error {
    Error::new(format!("mdadm --export: not understood: {what}"))
}

fn value<'a>(lines: &BTreeMap<&str, &'a str>, key: &str) -> Result<&'a str> {
    lines.get(key).copied().ok_or_else(|| wrong(&format_args!("no {key}")))
}

fn number<T: FromStr>(lines: &BTreeMap<&str, &str>, key: &str) -> Result<T> {
    let text = value(lines, key)?;
    text.parse().map_err(|_| wrong(&format_args!("{key}={text:?}")))
}

impl Superblock {
    /// Reads what `mdadm --examine --export DEVICE` writes when it exits with 0; with 1, there is no
    /// superblock.
    ///
    /// # Errors
    /// It is of another kind than those that are made here (metadata 1.x), or not understood.
    pub fn parse(text: &str) -> Result<Superblock> {
        let lines = lines(text)?;
        if let Some(other) = lines.get("MD_METADATA").filter(|kind| !kind.starts_with("1.")) {
            return Err(Error::new(format!("md metadata {other:?}: not known here")));
        }
        Ok(Superblock {
            array: value(&lines, "MD_UUID")?.parse()?,
            name: value(&lines, "MD_NAME")?.to_owned(),
            level: value(&lines, "MD_LEVEL")?.to_owned(),
            members: number(&lines, "MD_DEVICES")?,
            events: number(&lines, "MD_EVENTS")?,
            member: value(&lines, "MD_DEV_UUID")?.parse()?,
        })
    }

    /// Reads what it writes for several devices, one after the other: each begins with the line that the
    /// first one begins with.
    ///
    /// # Errors
    /// Same as [`Superblock::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Superblock>> {
        let key = text.split('=').next().unwrap_or_default();
        let mut texts: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.split('=').next() == Some(key) {
                texts.push(String::new());
            }
            if let Some(last) = texts.last_mut() {
                last.push_str(line);
                last.push('\n');
            }
        }
        texts.iter().map(|text| Superblock::parse(text)).collect()
    }

    /// The host that made the array, and its name there.
    pub fn host_and_name(&self) -> (Option<&str>, &str) {
        match self.name.split_once(':') {
            Some((host, name)) => (Some(host), name),
            None => (None, &self.name),
        }
    }
}

impl ArrayDetail {
    /// Reads what `mdadm --detail --export DEVICE` writes when it exits with 0.
    ///
    /// # Errors
    /// It is not understood.
    pub fn parse(text: &str) -> Result<ArrayDetail> {
        let lines = lines(text)?;
        let mut members = Vec::new();
        for (key, device) in &lines {
            let Some(member) =
                key.strip_prefix("MD_DEVICE_").and_then(|key| key.strip_suffix("_DEV"))
            else {
                continue;
            };
            let role = format!("MD_DEVICE_{member}_ROLE");
            let slot = match value(&lines, &role)? {
                "spare" => None,
                _ => Some(number(&lines, &role)?),
            };
            members.push(((*device).to_owned(), slot));
        }
        Ok(ArrayDetail {
            array: value(&lines, "MD_UUID")?.parse()?,
            name: value(&lines, "MD_NAME")?.to_owned(),
            device_name: lines.get("MD_DEVNAME").map(|name| (*name).to_owned()),
            members,
        })
    }
}
