//! Operations on sandboxes: run one in the foreground or detached, list, enter and end them.

pub(crate) mod again;
mod detach;
mod doctor;
mod enter;
mod face;
mod handed;
mod list;
mod release;
mod settings;
mod signal;
mod supervise;
mod update;
mod wait;

pub use detach::Background;
pub use enter::{Entering, enter};
pub use face::{Face, first_process};
pub use list::{Listed, cautions, check, list, list_all};
pub use release::{collect, delete};
pub use settings::{Base, Resolved, Settings};
pub use signal::kill;
pub use supervise::supervise;
pub use update::update;
pub use wait::wait;

// For the command line.
#[doc(hidden)]
pub use doctor::{Finding, Health, examine};
#[doc(hidden)]
pub use supervise::{end_as, supervise_process};
