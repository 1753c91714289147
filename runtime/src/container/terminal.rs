//! The foreground: waits for a container's program, with or without the caller's terminal.
//!
//! A program with `terminal` has a pseudo-terminal of its own. Its master goes to the listener at
//! `--console-socket`, or comes to us, who copy the bytes between it and the caller's terminal.

use std::fs::File;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::config::oci::ConsoleSize;
use crate::container::parent::connect;
use crate::error::{Error, Result};
use crate::start::relay::{Caller, relay};
use crate::start::{Delivery, Process, Terminal};
use crate::sys::pidfd;
use crate::sys::process::{self, Arrived, Signals};
use crate::sys::raw::RawFd;

/// A container's program whose creator looks after it.
#[derive(Debug)]
pub struct ChildProgram {
    /// Its process, a child of this one.
    pub process: Process,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
}

/// The standard files of a program.
#[derive(Clone, Debug, Default)]
pub enum StandardFiles {
    /// The caller's.
    #[default]
    Inherited,
    /// These; numbers from 3 up.
    Given(Arc<[OwnedFd; 3]>),
    /// A terminal that is handed to the caller of [`super::create_child`] or [`super::exec_child`].
    NewTerminal,
}

impl StandardFiles {
    /// Their numbers, if they are given.
    pub(super) fn numbers(&self) -> Option<[RawFd; 3]> {
        match self {
            StandardFiles::Given(files) => Some(files.each_ref().map(AsRawFd::as_raw_fd)),
            StandardFiles::Inherited | StandardFiles::NewTerminal => None,
        }
    }
}

/// Where the master of the program's terminal goes.
#[derive(Debug)]
pub enum Console {
    /// The program has no terminal.
    None,
    /// To the listener at the console socket.
    Socket(OwnedFd),
    /// To us, in front of which there is the caller's terminal.
    Here(Delivery, Caller),
    /// To us, who hand it on.
    Ours(Delivery),
}

/// The master of a terminal that came to us.
#[derive(Debug)]
pub enum Master {
    /// To be shown at the caller's.
    Shown(Terminal, Caller),
    /// For who called the library.
    Ours(Terminal),
}

impl Master {
    /// The first kind.
    pub fn shown(self) -> Option<Attached> {
        match self {
            Master::Shown(terminal, caller) => Some((terminal, caller)),
            Master::Ours(_) => None,
        }
    }

    /// The second kind.
    pub fn ours(self) -> Option<Terminal> {
        match self {
            Master::Ours(terminal) => Some(terminal),
            Master::Shown(..) => None,
        }
    }
}

impl Console {
    /// Chooses by what the program wants and by whether we stay.
    ///
    /// # Errors
    /// In runc's words: nothing would hold the terminal, or nothing would be sent to the socket.
    pub fn choose(
        terminal: bool,
        socket: Option<&Path>,
        detached: bool,
        files: &StandardFiles,
    ) -> Result<Console> {
        match (terminal, files) {
            (_, StandardFiles::Inherited) | (false, StandardFiles::Given(_)) => {}
            (true, StandardFiles::NewTerminal) => return Delivery::new().map(Console::Ours),
            (true, StandardFiles::Given(_)) => {
                return Err(Error::new(
                    "process.terminal is true, and other standard files are given",
                ));
            }
            (false, StandardFiles::NewTerminal) => {
                return Err(Error::new("a terminal is expected, and process.terminal is false"));
            }
        }
        match (terminal, socket) {
            (true, None) if detached => Err(Error::new(
                "cannot allocate tty if garth will detach without setting console socket",
            )),
            (_, Some(_)) if !(terminal && detached) => Err(Error::new(
                "cannot use console socket if garth will not detach or allocate tty",
            )),
            (false, _) => Ok(Console::None),
            (true, Some(_)) => {
                let socket = connect(socket, "--console-socket")?;
                Ok(socket.map_or(Console::None, Console::Socket))
            }
            (true, None) => {
                let caller = caller()?;
                Ok(Console::Here(Delivery::new()?, caller))
            }
        }
    }

    /// The descriptor the child sends the master to.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Console::None => None,
            Console::Socket(socket) => Some(socket.as_raw_fd()),
            Console::Here(delivery, _) | Console::Ours(delivery) => Some(delivery.socket()),
        }
    }

    /// Does the terminal's output go to a file or a pipe?
    pub fn plain_lines(&self) -> bool {
        matches!(self, Console::Here(_, caller) if caller.window().plain_lines)
    }

    /// The size of the caller's terminal, if the program will be shown there.
    pub fn size(&self) -> Option<ConsoleSize> {
        let Console::Here(_, caller) = self else { return None };
        let (width, height) = caller.window().size?;
        Some(ConsoleSize { width: width.into(), height: height.into() })
    }

    /// Receives the master, once the program has been executed.
    ///
    /// # Errors
    /// None arrived.
    pub fn take(self) -> Result<Option<Master>> {
        match self {
            Console::Here(delivery, caller) => Ok(Some(Master::Shown(delivery.take()?, caller))),
            Console::Ours(delivery) => Ok(Some(Master::Ours(delivery.take()?))),
            Console::None | Console::Socket(_) => Ok(None),
        }
    }
}

/// The caller's terminal: some of the three standard descriptors may be redirected.
fn caller() -> Result<Caller> {
    let copy = |fd: BorrowedFd<'_>| {
        let copy = fd.try_clone_to_owned().map(Caller::at);
        copy.map_err(|e| Error::io("copy the descriptor of the terminal", &e))
    };
    if stderr().is_terminal() {
        return copy(stderr().as_fd());
    }
    if stdout().is_terminal() {
        return copy(stdout().as_fd());
    }
    if stdin().is_terminal() {
        return copy(stdin().as_fd());
    }
    let own = File::options().read(true).write(true).open("/dev/tty");
    own.map(|own| Caller::at(own.into())).map_err(|e| {
        Error::io("the program needs a terminal, and there is none here: open /dev/tty", &e)
            .hint("set process.terminal to false, or detach with --console-socket")
    })
}

/// The terminal of a program in the foreground, and the caller's.
pub type Attached = (Terminal, Caller);

/// Passes on signals and terminal input and output until the process has ended; does not reap it.
///
/// # Errors
/// The kernel cannot wait.
pub fn attend(process: &Process, signals: &Signals, terminal: Option<Attached>) -> Result<()> {
    let deliver = |arrived: Arrived| {
        let _ = pidfd::send_signal(process.pidfd(), arrived.signal);
    };
    if let Some((terminal, caller)) = terminal {
        return relay(terminal, &caller, process.pidfd(), signals, &deliver);
    }
    // The program is in a session of its own: signals from the terminal to its foreground group,
    // such as from ^C, only reach us.
    loop {
        let [ended, _] = process::readable([process.pidfd(), signals.as_fd()], None)
            .map_err(|errno| Error::os("wait for the container", errno))?;
        if ended {
            return Ok(());
        }
        while let Some(arrived) = signals.next() {
            if arrived.signal != libc::SIGCHLD {
                deliver(arrived);
            }
        }
    }
}
