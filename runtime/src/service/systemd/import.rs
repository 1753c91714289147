//! From a unit to a service of a service file. What cannot be carried over is said, with the
//! reason: in comments of the file, and as [`ImportNote`]s.

mod files;
mod lifecycle;
mod limits;
mod privileges;
mod program;
mod rest;

use std::path::Path;

use super::draft::ImportNote;
use super::name::UnitName;
use super::reader::{UnitMachine, UnitReader};
use super::unit::UnitFile;
use crate::error::{Error, Result};
use crate::service::{Service, ServiceFile};

/// A unit as a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// Its name in the file.
    pub name: String,
    /// What it asks for.
    pub service: Service,
    /// The service file, with comments.
    pub text: String,
    /// What was not carried over.
    pub notes: Vec<ImportNote>,
}

/// Imports a unit, which was read from `source`.
///
/// # Errors
/// It has not one command, or something that must be known about the machine cannot be found out.
pub fn import(
    name: &UnitName,
    unit: &UnitFile,
    source: &str,
    machine: &dyn UnitMachine,
) -> Result<Import> {
    let mut reader = UnitReader::new(name, unit, machine);
    let title = reader.last_of("Unit", "Description").unwrap_or_default();
    reader.draft.head.push(match title.is_empty() {
        true => name.file(),
        false => format!("{}: {title}", name.file()),
    });
    let manuals = reader.list_of("Unit", "Documentation").join(" ");
    if !manuals.is_empty() {
        reader.draft.head.push(format!("Documentation: {manuals}"));
    }
    reader.draft.head.push(format!("By garth import systemd, from {source}"));
    let owner = program::owner(&mut reader);
    let command = program::command(&mut reader, &owner)?;
    privileges::network(&mut reader);
    files::files(&mut reader, &owner, &command)?;
    privileges::capabilities(&mut reader, &owner);
    limits::limits(&mut reader);
    lifecycle::lifecycle(&mut reader);
    rest::rest(&mut reader);
    let name = name.of_service();
    let text = reader.draft.text(&name);
    let path = Path::new("the service");
    let mut file = ServiceFile::parse(&text, path, &|_| None)
        .map_err(|error| error.within("write a service file"))?;
    let service = file.services.remove(&name);
    let service = service.ok_or_else(|| Error::new("write a service file: no service"))?;
    Ok(Import { name, service, text, notes: reader.draft.notes })
}

#[cfg(test)]
mod tests;
