//! `garth mounts`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::Global;
use crate::config::oci::Mount;
use crate::container;
use crate::error::{Error, Result};

/// Change the mounts of a running container
#[derive(Debug, Subcommand)]
pub enum Mounts {
    /// Add mounts from a list in the format of `mounts` in config.json
    Add(Which),
    /// Remove the mounts at the destinations in such a list
    Remove(Which),
}

/// A container and a list of mounts
#[derive(Debug, Args)]
pub struct Which {
    /// The container
    id: String,
    /// File with the list as JSON [default: standard input]
    #[arg(default_value = "-", hide_default_value = true)]
    file: PathBuf,
}

impl Mounts {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let containers = global.journal().containers();
        match self {
            Mounts::Add(Which { id, file }) => {
                container::add_mounts(&containers, &id, &read(file)?).map(|()| 0)
            }
            Mounts::Remove(Which { id, file }) => {
                container::remove_mounts(&containers, &id, &read(file)?).map(|()| 0)
            }
        }
    }
}

/// Reads a list, or an object with the list under `mounts`.
fn read(file: PathBuf) -> Result<Vec<Mount>> {
    let (text, shown) = super::read_input(file)?;
    let failed = |e: serde_json::Error| Error::new(format!("{shown}: {e}"));
    let mut value: Value = serde_json::from_slice(&text).map_err(failed)?;
    if let Some(list) = value.get_mut("mounts") {
        value = list.take();
    }
    serde_json::from_value(value).map_err(failed)
}
