//! Files that only the command finds: `--secret FILE[:NAME]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Access, Mount, MountKind, MountOwner, Size};
use crate::error::{Error, Result};

/// Where the command finds its secrets.
pub const SECRETS: &str = "/run/secrets";
/// The largest secret, and the most of all together, in bytes.
pub const MOST: u64 = 1 << 20;

/// A file of the host that is copied to a tmpfs of the sandbox alone, where only the command's user
/// can read it. Its contents are never on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The file; it is read with the caller's rights when the sandbox is started.
    #[serde(with = "super::os_path")]
    pub file: PathBuf,
    /// Its name below /run/secrets.
    pub name: String,
}

impl Secret {
    /// `FILE`, or `FILE:NAME`.
    ///
    /// # Errors
    /// There is no file, or the name is no file name.
    pub fn parse(text: &OsStr) -> Result<Secret> {
        let bytes = text.as_bytes();
        let (file, name) = match bytes.iter().rposition(|byte| *byte == b':') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let file = Path::new(OsStr::from_bytes(file));
        let wrong = |why: &str| {
            Error::new(format!("--secret {}: {why}", text.display()))
                .hint("write FILE or FILE:NAME")
        };
        let name = name.or_else(|| file.file_name().map(OsStr::as_bytes));
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        let is_name = |name: &&str| !["", ".", ".."].contains(name) && !name.contains(['/', '\0']);
        match name.filter(is_name) {
            _ if file.as_os_str().is_empty() => Err(wrong("no file")),
            Some(name) => Ok(Secret { file: file.into(), name: name.to_owned() }),
            None => Err(wrong("its name is no file name")),
        }
    }

    /// Where they all are.
    pub fn mount() -> Mount {
        Mount {
            target: SECRETS.into(),
            kind: MountKind::Tmpfs {
                size: Some(Size(2 * MOST)),
                mode: Some(0o500),
                owner: MountOwner::User,
            },
            access: Access { nosuid: true, nodev: true, noexec: true, read_only: false },
            optional: false,
            origin: "--secret".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_file_and_a_name() {
        let parse = |text: &str| Secret::parse(OsStr::new(text));
        let secret = |file: &str, name: &str| Secret { file: file.into(), name: name.into() };
        assert_eq!(parse("/etc/key").unwrap(), secret("/etc/key", "key"));
        assert_eq!(parse("key:tls.pem").unwrap(), secret("key", "tls.pem"));
        assert_eq!(parse("/a:b/c:d").unwrap(), secret("/a:b/c", "d"));
        for odd in ["", ":x", "/", "key:", "key:..", "key:a/b", ".."] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }
}
