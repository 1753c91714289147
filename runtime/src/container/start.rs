//! `start`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::notify::Notify;
use super::{CREATED, Container, Warn, hooks};
use crate::config::oci::Status;
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::start::{self, HookOutput};
use crate::sys::{Errno, channel, pidfd, process};

/// Starts the program of a created container.
///
/// # Errors
/// It is not in the state `created`, or a step failed; then the container has ended.
pub fn start(journal: &Journal, id: &str, warn: &Warn) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let refuse = |how: &str| {
        Error::new(format!("cannot start container {id}: {how}")).kind(Kind::WrongState)
    };
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(refuse("it has stopped")),
        Status::Creating => return Err(refuse("it was not created completely")),
        Status::Paused => return Err(refuse("it is paused")),
        Status::Running => return Err(refuse("it is already running")),
    }
    let socket = entry.file(CREATED);
    let connection = match channel::connect(entry.as_lock().as_fd(), CREATED) {
        // The process that sent `Go` was killed before it could remove the socket.
        Err(Errno(libc::ECONNREFUSED)) => {
            let _ = fs::remove_file(&socket);
            return Err(refuse("it is already running"));
        }
        connection => {
            connection.map_err(|e| Error::os(format!("connect to {}", socket.display()), e))?
        }
    };
    let notify = Notify::listen(journal, id)?;
    let process = container.process()?;
    warn.debug(&format!("start the process of container {id}"));
    let tell = |line: &str| warn.note(line);
    let started = start::start(connection.as_fd(), &mut HookOutput::new(&tell));
    let _ = fs::remove_file(&socket);
    started.inspect_err(|_| wait_for_end(process.as_ref()))?;
    let lists = container.record.asked.config.hooks.clone().unwrap_or_default();
    if !lists.poststart.is_empty() {
        let pid = journal.process(id)?.map_or(0, |process| process.pid);
        let state = container.record.state(Status::Running, pid);
        if let Err(error) = hooks::run(&lists.poststart, "poststart", &state, warn) {
            let left = super::kill::everything(&container);
            wait_for_end(process.as_ref());
            return Err(match left {
                Ok(()) => error,
                Err(left) => error.hint(format!("not everything was stopped ({left})")),
            });
        }
    }
    warn.debug(&format!("the program of container {id} is running"));
    // Release the lock: other verbs may use the container while it gets ready.
    drop(entry);
    let Some(notify) = notify else { return Ok(()) };
    process.map_or(Ok(()), |(pid, pidfd)| notify.pass_on(pidfd, pid))
}

/// An engine deletes a container whose `start` failed, and that fails for good (containerd: "task
/// must be stopped before deletion") unless it has seen the process end. So wait for that, and for
/// its parent to reap it, if the parent does so.
fn wait_for_end(process: Option<&(i32, OwnedFd)>) {
    let Some((_, pidfd)) = process else { return };
    let _ = process::readable([pidfd.as_fd()], Some(Duration::from_secs(10)));
    let end = Instant::now() + Duration::from_millis(200);
    while pidfd::send_signal(pidfd.as_fd(), 0).is_ok() && Instant::now() < end {
        sleep(Duration::from_millis(1));
    }
}
