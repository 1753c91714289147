//! The cgroup of a sandbox or container: one directory in each tree that matters to it.
//!
//! Those of `garth wrap` are `<top>/garth/<id>`. Where systemd manages the unified tree, the top is
//! a cgroup that it has delegated, or a scope that it creates for the sandbox (`ground`). Elsewhere
//! it is the mount point of the tree for root, and a directory delegated to them for other users.
//! The first sandbox creates the shared directory `garth`, and the last one removes it.
//!
//! `choose` decides for a sandbox, and `choose_container` for a container, which goes where
//! config.json says: they only refuse, and create nothing. They return the record for the journal,
//! [`Cgroup`], and from there on both are the same: a resource that is created, joined, changed and
//! released.
//!
//! `claim` settles who owns a directory; [`Cgroup::give_up`] needs only the record and the mark in
//! the journal: it kills the processes that are left, removes the directories, and may be repeated.
//!
//! | files | |
//! |---|---|
//! | `hierarchy`, `directory`, `walk`, `subtree` | the trees, and one directory in them |
//! | `setting`, `v1`, `v2`, `rules`, `filter`, `io`, `disk` | what is asked, as values and programs; mostly pure |
//! | `systemd/` | units, over D-Bus |
//! | `record` | [`Cgroup`] |
//! | `ground`, `choose`, `container` | where it is to be |
//! | `claim`, `make`, `join`, `limit`, `devices` | making it, and what is done to it |
//! | `processes`, `freezer`, `oom`, `stats/`, `inside` | what goes on in it |
//! | `release`, `resource` | its end; and the face that the journal's resources have |
//!
//! In a hybrid setup a controller is taken from the v1 tree that has it, otherwise from the
//! unified one. A kernel never has the same controller in both.

mod choose;
mod claim;
mod container;
mod devices;
mod directory;
mod disk;
mod filter;
mod freezer;
#[cfg(fuzzing)]
mod fuzz;
mod ground;
mod hierarchy;
mod inside;
pub mod io;
mod join;
mod limit;
mod make;
mod oom;
mod processes;
mod record;
mod release;
mod resource;
mod rules;
mod setting;
pub mod stats;
mod subtree;
pub mod systemd;
#[cfg(test)]
pub(super) mod tests;
mod v1;
mod v2;
mod walk;

pub use choose::choose;
pub use claim::{Claim, MARK};
pub use container::{Driver, Wanted, choose_container};
pub use freezer::Freezer;
#[cfg(fuzzing)]
pub use fuzz::compute;
pub use ground::place_in_words;
pub use hierarchy::{Controller, Hierarchy, MountedTree, Version};
pub use join::Entrance;
pub use oom::{Oom, OomEvent};
pub use record::Cgroup;
pub use release::leftovers;
pub use stats::counters::{BlkioEntry, MemoryEntry, Pressure, Stalls, Stats};
