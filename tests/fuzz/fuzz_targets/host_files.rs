//! What the kernel shows of mounts and cgroups, as if it were written by somebody else.
#![no_main]

use garth::host::cgroup::Hierarchy;
use garth::host::facts::parse_mountinfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (mountinfo, cgroup) = text.split_once('\0').unwrap_or((text, ""));
    let _ = parse_mountinfo(mountinfo.as_bytes());
    let _ = Hierarchy::parse(mountinfo, cgroup, true);
    let _ = Hierarchy::parse(mountinfo, cgroup, false);
});
