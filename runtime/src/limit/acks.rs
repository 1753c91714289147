//! Acknowledgments for readers that are stopped.
//!
//! What arrives is acknowledged at once while it is read. When nobody reads, and the window does not
//! move, the kernel waits for up to 40 ms. A sender that is nearer than that takes the silence for a
//! lost segment and sends its last one again (tail loss probe, RFC 8985 section 7), once for each
//! stop, and what it believes of the path is wrong besides. So while a reader is stopped its kernel is
//! asked to say what has come: TCP_QUICKACK (tcp(7), "this flag is not permanent") on a copy of the
//! descriptor that is given back at once. Nothing that the target can see is changed by it.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::diag::{Place, socket_inode};
use super::tree::ProcessTree;
use crate::sys::timer::monotonic;
use crate::sys::{Errno, pidfd, sockopt};

/// Two jiffies of the fastest kernels: no sender probes sooner.
const EVERY: Duration = Duration::from_millis(2);

/// Asks for acknowledgments.
#[derive(Debug, Default)]
pub struct Acks {
    /// The target may be signalled, but not traced: then its sender probes.
    refused: bool,
}

impl Acks {
    /// Asks for those of `places`, and says when to ask again; none: never.
    pub fn ask(&mut self, tree: &mut ProcessTree, places: &[Place]) -> Option<Duration> {
        if self.refused || places.is_empty() {
            return None;
        }
        let begun = monotonic();
        let refused = |place: &&Place| ask_one(tree, place) == Err(Errno(libc::EPERM));
        self.refused = places.iter().filter(refused).count() == places.len();
        // Of many sockets not more than a tenth of a processor.
        Some(EVERY.max((monotonic() - begun) * 9))
    }
}

fn ask_one(tree: &mut ProcessTree, place: &Place) -> Result<(), Errno> {
    let Place { pid, fd, inode } = *place;
    let Some(member) = tree.member(pid) else { return Ok(()) };
    // It has run since it was looked at: a file by the same number is none of our business.
    if socket_inode(Path::new(&format!("/proc/{pid}/fd/{fd}"))) != Some(inode) {
        return Ok(());
    }
    let socket = pidfd::get_fd(member.pidfd.as_fd(), fd)?;
    sockopt::acknowledge(socket.as_fd())
}
