//! What `features` prints (features.md, features-linux.md): what is implemented, whatever the
//! machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::{MemoryFlag, MemoryMode, NamespaceType};
use super::{Hooks, MountOptions, VERSION};
use crate::config::CapabilitySet;
use crate::config::seccomp::{Action, Arch, Flag, Op};

/// The features structure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of features.md")]
pub struct Features {
    pub oci_version_min: String,
    pub oci_version_max: String,
    pub hooks: Vec<String>,
    pub mount_options: Vec<String>,
    pub linux: LinuxFeatures,
    pub annotations: BTreeMap<String, String>,
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// What is specific to Linux.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of features-linux.md")]
pub struct LinuxFeatures {
    pub namespaces: Vec<String>,
    pub capabilities: Vec<String>,
    pub cgroup: Cgroup,
    pub seccomp: SeccompFeatures,
    pub apparmor: Enabled,
    pub selinux: Enabled,
    pub memory_policy: MemoryPolicies,
    pub intel_rdt: Rdt,
    pub mount_extensions: MountExtensions,
    pub net_devices: Enabled,
}

/// Something that is available or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one word")]
pub struct Enabled {
    pub enabled: bool,
}

/// Kinds of cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of features-linux.md")]
pub struct Cgroup {
    pub v1: bool,
    pub v2: bool,
    pub systemd: bool,
    pub systemd_user: bool,
    pub rdma: bool,
}

/// The words of `linux.seccomp`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of features-linux.md")]
pub struct SeccompFeatures {
    pub enabled: bool,
    pub actions: Vec<String>,
    pub operators: Vec<String>,
    pub archs: Vec<String>,
    pub known_flags: Vec<String>,
    pub supported_flags: Vec<String>,
}

/// The words of `linux.memoryPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of features-linux.md")]
pub struct MemoryPolicies {
    pub modes: Vec<String>,
    pub flags: Vec<String>,
}

/// The parts of `linux.intelRdt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of features-linux.md")]
pub struct Rdt {
    pub enabled: bool,
    pub schemata: bool,
    pub monitoring: bool,
}

/// What mounts support beside options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one word")]
pub struct MountExtensions {
    pub idmap: IdMap,
}

/// Id-mapped mounts.
pub type IdMap = Enabled;

/// What this runtime supports.
pub fn features() -> Features {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    let on = Enabled { enabled: true };
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: VERSION.into(),
        hooks: Hooks::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        mount_options: MountOptions::names().map(str::to_owned).collect(),
        linux: LinuxFeatures {
            namespaces: sorted(NamespaceType::NAMES),
            capabilities: CapabilitySet::ALL.iter().map(|one| one.to_string()).collect(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: SeccompFeatures {
                enabled: true,
                actions: sorted(Action::NAMES),
                operators: sorted(Op::NAMES),
                archs: sorted(Arch::NAMES),
                known_flags: sorted(Flag::NAMES),
                supported_flags: sorted(Flag::NAMES),
            },
            apparmor: on,
            selinux: on,
            memory_policy: MemoryPolicies {
                modes: sorted(MemoryMode::NAMES),
                flags: sorted(MemoryFlag::NAMES),
            },
            intel_rdt: Rdt { enabled: true, schemata: true, monitoring: true },
            mount_extensions: MountExtensions { idmap: on },
            net_devices: on,
        },
        annotations: BTreeMap::from([(
            "garth.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        )]),
        // A name that ends with a dot is a prefix of names.
        potentially_unsafe_config_annotations: vec![
            "org.criu.config".into(),
            "org.systemd.property.".into(),
        ],
    }
}
