//! What a directory needs before limits can be written in it or below it: controllers passed down,
//! a valid type, an inherited cpuset.

use std::path::{Path, PathBuf};

use super::directory::write;
use super::hierarchy::{self, Controller};
use super::setting::asked;
use crate::config::LimitSource;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// A new v1 cpuset is empty, and no process can join an empty one (ENOSPC): it gets its parent's
/// values (cpuset(7)).
pub(super) fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        let read = |path: &PathBuf| {
            read_kernel(path).map_err(|error| Error::io(format!("read {}", path.display()), &error))
        };
        if read(&own)?.trim().is_empty() {
            let above = dir.parent().unwrap_or(dir).join(file);
            write(&own, read(&above)?.trim())?;
        }
    }
    Ok(())
}

/// Makes `controllers` available to the directories in `dir`.
pub(super) fn pass_on(dir: &Path, controllers: &[Controller]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let there = hierarchy::controllers(&file.to_string_lossy());
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| !there.contains(controller))
        .map(|controller| format!("+{}", controller.name()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    write(&file, &missing.join(" ")).map_err(|error| match error.errno() {
        Some(errno) if errno.0 == libc::EBUSY => {
            error.hint(format!("move the processes in {} to a child cgroup first", dir.display()))
        }
        _ => error,
    })
}

/// Whether this is a v2 directory without the controller.
pub(super) fn lacks(dir: &Path, controller: Controller) -> bool {
    let file = dir.join("cgroup.controllers");
    file.exists() && !hierarchy::controllers(&file.to_string_lossy()).contains(&controller)
}

/// Makes every controller of `dir` available to the directories in it, as far as possible: which of
/// them matter shows when a limit is written.
pub(super) fn pass_on_all(dir: &Path) {
    let read = |file: &str| read_kernel(dir.join(file)).unwrap_or_default();
    let there = read("cgroup.subtree_control");
    let there: Vec<&str> = there.split_whitespace().collect();
    let all = read("cgroup.controllers");
    let missing: Vec<String> = all
        .split_whitespace()
        .filter(|name| !there.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    let file = dir.join("cgroup.subtree_control");
    if !missing.is_empty() && write(&file, &missing.join(" ")).is_err() {
        for one in &missing {
            let _ = write(&file, one);
        }
    }
}

/// The state of a directory, cgroup.type; empty at the root of the tree.
pub(super) fn kind(dir: &Path) -> String {
    read_kernel(dir.join("cgroup.type")).unwrap_or_default().trim().to_owned()
}

/// A directory below one with processes has an invalid type, and so has one below a threaded one
/// (cgroups(7), "threaded mode"). Threaded controllers are available there, others are not.
pub(super) fn check_kind(dir: &Path, source: LimitSource) -> Result<()> {
    let kind = kind(dir);
    if kind.is_empty() || kind == "domain" {
        return Ok(());
    }
    let domain = asked(source).into_iter().find(|(controller, _)| {
        matches!(
            controller,
            Controller::Memory | Controller::Io | Controller::Hugetlb | Controller::Cpu
        )
    });
    if let Some((_, what)) = domain {
        return Err(Error::new(format!("{what}: the cgroup {} is \"{kind}\"", dir.display()))
            .hint("a parent cgroup contains processes or is threaded"));
    }
    if kind == "domain invalid" {
        write(&dir.join("cgroup.type"), "threaded")?;
    }
    Ok(())
}

/// Gives the directory and the files needed for delegation to `uid`.
pub(super) fn delegate(dir: &Path, uid: u32) -> Result<()> {
    use std::os::unix::fs::chown;
    let failed = |path: &Path, error: &std::io::Error| {
        Error::io(format!("change the owner of {} to user {uid}", path.display()), error)
    };
    chown(dir, Some(uid), None).map_err(|error| failed(dir, &error))?;
    // Since Linux 4.15 the kernel lists them.
    let files = read_kernel("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".into());
    for file in files.lines().filter(|file| !file.is_empty() && !file.contains('/')) {
        let path = dir.join(file);
        match chown(&path, Some(uid), None) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                return Err(failed(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the directories in `dir` have controllers: then it accepts no processes itself.
pub(super) fn passes_on(dir: &Path) -> bool {
    read_kernel(dir.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty())
}
