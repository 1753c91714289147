//! Detached sandboxes.
//!
//! The keeper, a second start of this program in its own session, gets an order that says what to
//! start. It starts the sandbox, reports that, and becomes a program of a few kilobytes that waits
//! for the sandbox's end and keeps the last of its output. That program then becomes a second start
//! again, which releases the sandbox's resources and leaves a trace of it.

use std::ffi::{CString, OsString};
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::gc;
use crate::resource::record::SandboxRecord;
use crate::resource::trace::{OUTPUT, Trace};
use crate::start::again::{self, Again};
use crate::start::{self, Child, Group, Options, Process, Spawn, Stdio, random_id};
use crate::sys::{CStrings, Errno, file, init, process, raw};

/// The order for a keeper.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    sandbox: Sandbox,
    options: Options,
    /// Its standard output is the caller's file, so there is no output to keep.
    logged: bool,
}

/// A sandbox that runs independently of the process that started it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Background {
    /// Its name.
    pub name: String,
    /// The defaults it had to be started without, in words for the user.
    pub spared: Vec<String>,
}

impl Sandbox {
    /// Starts the sandbox detached: a separate process looks after it and releases its resources
    /// when it has ended. If `options` has no name, a random one is chosen. The command's output is
    /// appended to the file `log`; without one, the last of it is kept. [`super::wait`] returns how
    /// the sandbox ended.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`]; this program cannot be started a second time.
    pub fn detach(&self, options: &Options, log: Option<&Path>) -> Result<Background> {
        // Report mistakes before starting a second process.
        self.validate()?;
        if !again::is_possible() {
            return Err(Error::new(
                "the library is not linked into the program, which therefore cannot be started again to look after a sandbox",
            ));
        }
        let name = options.name.clone().unwrap_or_else(random_id);
        let output = match log {
            None => Stdio::Null,
            Some(path) => {
                let file = File::options().read(true).append(true).create(true).open(path);
                let failed = |e| Error::io(format!("--log {}", path.display()), &e);
                Stdio::File(file.map_err(failed)?.into())
            }
        };
        let options = Options { name: Some(name.clone()), merge_stderr: true, ..options.clone() };
        let sandbox = Sandbox { die_with_parent: false, ..self.clone() };
        let order = Order { sandbox, options, logged: log.is_some() };
        let keeper = Again {
            word: KEEP,
            listen_fds: self.listen_fds,
            protected: start::needs_protection(self)?,
            spawn: Spawn {
                stdin: Stdio::Null,
                stdout: output,
                group: Group::Session,
                ..Spawn::default()
            },
        };
        let keeper = keeper.order(&order)?;
        let (answer, _) = keeper.answer::<Vec<String>>()?;
        // It has forked; the process that continues is not our child.
        keeper.process.wait()?;
        Ok(Background { name, spared: answer? })
    }
}

/// The word for [`keep`].
pub const KEEP: &str = "keep";

/// The keeper, a second start: starts the sandbox of its order, answers that it is running, and
/// becomes the small program that waits for its end.
///
/// # Errors
/// The process that gave the order is gone; all other errors are reported to it.
pub fn keep(words: &[OsString]) -> Result<()> {
    let (order, reply) = again::take::<Order>(words)?;
    let started = process::leave_parent()
        .map_err(|errno| Error::os("detach a process", errno))
        .and_then(|()| start(&order, &reply));
    match started {
        Ok(errno) => Err(Error::os("become the keeper", errno)),
        Err(error) => reply.answer(&Err::<Vec<String>, _>(error)),
    }
}

fn start(order: &Order, reply: &again::Reply) -> Result<Errno> {
    let Order { sandbox, options, logged } = order;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::io("open /dev/null", &e))?;
    let over = |file: &dyn AsRawFd, fd| {
        let put = raw::dup2(file.as_raw_fd(), fd);
        put.map_err(|errno| Error::os(format!("replace descriptor {fd}"), errno))
    };
    let output = match logged {
        true => None,
        false => {
            let (reader, writer) = std::io::pipe().map_err(|e| Error::io("create a pipe", &e))?;
            // The command may open /dev/stdout as any user; nothing outside can reach this pipe.
            let writer = File::from(OwnedFd::from(writer));
            let open = writer.set_permissions(Permissions::from_mode(0o622));
            open.map_err(|e| Error::io("open a pipe to the command", &e))?;
            over(&writer, 1)?;
            Some(OwnedFd::from(reader))
        }
    };
    let child = sandbox.spawn(options)?;
    if output.is_some() {
        over(&null, 1)?;
    }
    become_keeper(&child, &options.journal(), output, reply)
}

fn become_keeper(
    child: &Child,
    journal: &Journal,
    output: Option<OwnedFd>,
    reply: &again::Reply,
) -> Result<Errno> {
    let failed = |errno| Error::os("become the keeper", errno);
    let name = child.id().unwrap_or_default();
    let program = init::sealed().map_err(failed)?;
    // This very program, even if its file has been replaced.
    let own = File::open("/proc/self/exe").map_err(|e| Error::io("open /proc/self/exe", &e))?;
    let first = child.process().pidfd();
    let command = start::command(first, child.process().pid()).unwrap_or_default();
    let mut files = Vec::new();
    if let Some(output) = &output {
        file::set_nonblocking(output.as_fd()).map_err(failed)?;
        for name in OUTPUT.map(|output| journal.file(name, output)) {
            let file = File::options().append(true).create(true).mode(0o600).open(&name);
            files.push(file.map_err(|e| Error::io(format!("open {}", name.display()), &e))?);
        }
    }
    let named = [
        Some(first),
        Some(command.as_ref().map_or(first, AsFd::as_fd)),
        output.as_ref().map(AsFd::as_fd),
        files.first().map(AsFd::as_fd),
        files.last().map(AsFd::as_fd),
        Some(own.as_fd()),
    ];
    for fd in child.held().chain(named.iter().flatten().copied()) {
        raw::set_cloexec(fd.as_raw_fd(), false).map_err(failed)?;
    }
    // Do not hold the standard error of `wrap -d` open: its reader may wait for end of file.
    raw::dup2(1, 2).map_err(failed)?;
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let mut argv = vec![init::KEEPER.to_owned()];
    for fd in named {
        argv.push(text(fd.map_or("-".into(), |fd| fd.as_raw_fd().to_string()).into_bytes()));
    }
    let root = journal.root().as_os_str().to_os_string();
    let pid = child.process().pid().to_string();
    let entry = child.entry().map_or(-1, |entry| entry.as_raw_fd()).to_string();
    argv.push(again::NAME.to_owned());
    argv.extend(
        ["ended".into(), root, name.into(), entry.into(), pid.into()]
            .map(|word: OsString| text(word.into_vec())),
    );
    // The process that asked may be gone; the sandbox runs nevertheless.
    let _ = reply.answer(&Ok(child.process().spared()));
    let signals = process::Signals::block().map_err(failed)?;
    std::mem::forget(signals);
    Ok(file::exec_fd(&program, &CStrings::new(argv), &CStrings::new(Vec::new())))
}

/// The successor of a keeper: its child `pid`, the first process of sandbox `name`, has ended.
/// Leaves a trace of the sandbox and releases its resources. `entry` is the lock of its journal
/// entry, which the keeper held and which is kept until everything is released.
///
/// # Errors
/// Something could not be released or written.
pub fn bury(journal: &Journal, name: &str, entry: RawFd, pid: i32) -> Result<()> {
    // Closes the other descriptors that the keeper held for the sandbox, such as its ports.
    let lock = process::keep_inherited(entry);
    let lock = lock.map_err(|errno| Error::os(format!("descriptor {entry}"), errno))?;
    // The state directory may have been lost, and the name taken by another sandbox.
    let Some(entry) = journal.adopt(name, lock)? else { return Ok(()) };
    let told = tell(journal, name, pid);
    gc::release(entry, true).and(told)
}

fn tell(journal: &Journal, name: &str, pid: i32) -> Result<()> {
    let record = SandboxRecord::read(journal, name)?;
    let has_init = record.asked.init && record.asked.namespaces.pid.is_new();
    let process = if has_init { Process::adopt_init(pid) } else { Process::adopt(pid) }?;
    let ended = process.wait()?;
    let output = Path::new("/proc/self/fd/1");
    // The caller's file, or else /dev/null.
    let log = output.metadata().is_ok_and(|file| file.is_file()).then_some(output);
    Trace::of(journal, &record, ended, log).write(journal)
}
