//! Thin typed calls to the kernel, and the only unsafe code of the project.
//!
//! The functions in [`raw`] and [`clone`] may be used in a child that shares its parent's memory:
//! no allocation, no lock, no thread-local `errno`. The rest is for the parent.
#![allow(unsafe_code)]

/// The one place for what is specific to an architecture; the files define the same items.
#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
#[allow(dead_code, unused_imports, unused_macros, reason = "some is for the init or the binary")]
pub(crate) mod arch;

pub mod abandon;
pub mod access;
pub mod again;
pub mod bpf;
pub mod channel;
pub mod clone;
pub mod copy;
mod cstrings;
mod errno;
pub mod file;
pub mod fork;
pub mod init;
pub mod keeper;
pub mod loops;
pub mod memory;
pub mod mntns;
pub mod netlink;
pub mod netns;
pub mod openat2;
pub mod pidfd;
pub mod port;
pub mod process;
pub mod program;
pub mod raw;
mod resolve;
pub mod run;
pub mod sockopt;
pub mod spawners;
pub mod task;
pub mod terminal;
pub mod timer;
pub mod watch;
mod words;
pub mod xattr;

/// A filter of `specs/seccomp`, compiled ahead of time for this architecture.
macro_rules! embedded_filter {
    ($name:literal) => {{
        #[cfg(target_arch = "x86_64")]
        const PROGRAM: &[u8] = include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/specs/seccomp/",
            $name,
            ".x86_64.bpf"
        ));
        #[cfg(target_arch = "aarch64")]
        const PROGRAM: &[u8] = include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/specs/seccomp/",
            $name,
            ".aarch64.bpf"
        ));
        PROGRAM
    }};
}

pub(crate) use embedded_filter;

pub use cstrings::CStrings;
pub use errno::Errno;
