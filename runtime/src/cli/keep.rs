//! What runs beside a detached sandbox: verbs that nobody types.

use clap::Args;

use super::{Global, tell};
use crate::error::Result;
use crate::service;

/// Start a detached sandbox, and look after it.
#[derive(Debug, Args)]
pub struct Keep {
    /// The descriptor on which to say that it runs
    told: i32,
}

impl Keep {
    pub(super) fn run(self) -> Result<i32> {
        Err(service::keep(self.told, &|loss| tell(&format!("warning: {loss}"))))
    }
}

/// Release a detached sandbox that has ended, and leave a trace of it.
#[derive(Debug, Args)]
pub struct Ended {
    /// The sandbox
    name: String,
    /// Its place in the journal, held: a descriptor
    entry: i32,
    /// Its first process, a child of this one
    pid: i32,
}

impl Ended {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        service::bury(&global.journal(), &self.name, self.entry, self.pid).map(|()| 0)
    }
}
