//! The parent's part in starting a container's process: id maps, limits, devices, and reporting it
//! to others.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::linux;
use super::record::ContainerRecord;
use crate::config::oci::{self, NamespaceType, Process as Program, SeccompState, Status};
use crate::error::{Error, Result};
use crate::facts;
use crate::facts::idmap;
use crate::network::device;
use crate::plan::container::Surroundings;
use crate::start::score::Score;
use crate::sys::{Errno, channel, task};

/// Moves the network devices into the process's namespace.
pub fn give(linux: &oci::Linux, pid: i32) -> Result<()> {
    linux.net_devices.iter().try_for_each(|(name, device)| {
        device::give(name, device.name.as_deref().unwrap_or(name), pid)
            .map_err(|error| error.within("linux.netDevices"))
    })
}

/// What in the child depends on the caller: whether it can set its groups, and an OOM score that it
/// has to inherit, in effect while the returned value is held.
pub fn suit(surroundings: &mut Surroundings, program: Option<&Program>) -> Result<Option<Score>> {
    surroundings.setgroups_denied |= facts::confined() && idmap::setgroups_denied("self");
    let score = program.and_then(|program| program.oom_score_adj);
    match score.filter(|score| *score != surroundings.oom_score_adj && !idmap::reaches_undumpable())
    {
        None => Ok(None),
        Some(score) => {
            let held = Score::set(score).map_err(|error| error.within("process.oomScoreAdj"))?;
            surroundings.oom_score_adj = score;
            Ok(Some(held))
        }
    }
}

/// time_namespaces(7): in a user namespace the process, not being traceable, cannot open the file
/// itself.
pub fn set_clocks(linux: &oci::Linux, pid: i32) -> Result<()> {
    if !linux.sets_clocks_outside() {
        return Ok(());
    }
    let (path, text) = (format!("/proc/{pid}/timens_offsets"), linux.clock_offsets());
    fs::write(&path, &text)
        .map_err(|e| Error::io(format!("write {text:?} to {path} (linux.timeOffsets)"), &e))
}

/// A hard limit above the caller's own needs a privilege that a user namespace does not grant.
pub fn raise_limits(record: &ContainerRecord, program: &Program, pid: i32) -> Result<()> {
    if linux(&record.asked.config).namespace(NamespaceType::User).is_none() {
        return Ok(());
    }
    for limit in &program.rlimits {
        task::set_rlimit_of(pid, limit.kind.number(), limit.soft, limit.hard).map_err(|errno| {
            Error::os(format!("limit {} to {}:{}", limit.kind, limit.soft, limit.hard), errno)
        })?;
    }
    Ok(())
}

/// Connects to a socket given by path.
pub fn connect(path: Option<&Path>, flag: &str) -> Result<Option<OwnedFd>> {
    let Some(path) = path else { return Ok(None) };
    let socket = channel::connect_stream(path);
    socket.map(Some).map_err(|errno| {
        let error = Error::os(format!("connect to {flag} {}", path.display()), errno);
        match errno {
            Errno(libc::EAGAIN) => {
                error.hint("no process accepts connections there: the backlog is full")
            }
            _ => error,
        }
    })
}

/// Sends the seccomp listener to the agent (config-linux.md, "The Container Process State").
pub fn send_listener(
    record: &ContainerRecord,
    status: Status,
    pid: i32,
    descriptor: &OwnedFd,
) -> Result<()> {
    let profile = linux(&record.asked.config).seccomp;
    let (path, metadata) =
        profile.map_or((None, None), |profile| (profile.listener_path, profile.listener_metadata));
    let path = path.ok_or_else(|| {
        Error::new("linux.seccomp: SCMP_ACT_NOTIFY without listenerPath")
            .hint("no process would answer the notifications")
    })?;
    let state = SeccompState {
        oci_version: oci::VERSION.into(),
        fds: vec!["seccompFd".into()],
        pid,
        metadata: metadata.unwrap_or_default(),
        state: record.state(status, pid),
    };
    let text = serde_json::to_vec(&state)
        .map_err(|e| Error::new(format!("write the state of the container: {e}")))?;
    let socket = channel::connect_stream(Path::new(&path))
        .map_err(|errno| Error::os(format!("connect to listenerPath {path}"), errno))?;
    channel::send_descriptor(socket.as_raw_fd(), &text, descriptor.as_raw_fd())
        .map_err(|errno| Error::os(format!("send the seccomp listener to {path}"), errno))
}

/// Atomically: a caller that waits for the file reads it as soon as it appears.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name =
        name.ok_or_else(|| Error::new(format!("--pid-file {}: no file name", path.display())))?;
    let new = path.with_file_name(format!(".{name}"));
    let write = || {
        use std::io::Write;
        // A leftover, or a symlink planted in a directory that others can write: never write to its
        // target.
        let _ = fs::remove_file(&new);
        fs::File::create_new(&new)?.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    let write = write();
    write.map_err(|e| Error::io(format!("write --pid-file {}", path.display()), &e))
}
