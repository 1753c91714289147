//! One call of a plugin: what it reads, what it may answer, and how long it may take.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::config::ProvidedMount;
use crate::config::units::Span;
use crate::sys::process::PollFlags;
use crate::sys::{file, pidfd, process, program};
use crate::{Error, Result};

/// The version of the protocol. A plugin refuses versions that it does not know.
pub const PROTOCOL: u32 = 1;

/// How much of an answer is read, in bytes.
const MOST: usize = 64 << 10;

/// How much of its standard error is kept: the end.
const COMPLAINT: usize = 4 << 10;

/// A minimal PATH, that of init(8), without the caller's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What remains of a plugin that has ended.
#[derive(Debug)]
pub struct Answer {
    status: ExitStatus,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

/// What it writes to its standard output. Keys of later versions are ignored.
#[derive(Debug, Default, Deserialize)]
pub struct Response {
    protocol: u32,
    error: Option<String>,
    /// For `check`: what exists, one line each.
    #[serde(default)]
    pub there: Vec<String>,
    /// For `provide`.
    #[serde(default)]
    pub mounts: Vec<ProvidedMount>,
    /// For `provide`.
    #[serde(default)]
    pub devices: Vec<NamedDevice>,
}

/// A device that is provided.
#[derive(Debug, Deserialize)]
pub struct NamedDevice {
    /// Its path inside.
    pub path: PathBuf,
    /// Its path on the host; `None`: the same.
    pub source: Option<PathBuf>,
}

/// Runs `program` with `input` on its standard input, in `/`, with an environment of two variables
/// and only the standard descriptors.
///
/// # Errors
/// It cannot be started, takes longer than `timeout`, or writes too much; it is then killed with
/// its whole process group.
pub fn call(program: &Path, input: &[u8], timeout: Duration) -> Result<Answer> {
    let mut command = program::new(program);
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program::apart(&mut command);
    let failed = |e: &std::io::Error| Error::io(format!("start {}", program.display()), e);
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let talked = talk(&mut child, input, Instant::now() + timeout, timeout);
    if talked.is_err() {
        program::kill_group(child.id());
    }
    let status = child.wait();
    let (output, complaint) = talked?;
    let status = status.map_err(|e| Error::io(format!("wait for {}", program.display()), &e))?;
    Ok(Answer { status, output, complaint })
}

/// Serves all pipes at the same time, so that neither side waits for the other, until the program
/// has ended. A process that it started in the background may keep its output open for longer.
fn talk(
    child: &mut Child,
    input: &[u8],
    deadline: Instant,
    timeout: Duration,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let pidfd = pidfd::open(child.id() as i32)
        .map_err(|errno| Error::os("open a pidfd of the plugin", errno))?;
    let mut stdin = child.stdin.take().map(|pipe| own(pipe.into())).transpose()?;
    let mut stdout = child.stdout.take().map(|pipe| own(pipe.into())).transpose()?;
    let mut stderr = child.stderr.take().map(|pipe| own(pipe.into())).transpose()?;
    let (mut sent, mut output, mut complaint) = (0, Vec::new(), Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(format!("timed out after {} and was killed", Span(timeout)))
                .hint("set GARTH_PLUGIN_TIMEOUT to allow more time"));
        }
        let wanted = [
            stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
            stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            Some((pidfd.as_fd(), PollFlags::IN)),
        ];
        // One millisecond more, so that the deadline has passed when the wait times out.
        let [_, _, _, ended] = process::ready(wanted, Some(left + Duration::from_millis(1)))
            .map_err(|errno| Error::os("wait for the plugin", errno))?;
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
        drain(&mut stdout, &mut output, MOST + 1)?;
        if output.len() > MOST {
            return Err(Error::new(format!("killed: its response exceeds {} KiB", MOST >> 10)));
        }
        drain(&mut stderr, &mut complaint, MOST)?;
        let cut = complaint.len().saturating_sub(COMPLAINT);
        complaint.drain(..cut);
        if !ended.is_empty() {
            return Ok((output, complaint));
        }
    }
}

fn own(pipe: OwnedFd) -> Result<File> {
    file::set_nonblocking(pipe.as_fd())
        .map_err(|errno| Error::os("make a pipe of the plugin nonblocking", errno))?;
    Ok(File::from(pipe))
}

/// Reads what is available, up to `most` bytes in all; drops the pipe at its end.
fn drain(pipe: &mut Option<File>, into: &mut Vec<u8>, most: usize) -> Result<()> {
    let mut buffer = [0; 4096];
    while let Some(file) = pipe
        && into.len() < most
    {
        match file.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => into.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read from the plugin", &error)),
        }
    }
    Ok(())
}

/// What a plugin has reported. With `must` it has to report something; a successful `del` or `add`
/// may be silent.
///
/// # Errors
/// It reported an error, or its answer made no sense.
pub fn read(must: bool, answer: &Answer) -> Result<Response> {
    let text = String::from_utf8_lossy(&answer.output);
    let text = text.trim();
    let response: Result<Response, _> = serde_json::from_str(text);
    let failed = !answer.status.success();
    match response {
        Ok(Response { error: Some(why), .. }) => Err(Error::new(shown(&why))),
        Ok(_) if failed => Err(Error::new(unspoken(answer))),
        Ok(response) if response.protocol != PROTOCOL => Err(Error::new(format!(
            "its response is of protocol {}, not {PROTOCOL}",
            response.protocol
        ))),
        Ok(mut response) => {
            response.there.iter_mut().for_each(|line| *line = shown(line));
            Ok(response)
        }
        Err(_) if failed => Err(Error::new(unspoken(answer))),
        Err(_) if text.is_empty() && !must => Ok(Response::default()),
        Err(_) if text.is_empty() => Err(Error::new("no response")),
        Err(error) => {
            let start: String = shown(text).chars().take(60).collect();
            Err(Error::new(format!("invalid response {start:?}: {error}")))
        }
    }
}

/// Why it failed, if its answer did not say: the last line it wrote to standard error.
fn unspoken(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.complaint);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).map(shown);
    let how = match (answer.status.code(), answer.status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "failed".to_owned(),
    };
    match last {
        Some(last) => format!("{last} ({how})"),
        None => format!("{how} without a message"),
    }
}

/// Makes text fit for one line of our output.
fn shown(text: &str) -> String {
    let text: String = text.trim().chars().take(500).collect();
    text.replace(char::is_control, " ")
}
