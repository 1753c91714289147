//! `garth exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Global, oci};
use crate::error::{Error, Result};
use crate::service::{self, Entering, Face};
use crate::start::relay::Caller;
use crate::start::seal;
use crate::sys::process::Signals;

/// Run a command in a running sandbox or container
///
/// It is confined in the same way.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    oci: oci::ExecFlags,
    /// Give the command a terminal of its own, connected to the caller's
    #[arg(short, long)]
    tty: bool,
    /// Pass standard input on, which is the default, or what is typed with -t
    #[arg(short, long)]
    interactive: bool,
    /// User and group to run the command as [default: those of the sandbox]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory in the sandbox [default: that of the sandbox]
    #[arg(short, long, alias = "cwd", value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The sandbox or container
    name: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "process", value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) fn id(&self) -> &str {
        &self.name
    }

    pub(super) fn run(self, global: &Global) -> Result<i32> {
        // Among processes that are not trusted, this program's own file must be out of reach.
        seal::own_program()?;
        let journal = global.journal();
        let Exec { oci, tty, interactive: _, user, workdir, env, name, command } = self;
        let mut entering = Entering { command, user, workdir, env, tty, ..Entering::default() };
        if Face::of(&journal, &name)? == Face::Container {
            return oci.run(global, &name, entering);
        }
        oci.expect_none()?;
        let caller = tty.then(Caller::at_stdin).transpose()?;
        entering.window = caller.as_ref().map(Caller::window).unwrap_or_default();
        let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
        let mut process = service::enter(&journal, &name, entering)?;
        let terminal = process.take_terminal().zip(caller.as_ref());
        service::supervise_process(&process, terminal, &signals, None, &super::warn)?;
        process.wait().map(service::end_as)
    }
}
