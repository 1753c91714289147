//! Thin typed calls to the kernel, and the only unsafe code of the project.
//!
//! What is in [`raw`] and [`clone`] may be used in a child that shares its parent's memory: no
//! allocation, no lock, no thread-local `errno`. The rest is for the parent.
#![allow(unsafe_code)]

pub mod abandon;
pub mod access;
pub mod bpf;
pub mod channel;
pub mod clone;
pub mod copy;
mod cstrings;
mod errno;
pub mod file;
pub mod fork;
pub mod init;
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
pub mod sockopt;
pub mod task;
pub mod terminal;
pub mod timer;
pub mod watch;
mod words;
pub mod xattr;

pub use cstrings::CStrings;
pub use errno::Errno;
