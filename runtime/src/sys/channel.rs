//! The channel between a parent and a child that does not share its memory: a socket pair that
//! carries records of eight bytes. The child's calls allocate nothing.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::Errno;
use super::raw::{RawFd, borrowed, call};

/// A record: a kind, and a number that goes with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: u32,
    /// A process id, a descriptor, or 0.
    pub value: u32,
}

impl Message {
    fn words(self) -> [[u8; 4]; 2] {
        [self.kind, self.value].map(u32::to_ne_bytes)
    }
}

/// A record as the parent receives it.
#[derive(Debug)]
pub struct Heard {
    /// The record.
    pub message: Message,
    /// The text that came with it, if it was sent by [`tell_text`].
    pub text: Vec<u8>,
    /// The descriptor that came with it, if it was sent by [`tell_descriptor`].
    pub descriptor: Option<OwnedFd>,
}

/// The longest text of a record.
pub const TEXT: usize = 4096;

/// socketpair(2) of records, close-on-exec: the parent's end and the child's.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// A listening socket at `path`, for [`connect`]; close-on-exec. The directory is passed open, as
/// its path may be longer than a socket address allows (unix(7): 108 bytes).
pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketType::SEQPACKET, SocketFlags::empty())?;
    net::bind(&socket, &address_in(dir, name.as_ref())?)?;
    net::listen(&socket, 16)?;
    Ok(socket)
}

/// Connects to a socket of [`listen`]. ECONNREFUSED: nothing listens on it any more.
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketType::SEQPACKET, SocketFlags::empty())?;
    net::connect(&socket, &address_in(dir, name.as_ref())?)?;
    Ok(socket)
}

/// Does anything listen on a socket of [`listen`]? Never waits: EAGAIN when the queue of
/// connections is full. ECONNREFUSED: nothing listens on it any more.
pub fn knock(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let socket = socket(SocketType::SEQPACKET, SocketFlags::NONBLOCK)?;
    Ok(net::connect(&socket, &address_in(dir, name.as_ref())?)?)
}

fn socket(kind: SocketType, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    Ok(net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | flags, None)?)
}

fn address_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<SocketAddrUnix, Errno> {
    let dir = format!("/proc/self/fd/{}", dir.as_raw_fd());
    Ok(SocketAddrUnix::new(Path::new(&dir).join(name))?)
}

/// Parent: sends a record. EPIPE: the child is gone.
pub fn send(channel: BorrowedFd<'_>, message: Message) -> Result<(), Errno> {
    tell(channel.as_raw_fd(), message)
}

/// Parent: waits for a record; `None`: the other end is closed.
pub fn receive(channel: BorrowedFd<'_>) -> Result<Option<Heard>, Errno> {
    const WORDS: usize = size_of::<Message>();
    let mut bytes = [0u8; WORDS + TEXT];
    let (read, descriptor) = match receive_bytes(channel, &mut bytes) {
        // A connection closed with unread data is reset.
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
pub fn tell(channel: RawFd, message: Message) -> Result<(), Errno> {
    let (flags, size) = (libc::MSG_NOSIGNAL, size_of::<Message>());
    call!(libc::SYS_sendto, channel, &raw const message, size, flags, 0, 0).map(drop)
}

/// Child: sends a record with a text of at most [`TEXT`] bytes.
pub fn tell_text(channel: RawFd, message: Message, text: &[u8]) -> Result<(), Errno> {
    let words = message.words();
    let parts = [IoSlice::new(words.as_flattened()), IoSlice::new(&text[..text.len().min(TEXT)])];
    let control = &mut SendAncillaryBuffer::default();
    net::sendmsg(borrowed(channel)?, &parts, control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Child: sends a record with a descriptor.
pub fn tell_descriptor(channel: RawFd, message: Message, descriptor: RawFd) -> Result<(), Errno> {
    send_descriptor(channel, message.words().as_flattened(), descriptor)
}

/// Child: waits for a record; `None`: the other end is closed.
pub fn hear(channel: RawFd) -> Result<Option<Message>, Errno> {
    let mut message = Message { kind: 0, value: 0 };
    let size = size_of::<Message>();
    loop {
        match call!(libc::SYS_recvfrom, channel, &raw mut message, size, 0, 0, 0) {
            Err(Errno(libc::EINTR)) => {}
            // A connection closed with unread data is reset.
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

/// Sends `bytes` and a descriptor over a socket (SCM_RIGHTS of unix(7)). Allocates nothing.
pub fn send_descriptor(socket: RawFd, bytes: &[u8], descriptor: RawFd) -> Result<(), Errno> {
    let passed = [borrowed(descriptor)?];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let data = [IoSlice::new(bytes)];
    let sent = net::sendmsg(borrowed(socket)?, &data, &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno(libc::EMSGSIZE)) }
}

/// Parent: receives a descriptor sent by [`send_descriptor`]; close-on-exec. `None`: nothing came.
pub fn take_descriptor(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    take_with_word(socket).map(|taken| taken.map(|(descriptor, _)| descriptor))
}

/// Same as [`take_descriptor`], with the first of the bytes.
pub fn take_with_word(socket: BorrowedFd<'_>) -> Result<Option<(OwnedFd, u8)>, Errno> {
    let mut bytes = [0u8; 256];
    let (_, descriptor) = receive_bytes(socket, &mut bytes)?;
    Ok(descriptor.map(|descriptor| (descriptor, bytes[0])))
}

/// The number of bytes that came, and the descriptor that came with them.
fn receive_bytes(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let data = &mut [IoSliceMut::new(bytes)];
    let received = rustix::io::retry_on_intr(|| {
        net::recvmsg(socket, data, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

/// Connects a stream socket to `path`, such as a console socket; close-on-exec. The path may have
/// any length: one too long for a socket address is resolved down to its last name first. EAGAIN:
/// the queue of connections is full and connecting would block.
pub fn connect_stream(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketType::STREAM, SocketFlags::NONBLOCK)?;
    match (SocketAddrUnix::new(path), path.parent(), path.file_name()) {
        (Err(rustix::io::Errno::NAMETOOLONG), Some(dir), Some(name)) => {
            let dir = std::fs::File::open(dir)?;
            net::connect(&socket, &address_in(dir.as_fd(), name)?)?;
        }
        (address, ..) => net::connect(&socket, &address?)?,
    }
    let flags = rustix::fs::fcntl_getfl(&socket)?;
    rustix::fs::fcntl_setfl(&socket, flags - OFlags::NONBLOCK)?;
    Ok(socket)
}
