//! The journal of systemd-journald as the log of a service: the streams that the service writes to,
//! and the lines that are read back, by journalctl(1).
//!
//! The service is connected to journald itself, as a unit of systemd is: there is no process between
//! them. Both streams have the service's name as identifier; their priorities tell them apart.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Line, Stream};
use crate::error::{Error, Result};
use crate::journal::{read_json, write_json};
use crate::sys::process::{self, PollFlags};
use crate::sys::{file, program};

/// Where journald takes standard output and standard error.
const SOCKET: &str = "/run/systemd/journal/stdout";
/// In the directory of a log: what of the journal belongs to it.
const FILE: &str = "journal.json";

/// The priorities (syslog(3)) of the two streams, as docker and podman have them: info and err.
const PRIORITIES: [u8; 2] = [6, 3];

/// Whether there is a journald, and a journalctl to read what it keeps.
///
/// # Errors
/// It cannot be determined.
pub fn is_there() -> Result<bool> {
    match UnixStream::connect(SOCKET) {
        Ok(_) => Ok(program::is_there(Path::new("journalctl"))),
        // Without a listener, what is left of one that has ended.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Ok(false)
        }
        Err(e) => Err(Error::io(format!("connect to {SOCKET}"), &e)),
    }
}

/// New streams for the standard output and the standard error of `identifier`.
///
/// # Errors
/// There is no journald.
pub fn streams(identifier: &str) -> Result<[OwnedFd; 2]> {
    let open = |priority: u8| -> std::io::Result<OwnedFd> {
        let mut stream = UnixStream::connect(SOCKET)?;
        // The unit, which journald finds by itself, is empty. A line that begins with "<3>" is left
        // as it is, and nothing is copied to syslog, the kernel's log or the console.
        stream.write_all(format!("{identifier}\n\n{priority}\n0\n0\n0\n0\n").as_bytes())?;
        Ok(stream.into())
    };
    let failed = |e| Error::io(format!("connect to {SOCKET}"), &e);
    let [out, err] = PRIORITIES;
    Ok([open(out).map_err(failed)?, open(err).map_err(failed)?])
}

/// Whether journald still reads this stream. One that was restarted does: systemd keeps its streams.
pub fn is_read(stream: &OwnedFd) -> bool {
    let polled = process::ready([Some((stream.as_fd(), PollFlags::empty()))], Some(Duration::ZERO));
    polled.is_ok_and(|[came]| !came.intersects(PollFlags::HUP | PollFlags::ERR))
}

/// What of the journal belongs to a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journaled {
    /// SYSLOG_IDENTIFIER.
    pub identifier: String,
    /// What is older is of an earlier service of this name.
    pub since: Duration,
}

impl Journaled {
    /// That of the log in `dir`; `None`: it is in files alone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(dir: &Path) -> Result<Option<Journaled>> {
        read_json(&dir.join(FILE))
    }

    /// From now on it belongs to the log in `dir`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(FILE), self)
    }

    /// journalctl with what has this identifier, in the journal's export format.
    fn query(&self) -> Command {
        let mut command = journalctl();
        command.args(["--quiet", "--no-pager", "--output=export"]);
        command.arg("--output-fields=MESSAGE,PRIORITY,_LINE_BREAK,_STREAM_ID");
        command.arg(format!("SYSLOG_IDENTIFIER={}", self.identifier));
        command.arg("_TRANSPORT=stdout");
        command
    }
}

/// Reads a log from the journal.
#[derive(Debug)]
pub struct JournalReader {
    what: Journaled,
    entries: Entries,
    /// journalctl, after the first reading, and what it writes.
    follower: Option<Follower>,
}

#[derive(Debug)]
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl JournalReader {
    /// Reads this from its beginning.
    pub fn new(what: Journaled) -> JournalReader {
        JournalReader { what, entries: Entries::default(), follower: None }
    }

    /// Calls `each` with the lines that have come since the last time. The first time, `least` of
    /// them are enough, the last ones. With `last`, they are all that have been written until now.
    ///
    /// # Errors
    /// journalctl fails.
    pub fn read(
        &mut self,
        least: Option<usize>,
        last: bool,
        each: &mut dyn FnMut(Line),
    ) -> Result<()> {
        let is_first = self.follower.is_none();
        if let Some(Follower(child)) = &mut self.follower {
            let ended = drain(child, &mut self.entries, self.what.since, each)?;
            if ended || last {
                // What is incomplete is read again.
                self.follower = None;
                self.entries.rest.clear();
            }
        }
        if is_first || last {
            // It returns once journald has stored what it was sent before.
            let _ = output(journalctl().arg("--sync"));
            match least.filter(|_| is_first && self.entries.cursor.is_none()) {
                Some(least) => self.tail(least, each)?,
                None => self.rest(each)?,
            }
        }
        match last {
            true => self.entries.finish(each),
            false if self.follower.is_none() => {
                let mut command = self.query();
                command.args(["--follow", "--no-tail"]).stdout(Stdio::piped());
                let child = command.spawn().map_err(|e| Error::io("start journalctl", &e))?;
                let pipe = child.stdout.as_ref().map_or(Ok(()), |out| {
                    file::set_nonblocking(out.as_fd())
                        .map_err(|errno| Error::os("read from journalctl", errno))
                });
                self.follower = Some(Follower(child));
                pipe?;
            }
            false => {}
        }
        Ok(())
    }

    fn rest(&mut self, each: &mut dyn FnMut(Line)) -> Result<()> {
        let text = output(&mut self.query())?;
        self.entries.feed(&text, self.what.since, each);
        Ok(())
    }

    /// A line may have several entries, so more of them are read than lines are wanted.
    fn tail(&mut self, least: usize, each: &mut dyn FnMut(Line)) -> Result<()> {
        let mut count = least.saturating_add(64);
        loop {
            // With --since, these would be the first lines after that.
            let text = output(self.what.query().arg(format!("--lines={count}")))?;
            let (mut entries, mut lines) = (Entries::default(), Vec::new());
            entries.feed(&text, self.what.since, &mut |line| lines.push(line));
            // The first lines may have begun before the first entry.
            let enough = lines.len() > least.saturating_add(2);
            if enough || entries.has_older || entries.count < count {
                self.entries = entries;
                lines.into_iter().for_each(each);
                return Ok(());
            }
            count = count.saturating_mul(4);
        }
    }

    /// journalctl with what has not been read yet.
    fn query(&self) -> Command {
        let mut command = self.what.query();
        match &self.entries.cursor {
            Some(cursor) => command.arg(format!("--after-cursor={cursor}")),
            None => command.arg(format!("--since=@{}", self.what.since.as_secs())),
        };
        command
    }
}

fn journalctl() -> Command {
    let mut command = program::new("journalctl");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::piped()).output();
    let output = output.map_err(|e| Error::io("read the journal: start journalctl", &e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("read the journal: journalctl: {}", words.trim())))
}

/// Reads what is there. Returns whether the end was reached.
fn drain(
    child: &mut Child,
    entries: &mut Entries,
    since: Duration,
    each: &mut dyn FnMut(Line),
) -> Result<bool> {
    let Some(out) = &mut child.stdout else { return Ok(true) };
    let mut piece = vec![0; 1 << 16];
    loop {
        match out.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(count) => entries.feed(&piece[..count], since, each),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(Error::io("read from journalctl", &e)),
        }
    }
}

/// Puts entries in the export format together to lines.
#[derive(Debug, Default)]
struct Entries {
    /// Of a field that is not whole yet.
    rest: Vec<u8>,
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the last whole entry is.
    cursor: Option<String>,
    count: usize,
    /// There was one from before the log's beginning.
    has_older: bool,
    /// Lines that go on in the next entry of their stream, by its id.
    parts: BTreeMap<Vec<u8>, Line>,
}

impl Entries {
    fn feed(&mut self, bytes: &[u8], since: Duration, each: &mut dyn FnMut(Line)) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut from = 0;
        while let Some((name, value, size)) = field(&rest[from..]) {
            from += size;
            match name {
                [] => self.entry(since, each),
                name => drop(self.fields.insert(name.to_vec(), value.to_vec())),
            }
        }
        self.rest = rest[from..].to_vec();
    }

    /// An entry is whole.
    fn entry(&mut self, since: Duration, each: &mut dyn FnMut(Line)) {
        let mut fields = std::mem::take(&mut self.fields);
        let mut take = |name: &str| fields.remove(name.as_bytes()).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let cursor = text(take("__CURSOR"));
        if cursor.is_empty() {
            return;
        }
        self.cursor = Some(cursor);
        self.count += 1;
        let at = Duration::from_micros(text(take("__REALTIME_TIMESTAMP")).parse().unwrap_or(0));
        if at < since {
            self.has_older = true;
            return;
        }
        let stream = match take("PRIORITY") == b"3" {
            true => Stream::Err,
            false => Stream::Out,
        };
        let id = take("_STREAM_ID");
        let new = || Line { time: rfc3339(at), at, stream, text: Vec::new() };
        let mut line = self.parts.remove(&id).unwrap_or_else(new);
        line.text.extend(take("MESSAGE"));
        match &take("_LINE_BREAK")[..] {
            // Too long; or its rest was written by another process.
            b"line-max" | b"pid-change" => drop(self.parts.insert(id, line)),
            b"nul" => {
                line.text.push(0);
                self.parts.insert(id, line);
            }
            _ => each(line),
        }
    }

    /// There is no more.
    fn finish(&mut self, each: &mut dyn FnMut(Line)) {
        std::mem::take(&mut self.parts).into_values().for_each(each);
    }
}

pub(super) fn rfc3339(at: Duration) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + at).to_string()
}

/// The first field: name, value, and how many bytes it takes; an empty name: the end of an entry.
/// `None`: it is not whole. The format is that of systemd's "Journal Export Formats": `NAME=TEXT`
/// and the end of the line, or for any bytes `NAME`, the end of the line, their number in 64 bits,
/// the lowest first, the bytes, and the end of the line.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    if line.is_empty() {
        return Some((line, line, 1));
    }
    if let Some(at) = line.iter().position(|byte| *byte == b'=') {
        return Some((&line[..at], &line[at + 1..], end + 1));
    }
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let size = usize::try_from(u64::from_le_bytes(*size)).ok()?;
    let value = rest.get(..size)?;
    rest.get(size)?;
    Some((line, value, end + 1 + 8 + size + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(nth: u32, stream: &str, fields: &[&[u8]]) -> Vec<u8> {
        let mut text = format!(
            "__CURSOR=s=1;i={nth}\n__REALTIME_TIMESTAMP={}\n_STREAM_ID={stream}\nPRIORITY=6\n",
            1_000_000 * nth
        )
        .into_bytes();
        for field in fields {
            text.extend_from_slice(field);
            text.push(b'\n');
        }
        text.push(b'\n');
        text
    }

    #[test]
    fn lines_are_put_together_however_the_journal_has_cut_them() {
        let log = [
            entry(1, "a", &[b"MESSAGE=before"]),
            entry(2, "a", &[b"MESSAGE=x=", b"_LINE_BREAK=line-max"]),
            entry(3, "b", &[b"MESSAGE\n\x04\0\0\0\0\0\0\0\n\n\xff="]),
            entry(4, "a", &[b"MESSAGE=y", b"_LINE_BREAK=nul"]),
            entry(5, "a", &[b"MESSAGE=z", b"_LINE_BREAK=pid-change"]),
            entry(6, "a", &[b"MESSAGE=.", b"_LINE_BREAK=eof"]),
            entry(7, "b", &[b"MESSAGE=open", b"_LINE_BREAK=line-max"]),
        ]
        .concat();
        let wanted: [&[u8]; 3] = [b"\n\n\xff=", b"x=y\0z.", b"open"];
        for size in [1, 7, log.len()] {
            let (mut entries, mut lines) = (Entries::default(), Vec::new());
            for piece in log.chunks(size) {
                let since = Duration::from_secs(2);
                entries.feed(piece, since, &mut |line| lines.push(line));
            }
            assert_eq!((lines.len(), entries.count), (2, 7));
            entries.finish(&mut |line| lines.push(line));
            let texts: Vec<&[u8]> = lines.iter().map(|line| &line.text[..]).collect();
            assert_eq!(texts, wanted);
            // A line came when its first part did.
            assert_eq!(lines[1].time, "1970-01-01T00:00:02.000000000Z");
            assert_eq!(entries.cursor.as_deref(), Some("s=1;i=7"));
        }
    }

    #[test]
    fn what_is_cut_off_is_no_entry() {
        let whole = entry(1, "a", &[b"MESSAGE\n\x02\0\0\0\0\0\0\0xy"]);
        for size in 0..whole.len() {
            let mut entries = Entries::default();
            entries.feed(&whole[..size], Duration::ZERO, &mut |line| panic!("{size}: {line:?}"));
            assert_eq!(entries.cursor, None);
        }
    }
}
