//! `linux.resources`: the limits of the cgroup. Also what `update` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::checks::check_interface;
use super::{is_default, or_null, refuse, text};
use crate::error::Result;

/// The limits of the cgroup. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used; in order, the last matching rule decides.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Marks on packets, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkClass>,
    /// RDMA, by the device's name.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 and what is written to them.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// One rule for devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Allowed, or denied.
    #[serde(deserialize_with = "or_null")]
    pub allow: bool,
    /// `a` (all), `b` or `c`; absent: all.
    #[serde(rename = "type", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Absent or -1: any.
    #[serde(deserialize_with = "any_number", skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Absent or -1: any.
    #[serde(deserialize_with = "any_number", skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Some of `rwm`.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub access: String,
}

/// -1 is any number: runc's wildcard, which engines write.
fn any_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<i64>::deserialize(from)?.filter(|number| *number != -1))
}

/// Memory, in bytes; -1 is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What it keeps when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; obsolete since Linux 5.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// TCP buffers, cgroup v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Processes wait instead of being killed, cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Limits hold for the cgroups below as well, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// An update to less than what is in use is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Processors; times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// Weight against siblings, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Time in each period; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Time that may accumulate for bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Real-time in each of its periods, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The period of real-time, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// Processors, as `0-3,7`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory nodes, as `0-1`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1: only when no other process wants to run (Linux 5.15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// Maximum number; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// Weight against siblings, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight against the cgroups below; gone since Linux 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights on single devices.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// A weight on one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as in BlockIo")]
pub struct WeightDevice {
    #[serde(deserialize_with = "or_null")]
    pub major: i64,
    #[serde(deserialize_with = "or_null")]
    pub minor: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// A rate on one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "as in BlockIo")]
pub struct ThrottleDevice {
    #[serde(deserialize_with = "or_null")]
    pub major: i64,
    #[serde(deserialize_with = "or_null")]
    pub minor: i64,
    #[serde(deserialize_with = "or_null")]
    pub rate: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB`, `1GB`: a number, a prefix in powers of 1024, `B`.
    #[serde(deserialize_with = "or_null")]
    pub page_size: String,
    /// Bytes.
    #[serde(deserialize_with = "or_null")]
    pub limit: u64,
}

/// Marks on packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkClass {
    /// The class of tc(8).
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities on single interfaces.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub priorities: Vec<InterfacePriority>,
}

/// A priority on one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "two words")]
pub struct InterfacePriority {
    #[serde(deserialize_with = "or_null")]
    pub name: String,
    #[serde(deserialize_with = "or_null")]
    pub priority: u32,
}

/// RDMA on one device; absent: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// Handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

impl Resources {
    /// Checks what the types cannot; places are named relative to here: `devices[0].access`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        for (at, rule) in self.devices.iter().enumerate() {
            rule.check().map_err(|error| error.within(format_args!("devices[{at}]")))?;
        }
        let memory = self.memory.clone().unwrap_or_default();
        for (key, value) in [
            ("limit", memory.limit),
            ("reservation", memory.reservation),
            ("swap", memory.swap),
            ("kernel", memory.kernel),
            ("kernelTCP", memory.kernel_tcp),
        ] {
            if let Some(bytes) = value
                && bytes < -1
            {
                return refuse(format!("memory.{key}"), format!("{bytes} is below -1"));
            }
        }
        for (at, limit) in self.hugepage_limits.iter().enumerate() {
            if !is_page_size(&limit.page_size) {
                let what = format!("{:?} is not a size, e.g. 2MB", limit.page_size);
                return refuse(format!("hugepageLimits[{at}].pageSize"), what);
            }
        }
        for (at, priority) in
            self.network.iter().flat_map(|network| &network.priorities).enumerate()
        {
            check_interface(&priority.name)
                .map_err(|error| error.within(format_args!("network.priorities[{at}].name")))?;
        }
        let none = |device: &WeightDevice| device.weight.or(device.leaf_weight).is_none();
        let mut weights = self.block_io.iter().flat_map(|io| &io.weight_device).enumerate();
        if let Some((at, _)) = weights.find(|(_, device)| none(device)) {
            return refuse(format!("blockIO.weightDevice[{at}]"), "neither weight nor leafWeight");
        }
        let none = |rdma: &Rdma| rdma.hca_handles.or(rdma.hca_objects).is_none();
        if let Some((name, _)) = self.rdma.iter().find(|(_, rdma)| none(rdma)) {
            return refuse(format!("rdma {name:?}"), "neither hcaHandles nor hcaObjects");
        }
        if let Some(name) = self.rdma.keys().find(|name| !is_file_name(name)) {
            return refuse("rdma", format!("{name:?} is not a valid device name"));
        }
        match self.unified.keys().find(|name| !is_file_name(name)) {
            Some(name) => refuse("unified", format!("{name:?} is not a valid file name")),
            None => Ok(()),
        }
    }
}

impl DeviceRule {
    fn check(&self) -> Result<()> {
        if let Some(kind) = self.kind.as_deref()
            && !matches!(kind, "a" | "b" | "c")
        {
            return refuse("type", format!("{kind:?} is not a, b or c"));
        }
        if !self.access.bytes().all(|access| b"rwm".contains(&access)) {
            return refuse(
                "access",
                format!("{:?} has letters other than r, w and m", self.access),
            );
        }
        check_numbers(self.major, self.minor)
    }
}

/// Device numbers: 12 bits and 20 bits (MINORBITS in the kernel's kdev_t.h).
pub(super) fn check_numbers(major: Option<i64>, minor: Option<i64>) -> Result<()> {
    for (key, number, most) in [("major", major, 0xfff), ("minor", minor, 0xf_ffff)] {
        if let Some(number) = number
            && !(0..=most).contains(&number)
        {
            return refuse(key, format!("{number} is not between 0 and {most}"));
        }
    }
    Ok(())
}

/// `64KB`, `2MB`, `1GB`, as in the file names of the hugetlb controller.
fn is_page_size(text: &str) -> bool {
    let number = text.strip_suffix("KB").or(text.strip_suffix("MB")).or(text.strip_suffix("GB"));
    number.is_some_and(|number| {
        (1..=9).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !number.starts_with('0')
    })
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\n', ' '])
}
