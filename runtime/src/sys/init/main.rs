//! `garth-init` and `garth-keeper`: what stays behind when a sandbox has been started.
//!
//! Nothing that stays inside a sandbox may share memory with, or be a copy of, a process outside.
//! So pid 1 is not a fork of Garth but this program: one page of code, no libc, no heap, no data,
//! embedded in the library (`sys/init.rs`) and executed from a sealed memory file. `argv[0]` says
//! which of the two it is:
//!
//! - `garth-init CHILD` is pid 1 of the sandbox; the command is its child. It reaps, forwards
//!   signals to the command, and ends as the command ended: if a signal ended that, with 128 + n, and
//!   under the name `signal n`, as pid 1 cannot die by a signal of its own.
//! - `garth-keeper PID FD ARGS...` is the parent, outside, of a detached sandbox. It waits for PID
//!   and becomes the program open at FD, which cleans up.
//!
//! `garth-init` runs under a seccomp filter and makes no other system calls than close_range,
//! rt_sigprocmask, rt_sigaction, wait4, rt_sigtimedwait, kill, prctl for its name and exit_group.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

// The kernel leaves argc, argv, NULL, envp, NULL at the stack pointer, which is aligned to 16
// (System V ABI, AMD64 supplement, 3.4.1). `call` gives `start` the alignment of a function.
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "call {}", "ud2", sym start);

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `stack` is the initial stack pointer: argc, then argc pointers and a null.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast_mut().cast::<*const u8>()) };
    // SAFETY: `nth` is below argc, so the pointer is one of the kernel's strings.
    let arg = |nth: usize| if nth < argc { unsafe { *argv.add(nth) } } else { c"".as_ptr().cast() };

    block_signals();
    let name = base_name(arg(0));
    match (equal(name, b"garth-init\0"), equal(name, b"garth-keeper\0"), decimal(arg(1))) {
        (true, _, Some(child)) if child > 0 => init(child),
        (_, true, Some(pid)) if pid > 0 && argc > 3 => {
            let Some(fd) = decimal(arg(2)) else { exit(OURS) };
            // SAFETY: argc > 3, and the environment follows the null that ends argv.
            unsafe { keeper(pid, fd, argv.add(3), argv.add(argc + 1)) }
        }
        _ => exit(OURS),
    }
}

/// Pid 1. What it does with a signal:
///
/// - SIGCHLD says that some children ended; they coalesce, so everything is reaped each time round,
///   and once before the first wait, for those who were faster than our exec.
/// - A signal that the kernel made (SI_KERNEL) is not forwarded. Those are the terminal's: ^C, ^Z,
///   a resize, SIGTTIN, a hang-up. The terminal sends them to the whole foreground process group;
///   if we are in it the command is too, or it left for a group of its own and does not want them.
///   A second SIGINT means "now, without cleaning up" to many programs.
/// - Every other signal is forwarded, SIGTSTP, SIGTTIN, SIGTTOU and SIGCONT too: sent by kill(2)
///   they are a request to the sandbox, whose face is the command; we ourselves have no state to
///   stop. When a shell continues a job it sends SIGCONT to the whole group, so that the command
///   gets it twice: a process that runs does not mind. Nor can our copy, still pending, undo
///   a later ^Z: a stop signal discards pending SIGCONTs of each process it is sent to, ours
///   included (`prepare_signal()` in kernel/signal.c).
/// - SIGKILL and SIGSTOP cannot be waited for. From inside the kernel drops them; from outside
///   SIGKILL ends the sandbox, and SIGSTOP stops only us: to pause a sandbox, freeze its cgroup.
///
/// Only the number is forwarded; the value of sigqueue(3) is lost. A command that has become another
/// user is reached by CAP_KILL, which we keep where the sandbox has it. Garth's own signals do not
/// depend on that (start/deliver.rs).
fn init(child: i32) -> ! {
    // A reader of the sandbox's output waits for the end of file, which comes when the command
    // closes it, and not before we do.
    close_everything();
    loop {
        loop {
            match reap(-1, WNOHANG) {
                Ok((0, _)) => break,
                Ok((pid, status)) if pid == child => end(status),
                Ok(_) => {}
                // No children at all: the command is gone and nobody told us how.
                Err(_) => exit(OURS),
            }
        }
        // The pid is the command's, and no one else's, until it is reaped above.
        match next_signal(None) {
            Some((SIGCHLD, _)) | Some((_, SI_KERNEL)) | None => {}
            Some((signal, _)) => kill(child, signal),
        }
    }
}

/// The parent of a detached sandbox. A terminal that goes away and a ^C are not for it; SIGTERM it
/// passes on, since a supervisor that knows only its pid means the sandbox. When `pid` has ended,
/// it becomes the program open at `fd` with `argv`, in which `{status}` is the exit status, in the
/// way of a shell: 128 + n for signal n, 125 if it could not be learned.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null; `argv` can be written.
unsafe fn keeper(pid: i32, fd: i32, argv: *mut *const u8, envp: *const *const u8) -> ! {
    let status = loop {
        match reap(pid, WNOHANG) {
            Ok((0, _)) => {}
            Ok((_, status)) => break code(status),
            Err(_) => break OURS,
        }
        if let Some((SIGTERM, _)) = next_signal(None) {
            kill(pid, SIGTERM);
        }
    };

    let status = status as u8;
    let digits = [b'0' + status / 100, b'0' + status / 10 % 10, b'0' + status % 10, 0];
    let zeros = if status < 10 { 2 } else { usize::from(status < 100) };
    let mut arg = argv;
    // SAFETY: walks `argv` up to its null; `digits` lives until the kernel has copied it.
    unsafe {
        while !(*arg).is_null() {
            if equal(*arg, b"{status}\0") {
                *arg = digits.as_ptr().add(zeros);
            }
            arg = arg.add(1);
        }
    }

    // What came while we waited was for us, and must not hit the program we become, which starts
    // with an empty mask and default actions as any other.
    while next_signal(Some(&[0, 0])).is_some() {}
    set_mask(0);
    syscall(
        EXECVEAT,
        [fd as usize, c"".as_ptr() as usize, argv as usize, envp as usize, AT_EMPTY_PATH],
    );
    exit(OURS)
}

/// Our exit code when we could not do our work.
const OURS: i32 = 125;

/// Ends as a command of this wait status did.
fn end(status: i32) -> ! {
    let signal = (status & 0x7f) as u8;
    if signal != 0 {
        let mut name = *b"signal \0\0\0";
        match signal / 10 {
            0 => name[7] = b'0' + signal,
            tens => [name[7], name[8]] = [b'0' + tens, b'0' + signal % 10],
        }
        syscall(PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0]);
    }
    exit(code(status))
}

/// A wait status as a shell gives it.
fn code(status: i32) -> i32 {
    if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) }
}

// ---- Strings -----------------------------------------------------------------------------------

/// The part of a C string after the last slash.
fn base_name(mut text: *const u8) -> *const u8 {
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

/// Whether a C string is `expected`, which includes the final zero.
fn equal(text: *const u8, expected: &[u8]) -> bool {
    // SAFETY: `all` stops at the first difference, so no byte after the zero of `text` is read.
    expected.iter().enumerate().all(|(i, byte)| unsafe { *text.add(i) == *byte })
}

/// A number without sign that fits a pid or an fd.
fn decimal(mut text: *const u8) -> Option<i32> {
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

const RT_SIGACTION: usize = 13;
const RT_SIGPROCMASK: usize = 14;
const WAIT4: usize = 61;
const KILL: usize = 62;
const RT_SIGTIMEDWAIT: usize = 128;
const PRCTL: usize = 157;
const EXIT_GROUP: usize = 231;
const EXECVEAT: usize = 322;
const CLOSE_RANGE: usize = 436;

const SIG_SETMASK: usize = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SI_KERNEL: i32 = 0x80;
const WNOHANG: usize = 1;
/// Wait for every kind of child, also one that was cloned without an exit signal.
const WALL: usize = 0x4000_0000;
const PR_SET_NAME: usize = 15;
const AT_EMPTY_PATH: usize = 0x1000;
/// The size of the kernel's signal set: 64 signals.
const SET: usize = 8;

/// Makes a system call; `-errno` on failure. What the calls below pass outlives them.
#[inline(always)]
fn syscall(number: usize, args: [usize; 5]) -> isize {
    let result;
    // SAFETY: the x86_64 Linux convention; rcx and r11 are overwritten. The callers pass
    // pointers to live objects of the right size.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            in("r8") args[4], lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn exit(code: i32) -> ! {
    syscall(EXIT_GROUP, [code as usize, 0, 0, 0, 0]);
    loop {}
}

fn kill(pid: i32, signal: i32) {
    syscall(KILL, [pid as usize, signal as usize, 0, 0, 0]);
}

fn close_everything() {
    syscall(CLOSE_RANGE, [0, u32::MAX as usize, 0, 0, 0]);
}

/// The caller blocks all signals before the exec, so that none is lost; this makes sure, and undoes
/// an inherited `SIGCHLD: ignored`, with which the kernel would reap children behind our back.
fn block_signals() {
    set_mask(u64::MAX);
    let default = [0u64; 4]; // struct kernel_sigaction: handler, flags, restorer, mask
    syscall(RT_SIGACTION, [SIGCHLD as usize, default.as_ptr() as usize, 0, SET, 0]);
}

fn set_mask(mask: u64) {
    syscall(RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, SET, 0]);
}

/// The pid and wait status of a child that ended, pid 0 if none did yet.
fn reap(pid: i32, flags: usize) -> Result<(i32, i32), ()> {
    let mut status = 0i32;
    let result = syscall(WAIT4, [pid as usize, &raw mut status as usize, flags | WALL, 0, 0]);
    if result < 0 { Err(()) } else { Ok((result as i32, status)) }
}

/// The number and si_code of the next signal; None after `timeout` (seconds, nanoseconds) or
/// when the wait was interrupted by a stop.
fn next_signal(timeout: Option<&[u64; 2]>) -> Option<(i32, i32)> {
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(OURS)
}
