//! Just enough of D-Bus to request something of systemd: one call at a time over the socket of a
//! bus, and waiting for one signal (D-Bus Specification, "Message Protocol").
//!
//! ```text
//! message = header, padded to 8, body
//! header  = 'l', kind, flags, 1, length of body, serial, a(yv): the fields
//! ```
//! Everything is aligned to its own size, counted from the start of the message.

mod read;

use std::borrow::Cow;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long an answer may take. systemd is sometimes busy for seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// No message from systemd is nearly this long; the specification allows 128 MiB.
const LONGEST: usize = 16 << 20;

/// A value in a message.
#[derive(Clone, Debug, PartialEq)]
pub enum DbusValue {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(sv)`
    Properties(Vec<(String, DbusValue)>),
    /// `a(sa(sv))`, always empty
    NoUnits,
    /// `y`
    Byte(u8),
    /// `n` if it may be negative, else `q`
    U16(bool, u16),
    /// `(...)`
    Struct(Vec<DbusValue>),
    /// `a...`, with the type of its elements
    Array(String, Vec<DbusValue>),
}

impl DbusValue {
    fn signature(&self) -> Cow<'static, str> {
        let fixed = match self {
            DbusValue::Text(_) => "s",
            DbusValue::Bool(_) => "b",
            DbusValue::I32(_) => "i",
            DbusValue::U32(_) => "u",
            DbusValue::I64(_) => "x",
            DbusValue::U64(_) => "t",
            DbusValue::F64(_) => "d",
            DbusValue::Bytes(_) => "ay",
            DbusValue::Numbers(_) => "au",
            DbusValue::Texts(_) => "as",
            DbusValue::Pairs(_) => "a(ss)",
            DbusValue::Properties(_) => "a(sv)",
            DbusValue::NoUnits => "a(sa(sv))",
            DbusValue::Byte(_) => "y",
            DbusValue::U16(true, _) => "n",
            DbusValue::U16(false, _) => "q",
            DbusValue::Struct(items) => {
                let inner: String = items.iter().map(DbusValue::signature).collect();
                return format!("({inner})").into();
            }
            DbusValue::Array(element, _) => return format!("a{element}").into(),
        };
        fixed.into()
    }

    fn write(&self, out: &mut Out) {
        match self {
            DbusValue::Text(text) => out.text(text),
            DbusValue::Bool(yes) => out.number(4, u64::from(*yes)),
            DbusValue::I32(n) => out.number(4, u64::from(*n as u32)),
            DbusValue::U32(n) => out.number(4, u64::from(*n)),
            DbusValue::I64(n) => out.number(8, *n as u64),
            DbusValue::U64(n) => out.number(8, *n),
            DbusValue::F64(n) => out.number(8, n.to_bits()),
            DbusValue::Bytes(bytes) => out.array(1, |out| out.0.extend(bytes)),
            DbusValue::Numbers(numbers) => {
                out.array(4, |out| numbers.iter().for_each(|n| out.number(4, u64::from(*n))));
            }
            DbusValue::Texts(texts) => out.array(4, |out| texts.iter().for_each(|t| out.text(t))),
            DbusValue::Pairs(pairs) => out.array(8, |out| {
                for (one, other) in pairs {
                    out.align(8);
                    out.text(one);
                    out.text(other);
                }
            }),
            DbusValue::Properties(properties) => out.array(8, |out| {
                for (name, value) in properties {
                    out.align(8);
                    out.text(name);
                    out.signature(&value.signature());
                    value.write(out);
                }
            }),
            DbusValue::NoUnits => out.array(8, |_| {}),
            DbusValue::Byte(byte) => out.number(1, u64::from(*byte)),
            DbusValue::U16(_, n) => out.number(2, u64::from(*n)),
            DbusValue::Struct(items) => {
                out.align(8);
                items.iter().for_each(|item| item.write(out));
            }
            DbusValue::Array(element, items) => {
                let kind = element.bytes().next().unwrap_or(b'y');
                out.array(read::alignment(kind), |out| items.iter().for_each(|i| i.write(out)));
            }
        }
    }
}

/// A message being built.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, size: usize, n: u64) {
        self.align(size);
        self.0.extend(&n.to_le_bytes()[..size]);
    }

    fn text(&mut self, text: &str) {
        self.number(4, text.len() as u64);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length is that of the elements, without the padding before the first.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Out)) {
        self.number(4, 0);
        let length_at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// A message being read. Anything that does not fit yields `None`.
struct In<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        let next = self.at.next_multiple_of(to);
        self.take(next - self.at).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

/// A received message, as far as it is parsed here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DbusMessage {
    kind: u8,
    reply_to: u32,
    /// The member of a signal.
    pub member: String,
    error: String,
    /// The texts and object paths at the start of the body, skipping numbers between them; variants
    /// are unwrapped.
    pub texts: Vec<String>,
    bytes: Vec<u8>,
    /// Where in `bytes` the body begins, and its types.
    body: usize,
    signature: String,
}

const CALL: u8 = 1;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

impl DbusMessage {
    fn parse(bytes: &[u8]) -> Option<DbusMessage> {
        let mut input = In { bytes, at: 0 };
        let mut message = DbusMessage { kind: *bytes.get(1)?, ..DbusMessage::default() };
        input.take(12)?;
        let fields_end = input.u32()? as usize + 16;
        let mut signature = String::new();
        while input.at < fields_end {
            input.align(8)?;
            let code = input.byte()?;
            match input.signature()?.as_str() {
                "s" | "o" => {
                    let text = input.text()?;
                    match code {
                        3 => message.member = text,
                        4 => message.error = text,
                        _ => {}
                    }
                }
                "g" => {
                    let text = input.signature()?;
                    if code == 8 {
                        signature = text;
                    }
                }
                "u" => {
                    let number = input.u32()?;
                    if code == 5 {
                        message.reply_to = number;
                    }
                }
                _ => return None,
            }
        }
        input.align(8)?;
        (message.bytes, message.body) = (bytes.to_vec(), input.at);
        let mut kinds: Vec<char> = signature.chars().rev().collect();
        while let Some(kind) = kinds.pop() {
            match kind {
                's' | 'o' => message.texts.push(input.text()?),
                'u' => drop(input.u32()?),
                'v' => kinds.extend(input.signature()?.chars().rev()),
                // No message that is waited for has more.
                _ => break,
            }
        }
        message.signature = signature;
        Some(message)
    }
}

/// A connection to a bus.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Signals that arrived while waiting for an answer.
    signals: Vec<DbusMessage>,
    /// systemd itself answers, without a bus in between.
    direct: bool,
}

/// How the paths of the sockets end on which systemd answers where no bus is installed.
pub const DIRECT: &str = "/systemd/private";

/// The callee: systemd, or the bus itself.
#[derive(Clone, Copy, Debug)]
pub struct Callee<'a> {
    /// Its name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

/// The bus.
const BUS: Callee<'static> = Callee {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

impl Bus {
    /// Connects to `address`, as in DBUS_SESSION_BUS_ADDRESS: `unix:path=...;unix:abstract=...`.
    ///
    /// # Errors
    /// No process answers there, or it rejects us.
    pub fn connect(address: &str) -> Result<Bus> {
        let failed =
            |error: &std::io::Error| Error::io(format!("connect to the bus at {address}"), error);
        let mut last = Error::new(format!("the bus at {address}: not a socket address"));
        for one in address.split(';') {
            let Some(socket) = socket_address(one) else { continue };
            let stream = match UnixStream::connect_addr(&socket) {
                Ok(stream) => stream,
                Err(error) => {
                    last = failed(&error);
                    continue;
                }
            };
            let deadline = Instant::now() + PATIENCE;
            let direct = one.ends_with(DIRECT);
            let mut bus = Bus { stream, serial: 0, deadline, signals: Vec::new(), direct };
            bus.authenticate().map_err(|error| failed(&error))?;
            if !direct {
                bus.call(BUS, "Hello", &[])?;
            }
            return Ok(bus);
        }
        Err(last)
    }

    /// Identifies us through the socket: the bus asks the kernel, so this is right in any user
    /// namespace.
    fn authenticate(&mut self) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        for expected in ["DATA", "OK "] {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") && line.len() < 1000 {
                let mut byte = [0];
                self.stream.read_exact(&mut byte)?;
                line.extend(byte);
            }
            if !line.starts_with(expected.as_bytes()) {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
        }
        self.stream.write_all(b"BEGIN\r\n")
    }

    /// Subscribes to signals that match `rule`.
    ///
    /// # Errors
    /// Same as [`Bus::call`].
    pub fn watch(&mut self, rule: &str) -> Result<()> {
        if self.direct {
            return Ok(());
        }
        self.call(BUS, "AddMatch", &[DbusValue::Text(rule.to_owned())]).map(drop)
    }

    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    /// The callee answers with an error, whose name and text are passed on.
    pub fn call(
        &mut self,
        callee: Callee<'_>,
        method: &str,
        arguments: &[DbusValue],
    ) -> Result<DbusMessage> {
        let doing = format!("{} {method}", callee.destination);
        self.deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let serial = self.serial;
        let message = encode(serial, callee, method, arguments);
        self.stream.write_all(&message).map_err(|error| Error::io(&doing, &error))?;
        loop {
            let message = self.receive().map_err(|error| error.within(&doing))?;
            if message.kind == SIGNAL {
                self.signals.push(message);
            } else if message.reply_to == serial && message.kind == ERROR {
                let words = message.texts.first().map_or("", String::as_str);
                return Err(Error::new(format!("{doing}: {}: {words}", message.error)));
            } else if message.reply_to == serial {
                return Ok(message);
            }
        }
    }

    /// Waits for a signal that `wanted` accepts.
    ///
    /// # Errors
    /// It does not arrive in time.
    pub fn signal(&mut self, mut wanted: impl FnMut(&DbusMessage) -> bool) -> Result<DbusMessage> {
        self.deadline = Instant::now() + PATIENCE;
        loop {
            for message in std::mem::take(&mut self.signals) {
                if wanted(&message) {
                    return Ok(message);
                }
            }
            let message = self.receive()?;
            if message.kind == SIGNAL {
                self.signals.push(message);
            }
        }
    }

    fn receive(&mut self) -> Result<DbusMessage> {
        let malformed = || Error::new("invalid message on the bus");
        let mut bytes = vec![0; 16];
        self.read(&mut bytes)?;
        let number = |at: usize| -> usize {
            bytes[at..at + 4].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
        };
        // The connecting side decides the byte order of all messages on the connection.
        if bytes[0] != b'l' {
            return Err(malformed());
        }
        let length = (16 + number(12)).next_multiple_of(8).saturating_add(number(4));
        if length > LONGEST {
            return Err(malformed());
        }
        bytes.resize(length, 0);
        self.read(&mut bytes[16..])?;
        DbusMessage::parse(&bytes).ok_or_else(malformed)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let read = self.stream.set_read_timeout(Some(left));
        read.and_then(|()| self.stream.read_exact(bytes)).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                Error::new(format!("no answer within {} s", PATIENCE.as_secs()))
            }
            _ => Error::io("read from the bus", &error),
        })
    }
}

fn encode(serial: u32, callee: Callee<'_>, method: &str, arguments: &[DbusValue]) -> Vec<u8> {
    // The body starts at a multiple of 8, so its alignment can be counted from its own start.
    let mut body = Out::default();
    arguments.iter().for_each(|argument| argument.write(&mut body));
    let signature: String = arguments.iter().map(DbusValue::signature).collect();
    let mut out = Out(vec![b'l', CALL, 0, 1]);
    out.number(4, body.0.len() as u64);
    out.number(4, u64::from(serial));
    out.array(8, |out| {
        for (code, kind, text) in [
            (1, "o", callee.path),
            (2, "s", callee.interface),
            (3, "s", method),
            (6, "s", callee.destination),
            (8, "g", &signature),
        ] {
            if code == 8 && text.is_empty() {
                continue;
            }
            out.align(8);
            out.0.push(code);
            out.signature(kind);
            match kind {
                "g" => out.signature(text),
                _ => out.text(text),
            }
        }
    });
    out.align(8);
    out.0.extend(body.0);
    out.0
}

fn socket_address(one: &str) -> Option<SocketAddr> {
    for option in one.strip_prefix("unix:")?.split(',') {
        let (name, value) = option.split_once('=')?;
        let value = unescape(value)?;
        match name {
            "path" => return SocketAddr::from_pathname(value).ok(),
            "abstract" => return SocketAddr::from_abstract_name(value.as_bytes()).ok(),
            _ => {}
        }
    }
    None
}

/// Decodes `%20` for a space, and the like.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
