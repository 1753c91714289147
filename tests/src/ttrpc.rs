//! A client of ttrpc, for requests that no real client makes. On a connection each message has a header of ten bytes, its
//! length, a number that its answer has as well, its kind and flags, and is protobuf (PROTOCOL.md of
//! github.com/containerd/ttrpc).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::PATIENCE;

/// The kind of a request.
pub const REQUEST: u8 = 1;

/// What a server answers: a message, or a code (google/rpc/code.proto) and words.
pub type Answer = Result<Vec<u8>, (u64, String)>;

/// A connection.
pub struct Connection {
    stream: UnixStream,
    last: u32,
}

impl Connection {
    /// Connects to a socket, which may be on a test host.
    pub fn open(path: &Path) -> Connection {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream, last: 1 }
    }

    /// Calls a method with an encoded message.
    pub fn call(&mut self, service: &str, method: &str, message: &[u8]) -> Answer {
        self.last += 2;
        let request = [text(1, service), text(2, method), text(3, message)].concat();
        self.send(self.last, REQUEST, &request);
        let (number, answer) = self.answer().unwrap_or_else(|| panic!("{method}: hung up"));
        assert_eq!(number, self.last, "{method}: an answer to something else");
        answer
    }

    /// Sends one message with its header.
    pub fn send(&mut self, number: u32, kind: u8, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap();
        self.send_bytes(&[&header(length, number, kind), message].concat());
    }

    /// Sends anything.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer, and the number of its request; `None`: the server has hung up.
    pub fn answer(&mut self) -> Option<(u32, Answer)> {
        let mut header = [0; 10];
        self.stream.read_exact(&mut header).ok()?;
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let mut bytes = vec![0; word(0) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        let response = fields(&bytes);
        let status = find(&response, 1).map(|field| fields(&field.bytes)).unwrap_or_default();
        let answer = match find(&status, 1).map_or(0, |code| code.value) {
            0 => Ok(find(&response, 2).map(|field| field.bytes.clone()).unwrap_or_default()),
            code => {
                let words = find(&status, 2).map(|field| field.bytes.clone()).unwrap_or_default();
                Err((code, String::from_utf8(words).unwrap()))
            }
        };
        Some((word(4), answer))
    }
}

/// What is in front of a message.
pub fn header(length: u32, number: u32, kind: u8) -> Vec<u8> {
    [&length.to_be_bytes()[..], &number.to_be_bytes(), &[kind, 0]].concat()
}

/// A field of a message: a string, bytes, or another message.
pub fn text(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A field of a message: a number, or true as 1.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// google.protobuf.Any.
pub fn any(kind: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [text(1, kind), text(2, value)].concat()
}

/// A field as it was received.
#[derive(Debug)]
pub struct Field {
    /// Which.
    pub number: u64,
    /// What it is, if it is a number.
    pub value: u64,
    /// What it is otherwise.
    pub bytes: Vec<u8>,
}

/// The first field of this number.
pub fn find(fields: &[Field], number: u64) -> Option<&Field> {
    fields.iter().find(|field| field.number == number)
}

/// The fields of a message of numbers and strings.
pub fn fields(mut bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes);
        let value = read_varint(&mut bytes);
        let length = if key & 7 == 2 { usize::try_from(value).unwrap() } else { 0 };
        let (field, rest) = bytes.split_at(length);
        fields.push(Field { number: key >> 3, value, bytes: field.to_vec() });
        bytes = rest;
    }
    fields
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            return value;
        }
    }
}
