//! What is aarch64: how a system call is made, how a child begins on a stack of its own, how a
//! program begins, and the numbers that the init needs. [`super`]'s other files know none of it.
//!
//! Three programs have this file: the library, the start of the binary (`sys/entry.rs`), and the
//! init (`sys/init/main.rs`), which has no crates: so there is nothing in it but `core`.

use core::arch::asm;

/// As rustc calls it.
pub const NAME: &str = "aarch64";

/// `AUDIT_ARCH_AARCH64` of <linux/audit.h>.
pub const AUDIT: u32 = 0xc000_00b7;

/// Makes a system call; what the kernel gives back, an errno as a negative number.
///
/// # Safety
/// As for the system call.
#[inline(always)]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the convention of Linux: number in x8; arguments in x0 to x5; nothing else is
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

/// The order of clone(2)'s last two arguments is the architecture's.
#[inline(always)]
pub fn clone_arguments(flags: u64, stack: u64, parent: u64, child: u64, tls: u64) -> [usize; 5] {
    [flags, stack, parent, tls, child].map(|argument| argument as usize)
}

/// A system call of this number that begins a child, on the stack that its arguments name, with
/// `enter(entry)`. What the kernel gives back to the parent.
///
/// # Safety
/// The stack is free and the child's alone, `enter` never returns, and what `entry` leads to lives
/// as long as the child can use it.
pub unsafe fn on_stack(
    number: usize,
    args: [usize; 5],
    entry: *const (),
    enter: *const (),
) -> isize {
    let result: isize;
    // SAFETY: the child begins after `svc` with x0 = 0 on its own stack, whose top is 16-aligned as
    // it has to be, and never leaves `enter`. The registers x9 and x10 are the same in both. The
    // parent sees an ordinary system call.
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

/// Ends the process by SIGILL: an instruction that is none.
pub fn undefined() -> ! {
    // SAFETY: it goes nowhere.
    unsafe { asm!("udf #0", options(noreturn)) }
}

/// A byte of memory. Neither a plain read, in whose loop the compiler might see a function of the
/// libc, nor `read_volatile`, which calls a check of its own in a debug build: before the program
/// is relocated nothing can be called.
///
/// # Safety
/// It can be read.
#[inline(always)]
pub unsafe fn byte(at: *const u8) -> u8 {
    let byte: u32;
    // SAFETY: as the caller says.
    unsafe {
        asm!("ldrb {:w}, [{}]", out(reg) byte, in(reg) at, options(nostack, readonly));
    }
    byte as u8
}

/// The entry point `garth_entry`, which calls a function with the initial stack pointer and goes on
/// with the libc's `_start`. The kernel leaves argc, argv, NULL, envp, NULL at the stack pointer,
/// which is aligned to 16; `_start` expects the stack and x0 as they were.
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

/// The entry point `_start` of a program without a libc: a function that gets the initial stack
/// pointer and never returns.
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

/// System calls of the init, which has no libc to have their numbers from.
pub mod number {
    pub const FCNTL: usize = 25;
    pub const FTRUNCATE: usize = 46;
    pub const CLOSE: usize = 57;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const UTIMENSAT: usize = 88;
    pub const EXIT_GROUP: usize = 94;
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
    pub const EXECVEAT: usize = 281;
}
