//! The program that stays behind when a sandbox has been started, as a sealed memory file.
//!
//! `init/main.rs` is the program and describes what it does; build.rs compiles it; here its bytes
//! become a descriptor that can only be executed. Two kinds of processes run it: the holder (below),
//! and
//!
//! - **pid 1 of a sandbox**, `[INIT, child pid]`. The caller, already pid 1 and the parent of the
//!   running command, blocks all signals (one that arrives before the exec must stay pending, not
//!   be lost), leaves only 0, 1 and 2 without CLOEXEC, and executes the file. It passes an empty
//!   environment: the stack of pid 1 cannot be read by any process, but costs memory. A seccomp
//!   filter must allow execveat, close_range, rt_sigprocmask, rt_sigaction, wait4, rt_sigtimedwait,
//!   kill, prctl(PR_SET_NAME) and exit_group.
//!
//! Either exits with 125 when it cannot do its work.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{CStrings, Errno, file, fork, raw};

/// `argv[0]` of pid 1.
pub const INIT: &CStr = c"garth-init";
/// `argv[0]` of the process that owns the firewall's table.
const HOLDER: &CStr = c"garth-holder";

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/garth-init"));

/// Makes the program's file: in memory, close-on-exec, and sealed, so that no process that gets
/// hold of it can change what runs as pid 1 of other sandboxes.
///
/// Its mode is 0111. A process that executes a file it may not read is not dumpable, even for its
/// own user (`would_dump()` in fs/exec.c): no ptrace, no /proc/1/mem, no /proc/1/environ. That
/// holds against every process without CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH over the file's
/// owner.
///
/// EACCES: this pid namespace forbids executable memory files (sysctl `vm.memfd_noexec` = 2).
pub fn sealed() -> Result<OwnedFd, Errno> {
    file::sealed(INIT, PROGRAM, 0o111)
}

/// Starts a holder that is not our child: it lends `socket` to processes that connect to
/// `listening`, receives `news` (rtnetlink), and runs `program` with `args` when something has to
/// be done.
pub fn hold(
    listening: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    news: BorrowedFd<'_>,
    program: Option<BorrowedFd<'_>>,
    args: [&CStr; 2],
) -> Result<(), Errno> {
    let file = sealed()?;
    let program = program.map_or(-1, |fd| fd.as_raw_fd());
    let fds = [listening.as_raw_fd(), socket.as_raw_fd(), news.as_raw_fd(), program];
    let numbers = fds.map(|fd| CString::new(fd.to_string()).unwrap_or_default());
    let mut argv = vec![HOLDER.to_owned()];
    argv.extend(numbers);
    argv.extend(args.map(CStr::to_owned));
    let (argv, envp) = (CStrings::new(argv), CStrings::new(Vec::new()));
    let [a, b, c, d] = fds;
    fork::aside(&mut [a, b, c, d, file.as_raw_fd()], || {
        for fd in fds {
            let _ = raw::set_cloexec(fd, false);
        }
        let _ = raw::set_signal_mask(u64::MAX);
        let _ = raw::chdir(c"/");
        raw::execveat(file.as_raw_fd(), &argv, &envp);
    })
}
