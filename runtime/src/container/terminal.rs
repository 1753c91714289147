//! The foreground: waits for a container's program, with or without the caller's terminal.
//!
//! A program with `terminal` has a pseudo-terminal of its own. Its master goes to the listener at
//! `--console-socket`, or comes to us: then the caller's terminal is put in raw mode, and we copy
//! the bytes both ways until the program has ended.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config::oci::ConsoleSize;
use crate::container::parent::connect;
use crate::error::{Error, Result};
use crate::start::Process;
use crate::sys::process::{self, PollFlags, Signals};
use crate::sys::raw::RawFd;
use crate::sys::terminal::{self, Attributes};
use crate::sys::{Errno, channel, file, pidfd};

/// Where the master of the program's terminal goes.
#[derive(Debug)]
pub enum Console {
    /// The program has no terminal.
    None,
    /// To the listener at the console socket.
    Socket(OwnedFd),
    /// To us.
    Here {
        /// The caller's terminal.
        host: File,
        /// Where the master arrives.
        ours: OwnedFd,
        /// Where the child sends it.
        theirs: OwnedFd,
    },
}

impl Console {
    /// Chooses by what the program wants and by whether we stay.
    ///
    /// # Errors
    /// In runc's words: nothing would hold the terminal, or nothing would be sent to the socket.
    pub fn choose(terminal: bool, socket: Option<&Path>, detached: bool) -> Result<Console> {
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
                let host = host()?;
                let (ours, theirs) = UnixStream::pair()
                    .map_err(|e| Error::io("create a socket pair for a terminal", &e))?;
                Ok(Console::Here { host, ours: ours.into(), theirs: theirs.into() })
            }
        }
    }

    /// The descriptor the child sends the master to.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Console::None => None,
            Console::Socket(socket) => Some(socket.as_raw_fd()),
            Console::Here { theirs, .. } => Some(theirs.as_raw_fd()),
        }
    }

    /// Does the terminal's output go to a file or a pipe? Its reader wants lines as the program
    /// wrote them.
    pub fn plain_lines(&self) -> bool {
        matches!(self, Console::Here { .. }) && !stdout().is_terminal()
    }

    /// The size of the caller's terminal, if the program will be shown there.
    pub fn size(&self) -> Option<ConsoleSize> {
        let Console::Here { host, .. } = self else { return None };
        let (width, height) = terminal::size(host.as_raw_fd()).ok()?;
        Some(ConsoleSize { width: width.into(), height: height.into() })
    }

    /// Receives the master, once the program has been executed.
    ///
    /// # Errors
    /// None arrived.
    pub fn take(self) -> Result<Option<Terminal>> {
        let Console::Here { host, ours, theirs } = self else { return Ok(None) };
        drop(theirs);
        let failed = |errno| Error::os("receive the pty", errno);
        let master = channel::take_descriptor(ours.as_fd()).map_err(failed)?;
        let master = master.ok_or_else(|| Error::new("no pty arrived on the console socket"))?;
        file::set_nonblocking(master.as_fd()).map_err(failed)?;
        Ok(Some(Terminal { host, master: master.into() }))
    }
}

/// The caller's terminal: some of the three standard descriptors may be redirected.
fn host() -> Result<File> {
    let copy = |fd: BorrowedFd<'_>| {
        let copy = fd.try_clone_to_owned();
        copy.map(File::from).map_err(|e| Error::io("copy the descriptor of the terminal", &e))
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
    File::options().read(true).write(true).open("/dev/tty").map_err(|e| {
        Error::io("the program needs a terminal, and there is none here: open /dev/tty", &e)
            .hint("set process.terminal to false, or detach with --console-socket")
    })
}

/// The terminal of a program in the foreground.
#[derive(Debug)]
pub struct Terminal {
    host: File,
    master: File,
}

impl Terminal {
    fn resize(&self) {
        if let Ok((width, height)) = terminal::size(self.host.as_raw_fd()) {
            let _ = terminal::set_size(self.master.as_raw_fd(), width, height);
        }
    }
}

/// Passes on signals and terminal input and output until the process has ended; does not reap it.
///
/// # Errors
/// The kernel cannot wait.
pub fn attend(process: &Process, signals: &Signals, terminal: Option<Terminal>) -> Result<()> {
    let Some(terminal) = terminal else { return forward(process, signals) };
    terminal.resize();
    let _raw = Raw::enter(&terminal.host);
    relay(process, signals, &terminal)
}

/// The program is in a session of its own: signals from the terminal to its foreground group, such
/// as from ^C, only reach us.
fn forward(process: &Process, signals: &Signals) -> Result<()> {
    loop {
        let [ended, _] = process::readable([process.pidfd(), signals.as_fd()], None)
            .map_err(|errno| Error::os("wait for the container", errno))?;
        if ended {
            return Ok(());
        }
        while let Some(arrived) = signals.next() {
            if arrived.signal != libc::SIGCHLD {
                let _ = pidfd::send_signal(process.pidfd(), arrived.signal);
            }
        }
    }
}

/// Restores the caller's terminal on drop.
struct Raw<'a> {
    host: &'a File,
    before: Option<Attributes>,
}

impl Raw<'_> {
    fn enter(host: &File) -> Raw<'_> {
        let before = Attributes::of(host.as_fd()).ok();
        if let Some(attributes) = &before {
            let _ = attributes.raw().apply(host.as_fd());
        }
        Raw { host, before }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(attributes) = &self.before {
            let _ = attributes.apply(self.host.as_fd());
        }
    }
}

/// What a pipe that is ready takes without blocking (PIPE_BUF in pipe(7)).
const PIECE: usize = 4096;

/// One direction: what was read and not yet written.
struct Flow {
    from: File,
    to: File,
    held: Vec<u8>,
    open: bool,
}

impl Flow {
    fn new(from: File, to: File) -> Flow {
        Flow { from, to, held: Vec::new(), open: true }
    }

    /// What to poll for at either end.
    fn wants(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 2] {
        match self.held.is_empty() {
            true => [self.open.then(|| (self.from.as_fd(), PollFlags::IN)), None],
            false => [None, Some((self.to.as_fd(), PollFlags::OUT))],
        }
    }

    /// Reads a piece; false: nothing is available now.
    fn read(&mut self) -> bool {
        let mut piece = [0; PIECE];
        match self.from.read(&mut piece) {
            // Reading a master whose terminal is no longer open anywhere fails with EIO.
            Ok(0) => self.open = false,
            Ok(count) => {
                self.held.extend_from_slice(&piece[..count]);
                return true;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.open = false,
        }
        false
    }

    fn write(&mut self) {
        let end = self.held.len().min(PIECE);
        match self.to.write(&self.held[..end]) {
            Ok(count) => drop(self.held.drain(..count)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The reader is gone: that must not stop the program.
            Err(_) => self.held.clear(),
        }
    }
}

fn relay(process: &Process, signals: &Signals, terminal: &Terminal) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("copy a descriptor", &e);
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from).map_err(failed);
    let master = || copy(terminal.master.as_fd());
    let mut typed = Flow::new(copy(stdin().as_fd())?, master()?);
    let mut shown = Flow::new(master()?, copy(stdout().as_fd())?);
    loop {
        let ([keys, input], [output, screen]) = (typed.wants(), shown.wants());
        let end = Some((process.pidfd(), PollFlags::IN));
        let news = Some((signals.as_fd(), PollFlags::IN));
        let [ended, arrived, keys, input, output, screen] =
            process::ready([end, news, keys, input, output, screen], None)
                .map_err(|errno: Errno| Error::os("wait for the container", errno))?;
        if !arrived.is_empty() {
            pass_on(process, signals, terminal);
        }
        if !keys.is_empty() {
            typed.read();
        }
        if !input.is_empty() {
            typed.write();
        }
        if !output.is_empty() {
            shown.read();
        }
        if !screen.is_empty() {
            shown.write();
        }
        if !ended.is_empty() {
            break;
        }
    }
    // What the program wrote last. poll(2) on a master first flushes what is in transit.
    loop {
        while !shown.held.is_empty() {
            shown.write();
        }
        let wanted = [Some((shown.from.as_fd(), PollFlags::IN))];
        match process::ready(wanted, Some(Duration::ZERO)) {
            Ok([some]) if !some.is_empty() && shown.read() => {}
            _ => return Ok(()),
        }
    }
}

fn pass_on(process: &Process, signals: &Signals, terminal: &Terminal) {
    while let Some(arrived) = signals.next() {
        match arrived.signal {
            libc::SIGCHLD => {}
            libc::SIGWINCH => terminal.resize(),
            signal => drop(pidfd::send_signal(process.pidfd(), signal)),
        }
    }
}
