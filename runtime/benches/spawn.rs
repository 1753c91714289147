//! Starting `/bin/true` from a parent with 0 to 4 GB resident: `cargo bench --bench spawn`.
//!
//! vfork+exec is the floor: CLONE_VM|CLONE_VFORK and nothing else. `--quick` stops at 100 MB.
#![allow(missing_docs, clippy::unwrap_used, unsafe_code, reason = "a bench")]

#[path = "measure/mod.rs"]
mod measure;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{null, null_mut};

use garth::Spawn;
use measure::{Contender, interleaved, median, table};

const TRUE: &CStr = c"/bin/true";

/// argv and envp as every contender passes them.
fn arguments() -> ([*const c_char; 2], [*const c_char; 1]) {
    ([TRUE.as_ptr(), null()], [null()])
}

fn reap(pid: c_int) {
    let mut status = 0;
    // SAFETY: `status` is ours; the child is ours and not yet waited for.
    let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert!(reaped == pid && status == 0, "{reaped} {status}");
}

fn fork_exec() {
    let (argv, envp) = arguments();
    // SAFETY: the program has one thread; the child calls nothing but execve and _exit.
    let pid = unsafe {
        match libc::fork() {
            0 => {
                libc::execve(TRUE.as_ptr(), argv.as_ptr(), envp.as_ptr());
                libc::_exit(127)
            }
            pid => pid,
        }
    };
    reap(pid);
}

extern "C" fn exec_true(_: *mut c_void) -> c_int {
    let (argv, envp) = arguments();
    // SAFETY: null-terminated arrays of C strings.
    unsafe {
        libc::execve(TRUE.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

fn vfork_exec(stack: &mut [u128]) {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the caller sleeps until the child has left its memory and this stack.
    let pid =
        unsafe { libc::clone(exec_true, stack.as_mut_ptr_range().end.cast(), flags, null_mut()) };
    reap(pid);
}

fn posix_spawn() {
    let (argv, envp) = arguments();
    let mut pid = 0;
    // SAFETY: null-terminated arrays of C strings; no attributes, no actions.
    let result = unsafe {
        let (argv, envp) = (argv.as_ptr().cast(), envp.as_ptr().cast());
        libc::posix_spawn(&mut pid, TRUE.as_ptr(), null(), null(), argv, envp)
    };
    assert_eq!(result, 0);
    reap(pid);
}

fn command() {
    assert!(Command::new("/bin/true").env_clear().status().unwrap().success());
}

fn command_pre_exec() {
    let mut command = Command::new("/bin/true");
    // SAFETY: does nothing in the child.
    unsafe { command.env_clear().pre_exec(|| Ok(())) };
    assert!(command.status().unwrap().success());
}

fn garth_spawn() {
    let spawn = Spawn { env: Some(Vec::new()), ..Spawn::new(["/bin/true"]) };
    assert_eq!(spawn.spawn().unwrap().process.wait().unwrap().code(), 0);
}

fn system() {
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::system(TRUE.as_ptr()) }, 0);
}

/// Memory that is resident in pages of 4 kB, as a heap that grew over days is.
fn resident(bytes: usize) -> &'static mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping that stays until the end; its advice changes no contents.
    let memory = unsafe {
        let base = libc::mmap(null_mut(), bytes, protection, flags, -1, 0);
        assert_ne!(base, libc::MAP_FAILED);
        libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE);
        std::slice::from_raw_parts_mut(base.cast::<u8>(), bytes)
    };
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    memory
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let sizes =
        [(0, "0", 200), (100 << 20, "100 MB", 100), (1 << 30, "1 GB", 40), (4 << 30, "4 GB", 20)];
    let sizes = if quick { &sizes[..2] } else { &sizes[..] };
    for (bytes, name, rounds) in sizes {
        let rounds = if quick { 10 } else { *rounds };
        let memory = resident(*bytes);
        let mut stack = vec![0u128; 4096];
        let contenders = vec![
            Contender::new("vfork+exec", || vfork_exec(&mut stack)),
            Contender::new("garth::Spawn", garth_spawn),
            Contender::new("posix_spawn", posix_spawn),
            Contender::new("std Command", command),
            Contender::new("std Command + pre_exec", command_pre_exec),
            Contender::new("fork+exec", fork_exec),
            Contender::new("system()", system),
        ];
        let taken = interleaved(contenders, rounds);
        println!(
            "\nParent with {name} resident, {rounds} rounds:\n\n{}",
            table(&taken, "vfork+exec")
        );
        let [garth, fork] = ["garth::Spawn", "fork+exec"].map(|name| median(&taken, name).unwrap());
        println!("fork+exec takes {:.1} times as long as garth::Spawn.", fork / garth);
        if let Some(first) = memory.first() {
            std::hint::black_box(first);
            // SAFETY: the mapping made above; nothing refers to it any more.
            unsafe { libc::munmap(memory.as_mut_ptr().cast(), memory.len()) };
        }
    }
}
