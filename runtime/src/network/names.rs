//! How links are named, so that everybody knows which are ours.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How the names of our links begin, by which the firewall knows them.
pub const LINK_PREFIX: &str = "garth";

/// The host end's name: the prefix and the sandbox's address in hexadecimal.
pub fn link_name(inner4: Ipv4Addr) -> String {
    format!("{LINK_PREFIX}{:08x}", u32::from(inner4))
}

/// How the names of our ifbs begin; the index of the link in hexadecimal follows. Not as the names of
/// links do, by which the firewall knows them.
pub const IFB_PREFIX: &str = "gifb";

/// The host's end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// Bytes of its largest packet.
    pub mtu: u32,
}
