//! Limits in the unified tree (Documentation/admin-guide/cgroup-v2).

use std::fs;
use std::path::Path;

use super::{Controller, Write, hierarchy, write};
use crate::spec::limits::{CPU_PERIOD, Limits};
use crate::spec::units::Size;
use crate::{Error, Result};

/// What goes into the files of a new cgroup that has `controllers`, in this order.
pub(super) fn writes(dir: &Path, controllers: &[Controller], limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut add = |file: &str, value: String, optional| {
        writes.push(Write { file: dir.join(file), value, optional });
    };
    for controller in controllers {
        match controller {
            Controller::Memory => {
                if let Some(memory) = limits.memory {
                    add("memory.max", memory.0.to_string(), false);
                    // Here swap is counted by itself. Absent from a kernel without swap.
                    let Size(sum) = limits.memory_and_swap().unwrap_or(memory);
                    let swap = sum.saturating_sub(memory.0).to_string();
                    add("memory.swap.max", swap, limits.swap.is_none());
                }
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    add("cpu.max", format!("{quota} {CPU_PERIOD}"), false);
                }
            }
            Controller::Cpuset => {
                if let Some(cpuset) = &limits.cpuset {
                    add("cpuset.cpus", cpuset.clone(), false);
                }
            }
            Controller::Pids => {
                if let Some(pids) = limits.pids {
                    add("pids.max", pids.to_string(), false);
                }
            }
            Controller::Freezer => {}
        }
    }
    writes
}

/// Lets the directories in `dir` have `controllers`.
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

/// Asks for a state of the freezer; says whether it has been reached.
pub(super) fn freeze(dir: &Path, frozen: bool) -> Result<bool> {
    let wanted = if frozen { "1" } else { "0" };
    write(&dir.join("cgroup.freeze"), wanted)?;
    let events = fs::read_to_string(dir.join("cgroup.events"))
        .map_err(|error| Error::io(format!("read {}/cgroup.events", dir.display()), &error))?;
    Ok(events.lines().any(|line| line.strip_prefix("frozen ") == Some(wanted)))
}
