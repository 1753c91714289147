//! Acknowledgments for stopped readers.
//!
//! Data that is being read is acknowledged immediately. When nothing reads it and the window does
//! not move, the kernel waits for up to 40 ms. A sender with a shorter round trip takes the silence
//! for a lost segment and resends its last one (tail loss probe, RFC 8985 section 7), once per
//! stop, and its estimate of the path goes wrong as well. So the kernel of a stopped reader is
//! asked to acknowledge what has arrived: TCP_QUICKACK (tcp(7), "this flag is not permanent") on a
//! copy of the descriptor, which is closed immediately. The target can see no change.

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
    /// The target may be signalled but not traced: its sender then probes.
    refused: bool,
}

impl Acks {
    /// Asks for acknowledgments for `places`, and returns when to ask again; `None`: never.
    pub fn ask(&mut self, tree: &mut ProcessTree, places: &[Place]) -> Option<Duration> {
        if self.refused || places.is_empty() {
            return None;
        }
        let begun = monotonic();
        let refused = |place: &&Place| ask_one(tree, place) == Err(Errno(libc::EPERM));
        self.refused = places.iter().filter(refused).count() == places.len();
        // With many sockets, use at most a tenth of a processor.
        Some(EVERY.max((monotonic() - begun) * 9))
    }
}

fn ask_one(tree: &mut ProcessTree, place: &Place) -> Result<(), Errno> {
    let Place { pid, fd, inode } = *place;
    let Some(member) = tree.member(pid) else { return Ok(()) };
    // It has run since the last look: this descriptor may now be another file, which is not ours.
    if socket_inode(Path::new(&format!("/proc/{pid}/fd/{fd}"))) != Some(inode) {
        return Ok(());
    }
    let socket = pidfd::get_fd(member.pidfd.as_fd(), fd)?;
    sockopt::acknowledge(socket.as_fd())
}
