//! Pseudo-terminals (pty(7)), by descriptor only: the only path walked inside a sandbox is that of
//! its own multiplexer. Functions on plain descriptors may be used between clone3 and execve.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::Errno;
use super::raw::{self, RawFd, call, poll_now, statfs};

/// Is the open file on a devpts, and not something that a root file system has put in its place?
pub fn is_devpts(fd: RawFd) -> Result<bool, Errno> {
    Ok(statfs(fd)?.f_type == libc::DEVPTS_SUPER_MAGIC)
}

/// Unlocks the terminal behind its master and opens it (TIOCGPTPEER, Linux 4.13), close-on-exec.
pub fn open_peer(master: RawFd) -> Result<RawFd, Errno> {
    let unlocked = 0i32;
    call!(libc::SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlocked)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    call!(libc::SYS_ioctl, master, libc::TIOCGPTPEER, flags).map(|fd| fd as RawFd)
}

/// Sets the window's size, in characters.
pub fn set_size(terminal: RawFd, width: u16, height: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    call!(libc::SYS_ioctl, terminal, libc::TIOCSWINSZ, &raw const size).map(drop)
}

/// The window's size: width and height.
pub fn size(terminal: RawFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    call!(libc::SYS_ioctl, terminal, libc::TIOCGWINSZ, &raw mut size)?;
    Ok((size.ws_col, size.ws_row))
}

/// Makes it the controlling terminal of this session, which must not have one.
pub fn take_control(terminal: RawFd) -> Result<(), Errno> {
    call!(libc::SYS_ioctl, terminal, libc::TIOCSCTTY, 0).map(drop)
}

/// From now on a newline stays a newline, without a carriage return before it.
pub fn plain_lines(terminal: RawFd) -> Result<(), Errno> {
    carriage_returns(terminal, false)
}

/// From now on a newline comes with a carriage return before it, as usual, or without one.
pub fn carriage_returns(terminal: RawFd, on: bool) -> Result<(), Errno> {
    // SAFETY: termios is plain numbers, for which all zeroes is a value. The kernel's own struct,
    // which the call fills, begins with the same flags and is shorter.
    let mut attributes: libc::termios = unsafe { core::mem::zeroed() };
    call!(libc::SYS_ioctl, terminal, libc::TCGETS, &raw mut attributes)?;
    attributes.c_oflag &= !libc::ONLCR;
    attributes.c_oflag |= if on { libc::ONLCR } else { 0 };
    call!(libc::SYS_ioctl, terminal, libc::TCSETS, &raw const attributes).map(drop)
}

/// Has every copy of its master been closed? (poll(2), POLLHUP.)
pub fn is_hung_up(terminal: RawFd) -> Result<bool, Errno> {
    Ok(poll_now(terminal, 0)? & libc::POLLHUP != 0)
}

// ---- for the parent -----------------------------------------------------------------------------

/// Same as [`open_peer`].
pub fn peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_peer(master.as_raw_fd()).map(raw::own)
}

/// Sends SIGINT, SIGQUIT or SIGTSTP to its foreground process group, as the keys for them do.
pub fn signal(master: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    call!(libc::SYS_ioctl, master.as_raw_fd(), libc::TIOCSIG, signal).map(drop)
}

/// May this process change it and read from it? No: another job has it. A terminal that does not
/// control this session has no jobs.
pub fn is_in_foreground(terminal: BorrowedFd<'_>) -> bool {
    termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

/// How a terminal treats the data that passes through it (termios(3)).
#[derive(Clone, Debug)]
pub struct Attributes(Termios);

impl Attributes {
    /// Those of a terminal. ENOTTY: it is not one.
    pub fn of(terminal: BorrowedFd<'_>) -> Result<Attributes, Errno> {
        Ok(Attributes(termios::tcgetattr(terminal)?))
    }

    /// Applies them to a terminal, once its pending output has been sent.
    pub fn apply(&self, terminal: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(termios::tcsetattr(terminal, OptionalActions::Drain, &self.0)?)
    }

    /// Whether input arrives line by line, as when a shell starts a program.
    pub fn are_by_line(&self) -> bool {
        self.0.local_modes.contains(LocalModes::ICANON)
    }

    /// Raw mode: passes every byte on unchanged, immediately.
    #[must_use]
    pub fn raw(&self) -> Attributes {
        let mut raw = self.0.clone();
        raw.make_raw();
        Attributes(raw)
    }

    /// Raw mode for what is typed; output is treated as before.
    #[must_use]
    pub fn raw_input(&self) -> Attributes {
        let mut raw = self.raw();
        raw.0.output_modes = self.0.output_modes;
        raw
    }
}
