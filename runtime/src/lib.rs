//! Garth runs a program inside a small enclosed yard.
//!
//! **A sandbox is a short program.** What was asked ([`spec`], a [`Sandbox`]) is compiled to what
//! will be done ([`plan`], a flat list of steps, pure data); [`start`] does it, in a child that
//! only executes the list; [`host`] holds what must exist outside the sandbox and be released.
//! [`service`] is what people do with sandboxes, [`limit`] with what runs already, [`cli`] what they
//! type, [`sys`] the system calls and the only unsafe code. Each uses only what is before it in this
//! order: `sys`, `spec`, `plan`, `host`, `start`, `service` and `limit`, `cli`.
//!
//! Three ways in:
//!
//! - [`Sandbox::spawn`]: a command in a yard of its own, shaped like `std::process`;
//!   [`Sandbox::explain`] shows every step and takes none.
//! - [`Spawn`]: a process without any namespace, at a cost that does not grow with the caller's
//!   memory.
//! - [`plan::compile`]: the plan, for those who want to look.
//!
//! ```
//! use garth::{Options, Sandbox};
//!
//! let yard = Sandbox { command: vec!["/bin/true".into()], ..Sandbox::default() };
//! let plan = yard.explain(&Options::default())?.plan;
//! assert!(plan.to_string().contains("mount tmpfs on /tmp (nosuid,nodev,noexec)"));
//! # Ok::<(), garth::Error>(())
//! ```

pub mod cli;
pub mod container;
pub mod error;
pub mod host;
pub mod limit;
pub mod plan;
pub mod service;
pub mod spec;
pub mod start;
pub mod sys;

pub use error::{Error, Kind, Result};
pub use host::seal::own_program as protect_own_program;
pub use spec::Sandbox;
pub use start::{Child, FileAction, Group, Options, Process, Spawn, Spawned, Stdio};

/// The examples of the README are run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
