//! System calls by inline assembly: no libc, so no `errno` in thread-local storage, which a child
//! that shares memory with its parent (CLONE_VM) would overwrite.

use super::Errno;

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "garth's system call layer is written for x86_64; add sys/raw.rs for this architecture"
);

/// Makes a system call and converts `-errno`.
///
/// # Safety
/// As for the system call `number`: pointers must be valid for what the kernel does with them.
#[inline(always)]
pub unsafe fn syscall(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the x86_64 Linux convention: number in rax; arguments in rdi, rsi, rdx, r10, r8, r9;
    // rcx and r11 are overwritten. The caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}
