//! `linux`: everything specific to Linux (config-linux.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resources::Resources;
use super::words::{DeviceType, MemoryFlag, MemoryMode, NamespaceType, PersonalityDomain};
use super::{is_default, or_null, text};
use crate::config::seccomp::Profile;

/// Everything specific to Linux.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// New or joined namespaces; for the other kinds, the runtime's are used.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Users of a new user namespace.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of a new user namespace.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Offsets of the clocks `monotonic` and `boottime` in a new time namespace.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Device nodes in addition to the default ones.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Devices of the host that are moved into the network namespace, by their names on the host.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Where the cgroup is: below the mount point, or `slice:prefix:name` with systemd.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Intel Resource Director Technology.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Where memory is allocated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Values below /proc/sys, by dotted names.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// The seccomp filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Profile>,
    /// `shared`, `slave`, `private` or `unbindable`, optionally prefixed with `r`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Paths inside that cannot be read.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths inside that cannot be written.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// The SELinux context of the mounts.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
}

impl Linux {
    /// The entry for one kind of namespace.
    pub fn namespace(&self, kind: NamespaceType) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// The offsets of a time namespace in the format of its file.
    pub fn clock_offsets(&self) -> String {
        let line = |(clock, offset): (&String, &TimeOffset)| {
            format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
        };
        self.time_offsets.iter().map(line).collect()
    }

    /// Whether the offsets are written from outside, because the container has a user namespace.
    pub fn sets_clocks_outside(&self) -> bool {
        self.is_new(NamespaceType::Time)
            && !self.time_offsets.is_empty()
            && self.namespace(NamespaceType::User).is_some()
    }

    /// Whether it is listed without a path, and thus new.
    pub fn is_new(&self, kind: NamespaceType) -> bool {
        self.namespace(kind).is_some_and(|namespace| namespace.path.is_none())
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// An existing one to join; absent: a new one.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A range of user or group ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// The first id inside.
    #[serde(rename = "containerID", deserialize_with = "or_null")]
    pub container_id: u32,
    /// The first id outside.
    #[serde(rename = "hostID", deserialize_with = "or_null")]
    pub host_id: u32,
    /// How many.
    #[serde(deserialize_with = "or_null")]
    pub size: u32,
}

impl IdMapping {
    /// What an id inside is outside; `None`: these maps do not have it.
    pub fn outside(maps: &[IdMapping], id: u32) -> Option<u32> {
        maps.iter().find_map(|map| {
            let offset = id.checked_sub(map.container_id)?;
            (offset < map.size).then_some(map.host_id + offset)
        })
    }
}

/// The offset of a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub secs: i64,
    /// Additional nanoseconds.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub nanosecs: u32,
}

/// A device node inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Absolute.
    #[serde(default, deserialize_with = "or_null")]
    pub path: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// Major number.
    #[serde(default, deserialize_with = "or_null")]
    pub major: i64,
    /// Minor number.
    #[serde(default, deserialize_with = "or_null")]
    pub minor: i64,
    /// Permissions; absent: 0666. Engines set bits of the file type as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner, as the container sees it; absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, as the container sees it; absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A network device of the host that is moved inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    /// Its name inside; absent: the same.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Intel Resource Director Technology, by the files of resctrl.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt {
    /// The directory; absent: the container's id.
    #[serde(rename = "closID", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Lines for the file `schemata`, written after the two below.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// `L3:0=ff;1=f0`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// `MB:0=20;1=70`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// A separate monitoring group.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub enable_monitoring: bool,
}

/// set_mempolicy(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode.
    pub mode: MemoryMode,
    /// Memory nodes, such as `0-3,7`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Flags of the mode.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<MemoryFlag>,
}

/// personality(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Personality {
    /// The execution domain.
    pub domain: PersonalityDomain,
    /// No flag is defined yet.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}
