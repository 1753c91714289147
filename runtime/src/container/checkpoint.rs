//! `checkpoint`: saves a running container to files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::criu::{DESCRIPTORS, Images, external_mounts, external_namespaces};
use super::record::ContainerRecord;
use super::{Container, Warn, delete};
use crate::config::oci::Status;
use crate::error::{Error, Kind, Result};
use crate::facts::mountinfo;
use crate::journal::Journal;
use crate::sys::file::{read_kernel, read_kernel_bytes};

/// How a container is checkpointed.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Options shared with `restore`.
    pub images: Images,
    /// The images of an earlier `--pre-dump`, relative to the new ones.
    pub parent_path: Option<PathBuf>,
    /// Leave the container running afterwards.
    pub leave_running: bool,
    /// Save only its memory, while it keeps running; the rest follows with the next call.
    pub pre_dump: bool,
    /// A descriptor to which criu writes a byte when pages can be fetched.
    pub status_fd: Option<i32>,
    /// Where pages are sent: address and port.
    pub page_server: Option<(String, u16)>,
}

/// Writes a container's state to files, then deletes it, unless it is left running.
///
/// # Errors
/// The container does not run, criu is missing, or criu failed.
pub fn checkpoint(journal: &Journal, id: &str, how: &Checkpoint, warn: &Warn) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let status = container.status()?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Error::new(format!("container cannot be checkpointed in {status} state"))
            .kind(Kind::WrongState));
    }
    let (pid, _process) = container.expect_running("checkpoint")?;
    let record = &container.record;
    let terminal = record.asked.config.process.as_ref().is_some_and(|program| program.terminal);
    if terminal && !how.images.shell_job {
        return Err(Error::new("checkpoint: the container has a terminal connected to the host")
            .hint("give --shell-job, or run it without a terminal"));
    }
    if let Some(volume) = record.resources.volumes.first() {
        return Err(Error::new(format!("checkpoint: RAID volume {} is mounted", volume.name))
            .hint("criu could not mount it again: it is mounted for this container alone"));
    }
    let images = how.images.path()?;
    fs::create_dir_all(&images)
        .map_err(|e| Error::io(format!("create --image-path {}", images.display()), &e))?;
    let verb = if how.pre_dump { "pre-dump" } else { "dump" };
    let mut criu = how.images.command(verb, "dump.log")?;
    let command = &mut criu.command;
    command.args(["--tree", &pid.to_string()]).arg("--root").arg(record.rootfs());
    if let Some(freezer) = freezer(record) {
        command.arg("--freeze-cgroup").arg(freezer);
    }
    if let Some(parent) = &how.parent_path {
        if parent.is_absolute() {
            return Err(Error::new("--parent-path: must be relative to the image directory"));
        }
        command.arg("--prev-images-dir").arg(parent);
    }
    if let Some((address, port)) = &how.page_server {
        command.args(["--page-server", "--address", address, "--port", &port.to_string()]);
    }
    if let Some(fd) = how.status_fd {
        command.args(["--status-fd", &fd.to_string()]);
    }
    if how.pre_dump {
        command.arg("--track-mem");
    } else {
        if how.leave_running {
            command.arg("--leave-running");
        }
        for (at, _) in external_mounts(record)? {
            command.arg("--external").arg(format!("mnt[{at}]:{at}"));
        }
        for (kind, path, name) in external_namespaces(record) {
            let inode = fs::metadata(&path)
                .map_err(|e| Error::io(format!("open namespace {}", path.display()), &e))?
                .ino();
            command.arg("--external").arg(format!("{kind}[{inode}]:{name}"));
        }
        let descriptors = descriptors(pid);
        for name in descriptors.iter().filter(|name| name.starts_with("file[")) {
            command.arg("--external").arg(name);
        }
        let text = serde_json::to_vec(&descriptors)
            .map_err(|e| Error::new(format!("write {DESCRIPTORS}: {e}")))?;
        let file = images.join(DESCRIPTORS);
        fs::write(&file, text).map_err(|e| Error::io(format!("write {}", file.display()), &e))?;
    }
    criu.run()?;
    if how.leave_running || how.pre_dump {
        return Ok(());
    }
    delete::release(entry, Some(container.record.clone()), warn)
}

/// The cgroup directory whose freezer stops all of its processes.
fn freezer(record: &ContainerRecord) -> Option<PathBuf> {
    let paths = record.resources.cgroup.paths();
    paths.get("freezer").or_else(|| paths.get("")).cloned()
}

/// The standard descriptors of a process, in criu's notation for external files: `pipe:[1]`,
/// `file[MOUNT:INODE]` for files of the host, or else the target of the link.
fn descriptors(pid: i32) -> [String; 3] {
    let own = read_kernel_bytes(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let own: Vec<u64> = mountinfo::lines(&own).map(|mount| mount.id).collect();
    [0, 1, 2].map(|number| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        let info = read_kernel(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let inode = fs::metadata(format!("/proc/{pid}/fd/{number}")).map(|file| file.ino());
        match (mount, inode) {
            (Some(mount), Ok(inode)) if link.starts_with('/') && !own.contains(&mount) => {
                format!("file[{mount:x}:{inode:x}]")
            }
            _ => link,
        }
    })
}
