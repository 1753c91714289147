//! Notification when the kernel kills a process in a cgroup for lack of memory.
//!
//! v1 has an eventfd for this, which also fires when the cgroup is removed; in v2 inotify can watch
//! memory.events.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::directory::write;
use super::hierarchy::{Controller, Version};
use super::record::Cgroup;
use crate::sys::file::read_kernel;
use crate::sys::watch;
use crate::{Error, Result};

/// A watch on one cgroup. If it is readable, something may have happened: call [`Oom::news`].
#[derive(Debug)]
pub struct Oom {
    fd: File,
    dir: PathBuf,
    version: Version,
    /// Kills already reported.
    reported: u64,
    /// Must stay open for as long as the registration lasts.
    _control: Option<File>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// The kernel has killed a process, or found none to kill.
    Oom,
    /// Nothing to report.
    Nothing,
    /// The cgroup is gone.
    Gone,
}

impl Cgroup {
    /// Starts the watch.
    ///
    /// # Errors
    /// There is no memory controller, or the kernel refuses.
    pub fn notify_oom(&self) -> Result<Oom> {
        let dir = self
            .deciding(Controller::Memory)
            .ok_or_else(|| Error::new("watch for out-of-memory events: no memory cgroup"))?;
        let (own, version) = (self.path(dir), dir.version);
        let failed = |error: &std::io::Error| {
            Error::io(format!("watch for out-of-memory events in {}", own.display()), error)
        };
        match version {
            Version::V1 => {
                let control =
                    File::open(own.join("memory.oom_control")).map_err(|error| failed(&error))?;
                let fd: OwnedFd = watch::eventfd().map_err(|errno| failed(&errno.into()))?;
                let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
                write(&own.join("cgroup.event_control"), &line)?;
                let (fd, _control) = (fd.into(), Some(control));
                Ok(Oom { fd, dir: own, version, reported: 0, _control })
            }
            Version::V2 => {
                let file = own.join("memory.events");
                let fd = watch::file(&[&file, &own.join("cgroup.events")])
                    .map_err(|errno| failed(&errno.into()))?;
                let reported = kills(&own).unwrap_or(0);
                Ok(Oom { fd: fd.into(), dir: own, version, reported, _control: None })
            }
        }
    }
}

impl Cgroup {
    /// How many processes the kernel has killed here for lack of memory. `None`: no memory
    /// controller, or a kernel that does not count (v1 before Linux 4.13).
    pub fn oom_kills(&self) -> Option<u64> {
        let (version, dir) = self.directory(Controller::Memory)?;
        match version {
            Version::V1 => kills_in(&dir.join("memory.oom_control")),
            Version::V2 => kills(&dir),
        }
    }
}

impl Oom {
    /// Takes what has arrived, without blocking; meant to be called when the descriptor is
    /// readable.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn news(&mut self) -> Result<OomEvent> {
        let mut buffer = [0; 4096];
        match self.fd.read(&mut buffer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Ok(OomEvent::Nothing);
            }
            Err(error) => return Err(Error::io("read the events of a cgroup", &error)),
        }
        if !self.dir.exists() {
            return Ok(OomEvent::Gone);
        }
        if self.version == Version::V1 {
            return Ok(OomEvent::Oom);
        }
        let now = kills(&self.dir).unwrap_or(self.reported);
        let more = now > self.reported;
        self.reported = now;
        if more {
            return Ok(OomEvent::Oom);
        }
        // A cgroup is not removed while an engine that watches it waits for its last process.
        let populated = read_kernel(self.dir.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|line| line == "populated 1"));
        Ok(if populated { OomEvent::Nothing } else { OomEvent::Gone })
    }
}

impl AsRawFd for Oom {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Oom {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn kills(dir: &Path) -> Option<u64> {
    kills_in(&dir.join("memory.events"))
}

fn kills_in(file: &Path) -> Option<u64> {
    let text = read_kernel(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}
