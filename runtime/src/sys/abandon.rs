//! Closing a file without waiting for the work of its last close (unix(7), SCM_RIGHTS).
//!
//! close(2) of an nfnetlink socket waits until nftables has freed whatever any process deleted
//! before, an RCU grace period of 8 ms or more, and so does the exit of a process that holds one.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Closes `fd` in the background where the kernel can: the descriptor travels in a message to a
/// socket that itself exists only in that message, so it can never be received, and the kernel's
/// collector of such cycles closes both. The collector is a work item since Linux 6.9; before that
/// it runs in the caller, and this is a plain close(2), as it is if anything fails.
pub fn abandon(fd: OwnedFd) {
    let Ok((sender, receiver)) = UnixDatagram::pair() else { return };
    let passed = [fd.as_fd(), receiver.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let _ = sendmsg(&sender, &[IoSlice::new(&[0])], &mut control, SendFlags::empty());
    // The order matters. Ours first, or the last close might still be ours. The sender last,
    // because closing it starts the collector, which must find the receiver only in the message.
    drop(fd);
    drop(receiver);
    drop(sender);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_abandoned_file_is_closed_in_the_end() {
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        abandon(there.into());
        // End of file arrives when the other end is closed.
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
}
