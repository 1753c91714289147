//! What will be done: a [`Sandbox`](crate::config::Sandbox) compiled to a [`Plan`], a flat list of
//! [`Step`]s that is pure data.
//!
//! Compiling touches no file, no clock and no environment: what must be known of the machine comes
//! in as [`Facts`]. So plans are compared with golden text, the rules of order are tests on data,
//! and `explain` prints the very list that the child will walk.

mod compile;
pub mod container;
mod explain;
pub mod facts;
mod id_maps;
mod populate;
mod privileges;
pub mod program;
pub mod seccomp;
mod step;
pub(crate) mod view;

pub use compile::{compile, compile_join, maps_of};
pub use explain::namespaces;
pub use facts::{CgroupMount, Facts, HostMount, User, VolumeFact};
pub use id_maps::IdMaps;
pub use step::{Hook, MountStep, Named, Otherwise, Path, Planned, Procfs, Source, Step};

use crate::sys::clone::Memory;

/// Everything that will happen in the child, in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// CLONE_NEW* of the namespaces that the child begins in.
    pub namespaces: u64,
    /// The user namespace's id maps, which the parent writes before `Go`.
    pub id_maps: Option<IdMaps>,
    /// The child waits for `Go`: the parent has something to do that needs its process id.
    pub awaits_go: bool,
    /// An open directory of a unified cgroup that the child begins in.
    pub cgroup: Option<i32>,
    /// The child has a channel to its parent, and may outlive it before its program is executed.
    pub has_line: bool,
    /// Deviations from what a caller may expect that were not asked for, a line each.
    pub remarks: Vec<String>,
    /// The steps of the child, the last of which is [`Step::Exec`].
    pub steps: Vec<Planned>,
}

impl Plan {
    /// How the child relates to the caller's memory. See [`Memory`].
    pub fn memory(&self) -> Memory {
        if self.has_line {
            return Memory::Forked;
        }
        let joins = self.steps.iter().any(|planned| matches!(planned.step, Step::Join { .. }));
        match (joins, self.awaits_go) {
            // Among processes that existed before, it must not share memory with the outside.
            (true, _) => Memory::Copied,
            (false, true) => Memory::Beside,
            (false, false) => Memory::Borrowed,
        }
    }

    /// A plan of just these steps.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Plan {
        let mut plan = Plan::default();
        steps.into_iter().for_each(|step| plan.push(step, "always"));
        plan
    }

    /// Does a step check whether the parent is still alive?
    pub fn watches_parent(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::DieWithParent))
    }

    /// Does a process stay behind as init?
    pub fn has_init(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::Fork { .. }))
    }

    pub(crate) fn insert_first(&mut self, step: Step, origin: impl Into<String>) {
        self.steps.insert(0, Planned { step, origin: origin.into(), otherwise: Otherwise::Fail });
    }

    pub(crate) fn push(&mut self, step: Step, origin: impl Into<String>) {
        self.push_or(step, origin, Otherwise::Fail);
    }

    /// Same as `push`, for a step that may be refused.
    pub(crate) fn push_or(&mut self, step: Step, origin: impl Into<String>, otherwise: Otherwise) {
        self.steps.push(Planned { step, origin: origin.into(), otherwise });
    }
}
