//! `events`: a container's resource usage at intervals, and each out-of-memory event.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Container;
use crate::cgroup::{OomEvent, Stats};
use crate::config::oci::Status;
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::sys::process;

/// One line of output, in runc's format.
#[derive(Debug, Serialize)]
pub struct ContainerEvent<'a> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container.
    pub id: &'a str,
    /// The counters, for `stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Stats>,
}

/// The counters of a container that has not stopped.
///
/// # Errors
/// The container has stopped, in runc's words.
pub fn stats(journal: &Journal, id: &str) -> Result<Stats> {
    open(journal, id).map(|container| container.record.resources.cgroup.stats())
}

/// Reports the usage after each `interval`, and each out-of-memory event immediately, until the
/// container is gone or `tell` fails.
///
/// # Errors
/// Same as [`stats`], and any error of `tell`.
pub fn events(
    journal: &Journal,
    id: &str,
    interval: Duration,
    mut tell: impl FnMut(ContainerEvent<'_>) -> Result<()>,
) -> Result<()> {
    let container = open(journal, id)?;
    let cgroup = &container.record.resources.cgroup;
    let mut oom = cgroup.notify_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up, so that a rest below a millisecond does not make a busy loop.
        let left = left + Duration::from_millis(1);
        let [news] = process::readable([oom.as_fd()], Some(left))
            .map_err(|errno| Error::os("wait for events of the container", errno))?;
        if news {
            match oom.news()? {
                OomEvent::Oom => tell(ContainerEvent { kind: "oom", id, data: None })?,
                OomEvent::Gone => return Ok(()),
                OomEvent::Nothing => {}
            }
        }
        if Instant::now() >= next {
            if !journal.has(id)? {
                return Ok(());
            }
            tell(ContainerEvent { kind: "stats", id, data: Some(cgroup.stats()) })?;
            next = Instant::now() + interval;
        }
    }
}

fn open(journal: &Journal, id: &str) -> Result<Container> {
    let container = Container::open(journal, id)?;
    match container.status()? {
        Status::Stopped => {
            Err(Error::new(format!("container with id {id} is not running")).kind(Kind::WrongState))
        }
        _ => Ok(container),
    }
}
