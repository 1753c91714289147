//! `start`.

use std::fs;
use std::os::fd::AsFd;

use super::notify::Notify;
use super::{CREATED, Container, Warn, hooks};
use crate::error::{Error, Result};
use crate::host::journal::Journal;
use crate::spec::oci::Status;
use crate::start::{self, Said};
use crate::sys::{Errno, line};

/// Lets the program of a created container begin.
///
/// # Errors
/// When it is not in the state `created`, or the step that failed; the container has ended then.
pub fn start(journal: &Journal, id: &str, warn: &Warn) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let refuse = |how: &str| Error::new(format!("cannot start container {id}: {how}"));
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(refuse("it has stopped")),
        Status::Creating => return Err(refuse("its creation was not completed")),
        Status::Paused => return Err(refuse("it is paused")),
        Status::Running => return Err(refuse("it is running already")),
    }
    let socket = entry.file(CREATED);
    let connection = match line::connect(entry.as_lock().as_fd(), CREATED) {
        // Whoever said `Go` before was killed before it could remove the socket.
        Err(Errno(libc::ECONNREFUSED)) => {
            let _ = fs::remove_file(&socket);
            return Err(refuse("it is running already"));
        }
        connection => {
            connection.map_err(|e| Error::os(format!("connect to {}", socket.display()), e))?
        }
    };
    let notify = Notify::listen(journal, id)?;
    warn.debug(&format!("let the process of container {id} go on"));
    let tell = |line: &str| warn.note(line);
    let started = start::start(connection.as_fd(), &mut Said::new(&tell));
    let _ = fs::remove_file(&socket);
    started?;
    let lists = container.record.config.hooks.clone().unwrap_or_default();
    if !lists.poststart.is_empty() {
        let pid = journal.process(id)?.map_or(0, |process| process.pid);
        let state = container.record.state(Status::Running, pid);
        if let Err(error) = hooks::run(&lists.poststart, "poststart", &state, warn) {
            return Err(match super::kill::everything(&container) {
                Ok(()) => error,
                Err(left) => error.hint(format!("not all was ended ({left})")),
            });
        }
    }
    warn.debug(&format!("the program of container {id} runs"));
    // Others may work on it while it gets ready.
    drop(entry);
    let Some(notify) = notify else { return Ok(()) };
    container.process()?.map_or(Ok(()), |(pid, pidfd)| notify.pass_on(pidfd, pid))
}
