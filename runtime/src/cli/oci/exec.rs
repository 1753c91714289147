//! `garth exec` in an OCI container.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::container::{self, Container, Exec, Variant};
use crate::error::{Error, Result};
use crate::service::Entering;
use crate::sys::process::Signals;

/// Flags of `exec` for containers only.
#[derive(Debug, Args)]
pub struct ExecFlags {
    /// Read the process from a file in the format of `process` in config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for it to end
    #[arg(short, long)]
    detach: bool,
    /// Unix socket to which the pty master is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Unix socket to which a pidfd of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Add a supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Add a capability to all sets
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Pass this many more file descriptors to the program, starting at 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Allow joining a paused container; the program runs once it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Run in a cgroup below the container's, in all hierarchies or those of the given controllers
    #[arg(long, value_name = "[CONTROLLERS:]PATH")]
    cgroup: Vec<String>,
}

impl ExecFlags {
    /// # Errors
    /// A flag was given that is for containers only.
    pub fn expect_none(&self) -> Result<()> {
        let flag = [
            (self.process.is_some(), "--process"),
            (self.detach, "--detach"),
            (self.console_socket.is_some(), "--console-socket"),
            (self.pid_file.is_some(), "--pid-file"),
            (self.pidfd_socket.is_some(), "--pidfd-socket"),
            (!self.additional_gids.is_empty(), "--additional-gids"),
            (!self.cap.is_empty(), "--cap"),
            (self.apparmor.is_some(), "--apparmor"),
            (self.process_label.is_some(), "--process-label"),
            (self.no_new_privs, "--no-new-privs"),
            (self.preserve_fds > 0, "--preserve-fds"),
            (self.ignore_paused, "--ignore-paused"),
            (!self.cgroup.is_empty(), "--cgroup"),
        ];
        match flag.iter().find(|(given, _)| *given) {
            Some((_, flag)) => {
                Err(Error::new(format!("{flag} is only for containers, and this is a sandbox")))
            }
            None => Ok(()),
        }
    }

    /// Runs the program and, unless detached, waits for its end.
    ///
    /// # Errors
    /// Those of [`container::exec`].
    pub(in crate::cli) fn run(self, global: &Global, id: &str, words: Entering) -> Result<i32> {
        let containers = &global.journal().containers();
        let container = Container::open(containers, id)?;
        let program = match &self.process {
            Some(path) => container::read_program(path)?,
            None => {
                let Entering { command, user, workdir, env, tty, .. } = words;
                let variant = Variant {
                    command,
                    user,
                    workdir,
                    env,
                    tty,
                    additional_gids: self.additional_gids,
                    capabilities: self.cap,
                    apparmor: self.apparmor,
                    process_label: self.process_label,
                    no_new_privs: self.no_new_privs,
                };
                variant.of(&container)?
            }
        };
        program.warnings().iter().for_each(|warning| global.log.warn(warning));
        let exec = Exec {
            program,
            console_socket: self.console_socket,
            pid_file: self.pid_file,
            pidfd_socket: self.pidfd_socket,
            preserve_fds: self.preserve_fds,
            ignore_paused: self.ignore_paused,
            detached: self.detach,
            warn: global.log.warnings(),
            cgroups: container::cgroups_below(&self.cgroup)?,
        };
        let signals = match self.detach {
            true => None,
            false => Some(Signals::block().map_err(|errno| Error::os("block signals", errno))?),
        };
        let joined = container::exec(containers, id, &exec)?;
        let Some(signals) = signals else { return Ok(0) };
        joined.attend(&signals).map(|ended| ended.code())
    }
}
