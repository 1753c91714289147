//! Netlink (netlink(7)): many messages in one buffer, one `sendmsg`, one answer.
//!
//! A [`Batch`] is written front to back into a single `Vec`: header, fixed part, attributes; the
//! lengths are filled in when a message or a nest is closed. Only the last message asks for an
//! acknowledgement, because the kernel reports every *failure* anyway: a batch that succeeds costs
//! one `sendmsg` and one `recvmsg`, whatever its length.
//!
//! rtnetlink and nfnetlink do their work inside `sendmsg`, so every answer is queued when it
//! returns. Nothing here ever waits: a missing answer is an error, not a hang.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    sockopt,
};

use super::raw::call;
use super::{Errno, raw};

const HEADER: usize = size_of::<libc::nlmsghdr>();
const ATTRIBUTE: usize = size_of::<libc::nlattr>();
const NESTED: u16 = libc::NLA_F_NESTED as u16;
// linux/netlink.h and linux/ethtool.h; not in libc.
const NLMSGERR_ATTR_MSG: u16 = 1;
const ETHTOOL_GLINK: u32 = 0x0a;

/// Which part of the kernel a [`Socket`] talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours (rtnetlink(7)).
    Route = libc::NETLINK_ROUTE as isize,
    /// nftables and connection tracking.
    Netfilter = libc::NETLINK_NETFILTER as isize,
    /// Sockets and their traffic counters (sock_diag(7)).
    Diag = libc::NETLINK_SOCK_DIAG as isize,
    /// What has no number of its own, such as NBD devices (genetlink).
    Generic = libc::NETLINK_GENERIC as isize,
}

impl Family {
    /// Rustix has no constant for rtnetlink, whose number is 0.
    fn protocol(self) -> Option<Protocol> {
        std::num::NonZero::new(self as u32).map(Protocol::from_raw)
    }
}

/// The kernel's refusal of one message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which message of the batch, from 0.
    pub message: usize,
    /// The purpose of that message, as passed to [`Batch::message`].
    pub doing: &'static str,
    /// The error number.
    pub errno: Errno,
    /// The kernel's own text (NETLINK_EXT_ACK, kernel 4.12), if any.
    pub text: Option<String>,
}

/// Messages to be sent together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    doing: Vec<&'static str>,
    last: usize,
    transaction: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch { bytes: Vec::with_capacity(2048), ..Batch::default() }
    }

    /// An nftables transaction: all of its messages take effect together, or none does.
    pub fn transaction() -> Batch {
        let mut batch = Batch::new();
        batch.bracket(libc::NFNL_MSG_BATCH_BEGIN);
        batch.transaction = true;
        batch
    }

    /// Begins a message: `kind` and `flags` as in nlmsghdr, then the family's fixed part. `doing`
    /// goes into the error if the kernel refuses it.
    pub fn message(&mut self, doing: &'static str, kind: u16, flags: i32, fixed: &[u8]) {
        self.last = self.bytes.len();
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&(self.doing.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.raw(fixed);
        self.doing.push(doing);
    }

    /// Adds an attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// Adds an attribute that is a NUL-terminated string.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.bytes.extend_from_slice(&((ATTRIBUTE + value.len() + 1) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.raw(&[0]);
    }

    /// Adds a 32-bit attribute in host order, as rtnetlink expects.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Adds a 32-bit attribute in network order, as nfnetlink expects.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Adds an attribute that contains what `inside` adds.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Batch)) {
        let start = self.bytes.len();
        self.attr(kind | NESTED, &[]);
        inside(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends bytes, padded to 4, and lengthens the message accordingly. For the fixed part of a
    /// message inside a nest (the peer of a veth).
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn bracket(&mut self, kind: i32) {
        let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        let fixed = [libc::AF_UNSPEC as u8, 0, subsystem[0], subsystem[1]];
        self.message("commit", kind as u16, 0, &fixed);
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.doing.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.doing.is_empty()
    }
}

/// A netlink socket of the network namespace it was opened in, whatever namespace the thread is in
/// later.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// Sequence number of the next batch's first message. It identifies late answers to an earlier
    /// batch, such as a second failure in it, which are skipped.
    next: u32,
}

impl Socket {
    /// Opens a socket in the thread's network namespace.
    pub fn open(family: Family) -> Result<Socket, Errno> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let fd = net::socket_with(AddressFamily::NETLINK, kind, flags, family.protocol())?;
        let socket = Socket { fd, next: 1 };
        // The kernel's text for a failure. An old kernel without it is no reason to fail.
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        // A refusal does not repeat the message it refers to.
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(socket)
    }

    /// Sends the batch; returns the first failure, if any.
    pub fn execute(&mut self, batch: Batch) -> Result<(), Refusal> {
        let mut first = Ok(());
        self.exchange(batch, |_, answer| {
            if let (Ok(()), Err(refusal)) = (&first, answer) {
                first = Err(refusal);
            }
        })?;
        first
    }

    /// Sends requests and passes the data of every answer to `each`. A refusal is an error, unless
    /// its number is one of `none`: those that mean there is nothing to report.
    pub fn ask(
        &mut self,
        batch: Batch,
        none: &[i32],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let mut refused = Ok(());
        self.exchange(batch, |_, answer| match answer {
            Ok((_, body)) => each(body),
            Err(refusal) if none.contains(&refusal.errno.0) => {}
            Err(refusal) => refused = Err(refusal),
        })?;
        refused
    }

    /// Sends the batch and passes every answer, with the index of its message, to `each`: data (the
    /// message's kind and what follows the header) or a refusal. The error is about the socket.
    pub fn exchange(
        &mut self,
        mut batch: Batch,
        mut each: impl FnMut(usize, Result<(u16, &[u8]), Refusal>),
    ) -> Result<(), Refusal> {
        // An empty transaction is a no-op: kernels before 6.10 do not acknowledge the brackets.
        if batch.len() == usize::from(batch.transaction) {
            return Ok(());
        }
        // The last message asks for the acknowledgement; in a transaction, the last before the
        // closing bracket, which kernels before 6.10 do not acknowledge.
        let awaited = batch.len() - 1;
        batch.bytes[batch.last + 6] |= libc::NLM_F_ACK as u8;
        if batch.transaction {
            batch.bracket(libc::NFNL_MSG_BATCH_END);
        }
        let base = self.next;
        self.next = self.next.wrapping_add(batch.len() as u32);
        number(&mut batch.bytes, base);
        let failed = |errno| Refusal { message: 0, doing: batch.doing[0], errno, text: None };
        // A long list of ports does not fit the usual 208 kB; root may exceed wmem_max.
        if batch.bytes.len() > 100_000 {
            let size = 2 * batch.bytes.len();
            let forced = sockopt::set_socket_send_buffer_size_force(&self.fd, size);
            forced.map_err(|errno| failed(errno.into()))?;
        }
        self.send(&batch.bytes).map_err(failed)?;

        let mut refused = false;
        let mut buffer = [0u8; 16 * 1024];
        loop {
            let length = match self.receive(&mut buffer) {
                Ok(length) => length,
                // A failed commit is answered only on the opening bracket.
                Err(errno) if errno.0 == libc::EAGAIN && refused => return Ok(()),
                Err(errno) => return Err(failed(errno)),
            };
            for (header, body) in messages(&buffer[..length]) {
                let message = header.nlmsg_seq.wrapping_sub(base) as usize;
                let Some(&doing) = batch.doing.get(message) else { continue };
                let kind = i32::from(header.nlmsg_type);
                if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
                    each(message, Ok((header.nlmsg_type, body)));
                    continue;
                }
                let (number, text) = error_of(header.nlmsg_flags, body);
                if number != 0 {
                    refused = true;
                    each(message, Err(Refusal { message, doing, errno: Errno(number), text }));
                }
                if message == awaited {
                    return Ok(());
                }
            }
        }
    }

    /// Sends the batch from a separate process and does not wait for the outcome: rtnetlink works
    /// inside `sendmsg`, and deleting a device takes tens of milliseconds there.
    pub fn execute_behind(&self, mut batch: Batch) -> Result<(), Errno> {
        number(&mut batch.bytes, 1);
        let fd = self.fd.as_raw_fd();
        super::fork::aside(&mut [fd], || {
            let (address, length) = (batch.bytes.as_ptr(), batch.bytes.len());
            let _ = super::raw::call!(libc::SYS_sendto, fd, address, length, 0, 0, 0);
        })
    }

    /// Makes the kernel act on a carrier change now. Link watching is a work item that may run
    /// later, and until it has run, the queue of a link that just came up drops packets; asking for
    /// the link state does the work immediately.
    pub fn settle_carrier(&self, link: &str) -> Result<(), Errno> {
        let mut value = [ETHTOOL_GLINK, 0];
        let mut request = raw::interface(link);
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // It points to the two words of an ethtool_value.
        call!(libc::SYS_ioctl, self.fd.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request).map(drop)
    }

    /// Listens to multicast `groups` from now on. The kernel's own messages skip a socket without
    /// an address, so this gives it one.
    pub fn join(&self, groups: &[i32]) -> Result<(), Errno> {
        self.bind(0)?;
        groups.iter().try_for_each(|group| {
            self.option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, *group)
        })
    }

    /// Passes to `each` the notifications that have arrived, without waiting; true: some were lost
    /// because the queue was full.
    pub fn drain(&self, mut each: impl FnMut(u16, &[u8])) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        let mut lost = false;
        loop {
            match self.receive(&mut buffer) {
                Ok(length) => messages(&buffer[..length])
                    .for_each(|(header, body)| each(header.nlmsg_type, body)),
                // Reported once, before the messages that did fit.
                Err(Errno(libc::ENOBUFS)) if !lost => lost = true,
                Err(_) => return lost,
            }
        }
    }

    /// Sets the length of the notification queue to this, or to as much as this user may have.
    pub fn queue(&self, bytes: usize) {
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&self.fd, bytes);
        }
    }

    /// Binds the socket to the address `port`; 0: any. EADDRINUSE: another socket has it.
    pub fn bind(&self, port: u32) -> Result<(), Errno> {
        Ok(net::bind(&self.fd, &SocketAddrNetlink::new(port, 0))?)
    }

    /// A socket that several processes use in turn, if it is one of `family` with the address
    /// `port`. Answers to earlier users are discarded, and sequence numbers start afresh.
    pub fn shared(fd: OwnedFd, family: Family, port: u32) -> Option<Socket> {
        let address = net::getsockname(&fd).and_then(SocketAddrNetlink::try_from);
        let same = sockopt::socket_domain(&fd) == Ok(AddressFamily::NETLINK)
            && sockopt::socket_protocol(&fd) == Ok(family.protocol())
            && address.is_ok_and(|address| address.pid() == port);
        // Far from the numbers of processes that were killed before they read an answer.
        let now = super::timer::monotonic().as_nanos() as u32;
        let socket = Socket { fd, next: now | 1 };
        socket.drain(|_, _| {});
        same.then_some(socket)
    }

    /// A copy of the descriptor.
    pub fn descriptor(&self) -> Result<OwnedFd, Errno> {
        Ok(self.fd.try_clone()?)
    }

    /// Closes the socket without waiting for what nftables still has to free.
    pub fn abandon(self) {
        super::abandon::abandon(self.fd);
    }

    /// The descriptor itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn option(&self, level: i32, name: i32, value: i32) -> Result<(), Errno> {
        let (at, size) = (&raw const value, size_of_val(&value));
        call!(libc::SYS_setsockopt, self.fd.as_raw_fd(), level, name, at, size).map(drop)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        // The socket has no peer, so the message goes to the kernel.
        net::send(&self.fd, bytes, SendFlags::empty())?;
        Ok(())
    }

    /// One datagram from the kernel; datagrams from other senders are ignored.
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let is_kernel = |from: Option<&SocketAddrAny>| {
            let from = from.map(|from| SocketAddrNetlink::try_from(from.clone()));
            matches!(from, Some(Ok(from)) if from.pid() == 0)
        };
        loop {
            match net::recvfrom(&self.fd, &mut *buffer, flags) {
                // Thousands of refusals overflow the queue; the first ones are in it.
                Err(io::Errno::INTR | io::Errno::NOBUFS) => {}
                Err(errno) => return Err(errno.into()),
                Ok((_, length, _)) if length > buffer.len() => return Err(Errno(libc::EMSGSIZE)),
                Ok((_, length, from)) if is_kernel(from.as_ref()) => return Ok(length),
                Ok(_) => {}
            }
        }
    }
}

/// The attributes in `bytes` as (kind, value); stops at the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this kind in `bytes`.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// Numbers the messages, starting at `base`.
fn number(bytes: &mut [u8], base: u32) {
    let (mut start, mut sequence) = (0, base);
    while let Some(length) = u32_at(bytes, start) {
        bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        sequence = sequence.wrapping_add(1);
        start += length as usize;
    }
}

/// The messages of a datagram.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (libc::nlmsghdr, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = libc::nlmsghdr {
            nlmsg_len: u32_at(rest, 0)?,
            nlmsg_type: u16_at(rest, 4)?,
            nlmsg_flags: u16_at(rest, 6)?,
            nlmsg_seq: u32_at(rest, 8)?,
            nlmsg_pid: u32_at(rest, 12)?,
        };
        let length = header.nlmsg_len as usize;
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The error number (0: none) and the kernel's text in an NLMSG_ERROR or NLMSG_DONE.
fn error_of(flags: u16, body: &[u8]) -> (i32, Option<String>) {
    let number = u32_at(body, 0).map_or(libc::EPROTO, |n| -(n as i32));
    if flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
        return (number, None);
    }
    // The failed message is repeated, whole unless NLM_F_CAPPED is set, before the attributes.
    let repeated = match u32_at(body, 4) {
        Some(length) if flags & libc::NLM_F_CAPPED as u16 == 0 => length as usize,
        _ => HEADER,
    };
    let tail = body.get(4 + repeated.next_multiple_of(4)..).unwrap_or_default();
    let text = attribute(tail, NLMSGERR_ATTR_MSG)
        .map(|text| String::from_utf8_lossy(text).trim_end_matches(['\0', '.']).to_owned());
    (number, text)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anything sent over this is refused: it is not a socket.
    fn deaf() -> Socket {
        Socket { fd: std::fs::File::open("/dev/null").unwrap().into(), next: 1 }
    }

    #[test]
    fn what_holds_no_message_is_not_sent() {
        assert_eq!(deaf().execute(Batch::new()), Ok(()));
        assert_eq!(deaf().execute(Batch::transaction()), Ok(()));
        let mut one = Batch::transaction();
        one.message("try", 0, 0, &[]);
        assert_eq!(deaf().execute(one).unwrap_err().errno, Errno(libc::ENOTSOCK));
    }
}
