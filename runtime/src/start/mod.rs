//! Executing a plan: the parent, the child, and joining a sandbox that is already running.
//!
//! [`run`] is the core: one clone3, a child that walks the plan, and a parent that does its part
//! meanwhile and turns a failed step into an error message.

pub mod again;
pub mod attach;
mod child;
mod copy_up;
mod deliver;
pub mod detach_keys;
mod failure;
mod handshake;
mod hook_output;
mod join;
mod live;
mod missing;
mod mounts;
mod options;
mod places;
mod process;
pub mod relay;
mod sandbox;
pub mod score;
pub mod seal;
pub mod second;
mod serve;
mod spawn;
mod stand_in;
mod terminal;
mod trust;
mod volumes;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicI32;

pub use deliver::{command, deliver};
pub use handshake::{Channel, Event, run_with_handshake, start};
pub use hook_output::HookOutput;
pub use join::join;
pub use live::LiveRoot;
pub use options::Options;
pub use process::Process;
pub use sandbox::{Child, Explanation, random_id};
pub use serve::serve;
pub use spawn::{FileAction, Group, Spawn, Spawned, Stdio};
pub use terminal::{Delivery, Terminal, Window};
pub use trust::{needs_protection, protect};

use crate::error::{Error, Result};
use crate::facts::idmap;
use crate::plan::Plan;
use crate::sys::clone::{self, Ground, Request};
use crate::sys::pidfd;

/// Runs a plan: returns when its last step, the execve, has succeeded, or with the step that
/// failed. `beside` is the caller's own part; it is called with the child's process id while the
/// child waits (with [`Plan::awaits_go`]; otherwise once the program is running).
///
/// # Errors
/// The first step that failed, or the error `beside` returned; the child has then been killed and
/// reaped.
pub fn run(
    plan: &Plan,
    init: Option<BorrowedFd<'_>>,
    beside: impl FnOnce(i32) -> Result<()>,
) -> Result<Process> {
    let ground =
        Ground::new(plan.memory()).map_err(|errno| Error::os("map memory for a child", errno))?;
    let parent = match plan.watches_parent() {
        true => Some(
            pidfd::open(stand_in::parent_of_children())
                .map_err(|errno| Error::os("open a pidfd of this process", errno))?,
        ),
        false => None,
    };
    let number = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
    let parent = number(parent.as_ref().map(AsFd::as_fd));
    let started = AtomicI32::new(-1);
    let open = child::Open {
        parent,
        init: number(init),
        channel: -1,
        other_end: -1,
        progress: -1,
        started: &started,
    };
    let script = child::Script::new(plan, &ground, open);
    let for_parent = stand_in::is_one();
    let (namespaces, memory) = (plan.namespaces, plan.memory());
    let request = Request { namespaces, memory, cgroup: None, for_parent };
    let started = clone::scope(&ground, request, &script, child::run, |child| {
        if let Some(maps) = &plan.id_maps {
            idmap::write(child.pid, &maps.uids, &maps.gids)?;
        }
        beside(child.pid)
    });
    let (cloned, result) = started.map_err(|errno| failure::clone(plan, errno))?;
    stand_in::note(cloned.pid);
    let spared = ground.words().spared();
    let spared = spared.filter_map(|(step, errno)| failure::spared(plan, step, errno));
    let spared = plan.remarks.iter().cloned().chain(spared).collect();
    let process = Process::new(cloned, plan.has_init()).with_spared(spared);
    let failed = ground.words().failure().map(|(step, errno)| failure::step(plan, step, errno));
    // If the parent's part failed, the child was killed; if a step failed, the child has exited,
    // and the parent's part may have failed only because of that.
    match failed.or(result.err()) {
        None => Ok(process),
        Some(error) => {
            process.kill();
            let _ = process.wait();
            Err(error)
        }
    }
}
