//! What a container has used.
//!
//! A counter that this kernel does not have, or whose controller is unavailable, is left out or 0.

pub mod counters;
mod v1;
mod v2;

use counters::{CounterFiles, Stats};

use super::hierarchy::{Controller, Version};
use super::record::Cgroup;

impl Cgroup {
    /// Reads the counters.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for controller in Controller::ALL {
            let Some(dir) = self.deciding(controller) else { continue };
            let files = CounterFiles(self.path(dir));
            match dir.version {
                Version::V1 => v1::read(controller, &files, &mut stats),
                Version::V2 => v2::read(controller, &files, &mut stats),
            }
        }
        stats
    }
}
