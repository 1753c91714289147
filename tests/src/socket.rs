//! Sockets on which a runtime sends file descriptors: of a terminal, of a filter.

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::{PATIENCE, until};

/// A socket that a runtime connects to.
pub struct Socket(UnixListener);

impl Socket {
    /// Listens on a path, which may lead into a test host.
    pub fn listen(path: &Path) -> Socket {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Socket(listener)
    }

    /// The next connection: the data sent on it, and the file descriptors that come along. Reads no
    /// further than one JSON text, if it is one, or the first file descriptor.
    pub fn receive(&self) -> (String, Vec<OwnedFd>) {
        let stream = self.accept();
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        while let Some((part, mut more)) = message(&stream) {
            text.extend(part);
            fds.append(&mut more);
            let is_part = text.starts_with(b"{")
                && serde_json::from_slice::<serde_json::Value>(&text).is_err();
            if !fds.is_empty() && !is_part {
                break;
            }
        }
        (String::from_utf8(text).unwrap(), fds)
    }

    /// The next connection, which the other side must close by itself.
    pub fn receive_all(&self) -> (String, Vec<OwnedFd>) {
        let stream = self.accept();
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        while let Some((part, mut more)) = message(&stream) {
            text.extend(part);
            fds.append(&mut more);
        }
        (String::from_utf8(text).unwrap(), fds)
    }

    fn accept(&self) -> UnixStream {
        let (stream, _) = until("the runtime connects", || match self.0.accept() {
            Ok(accepted) => Some(accepted),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE / 6)).unwrap();
        stream
    }
}

/// One message; `None` at the end.
fn message(stream: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut text = vec![0u8; 1 << 16];
    let mut control = [0u64; 32];
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let length = loop {
        // SAFETY: the header points to buffers that live through the call, with their lengths.
        let length =
            unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        if length >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break length;
        }
    };
    assert!(
        length >= 0,
        "nothing more is sent, and the connection is not closed: {}",
        io::Error::last_os_error()
    );
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control buffer, and these walk it within its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: not null, so a whole header of the control buffer.
        let control = unsafe { *next };
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: as above; CMSG_LEN only computes.
            let (data, bytes) =
                unsafe { (libc::CMSG_DATA(next), control.cmsg_len - libc::CMSG_LEN(0) as usize) };
            for number in 0..bytes / size_of::<i32>() {
                // SAFETY: within the data of this header; the fd is new and ours.
                fds.push(unsafe {
                    OwnedFd::from_raw_fd(data.cast::<i32>().add(number).read_unaligned())
                });
            }
        }
        // SAFETY: same as CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    text.truncate(usize::try_from(length).unwrap());
    (!text.is_empty() || !fds.is_empty()).then_some((text, fds))
}

/// Waits for one notification of a seccomp filter and answers it with an error number.
pub fn answer_notification(listener: &OwnedFd, errno: i32) {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let patience = i32::try_from(PATIENCE.as_millis()).unwrap();
    // SAFETY: one pollfd, and the number says one.
    let ready = unsafe { libc::poll(&raw mut poll, 1, patience) };
    assert_eq!(ready, 1, "no notification");
    // SAFETY: plain numbers, and the kernel expects zeros.
    let mut notification: libc::seccomp_notif = unsafe { zeroed() };
    let fd = listener.as_raw_fd();
    // SAFETY: the request reads and writes one seccomp_notif (80 bytes, 0xc0502100).
    let result = unsafe { libc::ioctl(fd, 0xc050_2100, &raw mut notification) };
    assert_eq!(result, 0, "receive a notification: {}", io::Error::last_os_error());
    let mut answer =
        libc::seccomp_notif_resp { id: notification.id, val: 0, error: -errno, flags: 0 };
    // SAFETY: the request reads one seccomp_notif_resp (24 bytes, 0xc0182101).
    let result = unsafe { libc::ioctl(fd, 0xc018_2101, &raw mut answer) };
    assert_eq!(result, 0, "answer a notification: {}", io::Error::last_os_error());
}

/// A terminal's other end, for reading and writing.
pub fn terminal(fd: OwnedFd) -> File {
    File::from(fd)
}
