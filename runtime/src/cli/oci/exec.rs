//! `garth exec` in an OCI container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Global;
use crate::config::oci::Process;
use crate::container::{self, Container, Exec};
use crate::error::{Error, Result};
use crate::sys::process::Signals;

/// What `exec` has for containers alone.
#[derive(Debug, Args)]
pub struct ExecFlags {
    /// Read the program from a file, as in config.json's `process`
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Socket that takes the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that takes a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Supplementary groups
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Add a capability to all sets
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Let the program inherit this many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Join a paused container: the program goes on when it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Join a cgroup below the container's own, in all trees or in those of some controllers
    #[arg(long, value_name = "[CONTROLLERS:]PATH")]
    cgroup: Vec<String>,
}

/// What `exec` has for sandboxes as well.
#[derive(Debug)]
pub struct Words {
    /// `UID[:GID]`.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<PathBuf>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

impl ExecFlags {
    /// # Errors
    /// When a flag was given that a sandbox does not know.
    pub fn expect_none(&self) -> Result<()> {
        let flag = [
            (self.process.is_some(), "--process"),
            (self.tty, "--tty"),
            (self.detach, "--detach"),
            (self.console_socket.is_some(), "--console-socket"),
            (self.pid_file.is_some(), "--pid-file"),
            (self.pidfd_socket.is_some(), "--pidfd-socket"),
            (!self.additional_gids.is_empty(), "--additional-gids"),
            (!self.cap.is_empty(), "--cap"),
            (self.apparmor.is_some(), "--apparmor"),
            (self.process_label.is_some(), "--process-label"),
            (self.no_new_privs, "--no-new-privs"),
            (self.preserve_fds > 0, "--preserve-fds"),
            (self.ignore_paused, "--ignore-paused"),
            (!self.cgroup.is_empty(), "--cgroup"),
        ];
        match flag.iter().find(|(given, _)| *given) {
            Some((_, flag)) => {
                let error = Error::new(format!("{flag} is for containers, and this is a sandbox"));
                Err(match *flag {
                    "--tty" => {
                        error.hint("leave it out: the command has the terminal that garth has")
                    }
                    _ => error,
                })
            }
            None => Ok(()),
        }
    }

    /// Runs the program, and waits for its end unless it is detached.
    ///
    /// # Errors
    /// As of [`container::exec`].
    pub(in crate::cli) fn run(self, global: &Global, id: &str, words: Words) -> Result<i32> {
        let containers = &global.journal().containers();
        let container = Container::open(containers, id)?;
        let program = match &self.process {
            Some(path) => read(path)?,
            None => self.program(&container, words)?,
        };
        program.warnings().iter().for_each(|warning| global.log.warn(warning));
        let exec = Exec {
            program,
            console_socket: self.console_socket,
            pid_file: self.pid_file,
            pidfd_socket: self.pidfd_socket,
            preserve_fds: self.preserve_fds,
            ignore_paused: self.ignore_paused,
            detached: self.detach,
            warn: global.log.warnings(),
            cgroups: cgroups(&self.cgroup)?,
        };
        let signals = match self.detach {
            true => None,
            false => Some(Signals::block().map_err(|errno| Error::os("block signals", errno))?),
        };
        let joined = container::exec(containers, id, &exec)?;
        let Some(signals) = signals else { return Ok(0) };
        joined.attend(&signals).map(|ended| ended.code())
    }

    /// The container's own program, with what is different now.
    fn program(&self, container: &Container, words: Words) -> Result<Process> {
        let mut program = container.record.asked.config.process.clone().unwrap_or_default();
        let text = |word: OsString| {
            word.into_string().map_err(|word| Error::new(format!("{word:?} is not UTF-8")))
        };
        program.args = words.command.into_iter().map(text).collect::<Result<_>>()?;
        program.terminal = self.tty;
        for pair in words.env {
            let name = pair.split_once('=').map(|(name, _)| format!("{name}="));
            let name = name.ok_or_else(|| {
                Error::new(format!("-e {pair}: no value")).hint("write NAME=VALUE")
            })?;
            program.env.retain(|known| !known.starts_with(&name));
            program.env.push(pair);
        }
        if let Some(cwd) = words.workdir {
            program.cwd = cwd.to_string_lossy().into_owned();
        }
        if let Some(user) = words.user {
            let (uid, gid) = user_of(&user)?;
            program.user.uid = uid;
            program.user.gid = gid.unwrap_or(program.user.gid);
        }
        program.user.additional_gids.extend(&self.additional_gids);
        program.no_new_privileges |= self.no_new_privs;
        program.apparmor_profile = self.apparmor.clone().or(program.apparmor_profile);
        program.selinux_label = self.process_label.clone().or(program.selinux_label);
        if !self.cap.is_empty() {
            let sets = program.capabilities.get_or_insert_default();
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.extend(self.cap.iter().cloned());
            }
            // The kernel makes ambient only what is inheritable; another user has no other way.
            if !sets.inheritable.is_empty() {
                sets.ambient.extend(self.cap.iter().cloned());
            }
        }
        Ok(program)
    }
}

/// `PATH` for all trees, or `CONTROLLER[,CONTROLLER]:PATH` for each that is named.
fn cgroups(texts: &[String]) -> Result<BTreeMap<String, String>> {
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

fn read(path: &Path) -> Result<Process> {
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
            Error::new(format!("--user {text}: {part:?} is not a number of a user or group"))
                .hint("write UID[:GID] in numbers")
        })
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}
