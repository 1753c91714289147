//! `garth checkpoint` and `garth restore`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::container::{self, AfterEnd, CreateOptions, Detached, Images};
use crate::error::{Error, Result};

/// Options of both verbs.
#[derive(Debug, Args)]
struct Common {
    /// Where the images are [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Where criu writes its log [default: with the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow Unix sockets whose other end is outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a session and a terminal that are the caller's
    #[arg(long)]
    shell_job: bool,
    /// Keep locks on files
    #[arg(long)]
    file_locks: bool,
    /// Fetch memory when it is needed
    #[arg(long)]
    lazy_pages: bool,
    /// Drop from the images what was fetched
    #[arg(long)]
    auto_dedup: bool,
    /// What becomes of limits: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Leave out the contents of a namespace: network
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
}

impl Common {
    fn images(&self, global: &Global) -> Images {
        Images {
            criu: global.criu.clone(),
            image_path: self.image_path.clone(),
            work_path: self.work_path.clone(),
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            lazy_pages: self.lazy_pages,
            auto_dedup: self.auto_dedup,
            manage_cgroups: self.manage_cgroups_mode.clone(),
            empty_ns: self.empty_ns.clone(),
        }
    }
}

/// Write the state of a container that runs to files.
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[command(flatten)]
    common: Common,
    /// Images of an earlier --pre-dump, counted from the new ones
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let it go on
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Write its memory only, and let it go on
    #[arg(long)]
    pre_dump: bool,
    /// A descriptor to which criu writes when pages can be fetched
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,
    /// Send the memory there
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// The container
    id: String,
}

impl Checkpoint {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let page_server = match &self.page_server {
            None => None,
            Some(text) => Some(
                text.rsplit_once(':')
                    .and_then(|(address, port)| Some((address.to_owned(), port.parse().ok()?)))
                    .ok_or_else(|| {
                        Error::new(format!("--page-server {text}: not of the form ADDRESS:PORT"))
                    })?,
            ),
        };
        let how = container::Checkpoint {
            images: self.common.images(global),
            parent_path: self.parent_path,
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            status_fd: self.status_fd.filter(|fd| *fd >= 0),
            page_server,
        };
        let (journal, warn) = (global.journal().containers(), global.log.warnings());
        container::checkpoint(&journal, &self.id, &how, &warn).map(|()| 0)
    }
}

/// Make a container from a checkpoint.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    common: Common,
    /// The bundle: the directory with config.json [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Do not wait, and do not delete
    #[arg(short, long)]
    detach: bool,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that takes the master of the terminal: there is none to send
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// chroot(2) instead of pivot_root(2): accepted, criu chooses
    #[arg(long)]
    no_pivot: bool,
    /// Adopt orphaned processes: accepted, the container's own pid 1 does
    #[arg(long)]
    no_subreaper: bool,
    /// Another profile of a security module
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Another context for mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// The container
    id: String,
}

impl Restore {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        if self.console_socket.is_some() {
            return Err(Error::new("restore: --console-socket: a terminal cannot be restored"));
        }
        let how = container::Restore {
            images: self.common.images(global),
            options: CreateOptions {
                bundle: self.bundle.unwrap_or_default(),
                pid_file: self.pid_file,
                systemd_cgroup: global.systemd_cgroup,
                no_cgroup: global.cgroup_manager.as_deref() == Some("disabled"),
                detached: self.detach,
                warn: global.log.warnings(),
                ..CreateOptions::default()
            },
            lsm_profile: self.lsm_profile,
            lsm_mount_context: self.lsm_mount_context,
        };
        let detached = if self.detach { Detached::Yes } else { Detached::No };
        let journal = global.journal().containers();
        let ended = container::restore(&journal, &self.id, &how, (detached, AfterEnd::Delete))?;
        Ok(ended.map_or(0, |ended| ended.code()))
    }
}
