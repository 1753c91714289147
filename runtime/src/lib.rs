//! Garth runs a program inside a small enclosed yard.
//!
//! A sandbox is a short program: what was asked ([`spec`]) is compiled to what will be done
//! ([`plan`]), a flat list of steps that is pure data; [`start`] does it, in a child that only
//! executes the list; [`host`] holds what must exist outside the sandbox and be released.

pub mod cli;
pub mod error;
pub mod host;
pub mod plan;
pub mod service;
pub mod spec;
pub mod start;
pub mod sys;

pub use error::{Error, Kind, Result};
pub use spec::Sandbox;
pub use start::{Child, FileAction, Group, Options, Process, Spawn, Spawned, Stdio};
