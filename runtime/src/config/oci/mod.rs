//! `config.json` of the OCI runtime specification 1.3 for Linux, as plain data.
//!
//! The fields have the names of the specification (config.md, config-linux.md) in snake case. What
//! is absent is `None` or empty; an empty string counts as absent, and so does `null`: engines are
//! written in Go, which writes an empty list as `null` and has no other absent string. Unknown keys
//! are ignored, as the specification demands; a value of the wrong type is an error.
//!
//! [`Config::parse`] reads it, and [`Config::validate`] checks what the types cannot. Neither looks
//! at the machine.

mod checks;
mod convert;
mod example;
mod features;
mod hooks;
mod linux;
mod mounts;
mod options;
mod parse;
mod process;
mod resources;
mod state;
mod strict;
mod sysctl;
#[cfg(test)]
mod tests;
mod validate;
mod words;

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;

pub use features::{
    Cgroup, Enabled, Features, IdMap, LinuxFeatures, MemoryPolicies, MountExtensions, Rdt,
    SeccompFeatures, features,
};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Personality, TimeOffset,
};
pub use mounts::Mount;
pub use options::MountOptions;
pub use parse::{MAX_BYTES, check_size};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, NetworkClass, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use state::{SeccompState, State, Status};
pub use sysctl::sysctl_path;
pub use words::{
    DeviceType, IoClass, MemoryFlag, MemoryMode, NamespaceType, PersonalityDomain, RlimitType,
    SchedulerFlag, SchedulerPolicy,
};

/// The version of the specification that is implemented.
pub const VERSION: &str = "1.3.0";

/// A bundle's `config.json` (config.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The version of the specification that the bundle was written for.
    #[serde(deserialize_with = "or_null")]
    pub oci_version: String,
    /// The program; it may be absent until `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name in the UTS namespace.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name in the UTS namespace.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts over the root, in order.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs that are run at points of the life cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Arbitrary; passed on to hooks and in the state.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything specific to Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    #[serde(deserialize_with = "or_null")]
    pub path: String,
    /// Nothing in it can be written.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub readonly: bool,
}

/// `null` means the default: Go writes an empty list as null.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// An empty string counts as absent: Go makes no difference.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

/// For fields that can be omitted.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An error about one place.
fn refuse<T>(place: impl Display, what: impl Display) -> Result<T, Error> {
    Err(Error::new(format!("{place}: {what}")))
}

/// A list of processors or memory nodes, `0-3,7`, as first and last of each range.
///
/// # Errors
/// It is anything else, or a number is beyond those of any machine.
pub fn parse_list(text: &str) -> Result<Vec<(u32, u32)>, Error> {
    const MOST: u32 = 8191;
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number <= MOST);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
    };
    let list: Option<Vec<_>> = text.split(',').map(range).collect();
    list.ok_or_else(|| Error::new(format!("{text:?} is not a list of numbers, e.g. 0-3,7")))
}
