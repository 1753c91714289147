//! Closing a file without waiting for what its last close does (unix(7), SCM_RIGHTS).
//!
//! close(2) of an nfnetlink socket waits until nftables has freed what anybody deleted before, an
//! RCU grace period of 8 ms or more, and so does the exit of a process that has one.

use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

/// Closes `fd` in the background, where the kernel can: the descriptor travels in a message to a
/// socket that is itself only in that message, so nobody can ever receive it, and the kernel's
/// collector of such cycles closes both. It is a work item since Linux 6.9; before, it runs in the
/// caller, and this is a close(2). If anything fails it is one too.
pub fn abandon(fd: OwnedFd) {
    let Ok((sender, receiver)) = UnixDatagram::pair() else { return };
    let passed = [fd.as_raw_fd(), receiver.as_raw_fd()];
    let length = size_of_val(&passed) as u32;

    // u64s, as the header wants to be aligned.
    let mut control = [0u64; 8];
    let mut byte = [0u8; 1];
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: msghdr is plain data for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes; it is far below the 64 bytes there are.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as usize;
    // SAFETY: the control buffer is live, aligned and large enough for one header and two
    // descriptors, which are open until after the call.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
        libc::CMSG_DATA(header).cast::<[i32; 2]>().write_unaligned(passed);
        libc::sendmsg(sender.as_raw_fd(), &message, 0);
    }
    const { assert!(size_of::<libc::cmsghdr>() + 8 <= 64) };
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
