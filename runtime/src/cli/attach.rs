//! `garth attach`.

use std::io::{IsTerminal, stdin};

use clap::Args;

use super::{Global, tell};
use crate::error::{Error, Result};
use crate::service;
use crate::start::attach::{AttachEnd, attach};
use crate::start::detach_keys::DetachKeys;
use crate::start::relay::Caller;
use crate::sys::process::{Ended, Signals};

/// Attach to the terminal of a detached sandbox or service
///
/// For those started by `wrap -dt`, or with `tty = true`. What is typed goes to the command, ^C too;
/// its output goes on to the log as well. The detach keys leave it running, and so does a hang-up;
/// if the command ends meanwhile, the exit status is its own. One terminal at a time.
#[derive(Debug, Args)]
pub struct Attach {
    /// Keys that detach the terminal: characters or ctrl- and a letter, separated by commas
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// The sandbox or service
    name: String,
}

impl Attach {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let Attach { detach_keys, name } = self;
        if !stdin().is_terminal() {
            return Err(Error::new("attach: the input device is not a TTY")
                .hint(format!("garth logs -f {name} prints the output")));
        }
        let caller = Caller::at_stdin()?;
        let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
        let (terminal, output, attached) = service::attach(&global.journal(), &name)?;
        match attach(terminal, output, detach_keys, &caller, &signals)? {
            AttachEnd::Left => {
                tell(&format!("detached from {name}, which runs on"));
                Ok(0)
            }
            AttachEnd::Interrupted(signal) => Ok(service::end_as(Ended::Killed(signal))),
            AttachEnd::Closed => attached.exit_code(),
        }
    }
}
