//! What a container has used.
//!
//! A counter that this kernel does not have, or whose controller is unavailable, is left out or 0.

pub mod counters;
mod v1;
mod v2;

use counters::{CounterFiles, Extent, Stats};

use super::hierarchy::{Controller, Version};
use super::record::Cgroup;

/// The controllers that say what most want to know.
const ESSENTIAL: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids, Controller::Io];

impl Cgroup {
    /// Reads the counters.
    pub fn stats(&self) -> Stats {
        self.read_stats(&Controller::ALL, Extent::All)
    }

    /// Reads the use of processors, memory, processes and disks, and no more: for those who look often, at many.
    pub fn essential_stats(&self) -> Stats {
        self.read_stats(&ESSENTIAL, Extent::Essential)
    }

    fn read_stats(&self, controllers: &[Controller], extent: Extent) -> Stats {
        let mut stats = Stats::default();
        for controller in controllers.iter().copied() {
            let Some(dir) = self.deciding(controller) else { continue };
            let files = CounterFiles(self.path(dir));
            match dir.version {
                Version::V1 => v1::read(controller, &files, extent, &mut stats),
                Version::V2 => v2::read(controller, &files, &mut stats),
            }
        }
        stats
    }
}
