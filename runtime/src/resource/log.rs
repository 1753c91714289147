//! The log of a detached sandbox or a service: the files that its keeper writes
//! (`sys/keeper/main.rs`), in the format of Kubernetes' container logs: `TIME STREAM TAG TEXT`. A
//! line that came in parts has the tag P in all but the last of them.
//!
//! The current file is `log`; `log.1` is the one before it, and so on. A service's log may be in the
//! journal of the host instead (`log/journald.rs`), or in both if that has changed between two starts.

pub mod journald;

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::config::Span;
use crate::error::{Error, Result};
use crate::facts;

/// The name of the current file.
pub const LOG: &str = "log";
/// The most files a log may have.
pub const MOST: u32 = 99;

/// One of the two outputs of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read, or the first part of it, as the file has it (RFC 3339).
    pub time: String,
    /// The same since 1970.
    pub at: Duration,
    /// Where it was written to.
    pub stream: Stream,
    /// The text, without the end of the line.
    pub text: Vec<u8>,
}

/// Puts the entries of a log together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// Of an entry that is not whole yet.
    rest: Vec<u8>,
    /// Of lines that go on, of both streams.
    parts: [Option<Line>; 2],
}

impl Lines {
    /// Takes the next bytes of the log; calls `each` with every line that they complete.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Line)) {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(end) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let entry = &self.rest[from..from + end];
            from += end + 1;
            let Some((line, whole)) = parse(entry) else { continue };
            let part = &mut self.parts[line.stream as usize];
            match part {
                Some(part) => part.text.extend_from_slice(&line.text),
                None => *part = Some(line),
            }
            if whole && let Some(line) = part.take() {
                each(line);
            }
        }
        self.rest.drain(..from);
    }
}

/// An entry, and whether its line ends with it; `None` for what no keeper has written.
fn parse(entry: &[u8]) -> Option<(Line, bool)> {
    let mut words = entry.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(words.next()?).ok()?;
    let at = humantime::parse_rfc3339(time).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let stream = match words.next()? {
        b"stdout" => Stream::Out,
        b"stderr" => Stream::Err,
        _ => return None,
    };
    let whole = match words.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let text = words.next()?.to_vec();
    Some((Line { time: time.to_owned(), at, stream, text }, whole))
}

/// Adds a line of our own to the log in `dir`, beside its keeper.
///
/// # Errors
/// It cannot be written.
pub fn append(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join(LOG);
    let entry = format!("{} stderr F {text}\n", journald::rfc3339(facts::now()));
    let open = File::options().append(true).create(true).mode(0o600).open(&path);
    open.and_then(|mut file| file.write_all(entry.as_bytes()))
        .map_err(|error| Error::io(format!("write {}", path.display()), &error))
}

/// A time in a log: `2026-11-29T18:52:21Z`, or how long ago, in nanoseconds since 1970.
///
/// # Errors
/// It is neither.
pub fn since(text: &str) -> Result<Duration> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    }
    let ago: Span = text
        .parse()
        .map_err(|error: Error| error.hint("or a time: 2026-11-29T18:52:21Z (in UTC)"))?;
    Ok(facts::now().saturating_sub(ago.0))
}

/// A log that is read from its beginning, while it is being written.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    journal: Option<journald::JournalReader>,
}

impl Reader {
    /// The log of which the directory is `dir`.
    pub fn new(dir: &Path) -> Reader {
        let files = Files { dir: dir.to_owned(), current: None, lines: Lines::default() };
        Reader { files, journal: None }
    }

    /// Calls `each` with the lines that have come since the last time. The first time, `least` of
    /// them are enough, the last ones. With `last`, they are all that have been written until now.
    ///
    /// # Errors
    /// A file or the journal cannot be read.
    pub fn read(
        &mut self,
        least: Option<usize>,
        last: bool,
        each: &mut dyn FnMut(Line),
    ) -> Result<()> {
        self.files.read(each)?;
        if self.journal.is_none() {
            self.journal =
                journald::Journaled::of(&self.files.dir)?.map(journald::JournalReader::new);
        }
        match &mut self.journal {
            Some(journal) => journal.read(least, last, each),
            None => Ok(()),
        }
    }
}

/// The files of a log, which may be renamed meanwhile.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    /// The file that is being read, and its inode.
    current: Option<(File, u64)>,
    lines: Lines,
}

impl Files {
    /// Calls `each` with the lines that have come since the last time.
    fn read(&mut self, each: &mut dyn FnMut(Line)) -> Result<()> {
        loop {
            if let Some((file, _)) = &mut self.current {
                copy(file, &mut self.lines, each, &self.dir)?;
            }
            // It is full if it has another name now, or none; then there is a next one.
            let files = files(&self.dir)?;
            let inodes = files.iter().map(|(_, inode)| *inode);
            let next = match &self.current {
                None => files.into_iter().next(),
                Some((_, inode)) => match inodes.clone().position(|one| one == *inode) {
                    Some(at) => files.into_iter().nth(at + 1),
                    // Removed meanwhile: everything that is left is newer.
                    None => files.into_iter().next(),
                },
            };
            let Some(next) = next else { return Ok(()) };
            // What was written between the end of the file and its new name.
            if let Some((file, _)) = &mut self.current {
                copy(file, &mut self.lines, each, &self.dir)?;
            }
            self.current = Some(next);
        }
    }
}

fn copy(file: &mut File, lines: &mut Lines, each: &mut dyn FnMut(Line), dir: &Path) -> Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => lines.feed(&piece[..count], each),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(format!("read the log in {}", dir.display()), &e)),
        }
    }
}

/// The open files of a log with their inodes, the oldest first. Files are renamed upwards, the
/// highest first: one that is renamed meanwhile is found under its next name, and only one name at a
/// time is missing.
fn files(dir: &Path) -> Result<Vec<(File, u64)>> {
    let mut found: Vec<(File, u64)> = Vec::new();
    let mut missing = 0;
    for nth in 0..MOST {
        let path = dir.join(if nth == 0 { LOG.to_owned() } else { format!("{LOG}.{nth}") });
        match File::open(&path) {
            Ok(file) => {
                missing = 0;
                let failed = |e| Error::io(format!("stat {}", path.display()), &e);
                let inode = file.metadata().map_err(failed)?.ino();
                if found.iter().all(|(_, known)| *known != inode) {
                    found.push((file, inode));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound && missing < 2 => missing += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => break,
            Err(e) => return Err(Error::io(format!("open {}", path.display()), &e)),
        }
    }
    found.reverse();
    Ok(found)
}

/// The last lines of a log, as text.
///
/// # Errors
/// It cannot be read.
pub fn last(dir: &Path, count: usize) -> Result<Vec<String>> {
    if journald::Journaled::of(dir)?.is_none() {
        return Ok(last_in_files(dir, count, 4096));
    }
    let mut lines = Vec::new();
    Reader::new(dir).read(Some(count), true, &mut |line| lines.push(line))?;
    lines.sort_by_key(|line| line.at);
    let texts = lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned());
    Ok(texts.skip(lines.len().saturating_sub(count)).collect())
}

/// The last lines in the files of a log, as text, from at most the last `bytes` of each.
pub fn last_in_files(dir: &Path, count: usize, bytes: u64) -> Vec<String> {
    let mut lines = Lines::default();
    let mut texts = Vec::new();
    for (mut file, _) in files(dir).unwrap_or_default() {
        let length = file.metadata().map_or(0, |file| file.len());
        // A part of an entry is not taken for one: it does not begin with a time.
        if file.seek(SeekFrom::Start(length.saturating_sub(bytes))).is_err() {
            continue;
        }
        let _ = copy(
            &mut file,
            &mut lines,
            &mut |line| texts.push(String::from_utf8_lossy(&line.text).into_owned()),
            dir,
        );
    }
    texts.split_off(texts.len().saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    const TIME: &str = "2026-11-29T18:52:21.123456789Z";

    fn texts(pieces: &[&str]) -> Vec<(Stream, String)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.feed(piece.as_bytes(), &mut |line| {
                found.push((line.stream, String::from_utf8(line.text).unwrap()));
            });
        }
        found
    }

    #[test]
    fn parts_of_a_line_are_put_together_for_each_stream() {
        let log = format!(
            "{TIME} stdout P one \n{TIME} stderr F other\n{TIME} stdout P line\n{TIME} stdout F \n"
        );
        let wanted = [(Stream::Err, "other".to_owned()), (Stream::Out, "one line".to_owned())];
        assert_eq!(texts(&[&log]), wanted);
        // However the file is read.
        let single: Vec<String> = log.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(texts(&single), wanted);
    }

    #[test]
    fn what_is_no_entry_is_left_out() {
        let whole = format!("{TIME} stdout F x\n");
        for odd in ["\n", "x\n", "x stdout F y\n", "y stdout\n", " \n"] {
            assert_eq!(texts(&[odd, &whole]).len(), 1, "{odd:?}");
        }
        for odd in [" stdin F y\n", " stdout X y\n", " stdout F\n"] {
            assert_eq!(texts(&[&format!("{TIME}{odd}"), &whole]).len(), 1, "{odd:?}");
        }
    }

    #[test]
    fn nothing_is_missed_while_files_are_renamed() {
        let dir = std::env::temp_dir().join(format!("garth-log-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut reader = Reader::new(&dir);
        let (mut seen, mut written) = (Vec::new(), 0);
        let mut see = |reader: &mut Reader| {
            let mut each = |line: Line| seen.push(String::from_utf8(line.text).unwrap());
            reader.read(None, false, &mut each).unwrap();
            seen.len()
        };
        for (rotations, lines) in [(0, 3), (1, 2), (0, 1), (2, 1), (1, 0), (1, 5)] {
            for _ in 0..lines {
                let open = File::options().append(true).create(true).open(dir.join(LOG));
                writeln!(open.unwrap(), "{TIME} stdout F {written}").unwrap();
                written += 1;
                for _ in 0..rotations {
                    for nth in (0..9).rev() {
                        let name = |nth| match nth {
                            0 => LOG.to_owned(),
                            nth => format!("{LOG}.{nth}"),
                        };
                        let _ = fs::rename(dir.join(name(nth)), dir.join(name(nth + 1)));
                    }
                    File::create(dir.join(LOG)).unwrap();
                }
            }
            assert_eq!(see(&mut reader), written);
        }
        assert_eq!(last_in_files(&dir, 2, 4096), ["10", "11"]);
        assert_eq!(last(&dir, 2).unwrap(), ["10", "11"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
