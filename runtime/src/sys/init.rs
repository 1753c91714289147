//! The program that stays behind when a sandbox has been started, as a sealed file in memory.
//!
//! `init/main.rs` is the program and says what it does; build.rs compiles it; here its bytes become
//! an fd that can be executed and nothing else. Two processes run it:
//!
//! - **pid 1 of a sandbox**, `[INIT, child pid]`. The caller, already pid 1 and the parent of the
//!   running command, blocks all signals (one that comes before the exec must wait, not be lost),
//!   leaves no fd open beyond 0, 1, 2 without CLOEXEC, and executes the file. It passes an empty
//!   environment: what lies on the stack of pid 1 can be read by nobody, but costs memory. A seccomp
//!   filter must allow execveat, close_range, rt_sigprocmask, rt_sigaction, wait4,
//!   rt_sigtimedwait, kill and exit_group.
//! - **the keeper of a detached sandbox**, `[KEEPER, pid, fd, arguments...]`, the parent of `pid`,
//!   outside. It keeps its environment and its fds for the program open at `fd`, which it becomes
//!   when `pid` has ended; an argument `{status}` is replaced by the exit status.
//!
//! Either ends with 125 when it cannot do its work.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Errno;

/// `argv[0]` of pid 1.
pub const INIT: &CStr = c"garth-init";
/// `argv[0]` of a detached sandbox's parent.
pub const KEEPER: &CStr = c"garth-keeper";
/// The keeper's argument that stands for the exit status: 128 + n after signal n.
pub const STATUS: &CStr = c"{status}";

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/garth-init"));

// include/uapi/linux/memfd.h and fcntl.h; both since Linux 6.3.
const MFD_EXEC: libc::c_uint = 0x10;
const F_SEAL_EXEC: libc::c_int = 0x20;

/// Makes the program's file: in memory, close-on-exec, and sealed, so that no process that comes to
/// hold it can change what runs as pid 1 of other sandboxes.
///
/// Its mode is 0111. Who executes a file that he may not read is not dumpable, even for his own
/// user (`would_dump()` in fs/exec.c): no ptrace, no /proc/1/mem, no /proc/1/environ. That holds for
/// everyone without CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH over the file's owner.
///
/// EACCES: this pid namespace forbids executable memory files (sysctl `vm.memfd_noexec` = 2).
pub fn sealed() -> Result<OwnedFd, Errno> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let fd = match memfd(flags | MFD_EXEC) {
        Err(Errno(libc::EINVAL)) => memfd(flags)?,
        result => result?,
    };
    let mut file = File::from(fd);
    file.write_all(PROGRAM)?;
    let fd = OwnedFd::from(file);
    // SAFETY: changes the mode of a file that we own.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), 0o111) })?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    match seal(&fd, seals | F_SEAL_EXEC | libc::F_SEAL_SEAL) {
        Err(Errno(libc::EINVAL)) => seal(&fd, seals | libc::F_SEAL_SEAL)?,
        result => result?,
    }
    Ok(fd)
}

fn memfd(flags: libc::c_uint) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string.
    let fd = check(unsafe { libc::memfd_create(INIT.as_ptr(), flags) })?;
    // SAFETY: the kernel has just given us this fd, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seal(fd: &OwnedFd, seals: libc::c_int) -> Result<(), Errno> {
    // SAFETY: F_ADD_SEALS takes an integer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(result) }
}
