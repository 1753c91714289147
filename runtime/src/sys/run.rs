//! Runs a program to its end, within a time, with little of its output kept: for programs that are
//! a part of an operation, as plugins and mdadm(8) are.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::process::{self, PollFlags};
use super::{Errno, file, pidfd, program};

/// How much of the standard error is kept: the end.
const COMPLAINT: usize = 4 << 10;

/// How much a pipe holds (pipe(7), since Linux 2.6.11), in bytes: nothing more is left to read of a
/// program that has ended.
const PIPE: usize = 64 << 10;

/// What remains of a program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: Vec<u8>,
    /// The end of its standard error.
    pub complaint: Vec<u8>,
}

/// Why there is no [`Finished`].
#[derive(Debug)]
pub enum Unfinished {
    /// It could not be started.
    NotStarted(Errno),
    /// It took too long, and was killed.
    TimedOut,
    /// It wrote more to its standard output than allowed, and was killed.
    TooLong,
    /// It could not be watched, and was killed.
    Os(&'static str, Errno),
}

/// What becomes of a program if we end before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It is killed.
    Dies,
    /// It comes to its own end: for one that leaves a mess if it is killed.
    Finishes,
}

/// Runs `command`, made by [`program::new`], with `input` on its standard input and up to `most`
/// bytes on its standard output. If it does not end by itself it is killed with its whole process
/// group.
///
/// # Errors
/// See [`Unfinished`].
pub fn to_its_end(
    mut command: Command,
    input: &[u8],
    timeout: Duration,
    most: usize,
    orphan: Orphan,
) -> Result<Finished, Unfinished> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program::apart(&mut command);
    match orphan {
        Orphan::Dies => program::with_us(&mut command),
        Orphan::Finishes => program::to_its_end(&mut command),
    }
    let mut child = command.spawn().map_err(|error| Unfinished::NotStarted(error.into()))?;
    let talked = talk(&mut child, input, Instant::now() + timeout, most);
    if talked.is_err() {
        program::kill_group(child.id());
    }
    let status = child.wait();
    let (output, complaint) = talked?;
    let status = status.map_err(|error| Unfinished::Os("wait for it", error.into()))?;
    Ok(Finished { status, output, complaint })
}

impl Finished {
    /// Why it failed: the last line it wrote to standard error, and how it ended.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.complaint);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).map(one_line);
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (_, Some(signal)) => format!("killed by signal {signal}"),
            _ => "failed".to_owned(),
        };
        match last {
            Some(last) => format!("{last} ({how})"),
            None => format!("{how} without a message"),
        }
    }
}

/// Makes text fit for one line of our output.
pub fn one_line(text: &str) -> String {
    let text: String = text.trim().chars().take(500).collect();
    text.replace(char::is_control, " ")
}

/// Serves all pipes at the same time, so that neither side waits for the other, until the program
/// has ended. A process that it started in the background may keep its output open for longer.
fn talk(
    child: &mut Child,
    input: &[u8],
    deadline: Instant,
    most: usize,
) -> Result<(Vec<u8>, Vec<u8>), Unfinished> {
    let failed = |doing| move |errno| Unfinished::Os(doing, errno);
    let pidfd = pidfd::open(child.id() as i32).map_err(failed("open its pidfd"))?;
    let own = |pipe: OwnedFd| own(pipe).map_err(failed("make its pipe nonblocking"));
    let mut stdin = child.stdin.take().map(|pipe| own(pipe.into())).transpose()?;
    let mut stdout = child.stdout.take().map(|pipe| own(pipe.into())).transpose()?;
    let mut stderr = child.stderr.take().map(|pipe| own(pipe.into())).transpose()?;
    let (mut sent, mut output, mut complaint) = (0, Vec::new(), Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unfinished::TimedOut);
        }
        let wanted = [
            stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
            stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            Some((pidfd.as_fd(), PollFlags::IN)),
        ];
        // One millisecond more, so that the deadline has passed when the wait times out.
        let [_, _, _, ended] = process::ready(wanted, Some(left + Duration::from_millis(1)))
            .map_err(failed("wait for it"))?;
        if let Some(file) = &mut stdin {
            match file.write(&input[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It does not read its input.
                Err(_) => sent = input.len(),
            }
            if sent == input.len() {
                stdin = None;
            }
        }
        let failed = failed("read from it");
        drain(&mut stdout, &mut output, most + 1).map_err(failed)?;
        if output.len() > most {
            return Err(Unfinished::TooLong);
        }
        drain_end(&mut stderr, &mut complaint).map_err(failed)?;
        if !ended.is_empty() {
            return Ok((output, complaint));
        }
    }
}

fn own(pipe: OwnedFd) -> Result<File, Errno> {
    file::set_nonblocking(pipe.as_fd())?;
    Ok(File::from(pipe))
}

/// Reads what is available, up to `most` bytes in all; drops the pipe at its end.
fn drain(pipe: &mut Option<File>, into: &mut Vec<u8>, most: usize) -> Result<(), Errno> {
    let mut buffer = [0; 4096];
    while let Some(file) = pipe
        && into.len() < most
    {
        match file.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => into.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads what is available and keeps the end of it: all that a program which has ended left in the
/// pipe is read.
fn drain_end(pipe: &mut Option<File>, end: &mut Vec<u8>) -> Result<(), Errno> {
    drain(pipe, end, COMPLAINT + PIPE)?;
    let cut = end.len().saturating_sub(COMPLAINT);
    end.drain(..cut);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{COMPLAINT, PIPE, drain_end, own};

    #[test]
    fn the_end_of_a_full_pipe_is_read() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut reader = Some(own(reader.into()).unwrap());
        let mut end = vec![b'x'; COMPLAINT];
        writer.write_all(&vec![b'x'; PIPE - 4]).unwrap();
        writer.write_all(b"end\n").unwrap();
        drain_end(&mut reader, &mut end).unwrap();
        assert!(end.ends_with(b"end\n"));
        assert_eq!(end.len(), COMPLAINT);
    }
}
