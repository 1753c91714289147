//! Limits for running processes: stop and continue, steered by what has moved.
//!
//! ```text
//!  target   which process, and whether it may be
//!  tree     its descendants ──┐
//!  meter    what they moved ──┼─▶ control  run or stop ─▶ hold  signals or freezer
//!                             │
//!  acks     for readers that are stopped
//!  record   what is stopped, written down first ─▶ watchdog  lets go on when we cannot
//! ```
//!
//! [`run`] is the loop. No cooperation is needed: no library is loaded, no socket option is
//! changed, and static programs work as well as others.

mod acks;
mod command;
#[doc(hidden)]
pub mod control;
mod diag;
mod hold;
#[doc(hidden)]
pub mod meter;
mod payload;
mod record;
mod request;
mod run;
mod sockets;
mod strays;
mod target;
#[doc(hidden)]
pub mod traffic;
#[doc(hidden)]
pub mod tree;
mod watchdog;

pub use control::Duty;
pub use meter::Count;
pub use payload::NamespacePayload;
pub use record::{AtWork, at_work, release_all};
pub use request::{Ending, Figures, LimitRequest, Note, Target, Want};
pub use run::run;
pub use traffic::{Direction, Traffic};
