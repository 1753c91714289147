//! Thin typed calls to the kernel, and the only unsafe code of the project.
//!
//! Everything in [`raw`] is a bare system call: no allocation, no lock, no thread-local `errno`,
//! so that it may be used in a child that shares its parent's memory.
#![allow(unsafe_code)]

pub mod abandon;
mod errno;
pub mod netlink;
pub mod netns;
pub mod port;
pub mod raw;

pub use errno::Errno;
