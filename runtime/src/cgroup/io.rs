//! `--io`: throttles on paths become limits on disks, or an error that says why a limit would have
//! no effect.
//!
//! Reads are issued by the reading process, so they can be limited everywhere. Writes go to memory
//! first, and a kernel thread writes them back later. Only the unified tree attributes these to a
//! cgroup, if the memory controller is in it too and the file system supports it
//! (Documentation/admin-guide/cgroup-v2.rst, "Writeback"). In v1 only direct and synchronous writes
//! are limited, and all others pass: so a limit on writing is refused there.

use serde::{Deserialize, Serialize};

use super::disk::{Found, Machine};
use super::hierarchy::Version;
use crate::config::io::{Throttle, bytes};
use crate::config::oci::{BlockIo, ThrottleDevice};
use crate::{Error, Result};

/// The limits of one disk; `None` leaves a limit unchanged, and zero lifts it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct DiskLimits {
    /// `major:minor`.
    pub device: String,
    /// Its name in /sys/block.
    pub name: String,
    /// How the given path led to it.
    pub words: String,
    /// Bytes read per second.
    pub read: Option<u64>,
    /// Bytes written per second.
    pub write: Option<u64>,
    /// Read operations per second.
    pub riops: Option<u64>,
    /// Write operations per second.
    pub wiops: Option<u64>,
}

/// File systems that attribute writeback to a cgroup (SB_I_CGROUPWB).
const TELL: [&str; 7] = ["ext2", "ext3", "ext4", "btrfs", "f2fs", "xfs", "bcachefs"];

const UNIFIED: &str = "boot with cgroup v2 only (cgroup_no_v1=all), or limit only read= and riops=";

/// Finds the disks below the paths of `throttles`; `version` has the controller.
///
/// # Errors
/// A path that does not exist or is not on a disk, a limit that would have no effect, or two that
/// contradict each other.
pub fn resolve(throttles: &[Throttle], version: Version) -> Result<Vec<DiskLimits>> {
    match throttles {
        [] => Ok(Vec::new()),
        throttles => resolve_on(&Machine::read()?, throttles, version),
    }
}

pub(super) fn resolve_on(
    machine: &Machine,
    throttles: &[Throttle],
    version: Version,
) -> Result<Vec<DiskLimits>> {
    let mut limits: Vec<DiskLimits> = Vec::new();
    for throttle in throttles {
        let path = throttle.path.display();
        let within = |error: Error| error.within(format_args!("--io {path}"));
        let found = machine.find(&throttle.path).map_err(within)?;
        check_writes(throttle, &found, version).map_err(within)?;
        for (device, name) in found.disks {
            let words = format!("{path} is {}", found.words);
            let new = DiskLimits {
                device,
                name,
                words,
                read: throttle.read.map(bytes),
                write: throttle.write.map(bytes),
                riops: throttle.riops,
                wiops: throttle.wiops,
            };
            match limits.iter_mut().find(|known| known.device == new.device) {
                Some(known) => known.merge(&new).map_err(within)?,
                None => limits.push(new),
            }
        }
    }
    Ok(limits)
}

fn check_writes(throttle: &Throttle, found: &Found, version: Version) -> Result<()> {
    if !throttle.limits_writes() {
        return Ok(());
    }
    match (version, &found.kind) {
        (Version::V1, _) => Err(Error::new(
            "a write limit has no effect here: cgroup v1 cannot attribute buffered writes to a \
             cgroup",
        )
        .hint(UNIFIED)),
        (Version::V2, Some(kind)) if !TELL.contains(&kind.as_str()) => Err(Error::new(format!(
            "a write limit has no effect: {kind} does not attribute writes to cgroups"
        ))
        .hint(format!("file systems that do: {}", TELL.join(", ")))),
        _ => Ok(()),
    }
}

impl DiskLimits {
    /// Two paths may be on one disk, which has one limit of each kind.
    fn merge(&mut self, other: &DiskLimits) -> Result<()> {
        let name = self.name.clone();
        let put = |place: &mut Option<u64>, value: Option<u64>, key: &str| match (*place, value) {
            (Some(one), Some(two)) if one != two => {
                Err(Error::new(format!("conflicting {key}= for {name}: {one} and {two}"))
                    .hint("the paths are on the same disk, which has one limit of each kind"))
            }
            (known, new) => {
                *place = known.or(new);
                Ok(())
            }
        };
        put(&mut self.read, other.read, "read")?;
        put(&mut self.write, other.write, "write")?;
        put(&mut self.riops, other.riops, "riops")?;
        put(&mut self.wiops, other.wiops, "wiops")?;
        if other.words != self.words {
            self.words += &format!(", {}", other.words);
        }
        Ok(())
    }
}

/// The error for a hybrid setup with the io controller in the unified tree.
pub(super) fn memory_is_elsewhere() -> Error {
    Error::new(
        "a write limit has no effect here: the memory controller is in cgroup v1, and buffered \
         writes are attributed to a cgroup only if it is in cgroup v2",
    )
    .hint(UNIFIED)
}

/// The limits as in config.json.
pub(super) fn block_io(limits: &[DiskLimits]) -> BlockIo {
    let list = |of: fn(&DiskLimits) -> Option<u64>| -> Vec<ThrottleDevice> {
        let one = |disk: &DiskLimits| {
            let (major, minor) = disk.device.split_once(':')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(ThrottleDevice { major, minor, rate: of(disk)? })
        };
        limits.iter().filter_map(one).collect()
    };
    BlockIo {
        throttle_read_bps_device: list(|disk| disk.read),
        throttle_write_bps_device: list(|disk| disk.write),
        throttle_read_iops_device: list(|disk| disk.riops),
        throttle_write_iops_device: list(|disk| disk.wiops),
        ..BlockIo::default()
    }
}
