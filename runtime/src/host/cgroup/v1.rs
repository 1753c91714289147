//! Limits in the v1 trees, one tree a controller (Documentation/admin-guide/cgroup-v1).

use std::fs;
use std::path::{Path, PathBuf};

use super::{Controller, Write, write};
use crate::spec::limits::{CPU_PERIOD, Limits};
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
                // Memory first: the sum may never be below it, and both start without a limit.
                if let Some(memory) = limits.memory {
                    add("memory.limit_in_bytes", memory.0.to_string(), false);
                }
                if let Some(sum) = limits.memory_and_swap() {
                    // Absent where the kernel does not account swap (swapaccount=0).
                    add("memory.memsw.limit_in_bytes", sum.0.to_string(), limits.swap.is_none());
                }
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    add("cpu.cfs_period_us", CPU_PERIOD.to_string(), false);
                    add("cpu.cfs_quota_us", quota.to_string(), false);
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

/// A new v1 cpuset is empty, and no process can join an empty one (ENOSPC): it gets what the
/// directory above it has (cpuset(7)).
pub(super) fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        let read = |path: &PathBuf| {
            fs::read_to_string(path)
                .map_err(|error| Error::io(format!("read {}", path.display()), &error))
        };
        if read(&own)?.trim().is_empty() {
            let above = dir.parent().unwrap_or(dir).join(file);
            write(&own, read(&above)?.trim())?;
        }
    }
    Ok(())
}

/// Asks for a state of the freezer. FREEZING is answered as long as a process has not stopped yet,
/// and asking again helps it along.
pub(super) fn freeze(dir: &Path, frozen: bool) -> Result<bool> {
    let file = dir.join("freezer.state");
    let state = if frozen { "FROZEN" } else { "THAWED" };
    write(&file, state)?;
    Ok(fs::read_to_string(&file).is_ok_and(|text| text.trim() == state))
}
