//! The steps that a child can take. Each is complete: every string already a C string, every
//! program assembled. What a step does is in `start/child.rs`, one function per step; how it
//! describes itself is in `explain.rs`.

use std::ffi::CString;

use super::seccomp::Filter;
use crate::sys::CStrings;
use crate::sys::raw::{CapSets, MountAttr};
use crate::sys::task::SchedulerAttr;

/// A step, and the request it came from (`-v /a:/b`, `default`).
#[derive(Debug)]
pub struct Planned {
    /// What is done.
    pub step: Step,
    /// Where the request came from.
    pub origin: String,
    /// What to do if it is refused.
    pub otherwise: Otherwise,
}

/// What the child does when a step is refused. Only for what was not asked for by name: a sandbox
/// can start where not all of the usual is available, such as in a container; but what was asked
/// for is provided, or the start fails.
#[derive(Debug, Default)]
pub enum Otherwise {
    /// The start fails.
    #[default]
    Fail,
    /// The child goes on without it; and what that means, if it makes a difference.
    Without(Option<&'static str>),
    /// This step is taken instead; and what that means, if it makes a difference.
    Instead(Box<Step>, Option<&'static str>),
}

/// One action of the child.
#[derive(Debug)]
pub enum Step {
    /// PR_SET_PDEATHSIG(SIGKILL): die with the thread that started us; immediately, if it is gone.
    DieWithParent,
    /// No longer die with the parent: from here on the process is on record.
    Survive,
    /// PR_SET_DUMPABLE(0): no ptrace, no /proc/PID/mem, until execve.
    NotDumpable,
    /// Every inherited descriptor from this number on is closed at execve.
    CloseOnExec {
        /// 3, or more if the program inherits some.
        from: u32,
    },
    /// Close every descriptor from a number on but these. What is only closed at execve can still
    /// be reached through /proc/self/fd by paths that lead to the program (CVE-2024-21626).
    CloseAllBut {
        /// The first to close.
        from: u32,
        /// Those that stay open, in ascending order.
        keep: Vec<i32>,
    },
    /// Make descriptor `to` a copy of descriptor `from`, or close it.
    Descriptor {
        /// The number that the program will see.
        to: i32,
        /// The open descriptor to copy; `None`: close `to`.
        from: Option<i32>,
    },
    /// Write to a file of the host's /proc or /sys.
    Write {
        /// Absolute path outside.
        path: CString,
        /// All the data, in one write(2).
        data: Vec<u8>,
    },
    /// Write to a file of the proc file system at /proc: that one and no other, since in a joined
    /// mount namespace another process may have put something in its place (CVE-2025-52881).
    WriteProc {
        /// Below /proc, such as `sys/net/ipv4/ip_forward`.
        file: CString,
        /// All the data, in one write(2).
        data: Vec<u8>,
    },
    /// Tell the parent that it can do its part: record, cgroups, network; over the channel.
    Begun,
    /// Wait until the parent has done its part: id maps, record, network.
    AwaitGo,
    /// Wait until the parent has written the id maps; over the channel.
    AwaitMaps,
    /// Go on in a second process of the same parent, and end this one: only children enter a pid
    /// namespace that was joined, or made by unshare(2).
    Sibling,
    /// The root is complete, but not entered yet: wait until the parent has run the hooks.
    Mounted,
    /// Everything is ready but the program: tell the parent, and detach from it. Then wait until a
    /// process connects to the descriptor `listener` and says `Go`.
    Ready {
        /// A listening socket; `None`: do not wait.
        listener: Option<i32>,
    },
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
    /// setdomainname(2).
    Domainname(Vec<u8>),
    /// Bring `lo` up.
    LoopbackUp,
    /// Set the propagation of every mount, so that nothing done here reaches the host.
    Propagation(u64),
    /// Mount the new root over a directory; further mount targets are all resolved below it.
    Root {
        /// Absolute path outside.
        source: CString,
        /// Where it is mounted: `/`, or over itself, where hooks look for it.
        over: CString,
        /// With the mounts below it.
        recursive: bool,
        /// Attributes of all its mounts.
        attr: MountAttr,
    },
    /// Mount a file with this text over an existing one, read-only.
    Cover {
        /// The file.
        path: Path,
        /// Its contents.
        text: Vec<u8>,
        /// An in-memory directory of the sandbox's own, in which the file is made.
        beside: Path,
    },
    /// Mount something below the root.
    Mount(MountStep),
    /// Make a device file, by number; an existing one stays, if it is the same device.
    Device {
        /// Where.
        path: Path,
        /// Its type (S_IFCHR, S_IFBLK, S_IFIFO) and permissions.
        mode: u32,
        /// As makedev(3) packs it.
        device: u64,
        /// User and group; `None`: the maker's own.
        owner: Option<(u32, u32)>,
    },
    /// Make a directory and its parents, unless it exists.
    MakeDirectory {
        /// Where.
        path: Path,
        /// User and group; `None`: the maker's own.
        owner: Option<(u32, u32)>,
    },
    /// Make a file.
    File {
        /// Where.
        path: Path,
        /// Its contents.
        text: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: Path,
        /// Its text.
        text: CString,
    },
    /// Hide a file behind /dev/null, or a directory behind an empty one.
    Mask(Path),
    /// Make what is at a path read-only.
    ReadOnly(Path),
    /// pivot_root(2) into the new root, and detach the old one.
    Pivot,
    /// Change the attributes or the propagation of the mount at a path.
    Attributes {
        /// A mount point.
        path: Path,
        /// What changes.
        attr: MountAttr,
        /// Including the mounts below it.
        recursive: bool,
    },
    /// Where pivot_root(2) cannot work (an initramfs): move the root over `/`, and chroot(2).
    Chroot {
        /// Leave it where it is: other processes share this `/`.
        in_place: bool,
        /// Mounts of the old root that are removed first, absolute paths in it.
        without: Vec<CString>,
    },
    /// chdir(2) to a directory below the root.
    Directory(CString),
    /// Make a pseudo-terminal on the sandbox's devpts, send its master away, and make it the
    /// controlling terminal and descriptors 0, 1 and 2.
    Terminal {
        /// A connected socket that receives the master.
        socket: i32,
        /// Width and height in characters.
        size: Option<(u16, u16)>,
        /// Mount it over /dev/console, too.
        console: bool,
        /// A newline gets no carriage return before it: the output goes to a file or a pipe.
        plain: bool,
    },
    /// Check that the terminal's master is still held: with the last copy closed the terminal is
    /// gone, and a program without one is not what was asked for. EIO: it is not held.
    TerminalHeld,
    /// setrlimit(2).
    Rlimit {
        /// RLIMIT_*.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Give standard input, output and error to the program's user, who could not open /dev/stdout
    /// otherwise; not /dev/null, and not where it is not permitted.
    StandardFiles {
        /// User id.
        uid: u32,
        /// Only pipes: files and terminals outlive the sandbox, and stay the caller's.
        pipes: bool,
    },
    /// personality(2).
    Personality(u32),
    /// ioprio_set(2).
    IoPriority(u32),
    /// sched_setattr(2).
    Scheduler(SchedulerAttr),
    /// sched_setaffinity(2): a bit for each processor.
    Affinity(Vec<u64>),
    /// sched_setaffinity(2): every processor that the cgroup allows. Where that is not permitted,
    /// the affinity stays as it was.
    AllProcessors,
    /// set_mempolicy(2).
    MemoryPolicy {
        /// MPOL_* with its flags.
        mode: i32,
        /// A bit for each node.
        nodes: Vec<u64>,
    },
    /// Write to a file of this process on a private proc file system, where nothing else can have
    /// been put in its place (CVE-2019-16884).
    WriteOwn {
        /// Below /proc/thread-self, such as `attr/exec`.
        file: CString,
        /// All the data, in one write(2).
        data: Vec<u8>,
    },
    /// umask(2).
    Umask(u32),
    /// PR_SET_SECUREBITS.
    Securebits(u32),
    /// Keep only these capabilities in the bounding set.
    Bounding {
        /// A bit for each capability that stays.
        keep: u64,
        /// The highest capability the kernel knows.
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
        /// What is granted below which path inside. Absent paths are ignored. The files behind
        /// standard input, output and error may also be written, if they are open for that.
        rules: Vec<(CString, u64)>,
    },
    /// Start a second process, which continues the steps; this one becomes the init.
    Fork {
        /// The init's own filter.
        filter: Filter,
        /// What the init keeps of the capabilities: CAP_KILL, if the sandbox has it.
        keep: u64,
    },
    /// In the second process: wait until the first has executed the init.
    AwaitInit,
    /// setsid(2).
    Session,
    /// setpgid(2).
    ProcessGroup(i32),
    /// All signals to their default action (or ignored, by bit), then this mask.
    Signals {
        /// Bit n-1: signal n is ignored.
        ignored: u64,
        /// Bit n-1: signal n is blocked.
        blocked: u64,
    },
    /// Load a seccomp filter. One that notifies yields a descriptor for a supervisor: wait until
    /// the parent has taken it.
    Seccomp(Filter),
    /// Run a hook, with the container's state as its standard input.
    Hook(Box<Hook>),
    /// Check that a program exists, so that a missing one is reported in time.
    Find {
        /// The name as it was asked for.
        name: CString,
        /// The candidates that PATH gives.
        paths: Vec<CString>,
    },
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

/// A hook that the child runs.
#[derive(Debug)]
pub struct Hook {
    /// Absolute path, in the mount namespace of the sandbox.
    pub path: CString,
    /// Its arguments, its name first.
    pub argv: CStrings,
    /// Its environment.
    pub envp: CStrings,
    /// Its working directory; `None`: that of the child.
    pub directory: Option<CString>,
    /// A seccomp filter of its own.
    pub filter: Option<Filter>,
    /// Milliseconds; negative: no timeout.
    pub timeout: i32,
    /// The state as JSON, before and after the process id.
    pub state: [Vec<u8>; 2],
}

/// A path inside the sandbox, relative to the root. The contents of a root file system are not
/// trusted, so no step hands a whole path to the kernel to walk: it is first resolved to a
/// descriptor with RESOLVE_IN_ROOT, and names are created below descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The path without its leading slash; `.` for the root.
    pub whole: CString,
    /// For each component: the directory it is in, and its name. For making what is missing.
    pub parts: Vec<(CString, CString)>,
}

impl Path {
    /// From an absolute path; a part with a NUL byte cannot come from a parser and ends the path.
    pub fn new(path: &std::path::Path) -> Path {
        use std::os::unix::ffi::OsStrExt;
        use std::path::Component;
        let mut so_far = Vec::new();
        let mut parts: Vec<(CString, CString)> = Vec::new();
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                // Lexically, as the specification's paths are read, and not by what exists: a link
                // of a root file system decides nothing. Above the root is the root.
                Component::ParentDir => {
                    let above = parts.pop().map(|(above, _)| above.into_bytes());
                    so_far = above.filter(|above| above != b".").unwrap_or_default();
                    continue;
                }
                _ => continue,
            };
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
    /// Attributes of this mount alone.
    pub attr: MountAttr,
    /// Attributes of this mount and those below it.
    pub recursive: MountAttr,
    /// What changes once it is in place; including the mounts below it, or alone.
    pub finally: Vec<(MountAttr, bool)>,
    /// The files that it covers are copied into it while it is still writable. It takes over the
    /// attributes of the directory that it covers, except those given by name.
    pub copy_up: Option<Named>,
    /// It gets the mode of the directory that it covers, if there was one.
    pub mode_of_target: bool,
    /// The target must not be reached through a symbolic link: programs rely on this mount.
    pub no_links: bool,
    /// How it relates to the proc file system.
    pub procfs: Procfs,
    /// A missing source, or a target that is missing and cannot be made because everything above it
    /// is read-only, means that there is nothing to do. Otherwise a missing target is made: a
    /// directory, or a file if the source is one.
    pub optional: bool,
    /// Where the target is missing and cannot be made, a tmpfs with everything else that exists
    /// there takes the place of the directory.
    pub scaffold: bool,
}

/// Which attributes of a tmpfs' root directory its options name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its mode.
    pub mode: bool,
    /// Its owner.
    pub uid: bool,
    /// Its group.
    pub gid: bool,
}

impl MountStep {
    /// A plain mount of `source` at `target`.
    pub fn new(source: Source, target: Path, attr: MountAttr) -> MountStep {
        MountStep {
            source,
            target,
            attr,
            recursive: MountAttr::default(),
            finally: Vec::new(),
            copy_up: None,
            mode_of_target: false,
            no_links: false,
            procfs: Procfs::Free,
            optional: false,
            scaffold: false,
        }
    }
}

/// Whether a mount may involve a proc file system. Programs rely on what they read and write there,
/// and so do processes that join later; a root file system with a link to it would mount a volume
/// over a part of it (CVE-2019-16884, CVE-2019-19921).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procfs {
    /// Whatever was asked for.
    Free,
    /// It must not be mounted on a part of one.
    Off,
    /// It must itself be one.
    Only,
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
    /// A detached mount that the parent has opened.
    Tree {
        /// Its descriptor.
        fd: i32,
        /// A description.
        name: CString,
        /// What the host has mounted read-only, nosuid, nodev or noexec stays so: the kernel would
        /// not let a child in a user namespace change that on a mount that it had opened itself.
        keeps: bool,
    },
    /// A new file system.
    New {
        /// Its type.
        kind: CString,
        /// Its options; those without a value are flags.
        options: Vec<(CString, Option<CString>)>,
    },
    /// A new file system with options that are too long for fsconfig(2).
    Long {
        /// Its type.
        kind: CString,
        /// Where it comes from.
        source: CString,
        /// Its options as mount(2) takes them.
        options: CString,
    },
}
