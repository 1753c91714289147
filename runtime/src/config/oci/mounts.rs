//! `mounts`: what is mounted over the root, and the options of mounts.

use serde::{Deserialize, Serialize};

use super::linux::IdMapping;
use super::{or_null, text};

/// One mount. Later ones cover earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// The path inside; a relative one is resolved from `/`.
    #[serde(deserialize_with = "or_null")]
    pub destination: String,
    /// The file system; ignored with `bind` and `rbind` among the options.
    #[serde(rename = "type", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A device, a word, or a path outside; that of a bind mount may be relative to the bundle.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The same as in fstab(5).
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Users of an id-mapped mount: `container_id` on the file system, `host_id` in the mount.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of an id-mapped mount.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}
