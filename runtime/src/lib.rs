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

pub mod cgroup;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod container;
pub mod error;
pub mod facts;
pub mod journal;
pub mod limit;
pub mod network;
pub mod plan;
pub mod resource;
pub mod service;
pub mod start;
pub mod sys;
pub mod wire;

pub use config::Sandbox;
pub use error::{Error, Kind, Result};
pub use start::seal::own_program as protect_own_program;
pub use start::{Child, FileAction, Group, Options, Process, Spawn, Spawned, Stdio};

/// The examples of the README are run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
