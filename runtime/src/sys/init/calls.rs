//! What `garth-init` and `garth-keeper`, two programs without libc, have in common: strings, system
//! calls, and how to start or become another program.

use core::mem::MaybeUninit;

use super::arch;
use super::arch::number::*;

/// Our exit code when we could not do our work.
pub const OURS: i32 = 125;

/// Starts the program open at `program`. Returns its pid, or `-errno`; `pidfd`, if any, receives a
/// descriptor of it (clone(2), CLONE_PIDFD).
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null.
pub unsafe fn run(
    program: i32,
    argv: *mut *const u8,
    envp: *const *const u8,
    pidfd: Option<&mut i32>,
) -> i32 {
    let flags = SIGCHLD as usize | if pidfd.is_some() { CLONE_PIDFD } else { 0 };
    let pidfd = pidfd.map_or(0, |pidfd| &raw mut *pidfd as usize);
    let child = syscall(CLONE, [flags, 0, pidfd, 0, 0]);
    if child == 0 {
        set_disposition(SIGCHLD, DEFAULT);
        set_mask(0);
        // SAFETY: the arrays are as the caller says.
        unsafe { execute(program, argv, envp) }
    }
    child as i32
}

/// Becomes the program open at `program`.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null.
pub unsafe fn execute(program: i32, argv: *const *const u8, envp: *const *const u8) -> ! {
    let empty = c"".as_ptr() as usize;
    let (argv, envp) = (argv as usize, envp as usize);
    syscall(EXECVEAT, [program as usize, empty, argv, envp, AT_EMPTY_PATH]);
    exit(OURS)
}

// ---- Strings -----------------------------------------------------------------------------------

/// The part of a C string after the last slash.
pub fn base_name(mut text: *const u8) -> *const u8 {
    let mut name = text;
    // SAFETY: a C string from the kernel, read up to its end.
    unsafe {
        while *text != 0 {
            text = text.add(1);
            if *text.sub(1) == b'/' {
                name = text;
            }
        }
    }
    name
}

/// Whether a C string equals `expected`, which includes the terminating NUL.
pub fn equal(text: *const u8, expected: &[u8]) -> bool {
    // SAFETY: `all` stops at the first difference, so no byte after the NUL of `text` is read.
    expected.iter().enumerate().all(|(i, byte)| unsafe { *text.add(i) == *byte })
}

/// An unsigned number that fits a pid or a descriptor.
pub fn decimal(mut text: *const u8) -> Option<i32> {
    let mut number = None;
    loop {
        // SAFETY: a C string, read up to its zero.
        let byte = unsafe { *text };
        if byte == 0 {
            return number;
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = Some(number.unwrap_or(0i32).checked_mul(10)?.checked_add(i32::from(digit))?);
        text = text.wrapping_add(1);
    }
}

// ---- System calls ------------------------------------------------------------------------------

// The same on every architecture.
pub const PIDFD_SEND_SIGNAL: usize = 424;
pub const CLOSE_RANGE: usize = 436;
pub const CLONE_PIDFD: usize = 0x1000;

pub const SIG_SETMASK: usize = 2;
pub const DEFAULT: u64 = 0;
pub const IGNORE: u64 = 1;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SI_KERNEL: i32 = 0x80;
pub const WNOHANG: usize = 1;
/// Wait for every kind of child, including one cloned without an exit signal.
pub const WALL: usize = 0x4000_0000;
pub const PR_SET_NAME: usize = 15;
pub const NONBLOCK: usize = 0o4000;
pub const CLOEXEC: usize = 0o2_000_000;
pub const AT_EMPTY_PATH: usize = 0x1000;
pub const F_SETFD: usize = 2;
pub const FD_CLOEXEC: usize = 1;
pub const POLLIN: u64 = 1;
pub const SOL_SOCKET: usize = 1;
pub const SO_PEERCRED: usize = 17;
pub const SCM_RIGHTS: usize = 1;
pub const MSG_NOSIGNAL: usize = 0x4000;
pub const MSG_DONTWAIT: usize = 0x40;
pub const ENOBUFS: isize = -105;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTN_UNICAST: u32 = 1;
/// The size of the kernel's signal set: 64 signals.
pub const SET: usize = 8;

/// Makes a system call; `-errno` on failure. What the calls below pass outlives them.
#[inline(always)]
pub fn syscall(number: usize, args: [usize; 5]) -> isize {
    let [a, b, c, d, e] = args;
    // SAFETY: the callers pass pointers to live objects of the right size.
    unsafe { arch::syscall(number, [a, b, c, d, e, 0]) }
}

pub fn exit(code: i32) -> ! {
    syscall(EXIT_GROUP, [code as usize, 0, 0, 0, 0]);
    loop {}
}

pub fn kill(pid: i32, signal: i32) {
    syscall(KILL, [pid as usize, signal as usize, 0, 0, 0]);
}

/// struct pollfd.
#[repr(C)]
pub struct Poll {
    pub fd: i32,
    pub wanted: i16,
    pub came: i16,
}

pub fn read(fd: i32, buffer: *mut u8, size: usize) -> isize {
    syscall(READ, [fd as usize, buffer as usize, size, 0, 0])
}

/// Accepts a connection, with these flags (accept4(2)), and sends `descriptor` over it (unix(7),
/// SCM_RIGHTS), with a byte. -1: the peer is not our own user.
pub fn lend(listening: i32, descriptor: i32, byte: u8, flags: usize) -> i32 {
    let client = syscall(ACCEPT4, [listening as usize, 0, 0, flags, 0]) as i32;
    if client < 0 {
        return -1;
    }
    let mut peer = [u32::MAX; 3]; // struct ucred: pid, uid, gid
    let mut length = 12u32;
    let (to, size) = (peer.as_mut_ptr() as usize, &raw mut length as usize);
    syscall(GETSOCKOPT, [client as usize, SOL_SOCKET, SO_PEERCRED, to, size]);
    let ours = peer[1] as usize == syscall(GETEUID, [0; 5]) as usize;
    let data = [&raw const byte as usize, 1]; // struct iovec
    // struct cmsghdr: length, level and type (4 bytes each); the descriptor.
    let control = [20, SOL_SOCKET | SCM_RIGHTS << 32, descriptor as usize];
    // struct msghdr: name and its length, iovec and how many, control and its length, flags.
    let message = [0, 0, data.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
    let send = [client as usize, message.as_ptr() as usize, MSG_NOSIGNAL, 0, 0];
    if ours && syscall(SENDMSG, send) == 1 {
        return client;
    }
    close(client);
    -1
}

pub fn close_everything() {
    syscall(CLOSE_RANGE, [0, u32::MAX as usize, 0, 0, 0]);
}

/// The caller blocks all signals before the exec, so that none is lost; this makes sure, and undoes
/// an inherited `SIGCHLD: ignored`, with which the kernel would reap children without us.
pub fn block_signals() {
    set_mask(u64::MAX);
    set_disposition(SIGCHLD, DEFAULT);
}

pub fn set_disposition(signal: i32, handler: u64) {
    let action = [handler, 0, 0, 0]; // struct kernel_sigaction: handler, flags, restorer, mask
    syscall(RT_SIGACTION, [signal as usize, action.as_ptr() as usize, 0, SET, 0]);
}

pub fn close(fd: i32) {
    syscall(CLOSE, [fd as usize, 0, 0, 0, 0]);
}

pub fn set_mask(mask: u64) {
    syscall(RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, SET, 0]);
}

/// The pid and wait status of a child that ended; pid 0 if none has yet.
pub fn reap(pid: i32, flags: usize) -> Result<(i32, i32), ()> {
    let mut status = 0i32;
    let result = syscall(WAIT4, [pid as usize, &raw mut status as usize, flags | WALL, 0, 0]);
    if result < 0 { Err(()) } else { Ok((result as i32, status)) }
}

/// The number and si_code of the next signal; `None` after `timeout` (seconds, nanoseconds) or when
/// a stop interrupted the wait.
pub fn next_signal(timeout: Option<&[u64; 2]>) -> Option<(i32, i32)> {
    let all = u64::MAX;
    let mut info = MaybeUninit::<[i32; 32]>::uninit(); // siginfo_t: signo, errno, code, ...
    let timeout = timeout.map_or(0, |time| time.as_ptr() as usize);
    let args = [&raw const all as usize, info.as_mut_ptr() as usize, timeout, SET, 0];
    if syscall(RT_SIGTIMEDWAIT, args) < 0 {
        return None;
    }
    // SAFETY: the kernel fills all 128 bytes of siginfo_t on success.
    let info = unsafe { info.assume_init_ref() };
    Some((info[0], info[2]))
}
