//! How a sandbox is started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::journal::Journal;
use crate::network;

/// How a sandbox is started, beside what it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The state directory; none: [`Journal::default_root`].
    pub root: Option<PathBuf>,
    /// The name under which others can find it; none: a random one, known to nobody.
    pub name: Option<String>,
    /// The pools of the private network's addresses.
    pub pools: network::Pools,
    /// The command's standard error goes where its standard output goes.
    pub merge_stderr: bool,
}

impl Options {
    /// The state directory.
    pub fn journal(&self) -> Journal {
        Journal::at(self.root.clone().unwrap_or_else(Journal::default_root))
    }
}
