//! The output of what a keeper looks after: where the command writes it, where the keeper reads it,
//! and where that goes.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Entry;
use crate::resource::log::journald::{self, Journaled};
use crate::service::register::{Registered, ServiceRecord};
use crate::service::rules::LogPlace;
use crate::start::Child;
use crate::sys::{file, raw};

/// Runs `work` with these as standard output and standard error; /dev/null afterwards.
pub fn with_outputs<T>(
    outputs: Vec<(RawFd, OwnedFd)>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::io("open /dev/null", &e))?;
    let over = |file: RawFd, fd| {
        let put = raw::dup2(file, fd);
        put.map_err(|errno| Error::os(format!("replace descriptor {fd}"), errno))
    };
    for (fd, file) in &outputs {
        over(file.as_raw_fd(), *fd)?;
    }
    let done = work();
    for (fd, _) in &outputs {
        over(null.as_raw_fd(), *fd)?;
    }
    done
}

/// A socket in the entry of a detached sandbox with a terminal: the keeper lends the terminal there.
/// Only its owner may connect to it, as only he may enter the directory.
pub const ATTACH: &str = "attach";

/// What the keeper reads, and where it writes that.
#[derive(Default)]
pub struct Outputs {
    /// Of standard output and error; only one, of a terminal.
    pub readers: Vec<OwnedFd>,
    /// The command's side of its terminal: the master can be read even if the command has closed it.
    pub peer: Option<OwnedFd>,
    /// Where other terminals are attached to it.
    pub listening: Option<OwnedFd>,
    pub log: Option<Log>,
    /// What the command writes to the host's journal is not read.
    pub streams: Option<Streams>,
}

impl Outputs {
    pub fn take_terminal(&mut self, child: &mut Child) -> Result<()> {
        if let Some(terminal) = child.take_terminal() {
            self.peer = Some(terminal.peer()?);
            if let Some(entry) = child.entry() {
                let path = format!("/proc/self/fd/{}/{ATTACH}", entry.as_raw_fd());
                let listening = UnixListener::bind(path);
                let failed = |e| Error::io(format!("listen on the socket {ATTACH}"), &e);
                self.listening = Some(listening.map_err(failed)?.into());
            }
            self.readers = vec![terminal.into()];
        }
        Ok(())
    }
}

/// The pipes for the output of a service: with names, so that another keeper can read them; and with
/// a reader, the service itself, as long as it runs, so that it is not ended by SIGPIPE should its
/// keeper be killed.
#[derive(Default)]
pub struct Pipes {
    pub readers: Vec<OwnedFd>,
    pub writers: Vec<(RawFd, OwnedFd)>,
}

impl Pipes {
    /// Without names, for a sandbox that is not taken up if its keeper is killed.
    pub fn new() -> Result<Pipes> {
        let mut pipes = Pipes::default();
        for fd in [1, 2] {
            let (reader, writer) = std::io::pipe().map_err(|e| Error::io("create a pipe", &e))?;
            // The command may open /dev/stdout as any user; nothing outside can reach this pipe.
            let writer = File::from(OwnedFd::from(writer));
            let open = writer.set_permissions(Permissions::from_mode(0o622));
            open.map_err(|e| Error::io("open a pipe to the command", &e))?;
            pipes.readers.push(reader.into());
            pipes.writers.push((fd, writer.into()));
        }
        Ok(pipes)
    }

    /// Without a reader here.
    pub fn to(streams: &Streams) -> Result<Pipes> {
        let mut pipes = Pipes::default();
        for (fd, stream) in [1, 2].into_iter().zip(streams) {
            let copy = stream.try_clone();
            pipes.writers.push((fd, copy.map_err(|e| Error::io("copy a descriptor", &e))?));
        }
        Ok(pipes)
    }

    pub fn open(service: &Registered) -> Result<Pipes> {
        let mut pipes = Pipes::default();
        for (fd, name) in [(1, "stdout"), (2, "stderr")] {
            let path = service.path(name);
            let opened = file::named_pipe(&path, 0o622);
            let (reader, writer) =
                opened.map_err(|errno| Error::os(format!("open {}", path.display()), errno))?;
            pipes.readers.push(reader);
            pipes.writers.push((fd, writer));
        }
        Ok(pipes)
    }
}

/// The streams to the host's journal.
pub type Streams = [OwnedFd; 2];

/// Those of a service, if its output goes there: these ones, if it has had them before and journald
/// still reads them. So what it writes now does not overtake what it wrote before.
pub fn streams(
    service: &Registered,
    record: &ServiceRecord,
    before: Option<Streams>,
) -> Result<Option<Streams>> {
    let place = record.rules().log;
    check_log(place, &record.asked.sandbox)?;
    let wanted = match place {
        LogPlace::Journal => true,
        LogPlace::Files => false,
        LogPlace::Auto => {
            !record.asked.sandbox.terminal && facts::privileged() && journald::is_there()?
        }
    };
    if !wanted {
        return Ok(None);
    }
    if let Some(before) = before
        && before.iter().all(journald::is_read)
    {
        return Ok(Some(before));
    }
    let streams = journald::streams(service.name())?;
    if Journaled::of(&service.dir())?.is_none() {
        let what = Journaled { identifier: service.name().to_owned(), since: record.created };
        what.write(&service.dir())?;
    }
    Ok(Some(streams))
}

/// Whether the output of such a sandbox can go there.
///
/// # Errors
/// It cannot.
pub fn check_log(place: LogPlace, sandbox: &Sandbox) -> Result<()> {
    let why = match place {
        LogPlace::Auto | LogPlace::Files => return Ok(()),
        LogPlace::Journal if sandbox.terminal => "what is written to a terminal is read from there",
        LogPlace::Journal if !facts::privileged() => {
            "users cannot always read there what they have written"
        }
        LogPlace::Journal if !journald::is_there()? => {
            "there is no systemd-journald, or no journalctl"
        }
        LogPlace::Journal => return Ok(()),
    };
    Err(Error::new(format!("the journal cannot be its log: {why}"))
        .hint("without the key log, it is kept in files here"))
}

/// Where the output goes.
pub struct Log {
    /// The directory; or, with a count of 0, a file that gets everything as it is.
    pub dir: OwnedFd,
    pub size: u64,
    pub count: u32,
}

impl Log {
    pub fn new(to: BorrowedFd<'_>, size: u64, count: u32) -> Result<Log> {
        let dir = to.try_clone_to_owned();
        Ok(Log { dir: dir.map_err(|e| Error::io("copy a descriptor", &e))?, size, count })
    }

    pub fn of(entry: &Entry, record: &ServiceRecord) -> Result<Log> {
        let rules = record.rules();
        Log::new(entry.as_lock().as_fd(), rules.log_size.0, rules.log_count)
    }
}
