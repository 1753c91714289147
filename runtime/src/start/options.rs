//! How a sandbox is started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::terminal::Window;
use crate::journal::Journal;
use crate::network::{self, group::Membership};

/// How a sandbox is started, as opposed to what it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The state directory; `None` for [`Journal::default_root`].
    pub root: Option<PathBuf>,
    /// The name by which other commands find the sandbox; `None` for a random one.
    pub name: Option<String>,
    /// The address pools for private networks.
    pub pools: network::Pools,
    /// Its address, if that belongs to a group of services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
    /// Send the command's standard error to its standard output.
    pub merge_stderr: bool,
    /// What the command's terminal looks like, if it has one.
    #[serde(default)]
    pub window: Window,
}

impl Options {
    /// The state directory.
    pub fn journal(&self) -> Journal {
        Journal::at(self.root.clone().unwrap_or_else(Journal::default_root))
    }
}
