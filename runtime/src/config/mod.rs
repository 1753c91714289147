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
pub(crate) mod name;
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
pub(crate) mod secret;
#[doc(hidden)]
pub mod units;

use crate::error::Error;

pub use capability::{Capability, CapabilitySet};
pub use directory::Directory;
pub use mount::{Access, Mount, MountKind, MountOwner};
pub use sandbox::{Namespace, Namespaces, Root, Sandbox, Seccomp};
#[doc(hidden)]
pub use sandbox::{USUAL_PATH, variable};

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
pub use secret::Secret;
pub use units::{Rate, Size, Span};

/// The error, with the known word nearest to `word` as its hint, if there is one: at most two edits
/// away, and not half of the word.
pub(crate) fn did_you_mean<'a>(
    error: Error,
    word: &str,
    known: impl Iterator<Item = &'a str>,
) -> Error {
    let scored = known.map(|candidate| (strsim::levenshtein(word, candidate), candidate));
    let near = scored.filter(|(edits, _)| *edits <= 2.min(word.len() / 2)).min();
    match near {
        Some((_, near)) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}
