//! What the kernel shows of mounts and cgroups, as if it were written by somebody else.
#![no_main]

use garth::cgroup::Hierarchy;
use garth::facts::mounts_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mountinfo = parts.next().unwrap_or_default();
    let cgroup = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let _ = mounts_of(mountinfo);
    let _ = Hierarchy::parse(mountinfo, &cgroup, true);
    let _ = Hierarchy::parse(mountinfo, &cgroup, false);
});
