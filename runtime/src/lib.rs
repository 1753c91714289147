//! Garth runs a program inside a small enclosed yard.
//!
//! **A sandbox is a short program.** What was asked ([`config`], a [`Sandbox`]) is compiled to what
//! will be done ([`plan`], a flat list of steps, pure data); [`start`] does it, in a child that
//! only executes the list. What must exist outside the sandbox and be released is a [`resource`]:
//! [`cgroup`], [`network`], bandwidth, plugins, each written to the [`journal`] before it is made.
//! [`service`] is what people do with sandboxes, [`container`] the OCI life cycle, [`limit`] what
//! can be done to what runs already, [`cli`] what people type. [`facts`] are read from this machine;
//! [`sys`] has the system calls and the only unsafe code, [`wire`] the messages. Each room uses only
//! rooms before it: `sys`, `wire` and `config`, `plan`, `facts`, `journal`, `cgroup` and `network`,
//! `resource`, `start`, `container`, `service` and `limit`, `cli`.
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

// Of the rooms those are shown that a program has to do with; the others are for this repository's tests.
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
pub use start::{Child, Explanation, FileAction, Group, Options, Process, Spawn, Spawned, Stdio};
#[doc(inline)]
pub use sys::Errno;
#[doc(inline)]
pub use sys::process::{Ended, Signals};

/// The examples of the README are run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
