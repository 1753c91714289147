//! The caller's terminal in front of that of a command which runs detached, for as long as it likes.
//!
//! The keeper remains the only reader of the command's terminal: it writes the log, and sends a copy
//! over a socket, no faster than that is read. What is typed goes to the terminal itself.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::detach_keys::DetachKeys;
use super::relay::{Caller, Raw, Wire, copy, incoming, waiting};
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::sys::process::{self, PollFlags, Signals};
use crate::sys::terminal;

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The keys for it were typed.
    Left,
    /// The caller's terminal is gone, or this signal asked to end.
    Interrupted(i32),
    /// There is no more output.
    Closed,
}

/// Copies between the caller's terminal and `terminal`, of which the output comes from `output`.
///
/// # Errors
/// The kernel cannot wait.
pub fn attach(
    terminal: Terminal,
    output: File,
    mut leave: DetachKeys,
    caller: &Caller,
    signals: &Signals,
) -> Result<AttachEnd> {
    let stops = Signals::block_stops().map_err(|errno| Error::os("block signals", errno))?;
    let returns = Returns::on(&terminal)?;
    let mut line = Wire::between(terminal, output)?;
    let mut raw = Raw::enter(caller);
    line.redraw(caller);
    let end = 'copied: loop {
        let [gone, keys, input, output, screen] = line.wants(caller);
        let [news, stop] = [signals.as_fd(), stops.as_fd()].map(incoming);
        let [news, stop, gone, keys, input, output, screen] =
            process::ready([news, stop, gone, keys, input, output, screen], None)
                .map_err(waiting)?;
        let there = |events: PollFlags| !events.is_empty();
        while there(news)
            && let Some(arrived) = signals.next()
        {
            match arrived.signal {
                libc::SIGWINCH => line.resize(caller),
                // Typed before the caller's terminal was in raw mode.
                signal if arrived.from_kernel && line.key(signal) => {}
                signal if arrived.asks_to_end() => {
                    break 'copied AttachEnd::Interrupted(signal);
                }
                _ => {}
            }
        }
        while there(stop)
            && let Some(arrived) = stops.next()
        {
            if arrived.from_kernel && line.key(arrived.signal) {
                continue;
            }
            if arrived.signal == libc::SIGTSTP {
                raw.leave();
                process::stop();
            } else {
                raw.enter_again();
                line.redraw(caller);
            }
        }
        if there(keys) && raw.is_on() {
            let open = line.typed.read();
            if leave.take_from(&mut line.typed.held) {
                break AttachEnd::Left;
            }
            if !open {
                break AttachEnd::Interrupted(libc::SIGHUP);
            }
        }
        // A terminal that nothing reads from loses what is typed.
        let _ = there(input) && line.typed.write();
        if there(output) && !line.shown.read() {
            break AttachEnd::Closed;
        }
        if there(gone) || there(screen) && !line.shown.write() {
            break AttachEnd::Interrupted(libc::SIGHUP);
        }
    };
    drop(returns);
    match end {
        AttachEnd::Closed => line.finish(signals)?,
        // What was typed before the keys to leave.
        AttachEnd::Left => drop(line.typed.write()),
        AttachEnd::Interrupted(_) => {}
    }
    Ok(end)
}

/// While this lives, lines of the output begin at the left of the screen. Otherwise there are no
/// carriage returns in it, as it goes to the log alone.
struct Returns(OwnedFd);

impl Returns {
    fn on(terminal: &Terminal) -> Result<Returns> {
        let terminal = copy(terminal.as_fd())?;
        let _ = terminal::carriage_returns(terminal.as_raw_fd(), true);
        Ok(Returns(terminal))
    }
}

impl Drop for Returns {
    fn drop(&mut self) {
        let _ = terminal::carriage_returns(self.0.as_raw_fd(), false);
    }
}
