//! The facts about the machine that a plan depends on.

pub mod idmap;
pub mod mountinfo;
pub mod resolver;
pub mod users;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Capability, CapabilitySet};
use crate::error::{Error, Result};
use crate::plan::HostMount;
use crate::sys::{file, process};

/// The time, since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whether the caller may create namespaces without a user namespace.
pub fn privileged() -> bool {
    has(Capability::CAP_SYS_ADMIN)
}

/// Whether the calling thread has this capability. Not through the crate caps, which takes 5
/// microseconds and returns a hash set.
pub fn has(capability: Capability) -> bool {
    CapabilitySet(process::capabilities()).has(capability)
}

/// Whether the caller is in a user namespace other than the initial one. There, root has power only
/// over a part of the machine. The initial one maps all ids to themselves.
pub fn confined() -> bool {
    static CONFINED: OnceLock<bool> = OnceLock::new();
    *CONFINED.get_or_init(|| {
        let text = file::read_kernel("/proc/self/uid_map").unwrap_or_default();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        words != ["0", "0", "4294967295"]
    })
}

/// Whether the caller is anything but root of the whole machine. Then cgroups, device rules and the
/// like are available only where they were delegated.
pub fn rootless() -> bool {
    confined() || process::effective_ids().0 != 0
}

/// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap, Linux 3.2).
pub fn last_capability() -> Result<u8> {
    static LAST: OnceLock<u8> = OnceLock::new();
    if let Some(last) = LAST.get() {
        return Ok(*last);
    }
    let path = "/proc/sys/kernel/cap_last_cap";
    let text = file::read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let last = text.trim().parse();
    let last = last.map_err(|_| Error::new(format!("{path}: {text:?} is not a number")))?;
    Ok(*LAST.get_or_init(|| last))
}

/// The mounts of this mount namespace.
pub fn mounts() -> Result<Vec<HostMount>> {
    Ok(mounts_of(&mountinfo::read()?))
}

/// Mount points and types in a mountinfo text, without mounts that a later one hides.
pub fn mounts_of(text: &[u8]) -> Vec<HostMount> {
    let mut mounts: Vec<HostMount> = Vec::new();
    for line in mountinfo::lines(text) {
        let target = line.point().to_owned();
        mounts.retain(|earlier| !earlier.target.starts_with(&target));
        mounts.push(HostMount { target, kind: String::from_utf8_lossy(line.kind).into_owned() });
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_a_later_one_hides_is_left_out() {
        let text = br"22 27 0:21 / /proc rw,relatime shared:1 master:2 - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:9 /a\040b /mnt/a\040b\134c rw - xfs /dev/b rw
bad line
";
        let mounts = mounts_of(text);
        let seen: Vec<_> = mounts.iter().map(|m| (m.target.to_str().unwrap(), &*m.kind)).collect();
        assert_eq!(seen, [("/", "ext4"), (r"/mnt/a b\c", "xfs")]);
    }
}
