//! The line between a parent and a child that does not share its memory: a pair of sockets over
//! which records of eight bytes pass. The child's calls allocate nothing.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::Errno;
use super::raw::{RawFd, call};

/// What passes: a kind, and a number that belongs to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: u32,
    /// A process id, a descriptor, or 0.
    pub value: u32,
}

/// A record as the parent gets it.
#[derive(Debug)]
pub struct Heard {
    /// What it is.
    pub message: Message,
    /// The text that came with it, if [`tell_text`] has sent it.
    pub text: Vec<u8>,
    /// The descriptor that came with it, if [`tell_descriptor`] has sent it.
    pub descriptor: Option<OwnedFd>,
}

/// The longest text of a record.
pub const TEXT: usize = 4096;

/// socketpair(2), record by record, close-on-exec: the parent's end and the child's.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    call!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    // SAFETY: two descriptors that the kernel has just made for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// A socket at `path`, to which [`connect`] leads; close-on-exec. The directory is given open, as
/// its path may be longer than an address can be (unix(7): 108 bytes).
pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let socket = socket()?;
    let (address, length) = address(Path::new(&path))?;
    call!(libc::SYS_bind, socket.as_raw_fd(), &raw const address, length)?;
    call!(libc::SYS_listen, socket.as_raw_fd(), 16)?;
    Ok(socket)
}

/// Connects to a socket of [`listen`]. ECONNREFUSED: nobody listens any more.
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let socket = socket()?;
    let (address, length) = address(Path::new(&path))?;
    call!(libc::SYS_connect, socket.as_raw_fd(), &raw const address, length)?;
    Ok(socket)
}

/// Is anybody listening at a socket of [`listen`]? Waits for nobody: EAGAIN when there are so many
/// before us that one would have to. ECONNREFUSED: nobody listens any more.
pub fn knock(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = call!(libc::SYS_socket, libc::AF_UNIX, kind, 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let (address, length) = address(Path::new(&path))?;
    call!(libc::SYS_connect, socket.as_raw_fd(), &raw const address, length).map(drop)
}

fn socket() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let fd = call!(libc::SYS_socket, libc::AF_UNIX, kind, 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn address(path: &Path) -> Result<(libc::sockaddr_un, usize), Errno> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: sockaddr_un is plain numbers, for which all zeroes is a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    if bytes.len() >= address.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>()))
}

/// Parent: sends a record. EPIPE: the child has gone.
pub fn send(line: BorrowedFd<'_>, message: Message) -> Result<(), Errno> {
    tell(line.as_raw_fd(), message)
}

/// Parent: waits for a record; none: the other end is closed.
pub fn receive(line: BorrowedFd<'_>) -> Result<Option<Heard>, Errno> {
    const WORDS: usize = size_of::<Message>();
    let mut bytes = [0u8; WORDS + TEXT];
    let (read, descriptor) = match receive_bytes(line, &mut bytes) {
        // A connection that was closed unread is reset.
        Err(Errno(libc::ECONNRESET)) => return Ok(None),
        received => received?,
    };
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
    Ok((read >= WORDS).then(|| Heard {
        message: Message { kind: word(0), value: word(4) },
        text: bytes[WORDS..read].to_vec(),
        descriptor,
    }))
}

/// Child: sends a record.
pub fn tell(line: RawFd, message: Message) -> Result<(), Errno> {
    let (flags, size) = (libc::MSG_NOSIGNAL, size_of::<Message>());
    call!(libc::SYS_sendto, line, &raw const message, size, flags, 0, 0).map(drop)
}

/// Child: sends a record with a text, of [`TEXT`] bytes at most.
pub fn tell_text(line: RawFd, message: Message, text: &[u8]) -> Result<(), Errno> {
    let part =
        |bytes: *const u8, length| libc::iovec { iov_base: bytes as *mut _, iov_len: length };
    let words = part((&raw const message).cast(), size_of::<Message>());
    let mut parts = [words, part(text.as_ptr(), text.len().min(TEXT))];
    // SAFETY: msghdr is plain numbers and pointers, for which all zeroes is a value.
    let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = parts.len();
    call!(libc::SYS_sendmsg, line, &raw const header, libc::MSG_NOSIGNAL).map(drop)
}

/// Child: sends a record with a descriptor.
pub fn tell_descriptor(line: RawFd, message: Message, descriptor: RawFd) -> Result<(), Errno> {
    let mut bytes = [0u8; size_of::<Message>()];
    bytes[..4].copy_from_slice(&message.kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&message.value.to_ne_bytes());
    send_descriptor(line, &bytes, descriptor)
}

/// Child: waits for a record; none: the other end is closed.
pub fn hear(line: RawFd) -> Result<Option<Message>, Errno> {
    let mut message = Message { kind: 0, value: 0 };
    let size = size_of::<Message>();
    loop {
        match call!(libc::SYS_recvfrom, line, &raw mut message, size, 0, 0, 0) {
            Err(Errno(libc::EINTR)) => {}
            // A connection that was closed unread is reset.
            Err(Errno(libc::ECONNRESET)) => return Ok(None),
            Ok(read) if read == size => return Ok(Some(message)),
            Ok(_) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Child: waits for the next connection to a listening socket.
pub fn accept(listener: RawFd) -> Result<RawFd, Errno> {
    loop {
        match call!(libc::SYS_accept4, listener, 0, 0, libc::SOCK_CLOEXEC) {
            Err(Errno(libc::EINTR | libc::ECONNABORTED)) => {}
            result => return result.map(|fd| fd as RawFd),
        }
    }
}

/// Sends `bytes` and descriptors over a connected socket (SCM_RIGHTS of unix(7)). Allocates nothing.
pub fn send_descriptor(socket: RawFd, bytes: &[u8], descriptor: RawFd) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        descriptor: RawFd,
        padding: u32,
    }
    // CMSG_LEN(4) and CMSG_SPACE(4) of cmsg(3) on 64 bits.
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<RawFd>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        descriptor,
        padding: 0,
    };
    let mut data = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    // SAFETY: msghdr is plain numbers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    let sent = call!(libc::SYS_sendmsg, socket, &raw const message, libc::MSG_NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno(libc::EMSGSIZE)) }
}

/// Parent: takes a descriptor that [`send_descriptor`] has sent; close-on-exec. None: nothing came.
pub fn take_descriptor(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    take_with_word(socket).map(|taken| taken.map(|(descriptor, _)| descriptor))
}

/// As [`take_descriptor`], with the first of the bytes.
pub fn take_with_word(socket: BorrowedFd<'_>) -> Result<Option<(OwnedFd, u8)>, Errno> {
    let mut bytes = [0u8; 256];
    let (_, descriptor) = receive_bytes(socket, &mut bytes)?;
    Ok(descriptor.map(|descriptor| (descriptor, bytes[0])))
}

/// How many bytes came, and the descriptor that came with them.
fn receive_bytes(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        descriptor: RawFd,
        padding: u32,
    }
    let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: both are plain numbers and pointers, for which all zeroes is a value.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_CMSG_CLOEXEC;
    let read = loop {
        match call!(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut message, flags) {
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
            Ok(read) => break read,
        }
    };
    let whole = size_of::<libc::cmsghdr>() + size_of::<RawFd>();
    let header = &control.header;
    let taken = header.cmsg_len >= whole
        && (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((read, taken.then(|| unsafe { OwnedFd::from_raw_fd(control.descriptor) })))
}

/// A copy of descriptor `number` of the process behind `pidfd` (pidfd_getfd(2), Linux 5.6).
pub fn descriptor_of(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Errno> {
    let fd = call!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Connects a stream socket to `path`, such as a console socket; close-on-exec. However long the path
/// is: one that has no room in an address is walked up to its last name. EAGAIN: so many wait there
/// already that one would have to wait oneself.
pub fn connect_stream(path: &Path) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = call!(libc::SYS_socket, libc::AF_UNIX, kind, 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let connect = |path: &Path| {
        let (address, length) = address(path)?;
        call!(libc::SYS_connect, socket.as_raw_fd(), &raw const address, length)
    };
    match (connect(path), path.parent(), path.file_name()) {
        (Err(Errno(libc::ENAMETOOLONG)), Some(dir), Some(name)) => {
            let dir = std::fs::File::open(dir)?;
            let short = format!("/proc/self/fd/{}", dir.as_raw_fd());
            connect(&Path::new(&short).join(name))?;
        }
        (connected, ..) => drop(connected?),
    }
    let flags = call!(libc::SYS_fcntl, socket.as_raw_fd(), libc::F_GETFL, 0)?;
    let blocking = flags & !(libc::O_NONBLOCK as usize);
    call!(libc::SYS_fcntl, socket.as_raw_fd(), libc::F_SETFL, blocking)?;
    Ok(socket)
}
