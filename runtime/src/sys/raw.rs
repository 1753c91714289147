//! System calls by inline assembly: no libc, so no `errno` in thread-local storage, which a child
//! that shares memory with its parent (CLONE_VM) would overwrite. None of these allocate, lock or
//! panic; all of them may be used between clone3 and execve.

use core::ffi::CStr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use super::{CStrings, Errno, arch};

/// An open file descriptor of the child. Plain and copyable: the child never closes on drop, as its
/// descriptors are close-on-exec.
pub type RawFd = i32;

/// The current working directory, where a directory descriptor is expected (openat(2)).
pub const AT_FDCWD: RawFd = libc::AT_FDCWD;

type Result<T> = core::result::Result<T, Errno>;

/// Makes a system call and converts `-errno`.
///
/// # Safety
/// Same as the system call `number`: pointers must be valid for what the kernel does with them.
#[inline(always)]
pub unsafe fn syscall(number: i64, args: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { arch::syscall(number as usize, args) };
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Six arguments; those not given are zero.
macro_rules! arguments {
    (0 0 0 0 0 0;) => { [0usize; 6] };
    ($($zero:literal)*; $($arg:expr),*) => {{
        let given = [$($arg as usize),*];
        let mut all = [0usize; 6];
        all[..given.len()].copy_from_slice(&given);
        all
    }};
}

/// One system call, whose arguments are numbers or pointers that the borrow checker has seen.
macro_rules! call {
    ($number:expr $(, $arg:expr)*) => {{
        let args = $crate::sys::raw::arguments!(0 0 0 0 0 0; $($arg),*);
        // SAFETY: every pointer among the arguments comes from a reference or slice parameter of
        // the enclosing function, passed with its own length, and outlives the call.
        unsafe { $crate::sys::raw::syscall($number, args) }
    }};
}

pub(super) use {arguments, call};

/// A descriptor that the kernel has just made, for owners that close it on drop. Nothing else may
/// own it.
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: as above: this module's functions hand each new descriptor to one caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor of the child for rustix, for one call. EBADF: it is the number that means none.
pub(super) fn borrowed<'a>(fd: RawFd) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: it is not -1. The kernel itself checks whether it is open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

// ---- files ------------------------------------------------------------------------------------

/// close(2).
pub fn close(fd: RawFd) {
    let _ = call!(libc::SYS_close, fd);
}

/// close_range(2), Linux 5.9 (flags: 5.11): applies `flags` (CLOSE_RANGE_CLOEXEC) to all
/// descriptors from `first` on, or closes them.
pub fn close_range(first: u32, flags: u32) -> Result<()> {
    call!(libc::SYS_close_range, first, u32::MAX, flags).map(drop)
}

/// Closes the descriptors from `first` to `last`.
pub fn close_fds(first: u32, last: u32) -> Result<()> {
    call!(libc::SYS_close_range, first, last, 0).map(drop)
}

/// write(2): writes all of `bytes` or fails.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<()> {
    let written = call!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len())?;
    if written == bytes.len() { Ok(()) } else { Err(Errno(libc::EIO)) }
}

/// pipe2(2): the read end and the write end, close-on-exec.
pub fn pipe() -> Result<[RawFd; 2]> {
    let mut ends: [RawFd; 2] = [-1; 2];
    call!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok(ends)
}

/// memfd_create(2): an empty memory file; close-on-exec.
pub fn memory_file(name: &CStr) -> Result<RawFd> {
    call!(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC).map(|fd| fd as RawFd)
}

/// read(2): how many bytes were read.
pub fn read(fd: RawFd, bytes: &mut [u8]) -> Result<usize> {
    call!(libc::SYS_read, fd, bytes.as_mut_ptr(), bytes.len())
}

/// read(2) of one byte, for a pipe that is never written to: sleeps until it has no writer.
pub fn await_end(reader: RawFd) -> Result<()> {
    let mut byte = 0u8;
    call!(libc::SYS_read, reader, &raw mut byte, 1).map(drop)
}

/// dup3(2): makes `new` a copy of `old`, without close-on-exec.
pub fn dup2(old: RawFd, new: RawFd) -> Result<()> {
    call!(libc::SYS_dup3, old, new, 0).map(drop)
}

/// The descriptor, or in place of one of the first three a copy above those; close-on-exec.
pub fn above_stdio(fd: RawFd) -> Result<RawFd> {
    if fd > 2 {
        return Ok(fd);
    }
    let copy = call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 3)?;
    close(fd);
    Ok(copy as RawFd)
}

/// fcntl(F_SETFD): sets or clears close-on-exec.
pub fn set_cloexec(fd: RawFd, on: bool) -> Result<()> {
    call!(libc::SYS_fcntl, fd, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }).map(drop)
}

/// Is this descriptor open for writing (fcntl(F_GETFL))?
pub fn is_open_for_writing(fd: RawFd) -> bool {
    const O_PATH: usize = libc::O_PATH as usize;
    call!(libc::SYS_fcntl, fd, libc::F_GETFL).is_ok_and(|flags| {
        flags & O_PATH == 0 && flags & libc::O_ACCMODE as usize != libc::O_RDONLY as usize
    })
}

/// mkdirat(2).
pub fn mkdirat(dir: RawFd, path: &CStr, mode: u32) -> Result<()> {
    call!(libc::SYS_mkdirat, dir, path.as_ptr(), mode).map(drop)
}

/// unlinkat(2) of a file.
pub fn unlinkat(dir: RawFd, path: &CStr) -> Result<()> {
    call!(libc::SYS_unlinkat, dir, path.as_ptr(), 0).map(drop)
}

/// mknodat(2).
pub fn mknodat(dir: RawFd, path: &CStr, mode: u32, device: u64) -> Result<()> {
    call!(libc::SYS_mknodat, dir, path.as_ptr(), mode, device).map(drop)
}

/// fchownat(2), of the link itself if it is one.
pub fn fchownat(dir: RawFd, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    call!(libc::SYS_fchownat, dir, path.as_ptr(), uid, gid, flags).map(drop)
}

/// fchown(2): changes the owner and keeps the group.
pub fn fchown(fd: RawFd, uid: u32) -> Result<()> {
    call!(libc::SYS_fchown, fd, uid, u32::MAX).map(drop)
}

/// fchmodat(2).
pub fn fchmodat(dir: RawFd, path: &CStr, mode: u32) -> Result<()> {
    call!(libc::SYS_fchmodat, dir, path.as_ptr(), mode).map(drop)
}

/// symlinkat(2): makes `path` below `dir` a link to `text`.
pub fn symlinkat(text: &CStr, dir: RawFd, path: &CStr) -> Result<()> {
    call!(libc::SYS_symlinkat, text.as_ptr(), dir, path.as_ptr()).map(drop)
}

/// The result of [`stat`].
#[derive(Clone, Copy)]
pub struct Stat {
    /// Its inode number.
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// The device of a device file, as makedev(3) packs it.
    pub rdev: u64,
    /// User and group.
    pub owner: (u32, u32),
    /// Modification time, in seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// fstat(2) of an open descriptor, O_PATH included.
pub fn stat(fd: RawFd) -> Result<Stat> {
    // SAFETY: libc::stat is plain integers, for which all zeroes is a value.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    call!(libc::SYS_fstat, fd, &raw mut stat)?;
    Ok(Stat {
        inode: stat.st_ino,
        mode: stat.st_mode,
        rdev: stat.st_rdev,
        owner: (stat.st_uid, stat.st_gid),
        modified: (stat.st_mtime, stat.st_mtime_nsec),
    })
}

/// Is this open file on a proc file system?
pub fn is_procfs(fd: RawFd) -> Result<bool> {
    Ok(statfs(fd)?.f_type == libc::PROC_SUPER_MAGIC)
}

/// fstatfs(2).
pub(super) fn statfs(fd: RawFd) -> Result<libc::statfs64> {
    // SAFETY: statfs64 is plain numbers, for which all zeroes is a value.
    let mut stat: libc::statfs64 = unsafe { core::mem::zeroed() };
    call!(libc::SYS_fstatfs, fd, &raw mut stat)?;
    Ok(stat)
}

/// The flags MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC of this open file's mount (fstatfs(2),
/// which uses the same bits).
pub fn mount_flags(fd: RawFd) -> Result<u64> {
    const ATTRIBUTES: u64 = 0xf;
    Ok(statfs(fd)?.f_flags as u64 & ATTRIBUTES)
}

/// Is this open directory the root of a proc file system, not just part of one?
pub fn is_procfs_root(fd: RawFd) -> Result<bool> {
    // fs/proc/root.c: PROC_ROOT_INO.
    const ROOT: u64 = 1;
    Ok(is_procfs(fd)? && stat(fd)?.inode == ROOT)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    call!(libc::SYS_chdir, path.as_ptr()).map(drop)
}

/// fchdir(2).
pub fn fchdir(fd: RawFd) -> Result<()> {
    call!(libc::SYS_fchdir, fd).map(drop)
}

/// Is the current directory below the root? If not, getcwd(2) returns `(unreachable)/...`.
pub fn is_below_root() -> Result<bool> {
    let mut path = [0u8; 4096];
    match call!(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) {
        // If it cannot be determined, it could be outside.
        Err(Errno(libc::ERANGE | libc::ENAMETOOLONG)) => Ok(false),
        result => result.map(|_| path[0] == b'/'),
    }
}

/// Does `path` exist (faccessat(2), which filters allow)?
pub fn is_there(path: &CStr) -> bool {
    call!(libc::SYS_faccessat, AT_FDCWD, path.as_ptr(), libc::F_OK).is_ok()
}

/// umask(2).
pub fn umask(mask: u32) {
    let _ = call!(libc::SYS_umask, mask);
}

// ---- mounts -----------------------------------------------------------------------------------

/// open_tree(2), Linux 5.2: a detached copy of the mount (`recursive`: with all below) at `path`.
pub fn open_tree(dir: RawFd, path: &CStr, recursive: bool) -> Result<RawFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    call!(libc::SYS_open_tree, dir, path.as_ptr(), flags).map(|fd| fd as RawFd)
}

/// The same, recursive, of `name` itself even if that is a link.
pub fn open_tree_no_follow(dir: RawFd, name: &CStr) -> Result<RawFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let flags = flags | (libc::AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW) as u32;
    call!(libc::SYS_open_tree, dir, name.as_ptr(), flags).map(|fd| fd as RawFd)
}

/// mount(2) of a file system on the current directory.
pub fn mount_here(source: &CStr, kind: &CStr, options: &CStr) -> Result<()> {
    let (source, kind, options) = (source.as_ptr(), kind.as_ptr(), options.as_ptr());
    call!(libc::SYS_mount, source, c".".as_ptr(), kind, 0, options).map(drop)
}

/// move_mount(2), Linux 5.2: attaches the mount `from` at the directory or file `to`, both open.
pub fn move_mount(from: RawFd, to: RawFd) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    call!(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags).map(drop)
}

/// Mount attributes to set and clear (MOUNT_ATTR_*) and a propagation type (MS_PRIVATE, ... or 0).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct MountAttr {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0: unchanged.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount.
    pub userns: u64,
}

/// mount_setattr(2), Linux 5.12, on an open mount; `recursive`: on all mounts below it as well.
pub fn mount_setattr(mount: RawFd, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<MountAttr>();
    call!(libc::SYS_mount_setattr, mount, c"".as_ptr(), flags, &raw const *attr, size).map(drop)
}

/// fsopen(2), Linux 5.2: a context for a new file system of type `kind`.
pub fn fsopen(kind: &CStr) -> Result<RawFd> {
    call!(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC).map(|fd| fd as RawFd)
}

/// fsconfig(2): `key=value`, or the flag `key`.
pub fn fsconfig_set(context: RawFd, key: &CStr, value: Option<&CStr>) -> Result<()> {
    const FSCONFIG_SET_FLAG: u32 = 0;
    const FSCONFIG_SET_STRING: u32 = 1;
    match value {
        Some(value) => {
            let command = FSCONFIG_SET_STRING;
            call!(libc::SYS_fsconfig, context, command, key.as_ptr(), value.as_ptr(), 0)
        }
        None => call!(libc::SYS_fsconfig, context, FSCONFIG_SET_FLAG, key.as_ptr(), 0, 0),
    }
    .map(drop)
}

/// fsconfig(FSCONFIG_CMD_CREATE) and fsmount(2): the configured file system as a detached mount.
pub fn fsmount(context: RawFd, attr: u64) -> Result<RawFd> {
    const FSCONFIG_CMD_CREATE: u32 = 6;
    call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
    call!(libc::SYS_fsmount, context, libc::FSMOUNT_CLOEXEC, attr).map(|fd| fd as RawFd)
}

/// pivot_root(".", "."): the current directory becomes the root, with the old root mounted on top
/// of it (pivot_root(2), NOTES).
pub fn pivot_root_here() -> Result<()> {
    call!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()).map(drop)
}

/// chroot(".").
pub fn chroot_here() -> Result<()> {
    call!(libc::SYS_chroot, c".".as_ptr()).map(drop)
}

/// umount2(MNT_DETACH).
pub fn detach(path: &CStr) -> Result<()> {
    call!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH).map(drop)
}

/// umount2(MNT_DETACH) of what is mounted on `name`; a link is not followed.
pub fn detach_no_follow(name: &CStr) -> Result<()> {
    let flags = libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW;
    call!(libc::SYS_umount2, name.as_ptr(), flags).map(drop)
}

// ---- namespaces -------------------------------------------------------------------------------

/// unshare(2).
pub fn unshare(flags: i32) -> Result<()> {
    call!(libc::SYS_unshare, flags).map(drop)
}

/// setns(2): `fd` is a namespace file, or (Linux 5.8) a pidfd with several CLONE_NEW* in `flags`.
pub fn setns(fd: RawFd, flags: i32) -> Result<()> {
    call!(libc::SYS_setns, fd, flags).map(drop)
}

/// sethostname(2).
pub fn sethostname(name: &[u8]) -> Result<()> {
    call!(libc::SYS_sethostname, name.as_ptr(), name.len()).map(drop)
}

/// setdomainname(2).
pub fn setdomainname(name: &[u8]) -> Result<()> {
    call!(libc::SYS_setdomainname, name.as_ptr(), name.len()).map(drop)
}

/// Brings the interface `lo` of the current network namespace up (netdevice(7)).
pub fn loopback_up() -> Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = call!(libc::SYS_socket, libc::AF_INET, kind, 0)? as RawFd;
    let mut request = interface("lo");
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    let done = call!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, &raw const request);
    close(socket);
    done.map(drop)
}

/// A request about an interface (netdevice(7)).
pub(super) fn interface(name: &str) -> libc::ifreq {
    // SAFETY: libc::ifreq is plain integers and a union of them, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

// ---- identity and privileges ------------------------------------------------------------------

/// setgroups(2).
pub fn setgroups(groups: &[u32]) -> Result<()> {
    call!(libc::SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}

/// setresgid(2), for this task alone: glibc's wrapper would signal every thread of the process, and
/// in a child that shares memory those are not its own.
pub fn setgid(gid: u32) -> Result<()> {
    call!(libc::SYS_setresgid, gid, gid, gid).map(drop)
}

/// setresuid(2), for this task alone (see [`setgid`]).
pub fn setuid(uid: u32) -> Result<()> {
    call!(libc::SYS_setresuid, uid, uid, uid).map(drop)
}

/// prctl(2) with number arguments.
pub fn prctl(option: i32, a: usize, b: usize) -> Result<usize> {
    call!(libc::SYS_prctl, option, a, b, 0, 0)
}

/// The three per-thread capability sets that capset(2) sets, one bit per capability.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CapSets {
    /// What the thread may use now.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What it may keep across an execve of a file with inheritable capabilities.
    pub inheritable: u64,
}

/// capset(2), version 3 (Linux 2.6.26).
pub fn capset(sets: CapSets) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let half = |shift: u32| {
        [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> shift) as u32)
    };
    let data: [[u32; 3]; 2] = [half(0), half(32)];
    call!(libc::SYS_capset, header.as_ptr(), data.as_ptr()).map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING): a new anonymous session keyring; with a name, an existing
/// keyring of that name would be joined (keyctl(2)).
pub fn new_session_keyring() -> Result<()> {
    call!(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0).map(drop)
}

/// One instruction of a classic BPF program, as struct sock_filter lays it out.
pub type BpfInstruction = [u8; 8];

/// seccomp(SECCOMP_SET_MODE_FILTER): adds `program` to this task's filters (seccomp(2), Linux
/// 3.17). With the flag NEW_LISTENER the result is the supervisor's descriptor, otherwise 0.
pub fn seccomp_filter(program: &[BpfInstruction], flags: u32) -> Result<RawFd> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const BpfInstruction,
    }
    let program = Program { len: program.len() as u16, filter: program.as_ptr() };
    call!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        .map(|fd| fd as RawFd)
}

/// landlock_create_ruleset(2): the rights in `handled` are denied unless a rule grants them.
/// `scoped` (ABI 6): LANDLOCK_SCOPE_*.
pub fn landlock_create(handled: u64, scoped: u64) -> Result<RawFd> {
    let attr: [u64; 3] = [handled, 0, scoped];
    // A kernel that does not know the later fields refuses them (E2BIG) unless they are zero.
    call!(libc::SYS_landlock_create_ruleset, attr.as_ptr(), size_of_val(&attr), 0)
        .map(|fd| fd as RawFd)
}

/// landlock_add_rule(2): grants `access` below the open file or directory `parent`.
pub fn landlock_allow(ruleset: RawFd, parent: RawFd, access: u64) -> Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: i32,
    }
    const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
    let rule = PathBeneath { access, parent };
    let kind = LANDLOCK_RULE_PATH_BENEATH;
    call!(libc::SYS_landlock_add_rule, ruleset, kind, &raw const rule, 0).map(drop)
}

/// landlock_restrict_self(2).
pub fn landlock_restrict(ruleset: RawFd) -> Result<()> {
    call!(libc::SYS_landlock_restrict_self, ruleset, 0).map(drop)
}

// ---- process ----------------------------------------------------------------------------------

/// prlimit64(2) on this process.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit: [u64; 2] = [soft, hard];
    call!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), 0).map(drop)
}

/// setsid(2).
pub fn setsid() -> Result<()> {
    call!(libc::SYS_setsid).map(drop)
}

/// setpgid(0, group); 0 makes a group of its own.
pub fn setpgid(group: i32) -> Result<()> {
    call!(libc::SYS_setpgid, 0, group).map(drop)
}

/// Sets the signal mask of this task: bit n-1 is signal n.
pub fn set_signal_mask(mask: u64) -> Result<()> {
    let set = libc::SIG_SETMASK;
    call!(libc::SYS_rt_sigprocmask, set, &raw const mask, 0, size_of::<u64>()).map(drop)
}

/// Sets signal `signal` to its default action, or to be ignored.
pub fn set_disposition(signal: i32, ignore: bool) -> Result<()> {
    // struct kernel_sigaction: handler, flags, restorer, mask.
    let action: [usize; 4] = [if ignore { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
    call!(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, size_of::<u64>()).map(drop)
}

/// Is the process behind `pidfd` gone (poll(2) reports readable)? False for a closed descriptor,
/// about which nothing is known.
pub fn has_exited(pidfd: RawFd) -> bool {
    poll_now(pidfd, libc::POLLIN).is_ok_and(|there| there & libc::POLLIN != 0)
}

/// poll(2) of one descriptor, without waiting: which of `events`, POLLHUP and POLLERR are set.
pub(super) fn poll_now(fd: RawFd, events: i16) -> Result<i16> {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    self::poll(core::slice::from_mut(&mut poll), Some(0))?;
    Ok(poll.revents)
}

/// poll(2): how many are ready; `timeout` in milliseconds. Not every architecture has a call of
/// that name.
pub(super) fn poll(polls: &mut [libc::pollfd], timeout: Option<u32>) -> Result<usize> {
    let mut time = [0i64; 2];
    let at = timeout.map_or(core::ptr::null_mut(), |milliseconds| {
        time = [i64::from(milliseconds) / 1000, i64::from(milliseconds) % 1000 * 1_000_000];
        time.as_mut_ptr()
    });
    call!(libc::SYS_ppoll, polls.as_mut_ptr(), polls.len(), at, 0, size_of::<u64>())
}

/// execve(2); returns only on failure.
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    match call!(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno(libc::ENOEXEC),
    }
}

/// execveat(2) of the open file `fd` itself; returns only on failure.
pub fn execveat(fd: RawFd, argv: &CStrings, envp: &CStrings) -> Errno {
    let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    match call!(libc::SYS_execveat, fd, path, argv.as_ptr(), envp.as_ptr(), flags) {
        Err(errno) => errno,
        Ok(_) => Errno(libc::ENOEXEC),
    }
}

/// Executes the open file `fd` as `name NUMBER`, with no environment; returns only on failure. The
/// number is written on the stack, as the child cannot allocate.
pub fn exec_with_number(fd: RawFd, name: &CStr, number: u32) -> Errno {
    let mut digits = [0u8; 12];
    let mut at = digits.len() - 1;
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let argv = [name.as_ptr(), digits[at..].as_ptr().cast(), core::ptr::null()];
    let envp = [core::ptr::null::<libc::c_char>()];
    let flags = libc::AT_EMPTY_PATH;
    match call!(libc::SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), flags) {
        Err(errno) => errno,
        Ok(_) => Errno(libc::ENOEXEC),
    }
}

/// exit_group(2).
pub fn exit(code: i32) -> ! {
    let _ = call!(libc::SYS_exit_group, code);
    // A seccomp filter refused it. exit(2) of the last thread cannot be refused.
    let _ = call!(libc::SYS_exit, code);
    arch::undefined()
}

/// futex(FUTEX_WAIT): sleeps while `word` holds `value`. Spurious returns are possible.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32) {
    let _ = call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, 0);
}

/// futex(FUTEX_WAKE): wakes one sleeper.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    let _ = call!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
}
