//! `garth checkpoint` and `garth restore`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::container::{self, AfterEnd, CreateOptions, Detached, Images};
use crate::error::{Error, Result};

/// Options of both verbs.
#[derive(Debug, Args)]
struct Common {
    /// Directory of the images [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Directory for criu's log [default: the image directory]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow Unix sockets connected to processes outside the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a session and terminal inherited from the caller
    #[arg(long)]
    shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    file_locks: bool,
    /// Transfer memory pages on demand
    #[arg(long)]
    lazy_pages: bool,
    /// Remove transferred pages from the images
    #[arg(long)]
    auto_dedup: bool,
    /// How to handle cgroups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Leave a namespace empty: network
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

/// Checkpoint a running container with criu(8)
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[command(flatten)]
    common: Common,
    /// Images of an earlier --pre-dump, relative to the new ones
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Leave the container running
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Only write its memory, and leave it running
    #[arg(long)]
    pre_dump: bool,
    /// File descriptor to which criu writes when it is ready to serve pages
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,
    /// Send the memory to this page server
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
                        Error::new(format!("--page-server {text}: expected ADDRESS:PORT"))
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

/// Restore a container from a checkpoint
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    common: Common,
    /// Bundle: the directory with config.json [default: current directory]
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Do not wait for it to end or delete it
    #[arg(short, long)]
    detach: bool,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Refused: a terminal cannot be restored
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Accepted and ignored: criu chooses between chroot(2) and pivot_root(2)
    #[arg(long)]
    no_pivot: bool,
    /// Accepted and ignored: the container's pid 1 reaps orphaned processes
    #[arg(long)]
    no_subreaper: bool,
    /// Use another profile of a security module
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Use another security context for mounts
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
