//! Everything specific to aarch64: how to make a system call, how a child begins on its own stack,
//! how a program begins, and the system call numbers that the init needs. [`super`]'s other files
//! are independent of it.
//!
//! Three programs include this file: the library, the start of the binary (`sys/entry.rs`), and the
//! init and the keeper (`sys/init/main.rs`, `sys/keeper/main.rs`), which have no crates: so it uses only `core`.

use core::arch::asm;

/// rustc's name for it.
pub const NAME: &str = "aarch64";

/// `AUDIT_ARCH_AARCH64` of <linux/audit.h>.
pub const AUDIT: u32 = 0xc000_00b7;

/// Makes a system call; returns the kernel's result, an errno as a negative number.
///
/// # Safety
/// Same as the system call.
#[inline(always)]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the Linux convention: number in x8; arguments in x0 to x5; nothing else is
    // overwritten. The caller vouches for the arguments.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// The order of clone(2)'s last two arguments depends on the architecture.
#[inline(always)]
pub fn clone_arguments(flags: u64, stack: u64, parent: u64, child: u64, tls: u64) -> [usize; 5] {
    [flags, stack, parent, tls, child].map(|argument| argument as usize)
}

/// Makes the system call `number`, which starts a child on the stack that its arguments name; the
/// child runs `enter(entry)`. Returns the kernel's result to the parent.
///
/// # Safety
/// The stack is free and belongs to the child alone, `enter` never returns, and what `entry` points
/// to lives as long as the child can use it.
pub unsafe fn on_stack(
    number: usize,
    args: [usize; 5],
    entry: *const (),
    enter: *const (),
) -> isize {
    let result: isize;
    // SAFETY: the child begins after `svc` with x0 = 0 on its own stack, whose top is 16-aligned as
    // required, and never leaves `enter`. The registers x9 and x10 are the same in both. The parent
    // sees an ordinary system call.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x9",
            "blr x10",
            "udf #0",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            in("x9") entry,
            in("x10") enter,
        );
    }
    result
}

/// Ends the process by SIGILL: an invalid instruction.
pub fn undefined() -> ! {
    // SAFETY: it does not return.
    unsafe { asm!("udf #0", options(noreturn)) }
}

/// Reads a byte of memory. Not a plain read, as the compiler might turn its loop into a libc call,
/// nor `read_volatile`, which calls a check in debug builds: nothing can be called before the
/// program is relocated.
///
/// # Safety
/// It is readable.
#[inline(always)]
pub unsafe fn byte(at: *const u8) -> u8 {
    let byte: u32;
    // SAFETY: guaranteed by the caller.
    unsafe {
        asm!("ldrb {:w}, [{}]", out(reg) byte, in(reg) at, options(nostack, readonly));
    }
    byte as u8
}

/// The entry point `garth_entry`, which calls a function with the initial stack pointer and then
/// continues with the libc's `_start`. The kernel leaves argc, argv, NULL, envp, NULL at the stack
/// pointer, which is aligned to 16; `_start` expects the stack and x0 unchanged.
macro_rules! begin_before_libc {
    ($begin:path) => {
        core::arch::global_asm!(
            ".globl garth_entry",
            "garth_entry:",
            "mov x19, x0",
            "mov x0, sp",
            "bl {}",
            "mov x0, x19",
            "b _start",
            sym $begin,
        );
    };
}

/// The entry point `_start` of a program without a libc: calls a function that gets the initial
/// stack pointer and never returns.
macro_rules! begin_without_libc {
    ($start:path) => {
        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, sp",
            "bl {}",
            "udf #0",
            sym $start,
        );
    };
}

pub(crate) use {begin_before_libc, begin_without_libc};

/// System call numbers for the init, which has no libc to take them from.
pub mod number {
    pub const FCNTL: usize = 25;
    pub const UNLINKAT: usize = 35;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const LSEEK: usize = 62;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const EXIT_GROUP: usize = 94;
    pub const CLOCK_GETTIME: usize = 113;
    pub const KILL: usize = 129;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
    pub const GETEUID: usize = 175;
    pub const RECVFROM: usize = 207;
    pub const GETSOCKOPT: usize = 209;
    pub const SENDMSG: usize = 211;
    pub const CLONE: usize = 220;
    pub const ACCEPT4: usize = 242;
    pub const WAIT4: usize = 260;
    pub const RENAMEAT2: usize = 276;
    pub const EXECVEAT: usize = 281;
}
