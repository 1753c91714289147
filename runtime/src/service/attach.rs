//! Attaching to the terminal of a sandbox that runs detached.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::face::Face;
use super::keeper::ATTACH;
use crate::error::{Error, Result};
use crate::journal::{Journal, ProcessId};
use crate::resource::record::SandboxRecord;
use crate::resource::trace::Trace;
use crate::start::Terminal;
use crate::sys::channel;

/// A detached sandbox to which a terminal is attached.
#[derive(Debug)]
pub struct AttachedSandbox {
    journal: Journal,
    name: String,
    process: Option<ProcessId>,
}

/// Attaches to the sandbox or service `name`. What is typed goes to the terminal; its output comes
/// from the file, until that is closed at either end.
///
/// # Errors
/// It has no terminal, is not detached, or another terminal is attached to it.
pub fn attach(journal: &Journal, name: &str) -> Result<(Terminal, File, AttachedSandbox)> {
    if Face::of(journal, name)? == Face::Container {
        return Err(match journal.containers().has(name)? {
            true => Error::new(format!("{name} is a container"))
                .hint("the engine that has started it attaches to it"),
            false => Error::new(format!("no sandbox named {name} is running"))
                .hint("garth ps lists those that are"),
        });
    }
    let record = SandboxRecord::read(journal, name)?;
    if !record.asked.terminal {
        return Err(Error::new(format!("{name} has no terminal")).hint(format!(
            "garth logs -f {name} prints its output, garth exec -it {name} sh starts a shell in it; \
             with wrap -dt, or tty = true for a service, it has one"
        )));
    }
    let process = journal.process(name)?;
    let path = journal.file(name, ATTACH);
    let socket = channel::connect_stream(&path).map_err(|errno| {
        match std::io::Error::from(errno).kind() {
            ErrorKind::NotFound => Error::new(format!("{name} was not started detached"))
                .hint("its terminal is that of the process which has started it"),
            ErrorKind::ConnectionRefused => Error::new(format!("{name} has lost its keeper"))
                .hint("its terminal has gone with it"),
            _ => Error::os(format!("connect to {}", path.display()), errno),
        }
    })?;
    let master = channel::take_descriptor(socket.as_fd())
        .map_err(|errno| Error::os(format!("receive the terminal of {name}"), errno))?;
    let master = master.ok_or_else(|| {
        Error::new(format!("another terminal is attached to {name}"))
            .hint("it is detached by the keys for that, ctrl-p,ctrl-q unless it has chosen others")
    })?;
    let attached = AttachedSandbox { journal: journal.clone(), name: name.to_owned(), process };
    Ok((Terminal::from_master(master), socket.into(), attached))
}

impl AttachedSandbox {
    /// Waits until it is released, and returns its exit code, as a shell would show it.
    ///
    /// # Errors
    /// Its keeper has been killed and it runs on; or it has been started again already.
    pub fn exit_code(&self) -> Result<i32> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let AttachedSandbox { journal, name, process } = self;
        let deadline = Instant::now() + PATIENCE;
        while journal.process(name)? == *process && journal.has(name)? {
            if !journal.is_held(name)? && journal.open_process(name)?.is_some() {
                return Err(Error::new(format!("the keeper of {name} is gone")).hint(
                    "garth gc releases what has ended; garth up gives a service a new keeper",
                ));
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!("{name} has ended but was not released"))
                    .hint("run garth gc to release it"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        match Trace::read(journal, name)? {
            Some(trace) => Ok(trace.exit_code),
            None => Err(Error::new(format!("{name} has ended"))),
        }
    }
}
