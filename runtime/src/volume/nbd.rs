//! NBD exports: the negotiation with a server, and the kernel's netlink interface, which takes the
//! socket over. nbd-client(8) does the same, but gives the device no name, so that after a crash
//! nobody could tell which export it is: here the kernel keeps that (`backend` in sysfs).
//!
//! The protocol is doc/proto.md of nbd: fixed newstyle, `NBD_OPT_GO`.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use super::array::{names, value};
use super::device::Portal;
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::sys::netlink::{Batch, Family, Refusal, Socket, attribute};

/// What a server says of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NbdExport {
    /// Its size in bytes.
    pub size: u64,
    /// What it can do (`NBD_FLAG_*`).
    pub flags: u16,
}

/// How long a server may take to answer while it is connected.
const PATIENCE: Duration = Duration::from_secs(5);
/// After how many seconds without an answer a request fails, and the connection with it. Others have
/// the same data, so nothing waits for the server's return.
pub const REQUEST: u64 = 5;

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT";
const OPTION: &[u8] = b"IHAVEOPT";
const REPLY: u64 = 0x0003_e889_0455_65a9;
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;
const READ_ONLY: u16 = 1 << 1;
/// More than that is no answer to these questions.
const LONGEST: u32 = 64 << 10;

/// Agrees with a server on an export; the next bytes of `stream` are requests.
///
/// # Errors
/// It has no such export, or is no NBD server.
pub fn negotiate(stream: &mut (impl Read + Write), export: &str) -> Result<NbdExport> {
    let failed = |error: std::io::Error| {
        // SO_RCVTIMEO.
        let late = matches!(error.raw_os_error(), Some(libc::EAGAIN));
        match late {
            true => Error::new("it does not answer").hint("is that an NBD server?"),
            false => Error::io("talk to the server", &error),
        }
    };
    let greeting: [u8; 18] = take(stream).map_err(failed)?;
    if greeting[..16] != *GREETING {
        return Err(Error::new("it does not speak the NBD protocol"));
    }
    let offered = u16::from_be_bytes([greeting[16], greeting[17]]);
    if offered & FIXED_NEWSTYLE == 0 {
        return Err(Error::new("it speaks only an old NBD protocol"));
    }
    let mut words = u32::from(FIXED_NEWSTYLE | offered & NO_ZEROES).to_be_bytes().to_vec();
    words.extend(OPTION);
    words.extend(OPT_GO.to_be_bytes());
    words.extend((export.len() as u32 + 6).to_be_bytes());
    words.extend((export.len() as u32).to_be_bytes());
    words.extend(export.bytes());
    words.extend([0, 0]);
    stream.write_all(&words).map_err(failed)?;
    let mut found = None;
    loop {
        let header: [u8; 20] = take(stream).map_err(failed)?;
        let [_, _, option, kind, length] = words_of(&header);
        let magic = u64::from_be_bytes(header[..8].try_into().unwrap_or_default());
        if magic != REPLY || option != OPT_GO || length > LONGEST {
            return Err(Error::new("it does not speak the NBD protocol"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data).map_err(failed)?;
        match kind {
            REP_ACK => return found.ok_or_else(|| Error::new("it does not say how large it is")),
            REP_INFO => found = found.or(export_of(&data)),
            kind if kind & REP_ERR != 0 => return Err(refusal(kind & !REP_ERR, &data)),
            _ => {}
        }
    }
}

fn take<const N: usize>(stream: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

fn words_of(header: &[u8; 20]) -> [u32; 5] {
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap_or_default());
    [0, 4, 8, 12, 16].map(word)
}

/// `NBD_INFO_EXPORT`.
fn export_of(data: &[u8]) -> Option<NbdExport> {
    let data: &[u8; 12] = data.try_into().ok()?;
    let kind = u16::from_be_bytes([data[0], data[1]]);
    let size = u64::from_be_bytes(data[2..10].try_into().ok()?);
    let flags = u16::from_be_bytes([data[10], data[11]]);
    (kind == INFO_EXPORT).then_some(NbdExport { size, flags })
}

fn refusal(kind: u32, said: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(said).chars().take(200).collect();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = match kind {
        1 => Error::new("the server is too old (no NBD_OPT_GO)"),
        2 => Error::new("the server does not allow it").hint("is this host allowed there?"),
        5 => Error::new("the server demands TLS, which the kernel's client does not have"),
        6 => Error::new("the server has no such export"),
        kind => Error::new(format!("the server refuses it (NBD error {kind})")),
    };
    if said.is_empty() { error } else { error.because(said) }
}

// linux/genetlink.h and linux/nbd-netlink.h.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;
const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_SIZE_BYTES: u16 = 3;
const TIMEOUT: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const SOCK_ITEM: u16 = 1;
const SOCK_FD: u16 = 1;
const BACKEND_IDENTIFIER: u16 = 10;
const BLOCK: u64 = 512;

/// The name of the block device that is connected as `name`: `nbd0`.
///
/// # Errors
/// It cannot be determined.
pub fn device_of(sys: &Path, name: &str) -> Result<Option<String>> {
    let block = sys.join("block");
    for device in names(&block)?.unwrap_or_default() {
        if device.starts_with("nbd")
            && value(&block.join(&device).join("backend"))?.as_deref() == Some(name)
        {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// Connects an export to a free device, which the kernel then knows as `name`; or, if there is one,
/// gives it a new connection where it has lost its own.
///
/// # Errors
/// The server does not have it, or the kernel has no NBD.
pub fn connect(sys: &Path, portal: &Portal, export: &str, name: &str) -> Result<()> {
    let within = |error: Error| error.within(name);
    let refused = |refusal: Refusal| kernel(name, &refusal);
    let (stream, found) = open(portal, export).map_err(within)?;
    let known = device_of(sys, name)?;
    let (mut socket, family) = family().map_err(refused)?;
    let size = found.size - found.size % BLOCK;
    let mut batch = Batch::new();
    let fixed = |command: u8| [command, 1, 0, 0];
    let doing = "connect an NBD export";
    match &known {
        None => batch.message(doing, family, 0, &fixed(CONNECT)),
        Some(device) => {
            batch.message(doing, family, 0, &fixed(RECONFIGURE));
            batch.u32(INDEX, index(device)?);
        }
    }
    batch.attr(SIZE_BYTES, &size.to_ne_bytes());
    batch.attr(BLOCK_SIZE_BYTES, &BLOCK.to_ne_bytes());
    batch.attr(TIMEOUT, &REQUEST.to_ne_bytes());
    batch.attr(SERVER_FLAGS, &u64::from(found.flags).to_ne_bytes());
    batch.text(BACKEND_IDENTIFIER, name);
    batch.nest(SOCKETS, |batch| {
        batch.nest(SOCK_ITEM, |batch| batch.u32(SOCK_FD, stream.as_raw_fd() as u32));
    });
    match socket.execute(batch) {
        // None of its connections is lost.
        Err(refusal) if known.is_some() && refusal.errno == Errno(libc::ENOSPC) => return Ok(()),
        done => done.map_err(refused)?,
    }
    match device_of(sys, name)? {
        Some(_) => Ok(()),
        None => {
            Err(Error::new(format!("{name}: the kernel does not say which export a device is"))
                .hint("Linux 5.14 does"))
        }
    }
}

/// Disconnects what is connected as `name`, if it is.
///
/// # Errors
/// It cannot be disconnected.
pub fn disconnect(sys: &Path, name: &str) -> Result<()> {
    let Some(device) = device_of(sys, name)? else { return Ok(()) };
    let refused = |refusal: Refusal| kernel(name, &refusal);
    let (mut socket, family) = family().map_err(refused)?;
    let mut batch = Batch::new();
    batch.message("disconnect an NBD export", family, 0, &[DISCONNECT, 1, 0, 0]);
    batch.u32(INDEX, index(&device)?);
    socket.execute(batch).map_err(refused)
}

fn open(portal: &Portal, export: &str) -> Result<(TcpStream, NbdExport)> {
    let failed = |error: std::io::Error| Error::io(format!("connect to {portal}"), &error);
    let address: IpAddr =
        portal.host.parse().map_err(|_| Error::new(format!("{} is no address", portal.host)))?;
    let at = (address, portal.port).into();
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(failed)?;
    let limit = |stream: &TcpStream, time| {
        stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
    };
    limit(&stream, Some(PATIENCE)).and_then(|()| stream.set_nodelay(true)).map_err(failed)?;
    let found = negotiate(&mut stream, export)?;
    // The kernel would take such a timeout for a lost connection.
    limit(&stream, None).map_err(failed)?;
    match (found.flags & READ_ONLY, found.size) {
        (0, BLOCK..) => Ok((stream, found)),
        (0, _) => Err(Error::new("it is empty")),
        _ => Err(Error::new("it is read-only")),
    }
}

/// The number of the kernel's interface. ENOENT: the module is not loaded.
fn family() -> Result<(Socket, u16), Refusal> {
    let doing = "find the kernel's NBD interface";
    let failed = |errno| Refusal { message: 0, doing, errno, text: None };
    let mut socket = Socket::open(Family::Generic).map_err(failed)?;
    let mut batch = Batch::new();
    batch.message(doing, CONTROL, 0, &[GET_FAMILY, 1, 0, 0]);
    batch.text(FAMILY_NAME, "nbd");
    let mut found = None;
    socket.ask(batch, &[], |body| {
        let id = body.get(4..).and_then(|rest| attribute(rest, FAMILY_ID));
        found = id.and_then(|id| id.try_into().ok()).map(u16::from_ne_bytes);
    })?;
    found.map(|found| (socket, found)).ok_or_else(|| failed(Errno(libc::ENOENT)))
}

fn index(device: &str) -> Result<u32> {
    let number = device.strip_prefix("nbd").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::new(format!("{device} is not the name of an NBD device")))
}

fn kernel(name: &str, refusal: &Refusal) -> Error {
    let error = Error::os(format!("{name}: {}", refusal.doing), refusal.errno);
    match (&refusal.text, refusal.errno) {
        (_, Errno(libc::ENOENT)) => error.hint("modprobe nbd"),
        (_, Errno(libc::EPERM)) => error.hint("that needs root (CAP_SYS_ADMIN)"),
        (Some(text), _) => error.because(text),
        (None, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says what it says, whatever it hears.
    struct Told {
        says: std::io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Told {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.says.read(to)
        }
    }

    impl Write for Told {
        fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
            self.heard.write(from)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn reply(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = REPLY.to_be_bytes().to_vec();
        for word in [OPT_GO, kind, data.len() as u32] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(data);
        bytes
    }

    fn info(size: u64, flags: u16) -> Vec<u8> {
        let mut data = INFO_EXPORT.to_be_bytes().to_vec();
        data.extend(size.to_be_bytes());
        data.extend(flags.to_be_bytes());
        reply(REP_INFO, &data)
    }

    fn talk(replies: &[Vec<u8>]) -> (Result<NbdExport>, Vec<u8>) {
        let mut says = GREETING.to_vec();
        says.extend([0, 3]);
        says.extend(replies.concat());
        let mut told = Told { says: std::io::Cursor::new(says), heard: Vec::new() };
        (negotiate(&mut told, "vol1"), told.heard)
    }

    #[test]
    fn a_server_is_asked_for_an_export_and_says_its_size() {
        // One more info, which is not asked for, as qemu-nbd sends it.
        let block = reply(REP_INFO, &[0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]);
        let (found, heard) = talk(&[block, info(1 << 30, 0x5), reply(REP_ACK, &[])]);
        assert_eq!(found.unwrap(), NbdExport { size: 1 << 30, flags: 5 });
        assert_eq!(heard, b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04vol1\0\0");
    }

    #[test]
    fn what_is_refused_or_is_no_answer_is_a_line() {
        let says = |replies: &[Vec<u8>]| talk(replies).0.unwrap_err().to_string();
        assert_eq!(says(&[reply(REP_ERR | 6, b"")]), "the server has no such export");
        let policy = says(&[reply(REP_ERR | 2, b"not\nyou")]);
        assert!(policy.contains("does not allow it") && policy.contains("not you"), "{policy}");
        assert!(says(&[reply(REP_ACK, &[])]).contains("how large"));
        assert!(says(&[vec![0; 20]]).contains("does not speak"));
        assert!(says(&[info(1, 1)]).contains("talk to the server"));
        let mut long = reply(REP_INFO, &[]);
        long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(says(&[long]).contains("does not speak"));
        let mut http = Told { says: std::io::Cursor::new(vec![b'x'; 99]), heard: Vec::new() };
        assert!(negotiate(&mut http, "x").unwrap_err().to_string().contains("does not speak"));
    }
}
