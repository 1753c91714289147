//! Closing a file without waiting for what its last close does (unix(7), SCM_RIGHTS).
//!
//! close(2) of an nfnetlink socket waits until nftables has freed what anybody deleted before, an
//! RCU grace period of 8 ms or more, and so does the exit of a process that has one.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Closes `fd` in the background, where the kernel can: the descriptor travels in a message to a
/// socket that is itself only in that message, so nobody can ever receive it, and the kernel's
/// collector of such cycles closes both. It is a work item since Linux 6.9; before, it runs in the
/// caller, and this is a close(2). If anything fails it is one too.
pub fn abandon(fd: OwnedFd) {
    let Ok((sender, receiver)) = UnixDatagram::pair() else { return };
    let passed = [fd.as_fd(), receiver.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let _ = sendmsg(&sender, &[IoSlice::new(&[0])], &mut control, SendFlags::empty());
    // The order matters. Ours first, or the last close may still be ours. The sender last, for it is
    // its end that starts the collector, which must find the receiver in the message only.
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
        // End of file comes when the other end is closed.
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
}
