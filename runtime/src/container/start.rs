//! `start`.

use std::fs;
use std::os::fd::AsFd;

use super::{CREATED, Container, hooks};
use crate::error::{Error, Result};
use crate::host::journal::Journal;
use crate::plan;
use crate::spec::oci::Status;
use crate::start;
use crate::sys::{Errno, line};

/// Lets the program of a created container begin.
///
/// # Errors
/// When it is not in the state `created`, or the step that failed; the container has ended then.
pub fn start(journal: &Journal, id: &str) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let refuse = |how: &str| Error::new(format!("cannot start container {id}: {how}"));
    match container.status() {
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
    let plan = || {
        // The same steps: only descriptors and facts that are passed over by now differ.
        let mut given = super::prepare::surroundings()?;
        given.listener = Some(-1);
        given.console = Some(-1);
        if let Some(profile) = super::linux(&container.record.config).seccomp {
            given.seccomp = Some((&plan::seccomp::compile(&profile)?).into());
        }
        given.cgroup_files = container.record.cgroup.entrance(None).unwrap_or_default().files;
        plan::container::compile(&container.record.config, &given)
    };
    let started = start::start(connection.as_fd(), plan);
    let _ = fs::remove_file(&socket);
    started?;
    let lists = container.record.config.hooks.clone().unwrap_or_default();
    if !lists.poststart.is_empty() {
        let pid = journal.process(id).map_or(0, |process| process.pid);
        let state = container.record.state(Status::Running, pid);
        if let Err(error) = hooks::run(&lists.poststart, "poststart", &state) {
            super::kill::everything(&container);
            return Err(error);
        }
    }
    Ok(())
}
