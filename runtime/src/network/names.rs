//! How links are named, so that any process can tell which are ours.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The prefix of our links' names, by which the firewall recognizes them.
pub const LINK_PREFIX: &str = "garth";

/// The host end's name: the prefix and the sandbox's address in hexadecimal.
pub fn link_name(inner4: Ipv4Addr) -> String {
    format!("{LINK_PREFIX}{:08x}", u32::from(inner4))
}

/// The prefix of our ifbs' names; the index of the link in hexadecimal follows. It differs from
/// that of the links, by which the firewall recognizes them.
pub const IFB_PREFIX: &str = "gifb";

/// The host's end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// The size of its largest packet in bytes.
    pub mtu: u32,
}
