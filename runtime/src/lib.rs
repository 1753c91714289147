//! Garth runs a program inside a small enclosed yard.
//!
//! A sandbox is a short program: what was asked ([`spec`]) is compiled to what will be done
//! ([`plan`]), a flat list of steps that is pure data; [`start`] does it, in a child that only
//! executes the list; [`host`] holds what must exist outside the sandbox and be released.

pub mod error;
pub mod host;
pub mod plan;
pub mod spec;
pub mod sys;

pub use error::{Error, Kind, Result};
