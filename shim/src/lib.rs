//! `containerd-shim-garth-v1`: containers of containerd, run by Garth's library. containerd starts it once for each
//! container, or pod, and calls it over a socket; no other program is executed.
//!
//! ```text
//!  flags ─▶ launch    start: a shim, and where it serves (bootstrap: in which words containerd expects that)
//!       └─▶ cleanup   delete: what is left of a container whose shim is gone
//!       └─▶ serve     the shim
//!             service    containerd's calls
//!               task       a container: its life, and who joined it
//!                 program    one program in it
//!                 stdio      its input and output
//!                 rootfs     its root file system
//!             events     what happened, for containerd
//!             reaper     processes that nobody waits for
//!             message    what containerd says, and is told
//! ```
//!
//! Files lower in this list do not use those above. Unsafe code is the library's alone.
#![forbid(unsafe_code)]

mod bootstrap;
mod cleanup;
mod events;
mod flags;
#[cfg(fuzzing)]
pub mod fuzz;
mod info;
mod launch;
mod log;
mod message;
mod metrics;
mod options;
mod program;
mod reaper;
mod rootfs;
mod serve;
mod service;
mod status;
mod stdio;
mod task;
mod watched;

use std::process::ExitCode;

use flags::{Action, Flags};

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program.
pub fn main() -> ExitCode {
    let done = Flags::parse(std::env::args_os().skip(1)).and_then(|flags| match flags.action {
        Action::Start => launch::start(&flags),
        Action::Delete => cleanup::delete(&flags),
        Action::Serve => serve::serve(&flags),
        Action::Info => info::info(),
        Action::Version => {
            println!("containerd-shim-garth-v1 {VERSION}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::warn(&error);
            eprintln!("containerd-shim-garth-v1: {error}");
            ExitCode::FAILURE
        }
    }
}
