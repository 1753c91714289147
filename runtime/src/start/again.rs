//! A second start of this program, for what the first cannot do: look after a sandbox while its
//! caller does other things or after it has exited, and execute untrusted programs where this
//! program's file could be written through the process that starts out as this program
//! (`start/seal.rs`).
//!
//! The second start gets a word and an order (a sealed file), and replies over a channel: first
//! descriptors, then the answer in another sealed file.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FileAction, Process, Spawn, seal};
use crate::error::{Error, Result};
use crate::sys::channel::{self, Message};
use crate::sys::process::Ended;
use crate::sys::{again, file};

pub use crate::sys::again::NAME;

/// The kinds of messages on the channel; each carries a descriptor.
const DESCRIPTOR: u32 = 1;
const ANSWER: u32 = 2;

/// Whether a second start is possible. It is not for a library loaded by another program.
pub fn is_possible() -> bool {
    again::is_possible(crate::at_program_start)
}

/// How it runs.
pub struct Again<'a> {
    /// What it is to do.
    pub word: &'a str,
    /// This many descriptors, from 3 on, are for the sandbox.
    pub listen_fds: u16,
    /// Whether the program's file must not be writable through it.
    pub protected: bool,
    /// Everything else, such as where its output goes.
    pub spawn: Spawn,
}

/// A second start that has been given its order.
pub struct Ordered {
    /// Its process.
    pub process: Process,
    channel: OwnedFd,
}

impl Again<'_> {
    /// Starts it with its order.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn order(self, order: &impl Serialize) -> Result<Ordered> {
        let order = written(order)?;
        let (channel, theirs) =
            channel::pair().map_err(|errno| Error::os("create a socket pair", errno))?;
        let own = match self.protected && !seal::is_protected() {
            true => Some(seal::protected_program()?),
            false => None,
        };
        let program = match &own {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()),
            None => "/proc/self/exe".into(),
        };
        // The sockets of socket activation stay where they are; the others come after them.
        let first = 3 + RawFd::from(self.listen_fds);
        let sockets = (3..first).map(|fd| (fd, fd));
        // A copy must not overwrite a descriptor that is yet to be copied.
        let far = |fd: OwnedFd| match fd.as_raw_fd() > first + 1 {
            true => Ok(fd),
            false => file::copy_from(fd.as_fd(), first + 2)
                .map_err(|errno| Error::os("copy a descriptor", errno)),
        };
        let (order, theirs) = (far(order)?, far(theirs)?);
        let files = sockets.chain([(order.as_raw_fd(), first), (theirs.as_raw_fd(), first + 1)]);
        let words = [program.into(), self.word.into(), first.to_string().into()];
        let spawn = Spawn {
            command: words.into_iter().collect(),
            arg0: Some(NAME.to_string_lossy().into_owned().into()),
            files: files.map(|(from, to)| FileAction::Copy { from, to }).collect(),
            ..self.spawn
        };
        let spawned = spawn.spawn().map_err(|e| e.within("start this program again"))?;
        Ok(Ordered { process: spawned.process, channel })
    }
}

impl Ordered {
    /// Its answer, and the descriptors that came before it. `who` is its role, for errors.
    ///
    /// # Errors
    /// It ended without an answer, or the answer cannot be read.
    pub fn answer<T: DeserializeOwned>(&self, who: &str) -> Result<(Result<T>, Vec<OwnedFd>)> {
        let failed = |errno| Error::os(format!("receive from {who}"), errno);
        let mut descriptors = Vec::new();
        while let Some(heard) = channel::receive(self.channel.as_fd()).map_err(failed)? {
            match (heard.message.kind, heard.descriptor) {
                (DESCRIPTOR, Some(descriptor)) => descriptors.push(descriptor),
                (ANSWER, Some(descriptor)) => {
                    // The channel closes when it has exited or executed another program.
                    while channel::receive(self.channel.as_fd()).map_err(failed)?.is_some() {}
                    return Ok((read(descriptor)?, descriptors));
                }
                _ => break,
            }
        }
        self.process.kill();
        let how = match self.process.wait()? {
            // It has forked (`sys/process.rs`, leave_parent), and its child is gone.
            Ended::Exited(0) => "was killed".into(),
            Ended::Exited(code) => format!("exited {code}"),
            Ended::Killed(signal) => format!("was killed by signal {signal}"),
        };
        Err(Error::new(format!("{who} {how} before it had finished")))
    }
}

/// In a second start: the order, and where to send the answer.
///
/// # Errors
/// The arguments are not those of a second start.
pub fn take<T: DeserializeOwned>(words: &[OsString]) -> Result<(T, Reply)> {
    let first = words.first().and_then(|word| word.to_str()?.parse::<RawFd>().ok());
    let first = first.filter(|fd| *fd >= 3 && file::is_inherited(*fd));
    let first = first.ok_or_else(|| Error::new("no order for this start of the program"))?;
    let [order, channel] = [first, first + 1].map(file::inherited);
    let failed = |errno| Error::os("receive an order", errno);
    Ok((read(order.map_err(failed)?)?, Reply(channel.map_err(failed)?)))
}

/// Where an answer goes.
pub struct Reply(OwnedFd);

impl Reply {
    /// Passes a descriptor.
    ///
    /// # Errors
    /// The first start is gone.
    pub fn pass(&self, descriptor: &impl AsRawFd) -> Result<()> {
        self.send(DESCRIPTOR, descriptor.as_raw_fd())
    }

    /// Sends the answer, the last message.
    ///
    /// # Errors
    /// The first start is gone.
    pub fn answer(&self, answer: &Result<impl Serialize>) -> Result<()> {
        self.send(ANSWER, written(answer)?.as_raw_fd())
    }

    fn send(&self, kind: u32, descriptor: RawFd) -> Result<()> {
        let sent =
            channel::tell_descriptor(self.0.as_raw_fd(), Message { kind, value: 0 }, descriptor);
        sent.map_err(|errno| Error::os("answer the first start of this program", errno))
    }
}

fn written(value: &impl Serialize) -> Result<OwnedFd> {
    let text = serde_json::to_vec(value).map_err(|e| Error::new(format!("write an order: {e}")))?;
    file::sealed(c"garth-order", &text, 0o400)
        .map_err(|errno| Error::os("create a file for an order", errno))
}

fn read<T: DeserializeOwned>(file: OwnedFd) -> Result<T> {
    let failed = |e: &std::io::Error| Error::io("read an order", e);
    let file = File::from(file);
    let mut text = vec![0; file.metadata().map_err(|e| failed(&e))?.len() as usize];
    file.read_exact_at(&mut text, 0).map_err(|e| failed(&e))?;
    serde_json::from_slice(&text).map_err(|e| Error::new(format!("read an order: {e}")))
}
