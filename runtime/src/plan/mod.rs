//! What will be done: pure compilation, no file, no clock, no environment.

pub mod seccomp;
