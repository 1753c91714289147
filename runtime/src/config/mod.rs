//! The request: a [`Sandbox`] as plain data, whichever interface it came through.
//!
//! Nothing here looks at the machine. Text is parsed and checked; names (of users, of capabilities
//! beyond their spelling) are resolved later, against the host.

#[doc(hidden)]
pub mod annotation;
mod capability;
mod directory;
mod id_range;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod limits;
pub(crate) mod mount;
#[doc(hidden)]
pub mod network;
#[doc(hidden)]
pub mod oci;
pub(crate) mod os_path;
mod plugin;
mod provided;
#[doc(hidden)]
pub mod rate;
mod rate_group;
mod rlimit;
mod sandbox;
#[doc(hidden)]
pub mod seccomp;
#[doc(hidden)]
pub mod units;

pub use capability::{Capability, CapabilitySet};
pub use directory::Directory;
pub use mount::{Access, Mount, MountKind, MountOwner};
#[doc(hidden)]
pub use sandbox::variable;
pub use sandbox::{Namespace, Namespaces, Root, Sandbox, Seccomp};

pub use id_range::IdRange;
pub use io::Throttle;
pub use limits::{LimitSource, Limits};
pub use network::{Network, Publish};
pub use plugin::Plugin;
#[doc(hidden)]
pub use provided::{Provided, ProvidedDevice, ProvidedMount};
pub use rate::Change;
pub use rate::Rates;
pub use rate_group::RateGroup;
pub use rlimit::Rlimit;
pub use seccomp::Profile;
pub use units::{Rate, Size, Span};

#[doc(hidden)]
/// The known word nearest to `word`, for "did you mean": at most two edits away.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::levenshtein(word, candidate), candidate));
    scored.filter(|(edits, _)| *edits <= 2).min().map(|(_, candidate)| candidate)
}
