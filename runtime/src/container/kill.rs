//! `kill`.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Container;
use crate::config::oci::{NamespaceType, Status};
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::sys::{Errno, pidfd, process};

/// Which processes get the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// The first process.
    First,
    /// Every process in the container's cgroup.
    All,
}

/// Sends a signal.
///
/// # Errors
/// The container does not run, in the words engines look for.
pub fn kill(journal: &Journal, id: &str, signal: i32, targets: Targets) -> Result<()> {
    let container = Container::open(journal, id)?;
    if targets == Targets::All {
        // Even if the first process has ended: others may be left in a shared pid namespace.
        return container.own_cgroup()?.kill_all(signal);
    }
    let refuse = |how: &str| Error::new(format!("kill {id}: {how}")).kind(Kind::WrongState);
    let not_running = || refuse("container not running");
    if container.status()? == Status::Stopped {
        return Err(not_running());
    }
    let (_, pidfd) = container.process()?.ok_or_else(not_running)?;
    match pidfd::send_signal(pidfd.as_fd(), signal) {
        Err(Errno(libc::ESRCH)) => {
            return Err(refuse("process already finished"));
        }
        result => {
            result.map_err(|errno| Error::os(format!("send signal {signal} to {id}"), errno))?;
        }
    }
    if signal == libc::SIGKILL {
        // Without a pid namespace of its own, the other processes outlive the first.
        if !super::linux(&container.record.asked.config).is_new(NamespaceType::Pid) {
            let _ = container.own_cgroup()?.kill_all(signal);
        }
        container.record.resources.cgroup.let_die();
    }
    Ok(())
}

/// Kills every process of a container, and waits until the first is gone.
pub(super) fn everything(container: &Container) -> Result<()> {
    if let Some((_, pidfd)) = container.process()? {
        let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        container.record.resources.cgroup.let_die();
        let _ = process::readable([pidfd.as_fd()], Some(Duration::from_secs(10)));
    }
    container.own_cgroup()?.kill()
}
