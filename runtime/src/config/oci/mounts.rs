//! `mounts`: what is mounted over the root, and the options of mounts.

use serde::{Deserialize, Serialize};

use super::linux::IdMapping;
use super::{or_null, text};

/// One mount. Later ones lie over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// The path inside; a relative one counts from `/`.
    #[serde(deserialize_with = "or_null")]
    pub destination: String,
    /// The file system; of no meaning with `bind` and `rbind` among the options.
    #[serde(rename = "type", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A device, a word, or a path outside; a relative path of a bind mount counts from the bundle.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// As in fstab(5).
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Users of an id-mapped mount: `container_id` on the file system, `host_id` in the mount.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of an id-mapped mount.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}
