//! What `spec` prints: a configuration to start from, the same as runc's.

use super::{
    Capabilities, Config, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceType, Process,
    Resources, Rlimit, RlimitType, Root, VERSION,
};

/// Files of the host's kernel that are of no use to a container.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Config {
    /// A shell in a read-only root file system `rootfs`. With a user and a group: for a caller
    /// other than root, in a user namespace where it is root, with the caller's network, cgroup and
    /// sysfs.
    ///
    /// Unlike runc's example it has no ambient capabilities: without inheritable ones the kernel
    /// refuses them.
    pub fn example(rootless: Option<(u32, u32)>) -> Config {
        use NamespaceType::{Ipc, Mount as Mounts, Network, Pid, User, Uts};
        let caps = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        let kinds: &[NamespaceType] = match rootless {
            None => &[Pid, Network, Ipc, Uts, Mounts],
            Some(_) => &[Pid, Ipc, Uts, Mounts, User],
        };
        let namespaces = kinds.iter().map(|kind| Namespace { kind: *kind, path: None }).collect();
        let only = |id| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
        let nothing = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
        Config {
            oci_version: VERSION.into(),
            process: Some(Process {
                terminal: true,
                args: strings(&["sh"]),
                env: strings(&[
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=xterm",
                ]),
                cwd: "/".into(),
                capabilities: Some(Capabilities {
                    bounding: caps.clone(),
                    effective: caps.clone(),
                    permitted: caps,
                    ..Capabilities::default()
                }),
                rlimits: vec![Rlimit { kind: RlimitType::Nofile, hard: 1024, soft: 1024 }],
                no_new_privileges: true,
                ..Process::default()
            }),
            root: Some(Root { path: "rootfs".into(), readonly: true }),
            hostname: Some("garth".into()),
            mounts: mounts(rootless.is_some()),
            linux: Some(Linux {
                uid_mappings: rootless.map_or_else(Vec::new, |(uid, _)| only(uid)),
                gid_mappings: rootless.map_or_else(Vec::new, |(_, gid)| only(gid)),
                resources: match rootless {
                    None => Some(Resources { devices: vec![nothing], ..Resources::default() }),
                    Some(_) => None,
                },
                namespaces,
                masked_paths: strings(MASKED),
                readonly_paths: strings(READ_ONLY),
                ..Linux::default()
            }),
            ..Config::default()
        }
    }
}

fn mounts(rootless: bool) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: strings(options),
        ..Mount::default()
    };
    // Group 5 (tty) is not mapped for a caller other than root, and a sysfs belongs to the network
    // namespace, which is the caller's.
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut sys = mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    if rootless {
        pts.pop();
        sys = mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
    }
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
