//! The caller's terminal in front of a command's: while the command runs, the caller's is in raw
//! mode and the bytes are copied both ways. It is given back as it was at the end, before this
//! process stops, and by unwinding.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::terminal::{Terminal, Window};
use crate::error::{Error, Result};
use crate::sys::process::{self, Arrived, PollFlags, Signals};
use crate::sys::terminal::{self, Attributes};
use crate::sys::{Errno, file};

/// The caller's terminal. Keys are read from standard input and the output goes to standard output,
/// which need not be that terminal.
#[derive(Debug)]
pub struct Caller {
    terminal: OwnedFd,
}

impl Caller {
    /// This terminal.
    pub fn at(terminal: OwnedFd) -> Caller {
        Caller { terminal }
    }

    /// The terminal on standard input.
    ///
    /// # Errors
    /// Standard input is not a terminal.
    pub fn at_stdin() -> Result<Caller> {
        if !stdin().is_terminal() {
            return Err(Error::new("-t: the input device is not a TTY")
                .hint("leave -t out: a file or a pipe is passed on as it is"));
        }
        copy(stdin().as_fd()).map(Caller::at)
    }

    /// What the command's terminal should look like. If the output does not go to a terminal, its
    /// reader wants lines as the command wrote them.
    pub fn window(&self) -> Window {
        let size = terminal::size(self.terminal.as_raw_fd()).ok();
        Window { size, plain_lines: !stdout().is_terminal() }
    }

    fn is_hung_up(&self) -> bool {
        terminal::is_hung_up(self.terminal.as_raw_fd()).unwrap_or(false)
    }
}

/// Copies until the process behind `process` has ended, which stays to be reaped. Signals are
/// passed to `deliver`, except SIGCHLD and those that concern the terminals only. If the caller's
/// terminal hangs up, or the reader of the output is gone, the command's terminal hangs up.
///
/// # Errors
/// The kernel cannot wait.
pub fn relay(
    terminal: Terminal,
    caller: &Caller,
    process: BorrowedFd<'_>,
    signals: &Signals,
    deliver: &dyn Fn(Arrived),
) -> Result<()> {
    let stops = Signals::block_stops().map_err(|errno| Error::os("block signals", errno))?;
    let mut line = Some(Wire::new(terminal)?);
    let mut raw = Raw::enter(caller);
    line.iter().for_each(|line| line.resize(caller));
    loop {
        let [gone, keys, input, output, screen] = match &line {
            Some(line) => line.wants(caller),
            None => [None; 5],
        };
        let [end, news, stop] = [process, signals.as_fd(), stops.as_fd()].map(incoming);
        let [ended, news, stop, gone, keys, input, output, screen] =
            process::ready([end, news, stop, gone, keys, input, output, screen], None)
                .map_err(waiting)?;
        while !news.is_empty()
            && let Some(arrived) = signals.next()
        {
            match arrived.signal {
                libc::SIGCHLD => {}
                libc::SIGWINCH => line.iter().for_each(|line| line.resize(caller)),
                libc::SIGHUP if caller.is_hung_up() => line = None,
                // Typed before the caller's terminal was in raw mode.
                signal if arrived.from_kernel && line.as_ref().is_some_and(|l| l.key(signal)) => {}
                _ => deliver(arrived),
            }
        }
        while !stop.is_empty()
            && let Some(arrived) = stops.next()
        {
            let key = |line: &Wire| arrived.from_kernel && line.key(arrived.signal);
            if line.as_ref().is_some_and(key) {
                continue;
            }
            if arrived.signal == libc::SIGTSTP {
                raw.leave();
                process::stop();
            } else {
                raw.enter_again();
                line.iter().for_each(|line| line.resize(caller));
            }
        }
        let there = |events: PollFlags| !events.is_empty();
        let copied = line.as_mut().is_none_or(|line| {
            let typed = !there(keys) || !raw.is_on() || line.typed.read();
            // A terminal that nothing reads from loses what is typed.
            let _ = there(input) && line.typed.write();
            let _ = there(output) && line.shown.read();
            (typed || !stdin().is_terminal()) && (!there(screen) || line.shown.write())
        });
        if there(gone) || !copied {
            line = None;
        }
        if line.is_none() {
            raw.leave();
        }
        if there(ended) {
            return line.map_or(Ok(()), |line| line.finish(signals));
        }
    }
}

pub(super) fn incoming(fd: BorrowedFd<'_>) -> Option<(BorrowedFd<'_>, PollFlags)> {
    Some((fd, PollFlags::IN))
}

pub(super) fn waiting(errno: Errno) -> Error {
    Error::os("wait for the command", errno)
}

pub(super) fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|e| Error::io("copy the descriptor of a terminal", &e))
}

/// The caller's terminal in raw mode.
pub(super) struct Raw<'a> {
    caller: &'a Caller,
    /// How to give it back.
    before: Option<Attributes>,
    on: bool,
}

impl Raw<'_> {
    pub fn enter(caller: &Caller) -> Raw<'_> {
        let mut raw = Raw { caller, before: None, on: false };
        raw.take();
        raw
    }

    /// In the background, this stops the process until it is continued in the foreground (SIGTTOU).
    fn take(&mut self) {
        let terminal = self.caller.terminal.as_fd();
        let Ok(now) = Attributes::of(terminal) else { return };
        // After SIGSTOP it may still be as we left it.
        if self.before.is_none() || now.are_by_line() {
            self.before = Some(now);
        }
        let raw = |before: &Attributes| match stdout().is_terminal() {
            true => before.raw(),
            // What is on the screen is written by others, such as the reader of our output.
            false => before.raw_input(),
        };
        self.on = self.before.as_ref().is_some_and(|before| raw(before).apply(terminal).is_ok());
    }

    /// After this process was stopped and continued, perhaps in the background.
    pub fn enter_again(&mut self) {
        self.on = false;
        if terminal::is_in_foreground(self.caller.terminal.as_fd()) {
            self.take();
        }
    }

    /// Whether keys arrive as they are typed. A job that was continued in the background may be in
    /// the foreground by now, of which it is not told.
    pub fn is_on(&mut self) -> bool {
        if self.on {
            return true;
        }
        self.take();
        // If it cannot be taken, reading says why.
        !self.on
    }

    /// Gives it back, unless that has been done already by a shell that took it.
    pub fn leave(&mut self) {
        let terminal = self.caller.terminal.as_fd();
        if let Some(before) = self.before.as_ref().filter(|_| self.on)
            && terminal::is_in_foreground(terminal)
        {
            let _ = before.apply(terminal);
        }
        self.on = false;
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Both directions.
pub(super) struct Wire {
    terminal: Terminal,
    pub typed: Flow,
    pub shown: Flow,
    /// While this is open, the master can be read even if the command has closed its side.
    _peer: Option<OwnedFd>,
}

impl Wire {
    fn new(terminal: Terminal) -> Result<Wire> {
        let (output, _peer) = (copy(terminal.as_fd())?, terminal.peer().ok());
        Ok(Wire { _peer, ..Wire::between(terminal, output.into())? })
    }

    /// With output that does not come from the master.
    pub fn between(terminal: Terminal, output: File) -> Result<Wire> {
        let failed = |errno| Error::os("prepare the terminal", errno);
        file::set_nonblocking(terminal.as_fd()).map_err(failed)?;
        file::set_nonblocking(output.as_fd()).map_err(failed)?;
        let keys = copy(stdin().as_fd())?.into();
        let screen = match screen() {
            Some(screen) => screen,
            None => copy(stdout().as_fd())?.into(),
        };
        let typed = Flow::new(keys, copy(terminal.as_fd())?.into());
        Ok(Wire { terminal, typed, shown: Flow::new(output, screen), _peer: None })
    }

    /// What to poll for: a hang-up, and both ends of both directions.
    pub fn wants<'a>(&'a self, caller: &'a Caller) -> [Option<(BorrowedFd<'a>, PollFlags)>; 5] {
        let ([keys, input], [output, screen]) = (self.typed.wants(), self.shown.wants());
        let gone = Some((caller.terminal.as_fd(), PollFlags::empty()));
        [gone, keys, input, output, screen]
    }

    pub fn resize(&self, caller: &Caller) {
        if let Some((columns, rows)) = caller.window().size {
            let _ = self.terminal.resize(columns, rows);
        }
    }

    /// The same, and tells a program that fills the screen to draw it, even if the size is what it
    /// was: another size comes before.
    pub fn redraw(&self, caller: &Caller) {
        if let Some((columns, rows)) = caller.window().size {
            let _ = self.terminal.resize(columns, rows.saturating_add(1));
        }
        self.resize(caller);
    }

    /// Has the effect of a key: ^C, ^\ or ^Z. False: the signal is of another kind.
    pub fn key(&self, signal: i32) -> bool {
        let keys = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP];
        keys.contains(&signal) && terminal::signal(self.terminal.as_fd(), signal).is_ok()
    }

    /// Shows what the command wrote last. Its reader may take its time, until a signal asks this
    /// process to end.
    pub fn finish(mut self, signals: &Signals) -> Result<()> {
        loop {
            let [output, screen] = self.shown.wants();
            let idle = screen.is_none().then_some(Duration::ZERO);
            // poll(2) on a master first flushes what is in transit.
            let [news, output, screen] =
                process::ready([incoming(signals.as_fd()), output, screen], idle)
                    .map_err(waiting)?;
            while !news.is_empty()
                && let Some(arrived) = signals.next()
            {
                if arrived.asks_to_end() {
                    return Ok(());
                }
            }
            let goes_on = match (output.is_empty(), screen.is_empty()) {
                (false, _) => self.shown.read(),
                (_, false) => self.shown.write(),
                _ => idle.is_none(),
            };
            if !goes_on {
                return Ok(());
            }
        }
    }
}

/// Standard output as an open file of its own, if it is a terminal: writing to that must not wait
/// for its reader, and the caller's other programs must not notice.
fn screen() -> Option<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", stdout().as_raw_fd());
    let open = || File::options().write(true).custom_flags(flags).open(path).ok();
    stdout().is_terminal().then(open).flatten()
}

/// What a pipe that is ready takes without blocking (PIPE_BUF in pipe(7)).
const PIECE: usize = 4096;

/// One direction: what was read and not yet written.
pub(super) struct Flow {
    from: File,
    to: File,
    pub held: Vec<u8>,
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

    /// Reads a piece; false at the end.
    pub fn read(&mut self) -> bool {
        let mut piece = [0; PIECE];
        match self.from.read(&mut piece) {
            // Reading a master whose terminal is no longer open anywhere fails with EIO.
            Ok(0) => self.open = false,
            Ok(count) => self.held.extend_from_slice(&piece[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.open = false,
        }
        self.open
    }

    /// Writes a piece; false if nothing reads there any more.
    pub fn write(&mut self) -> bool {
        let end = self.held.len().min(PIECE);
        match self.to.write(&self.held[..end]) {
            Ok(count) => drop(self.held.drain(..count)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                self.held.clear();
                return false;
            }
        }
        true
    }
}
