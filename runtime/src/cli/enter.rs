//! `garth exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Global, oci};
use crate::config::Directory;
use crate::error::{Error, Result};
use crate::resource::record::SandboxRecord;
use crate::start::seal;
use crate::sys::process::Signals;
use crate::{service, start};

/// Run a command inside a running sandbox or container, confined as it is.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    oci: oci::ExecFlags,
    /// User and group that the command runs as [default: as the sandbox]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside [default: as the sandbox]
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
        if oci::is_container(&journal, &self.name)? {
            let Exec { oci, user, workdir, env, name, command } = self;
            return oci.run(global, &name, oci::Words { user, workdir, env, command });
        }
        self.oci.expect_none()?;
        let record = SandboxRecord::read(&journal, &self.name)?;
        let mut sandbox = record.asked.clone();
        sandbox.command = self.command;
        sandbox.user = self.user.or(sandbox.user);
        if let Some(dir) = self.workdir {
            sandbox.cwd = Directory::At(dir);
        }
        for text in self.env {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::new(format!("-e {text}: no value")).hint("write NAME=VALUE")
            })?;
            sandbox.env.retain(|(known, _)| known != name);
            sandbox.env.push((name.into(), value.into()));
        }
        let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
        let process = start::join(&journal, &record, &sandbox)?;
        service::supervise_process(&process, &signals, &super::warn)?;
        process.wait().map(service::end_as)
    }
}
