//! What a plan must know of the machine. Gathered by the floors above; here it is only data.

use std::path::PathBuf;

use super::id_maps::IdMaps;
use super::seccomp::Filter;

/// The facts that one compilation depends on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The user that the command shall be.
    pub user: User,
    /// The caller has CAP_SYS_ADMIN where it stands; otherwise it needs a user namespace.
    pub privileged: bool,
    /// The caller is in a user namespace other than the first: not all ids are there, and mounts
    /// that came with it cannot be taken apart (mount_namespaces(7)).
    pub confined: bool,
    /// Effective ids of the caller, for the maps of a user namespace.
    pub caller: (u32, u32),
    /// The maps of a new user namespace of a privileged caller's.
    pub user_ids: Option<IdMaps>,
    /// The host's mounts below `/`, in the order of mountinfo.
    pub mounts: Vec<HostMount>,
    /// Landlock's ABI version, 0: none.
    pub landlock: u32,
    /// The capabilities that the caller has and can pass on, a bit for each.
    pub held_capabilities: u64,
    /// The highest capability that the kernel knows.
    pub last_capability: u8,
    /// The cgroup.procs files through which the child joins its cgroups.
    pub cgroup_files: Vec<PathBuf>,
    /// What is seen of the cgroup trees: its own part.
    pub cgroups: Vec<CgroupMount>,
    /// The command's seccomp filter.
    pub seccomp: Option<Filter>,
    /// The filter of the init, which is pid 1.
    pub init_seccomp: Filter,
    /// The host's /etc/hosts; empty where it is not needed.
    pub hosts: Vec<u8>,
    /// The sandbox's own addresses, for its host name.
    pub addresses: Vec<String>,
    /// Someone must be told the child's process id before it goes on.
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

/// One line of /proc/self/mountinfo, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Where it is.
    pub target: PathBuf,
    /// The file system's type.
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
    /// Options of the file system, `cpu` or `name=systemd`; none: it is cgroup2.
    pub options: Vec<String>,
}
