//! Checks of values common to several parts of a configuration.

use super::parse_list;
use crate::error::{Error, Result};

/// IFNAMSIZ without the NUL byte (netdevice(7)).
const INTERFACE_NAME_MAX: usize = 15;

/// What the kernel accepts as the name of a network device.
pub(super) fn check_interface(name: &str) -> Result<()> {
    let odd = |character: char| character == '/' || character == ':' || character.is_whitespace();
    let bad = name.is_empty()
        || name.len() > INTERFACE_NAME_MAX
        || matches!(name, "." | "..")
        || name.contains(odd);
    match bad {
        true => Err(Error::new(format!("{name:?} is not a valid network device name"))
            .hint("use 1 to 15 bytes without slashes, colons and spaces")),
        false => Ok(()),
    }
}

pub(super) fn not_absolute(path: &str) -> String {
    format!("{path:?} is not an absolute path")
}

pub(super) fn check_processors(place: &str, list: Option<&str>) -> Result<()> {
    match list {
        Some(list) => parse_list(list).map(drop).map_err(|error| error.within(place)),
        None => Ok(()),
    }
}
