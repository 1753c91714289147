//! `garth wrap` and `garth explain wrap`: flags to a [`Sandbox`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Format, Global, print, shown, tell, to_json};
use crate::config::units::Size;
use crate::config::{
    CapabilitySet, Directory, Mount, MountKind, Namespace, Network, Profile, Publish, RateGroup,
    Rates, Rlimit, Root, Sandbox, Seccomp, Throttle,
};
use crate::error::{Error, Result};
use crate::facts::{resolver, users};
use crate::resource::bandwidth;
use crate::service;
use crate::start::{self, Child, Options};
use crate::sys::process::Signals;
use crate::{network, resource};

/// The starting point that the other flags change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Base {
    /// Everything private that can be; the host's files read-only; few privileges.
    Default,
    /// Only a private /tmp, over an otherwise untouched mount table.
    Compat,
}

/// Run a command or daemon in a yard of its own.
///
/// The command sees the host's files read-only, a /tmp of its own that ends with it, no other
/// processes, and no network unless asked for one.
#[derive(Debug, Args)]
pub struct Wrap {
    #[command(flatten)]
    yard: Yard,
    /// Leave the sandbox running, and print its name
    #[arg(short, long)]
    detach: bool,
    /// With -d: append the command's output to this file [default: the last of it is kept for ps -a
    /// and wait]
    #[arg(long, value_name = "FILE", requires = "detach")]
    log: Option<PathBuf>,
}

/// Print what `garth wrap` would do.
#[derive(Debug, Args)]
pub struct ExplainWrap {
    #[command(flatten)]
    yard: Yard,
    /// As in wrap
    #[arg(short, long, hide = true)]
    detach: bool,
    /// As in wrap
    #[arg(long, value_name = "FILE", hide = true)]
    log: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct Yard {
    /// Publish a port: [IP:]HOST:CONTAINER[/udp]; without an address on loopback only
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// private (an address and a way out), none, host, or ns:PATH [default: none; with -p: private]
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Addresses of private networks [default: a range that the host has no route to]
    #[arg(long, value_name = "CIDR")]
    pool4: Option<String>,
    /// IPv6 addresses of private networks
    #[arg(long, value_name = "CIDR")]
    pool6: Option<String>,
    /// How fast the private network may be: up=10Mbit/s,down=2MB/s, or one rate for both ways
    #[arg(long, value_name = "RATES")]
    rate: Option<String>,
    /// A budget shared with the other sandboxes of that name: office:up=100Mbit/s,down=50Mbit/s,share=2
    #[arg(long, value_name = "GROUP")]
    rate_group: Option<String>,
    /// User and group that the command runs as: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Memory limit, as 256m or 2g
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// Processors' worth of time, as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Processors to run on, as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<String>,
    /// How fast it may use the disk that PATH is on: read=50MB/s:PATH; also write=, riops=, wiops=
    #[arg(long, value_name = "LIMITS")]
    io: Vec<String>,
    /// Ask a plugin to make something for the sandbox: NAME[:key=value,...]
    #[arg(long, value_name = "PLUGIN")]
    plugin: Vec<String>,
    /// Make a path of the host writable
    #[arg(long, value_name = "PATH")]
    rw: Vec<OsString>,
    /// Mount a file or directory of the host: SOURCE:TARGET[:ro,noexec,...]
    #[arg(short, long, value_name = "MOUNT")]
    volume: Vec<OsString>,
    /// Mount an empty directory in memory: TARGET[:size=64m,mode=1777,...]
    #[arg(long, value_name = "MOUNT")]
    tmpfs: Vec<OsString>,
    /// Make a directory below /run that belongs to the command's user, as systemd's RuntimeDirectory=
    #[arg(long, value_name = "NAME")]
    run_dir: Vec<PathBuf>,
    /// Use this directory as the root, instead of a view of the host's
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// With --rootfs: nothing in it can be written
    #[arg(long)]
    read_only: bool,
    /// The starting point that the other flags change
    #[arg(long, value_enum, default_value = "default")]
    profile: Base,
    /// Give capabilities, by name, or all
    #[arg(long, value_name = "CAPS")]
    cap_add: Vec<String>,
    /// Take capabilities away, by name, or all
    #[arg(long, value_name = "CAPS")]
    cap_drop: Vec<String>,
    /// An OCI seccomp profile, unconfined, or log (allow, but log what the default would refuse)
    #[arg(long, value_name = "FILE")]
    seccomp: Option<String>,
    /// Let set-user-ID and set-group-ID files be made: outside they give their owner's rights
    #[arg(long)]
    allow_suid: bool,
    /// Host name inside, with an address in its /etc/hosts [default: the sandbox's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Working directory inside [default: the current one, if it is there and may be entered]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Set an environment variable, or pass one through
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Set environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Begin with an empty environment (but for PATH)
    #[arg(long)]
    clear_env: bool,
    /// A name by which ps, exec, kill and delete know the sandbox
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let the command be pid 1 itself, without an init that reaps and forwards signals
    #[arg(long)]
    as_pid_1: bool,
    /// A resource limit, as nofile=1024:2048
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// A kernel setting of the sandbox's own namespaces, as net.core.somaxconn=1024
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// File mode creation mask, as 027
    #[arg(long, value_name = "MASK")]
    umask: Option<String>,
    /// Hide the processes of other users in /proc
    #[arg(long)]
    hidepid: bool,
    /// Have a user namespace, also for root, with ids of its own: those that /etc/subuid gives root, or
    /// these of the host
    #[arg(long, value_name = "FIRST:COUNT", num_args = 0..=1, require_equals = true,
        default_missing_value = "")]
    userns: Option<String>,
    /// Have a time namespace
    #[arg(long)]
    timens: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Of what nobody asked for, what could not be had.
fn tell_spared(child: &Child) {
    child.process().spared().iter().for_each(|loss| tell(&format!("warning: {loss}")));
}

/// The value of one `--io`; paths are made absolute, as the record is read elsewhere.
pub(super) fn throttles(text: &str) -> Result<Vec<Throttle>> {
    let mut throttles = Throttle::parse(text)?;
    for throttle in &mut throttles {
        throttle.path = absolute(&throttle.path)?;
    }
    Ok(throttles)
}

impl Wrap {
    pub(super) fn run(mut self, global: &Global) -> Result<i32> {
        if self.detach && self.yard.name.is_none() {
            self.yard.name = Some(start::random_id());
        }
        let (mut sandbox, options) = self.yard.build(global)?;
        service::hand_down(&mut sandbox, global.journal().root())?;
        start::protect(&sandbox)?;
        if !self.detach {
            let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
            let child = sandbox.spawn(&options)?;
            tell_spared(&child);
            service::cautions(&sandbox).iter().for_each(|line| global.log.warn(line));
            return service::supervise(child, &signals, &super::warn).map(service::end_as);
        }
        match service::detach(&sandbox, options, self.log.as_deref())? {
            Ok(name) => {
                print(&format!("{name}\n"));
                service::cautions(&sandbox).iter().for_each(|line| global.log.warn(line));
                Ok(0)
            }
            Err(code) => Ok(code),
        }
    }
}

impl ExplainWrap {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let (mut sandbox, options) = self.yard.build(global)?;
        sandbox.die_with_parent = !self.detach;
        service::hand_down(&mut sandbox, global.journal().root())?;
        let explanation = sandbox.explain(&options)?;
        if self.json || self.format == Format::Json {
            let steps = explanation.plan.steps.iter().enumerate();
            let steps: Vec<_> = steps
                .map(|(number, planned)| {
                    serde_json::json!({
                        "number": number,
                        "step": planned.to_string(),
                        "origin": planned.origin,
                    })
                })
                .collect();
            let all = serde_json::json!({
                "outside": explanation.outside,
                "namespaces": crate::plan::namespaces(explanation.plan.namespaces),
                "steps": steps,
            });
            print(&to_json(&all)?);
        } else {
            for line in &explanation.outside {
                print(&format!("out  {}\n", shown(line)));
            }
            let plan = explanation.plan.to_string();
            plan.lines().for_each(|line| print(&format!("{}\n", shown(line))));
        }
        Ok(0)
    }
}

impl Yard {
    /// The flags as a sandbox, and how to start it.
    fn build(self, global: &Global) -> Result<(Sandbox, Options)> {
        let mut sandbox = match self.profile {
            Base::Default => Sandbox::default(),
            Base::Compat => Sandbox::compat(),
        };
        self.network(&mut sandbox)?;
        self.files(&mut sandbox)?;
        self.privileges(&mut sandbox)?;
        self.limits(&mut sandbox)?;
        sandbox.systemd_cgroup = global.systemd_cgroup;
        self.environment(&mut sandbox)?;
        if sandbox.namespaces.uts.is_new() {
            sandbox.usual_hostname = self.hostname.is_none();
            let name = self.hostname.as_ref().or(self.name.as_ref());
            sandbox.hostname = Some(name.map_or("garth", String::as_str).to_owned());
        } else {
            sandbox.hostname = self.hostname;
        }
        sandbox.init &= !self.as_pid_1;
        if let Some(text) = &self.userns {
            sandbox.namespaces.user = Namespace::New;
            if !text.is_empty() {
                let range = text.parse().map_err(|error: Error| error.within("--userns"))?;
                sandbox.user_ids = Some(range);
            }
        }
        if self.timens {
            sandbox.namespaces.time = Namespace::New;
        }
        sandbox.command = self.command;
        let options = Options {
            root: global.root.clone(),
            name: self.name,
            pools: network::Config::parse(self.pool4.as_deref(), self.pool6.as_deref())?,
            merge_stderr: false,
        };
        Ok((sandbox, options))
    }

    fn network(&self, sandbox: &mut Sandbox) -> Result<()> {
        for text in &self.publish {
            sandbox.publish.extend(Publish::parse(text)?);
        }
        match &self.network {
            Some(text) => sandbox.network = text.parse()?,
            None if !self.publish.is_empty() => sandbox.network = Network::Private,
            None => {}
        }
        if let Some(text) = &self.rate {
            sandbox.rates = text.parse::<Rates>().map_err(|error| error.within("--rate"))?;
        }
        if let Some(text) = &self.rate_group {
            let group = text.parse::<RateGroup>().map_err(|error| error.within("--rate-group"))?;
            sandbox.rate_group = Some(group);
        }
        if sandbox.network == Network::Private {
            bandwidth::check(&sandbox.rates)?;
            bandwidth::check_group(sandbox.rate_group.as_ref())?;
            self.without_root(sandbox)?;
        }
        Ok(())
    }

    /// Without root a private network needs a program that may not be installed. A way out that is not
    /// there is said, and the sandbox has none; a port that cannot be published is an error.
    fn without_root(&self, sandbox: &mut Sandbox) -> Result<()> {
        let Some(missing) = resource::no_private_network() else { return Ok(()) };
        if let Some(publish) = self.publish.first() {
            return Err(missing.within(format_args!("-p {publish}")));
        }
        super::complain(&missing.within("going on with --network none"));
        sandbox.network = Network::None;
        Ok(())
    }

    fn files(&self, sandbox: &mut Sandbox) -> Result<()> {
        if let Some(path) = &self.rootfs {
            sandbox.root = Root::Dir { path: absolute(path)?, read_only: self.read_only };
        } else if let Some(mount) = resolver::mount(&sandbox.network)
            && sandbox.root == Root::Host
        {
            sandbox.mounts.push(mount);
        }
        if self.hidepid {
            for mount in &mut sandbox.mounts {
                if let MountKind::Proc { hidepid } = &mut mount.kind {
                    *hidepid = true;
                }
            }
        }
        sandbox.run_dirs.clone_from(&self.run_dir);
        for path in &self.rw {
            sandbox.mounts.push(Mount::writable(path)?);
        }
        for text in &self.volume {
            sandbox.mounts.push(Mount::volume(text)?);
        }
        for text in &self.tmpfs {
            let mount = Mount::tmpfs(text)?;
            // A tmpfs where there is one already replaces it.
            sandbox.mounts.retain(|other| {
                other.target != mount.target || !matches!(other.kind, MountKind::Tmpfs { .. })
            });
            sandbox.mounts.push(mount);
        }
        Ok(())
    }

    fn privileges(&self, sandbox: &mut Sandbox) -> Result<()> {
        sandbox.user = self.user.clone();
        for names in &self.cap_add {
            let set = CapabilitySet::parse(names).map_err(|e| e.within("--cap-add"))?;
            sandbox.cap_add = sandbox.cap_add.union(set);
        }
        for names in &self.cap_drop {
            let set = CapabilitySet::parse(names).map_err(|e| e.within("--cap-drop"))?;
            // What is added by name stays, as with docker's --cap-drop all --cap-add chown.
            sandbox.cap_drop = sandbox.cap_drop.union(set);
        }
        if self.profile == Base::Default {
            sandbox.cap_drop = sandbox.cap_drop.without(sandbox.cap_add);
        }
        match self.seccomp.as_deref() {
            None => {}
            Some("unconfined") => sandbox.seccomp = Seccomp::Unconfined,
            Some("log") => sandbox.seccomp = Seccomp::Log,
            Some("default") => sandbox.seccomp = Seccomp::Default,
            Some(file) => {
                let origin = format!("--seccomp {file}");
                let text = std::fs::read(file).map_err(|e| Error::io(&origin, &e))?;
                let profile = Profile::parse(&text, &origin)?;
                sandbox.seccomp = Seccomp::Profile(origin, Box::new(profile));
            }
        }
        sandbox.allow_suid = self.allow_suid;
        if let Some(text) = &self.umask {
            sandbox.umask =
                u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777).ok_or_else(
                    || Error::new(format!("--umask {text}: not an octal mask")).hint("as in 027"),
                )?;
        }
        Ok(())
    }

    fn limits(&self, sandbox: &mut Sandbox) -> Result<()> {
        fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T> {
            text.parse().map_err(|_| Error::new(format!("{flag} {text}: not a number")))
        }
        let size = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                let size = text.parse::<Size>();
                size.map(Some).map_err(|e| e.within(format_args!("{flag} {text}")))
            }
        };
        let limits = &mut sandbox.limits;
        limits.memory = size("--memory", &self.memory)?;
        limits.swap = size("--memory-swap", &self.memory_swap)?;
        limits.cpus = self.cpus.as_deref().map(|text| number("--cpus", text)).transpose()?;
        limits.pids =
            self.pids_limit.as_deref().map(|text| number("--pids-limit", text)).transpose()?;
        limits.cpuset = self.cpuset_cpus.clone();
        for text in &self.io {
            limits.io.extend(throttles(text)?);
        }
        for text in &self.plugin {
            sandbox.plugins.push(text.parse()?);
        }
        for text in &self.ulimit {
            sandbox.rlimits.push(text.parse::<Rlimit>()?);
        }
        for text in &self.sysctl {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::new(format!("--sysctl {text}: no value")).hint("write NAME=VALUE")
            })?;
            sandbox.sysctls.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// The caller's environment, with the user's own HOME and name, and the changes asked for.
    fn environment(&self, sandbox: &mut Sandbox) -> Result<()> {
        let mut env: Vec<(OsString, OsString)> = match self.clear_env {
            false => std::env::vars_os().collect(),
            true => std::env::vars_os().filter(|(name, _)| name == "PATH").collect(),
        };
        let mut set = |name: OsString, value: OsString| {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        };
        if let Some(spec) = &self.user {
            let user = users::inside(spec, &sandbox.root)?;
            for (name, value) in
                [("HOME", user.home), ("USER", user.name.clone()), ("LOGNAME", user.name)]
            {
                set(name.into(), value.into());
            }
        }
        for file in &self.env_file {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::io(format!("--env-file {}", file.display()), &e))?;
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                match line.split_once('=') {
                    Some((name, value)) => set(name.into(), value.into()),
                    None => {
                        let file = file.display();
                        return Err(Error::new(format!("--env-file {file}: {line:?} has no =")));
                    }
                }
            }
        }
        for text in &self.env {
            use std::os::unix::ffi::{OsStrExt, OsStringExt};
            let bytes = text.as_bytes();
            match bytes.iter().position(|b| *b == b'=') {
                Some(0) => return Err(Error::new(format!("-e {text:?}: no name before the ="))),
                Some(at) => set(
                    OsString::from_vec(bytes[..at].to_vec()),
                    OsString::from_vec(bytes[at + 1..].to_vec()),
                ),
                None => {
                    if let Some(value) = std::env::var_os(text) {
                        set(text.clone(), value);
                    }
                }
            }
        }
        sandbox.env = env;
        if let Some(dir) = &self.workdir {
            sandbox.cwd = Directory::At(dir.clone());
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(path.display(), &e))
}
