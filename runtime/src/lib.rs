//! Garth runs commands and daemons in sandboxes.
//!
//! **A sandbox is a short program.** The request ([`config`], a [`Sandbox`]) is compiled to a
//! [`plan`]: a flat list of steps, pure data. [`start`] runs it, in a child that only executes the
//! list. Anything that must exist outside the sandbox and be released is a [`resource`]:
//! [`cgroup`], [`network`], bandwidth, plugins; each is written to the [`journal`] before it is
//! made. [`service`] has the operations on sandboxes, [`container`] the OCI life cycle, [`limit`]
//! the limiter for running processes, [`volume`] RAID volumes, [`measure`] what they use, [`cli`] the command line. [`facts`] are read from this
//! machine; [`sys`] has the system calls and the only unsafe code, [`wire`] the messages. Each room
//! uses only rooms before it in this list: `sys`, `wire` and `config`, `plan`, `facts`, `journal`,
//! `cgroup`, `network` and `volume`, `resource`, `start`, `container` and `limit`, `service`, `measure`, `cli`.
//!
//! Three ways in:
//!
//! - [`Sandbox::spawn`]: runs a command in a sandbox, with an interface like that of
//!   `std::process`; [`Sandbox::explain`] shows the steps without executing any.
//! - [`Spawn`]: starts a process without namespaces, at a cost that does not grow with the caller's
//!   memory.
//! - [`plan::compile`]: returns the plan for inspection.
//!
//! ```
//! use garth::{Options, Sandbox};
//!
//! let sandbox = Sandbox { command: vec!["/bin/true".into()], ..Sandbox::default() };
//! let plan = sandbox.explain(&Options::default())?.plan;
//! assert!(plan.to_string().contains("mount tmpfs on /tmp (nosuid,nodev,noexec)"));
//! # Ok::<(), garth::Error>(())
//! ```

// Documented are the rooms that a program needs; the others are public for this repository's tests.
#[doc(hidden)]
pub mod cgroup;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod container;
mod error;
#[doc(hidden)]
pub mod facts;
#[doc(hidden)]
pub mod journal;
pub mod limit;
pub mod measure;
#[doc(hidden)]
pub mod network;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod resource;
pub mod service;
#[doc(hidden)]
pub mod start;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod volume;
#[doc(hidden)]
pub mod wire;

sys::again::at_program_start!(service::again::main);

#[doc(inline)]
pub use config::Sandbox;
pub use container::Container;
pub use error::{Error, Kind, Result};
#[doc(inline)]
pub use journal::Journal;
#[doc(inline)]
pub use network::Pools;
#[doc(inline)]
pub use plan::{Plan, Planned};
#[doc(inline)]
pub use service::{Background, Settings};
#[doc(inline)]
pub use start::seal::own_program as protect_own_program;
#[doc(inline)]
pub use start::{
    Child, Explanation, FileAction, Group, Options, Process, Spawn, Spawned, Stdio, Terminal,
    Window,
};
#[doc(inline)]
pub use sys::Errno;
#[doc(inline)]
pub use sys::process::{Ended, Signals};

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
