//! What was asked, as validated plain data.

pub mod seccomp;
