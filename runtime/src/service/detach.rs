//! Leaving a sandbox behind.
//!
//! `wrap -d` starts this program once more, as `garth keep` in a session of its own, and gives it a record
//! of what is to be started: the keeper. It starts the sandbox, says so through a pipe, and becomes a
//! program of a few kilobytes, which waits for the sandbox's end and keeps the last of its output. Then
//! that becomes `garth ended`, which releases all that the sandbox had and leaves a trace of it.

use std::ffi::{CString, OsString};
use std::fs::{File, Permissions};
use std::io::{Read, Seek};
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
use crate::start::{self, Child, FileAction, Group, Options, Process, Spawn, Stdio, random_id};
use crate::sys::{CStrings, Errno, file, init, process, raw};

/// What a keeper is given.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    sandbox: Sandbox,
    options: Options,
    /// Its standard output is a file of the caller's, and not to be kept.
    logged: bool,
}

/// Starts a keeper for the sandbox, and waits until that has started it; tells its name. Its output
/// goes to the end of `log`, or the last of it is kept. `Err(code)` is the exit code of a keeper that has
/// already said why it failed. This program must be `garth`.
///
/// # Errors
/// A sandbox that contradicts itself, and when there can be no keeper.
pub fn detach(
    sandbox: &Sandbox,
    options: Options,
    log: Option<&Path>,
) -> Result<std::result::Result<String, i32>> {
    // Mistakes are found before a second process is started.
    sandbox.validate()?;
    let name = options.name.clone().unwrap_or_else(random_id);
    let output = match log {
        None => Stdio::Null,
        Some(path) => {
            let file = File::options().read(true).append(true).create(true).open(path);
            Stdio::File(
                file.map_err(|e| Error::io(format!("--log {}", path.display()), &e))?.into(),
            )
        }
    };
    // The sockets of an activation stay where they are, and the pipe comes behind them.
    let sockets = (3..3 + RawFd::from(sandbox.listen_fds)).map(|fd| (fd, fd));
    let told_at = 3 + RawFd::from(sandbox.listen_fds);
    let options = Options { name: Some(name.clone()), merge_stderr: true, ..options };
    let sandbox = Sandbox { die_with_parent: false, ..sandbox.clone() };
    let order = Order { sandbox, options, logged: log.is_some() };
    let order = serde_json::to_vec(&order)
        .map_err(|e| Error::new(format!("write down what the keeper shall start: {e}")))?;
    let order = file::sealed(c"garth-order", &order, 0o400)
        .map_err(|errno| Error::os("make a file for the keeper", errno))?;
    let (mut told, tell) = std::io::pipe().map_err(|e| Error::io("make a pipe", &e))?;
    let tell = OwnedFd::from(tell);
    let files = sockets.chain([(tell.as_raw_fd(), told_at)]);
    let command: [OsString; 3] =
        ["/proc/self/exe".into(), "keep".into(), told_at.to_string().into()];
    let keeper = Spawn {
        stdin: Stdio::File(order),
        stdout: output,
        files: files.map(|(from, to)| FileAction::Copy { from, to }).collect(),
        group: Group::Session,
        ..Spawn::new(command)
    };
    let keeper = keeper.spawn().map_err(|e| e.within("start a keeper"))?;
    drop(tell);
    let mut word = [0; 1];
    match told.read(&mut word) {
        Ok(1) => Ok(Ok(name)),
        _ => Ok(Err(keeper.process.wait()?.code())),
    }
}

/// The keeper: starts what it reads from its standard input, says through `told` that it runs, and
/// becomes the small program that waits for its end. Returns only if something of that fails. `warn` is
/// told what the sandbox has to do without.
pub fn keep(told: RawFd, warn: &dyn Fn(&str)) -> Error {
    let Err(error) = start(told, warn);
    error
}

fn start(told: RawFd, warn: &dyn Fn(&str)) -> Result<std::convert::Infallible> {
    let failed = |e: std::io::Error| Error::io("read what the keeper shall start", &e);
    let mut order = Vec::new();
    {
        let mut file = File::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        file.rewind().and_then(|()| file.read_to_end(&mut order)).map_err(failed)?;
    }
    let Order { sandbox, options, logged } = serde_json::from_slice(&order)
        .map_err(|e| Error::new(format!("what the keeper shall start: {e}")))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::io("open /dev/null", &e))?;
    let over = |file: &dyn AsRawFd, fd| {
        let put = raw::dup2(file.as_raw_fd(), fd);
        put.map_err(|errno| Error::os(format!("replace descriptor {fd}"), errno))
    };
    over(&null, 0)?;
    let output = match logged {
        true => None,
        false => {
            let (reader, writer) = std::io::pipe().map_err(|e| Error::io("make a pipe", &e))?;
            // Whoever the command is, it may open /dev/stdout; who is outside cannot reach it.
            let writer = File::from(OwnedFd::from(writer));
            let open = writer.set_permissions(Permissions::from_mode(0o622));
            open.map_err(|e| Error::io("open a pipe to the command", &e))?;
            over(&writer, 1)?;
            Some(OwnedFd::from(reader))
        }
    };
    let journal = options.journal();
    let child = sandbox.spawn(&options)?;
    child.process().spared().iter().for_each(|loss| warn(&loss.to_string()));
    if output.is_some() {
        over(&null, 1)?;
    }
    Err(Error::os("become the keeper", become_keeper(&child, &journal, output, told)?))
}

fn become_keeper(
    child: &Child,
    journal: &Journal,
    output: Option<OwnedFd>,
    told: RawFd,
) -> Result<Errno> {
    let failed = |errno| Error::os("become the keeper", errno);
    let name = child.id().unwrap_or_default();
    let program = init::sealed().map_err(failed)?;
    // This very program, even if its file is replaced meanwhile.
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
    // The caller of `wrap -d` must not wait for the end of its pipe through us.
    raw::dup2(1, 2).map_err(failed)?;
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let mut argv = vec![init::KEEPER.to_owned()];
    for fd in named {
        argv.push(text(fd.map_or("-".into(), |fd| fd.as_raw_fd().to_string()).into_bytes()));
    }
    let root = journal.root().as_os_str().to_os_string();
    let pid = child.process().pid().to_string();
    let entry = child.entry().map_or(-1, |entry| entry.as_raw_fd()).to_string();
    argv.extend(["garth".into(), "--root".into(), root].map(|word| text(word.into_vec())));
    argv.extend(["ended", name, &entry, &pid].map(|word| text(word.into())));
    // Whoever asked may have gone away; the sandbox runs all the same.
    let _ = raw::write(told, b"k");
    raw::close(told);
    let signals = process::Signals::block().map_err(failed)?;
    std::mem::forget(signals);
    Ok(file::exec_fd(&program, &CStrings::new(argv), &CStrings::new(Vec::new())))
}

/// The successor of a keeper: its child `pid`, the first process of sandbox `name`, has ended. Leaves
/// a trace of it, and releases what it had. `entry` is its place in the journal, which the keeper has
/// held and which is not let go of before all is released.
///
/// # Errors
/// What could not be released, or written down.
pub fn bury(journal: &Journal, name: &str, entry: RawFd, pid: i32) -> Result<()> {
    // The rest of what the keeper held for the sandbox, such as its ports, is released by that.
    let lock = process::keep_inherited(entry);
    let lock = lock.map_err(|errno| Error::os(format!("descriptor {entry}"), errno))?;
    // The state directory may have been lost, and the name be another's.
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
    // A file of the caller's; otherwise /dev/null is there.
    let log = output.metadata().is_ok_and(|file| file.is_file()).then_some(output);
    Trace::of(journal, &record, ended, log).write(journal)
}
