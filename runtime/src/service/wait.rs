//! Waiting for the end of a sandbox that somebody else has started.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::trace::Trace;
use crate::sys::process;

/// Waits until sandbox `name` has ended and what it had is released; tells how it ended. One that has
/// ended already is told at once, while it is remembered.
///
/// # Errors
/// There is no such sandbox, or it was not a detached one: how that ended is known only to the process
/// that started it.
pub fn wait(journal: &Journal, name: &str) -> Result<Trace> {
    // How long a release may take, and a start until there is a process.
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
            return Err(Error::new(format!("{name} has ended, and is not released"))
                .hint("garth gc releases what nobody looks after"));
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    match Trace::read(journal, name)? {
        Some(trace) => Ok(trace),
        None if was_there => Err(Error::new(format!("{name} has ended, and left no trace"))
            .hint("only detached sandboxes do; others tell whoever started them")),
        None => Err(Error::new(format!("no sandbox named {name}"))
            .hint("garth ps -a lists those that run or have ended")),
    }
}
