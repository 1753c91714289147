//! The second start of this program, for `super::second`.

use std::ffi::OsString;

use super::again;
use super::join::join;
use super::sandbox::Child;
use super::second::{StartOrder, Started};
use super::{Process, Terminal, stand_in};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::process::Signals;

/// Carries out the order and passes back the descriptors to be held.
///
/// # Errors
/// The first start is gone.
pub fn serve(words: &[OsString]) -> Result<()> {
    // A signal that ends the first start now must not leave half a sandbox behind.
    let _signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
    let (order, reply) = again::take::<StartOrder>(words)?;
    stand_in::begin();
    let started = match &order {
        StartOrder::Spawn(placed, options) => {
            placed.spawn_placed(options).and_then(|mut child: Child| {
                let terminal = pass_terminal(&reply, child.take_terminal())?;
                child.held().try_for_each(|held| reply.pass(&held))?;
                Ok(Started { terminal, ..of(child.process(), child.id()) })
            })
        }
        StartOrder::Join(root, record, sandbox, window) => {
            join(&Journal::at(root.clone()), record, sandbox, *window).and_then(|mut process| {
                let terminal = pass_terminal(&reply, process.take_terminal())?;
                Ok(Started { terminal, ..of(&process, None) })
            })
        }
    };
    reply.answer(&Ok((stand_in::child(), started)))
}

/// Whether there was one.
fn pass_terminal(reply: &again::Reply, terminal: Option<Terminal>) -> Result<bool> {
    terminal.as_ref().map_or(Ok(false), |terminal| reply.pass(terminal).map(|()| true))
}

fn of(process: &Process, id: Option<&str>) -> Started {
    Started {
        pid: process.pid(),
        is_init: process.is_init(),
        spared: process.spared().to_vec(),
        id: id.map(str::to_owned),
        terminal: false,
    }
}
