//! `exec`.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::environment::{self, listen_fds};
use super::prepare::surroundings;
use super::terminal::{self, ChildProgram, Console, Master, StandardFiles};
use super::{Container, Warn, linux, second};
use crate::config::oci::{NamespaceType, Process as Program, Status};
use crate::container::parent::{self, connect, write_pid_file};
use crate::error::{Error, Kind, Result};
use crate::facts::idmap;
use crate::journal::Journal;
use crate::plan::container::{Surroundings, compile_exec};
use crate::plan::seccomp::{self, Filter};
use crate::start::{Channel, Event, HookOutput, Process, run_with_handshake};
use crate::sys::channel;
use crate::sys::process::{Ended, Signals};

/// The word for a second start that runs [`exec`].
pub(super) const EXEC: &str = "exec";

/// How a program joins a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program. Capabilities, limits and labels absent here are taken from the container's own
    /// program.
    pub program: Program,
    /// A socket that receives the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// A socket that receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors, from 3 on, the program inherits.
    pub preserve_fds: u32,
    /// Join a paused container: the program runs once it is resumed.
    pub ignore_paused: bool,
    /// Do not wait for the program.
    pub detached: bool,
    /// Receives the steps that are done.
    #[serde(skip)]
    pub warn: Warn,
    /// Where it joins, below the container's own cgroup: by controller, or under the name "" for
    /// all.
    pub cgroups: BTreeMap<String, String>,
}

/// A program that has joined.
#[derive(Debug)]
pub struct Joined {
    /// Its process.
    pub process: Process,
    terminal: Option<terminal::Attached>,
}

impl Joined {
    /// Waits for its end; meanwhile passes on signals and what is typed. `signals` must have been
    /// blocked before it was started.
    ///
    /// # Errors
    /// The kernel cannot wait.
    pub fn attend(self, signals: &Signals) -> Result<Ended> {
        terminal::attend(&self.process, signals, self.terminal)?;
        self.process.wait()
    }
}

/// Same as [`exec`], for a caller that looks after the program and says what its standard files are: it is a child of this process, which must be protected
/// ([`crate::protect_own_program`]).
///
/// # Errors
/// The same.
pub fn exec_child(
    journal: &Journal,
    id: &str,
    exec: &Exec,
    files: &StandardFiles,
) -> Result<ChildProgram> {
    let (process, terminal) = join(journal, id, exec, files)?;
    Ok(ChildProgram { process, terminal: terminal.and_then(Master::ours) })
}

/// Runs a program in a running container. When this returns, the program has been executed.
///
/// # Errors
/// The container does not run, or a step failed.
pub fn exec(journal: &Journal, id: &str, exec: &Exec) -> Result<Joined> {
    if second::is_needed() {
        // The second start passes on signals, and ends as the program does.
        let passed = environment::passed(exec.preserve_fds);
        let second = second::order(EXEC, (journal, id), exec, passed, &exec.warn)?;
        second::answer(&second, &exec.warn)?;
        return Ok(Joined { process: second.process, terminal: None });
    }
    let (process, terminal) = join(journal, id, exec, &StandardFiles::Inherited)?;
    Ok(Joined { process, terminal: terminal.and_then(Master::shown) })
}

fn join(
    journal: &Journal,
    id: &str,
    exec: &Exec,
    files: &StandardFiles,
) -> Result<(Process, Option<Master>)> {
    let container = Container::open(journal, id)?;
    // In runc's words.
    let refuse = |how: &str| Error::new(format!("exec failed: {how}"));
    let not_now = |how: &str| refuse(how).kind(Kind::WrongState);
    match container.status()? {
        Status::Running | Status::Created => {}
        Status::Paused if exec.ignore_paused => {}
        Status::Paused => {
            return Err(not_now(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(not_now("cannot exec in a stopped container")),
        Status::Creating => {
            return Err(not_now("cannot exec in a container that is being created"));
        }
    }
    let stopped = || not_now("cannot exec in a stopped container");
    let (pid, target) = container.process()?.ok_or_else(stopped)?;
    let linux = linux(&container.record.asked.config);
    let mut program = exec.program.clone();
    if let Some(own) = &container.record.asked.config.process {
        fill_in(&mut program, own);
    }
    if program.args.is_empty() {
        return Err(refuse("process args cannot be empty"));
    }
    if !program.cwd.starts_with('/') {
        return Err(refuse("Cwd must be an absolute path"));
    }
    let socket = exec.console_socket.as_deref();
    let console = Console::choose(program.terminal, socket, exec.detached, files)
        .map_err(|error| error.within("exec failed"))?;
    let sockets = listen_fds();
    let home = |uid| environment::home_in_container(pid, uid);
    environment::complete(&mut program, sockets, home);
    program.console_size = console.size().or(program.console_size);
    let channel = Channel::new()?;
    let entrance = match exec.cgroups.is_empty() {
        true => container.record.resources.cgroup.entrance(Some(pid))?,
        false => container.record.resources.cgroup.entrance_below(&exec.cgroups)?,
    };
    let mut surroundings = Surroundings {
        setgroups_denied: linux.namespace(NamespaceType::User).is_some()
            && idmap::setgroups_denied(&pid.to_string()),
        seccomp: match &linux.seccomp {
            Some(profile) => Some(Filter::from(&seccomp::compile(profile)?)),
            None => None,
        },
        channel: channel.number(),
        console: console.descriptor(),
        plain_lines: console.plain_lines(),
        files: files.numbers(),
        preserve: super::prepare::inherited(exec.preserve_fds)?,
        cgroup: entrance.unified.as_ref().map(AsRawFd::as_raw_fd),
        cgroup_files: entrance.files,
        ..surroundings()?
    };
    // A namespace that cannot be examined must not count as shared: the program would run outside.
    let flags = foreign_namespaces(pid).ok_or_else(stopped)?;
    // The pid may have been reused by a process outside, unless the process is still alive now.
    container.process()?.ok_or_else(stopped)?;
    let score = parent::suit(&mut surroundings, Some(&program))?;
    let plan = compile_exec(
        &container.record.asked.config,
        &program,
        &surroundings,
        target.as_raw_fd(),
        flags,
    )?;
    exec.warn.steps(&plan);
    let process =
        run_with_handshake(&plan, channel, &mut HookOutput::new(&|_| {}), |event, process| {
            match event {
                Event::Maps | Event::Mounted => Ok(()),
                Event::Begun => {
                    let pid = process.pid();
                    if let Some(group) = &container.record.resources.rdt {
                        group.enter(pid, id)?;
                    }
                    parent::raise_limits(&container.record, &program, pid)
                }
                Event::Listener(descriptor) => parent::send_listener(
                    &container.record,
                    Status::Running,
                    process.pid(),
                    &descriptor,
                ),
            }
        })?;
    drop(score);
    match hand_over(exec, console, &process) {
        Ok(terminal) => Ok((process, terminal)),
        Err(error) => {
            process.kill();
            let _ = process.wait();
            Err(error)
        }
    }
}

/// Values absent from the program are the container's own: absent does not mean less confined.
fn fill_in(program: &mut Program, own: &Program) {
    if program.capabilities.is_none() {
        program.capabilities = own.capabilities.clone();
    }
    if program.apparmor_profile.as_deref().unwrap_or_default().is_empty() {
        program.apparmor_profile = own.apparmor_profile.clone();
    }
    if program.selinux_label.as_deref().unwrap_or_default().is_empty() {
        program.selinux_label = own.selinux_label.clone();
    }
    if program.rlimits.is_empty() {
        program.rlimits = own.rlimits.clone();
    }
}

/// Reports the running program to the pid file and the sockets.
fn hand_over(exec: &Exec, console: Console, process: &Process) -> Result<Option<Master>> {
    if let Some(path) = &exec.pid_file {
        write_pid_file(path, process.pid())?;
    }
    if let Some(socket) = connect(exec.pidfd_socket.as_deref(), "--pidfd-socket")? {
        channel::send_descriptor(socket.as_raw_fd(), b"pidfd", process.pidfd().as_raw_fd())
            .map_err(|errno| Error::os("send a pidfd to --pidfd-socket", errno))?;
    }
    console.take()
}

/// CLONE_NEW* for the namespaces of process `pid` that differ from ours, by the links in /proc;
/// `None` if a link is missing because the process has ended.
fn foreign_namespaces(pid: i32) -> Option<i32> {
    const LINKS: [(&str, NamespaceType); 8] = [
        ("user", NamespaceType::User),
        ("mnt", NamespaceType::Mount),
        ("net", NamespaceType::Network),
        ("ipc", NamespaceType::Ipc),
        ("uts", NamespaceType::Uts),
        ("pid", NamespaceType::Pid),
        ("cgroup", NamespaceType::Cgroup),
        ("time", NamespaceType::Time),
    ];
    let link = |of: &str, name: &str| std::fs::read_link(format!("/proc/{of}/ns/{name}")).ok();
    let pid = pid.to_string();
    LINKS.iter().try_fold(0, |flags, (name, kind)| {
        // A kernel without this namespace type has no such link for any process.
        let Some(own) = link("self", name) else { return Some(flags) };
        let foreign = link(&pid, name)? != own;
        Some(if foreign { flags | kind.number() as i32 } else { flags })
    })
}
