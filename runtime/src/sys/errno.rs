//! Error numbers with their names, as strace prints them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kernel error number (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Errno(pub i32);

impl Errno {
    /// The highest error number that a system call returns (the kernel's MAX_ERRNO).
    pub const HIGHEST: i32 = 4095;

    /// The symbolic name, `EPERM`; `E?` for a number without one.
    pub fn name(self) -> String {
        match nix::errno::Errno::from_raw(self.0) {
            nix::errno::Errno::UnknownErrno => "E?".to_owned(),
            known => format!("{known:?}"),
        }
    }

    /// strerror(3): `Operation not permitted`. Not nix's texts, of which 20 of 133 differ.
    pub fn words(self) -> String {
        let words = std::io::Error::from_raw_os_error(self.0).to_string();
        words.rsplit_once(" (os error").map_or(words.as_str(), |(words, _)| words).to_owned()
    }
}

impl fmt::Display for Errno {
    /// `EPERM (Operation not permitted)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.words())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_name_of_the_kernel_and_the_words_of_the_libc() {
        assert_eq!(Errno(libc::EPERM).to_string(), "EPERM (Operation not permitted)");
        assert_eq!(Errno(libc::EOPNOTSUPP).to_string(), "EOPNOTSUPP (Operation not supported)");
        assert_eq!(Errno(libc::ENOLCK).to_string(), "ENOLCK (No locks available)");
        assert_eq!(Errno(4000).name(), "E?");
    }
}
