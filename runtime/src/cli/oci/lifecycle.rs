//! `garth create`, `start`, `run`, `state`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Global, print, to_json};
use crate::container::{self, AfterEnd, Container, CreateOptions, Detached};
use crate::error::Result;
use crate::start::seal;

/// Options of `create` and `run`.
#[derive(Debug, Args)]
struct Making {
    /// Bundle: the directory with config.json [default: current directory]
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Unix socket to which the pty master is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Unix socket to which a pidfd of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Pass this many more file descriptors to the program, starting at 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Use chroot(2) instead of pivot_root(2), for a root on an initramfs; less secure
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// The container
    id: String,
}

impl Making {
    fn options(&self, global: &Global) -> CreateOptions {
        CreateOptions {
            bundle: self.bundle.clone().unwrap_or_default(),
            config: None,
            console_socket: self.console_socket.clone(),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            preserve_fds: self.preserve_fds,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            systemd_cgroup: global.systemd_cgroup,
            no_cgroup: global.cgroup_manager.as_deref() == Some("disabled"),
            detached: false,
            warn: global.log.warnings(),
        }
    }
}

/// Create a container from an OCI bundle; `start` runs its program
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    making: Making,
}

impl Create {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        // An image's program may be /proc/self/exe, or a script with that as its interpreter.
        seal::own_program()?;
        let options = self.making.options(global);
        let journal = global.journal().containers();
        container::create(&journal, &self.making.id, &options).map(|()| 0)
    }
}

/// Start the program of a created container
#[derive(Debug, Args)]
pub struct Start {
    /// The container
    id: String,
}

impl Start {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        container::start(&global.journal().containers(), &self.id, &global.log.warnings())
            .map(|()| 0)
    }
}

/// Create and start a container, wait for it to end, and delete it
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    making: Making,
    /// Do not wait for it to end or delete it
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    keep: bool,
    /// Accepted and ignored: the container's pid 1 reaps orphaned processes
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        // An image's program may be /proc/self/exe, or a script with that as its interpreter.
        seal::own_program()?;
        let options = self.making.options(global);
        let detached = if self.detach { Detached::Yes } else { Detached::No };
        let ending = if self.keep { AfterEnd::Keep } else { AfterEnd::Delete };
        let journal = global.journal().containers();
        let ended = container::run(&journal, &self.making.id, &options, (detached, ending))?;
        Ok(ended.map_or(0, |ended| ended.code()))
    }
}

/// Print the state of a container as JSON
#[derive(Debug, Args)]
pub struct State {
    /// The container
    id: String,
}

impl State {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let container = Container::open(&global.journal().containers(), &self.id)?;
        print(&to_json(&super::Row::of(&container)?)?);
        Ok(0)
    }
}

/// Suspend all processes of a container
#[derive(Debug, Args)]
pub struct Pause {
    /// The container
    id: String,
}

impl Pause {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        container::pause(&global.journal().containers(), &self.id).map(|()| 0)
    }
}

/// Resume a paused container
#[derive(Debug, Args)]
pub struct Resume {
    /// The container
    id: String,
}

impl Resume {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        container::resume(&global.journal().containers(), &self.id).map(|()| 0)
    }
}
