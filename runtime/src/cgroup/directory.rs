//! One directory of a cgroup tree: its files, the processes in it, its removal.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::hierarchy::Version;
use super::walk::{self, walk};
use crate::sys::Errno;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// One write(2) of the whole value, as cgroup files require.
pub(super) fn write(file: &Path, value: &str) -> Result<()> {
    use std::io::Write as _;
    let open = OpenOptions::new().write(true).open(file);
    open.and_then(|mut file: File| file.write_all(value.as_bytes()))
        .map_err(|error| Error::io(format!("write \"{value}\" to {}", file.display()), &error))
}

/// The file to which a single-threaded process writes "0" to join
/// ([`super::Cgroup::own_join_paths`]).
pub(super) fn join_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.procs",
    }
}

/// The processes in `dir` itself; none if it no longer exists.
pub(super) fn pids_in(dir: &Path) -> Result<Vec<i32>> {
    let file = dir.join("cgroup.procs");
    let text = match read_kernel(&file).map_err(Errno::from) {
        // For a threaded v2 cgroup this read fails; its processes are listed in an ancestor.
        Err(Errno(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) => return Ok(Vec::new()),
        text => text.map_err(|errno| Error::os(format!("read {}", file.display()), errno))?,
    };
    // 0 stands for a process that this pid namespace cannot see.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// Collects the processes in `dir` and in the cgroups that the sandbox created in it.
pub(super) fn pids_below(dir: &Path, pids: &mut Vec<i32>) -> Result<()> {
    pids.extend(pids_in(dir)?);
    let mut refused = Ok(());
    let mut collect = |below: &Path| match pids_in(below) {
        Ok(there) => {
            pids.extend(there);
            Ok(true)
        }
        Err(error) => {
            refused = Err(error);
            Err(std::io::Error::from_raw_os_error(libc::ECANCELED))
        }
    };
    match walk(dir, &mut collect, &mut |_| Ok(())) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            refused.and(Err(Error::io(format!("read cgroup {}", dir.display()), &error)))
        }
        _ => refused,
    }
}

/// Removes `dir` and the cgroups in it, innermost first. Never follows a symlink and never removes
/// a file: cgroup files go with their directory, and any other file stops the removal.
pub(super) fn remove_tree(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        // A process or a cgroup is inside.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        result => return result,
    }
    let is = |error: &std::io::Error, errno| error.raw_os_error() == Some(errno);
    let mut leaf = |below: &Path| match fs::remove_dir(below) {
        Err(error) if is(&error, libc::EBUSY) => Ok(true),
        Err(error) if !is(&error, libc::ENOENT) => Err(error),
        _ => Ok(false),
    };
    let mut emptied = |below: &Path| match fs::remove_dir(below) {
        Err(error) if !is(&error, libc::ENOENT) => Err(error),
        _ => Ok(()),
    };
    walk(dir, &mut leaf, &mut emptied)?;
    fs::remove_dir(dir)
}

/// Those whose names are UTF-8, as ids and names of containers are.
pub(super) fn subdirectories(dir: &Path) -> Result<Vec<String>> {
    let names = walk::inside(dir)
        .map_err(|error| Error::io(format!("read cgroup {}", dir.display()), &error))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
