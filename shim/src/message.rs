//! Messages of containerd: what calls carry, and what is said on standard input and output where containerd executes
//! this program.

use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageFull};
use garth::{Error, Result};

/// This runtime, as containerd names it.
pub const RUNTIME: &str = "io.containerd.garth.v1";

/// No daemon says more than this on standard input.
const MOST_INPUT: u64 = 10 << 20;

/// What containerd says on standard input.
///
/// # Errors
/// It cannot be read.
pub fn input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MOST_INPUT).read_to_end(&mut input);
    read.map(|_| input).map_err(|error| Error::io("read standard input", &error))
}

/// The options of a runtime that it may be; `None`: there is nothing.
///
/// # Errors
/// It is something else.
pub fn options(input: &[u8]) -> Result<Option<Any>> {
    let wrong = |error| Error::new("standard input: no options of a runtime").because(error);
    (!input.is_empty()).then(|| Any::parse_from_bytes(input).map_err(wrong)).transpose()
}

/// Prints the answer to containerd.
///
/// # Errors
/// It cannot be written.
pub fn answer(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| Error::io("answer containerd", &error))
}

/// A message, encoded.
///
/// # Errors
/// It is too large.
pub fn encoded(message: &impl Message) -> Result<Vec<u8>> {
    message.write_to_bytes().map_err(|error| Error::new("encode the answer").because(error))
}

/// A message with its type.
pub fn any<T: MessageFull>(message: &T) -> Any {
    Any {
        type_url: T::descriptor().full_name().to_owned(),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

/// A time, for a message.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (since.as_secs() as i64, since.subsec_nanos() as i32);
    Timestamp { seconds, nanos, ..Timestamp::default() }
}

/// What a mutex holds; a thread that panicked with it ends the program anyway.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
