//! Waiting for the end of a detached sandbox.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::register::Registered;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::log::{self, journald::Journaled};
use crate::resource::trace::{LAST_LINES, Trace};
use crate::sys::process;

/// Waits until sandbox `name` has ended and its resources are released; returns how it ended. If it
/// has already ended, returns immediately while its trace is kept.
///
/// # Errors
/// There is no such sandbox, or it was not detached: then only the process that started it knows
/// how it ended.
pub fn wait(journal: &Journal, name: &str) -> Result<Trace> {
    // The longest time for a release, and for a start until there is a process.
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut deadline = Instant::now() + PATIENCE;
    let mut was_there = false;
    while journal.has(name)? {
        was_there = true;
        if let Some(first) = journal.open_process(name)? {
            process::readable([first.as_fd()], None)
                .map_err(|errno| Error::os(format!("wait for the end of {name}"), errno))?;
            deadline = Instant::now() + PATIENCE;
        } else if Instant::now() > deadline {
            return Err(Error::new(format!("{name} has ended but was not released"))
                .hint("run garth gc to release it"));
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    match Trace::read(journal, name)? {
        Some(mut trace) => {
            // What a service has written to the journal is kept there.
            let dir = Registered::new(journal, name).dir();
            if trace.output.is_empty() && Journaled::of(&dir)?.is_some() {
                trace.output = log::last(&dir, LAST_LINES)?;
            }
            Ok(trace)
        }
        None if was_there => Err(Error::new(format!("{name} has ended and left no trace")).hint(
            "only detached sandboxes leave one; others report to the process that started them",
        )),
        None => Err(Error::new(format!("no sandbox named {name}"))
            .hint("garth ps -a lists running and ended sandboxes")),
    }
}
