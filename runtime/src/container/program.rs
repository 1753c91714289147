//! What an `exec` runs: the container's own program with what is different now, or another one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Container;
use crate::config::oci::Process as Program;
use crate::error::{Error, Result};

/// What is different from the container's own program; what is absent stays.
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
    /// It has a terminal.
    pub tty: bool,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities, in all sets.
    pub capabilities: Vec<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// no_new_privs is set.
    pub no_new_privs: bool,
}

impl Variant {
    /// The program for `container`.
    ///
    /// # Errors
    /// What is not UTF-8, a variable without a value, a user that is no number.
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
            // The kernel makes ambient only what is inheritable; another user has no other way.
            if !sets.inheritable.is_empty() {
                sets.ambient.extend(self.capabilities.iter().cloned());
            }
        }
        Ok(program)
    }
}

/// `PATH` for all trees, or `CONTROLLER[,CONTROLLER]:PATH` for each that is named.
///
/// # Errors
/// In runc's words.
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

/// A program from a file in the form of config.json's `process`.
///
/// # Errors
/// When it cannot be read.
pub fn read_program(path: &Path) -> Result<Program> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| Error::io(format!("read --process {shown}"), &e))?;
    serde_json::from_slice(&text).map_err(|e| Error::new(format!("--process {shown}: {e}")))
}

/// `UID[:GID]`, numbers only: names could mean anything in a root that is not trusted. Without a group
/// it stays that of the container's own program.
fn user_of(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        // Digits only: parse() takes a plus sign, too. The highest number means "as it is" to the
        // kernel.
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
