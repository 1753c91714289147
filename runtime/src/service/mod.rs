//! What people do with sandboxes: run one in the foreground or leave one behind, list them, enter
//! them, end them.

mod detach;
mod doctor;
mod handed;
mod list;
mod signal;
mod supervise;
mod throttle;
mod update;
mod wait;

pub use detach::{bury, detach, keep};
pub use doctor::{Finding, State, examine};
pub use handed::hand_down;
pub use list::{Entry, cautions, check, list, list_all};
pub use signal::signal;
pub use supervise::{end_as, supervise, supervise_process};
pub use throttle::{limit, throttle};
pub use update::update;
pub use wait::wait;
