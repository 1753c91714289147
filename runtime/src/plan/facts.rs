//! What a plan must know of the machine. Gathered by the layers above; here it is only data.

use std::path::PathBuf;

use super::id_maps::IdMaps;
use super::seccomp::Filter;

/// The facts that one compilation depends on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The user that the command will run as.
    pub user: User,
    /// The caller has CAP_SYS_ADMIN in its own user namespace; otherwise it needs a new one.
    pub privileged: bool,
    /// The caller is in a user namespace other than the first: not all ids are mapped, and mounts
    /// that came with it cannot be separated (mount_namespaces(7)).
    pub confined: bool,
    /// Effective ids of the caller, for the maps of a user namespace.
    pub caller: (u32, u32),
    /// The maps of a privileged caller's new user namespace.
    pub user_ids: Option<IdMaps>,
    /// The host's mounts below `/`, in the order of mountinfo.
    pub mounts: Vec<HostMount>,
    /// Landlock's ABI version; 0: none.
    pub landlock: u32,
    /// The capabilities that the caller has and can pass on, as bits.
    pub held_capabilities: u64,
    /// The highest capability the kernel knows.
    pub last_capability: u8,
    /// The cgroup.procs files through which the child joins its cgroups.
    pub cgroup_files: Vec<PathBuf>,
    /// What the sandbox sees of the cgroup trees: its own part.
    pub cgroups: Vec<CgroupMount>,
    /// The command's seccomp filter.
    pub seccomp: Option<Filter>,
    /// The filter of the init, which is pid 1.
    pub init_seccomp: Filter,
    /// The host's /etc/hosts; empty where it is not needed.
    pub hosts: Vec<u8>,
    /// The sandbox's own addresses, for its host name.
    pub addresses: Vec<String>,
    /// The named volumes.
    pub volumes: Vec<VolumeFact>,
    /// The contents of its secrets, by name.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// The parent must learn the child's process id before the child goes on.
    pub recorded: bool,
}

/// A user, as looked up in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Where a named volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFact {
    /// The index of its mount in the sandbox's.
    pub mount: usize,
    /// The directory outside.
    pub path: PathBuf,
    /// A detached mount of it that the parent has opened, where the child cannot.
    pub tree: Option<i32>,
}

/// One line of /proc/self/mountinfo, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Its mount point.
    pub target: PathBuf,
    /// Its file system type.
    pub kind: String,
}

/// One hierarchy as a container or a sandbox sees it below /sys/fs/cgroup.
#[derive(Debug, Default, Clone)]
pub struct CgroupMount {
    /// The directory's name, `cpu,cpuacct`; empty for a lone unified hierarchy.
    pub name: String,
    /// Other names for it, `cpu`.
    pub links: Vec<String>,
    /// The container's own directory, outside.
    pub own: PathBuf,
    /// Options of the file system, `cpu` or `name=systemd`; `None`: it is cgroup2.
    pub options: Vec<String>,
}
