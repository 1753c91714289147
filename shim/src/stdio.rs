//! Where a program's input comes from, and where its output goes.
//!
//! An engine names pipes in the file system (fifo(7)) and holds their other ends. A program without a terminal writes to
//! them directly: nothing is copied, a slow reader slows down the program alone, and what is written is read even when
//! the shim is gone. The shim holds an end that reads as well, so that nothing is lost, and no program killed, while
//! the engine is restarted.
//!
//! Input is copied: it must not end before the engine has opened its pipe, and it ends when the engine has closed it and
//! said so (CloseIO), in either order, and perhaps before the program was started. A terminal is copied, and so are
//! files, which a program must not be able to truncate.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use garth::sys::file::{copy_from, set_nonblocking};
use garth::{Error, FileAction, Result, Spawn, Terminal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::message::locked;
use crate::watched::watched;

/// How long a reader may take for what is in a pipe before the end of its program is reported.
const IDLE_READER: Duration = Duration::from_millis(100);
const SLOW_READER: Duration = Duration::from_secs(1);
/// How long a logger may take to get ready.
const LOGGER: Duration = Duration::from_secs(10);
/// What is copied at once.
const CHUNK: usize = 16 << 10;

/// What an engine names.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// A fifo, or nothing.
    pub stdin: String,
    /// A fifo, `file://`, `binary://`, or nothing.
    pub stdout: String,
    /// The same; unused with a terminal.
    pub stderr: String,
    /// Whether the program has a terminal.
    pub terminal: bool,
}

/// Whose output it is.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// containerd's namespace.
    pub namespace: &'a str,
    /// The container.
    pub id: &'a str,
    /// Who may open the pipes anew, as /dev/stdout: a user and a group of the host; 0, 0: its user, if that is not mapped.
    pub owner: (u32, u32),
}

/// The shim's ends while a program lives. Dropped, they are closed.
#[derive(Debug, Default)]
pub struct Ends {
    /// Keeps the input from ending.
    input: Mutex<Option<OwnedFd>>,
    typing: Option<JoinHandle<()>>,
    /// Keep what is in the pipes until it is read.
    outputs: Vec<OwnedFd>,
    copies: Mutex<Vec<JoinHandle<()>>>,
    master: Mutex<Option<Arc<AsyncFd<Terminal>>>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(typing) = &self.typing {
            typing.abort();
        }
    }
}

/// What is opened before a program starts.
#[derive(Debug)]
pub struct Opened {
    /// Its standard files, unless it has a terminal.
    pub files: Option<[OwnedFd; 3]>,
    /// Where its input comes from, and where it is copied to, unless that is its terminal.
    typed: Option<(OwnedFd, Option<OwnedFd>)>,
    /// Where copies go: from a pipe of ours, or from the terminal.
    copied: Vec<(Option<OwnedFd>, Sink)>,
    ends: Ends,
}

/// Where a copy goes.
#[derive(Debug)]
enum Sink {
    /// To a pipe: its reader may be slow.
    Pipe(OwnedFd),
    File(File),
}

/// Where output goes.
pub enum Place {
    /// /dev/null.
    Nowhere,
    /// A pipe with a name.
    Fifo(PathBuf),
    /// Any other file.
    File(PathBuf),
    /// A program with its arguments, as a URI without its scheme.
    Logger(String),
}

impl Place {
    /// Understands a name.
    ///
    /// # Errors
    /// An unknown scheme, or a path that is not there.
    pub fn of(name: &str) -> Result<Place> {
        if name.is_empty() {
            return Ok(Place::Nowhere);
        }
        match name.split_once("://") {
            None => {
                let path = PathBuf::from(name);
                let kind = std::fs::metadata(&path)
                    .map_err(|error| Error::io(format!("stat {name}"), &error))?
                    .file_type();
                Ok(if kind.is_fifo() { Place::Fifo(path) } else { Place::File(path) })
            }
            Some(("fifo", path)) => Ok(Place::Fifo(decoded(path).into())),
            Some(("file", path)) => Ok(Place::File(decoded(path).into())),
            Some(("binary", rest)) => Ok(Place::Logger(rest.to_owned())),
            Some((scheme, _)) => Err(Error::new(format!("{name}: {scheme:?} is no known scheme"))
                .hint("known are fifo, file and binary")),
        }
    }
}

impl Stdio {
    /// Opens all.
    ///
    /// # Errors
    /// Something is not there or may not be opened.
    pub fn open(&self, whose: Whose<'_>, input_is_closed: bool) -> Result<Opened> {
        let mut opened =
            Opened { files: None, typed: None, copied: Vec::new(), ends: Ends::default() };
        let at = |name: &'static str| move |error: Error| error.within(name);
        let input = opened.input(&self.stdin, input_is_closed).map_err(at("stdin"))?;
        if self.terminal {
            opened.typed = input.map(|input| (input, None));
            let sink = opened.sink(&self.stdout, whose).map_err(at("stdout"))?;
            opened.copied.push((None, sink));
            return Ok(opened);
        }
        let input = match input {
            Some(input) => {
                let (theirs, ours) = pipe()?;
                opened.typed = Some((input, Some(ours)));
                theirs
            }
            None => null(OFlags::RDONLY)?,
        };
        let [stdout, stderr] = match Place::of(&self.stdout).map_err(at("stdout"))? {
            // One logger reads both.
            Place::Logger(uri) => logger(&uri, whose).map_err(at("stdout"))?.into(),
            stdout => {
                let stderr = Place::of(&self.stderr).map_err(at("stderr"))?;
                [
                    opened.output(stdout).map_err(at("stdout"))?,
                    opened.output(stderr).map_err(at("stderr"))?,
                ]
            }
        };
        let files = [input, stdout, stderr];
        if whose.owner != (0, 0) {
            let (uid, gid) = (
                rustix::fs::Uid::from_raw(whose.owner.0),
                rustix::fs::Gid::from_raw(whose.owner.1),
            );
            for pipe in files.iter().filter(|file| is_pipe(file)) {
                rustix::fs::fchown(pipe, Some(uid), Some(gid)).map_err(|errno| {
                    Error::io("change the owner of a pipe (IoUid)", &errno.into())
                })?;
            }
        }
        opened.files = Some(files);
        Ok(opened)
    }
}

impl Opened {
    /// The reading end of the input, while the shim keeps a writing one until the engine says that the input is closed.
    /// Without that, a reader is told of the end only after a writer has come and gone (`pipe_poll()` in fs/pipe.c).
    fn input(&mut self, name: &str, is_closed: bool) -> Result<Option<OwnedFd>> {
        let path = match Place::of(name)? {
            Place::Nowhere => return Ok(None),
            Place::Fifo(path) => path,
            Place::File(_) | Place::Logger(_) => return Err(no_fifo(name)),
        };
        let input = open_fifo(&path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        if !is_closed {
            let end = open_fifo(&path, OFlags::WRONLY | OFlags::NONBLOCK)?;
            self.ends.input = Mutex::new(Some(end));
        }
        Ok(Some(input))
    }

    /// The writing end of a fifo, while the shim keeps a reading one.
    fn fifo(&mut self, path: &Path) -> Result<OwnedFd> {
        self.ends.outputs.push(open_fifo(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        open_fifo(path, OFlags::WRONLY)
    }

    /// Where the output of a terminal is copied to.
    fn sink(&mut self, name: &str, whose: Whose<'_>) -> Result<Sink> {
        Ok(match Place::of(name)? {
            Place::Nowhere => Sink::File(null(OFlags::WRONLY)?.into()),
            Place::Fifo(path) => Sink::Pipe(self.fifo(&path)?),
            Place::File(path) => Sink::File(append(&path)?),
            Place::Logger(uri) => Sink::Pipe(logger(&uri, whose)?.0),
        })
    }

    fn output(&mut self, place: Place) -> Result<OwnedFd> {
        match place {
            Place::Nowhere => null(OFlags::WRONLY),
            Place::Fifo(path) => self.fifo(&path),
            Place::File(path) => {
                let (ours, theirs) = pipe()?;
                self.copied.push((Some(ours), Sink::File(append(&path)?)));
                Ok(theirs)
            }
            Place::Logger(_) => Err(Error::new("a logger, and stdout has none")),
        }
    }

    /// Once the program has started: its own ends are closed here, and what is copied begins to be.
    ///
    /// # Errors
    /// The kernel cannot watch a descriptor.
    pub fn begin(self, terminal: Option<Terminal>) -> Result<Ends> {
        let Opened { files, typed, copied, mut ends } = self;
        drop(files);
        let failed = |error: std::io::Error| Error::io("watch a program's output", &error);
        let copies = ends.copies.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let master = match terminal {
            Some(terminal) => {
                unblocked(terminal.as_fd())?;
                Some(Arc::new(
                    watched(terminal, Interest::READABLE | Interest::WRITABLE).map_err(failed)?,
                ))
            }
            None => None,
        };
        for (from, sink) in copied {
            match (from, &master) {
                (Some(from), _) => {
                    unblocked(from.as_fd())?;
                    let from = Arc::new(watched(from, Interest::READABLE).map_err(failed)?);
                    copies.push(tokio::spawn(copy(from, sink)));
                }
                (None, Some(master)) => copies.push(tokio::spawn(copy(master.clone(), sink))),
                (None, None) => {}
            }
        }
        if let Some((typed, to)) = typed {
            let typed = watched(typed, Interest::READABLE).map_err(failed)?;
            ends.typing = match (to, &master) {
                (Some(pipe), _) => Some(tokio::spawn(copy(Arc::new(typed), Sink::Pipe(pipe)))),
                (None, Some(master)) => Some(tokio::spawn(type_in(typed, Arc::downgrade(master)))),
                (None, None) => None,
            };
        }
        ends.master = Mutex::new(master);
        Ok(ends)
    }
}

impl Ends {
    /// The input ends once the engine has closed its own end.
    pub fn close_input(&self) {
        drop(locked(&self.input).take());
    }

    /// The size of its terminal.
    ///
    /// # Errors
    /// It has none, or that is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let master = locked(&self.master);
        match &*master {
            Some(master) => master.get_ref().resize(columns, rows),
            None => Err(Error::new("the process has no terminal").kind(garth::Kind::WrongState)),
        }
    }

    /// After a program's end: until what it wrote is read, as long as someone reads. A client that was about to open
    /// the pipe when it heard of the end would find nobody at the other side, and never read what is in it.
    pub async fn settle(&self) {
        let copies = std::mem::take(&mut *locked(&self.copies));
        let end = Instant::now() + SLOW_READER;
        for copy in copies {
            // Processes that it left behind may hold the pipe.
            let _ = tokio::time::timeout(IDLE_READER, copy).await;
        }
        let unread = || {
            self.outputs
                .iter()
                .map(|pipe| rustix::io::ioctl_fionread(pipe).unwrap_or(0))
                .sum::<u64>()
        };
        let (mut left, mut since) = (unread(), Instant::now());
        while left > 0 && since.elapsed() < IDLE_READER && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = unread();
            if now != left {
                (left, since) = (now, Instant::now());
            }
        }
    }
}

/// From a descriptor that does not block, until it ends.
async fn copy<T: AsFd + AsRawFd + Send + Sync + 'static>(from: Arc<AsyncFd<T>>, sink: Sink) {
    let mut buffer = vec![0; CHUNK];
    let sink = match sink {
        Sink::File(file) => Ok(file),
        Sink::Pipe(pipe) => {
            match unblocked(pipe.as_fd()).map(|()| watched(pipe, Interest::WRITABLE)) {
                Ok(Ok(pipe)) => Err(pipe),
                _ => return,
            }
        }
    };
    loop {
        // A terminal that no process has open any more is EIO.
        let Ok(count @ 1..) = read(&from, &mut buffer).await else { return };
        let bytes = &buffer[..count];
        let written = match &sink {
            Ok(file) => (&*file).write_all(bytes).map_err(|_| Errno::IO),
            Err(pipe) => write_all(pipe, bytes).await,
        };
        if let Err(error) = written {
            crate::log::debug(format_args!("copy: {error}"));
            return;
        }
    }
}

/// What is typed, to a terminal, until one of them ends.
async fn type_in(from: AsyncFd<OwnedFd>, to: std::sync::Weak<AsyncFd<Terminal>>) {
    let from = Arc::new(from);
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = read(&from, &mut buffer).await {
        let Some(master) = to.upgrade() else { return };
        if write_all(&master, &buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn read<T: AsFd + AsRawFd>(from: &AsyncFd<T>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let mut ready = from.readable().await.map_err(|_| Errno::IO)?;
        let done = ready.try_io(|from| Ok(rustix::io::read(from.get_ref(), &mut *buffer)?));
        match done {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(result) => {
                return result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
            Err(_) => {}
        }
    }
}

async fn write_all<T: AsFd + AsRawFd>(to: &AsyncFd<T>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut ready = to.writable().await.map_err(|_| Errno::IO)?;
        match ready.try_io(|to| Ok(rustix::io::write(to.get_ref(), bytes)?)) {
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            Err(_) => {}
        }
    }
    Ok(())
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let failed = |errno: Errno| Error::io(format!("open {}", path.display()), &errno.into());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty()).map_err(failed)
}

/// A pipe with a name and nothing else: any other file could be truncated by the program, and not be watched.
fn open_fifo(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let pipe = open(path, flags)?;
    if is_pipe(&pipe) { Ok(pipe) } else { Err(no_fifo(path.display())) }
}

fn is_pipe(file: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo())
}

fn no_fifo(name: impl std::fmt::Display) -> Error {
    Error::new(format!("{name}: not a fifo"))
}

fn null(flags: OFlags) -> Result<OwnedFd> {
    open(Path::new("/dev/null"), flags)
}

fn append(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| Error::io(format!("make {}", directory.display()), &error))?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    file.map_err(|error| Error::io(format!("open {}", path.display()), &error))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::io("make a pipe", &errno.into()))
}

fn unblocked(fd: BorrowedFd<'_>) -> Result<()> {
    set_nonblocking(fd).map_err(|errno| Error::os("make a descriptor non-blocking", errno))
}

/// Starts a logger (containerd's `binary://`): it reads stdout at descriptor 3 and stderr at 4, and closes 5 when it is ready.
fn logger(uri: &str, whose: Whose<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let words = pairs.flat_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        [decoded(name), decoded(value)]
    });
    let path = decoded(path);
    let [stdout, stderr, ready] = [pipe()?, pipe()?, pipe()?];
    let ends = [(&stdout.0, 3), (&stderr.0, 4), (&ready.1, 5)];
    // A copy must not overwrite a descriptor that is yet to be copied.
    let far = ends.map(|(end, to)| copy_from(end.as_fd(), 10).map(|copy| (copy, to)));
    let far = far.into_iter().collect::<std::result::Result<Vec<_>, _>>();
    let far = far.map_err(|errno| Error::os("copy a descriptor", errno))?;
    let variables = [("CONTAINER_ID", whose.id), ("CONTAINER_NAMESPACE", whose.namespace)];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let spawn = Spawn {
        env: Some(std::env::vars_os().chain(variables).collect()),
        stdin: garth::Stdio::Null,
        stdout: garth::Stdio::Null,
        stderr: garth::Stdio::Null,
        files: far
            .iter()
            .map(|(from, to)| FileAction::Copy { from: from.as_raw_fd(), to: *to })
            .collect(),
        ..Spawn::new(std::iter::once(path.clone()).chain(words))
    };
    let spawned = spawn.spawn().map_err(|error| error.within("start the logger"))?;
    drop((far, ready.1));
    let mut watched = [PollFd::new(&ready.0, PollFlags::IN)];
    let patience = rustix::time::Timespec { tv_sec: LOGGER.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut watched, Some(&patience)) {
        Ok(1) => Ok((stdout.1, stderr.1)),
        _ => {
            spawned.process.kill();
            Err(Error::new(format!("logger {path}: not ready after {} s", LOGGER.as_secs()))
                .hint("it must write to descriptor 5, or close it"))
        }
    }
}

/// %41 is A.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        let digits = || {
            let pair = rest.as_slice().get(..2)?;
            u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
        };
        match (*byte, (*byte == b'%').then(digits).flatten()) {
            (_, Some(decoded)) => {
                bytes.push(decoded);
                rest.nth(1);
            }
            (byte, None) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        assert_eq!(decoded("/a%20b/%41%zz%4"), "/a b/A%zz%4");
    }
}
