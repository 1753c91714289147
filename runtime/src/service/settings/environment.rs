//! The environment of a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Settings;
use crate::config::Root;
use crate::error::{Error, Result};
use crate::facts::users;

/// Names the kind of a terminal, for a command that has one; and the kind every terminal resembles.
pub const TERM: &str = "TERM";
pub const USUAL_TERM: &str = "xterm";

type Variables = Vec<(OsString, OsString)>;

/// Whether it can be the name of a variable in a file.
pub fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Sets a variable, replacing its old value.
pub fn set(env: &mut Variables, name: impl Into<OsString>, value: impl Into<OsString>) {
    let name = name.into();
    env.retain(|(known, _)| *known != name);
    env.push((name, value.into()));
}

impl Settings {
    /// The environment `given`, with HOME, USER and LOGNAME of the requested user and the requested
    /// changes.
    pub(super) fn environment(&self, root: &Root, given: Variables) -> Result<Variables> {
        let kept = |(name, _): &(OsString, OsString)| !self.clear_env || name == "PATH";
        let mut env: Variables = given.into_iter().filter(kept).collect();
        if let Some(spec) = &self.user {
            let user = users::inside(spec, root)?;
            set(&mut env, "HOME", user.home);
            set(&mut env, "USER", user.name.clone());
            set(&mut env, "LOGNAME", user.name);
        }
        if self.tty && !env.iter().any(|(name, _)| name == TERM) {
            set(&mut env, TERM, USUAL_TERM);
        }
        for file in &self.env_file {
            let shown = file.display();
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::io(format!("--env-file {shown}"), &e))?;
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let (name, value) = line
                    .split_once('=')
                    .ok_or_else(|| Error::new(format!("--env-file {shown}: no = in {line:?}")))?;
                set(&mut env, name, value);
            }
        }
        for text in &self.env {
            let bytes = text.as_bytes();
            match bytes.iter().position(|byte| *byte == b'=') {
                Some(0) => return Err(Error::new(format!("-e {text:?}: no name before the ="))),
                Some(at) => {
                    let part = OsStr::from_bytes;
                    set(&mut env, part(&bytes[..at]), part(&bytes[at + 1..]));
                }
                // Passed through if set.
                None => {
                    if let Some(value) = std::env::var_os(text) {
                        set(&mut env, text, value);
                    }
                }
            }
        }
        Ok(env)
    }
}
