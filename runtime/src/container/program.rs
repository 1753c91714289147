//! What `exec` runs: the container's own program with changes, or another one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Container;
use crate::config::oci::Process as Program;
use crate::error::{Error, Result};

/// Changes to the container's own program; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// `UID[:GID]`.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<PathBuf>,
    /// Variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities, in all sets.
    pub capabilities: Vec<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// Set no_new_privs.
    pub no_new_privs: bool,
}

impl Variant {
    /// The program for `container`.
    ///
    /// # Errors
    /// Text that is not UTF-8, a variable without a value, or a user that is not a number.
    pub fn of(self, container: &Container) -> Result<Program> {
        let mut program = container.record.asked.config.process.clone().unwrap_or_default();
        let text = |word: OsString| {
            word.into_string().map_err(|word| Error::new(format!("{word:?} is not UTF-8")))
        };
        program.args = self.command.into_iter().map(text).collect::<Result<_>>()?;
        program.terminal = self.tty;
        for pair in self.env {
            let name = pair.split_once('=').map(|(name, _)| format!("{name}="));
            let name = name.ok_or_else(|| {
                Error::new(format!("-e {pair}: no value")).hint("write NAME=VALUE")
            })?;
            program.env.retain(|known| !known.starts_with(&name));
            program.env.push(pair);
        }
        if let Some(cwd) = self.workdir {
            program.cwd = cwd.to_string_lossy().into_owned();
        }
        if let Some(user) = self.user {
            let (uid, gid) = user_of(&user)?;
            program.user.uid = uid;
            program.user.gid = gid.unwrap_or(program.user.gid);
        }
        program.user.additional_gids.extend(&self.additional_gids);
        program.no_new_privileges |= self.no_new_privs;
        program.apparmor_profile = self.apparmor.clone().or(program.apparmor_profile);
        program.selinux_label = self.process_label.clone().or(program.selinux_label);
        if !self.capabilities.is_empty() {
            let sets = program.capabilities.get_or_insert_default();
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.extend(self.capabilities.iter().cloned());
            }
            // The kernel only makes inheritable capabilities ambient; a non-root user has no other
            // way to get them.
            if !sets.inheritable.is_empty() {
                sets.ambient.extend(self.capabilities.iter().cloned());
            }
        }
        Ok(program)
    }
}

/// `PATH` for all trees, or `CONTROLLER[,CONTROLLER]:PATH` for the named ones.
///
/// # Errors
/// Bad syntax, in runc's words.
pub fn cgroups_below(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let wrong = |why: &str| Err(Error::new(format!("invalid --cgroup argument: {text}{why}")));
        match text.split_once(':') {
            None if texts.len() > 1 => return wrong(" (missing <controller>: prefix)"),
            None => drop(all.insert(String::new(), text.clone())),
            Some((_, path)) if path.contains(':') => return wrong(""),
            Some((names, path)) => {
                for name in names.split(',') {
                    if name.is_empty() {
                        return wrong(" (empty <controller> prefix)");
                    }
                    if all.insert(name.to_owned(), path.to_owned()).is_some() {
                        return wrong(&format!(" (controller {name} specified multiple times)"));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Reads a program from a file in the format of config.json's `process`.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read_program(path: &Path) -> Result<Program> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| Error::io(format!("read --process {shown}"), &e))?;
    serde_json::from_slice(&text).map_err(|e| Error::new(format!("--process {shown}: {e}")))
}

/// `UID[:GID]`, numbers only: names could mean anything in an untrusted root. Without a group, the
/// group of the container's own program stays.
fn user_of(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        // Digits only: parse() also accepts a plus sign. The highest number means "unchanged" to
        // the kernel.
        let id = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u32>().ok());
        id.flatten().filter(|id| *id != u32::MAX).ok_or_else(|| {
            Error::new(format!("--user {text}: {part:?} is not a user or group id"))
                .hint("write numeric UID[:GID]")
        })
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}
