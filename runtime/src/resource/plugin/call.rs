//! One call of a plugin: what it reads, what it may answer, and how long it may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::units::Span;
use crate::config::{ProvidedMount, USUAL_PATH};
use crate::sys::program;
use crate::sys::run::{self, Finished, Orphan, Unfinished, one_line};
use crate::{Error, Result};

/// The version of the protocol. A plugin refuses versions that it does not know.
pub const PROTOCOL: u32 = 1;

/// How much of an answer is read, in bytes.
const MOST: usize = 64 << 10;

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
pub fn call(program: &Path, input: &[u8], timeout: Duration) -> Result<Finished> {
    let mut command = program::new(program);
    command.env_clear().env("PATH", USUAL_PATH).env("LANG", "C.UTF-8").current_dir("/");
    run::to_its_end(command, input, timeout, MOST, Orphan::Dies).map_err(|why| match why {
        Unfinished::NotStarted(errno) => Error::os(format!("start {}", program.display()), errno),
        Unfinished::TimedOut => {
            Error::new(format!("timed out after {} and was killed", Span(timeout)))
                .hint("set GARTH_PLUGIN_TIMEOUT to allow more time")
        }
        Unfinished::TooLong => {
            Error::new(format!("killed: its response exceeds {} KiB", MOST >> 10))
        }
        Unfinished::Os(doing, errno) => Error::os(format!("plugin: {doing}"), errno),
    })
}

/// What a plugin has reported. With `must` it has to report something; a successful `del` or `add`
/// may be silent.
///
/// # Errors
/// It reported an error, or its answer made no sense.
pub fn read(must: bool, answer: &Finished) -> Result<Response> {
    let text = String::from_utf8_lossy(&answer.output);
    let text = text.trim();
    let response: Result<Response, _> = serde_json::from_str(text);
    let failed = !answer.status.success();
    match response {
        Ok(Response { error: Some(why), .. }) => Err(Error::new(one_line(&why))),
        Ok(_) if failed => Err(Error::new(answer.complaint())),
        Ok(response) if response.protocol != PROTOCOL => Err(Error::new(format!(
            "its response is of protocol {}, not {PROTOCOL}",
            response.protocol
        ))),
        Ok(mut response) => {
            response.there.iter_mut().for_each(|line| *line = one_line(line));
            Ok(response)
        }
        Err(_) if failed => Err(Error::new(answer.complaint())),
        Err(_) if text.is_empty() && !must => Ok(Response::default()),
        Err(_) if text.is_empty() => Err(Error::new("no response")),
        Err(error) => {
            let start: String = one_line(text).chars().take(60).collect();
            Err(Error::new(format!("invalid response {start:?}: {error}")))
        }
    }
}
