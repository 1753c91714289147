//! One error type for the whole project: what was being done, what went wrong, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sys::Errno;

/// `Result` with the project's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller decides by; everything else is in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself is wrong or cannot be met here.
    Refused,
    /// The command to run does not exist (exit code 127).
    NotFound,
    /// The command exists but cannot be executed (exit code 126).
    NotExecutable,
    /// A container is in another state than the request needs: not running, not paused, not created.
    WrongState,
}

/// A failure in one line: `what was being done: cause; hint`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    doing: String,
    errno: Option<Errno>,
    hint: Option<String>,
    kind: Kind,
}

impl Error {
    /// The request is wrong; `what` says which part and why, in lower case, without a full stop.
    pub fn new(what: impl Into<String>) -> Error {
        Error { doing: what.into(), errno: None, hint: None, kind: Kind::Refused }
    }

    /// The kernel refused: `doing` names the operation and its object.
    pub fn os(doing: impl Into<String>, errno: Errno) -> Error {
        Error { doing: doing.into(), errno: Some(errno), hint: None, kind: Kind::Refused }
    }

    /// A `std::io` operation failed.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(n) => Error::os(doing.to_string(), Errno(n)),
            None => Error::new(format!("{doing}: {error}")),
        }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what another program said about it: `what was being done: reason`.
    #[must_use]
    pub fn because(mut self, reason: impl fmt::Display) -> Error {
        self.doing = match self.errno.take() {
            Some(errno) => format!("{}: {errno}: {reason}", self.doing),
            None => format!("{}: {reason}", self.doing),
        };
        self
    }

    /// Puts `context` in front: `context: what was being done: ...`.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Error {
        self.doing = format!("{context}: {}", self.doing);
        self
    }

    /// Says what kind of failure it is.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }

    /// The kind a caller decides by.
    pub fn get_kind(&self) -> Kind {
        self.kind
    }

    /// The kernel's error number, if the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
