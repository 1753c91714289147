//! What a hostile workload does and a shell cannot: one system call per word. A static program,
//! copied into the root file systems of the tests next to it. Prints the result: a number, or
//! `errno N`.
#![allow(clippy::unwrap_used, reason = "a test's program")]

use std::env;
use std::ffi::CString;
use std::io::Error;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        // Three ways to the same end.
        ["getppid"] => say(call(libc::SYS_getppid, [0; 3])),
        ["getppid", "x32"] => say(call(0x4000_0000 | libc::SYS_getppid, [0; 3])),
        ["getppid", "i386"] => say(i386(64)),
        ["syscall", number] => say(call(number.parse().unwrap(), [0; 3])),
        // A new user namespace, by the call whose flags no filter can read.
        ["clone3"] => {
            let args: [u64; 8] = [libc::CLONE_NEWUSER as u64, 0, 0, 0, 17, 0, 0, 0];
            match call(libc::SYS_clone3, [args.as_ptr() as usize, size_of_val(&args), 0]) {
                0 => {}
                result => say(result),
            }
        }
        // Types a letter into the terminal; the request number may have high bits set.
        ["type", request] => {
            let request = usize::from_str_radix(request, 16).unwrap();
            let letter = b"x\0";
            say(call(libc::SYS_ioctl, [0, request, letter.as_ptr() as usize]));
        }
        ["session-keyring"] => say(keyctl([0, SESSION as usize, 0])),
        // Adds a keyring with this name for any process that asks for one, and waits.
        ["lay-keyring", name] => {
            let name = CString::new(name).unwrap();
            let keyring = keyctl([1, name.as_ptr() as usize, 0]);
            keyctl([5, keyring as usize, 0x3f3f_3f3f]);
            say(keyring);
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        ["seize", pid] => {
            say(call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, pid.parse().unwrap(), 0]));
        }
        // Exchanges two names as fast as it can, until it is killed.
        ["swap", one, other] => {
            let (one, other) = (CString::new(one).unwrap(), CString::new(other).unwrap());
            loop {
                let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
                // SAFETY: two C strings.
                unsafe { libc::renameat2(at, one.as_ptr(), at, other.as_ptr(), flags) };
            }
        }
        _ => panic!("{words:?}"),
    }
}

const SESSION: i32 = -3;

fn say(result: i64) {
    match result {
        0.. => println!("{result}"),
        _ => println!("errno {}", -result),
    }
}

fn keyctl([what, one, two]: [usize; 3]) -> i64 {
    call(libc::SYS_keyctl, [what, one, two])
}

fn call(number: i64, [a, b, c]: [usize; 3]) -> i64 {
    // SAFETY: the callers pass numbers, or pointers to data that outlives the call.
    let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    let errno = || Error::last_os_error().raw_os_error().unwrap();
    if result == -1 { -i64::from(errno()) } else { result }
}

/// A system call without arguments through the 32-bit entry.
fn i386(number: u32) -> i64 {
    let result: i32;
    // SAFETY: the kernel's 32-bit convention: number and result in eax; r8 to r11 may be cleared.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") number => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    i64::from(result)
}
