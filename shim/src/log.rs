//! Messages for containerd's log: lines in its own format, to the pipe `log` in the bundle.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use garth::container::{Level, Warn};

use crate::message::RUNTIME;

struct Log {
    file: File,
    id: String,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the pipe of a bundle. Without one, nothing is logged.
pub fn open(bundle: &Path, id: &str, debug: bool) {
    // Read as well: containerd may be restarted, and a pipe without a reader is a signal. Full, it is not waited for.
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(bundle.join("log"));
    if let Ok(file) = options {
        let _ = LOG.set(Log { file, id: id.to_owned(), debug });
    }
}

/// Something that an operator should know.
pub fn warn(message: impl Display) {
    line("warning", &message.to_string());
}

/// Something for whoever looks for a fault.
pub fn debug(message: impl Display) {
    if LOG.get().is_some_and(|log| log.debug) {
        line("debug", &message.to_string());
    }
}

/// Receives the messages of the library.
pub fn library() -> Warn {
    let debug = LOG.get().is_some_and(|log| log.debug);
    Warn::by(debug, |level, text| {
        let level = match level {
            Level::Warning => "warning",
            Level::Note => "info",
            _ => "debug",
        };
        line(level, text);
    })
}

fn line(level: &str, message: &str) {
    let Some(log) = LOG.get() else { return };
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = garth::container::rfc3339(time);
    // As logrus writes it.
    let text = format!(
        "time=\"{time}\" level={level} msg={message:?} runtime={RUNTIME} id={:?}\n",
        log.id
    );
    let _ = (&log.file).write_all(text.as_bytes());
}
