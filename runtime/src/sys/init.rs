//! The program that stays behind when a sandbox has been started, as a sealed file in memory.
//!
//! `init/main.rs` is the program and says what it does; build.rs compiles it; here its bytes become
//! an fd that can be executed and nothing else. Three processes run it:
//!
//! - **pid 1 of a sandbox**, `[INIT, child pid]`. The caller, already pid 1 and the parent of the
//!   running command, blocks all signals (one that comes before the exec must wait, not be lost),
//!   leaves no fd open beyond 0, 1, 2 without CLOEXEC, and executes the file. It passes an empty
//!   environment: what lies on the stack of pid 1 can be read by nobody, but costs memory. A seccomp
//!   filter must allow execveat, close_range, rt_sigprocmask, rt_sigaction, wait4,
//!   rt_sigtimedwait, kill, prctl(PR_SET_NAME) and exit_group.
//! - **the keeper of a detached sandbox**, `[KEEPER, first, command, output, file, file, program,
//!   arguments...]`, six numbers of descriptors (`-`: none), the parent of the process behind `first`,
//!   outside. It keeps its environment and its fds for `program`, which it becomes when `first` has
//!   ended, and which reaps it.
//!
//! Either ends with 125 when it cannot do its work.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{CStrings, Errno, file, fork, raw};

/// `argv[0]` of pid 1.
pub const INIT: &CStr = c"garth-init";
/// `argv[0]` of a detached sandbox's parent.
pub const KEEPER: &CStr = c"garth-keeper";
/// `argv[0]` of the process that owns the firewall's table.
const HOLDER: &CStr = c"garth-holder";

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/garth-init"));

/// Makes the program's file: in memory, close-on-exec, and sealed, so that no process that comes to
/// hold it can change what runs as pid 1 of other sandboxes.
///
/// Its mode is 0111. Who executes a file that he may not read is not dumpable, even for his own
/// user (`would_dump()` in fs/exec.c): no ptrace, no /proc/1/mem, no /proc/1/environ. That holds for
/// everyone without CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH over the file's owner.
///
/// EACCES: this pid namespace forbids executable memory files (sysctl `vm.memfd_noexec` = 2).
pub fn sealed() -> Result<OwnedFd, Errno> {
    file::sealed(INIT, PROGRAM, 0o111)
}

/// Starts a holder, whose child nobody is: it lends `socket` to who connects to `listening`, hears
/// `news` (rtnetlink), and runs `program` with `args` when there is something to see to.
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
