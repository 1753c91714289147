//! The steps that a child can take. Each is complete: every string already a C string, every
//! program assembled. What a step does is in `start/child.rs`, one function a step; what it says
//! of itself is in `explain.rs`.

use std::ffi::CString;

use super::seccomp::Filter;
use crate::sys::CStrings;
use crate::sys::raw::{CapSets, MountAttr};

/// A step, and which wish it came from (`-v /a:/b`, `default`).
#[derive(Debug)]
pub struct Planned {
    /// What is done.
    pub step: Step,
    /// Who asked for it.
    pub origin: String,
}

/// One act of the child.
#[derive(Debug)]
pub enum Step {
    /// PR_SET_PDEATHSIG(SIGKILL): die with the thread that started us; at once, if it is gone.
    DieWithParent,
    /// No longer die with the parent: from here on the record knows the process.
    Survive,
    /// PR_SET_DUMPABLE(0): no ptrace, no /proc/PID/mem, until execve.
    NotDumpable,
    /// Every inherited descriptor but 0, 1 and 2 is closed at execve.
    CloseOnExec,
    /// Make descriptor `to` a copy of descriptor `from`, or close it.
    Descriptor {
        /// The number that the program will see.
        to: i32,
        /// The open descriptor to copy; none: close `to`.
        from: Option<i32>,
    },
    /// Write to a file of the host's /proc or /sys.
    Write {
        /// Absolute path outside.
        path: CString,
        /// All that is written, in one write(2).
        data: Vec<u8>,
    },
    /// Wait until the parent has done its part: id maps, record, network.
    AwaitGo,
    /// unshare(2).
    Unshare {
        /// CLONE_NEW* flags.
        flags: i32,
    },
    /// Join the namespace of a file such as /run/netns/blue.
    Enter {
        /// Absolute path outside.
        path: CString,
        /// The CLONE_NEW* flag of its kind.
        flags: i32,
    },
    /// Join the namespaces of a process.
    Join {
        /// An open pidfd.
        fd: i32,
        /// CLONE_NEW* flags.
        flags: i32,
    },
    /// sethostname(2).
    Hostname(Vec<u8>),
    /// Bring `lo` up.
    LoopbackUp,
    /// Set the propagation of every mount, so that nothing done here reaches the host.
    Propagation(u64),
    /// Lay the new root over `/`; the targets of all further mounts are resolved below it.
    Root {
        /// Absolute path outside.
        source: CString,
        /// With the mounts below it.
        recursive: bool,
        /// Attributes of all its mounts.
        attr: MountAttr,
    },
    /// Mount something below the root.
    Mount(MountStep),
    /// Make a device file, by number.
    Device {
        /// Where.
        path: Path,
        /// As makedev(3) packs it.
        device: u64,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: Path,
        /// What it says.
        text: CString,
    },
    /// Hide a file behind /dev/null, or a directory behind an empty one.
    Mask(Path),
    /// Make what is at a path read-only.
    ReadOnly(Path),
    /// pivot_root(2) into the new root, and let go of the old one.
    Pivot,
    /// chdir(2).
    Directory(CString),
    /// setrlimit(2).
    Rlimit {
        /// RLIMIT_*.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// umask(2).
    Umask(u32),
    /// PR_SET_SECUREBITS.
    Securebits(u32),
    /// Keep only these capabilities in the bounding set.
    Bounding {
        /// A bit for each capability that stays.
        keep: u64,
        /// The highest one that the kernel knows.
        last: u8,
    },
    /// setgroups(2).
    Groups(Vec<u32>),
    /// setresgid(2) and setresuid(2).
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Permitted capabilities stay for the next step (PR_SET_KEEPCAPS).
        keep_capabilities: bool,
    },
    /// capset(2).
    Capabilities(CapSets),
    /// PR_CAP_AMBIENT_RAISE for each bit.
    Ambient(u64),
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// A fresh session keyring.
    Keyring,
    /// Deny the rights in `handled` outside of `rules`.
    Landlock {
        /// LANDLOCK_ACCESS_FS_* that need a rule.
        handled: u64,
        /// LANDLOCK_SCOPE_*.
        scoped: u64,
        /// What is granted below which path inside. Absent paths are passed over.
        rules: Vec<(CString, u64)>,
    },
    /// Start a second process, which goes on with the steps; this one becomes the init.
    Fork {
        /// The init's own filter.
        filter: Filter,
    },
    /// In the second process: wait until the first has executed the init.
    AwaitInit,
    /// setsid(2).
    Session,
    /// setpgid(2).
    ProcessGroup(i32),
    /// All signals at their default action (or ignored, by bit), then this mask.
    Signals {
        /// Bit n-1: signal n is ignored.
        ignored: u64,
        /// Bit n-1: signal n is blocked.
        blocked: u64,
    },
    /// Load a seccomp filter.
    Seccomp(Filter),
    /// execve(2) of the first of these that exists.
    Exec {
        /// The candidates that PATH gives.
        paths: Vec<CString>,
        /// The program's arguments, its name first.
        argv: CStrings,
        /// Its environment.
        envp: CStrings,
    },
}

/// A path inside the sandbox, relative to the root. What is in a root file system is not trusted,
/// so no step hands a whole path to the kernel to walk: it is resolved with RESOLVE_IN_ROOT to a
/// descriptor first, and names are made below descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The path without its leading slash; `.` for the root.
    pub whole: CString,
    /// For each leading part: the directory it is in, and its name. For making what is missing.
    pub parts: Vec<(CString, CString)>,
}

impl Path {
    /// From an absolute path; a part with a NUL byte cannot come from a parser and ends the path.
    pub fn new(path: &std::path::Path) -> Path {
        use std::os::unix::ffi::OsStrExt;
        let mut so_far = Vec::new();
        let mut parts = Vec::new();
        for part in path.components() {
            let std::path::Component::Normal(name) = part else { continue };
            let Ok(c_name) = CString::new(name.as_bytes()) else { break };
            parts.push((c_path(&so_far), c_name));
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            so_far.extend_from_slice(name.as_bytes());
        }
        Path { whole: c_path(&so_far), parts }
    }
}

fn c_path(bytes: &[u8]) -> CString {
    if bytes.is_empty() { c".".into() } else { CString::new(bytes).unwrap_or_default() }
}

/// A mount below the root.
#[derive(Debug)]
pub struct MountStep {
    /// What.
    pub source: Source,
    /// Where.
    pub target: Path,
    /// Attributes.
    pub attr: MountAttr,
    /// A missing source, or a target that is missing and cannot be made because all above it is
    /// read-only, means that there is nothing to do. Otherwise a missing target is made: a
    /// directory, or a file if the source is one.
    pub optional: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A file or directory of the host.
    Bind {
        /// Absolute path outside.
        path: CString,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new file system.
    New {
        /// Its type.
        kind: CString,
        /// Its options; without a value: flags.
        options: Vec<(CString, Option<CString>)>,
    },
}

/// The id maps of a user namespace, one range each (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First user id inside, first outside, how many.
    pub uid: (u32, u32, u32),
    /// The same for groups.
    pub gid: (u32, u32, u32),
    /// Groups cannot be set (setgroups `deny`): the price of a map written without privilege.
    pub deny_setgroups: bool,
}
