//! How a sandbox is started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::journal::Journal;
use crate::network;

/// How a sandbox is started, as opposed to what it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The state directory; `None` for [`Journal::default_root`].
    pub root: Option<PathBuf>,
    /// The name by which other commands find the sandbox; `None` for a random one.
    pub name: Option<String>,
    /// The address pools for private networks.
    pub pools: network::Pools,
    /// Send the command's standard error to its standard output.
    pub merge_stderr: bool,
}

impl Options {
    /// The state directory.
    pub fn journal(&self) -> Journal {
        Journal::at(self.root.clone().unwrap_or_else(Journal::default_root))
    }
}
