//! What happens to the RAID volumes of a sandbox or service while it runs, as lines of its log. Its
//! keeper waits for the kernel to say that something has (`sys/keeper/main.rs`), and then a second
//! start of this program looks, compares with what it saw last, and writes.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;

use super::keeper;
use super::register::Registered;
use crate::error::{Error, Result};
use crate::journal::{read_json, write_json};
use crate::resource::log;
use crate::resource::record::SandboxRecord;
use crate::volume::watch::{VolumesSeen, compare};

/// Looks again, and writes what has happened into the log.
///
/// # Errors
/// It cannot be determined, or written.
pub fn look(words: &[OsString]) -> Result<()> {
    let (journal, name, stream) = keeper::of_watch(words)?;
    // It has ended meanwhile.
    if !journal.has_record(&name)? {
        return Ok(());
    }
    let volumes = SandboxRecord::read(&journal, &name)?.resources.volumes;
    let path = keeper::seen(&journal, &name);
    let mut known: VolumesSeen = read_json(&path)?.unwrap_or_default();
    let lines = compare(&volumes, &mut known)?;
    write_json(&path, &known)?;
    let service = Registered::new(&journal, &name);
    let dir = match service.exists()? {
        true => service.dir(),
        false => journal.file(&name, ""),
    };
    // The caller's file, or else /dev/null.
    let stdout = std::io::stdout();
    let is_file = std::fs::metadata("/proc/self/fd/1").is_ok_and(|out| out.is_file());
    let mut stream = stream.map(File::from);
    for line in lines {
        let line = format!("garth: {line}");
        let failed = |error| Error::io("write to the log", &error);
        match &mut stream {
            Some(journald) => writeln!(journald, "{line}").map_err(failed)?,
            None if is_file => writeln!(stdout.lock(), "{line}").map_err(failed)?,
            None => log::append(&dir, &line)?,
        }
    }
    Ok(())
}
