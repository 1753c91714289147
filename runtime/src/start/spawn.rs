//! [`Spawn`]: starting a process without any namespaces, as fast with four gigabytes resident as
//! with one megabyte.
//!
//! fork(2) copies the parent's page tables, 30 ms per gigabyte; so does `std::process::Command` as
//! soon as it is asked for something that posix_spawn(3) cannot do (`pre_exec`, `uid`). Here the
//! attributes and file actions are data, as in posix_spawn, executed by a child that briefly shares
//! the parent's memory: the same interpreter that builds sandboxes.
//!
//! ```
//! use garth::{Spawn, Stdio};
//! use std::io::Read;
//!
//! let mut child = Spawn { stdout: Stdio::Pipe, ..Spawn::new(["echo", "a", "sandbox"]) }.spawn()?;
//! let mut output = String::new();
//! child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
//! assert_eq!(output, "a sandbox\n");
//! assert_eq!(child.process.wait()?.code(), 0);
//! # Ok::<(), garth::Error>(())
//! ```

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Process, run};
use crate::config::Rlimit;
use crate::error::{Error, Result};
use crate::plan::{self, Plan, Step};

/// What descriptor 0, 1 or 2 of the child is.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's.
    #[default]
    Inherit,
    /// /dev/null.
    Null,
    /// A pipe whose other end is in [`Spawned`], as with popen(3), but without a shell.
    Pipe,
    /// This file.
    File(OwnedFd),
}

/// An action on the child's descriptors, in order, after stdio has been set.
#[derive(Debug)]
pub enum FileAction {
    /// Make `to` a copy of the caller's `from`, as with dup2(2).
    Copy {
        /// The caller's descriptor.
        from: RawFd,
        /// The child's.
        to: RawFd,
    },
    /// Close it.
    Close(RawFd),
}

/// Session and process group of the child.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The caller's.
    #[default]
    Inherit,
    /// This process group; 0 for a new one with the child as its leader (setpgid(2)).
    Process(i32),
    /// A new session, without a controlling terminal (setsid(2)).
    Session,
}

/// A program and its attributes. Plain data: fill in what differs from the default.
#[derive(Debug, Default)]
pub struct Spawn {
    /// The program, looked up in PATH if it has no slash, and its arguments.
    pub command: Vec<OsString>,
    /// The program's `argv[0]`; `None` for the name in `command`.
    pub arg0: Option<OsString>,
    /// The whole environment; `None` for the caller's.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// Working directory; `None` for the caller's.
    pub cwd: Option<PathBuf>,
    /// Descriptor 0.
    pub stdin: Stdio,
    /// Descriptor 1.
    pub stdout: Stdio,
    /// Descriptor 2.
    pub stderr: Stdio,
    /// More descriptors. Those from 3 on that no action names are closed.
    pub files: Vec<FileAction>,
    /// Session and process group.
    pub group: Group,
    /// Signals blocked in the program: bit n-1 is signal n.
    pub blocked: u64,
    /// Signals ignored in the program; all others get their default action, even those the caller
    /// ignores.
    pub ignored: u64,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// File mode creation mask; `None` for the caller's.
    pub umask: Option<u32>,
    /// Kill the program when the calling thread ends.
    pub die_with_parent: bool,
}

/// A started program.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// The writing end of its standard input, if that is a pipe.
    pub stdin: Option<File>,
    /// The reading end of its standard output, if that is a pipe.
    pub stdout: Option<File>,
    /// The reading end of its standard error, if that is a pipe.
    pub stderr: Option<File>,
}

impl Spawn {
    /// A command with default attributes.
    pub fn new<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Spawn {
        Spawn { command: command.into_iter().map(Into::into).collect(), ..Spawn::default() }
    }

    /// Starts it. When this returns, the program has been executed.
    ///
    /// # Errors
    /// A step failed: the program is missing (`Kind::NotFound`), a directory does not exist, a
    /// limit may not be raised.
    pub fn spawn(self) -> Result<Spawned> {
        let mut plan = Plan::default();
        let mut held = Vec::new();
        let mut ends = [None, None, None];
        if self.die_with_parent {
            plan.push(Step::DieWithParent, "spawn");
        }
        plan.push(Step::CloseOnExec { from: 3 }, "spawn");
        let stdio = [self.stdin, self.stdout, self.stderr];
        for (to, wanted) in (0..).zip(stdio) {
            let (theirs, ours) = open(wanted, to)?;
            ends[to as usize] = ours;
            if let Some(theirs) = theirs {
                let from = Some(theirs.as_raw_fd());
                plan.push(Step::Descriptor { to, from }, "spawn");
                held.push(theirs);
            }
        }
        for action in &self.files {
            let (to, from) = match *action {
                FileAction::Copy { from, to } => (to, Some(from)),
                FileAction::Close(to) => (to, None),
            };
            plan.push(Step::Descriptor { to, from }, "spawn");
        }
        match self.group {
            Group::Inherit => {}
            Group::Process(group) => plan.push(Step::ProcessGroup(group), "spawn"),
            Group::Session => plan.push(Step::Session, "spawn"),
        }
        for limit in &self.rlimits {
            let Rlimit { resource, soft, hard } = *limit;
            plan.push(Step::Rlimit { resource, soft, hard }, "spawn");
        }
        if let Some(mask) = self.umask {
            plan.push(Step::Umask(mask), "spawn");
        }
        if let Some(cwd) = self.cwd {
            let path = CString::new(cwd.into_os_string().into_vec())
                .map_err(|_| Error::new("the working directory contains a NUL byte"))?;
            plan.push(Step::Directory(path), "spawn");
        }
        let (ignored, blocked) = (self.ignored, self.blocked);
        plan.push(Step::Signals { ignored, blocked }, "spawn");
        let env = self.env.unwrap_or_else(|| std::env::vars_os().collect());
        let mut exec = plan::program::exec(&self.command, &env, None)?;
        if let (Some(name), Step::Exec { argv, .. }) = (self.arg0, &mut exec) {
            let mut words = self.command;
            if let Some(first) = words.first_mut() {
                *first = name;
            }
            *argv = plan::program::words(&words)?;
        }
        plan.push(exec, "spawn");
        let process = run(&plan, None, |_| Ok(()))?;
        let [stdin, stdout, stderr] = ends;
        Ok(Spawned { process, stdin, stdout, stderr })
    }
}

/// The child's end of descriptor `number`, and the caller's if it is a pipe.
fn open(wanted: Stdio, number: RawFd) -> Result<(Option<OwnedFd>, Option<File>)> {
    let (theirs, ours) = match wanted {
        Stdio::Inherit => return Ok((None, None)),
        Stdio::File(file) => (file, None),
        Stdio::Null => {
            let null = File::options().read(true).write(true).open("/dev/null");
            (null.map_err(|e| Error::io("open /dev/null", &e))?.into(), None)
        }
        Stdio::Pipe => {
            let (reader, writer) = std::io::pipe().map_err(|e| Error::io("create a pipe", &e))?;
            match number {
                0 => (reader.into(), Some(File::from(OwnedFd::from(writer)))),
                _ => (writer.into(), Some(File::from(OwnedFd::from(reader)))),
            }
        }
    };
    // In a caller without stdio, new descriptors get low numbers, which the copies would overwrite.
    let theirs = if theirs.as_raw_fd() > 2 { theirs } else { above_stdio(&theirs)? };
    Ok((Some(theirs), ours))
}

fn above_stdio(fd: &OwnedFd) -> Result<OwnedFd> {
    // try_clone returns the lowest free number from 3 on.
    fd.as_fd().try_clone_to_owned().map_err(|e| Error::io("copy a descriptor", &e))
}
