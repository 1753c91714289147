//! The [`Sandbox`]: everything that can be requested, with defaults that confine.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::capability::CapabilitySet;
use super::directory::{self, Directory};
use super::id_range::IdRange;
use super::limits::Limits;
use super::mount::{Access, Mount, MountKind};
use super::network::{Network, Publish};
use super::plugin::Plugin;
use super::rate::Rates;
use super::rate_group::RateGroup;
use super::rlimit::Rlimit;
use super::seccomp::{self, Profile};
use super::secret::Secret;
use crate::error::{Error, Result};

/// A command and the sandbox around it. Plain data: fill in what differs from the default.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// The program and its arguments. A program without a slash is looked up in the PATH of `env`,
    /// inside the sandbox.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The command's working directory.
    pub cwd: Directory,
    /// The tree that the command sees as `/`.
    pub root: Root,
    /// Mounts over the root, in order.
    pub mounts: Vec<Mount>,
    /// Files hidden behind /dev/null, directories behind an empty one. Absent ones are ignored.
    pub masked: Vec<PathBuf>,
    /// Paths made read-only. Absent ones are ignored.
    pub read_only: Vec<PathBuf>,
    /// Which namespaces are new.
    pub namespaces: Namespaces,
    /// The outside ids of root's new user namespace; `None`: those of subuid(5) and subgid(5).
    #[serde(default)]
    pub user_ids: Option<IdRange>,
    /// The host name in a new UTS namespace; `None`: the sandbox's name, or `garth`.
    pub hostname: Option<String>,
    /// Whether the host name is that default: if none can be set, the sandbox starts without it.
    #[serde(default)]
    pub usual_hostname: bool,
    /// `user[:group]`, names or numbers; `None`: the caller's own.
    pub user: Option<String>,
    /// What root has by default; other users have none.
    pub root_capabilities: CapabilitySet,
    /// Added to the user's default set.
    pub cap_add: CapabilitySet,
    /// Removed from it.
    pub cap_drop: CapabilitySet,
    /// no_new_privs (prctl(2)).
    pub no_new_privileges: bool,
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
    /// Whether the default filter lets the command create set-user-ID or set-group-ID files; they
    /// have no effect inside, but do outside.
    #[serde(default)]
    pub allow_suid: bool,
    /// Files that only the command finds, below /run/secrets.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Directories below /run made for the command's user, by name.
    #[serde(default, with = "super::os_path::list")]
    pub run_dirs: Vec<PathBuf>,
    /// Writes are confined to the writable mounts by Landlock as well, where the kernel has it.
    pub landlock: bool,
    /// Resource limits (getrlimit(2)).
    pub rlimits: Vec<Rlimit>,
    /// Values below /proc/sys of the new namespaces, by their dotted names.
    pub sysctls: Vec<(String, String)>,
    /// File mode creation mask.
    pub umask: u32,
    /// Cgroup limits.
    pub limits: Limits,
    /// Whether its cgroup is in a scope created by systemd, even without limits and where cgroups
    /// could go elsewhere.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// The network.
    pub network: Network,
    /// Ports of the sandbox that the host publishes.
    pub publish: Vec<Publish>,
    /// The rate limits of the private network.
    #[serde(default)]
    pub rates: Rates,
    /// A budget shared with other sandboxes; `rates` are then this one's own bounds within it.
    #[serde(default)]
    pub rate_group: Option<RateGroup>,
    /// The operator's executables that are asked to create something for it.
    #[serde(default)]
    pub plugins: Vec<Plugin>,
    /// The command gets this many of the caller's descriptors, from 3 on; it finds the number in
    /// LISTEN_FDS, and its process id in LISTEN_PID (sd_listen_fds(3)).
    #[serde(default)]
    pub listen_fds: u16,
    /// A pseudo-terminal of its own as standard input, output and error; the command leads a session
    /// that it controls. Otherwise these three are the caller's.
    #[serde(default)]
    pub terminal: bool,
    /// A small init as pid 1, which reaps and forwards signals; otherwise the command is pid 1.
    pub init: bool,
    /// Killed when the thread that started it ends.
    pub die_with_parent: bool,
}

/// The tree that the command sees as `/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Root {
    /// The host's root, read-only.
    Host,
    /// A directory of the host that holds a root file system. It is not trusted.
    Dir {
        /// Where it is.
        #[serde(with = "super::os_path")]
        path: PathBuf,
        /// Nothing in it can be written.
        read_only: bool,
    },
    /// The mount table as it is.
    Untouched,
}

/// The sandbox's namespace of one kind (namespaces(7)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Namespace {
    /// The caller's.
    #[default]
    Inherited,
    /// A new one.
    New,
}

impl Namespace {
    /// Whether it is a new one.
    pub fn is_new(&self) -> bool {
        *self == Namespace::New
    }
}

/// Which namespaces are new; the network has a field of its own in [`Sandbox`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the kernel's names")]
pub struct Namespaces {
    pub mount: Namespace,
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup: Namespace,
    pub user: Namespace,
    /// With the clock offsets at zero.
    pub time: Namespace,
}

/// The seccomp filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// specs/seccomp/default.json.
    Default,
    /// The default filter, but what it would refuse is allowed and logged (audit).
    Log,
    /// None.
    Unconfined,
    /// A user's profile, and where it came from.
    Profile(String, Box<Profile>),
    /// The same in the format of the crate seccompiler, as Firecracker uses it.
    Seccompiler(String, String),
}

impl Seccomp {
    /// The contents of a file in either format; `origin` says in errors where it came from.
    pub fn parse(json: &[u8], origin: &str) -> Result<Seccomp> {
        if seccomp::is_seccompilers(json) {
            let text = String::from_utf8_lossy(json).into_owned();
            return Ok(Seccomp::Seccompiler(origin.to_owned(), text));
        }
        let profile = Profile::parse(json, origin)?;
        Ok(Seccomp::Profile(origin.to_owned(), Box::new(profile)))
    }
}

const MIB: u64 = 1 << 20;

impl Default for Sandbox {
    /// The default profile: the host's root read-only, everything private that can be, no network.
    fn default() -> Sandbox {
        let system = Access { nosuid: true, nodev: true, noexec: true, read_only: false };
        let mount = |target: &str, kind, access| Mount {
            target: target.into(),
            kind,
            access,
            optional: false,
            origin: "default".into(),
        };
        Sandbox {
            command: Vec::new(),
            env: Vec::new(),
            cwd: Directory::Callers,
            root: Root::Host,
            mounts: vec![
                mount("/proc", MountKind::Proc { hidepid: false }, system),
                mount("/sys", MountKind::Sysfs, Access { read_only: true, ..system }),
                mount("/dev", MountKind::Dev, Access { nodev: false, ..system }),
                mount("/dev/pts", MountKind::Devpts, Access { nodev: false, ..system }),
                Mount::private("/dev/shm", 64 * MIB, None),
                Mount::private("/run", 16 * MIB, Some(0o755)),
                Mount::private("/tmp", 512 * MIB, None),
                Mount::private("/var/tmp", 512 * MIB, None),
            ],
            // What the kernel exposes of itself and the hardware that no sandboxed program needs.
            masked: [
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
                "/sys/kernel/debug",
                "/sys/kernel/security",
                "/sys/kernel/tracing",
                // Sockets outside of /run that give any client root, which a read-only mount does
                // not prevent. The directories, as a restart recreates the socket.
                "/var/lib/incus",
                "/var/lib/lxd",
                "/var/snap/lxd",
                "/var/snap/microk8s",
            ]
            .map(PathBuf::from)
            .to_vec(),
            // Root may write there by ownership alone, without any capability.
            read_only: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
                .map(PathBuf::from)
                .to_vec(),
            namespaces: Namespaces {
                mount: Namespace::New,
                pid: Namespace::New,
                ipc: Namespace::New,
                uts: Namespace::New,
                cgroup: Namespace::New,
                user: Namespace::Inherited,
                time: Namespace::Inherited,
            },
            user_ids: None,
            hostname: None,
            usual_hostname: false,
            user: None,
            root_capabilities: CapabilitySet::ROOT_DEFAULT,
            cap_add: CapabilitySet::default(),
            cap_drop: CapabilitySet::default(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            allow_suid: false,
            secrets: Vec::new(),
            run_dirs: Vec::new(),
            landlock: true,
            rlimits: Vec::new(),
            sysctls: Vec::new(),
            umask: 0o022,
            limits: Limits::default(),
            systemd_cgroup: false,
            network: Network::None,
            publish: Vec::new(),
            rates: Rates::default(),
            rate_group: None,
            plugins: Vec::new(),
            listen_fds: 0,
            terminal: false,
            init: true,
            die_with_parent: true,
        }
    }
}

/// Where programs are looked for if nothing else is said.
pub const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The value of an environment variable.
pub fn variable<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

impl Sandbox {
    /// The blog's minimal set: a private /tmp over an otherwise untouched mount table.
    pub fn compat() -> Sandbox {
        Sandbox {
            root: Root::Untouched,
            mounts: vec![Mount {
                optional: false,
                origin: "compat".into(),
                ..Mount::private("/tmp", 512 * MIB, None)
            }],
            masked: Vec::new(),
            read_only: Vec::new(),
            namespaces: Namespaces { mount: Namespace::New, ..Namespaces::default() },
            no_new_privileges: false,
            seccomp: Seccomp::Unconfined,
            landlock: false,
            network: Network::Host,
            init: false,
            root_capabilities: CapabilitySet::ALL,
            ..Sandbox::default()
        }
    }

    /// Adds a mount; a tmpfs replaces an existing one.
    pub fn add_mount(&mut self, mount: Mount) {
        let is_tmpfs = |mount: &Mount| matches!(mount.kind, MountKind::Tmpfs { .. });
        let same = |other: &&mut Mount| {
            is_tmpfs(other) && is_tmpfs(&mount) && other.target == mount.target
        };
        match self.mounts.iter_mut().find(same) {
            Some(other) => *other = mount,
            None => self.mounts.push(mount),
        }
    }

    /// Whether something is mounted at this path or above it, the root aside: what is there need not
    /// be what is below the root.
    pub(crate) fn has_mount_over(&self, path: &Path) -> bool {
        let over = |target: &Path| target != Path::new("/") && path.starts_with(target);
        self.mounts.iter().any(|mount| over(&mount.target))
    }

    /// Checks what a type cannot: parts that contradict each other.
    pub fn validate(&self) -> Result<()> {
        if self.command.is_empty() {
            return Err(Error::new("no command to run").hint("write it after --"));
        }
        if !self.publish.is_empty() && !self.network.has_address() {
            return Err(Error::new("-p needs a private network")
                .hint("use --network private, or leave --network out"));
        }
        if !self.rates.is_empty() {
            self.validate_rates("rate", &self.rates.to_string())?;
        }
        if let Some(group) = &self.rate_group {
            group.check()?;
            self.validate_rates("rate-group", &group.to_string())?;
            group.check_own(&self.rates)?;
        }
        if self.hostname.is_some() && !self.namespaces.uts.is_new() {
            return Err(Error::new("--hostname needs a new UTS namespace"));
        }
        if self.hostname.as_ref().is_some_and(|name| name.is_empty() || name.len() > 64) {
            return Err(Error::new("--hostname: not between 1 and 64 bytes"));
        }
        if self.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Proc { .. }))
            && !self.namespaces.pid.is_new()
        {
            return Err(Error::new("a proc file system needs a new pid namespace"));
        }
        self.mounts.iter().try_for_each(Mount::check)?;
        for (name, _) in &self.sysctls {
            self.validate_sysctl(name)?;
        }
        for name in &self.run_dirs {
            directory::check_run_dir(name, &self.mounts)?;
        }
        self.validate_secrets()?;
        Plugin::check_all(&self.plugins)?;
        self.limits.check()
    }

    fn validate_secrets(&self) -> Result<()> {
        let own_view = self.root != Root::Untouched && self.namespaces.mount.is_new();
        for (nth, secret) in self.secrets.iter().enumerate() {
            let refuse =
                |why: &str| Err(Error::new(format!("--secret {}: {why}", secret.file.display())));
            if !own_view {
                return refuse("the sandbox has no /run of its own to keep it in");
            }
            if self.secrets[..nth].iter().any(|other| other.name == secret.name) {
                return refuse(&format!("another one is named {}", secret.name));
            }
        }
        Ok(())
    }

    /// A rate is enforced on the link between host and sandbox, so there must be one.
    fn validate_rates(&self, flag: &str, value: &str) -> Result<()> {
        let refuse = |why: &str| Error::new(format!("--{flag} {value}: {why}"));
        match &self.network {
            Network::Private | Network::Internal => self.rates.check(),
            Network::None => Err(refuse("the sandbox has no network")
                .hint("add --network private, or publish a port with -p")),
            Network::Host => Err(refuse(
                "the sandbox shares the host's network, which cannot be limited per sandbox",
            )
            .hint("use --network private")),
            Network::Join(_) => {
                Err(refuse("the sandbox joins another's network, which it must not limit")
                    .hint("use --network private"))
            }
        }
    }

    /// Whether it has something outside that must be released, and so is on record.
    pub fn has_outside(&self) -> bool {
        self.network.has_address()
            || !self.limits.is_empty()
            || self.systemd_cgroup
            || !self.plugins.is_empty()
    }

    /// Only a value that belongs to one of the new namespaces may be set: others are the host's.
    fn validate_sysctl(&self, name: &str) -> Result<()> {
        const IPC: [&str; 9] = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
            "fs.mqueue",
        ];
        if name.contains("..") || name.contains('/') {
            return Err(Error::new(format!("--sysctl {name}: not a dotted name")));
        }
        let belongs = if name.starts_with("net.") {
            self.network.is_own()
        } else if IPC.iter().any(|known| name == *known || name.starts_with("fs.mqueue.")) {
            self.namespaces.ipc.is_new()
        } else {
            (name == "kernel.domainname" || name == "kernel.hostname")
                && self.namespaces.uts.is_new()
        };
        if belongs {
            Ok(())
        } else {
            Err(Error::new(format!(
                "--sysctl {name}: not a parameter of the sandbox's own namespaces"
            ))
            .hint("it would change the host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_takes_the_place_of_one_and_what_lies_on_it_stays() {
        let mut sandbox = Sandbox::default();
        let place = |sandbox: &Sandbox, path: &str| {
            sandbox.mounts.iter().rposition(|mount| mount.target == Path::new(path))
        };
        let (before, many) = (place(&sandbox, "/tmp"), sandbox.mounts.len());
        sandbox.add_mount(Mount::volume("/srv:/tmp/srv").unwrap());
        sandbox.add_mount(Mount::tmpfs("/tmp:size=1m").unwrap());
        sandbox.add_mount(Mount::volume("/srv:/tmp").unwrap());
        assert_eq!(sandbox.mounts.len(), many + 2);
        assert_eq!(sandbox.mounts[before.unwrap()].origin, "--tmpfs /tmp:size=1m");
        assert_eq!(place(&sandbox, "/tmp"), Some(many + 1));
    }

    #[test]
    fn a_sysctl_of_the_host_is_refused() {
        let mut sandbox = Sandbox { command: vec!["true".into()], ..Sandbox::default() };
        for (name, fine) in [
            ("net.ipv4.ip_forward", true),
            ("kernel.shmmax", true),
            ("kernel.core_pattern", false),
            ("vm.overcommit_memory", false),
            ("net/../kernel.core_pattern", false),
        ] {
            sandbox.sysctls = vec![(name.into(), "1".into())];
            assert_eq!(sandbox.validate().is_ok(), fine, "{name}");
        }
        sandbox.network = Network::Host;
        sandbox.sysctls = vec![("net.ipv4.ip_forward".into(), "1".into())];
        assert!(sandbox.validate().is_err());
    }
}
