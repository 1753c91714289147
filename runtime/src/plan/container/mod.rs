//! An OCI bundle's [`Config`] to a [`Plan`]. Read it from top to bottom: it is the order of the
//! steps that `create`, `run` and `exec` take, and the reasons for that order.

mod mounts;
mod privileges;
mod scheduling;

pub use privileges::capability_bits;

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::facts::CgroupMount;
use super::program::{self, c_path, c_string};
use super::seccomp::Filter;
use super::step::{Hook, Path, Step};
use super::{Plan, seccomp};
use crate::config::USUAL_PATH;
use crate::config::oci::{self, Config, NamespaceType, Process};
use crate::error::{Error, Result};
use crate::sys::CStrings;
use crate::sys::raw::MountAttr;

/// What a container's plan must know of the machine and of what its parent has prepared.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The highest capability the kernel knows.
    pub last_capability: u8,
    /// The capabilities that the caller has and can pass on, as bits.
    pub held_capabilities: u64,
    /// The caller's own oom_score_adj: an equal value needs no privilege, and is not set.
    pub oom_score_adj: i32,
    /// The caller is in a user namespace, where device files cannot be made.
    pub confined: bool,
    /// The host's files for the devices, by their paths inside, where none can be made.
    pub devices: BTreeMap<String, PathBuf>,
    /// The directory of a unified cgroup that the child begins in.
    pub cgroup: Option<RawFd>,
    /// The files through which it joins its v1 cgroups.
    pub cgroup_files: Vec<PathBuf>,
    /// The hierarchies that a mount of type `cgroup` shows.
    pub cgroups: Vec<CgroupMount>,
    /// The program's seccomp filter.
    pub seccomp: Option<Filter>,
    /// The mounts that the parent has opened, by their index in the list.
    pub trees: Vec<(usize, RawFd)>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve: u32,
    /// The child's end of the channel to its parent.
    pub channel: RawFd,
    /// Where the child waits for the start; `None`: it starts immediately.
    pub listener: Option<RawFd>,
    /// The file that tells the process running `start` how far the program came.
    pub progress: Option<RawFd>,
    /// The bundle, where hooks of the host's run.
    pub bundle: PathBuf,
    /// The caller's environment, for hooks without one of their own.
    pub environment: Vec<OsString>,
    /// The program's standard files; `None`: the caller's.
    pub files: Option<[RawFd; 3]>,
    /// A socket that receives the terminal's master.
    pub console: Option<RawFd>,
    /// The terminal's output goes to a file or a pipe.
    pub plain_lines: bool,
    /// Something outside is connected once the namespaces exist.
    pub connects: bool,
    /// chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// For chroot(2), the mounts of the host that are removed before it.
    pub uncovered: Vec<PathBuf>,
    /// Keep the session keyring.
    pub no_keyring: bool,
    /// The state as JSON, before and after the process id, while creating and when created.
    pub states: [[Vec<u8>; 2]; 2],
    /// The group map of the user namespace was written without privilege.
    pub setgroups_denied: bool,
    /// The new user namespace, if the parent has already made it and written its maps.
    pub user_namespace: Option<RawFd>,
    /// Which security modules can be used.
    pub kernel: Kernel,
}

/// Which security modules can be used.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kernel {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

struct Compiler<'a> {
    config: &'a Config,
    linux: &'a oci::Linux,
    surroundings: &'a Surroundings,
    plan: Plan,
    /// The program is in a user namespace of the container's, where it can have all capabilities.
    own_capabilities: bool,
    /// What becomes read-only only when everything is in place.
    late: Vec<(Path, MountAttr, String)>,
}

impl<'a> Compiler<'a> {
    fn new(config: &'a Config, surroundings: &'a Surroundings) -> Compiler<'a> {
        static NONE: LazyLock<oci::Linux> = LazyLock::new(oci::Linux::default);
        let linux = config.linux.as_ref().unwrap_or(&NONE);
        let cgroup = surroundings.cgroup;
        let plan = Plan { has_line: true, awaits_go: true, cgroup, ..Plan::default() };
        let own_capabilities = linux.namespace(NamespaceType::User).is_some();
        Compiler { config, linux, surroundings, plan, own_capabilities, late: Vec::new() }
    }
}

/// Compiles `create` and `run`.
///
/// # Errors
/// Something is unavailable, or a string holds a NUL byte.
pub fn compile(config: &Config, surroundings: &Surroundings) -> Result<Plan> {
    let mut compiler = Compiler::new(config, surroundings);
    let Some(process) = &config.process else {
        return Err(Error::new("config.json: no process").hint("it is required to run a container"));
    };
    compiler.begin(process)?;
    compiler.join_cgroups()?;
    compiler.namespaces()?;
    compiler.identity()?;
    compiler.file_system()?;
    compiler.process(process)?;
    compiler.await_start(process)?;
    compiler.execute(process)?;
    Ok(compiler.plan)
}

/// Compiles `exec`: the namespaces of the process behind `target` (an open pidfd) that are in
/// `flags`, then the same tail of steps as in [`compile`].
///
/// # Errors
/// See [`compile`].
pub fn compile_exec(
    config: &Config,
    process: &Process,
    surroundings: &Surroundings,
    target: RawFd,
    flags: i32,
) -> Result<Plan> {
    let mut compiler = Compiler::new(config, surroundings);
    compiler.begin(process)?;
    if let Some(affinity) = &process.exec_cpu_affinity {
        compiler.affinity(affinity.initial.as_ref())?;
        compiler.join_cgroups()?;
        compiler.affinity(affinity.r#final.as_ref())?;
    } else {
        compiler.join_cgroups()?;
        compiler.push(Step::AllProcessors, "always");
    }
    let joins = |flag: i32| flags & flag != 0;
    if flags != 0 {
        compiler.push(Step::Join { fd: target, flags }, "namespaces");
    }
    if joins(libc::CLONE_NEWPID) {
        compiler.sibling();
    }
    compiler.own_capabilities = joins(libc::CLONE_NEWUSER);
    if joins(libc::CLONE_NEWUSER) {
        compiler.become_root();
    }
    compiler.push(Step::Begun, "always");
    compiler.push(Step::AwaitGo, "always");
    compiler.push(Step::Session, "always");
    compiler.terminal(process, false)?;
    compiler.process(process)?;
    compiler.terminal_held(process);
    compiler.push(Step::Ready { listener: None }, "always");
    compiler.execute(process)?;
    Ok(compiler.plan)
}

/// Compiles only the mounts of `config`, for a running container. Sources outside are in
/// [`Surroundings::trees`].
///
/// # Errors
/// See [`compile`].
pub fn compile_mounts(config: &Config, surroundings: &Surroundings) -> Result<Plan> {
    let mut compiler = Compiler::new(config, surroundings);
    compiler.mount_each()?;
    Ok(compiler.plan)
}

impl Compiler<'_> {
    fn push(&mut self, step: Step, origin: impl Into<String>) {
        self.plan.push(step, origin);
    }

    /// What is inherited, and what only a process still outside may do to itself.
    fn begin(&mut self, process: &Process) -> Result<()> {
        let surroundings = self.surroundings;
        // The parent may be killed at any moment; a child not yet on record must not survive it.
        self.push(Step::DieWithParent, "always");
        if let Some(files) = surroundings.files {
            for (to, from) in (0..).zip(files) {
                self.push(Step::Descriptor { to, from: Some(from) }, "files");
            }
        }
        self.push(Step::CloseOnExec { from: 3 + surroundings.preserve }, "always");
        // Modes of what is made below are given in full.
        self.push(Step::Umask(0), "always");
        // Processes in a shared namespace may try to attack one that comes from outside.
        self.push(Step::NotDumpable, "always");
        self.outside(process)
    }

    fn join_cgroups(&mut self) -> Result<()> {
        // Before the cgroup namespace is made, as its root is the process's cgroup at that time.
        for file in &self.surroundings.cgroup_files {
            self.push(Step::Write { path: c_path(file)?, data: b"0".to_vec() }, "cgroupsPath");
        }
        Ok(())
    }

    /// The existing namespace of this kind to join.
    fn joined(&self, kind: NamespaceType) -> Option<&str> {
        self.linux.namespace(kind)?.path.as_deref()
    }

    fn is_new(&self, kind: NamespaceType) -> bool {
        self.linux.is_new(kind)
    }

    /// A namespace belongs to the user namespace in which it was made, so that one comes first. By
    /// path, or new: joins after the clone can only be followed by unshare(2).
    fn namespaces(&mut self) -> Result<()> {
        use NamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
        let new = [Mount, Network, Ipc, Uts, Pid]
            .into_iter()
            .filter(|kind| self.is_new(*kind))
            .fold(0, |flags, kind| flags | kind.number() as i32);
        // The mount namespace comes last: the paths of the others are those of the host.
        let others = [Network, Ipc, Uts, Pid, Cgroup, Time, Mount];
        let joins = others.iter().any(|kind| self.joined(*kind).is_some());
        const SYS_ADMIN: u32 = 21;
        let privileged = self.surroundings.held_capabilities >> SYS_ADMIN & 1 == 1;
        // After a user namespace that is joined, or made by unshare(2), the others can only be
        // unshared.
        let mut late = 0;
        let enter_others =
            |compiler: &mut Self| others.iter().try_for_each(|kind| compiler.enter(*kind));
        let made = self.surroundings.user_namespace.filter(|_| self.joined(User).is_none());
        if self.joined(User).is_some() || made.is_some() {
            // Entering the others is no longer possible from inside it, as it does not own them.
            if privileged {
                enter_others(self)?;
            }
            self.enter(User)?;
            if let Some(fd) = made {
                let step = Step::Join { fd, flags: User.number() as i32 };
                self.push(step, "linux.uidMappings");
            }
            if !privileged {
                enter_others(self)?;
            }
            late = new;
        } else if self.is_new(User) && joins && privileged {
            // A new one owns none of them.
            enter_others(self)?;
            self.push(Step::Unshare { flags: libc::CLONE_NEWUSER }, "linux.namespaces");
            self.push(Step::AwaitMaps, "linux.uidMappings");
            late = new;
        } else if self.is_new(User) {
            self.plan.namespaces = (new | libc::CLONE_NEWUSER) as u64;
            self.push(Step::AwaitMaps, "linux.uidMappings");
            enter_others(self)?;
        } else {
            self.plan.namespaces = new as u64;
            enter_others(self)?;
        }
        // The parent's part may be done while the namespaces are made, if it does not need them.
        // Making the network namespace takes as long as that part.
        let together = late == 0
            && self.linux.namespace(User).is_none()
            && self.joined(Pid).is_none()
            && self.linux.net_devices.is_empty()
            && !self.linux.sets_clocks_outside();
        if together {
            self.push(Step::Begun, "always");
            let network = new & libc::CLONE_NEWNET;
            self.plan.namespaces &= !network as u64;
            late |= network;
        }
        if late != 0 {
            self.push(Step::Unshare { flags: late }, "linux.namespaces");
        }
        if late & libc::CLONE_NEWPID != 0 || self.joined(Pid).is_some() {
            self.sibling();
        }
        if self.linux.namespace(User).is_some() {
            self.become_root();
        }
        let mut flags = 0;
        if self.is_new(Cgroup) {
            flags |= libc::CLONE_NEWCGROUP;
        }
        if self.linux.sets_clocks_outside() {
            // The parent writes them before it says `Go`.
            let flags = libc::CLONE_NEWTIME;
            self.push(Step::Unshare { flags }, "linux.namespaces");
        } else if self.is_new(Time) {
            flags |= libc::CLONE_NEWTIME;
        }
        if !together {
            self.push(Step::Begun, "always");
        }
        // The record, the network, and whatever else needs the process id.
        self.push(Step::AwaitGo, "always");
        // The caller's affinity is not the container's, which is in its cgroup at this point.
        self.push(Step::AllProcessors, "always");
        if flags != 0 {
            self.push(Step::Unshare { flags }, "linux.namespaces");
        }
        let offsets = self.linux.clock_offsets();
        if self.is_new(Time) && !offsets.is_empty() && !self.linux.sets_clocks_outside() {
            let file = c_string("self/timens_offsets")?;
            self.push(Step::WriteProc { file, data: offsets.into_bytes() }, "linux.timeOffsets");
        }
        Ok(())
    }

    fn enter(&mut self, kind: NamespaceType) -> Result<()> {
        if let Some(path) = self.joined(kind) {
            let step = Step::Enter { path: c_string(path)?, flags: kind.number() as i32 };
            self.push(step, "linux.namespaces");
        }
        Ok(())
    }

    /// Only children enter a joined pid namespace. Processes in there see the child, and one that
    /// may trace it reaches what it has open, through /proc/PID/fd, and by a directory of the host
    /// the host itself. So no directory stays open: only sockets, and mounts without a way up.
    fn sibling(&mut self) {
        let trees = self.surroundings.trees.iter().map(|(_, tree)| *tree);
        let keep = [self.surroundings.console].into_iter().flatten().chain(trees).collect();
        self.close_all_but(keep);
        self.push(Step::Sibling, "namespaces");
        // The parent's pidfd is closed; if it died before this, the channel ends at `AwaitGo`.
        self.push(Step::DieWithParent, "always");
    }

    /// Closes what neither the program inherits nor the channel and the start need.
    fn close_all_but(&mut self, mut keep: Vec<RawFd>) {
        let surroundings = self.surroundings;
        keep.extend(
            [Some(surroundings.channel), surroundings.listener, surroundings.progress]
                .into_iter()
                .flatten(),
        );
        keep.retain(|fd| *fd >= 0);
        keep.sort_unstable();
        self.push(Step::CloseAllBut { from: 3 + self.surroundings.preserve, keep }, "always");
    }

    /// In a user namespace, a process needs a mapped id to create files.
    fn become_root(&mut self) {
        let step = Step::Ids { uid: 0, gid: 0, keep_capabilities: false };
        self.push(step, "linux.uidMappings");
        // A change of ids clears the parent-death signal (PR_SET_PDEATHSIG(2const)).
        self.push(Step::DieWithParent, "always");
    }

    /// Host name, loopback and sysctls: what the new namespaces look like from inside.
    fn identity(&mut self) -> Result<()> {
        self.push(Step::Session, "always");
        if let Some(name) = self.config.hostname.as_deref() {
            self.push(Step::Hostname(name.as_bytes().to_vec()), "hostname");
        }
        if let Some(name) = self.config.domainname.as_deref() {
            self.push(Step::Domainname(name.as_bytes().to_vec()), "domainname");
        }
        if self.is_new(NamespaceType::Network) {
            self.push(Step::LoopbackUp, "linux.namespaces");
        }
        for (name, value) in &self.linux.sysctl {
            // /proc/sys shows the namespaces of the process that opens a file in it.
            let file = c_string(&format!("sys/{}", oci::sysctl_path(name)?))?;
            self.push(Step::WriteProc { file, data: value.clone().into_bytes() }, "linux.sysctl");
        }
        Ok(())
    }

    fn file_system(&mut self) -> Result<()> {
        let prestart = self.config.hooks.as_ref();
        let hooks = prestart.cloned().unwrap_or_default();
        let mounts = self.linux.namespace(NamespaceType::Mount).is_some();
        if mounts {
            self.mounts()?;
        }
        if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
            self.push(Step::Mounted, "hooks");
        } else if self.surroundings.connects {
            self.push(Step::Mounted, "annotations");
        }
        for hook in &hooks.create_container {
            let mut step = self.hook(hook, &self.surroundings.states[0])?;
            step.directory = Some(c_path(&self.surroundings.bundle)?);
            if hook.env.is_none() {
                let own = self.surroundings.environment.iter().map(|pair| c_path(pair.as_ref()));
                step.envp = CStrings::new(own.collect::<Result<_>>()?);
            }
            self.push(Step::Hook(Box::new(step)), "hooks.createContainer");
        }
        if mounts {
            self.enter_root()?;
        }
        Ok(())
    }

    fn hook(&self, hook: &oci::Hook, state: &[Vec<u8>; 2]) -> Result<Hook> {
        Ok(Hook {
            path: c_string(&hook.path)?,
            argv: match hook.args.as_slice() {
                [] => CStrings::new(vec![c_string(&hook.path)?]),
                args => strings(args)?,
            },
            envp: strings(hook.env.as_deref().unwrap_or_default())?,
            directory: None,
            filter: None,
            timeout: match hook.timeout {
                Some(seconds) => i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX),
                None => -1,
            },
            state: state.clone(),
        })
    }

    fn terminal(&mut self, process: &Process, console: bool) -> Result<()> {
        if !process.terminal {
            return Ok(());
        }
        let Some(socket) = self.surroundings.console else {
            return Err(Error::new("process.terminal: no console socket to send the pty to")
                .hint("use --console-socket, or set terminal to false"));
        };
        let cells = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let size = process.console_size.as_ref().filter(|size| size.height + size.width > 0);
        let size = size.map(|size| (cells(size.width), cells(size.height)));
        let plain = self.surroundings.plain_lines;
        self.push(Step::Terminal { socket, size, console, plain }, "process.terminal");
        Ok(())
    }

    /// As late as possible: the process that took the master may close it at any time.
    fn terminal_held(&mut self, process: &Process) {
        if process.terminal {
            self.push(Step::TerminalHeld, "process.terminal");
        }
    }

    /// Everything that can fail because of the configuration is done; what is left needs no
    /// descriptor but the channel and the listener. No descriptor that leads to a directory may be
    /// open when paths chosen by others are walked.
    fn await_start(&mut self, process: &Process) -> Result<()> {
        self.terminal_held(process);
        let listener = self.surroundings.listener;
        self.push(Step::Ready { listener }, "always");
        let hooks = self.config.hooks.as_ref().map(|hooks| hooks.start_container.clone());
        for hook in &hooks.unwrap_or_default() {
            let mut step = self.hook(hook, &self.surroundings.states[1])?;
            if hook.env.is_none() {
                step.envp = strings(&process.env)?;
            }
            // It runs inside the container, and so under the same filter; one that notifies is
            // already loaded.
            step.filter = self.surroundings.seccomp.clone().filter(|filter| !notifies(filter));
            self.push(Step::Hook(Box::new(step)), "hooks.startContainer");
        }
        Ok(())
    }

    fn attributes(&mut self, path: &str, attr: MountAttr, recursive: bool, origin: &str) {
        let path = Path::new(std::path::Path::new(path));
        self.push(Step::Attributes { path, attr, recursive }, origin);
    }
}

/// The program's name, and the places where it may be, for [`Step::Find`] and [`Step::Exec`].
fn candidates(process: &Process) -> Result<(CString, Vec<CString>)> {
    // The same as the other runtimes, for images that set no PATH.
    let Some(program) = process.args.first() else {
        return Err(Error::new("process.args: no program to run"));
    };
    let search = process.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="));
    let paths = program::candidates(program.as_ref(), search.unwrap_or(USUAL_PATH).as_ref());
    Ok((c_string(program)?, paths.iter().map(|path| c_path(path)).collect::<Result<_>>()?))
}

fn strings(texts: &[String]) -> Result<CStrings> {
    Ok(CStrings::new(texts.iter().map(|text| c_string(text)).collect::<Result<_>>()?))
}

/// Does loading this filter yield a descriptor for a supervisor?
fn notifies(filter: &Filter) -> bool {
    filter.flags & seccomp::NEW_LISTENER != 0
}
