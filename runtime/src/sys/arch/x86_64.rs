//! Everything specific to x86_64: how to make a system call, how a child begins on its own stack,
//! how a program begins, and the system call numbers that the init needs. [`super`]'s other files
//! are independent of it.
//!
//! Three programs include this file: the library, the start of the binary (`sys/entry.rs`), and the
//! init and the keeper (`sys/init/main.rs`, `sys/keeper/main.rs`), which have no crates: so it uses only `core`.

use core::arch::asm;

/// rustc's name for it.
pub const NAME: &str = "x86_64";

/// `AUDIT_ARCH_X86_64` of <linux/audit.h>.
pub const AUDIT: u32 = 0xc000_003e;

/// Makes a system call; returns the kernel's result, an errno as a negative number.
///
/// # Safety
/// Same as the system call.
#[inline(always)]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the Linux convention: number in rax; arguments in rdi, rsi, rdx, r10, r8, r9; rcx and
    // r11 are overwritten. The caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The order of clone(2)'s last two arguments depends on the architecture.
#[inline(always)]
pub fn clone_arguments(flags: u64, stack: u64, parent: u64, child: u64, tls: u64) -> [usize; 5] {
    [flags, stack, parent, child, tls].map(|argument| argument as usize)
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
    // SAFETY: the child begins after `syscall` with rax = 0 on its own stack, whose top is
    // 16-aligned as a call expects, and never leaves `enter`. The registers r12 and r13 are the
    // same in both. The parent sees an ordinary system call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r12") entry,
            in("r13") enter,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Ends the process by SIGILL: an invalid instruction.
pub fn undefined() -> ! {
    // SAFETY: it does not return.
    unsafe { asm!("ud2", options(noreturn)) }
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
        asm!("movzx {:e}, byte ptr [{}]", out(reg) byte, in(reg) at, options(nostack, readonly));
    }
    byte as u8
}

/// The entry point `garth_entry`, which calls a function with the initial stack pointer and then
/// continues with the libc's `_start`. The kernel leaves argc, argv, NULL, envp, NULL at the stack
/// pointer, which is aligned to 16 (System V ABI, AMD64 supplement, 3.4.1); `_start` expects the
/// stack and rdx unchanged.
macro_rules! begin_before_libc {
    ($begin:path) => {
        core::arch::global_asm!(
            ".globl garth_entry",
            "garth_entry:",
            "push rdx",
            "lea rdi, [rsp + 8]",
            "sub rsp, 8",
            "call {}",
            "add rsp, 8",
            "pop rdx",
            "jmp _start",
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
            "xor ebp, ebp",
            "mov rdi, rsp",
            "call {}",
            "ud2",
            sym $start,
        );
    };
}

pub(crate) use {begin_before_libc, begin_without_libc};

/// System call numbers for the init, which has no libc to take them from.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RECVFROM: usize = 45;
    pub const SENDMSG: usize = 46;
    pub const GETSOCKOPT: usize = 55;
    pub const CLONE: usize = 56;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const GETEUID: usize = 107;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const PPOLL: usize = 271;
    pub const ACCEPT4: usize = 288;
    pub const SIGNALFD4: usize = 289;
    pub const RENAMEAT2: usize = 316;
    pub const EXECVEAT: usize = 322;
}
