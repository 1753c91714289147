//! How the kernel schedules and accounts this task. All of this may be used between clone3 and
//! execve.

use super::Errno;
use super::raw::call;

type Result<T = ()> = core::result::Result<T, Errno>;

/// personality(2): the execution domain, such as LINUX32.
pub fn personality(domain: u32) -> Result {
    call!(libc::SYS_personality, domain).map(drop)
}

/// ioprio_set(2) of this process: class and level packed.
pub fn io_priority(packed: u32) -> Result {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    call!(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, packed).map(drop)
}

/// struct sched_attr of sched_setattr(2), in its first published size (Linux 3.14).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the kernel's names")]
pub struct SchedulerAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) of this task.
pub fn scheduler(attr: &SchedulerAttr) -> Result {
    let attr = SchedulerAttr { size: size_of::<SchedulerAttr>() as u32, ..*attr };
    call!(libc::SYS_sched_setattr, 0, &raw const attr, 0).map(drop)
}

/// sched_setaffinity(2) of this task: the processors that it may use, one bit each.
pub fn affinity(mask: &[u64]) -> Result {
    call!(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()).map(drop)
}

/// set_mempolicy(2): mode with its flags, and the nodes, one bit each.
pub fn memory_policy(mode: i32, nodes: &[u64]) -> Result {
    // The kernel uses one bit less than it is told.
    let bits = size_of_val(nodes) * 8 + 1;
    let nodes_at = if nodes.is_empty() { core::ptr::null() } else { nodes.as_ptr() };
    let bits = if nodes.is_empty() { 0 } else { bits };
    call!(libc::SYS_set_mempolicy, mode, nodes_at, bits).map(drop)
}

/// prlimit64(2) on another process.
pub fn set_rlimit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result {
    let limit: [u64; 2] = [soft, hard];
    call!(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), 0).map(drop)
}

/// prlimit64(2): the soft and the hard limit of this process.
pub fn rlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    call!(libc::SYS_prlimit64, 0, resource, 0, limit.as_mut_ptr())?;
    Ok((limit[0], limit[1]))
}
