//! Leaving a sandbox behind.
//!
//! `wrap -d` starts this program once more in a session of its own: the keeper. It starts the
//! sandbox, says so through a pipe, and becomes a program of a few kilobytes that waits for the
//! sandbox's end and then becomes `garth delete`, so that nothing is left when a detached sandbox
//! ends by itself.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::journal::Journal;
use crate::start::{Child, FileAction, Group, Spawn, Stdio};
use crate::sys::{CStrings, file, init, process, raw};

/// The descriptor on which the keeper says that the sandbox runs.
const TOLD: RawFd = 3;

/// Starts `garth ARGS --keeper`, and waits until it has started the sandbox. The sandbox's output
/// goes to the end of `log`, or nowhere. `Err(code)` is the exit code of a keeper that has already
/// said why it failed.
///
/// # Errors
/// When there can be no keeper.
pub fn detach(args: Vec<OsString>, log: Option<&Path>) -> Result<std::result::Result<(), i32>> {
    let output = match log {
        None => Stdio::Null,
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            Stdio::File(
                file.map_err(|e| Error::io(format!("--log {}", path.display()), &e))?.into(),
            )
        }
    };
    let (mut told, tell) = std::io::pipe().map_err(|e| Error::io("make a pipe", &e))?;
    let tell = OwnedFd::from(tell);
    let mut command = vec![OsString::from("/proc/self/exe")];
    command.extend(args);
    let keeper = Spawn {
        stdin: Stdio::Null,
        stdout: output,
        files: vec![FileAction::Copy { from: tell.as_raw_fd(), to: TOLD }],
        group: Group::Session,
        ..Spawn::new(command)
    };
    let keeper = keeper.spawn().map_err(|e| e.within("start a keeper"))?;
    drop(tell);
    let mut word = [0; 1];
    match told.read(&mut word) {
        Ok(1) => Ok(Ok(())),
        _ => Ok(Err(keeper.process.wait()?.code())),
    }
}

/// In the keeper: the sandbox runs; say so, and become the small program that waits for its end.
/// Returns only if that fails; the caller can wait as well.
pub fn keep(child: &Child, journal: &Journal) -> Error {
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let become_keeper = || -> std::result::Result<crate::sys::Errno, crate::sys::Errno> {
        let program = init::sealed()?;
        // This very program, even if its file is replaced meanwhile.
        let own: OwnedFd = File::open("/proc/self/exe")?.into();
        for fd in child.held() {
            raw::set_cloexec(fd.as_raw_fd(), false)?;
        }
        raw::set_cloexec(own.as_raw_fd(), false)?;
        // The caller of `wrap -d` must not wait for the end of its pipe through us.
        raw::dup2(1, 2)?;
        let mut argv = vec![init::KEEPER.to_owned()];
        let pid = child.process().pid().to_string();
        for word in [&*pid, &own.as_raw_fd().to_string(), "garth", "--root"] {
            argv.push(text(word.as_bytes()));
        }
        argv.push(text(&journal.root().as_os_str().to_os_string().into_vec()));
        let entry = child.entry().map_or(-1, |entry| entry.as_raw_fd()).to_string();
        let delete = ["delete", "--force", "--entry", &entry, child.id().unwrap_or_default()];
        argv.extend(delete.map(|word| text(word.as_bytes())));
        // Whoever asked may have gone away; the sandbox runs all the same.
        let _ = raw::write(TOLD, b"k");
        raw::close(TOLD);
        let signals = process::Signals::block()?;
        std::mem::forget(signals);
        Ok(file::exec_fd(&program, &CStrings::new(argv), &CStrings::new(Vec::new())))
    };
    let (Ok(errno) | Err(errno)) = become_keeper();
    Error::os("become the keeper", errno)
}
