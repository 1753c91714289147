//! Descriptors that become readable when something happens elsewhere: eventfd(2), inotify(7).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::EventfdFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Errno;

/// A counter, close-on-exec and non-blocking.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A watch for writes to `files`, non-blocking.
pub fn file(files: &[&Path]) -> Result<OwnedFd, Errno> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for file in files {
        inotify::add_watch(&fd, *file, WatchFlags::MODIFY)?;
    }
    Ok(fd)
}
