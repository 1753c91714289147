//! The command line that containerd uses: flags in Go's syntax (`-id x`, `--id=x`), then a verb.

use std::ffi::OsString;
use std::path::PathBuf;

use garth::{Error, Result};

/// What containerd passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The namespace of containerd in which the container is.
    pub namespace: String,
    /// The container's id, which names the shim as well.
    pub id: String,
    /// containerd's own socket.
    pub address: String,
    /// The bundle, for `delete`.
    pub bundle: PathBuf,
    /// Log more.
    pub debug: bool,
    /// What to do.
    pub action: Action,
}

/// For who runs this by hand.
const STARTED_BY: &str =
    "this is a runtime of containerd, which starts it: ctr run --runtime io.containerd.garth.v1";

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve at the socket that was inherited.
    #[default]
    Serve,
    /// Start a shim, or find the one of this pod, and say where it serves.
    Start,
    /// Clean up after a shim that is gone.
    Delete,
    /// Print the version.
    Version,
    /// Print what this runtime can do, as a RuntimeInfo.
    Info,
}

impl Flags {
    /// Parses them.
    ///
    /// # Errors
    /// An unknown flag or verb, a flag without a value, or no namespace or id where one is needed.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Flags> {
        let mut flags = Flags::default();
        let mut words = words.into_iter().map(|word| {
            word.into_string().map_err(|word| Error::new(format!("{word:?} is not UTF-8")))
        });
        while let Some(word) = words.next() {
            let word = word?;
            let Some(flag) = word.strip_prefix('-') else {
                flags.action = verb(&word)?;
                // Go's parser ends here, too.
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut value = || match value.clone() {
                Some(value) => Ok(value),
                None => {
                    words.next().unwrap_or_else(|| Err(Error::new(format!("-{name}: no value"))))
                }
            };
            match name {
                "namespace" => flags.namespace = value()?,
                "id" => flags.id = value()?,
                "address" => flags.address = value()?,
                "bundle" => flags.bundle = value()?.into(),
                // Events go to TTRPC_ADDRESS; the socket is inherited.
                "publish-binary" | "socket" | "debug-socket" => drop(value()?),
                "debug" => flags.debug = true,
                "v" | "version" => flags.action = Action::Version,
                "info" => flags.action = Action::Info,
                _ => return Err(Error::new(format!("-{name}: unknown flag"))),
            }
        }
        let names = !matches!(flags.action, Action::Version | Action::Info);
        if names && flags.namespace.is_empty() {
            return Err(Error::new("-namespace: missing or empty").hint(STARTED_BY));
        }
        if names && flags.id.is_empty() {
            return Err(Error::new("-id: missing or empty").hint(STARTED_BY));
        }
        Ok(flags)
    }
}

fn verb(word: &str) -> Result<Action> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        _ => Err(Error::new(format!("{:?}: unknown verb", word.escape_debug().to_string()))
            .hint(STARTED_BY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags> {
        Flags::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_are_those_of_go() {
        let line = "-namespace default --address=/run/c.sock -publish-binary /usr/bin/containerd -id one -debug start";
        let flags = parse(line).unwrap();
        let expected = Flags {
            namespace: "default".into(),
            id: "one".into(),
            address: "/run/c.sock".into(),
            debug: true,
            action: Action::Start,
            ..Flags::default()
        };
        assert_eq!(flags, expected);
        let flags = parse("-namespace n -id one -bundle /b delete").unwrap();
        assert_eq!((flags.action, flags.bundle), (Action::Delete, "/b".into()));
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-namespace n -id x").unwrap().action, Action::Serve);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            ("start", "-namespace"),
            ("-namespace n start", "-id"),
            ("-namespace n -id", "-id: no value"),
            ("-colour red -namespace n -id x start", "-colour: unknown"),
            ("-namespace n -id x run", "\"run\": unknown verb"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
