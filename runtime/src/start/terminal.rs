//! The pseudo-terminal of a command, held by the process that started it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::raw::RawFd;
use crate::sys::{channel, file, terminal};

/// The master of a command's terminal (pty(7)): what is written to it is typed in, and what the
/// command writes is read from it. Reading fails with EIO when no process has the terminal open any
/// more. Dropping the master hangs the terminal up: the command gets SIGHUP.
///
/// ```
/// use garth::{Options, Sandbox};
/// use std::io::Read;
///
/// let command = ["stty", "size"].map(Into::into).to_vec();
/// let sandbox = Sandbox { command, terminal: true, ..Sandbox::default() };
/// let mut child = sandbox.spawn(&Options::default())?;
/// let mut terminal = child.take_terminal().unwrap();
/// let mut shown = String::new();
/// let _end = terminal.master().read_to_string(&mut shown);
/// assert_eq!(shown, "0 0\r\n");
/// assert_eq!(child.wait()?.code(), 0);
/// # Ok::<(), garth::Error>(())
/// ```
#[derive(Debug)]
pub struct Terminal {
    master: File,
}

/// How a terminal looks to the command when that starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Columns and rows; `None` for 0 and 0, which programs take for "unknown".
    pub size: Option<(u16, u16)>,
    /// The output goes to a file or a pipe: its lines end in a newline, without a carriage return.
    pub plain_lines: bool,
}

impl Terminal {
    /// A master that was passed to this process.
    pub(crate) fn from_master(master: OwnedFd) -> Terminal {
        Terminal { master: master.into() }
    }

    /// The master, for reading and writing.
    pub fn master(&self) -> &File {
        &self.master
    }

    /// Changes the size of the window; the foreground process group of the terminal gets SIGWINCH.
    ///
    /// # Errors
    /// EIO: the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        terminal::set_size(self.master.as_raw_fd(), columns, rows)
            .map_err(|errno| Error::os("resize the terminal", errno))
    }

    /// The command's side. While it is held, the master can be read even when the command has
    /// closed its own side for a while.
    ///
    /// # Errors
    /// EIO: the terminal is gone.
    pub(crate) fn peer(&self) -> Result<OwnedFd> {
        let peer = terminal::peer(self.master.as_fd());
        peer.map_err(|errno| Error::os("open the terminal", errno))
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl AsRawFd for Terminal {
    fn as_raw_fd(&self) -> RawFd {
        self.master.as_raw_fd()
    }
}

impl From<Terminal> for OwnedFd {
    fn from(terminal: Terminal) -> OwnedFd {
        terminal.master.into()
    }
}

/// The way of a master from the child that makes it to this process.
#[derive(Debug)]
pub struct Delivery {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Delivery {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE: too many open files.
    pub fn new() -> Result<Delivery> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|e| Error::io("create a socket pair for a terminal", &e))?;
        // The child puts the terminal in the places of standard input, output and error.
        let theirs = file::copy_from(theirs.as_fd(), 3)
            .map_err(|errno| Error::os("copy a descriptor", errno))?;
        Ok(Delivery { ours: ours.into(), theirs })
    }

    /// Where the child sends the master.
    pub fn socket(&self) -> RawFd {
        self.theirs.as_raw_fd()
    }

    /// The terminal, once the program has been executed.
    ///
    /// # Errors
    /// None arrived.
    pub fn take(self) -> Result<Terminal> {
        let Delivery { ours, theirs } = self;
        drop(theirs);
        let master = channel::take_descriptor(ours.as_fd());
        let master = master.map_err(|errno| Error::os("receive the pty", errno))?;
        let master = master.ok_or_else(|| Error::new("no pty arrived on the console socket"))?;
        Ok(Terminal::from_master(master))
    }
}
