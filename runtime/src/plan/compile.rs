//! [`Sandbox`] and [`Facts`] to [`Plan`]. Read it from top to bottom: it is the order of the steps,
//! and the reasons for that order.

use std::ffi::CStr;
use std::path::Path as FsPath;

use super::id_maps::IdMaps;
use super::program::{self, c_path, c_string};
use super::step::{MountStep, Otherwise, Path, Source, Step};
use super::{Plan, id_maps, view};
use crate::config::secret::SECRETS;
use crate::config::{
    Access, CapabilitySet, Directory, Mount, MountKind, MountOwner, Namespace, Network, Root,
    Sandbox, Seccomp,
};
use crate::error::{Error, Result};
use crate::plan::facts::{Facts, HostMount, VolumeFact};
use crate::sys::clone::Memory;
use crate::sys::raw::MountAttr;

/// Compiles what was asked for into what will be done.
///
/// # Errors
/// Parts of the sandbox contradict each other, or a string holds a NUL byte.
pub fn compile(sandbox: &Sandbox, facts: &Facts) -> Result<Plan> {
    sandbox.validate()?;
    let mut plan = Plan::default();
    let userns = sandbox.namespaces.user.is_new() || !facts.privileged;
    let capabilities = capabilities(sandbox, facts);
    let confined = userns || facts.confined;
    let compiler = Compiler { sandbox, facts, userns, confined, capabilities };

    plan.id_maps = maps_of(sandbox, facts)?;
    if userns {
        plan.namespaces |= libc::CLONE_NEWUSER as u64;
    }
    plan.namespaces |= compiler.namespaces();
    plan.awaits_go = userns || facts.recorded;

    // The parent may be killed at any moment; a child not yet on record must not survive it.
    plan.push(Step::DieWithParent, "always");
    // Very early, so that no later failure can leave a descriptor open across execve.
    plan.push(Step::CloseOnExec { from: 3 + u32::from(sandbox.listen_fds) }, "always");
    // Modes of what is made below are given in full.
    plan.push(Step::Umask(0), "always");
    // Before the cgroup namespace is unshared, as its root is the process's cgroup at that time;
    // and while the host's /sys is still visible.
    for file in &facts.cgroup_files {
        plan.push(Step::Write { path: c_path(file)?, data: b"0".to_vec() }, "limits");
    }
    // The caller writes the id maps, and puts the process into a scope, from which a cgroup
    // namespace can then be made. The rest of its part, the network, is done during the mounts.
    let limited = !sandbox.limits.is_empty() || sandbox.systemd_cgroup;
    let at_first = userns || limited && facts.cgroup_files.is_empty();
    if plan.awaits_go && at_first {
        plan.push(Step::AwaitGo, "always");
    }
    if userns && facts.privileged {
        // Creating files needs a mapped id there; the cgroups were joined as root of the host.
        let step = Step::Ids { uid: 0, gid: 0, keep_capabilities: false };
        plan.push(step, "--userns");
        // A change of ids clears the parent-death signal (PR_SET_PDEATHSIG(2const)).
        plan.push(Step::DieWithParent, "always");
    }
    compiler.unshare(&mut plan)?;
    compiler.identity(&mut plan)?;
    compiler.file_system(&mut plan)?;
    if plan.awaits_go && !at_first {
        plan.push(Step::AwaitGo, "always");
    }
    compiler.privileges(&mut plan);
    compiler.finish(&mut plan)?;
    Ok(plan)
}

/// Compiles the way into a running sandbox: the namespaces of the process behind `target` (an open
/// pidfd), then the same tail of steps as in [`compile`].
///
/// # Errors
/// See [`compile`].
pub fn compile_join(sandbox: &Sandbox, facts: &Facts, target: i32) -> Result<Plan> {
    sandbox.validate()?;
    let mut plan = Plan::default();
    let userns = sandbox.namespaces.user.is_new() || !facts.privileged;
    let capabilities = capabilities(sandbox, facts);
    let confined = userns || facts.confined;
    let compiler = Compiler { sandbox, facts, userns, confined, capabilities };
    plan.push(Step::DieWithParent, "always");
    plan.push(Step::CloseOnExec { from: 3 }, "always");
    // Processes already inside may try to attack one that comes from outside.
    plan.push(Step::NotDumpable, "always");
    for file in &facts.cgroup_files {
        plan.push(Step::Write { path: c_path(file)?, data: b"0".to_vec() }, "limits");
    }
    let mut flags = compiler.namespaces() as i32;
    if userns {
        flags |= libc::CLONE_NEWUSER;
    }
    if sandbox.namespaces.cgroup.is_new() {
        flags |= libc::CLONE_NEWCGROUP;
    }
    if sandbox.namespaces.time.is_new() {
        flags |= libc::CLONE_NEWTIME;
    }
    plan.push(Step::Join { fd: target, flags }, "namespaces");
    compiler.privileges(&mut plan);
    // A joined pid namespace applies to children only, so the command is one, and its parent waits
    // outside that namespace.
    compiler.finish(&mut plan)?;
    Ok(plan)
}

/// The capabilities of the command: root keeps what daemons need to change to another user, other
/// users have none. A capability asked for by name is not silently left out if the caller lacks it;
/// its step then fails.
fn capabilities(sandbox: &Sandbox, facts: &Facts) -> CapabilitySet {
    let all_held = |set: CapabilitySet| match set {
        CapabilitySet::ALL => CapabilitySet(facts.held_capabilities),
        set => set,
    };
    let default = match facts.user.uid {
        0 => all_held(sandbox.root_capabilities),
        _ => CapabilitySet::default(),
    };
    let known = CapabilitySet((2u64 << facts.last_capability) - 1);
    let wanted = default.union(all_held(sandbox.cap_add)).without(sandbox.cap_drop);
    CapabilitySet(wanted.0 & known.0)
}

pub(super) struct Compiler<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) facts: &'a Facts,
    pub(super) userns: bool,
    /// The child is in a user namespace other than the first.
    pub(super) confined: bool,
    pub(super) capabilities: CapabilitySet,
}

impl Compiler<'_> {
    fn namespaces(&self) -> u64 {
        let wanted = &self.sandbox.namespaces;
        let net = match self.sandbox.network.is_own() {
            true => Namespace::New,
            false => Namespace::Inherited,
        };
        // Not the cgroup namespace: it must be unshared after the cgroup is joined.
        [
            (&wanted.mount, libc::CLONE_NEWNS),
            (&wanted.pid, libc::CLONE_NEWPID),
            (&net, libc::CLONE_NEWNET),
            (&wanted.ipc, libc::CLONE_NEWIPC),
            (&wanted.uts, libc::CLONE_NEWUTS),
        ]
        .iter()
        .filter(|(namespace, _)| namespace.is_new())
        .fold(0, |flags, (_, flag)| flags | *flag as u64)
    }

    fn unshare(&self, plan: &mut Plan) -> Result<()> {
        if let Network::Join(path) = &self.sandbox.network {
            let (path, flags) = (c_path(path)?, libc::CLONE_NEWNET);
            plan.push(Step::Enter { path, flags }, "--network");
        }
        let mut flags = 0;
        if self.sandbox.namespaces.cgroup.is_new() {
            flags |= libc::CLONE_NEWCGROUP;
        }
        if self.sandbox.namespaces.time.is_new() {
            flags |= libc::CLONE_NEWTIME;
        }
        if flags != 0 {
            plan.push(Step::Unshare { flags }, "namespaces");
        }
        Ok(())
    }

    /// Host name, loopback and sysctls: what the new namespaces look like from inside.
    fn identity(&self, plan: &mut Plan) -> Result<()> {
        if let Some(name) = &self.sandbox.hostname {
            let otherwise = match self.sandbox.usual_hostname {
                true => Otherwise::Without(Some("the sandbox keeps the host's host name")),
                false => Otherwise::Fail,
            };
            plan.push_or(Step::Hostname(name.clone().into_bytes()), "--hostname", otherwise);
        }
        if self.sandbox.network.is_own() {
            let otherwise = match self.sandbox.network {
                Network::None => Otherwise::Without(Some("the sandbox has no loopback interface")),
                _ => Otherwise::Fail,
            };
            plan.push_or(Step::LoopbackUp, "--network", otherwise);
            // Every port is the sandbox's own: a daemon without capabilities may serve port 80.
            let path = c"/proc/sys/net/ipv4/ip_unprivileged_port_start".into();
            let low_ports = Step::Write { path, data: b"0".to_vec() };
            let loss = "ports below 1024 need CAP_NET_BIND_SERVICE in the sandbox";
            plan.push_or(low_ports, "--network", Otherwise::Without(Some(loss)));
        }
        for (name, value) in &self.sandbox.sysctls {
            // The host's /proc/sys shows the namespaces of the process that opens a file in it.
            let path = c_string(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            plan.push(Step::Write { path, data: value.clone().into_bytes() }, "--sysctl");
        }
        Ok(())
    }

    /// Whether a mount of the host is at or below what is masked.
    fn hides(&self, mount: &HostMount) -> bool {
        let masked = self.sandbox.masked.iter();
        let mut masked = masked.filter(|path| !view::was_asked_for(self.sandbox, path));
        masked.any(|path| FsPath::new(&mount.target).starts_with(path))
    }

    fn file_system(&self, plan: &mut Plan) -> Result<()> {
        let sandbox = self.sandbox;
        if !sandbox.namespaces.mount.is_new() {
            return Ok(());
        }
        plan.push(Step::Propagation(libc::MS_PRIVATE), "always");
        match &sandbox.root {
            Root::Untouched => {}
            Root::Host => {
                let attr = attributes(Access {
                    read_only: true,
                    nosuid: true,
                    nodev: true,
                    noexec: false,
                });
                // A user namespace may not bind a mount without those that cover parts of it.
                let recursive = self.confined;
                let (source, over) = (c"/".into(), c"/".into());
                plan.push(Step::Root { source, over, recursive, attr }, "default");
                if !recursive {
                    // What is hidden anyway is not held either: nobody could unmount it.
                    let is_seen = |mount: &&HostMount| belongs_in_view(mount) && !self.hides(mount);
                    for mount in self.facts.mounts.iter().filter(is_seen) {
                        let source =
                            Source::Bind { path: c_path(&mount.target)?, recursive: false };
                        let step = MountStep::new(source, Path::new(&mount.target), attr);
                        plan.push(Step::Mount(MountStep { optional: true, ..step }), "default");
                    }
                }
            }
            Root::Dir { path, read_only } => {
                let access =
                    Access { read_only: *read_only, nosuid: true, nodev: true, noexec: false };
                let (source, over, attr) = (c_path(path)?, c"/".into(), attributes(access));
                let step = Step::Root { source, over, recursive: true, attr };
                plan.push(step, format!("--rootfs {}", path.display()));
            }
        }
        for mount in view::in_order(sandbox) {
            self.mount(plan, mount)?;
        }
        self.hosts(plan);
        for name in &sandbox.run_dirs {
            let path = Path::new(&FsPath::new("/run").join(name));
            let owner = Some(self.owner(MountOwner::User));
            plan.push(Step::MakeDirectory { path, owner }, "--run-dir");
        }
        self.secrets(plan);
        // What was asked for by name is not hidden.
        for path in sandbox.masked.iter().filter(|path| !view::was_asked_for(sandbox, path)) {
            plan.push(Step::Mask(Path::new(path)), "default");
        }
        for path in &sandbox.read_only {
            plan.push(Step::ReadOnly(Path::new(path)), "default");
        }
        if sandbox.root != Root::Untouched {
            plan.push(Step::Pivot, "always");
        }
        Ok(())
    }

    /// The contents of the secrets; then their file system becomes read-only.
    fn secrets(&self, plan: &mut Plan) {
        if self.facts.secrets.is_empty() {
            return;
        }
        let dir = FsPath::new(SECRETS);
        let owner = self.owner(MountOwner::User);
        for (name, text) in &self.facts.secrets {
            let (path, text) = (Path::new(&dir.join(name)), text.clone());
            plan.push(Step::File { path, text, mode: 0o400, owner }, "--secret");
        }
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        let step = Step::Attributes { path: Path::new(dir), attr, recursive: false };
        plan.push(step, "--secret");
    }

    /// The sandbox's own host name, ahead of the host's entries: a program that looks up its own
    /// machine's address (Java's getLocalHost, many a daemon) must find one, and without delay.
    fn hosts(&self, plan: &mut Plan) {
        // As much as certainly fits into /dev.
        const MOST: usize = 32 << 10;
        let sandbox = self.sandbox;
        let Some(name) = sandbox.hostname.as_ref().filter(|_| view::names_itself(sandbox)) else {
            return;
        };
        // If it has no address of its own, the same as Debian.
        let own = ["127.0.1.1".to_owned()];
        let addresses = match self.facts.addresses.as_slice() {
            [] => &own[..],
            known => known,
        };
        let mut text = Vec::new();
        for address in addresses {
            text.extend_from_slice(format!("{address} {name}\n").as_bytes());
        }
        text.extend_from_slice(&self.facts.hosts);
        if text.len() > MOST {
            return;
        }
        let path = Path::new(FsPath::new(view::HOSTS));
        let beside = Path::new(FsPath::new(view::DEV));
        let cover = Step::Cover { path, text, beside };
        plan.push_or(cover, "default", Otherwise::Without(None));
    }

    fn owner(&self, owner: MountOwner) -> (u32, u32) {
        match owner {
            MountOwner::Root if self.facts.privileged => (0, 0),
            // Without privilege only one id is mapped.
            MountOwner::Root | MountOwner::User => (self.facts.user.uid, self.facts.user.gid),
        }
    }

    fn mount(&self, plan: &mut Plan, mount: &Mount) -> Result<()> {
        let step = |source, access| {
            let (target, attr) = (Path::new(&mount.target), attributes(access));
            let with_those_below = match &mount.kind {
                MountKind::Bind { recursive, .. } | MountKind::Volume { recursive, .. } => {
                    *recursive
                }
                // Where these fall back to the host's.
                _ => matches!(source, Source::Bind { recursive: true, .. }),
            };
            let step = match with_those_below {
                true => MountStep {
                    recursive: attr,
                    ..MountStep::new(source, target, MountAttr::default())
                },
                false => MountStep::new(source, target, attr),
            };
            let scaffold = !mount.optional && self.sandbox.root != Root::Untouched;
            Step::Mount(MountStep { optional: mount.optional, scaffold, ..step })
        };
        let new = |kind: &str, options: &[(&str, Option<String>)]| -> Result<Source> {
            let option = |(key, value): &(&str, Option<String>)| {
                Ok((c_string(key)?, value.as_deref().map(c_string).transpose()?))
            };
            let options = options.iter().map(option).collect::<Result<_>>()?;
            Ok(Source::New { kind: c_string(kind)?, options })
        };
        let bind = |path: &CStr, recursive| Source::Bind { path: path.into(), recursive };
        let number = |n: u32| Some(n.to_string());
        match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let source = Source::Bind { path: c_path(source)?, recursive: *recursive };
                plan.push(step(source, mount.access), &mount.origin);
            }
            MountKind::Volume { recursive, name } => {
                let at = |fact: &&VolumeFact| {
                    self.sandbox.mounts.get(fact.mount).is_some_and(|it| std::ptr::eq(it, mount))
                };
                let fact = self.facts.volumes.iter().find(at);
                let fact = fact.ok_or_else(|| {
                    Error::new(format!("{}: it is not known where {name} is", mount.origin))
                })?;
                let path = c_path(&fact.path)?;
                let source = match fact.tree {
                    Some(fd) => Source::Tree { fd, name: path, keeps: true },
                    None => Source::Bind { path, recursive: *recursive },
                };
                plan.push(step(source, mount.access), &mount.origin);
            }
            MountKind::Tmpfs { size, mode, owner } => {
                // A command that starts as root may change to other users, who then share it.
                let shared = mode.is_none() && self.sandbox.user.is_none();
                let mode = mode.unwrap_or(if shared { 0o1777 } else { 0o770 });
                let (uid, gid) = self.owner(*owner);
                let mut options = vec![
                    ("mode", Some(format!("{mode:04o}"))),
                    ("uid", number(uid)),
                    ("gid", number(gid)),
                ];
                if let Some(size) = size {
                    options.push(("size", Some(size.0.to_string())));
                }
                plan.push(step(new("tmpfs", &options)?, mount.access), &mount.origin);
            }
            MountKind::Proc { hidepid } => {
                let hide = ("hidepid", Some("invisible".to_owned()));
                let options = if *hidepid { vec![hide] } else { vec![] };
                // A container masks parts of its /proc, and user namespaces in it may then not
                // mount a new one. The old one shows more processes, but the kernel denies access
                // to them from another user namespace. Without one this would be a way out.
                let otherwise = match self.userns && !hidepid {
                    true => Otherwise::Instead(
                        Box::new(step(bind(c"/proc", true), mount.access)),
                        Some("/proc shows the host's processes"),
                    ),
                    false => Otherwise::Fail,
                };
                let proc = step(new("proc", &options)?, mount.access);
                plan.push_or(proc, &mount.origin, otherwise);
            }
            MountKind::Sysfs => {
                let outside = || step(bind(c"/sys", self.confined), mount.access);
                match self.sandbox.network.is_own() {
                    // A new sysfs shows its mounter's network namespace, which that must own.
                    true => {
                        let otherwise = Otherwise::Instead(
                            Box::new(outside()),
                            Some("/sys shows the host's network devices"),
                        );
                        let sysfs = step(new("sysfs", &[])?, mount.access);
                        plan.push_or(sysfs, &mount.origin, otherwise);
                    }
                    false => plan.push(outside(), &mount.origin),
                }
                self.cgroups(plan, mount)?;
            }
            MountKind::Devpts => {
                let mut options = vec![
                    ("newinstance", None),
                    ("ptmxmode", Some("0666".into())),
                    ("mode", Some("0620".into())),
                ];
                // Elsewhere this group is not mapped.
                const TTY: u32 = 5;
                let ids = self.facts.user_ids.as_ref().filter(|_| self.userns);
                if self.facts.privileged
                    && !self.facts.confined
                    && ids.is_none_or(|maps| id_maps::has(&maps.gids, TTY))
                {
                    options.push(("gid", number(TTY)));
                }
                plan.push(step(new("devpts", &options)?, mount.access), &mount.origin);
            }
            MountKind::Dev => {
                let options = [("mode", Some("0755".to_owned())), ("size", Some("64k".to_owned()))];
                plan.push(step(new("tmpfs", &options)?, mount.access), &mount.origin);
                self.devices(plan, mount)?;
            }
        }
        Ok(())
    }

    /// With the user's own rights: it is an error if a requested directory may not be entered.
    fn directory(&self, plan: &mut Plan) -> Result<()> {
        let root = || Step::Directory(c"/".into());
        match &self.sandbox.cwd {
            Directory::At(dir) => plan.push(Step::Directory(c_path(dir)?), "-w"),
            Directory::Preferred(dir) if view::shows(self.sandbox, dir) => {
                let loss = "the command starts in /, as its user cannot enter the current \
                    directory: use -w to choose another";
                let otherwise = Otherwise::Instead(Box::new(root()), Some(loss));
                plan.push_or(Step::Directory(c_path(dir)?), "caller", otherwise);
            }
            Directory::Preferred(dir) => {
                let dir = dir.display();
                plan.remarks.push(format!(
                    "the command starts in /, as the host's {dir} is not in the sandbox: use --rw {dir} to \
                     add it, or -w / to confirm"
                ));
                plan.push(root(), "default");
            }
            Directory::Callers => plan.push(root(), "default"),
        }
        Ok(())
    }

    fn finish(&self, plan: &mut Plan) -> Result<()> {
        let sandbox = self.sandbox;
        // A change of ids clears the parent-death signal, so set it again.
        if sandbox.die_with_parent {
            plan.push(Step::DieWithParent, "always");
        } else {
            plan.push(Step::Survive, "-d");
        }
        plan.push(Step::Umask(sandbox.umask), "always");
        if sandbox.init && sandbox.namespaces.pid.is_new() {
            if sandbox.terminal {
                // The caller's terminal, and signals to its jobs, no longer concern the init.
                plan.push(Step::Session, "--tty");
            }
            let filter = self.facts.init_seccomp.clone();
            // It forwards signals to a command that may have changed to another user.
            let keep = self.capabilities.0 & CapabilitySet::KILL.0;
            plan.push(Step::Fork { filter, keep }, "init");
            if sandbox.die_with_parent {
                plan.push(Step::DieWithParent, "always");
            }
        }
        if sandbox.terminal {
            // By the command's user, who thereby owns it; and by the command itself, which leads
            // the session. Where its master goes is filled in when it is started.
            let (socket, size, console, plain) = (-1, None, false, false);
            plan.push(Step::Session, "--tty");
            plan.push(Step::Terminal { socket, size, console, plain }, "--tty");
        }
        self.directory(plan)?;
        // Ignored and blocked signals would be inherited across execve.
        plan.push(Step::Signals { ignored: 0, blocked: 0 }, "always");
        if plan.has_init() && plan.memory() != Memory::Copied {
            // Nothing untrusted may run beside a process that still shares the caller's memory.
            // Before the filter, which need not allow the calls for this.
            plan.push(Step::AwaitInit, "init");
        }
        if let Some(filter) = &self.facts.seccomp {
            let origin = match &sandbox.seccomp {
                Seccomp::Profile(origin, _) | Seccomp::Seccompiler(origin, _) => origin.as_str(),
                Seccomp::Log => "--seccomp log",
                Seccomp::Default | Seccomp::Unconfined => "default",
            };
            // Last: from here on only execve is needed.
            plan.push(Step::Seccomp(filter.clone()), origin);
        }
        let step = match sandbox.listen_fds {
            0 => program::exec(&sandbox.command, &sandbox.env, None)?,
            count => {
                let count = ("LISTEN_FDS".into(), count.to_string().into());
                let env = [&*sandbox.env, &[count]].concat();
                program::exec(&sandbox.command, &env, Some("LISTEN_PID"))?
            }
        };
        plan.push(step, "command");
        Ok(())
    }
}

/// The maps of the sandbox's user namespace, if it has one of its own.
///
/// # Errors
/// The user, or a group, is not among them.
pub fn maps_of(sandbox: &Sandbox, facts: &Facts) -> Result<Option<IdMaps>> {
    let userns = sandbox.namespaces.user.is_new() || !facts.privileged;
    userns.then(|| own_ids(facts)).transpose()
}

/// Root maps ids of its own; others can map only their own id, which becomes the requested one.
///
/// # Errors
/// The user, or a group, is not among them.
fn own_ids(facts: &Facts) -> Result<IdMaps> {
    let (user, (uid, gid)) = (&facts.user, facts.caller);
    if !facts.privileged {
        return Ok(IdMaps::one((user.uid, uid), (user.gid, gid)));
    }
    let Some(maps) = &facts.user_ids else {
        return Err(Error::new("--userns: no ids are known for it"));
    };
    let uid = [user.uid].into_iter().find(|id| !id_maps::has(&maps.uids, *id));
    let mut gids = user.groups.iter().copied().chain([user.gid]);
    match uid.or_else(|| gids.find(|id| !id_maps::has(&maps.gids, *id))) {
        None => Ok(maps.clone()),
        Some(id) => Err(Error::new(format!("--userns: id {id} is not mapped"))
            .hint("use a longer range or another user: --userns=FIRST:COUNT, -u")),
    }
}

/// File systems that show the kernel or other sandboxes rather than the host's files, and places
/// for which the sandbox has its own.
fn belongs_in_view(mount: &HostMount) -> bool {
    const OWN: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"];
    const ENGINES: [&str; 3] = ["/var/lib/docker", "/var/lib/containers", "/var/lib/containerd"];
    const KERNEL: [&str; 12] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "debugfs",
        "devpts",
        "nsfs",
        "proc",
        "sysfs",
        "tracefs",
        "fusectl",
    ];
    let below = |dirs: &[&str]| dirs.iter().any(|dir| mount.target.starts_with(dir));
    mount.target != FsPath::new("/")
        && !below(&OWN)
        && !below(&ENGINES)
        && !KERNEL.contains(&mount.kind.as_str())
}

pub(super) fn attributes(access: Access) -> MountAttr {
    let set = [
        (access.read_only, libc::MOUNT_ATTR_RDONLY),
        (access.nosuid, libc::MOUNT_ATTR_NOSUID),
        (access.nodev, libc::MOUNT_ATTR_NODEV),
        (access.noexec, libc::MOUNT_ATTR_NOEXEC),
    ]
    .iter()
    .filter(|(on, _)| *on)
    .fold(0, |set, (_, bit)| set | bit);
    MountAttr { set, ..MountAttr::default() }
}
