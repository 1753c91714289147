//! The record of a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::time;
use crate::config::LimitSource;
use crate::config::oci::{self, Config, State, Status};
use crate::resource::record::Recorded;

/// The record of one container.
pub type ContainerRecord = crate::resource::record::Record<Asked>;

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The absolute path of the bundle.
    pub bundle: PathBuf,
    /// User id of the creator.
    pub owner: u32,
    /// The bundle's configuration as it was read.
    pub config: Config,
}

impl Recorded for Asked {
    fn limits(&self) -> LimitSource<'_> {
        let linux = self.config.linux.as_ref();
        let asked = linux.and_then(|linux| linux.resources.as_ref());
        asked.map_or(LimitSource::NONE, LimitSource::Config)
    }
}

impl ContainerRecord {
    /// The state as the specification defines it.
    pub fn state(&self, status: Status, pid: i32) -> State {
        State {
            oci_version: oci::VERSION.into(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.asked.bundle.to_string_lossy().into_owned(),
            annotations: self.asked.config.annotations.clone(),
        }
    }

    /// The absolute path of the root file system.
    pub fn rootfs(&self) -> PathBuf {
        let path = self.asked.config.root.as_ref().map_or("", |root| root.path.as_str());
        self.asked.bundle.join(path)
    }

    /// The time of creation as text.
    pub fn created(&self) -> String {
        time::rfc3339(self.created)
    }
}
