//! systemd and service files: a unit as a service, and a service as a unit.

mod command;
mod draft;
mod export;
mod find;
mod flags;
mod import;
mod name;
mod reader;
mod unit;
mod values;

use std::path::Path;

pub use draft::ImportNote;
pub use export::{Export, Starts, export};
pub use flags::flags;
pub use import::Import;
pub use name::UnitName;
pub use reader::{MadeAtBoot, PathKind, UnitMachine};
pub use unit::UnitFile;

use crate::error::Result;

/// Imports a unit of this machine: a path, or a name that is looked up where systemd does.
///
/// # Errors
/// It does not exist, is not a service with one command, or cannot be read.
pub fn import_unit(what: &str) -> Result<Import> {
    let found = find::find(what, Path::new("/"))?;
    let source = found.path.display().to_string();
    import(&found.name, &found.unit, &source, &find::ThisMachine)
}

pub use import::import;
