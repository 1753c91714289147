//! Starting or joining a sandbox by a second start of this program, when its file could be written
//! through the first. The second does everything, its children being those of the first
//! (CLONE_PARENT), passes back the descriptors to be held, and exits (`start/serve.rs`).

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::again::{self, Again};
use super::terminal::{Terminal, Window};
use super::{Options, Process, Spawn, seal};
use crate::config::Sandbox;
use crate::error::Result;
use crate::journal::Journal;
use crate::resource::record::SandboxRecord;

/// The word that selects this kind of second start.
pub const WORD: &str = "start";

/// What it is to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum StartOrder {
    /// Start a sandbox.
    Spawn(Box<Sandbox>, Options),
    /// Join one: the state directory, its record, what to run, and what its terminal looks like.
    Join(PathBuf, Box<SandboxRecord>, Box<Sandbox>, Window),
}

/// What it has started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    pub pid: i32,
    pub is_init: bool,
    pub spared: Vec<String>,
    /// Its name in the journal, if it has an entry.
    pub id: Option<String>,
    /// The first descriptor is the master of its terminal.
    pub terminal: bool,
}

/// Starts a sandbox. Returns what was started and the descriptors to hold for it, with the lock of
/// its entry last.
pub fn spawn(placed: Sandbox, options: &Options) -> Result<(Started, Vec<OwnedFd>)> {
    let sockets = placed.listen_fds;
    ask(&StartOrder::Spawn(Box::new(placed), options.clone()), sockets)
}

/// Same as `super::join`.
pub fn join(
    journal: &Journal,
    record: &SandboxRecord,
    sandbox: &Sandbox,
    window: Window,
) -> Result<Process> {
    let (record, sandbox) = (Box::new(record.clone()), Box::new(sandbox.clone()));
    let order = StartOrder::Join(journal.root().to_owned(), record, sandbox, window);
    let (started, mut passed) = ask(&order, 0)?;
    started.process(&mut passed)
}

fn ask(order: &StartOrder, listen_fds: u16) -> Result<(Started, Vec<OwnedFd>)> {
    if !again::is_possible() {
        seal::demand()?;
    }
    let spawn = Spawn { die_with_parent: true, ..Spawn::default() };
    let second = Again { word: WORD, listen_fds, protected: true, spawn }.order(order)?;
    let who = match order {
        StartOrder::Spawn(..) => "the process that starts the sandbox",
        StartOrder::Join(..) => "the process that joins the sandbox",
    };
    let answer = second.answer::<(Option<i32>, Result<Started>)>(who);
    let (answer, held) = answer.map_err(|error| error.hint("garth gc removes what it has left"))?;
    second.process.wait()?;
    match answer? {
        (_, Ok(started)) => Ok((started, held)),
        (child, Err(error)) => {
            // It is dead, and it is our child to reap.
            if let Some(child) = child {
                let _ = Process::adopt(child).and_then(|child| child.wait());
            }
            Err(error)
        }
    }
}

impl Started {
    /// Its first process, a child of this one, with its terminal from the descriptors that were
    /// passed.
    pub fn process(&self, passed: &mut Vec<OwnedFd>) -> Result<Process> {
        let process = match self.is_init {
            true => Process::adopt_init(self.pid),
            false => Process::adopt(self.pid),
        };
        let has_terminal = self.terminal && !passed.is_empty();
        let terminal = has_terminal.then(|| Terminal::from_master(passed.remove(0)));
        Ok(process?.with_spared(self.spared.clone()).with_terminal(terminal))
    }
}
