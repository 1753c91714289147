//! Operations on sandboxes: run one in the foreground or detached, list, enter and end them.

pub(crate) mod again;
mod attach;
mod detach;
mod doctor;
mod enter;
pub mod export;
mod face;
mod file;
mod handed;
mod health;
mod keeper;
mod list;
mod register;
mod release;
mod rules;
#[cfg(test)]
mod schema;
mod settings;
mod signal;
mod supervise;
#[doc(hidden)]
pub mod systemd;
mod up;
mod update;
mod wait;
mod watch;

pub use attach::{AttachedSandbox, attach};
pub use detach::Background;
pub use enter::{Entering, enter};
pub use face::{Face, first_process};
pub use file::{Service, ServiceFile};
pub use list::{Listed, ListedService, ListedVolume, cautions, check, list, list_all};
pub use register::{AskedService, HealthState, Phase, Registered, have_ended, log_of};
pub use release::{collect, delete};
pub use rules::{HealthCheck, LogPlace, Probe, Restart, Rules, ServiceEnd, StopSignal};
pub use settings::{Base, Resolved, Settings};
pub use signal::kill;
pub use supervise::supervise;
pub use up::{Action, DownEnding, UpEvent, UpPlan, down, of_file, perform, take_up_lost};
pub use update::update;
pub use wait::wait;

// For the command line.
#[doc(hidden)]
pub use doctor::{Finding, Health, examine};
#[doc(hidden)]
pub use file::NOT_OF_FILES;
#[doc(hidden)]
pub use supervise::{end_as, supervise_process};
