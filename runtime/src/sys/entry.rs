//! The first instructions of the program, before its libc has started.
//!
//! The verbs that put a process into a container start this program a second time, from a read-only
//! mount of its file (`start/seal.rs` says why). Everything before the second start is wasted, and
//! most of it is the libc's: its startup queries processor features by CPUID, which a virtual
//! machine has to emulate, and relocates the program, together a quarter of a millisecond. So the
//! file's entry point is here (`build.rs`) and makes the second start immediately.
//!
//! Where this fails, perhaps for lack of CAP_SYS_ADMIN, the program continues as usual, and
//! `start/seal.rs` finds that it still has to be done and has the other ways and the messages for
//! it.
//!
//! Nothing is relocated yet and `memcpy` is not yet resolved (it is an IFUNC): this code must not
//! call the standard library, compare or copy slices, or use tables of pointers.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
#[allow(dead_code, unused_imports, unused_macros, reason = "some is for the library or the init")]
mod arch;

arch::begin_before_libc!(begin);

/// What libc calls. The standard library's own would first read /proc/self/maps, to tell stack
/// overflows from other faults, and set up another stack to report them on: part of the cost of a
/// start.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    std::process::exit(garth::cli::main())
}

/// Returns if there is nothing to do or it failed.
extern "C" fn begin(stack: *const usize) {
    // SAFETY: `stack` is the initial stack pointer: argc, then argc pointers and a null, then the
    // environment. `Statfs` is plain memory that the kernel fills.
    unsafe {
        let argc = *stack;
        let argv = stack.wrapping_add(1).cast::<*const u8>();
        if !enters_a_container(argc, argv) {
            return;
        }
        let file = c"/proc/self/exe".as_ptr() as usize;
        let mut stat = MaybeUninit::<libc::statfs64>::uninit();
        let failed = call(libc::SYS_statfs, [file, stat.as_mut_ptr() as usize, 0, 0, 0]) != 0;
        // ST_RDONLY: this is the second start, or a read-only file system.
        let flags = (*stat.as_ptr()).f_flags;
        if failed || flags as u64 & libc::ST_RDONLY != 0 {
            return;
        }
        let clone = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        let tree = call(libc::SYS_open_tree, [libc::AT_FDCWD as usize, file, clone as usize, 0, 0]);
        if tree < 0 {
            return;
        }
        let read_only: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
        let (tree, here, empty) =
            (tree as usize, c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
        let attr = (&raw const read_only) as usize;
        let size = size_of_val(&read_only);
        if call(libc::SYS_mount_setattr, [tree, here, empty, attr, size]) == 0 {
            let envp = argv.wrapping_add(argc + 1) as usize;
            call(libc::SYS_execveat, [tree, here, argv as usize, envp, empty]);
        }
        call(libc::SYS_close, [tree, 0, 0, 0, 0]);
    }
}

/// Is the verb one of those? A word after an option may be its value or the verb; mistaking a value
/// for a verb only costs an unneeded second start.
///
/// # Safety
/// `argv` holds `argc` C strings.
unsafe fn enters_a_container(argc: usize, argv: *const *const u8) -> bool {
    const CREATE: u64 = u64::from_le_bytes(*b"create\0\0");
    const RUN: u64 = u64::from_le_bytes(*b"run\0\0\0\0\0");
    const EXEC: u64 = u64::from_le_bytes(*b"exec\0\0\0\0");
    let (mut nth, mut behind_option) = (1, false);
    while nth < argc {
        // SAFETY: `nth` is below argc.
        let word = unsafe { first_bytes(*argv.wrapping_add(nth)) };
        match word {
            CREATE | RUN | EXEC => return true,
            _ if word as u8 == b'-' => behind_option = true,
            _ if behind_option => behind_option = false,
            _ => return false,
        }
        nth += 1;
    }
    false
}

/// The first eight bytes of a C string, zero-padded after its end.
///
/// # Safety
/// `text` is a C string.
unsafe fn first_bytes(text: *const u8) -> u64 {
    let (mut word, mut at) = (0, 0);
    while at < 8 {
        // SAFETY: not past the NUL, where the loop ends.
        let byte = unsafe { arch::byte(text.wrapping_add(at)) };
        if byte == 0 {
            break;
        }
        word |= u64::from(byte) << (8 * at);
        at += 1;
    }
    word
}

/// A system call; returns the kernel's result, an errno as a negative number.
///
/// # Safety
/// Same as the system call.
#[inline(always)]
unsafe fn call(number: i64, args: [usize; 5]) -> isize {
    let [a, b, c, d, e] = args;
    // SAFETY: guaranteed by the caller.
    unsafe { arch::syscall(number as usize, [a, b, c, d, e, 0]) }
}
