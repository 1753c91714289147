//! From [`Settings`] to a [`Sandbox`] and [`Options`] on this host.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Base, Settings, environment};
use crate::config::units::Size;
use crate::config::{
    CapabilitySet, Directory, Mount, MountKind, Namespace, Network, Publish, RateGroup, Rates,
    Rlimit, Root, Sandbox, Seccomp, Secret, Throttle, USUAL_PATH,
};
use crate::error::{Error, Result};
use crate::facts::users;
use crate::journal::Journal;
use crate::service::handed::hand_down;
use crate::start::Options;
use crate::sys::process;
use crate::volume::usage::VolumeUse;
use crate::{network, resource};

/// The values of `--seccomp` that are not files.
const SECCOMP_WORDS: [&str; 3] = ["unconfined", "log", "default"];

/// Resolved settings.
#[derive(Debug)]
pub struct Resolved {
    /// What to start.
    pub sandbox: Sandbox,
    /// How to start it.
    pub options: Options,
    /// What the sandbox has to do without; to be shown to the user.
    pub cautions: Vec<Error>,
}

impl Settings {
    /// Resolves the settings on this host, for this caller; `root` is the state directory, if not
    /// the default.
    ///
    /// # Errors
    /// A value is invalid, or a file or user does not exist.
    pub fn resolve(self, root: Option<PathBuf>) -> Result<Resolved> {
        self.resolve_within(root, std::env::vars_os().collect(), Path::new(""))
    }

    /// Same as [`Settings::resolve`], for a service of a file in the directory `dir`: relative paths
    /// start there, and of the caller's environment it has only what it asks for.
    ///
    /// # Errors
    /// Same as `resolve`.
    pub fn resolve_for_service(mut self, root: Option<PathBuf>, dir: &Path) -> Result<Resolved> {
        self.start_paths_at(dir);
        self.workdir.get_or_insert_with(|| "/".into());
        let mut env = vec![("PATH".into(), USUAL_PATH.into())];
        if self.user.is_none() {
            let (uid, _) = process::effective_ids();
            if let Ok(user) = users::inside(&uid.to_string(), &Root::Host) {
                environment::set(&mut env, "HOME", user.home);
                environment::set(&mut env, "USER", user.name.clone());
                environment::set(&mut env, "LOGNAME", user.name);
            }
        }
        let mut resolved = self.resolve_within(root, env, dir)?;
        resolved.sandbox.die_with_parent = false;
        resolved.sandbox.validate()?;
        Ok(resolved)
    }

    /// Makes relative paths absolute: they start at `dir`.
    pub(in crate::service) fn start_paths_at(&mut self, dir: &Path) {
        for path in &mut self.rw {
            *path = dir.join(&path).into();
        }
        for file in &mut self.secret {
            *file = dir.join(&file).into();
        }
        for volume in &mut self.volume {
            if Mount::is_of_path(volume) && !volume.as_bytes().starts_with(b"/") {
                let mut whole = dir.as_os_str().to_owned();
                whole.push("/");
                whole.push(&volume);
                *volume = whole;
            }
        }
        for file in &mut self.env_file {
            *file = dir.join(&file);
        }
        if let Some(path) = &mut self.rootfs {
            *path = dir.join(&path);
        }
        if let Some(file) = &mut self.seccomp
            && !SECCOMP_WORDS.contains(&file.as_str())
        {
            *file = dir.join(&file).to_string_lossy().into_owned();
        }
    }

    fn resolve_within(
        self,
        root: Option<PathBuf>,
        env: Vec<(OsString, OsString)>,
        dir: &Path,
    ) -> Result<Resolved> {
        let mut sandbox = self.base();
        let mut cautions = Vec::new();
        self.network(&mut sandbox)?;
        cautions.extend(without_network(&mut sandbox));
        self.files(&mut sandbox)?;
        self.privileges(&mut sandbox)?;
        self.limits(&mut sandbox)?;
        self.namespaces(&mut sandbox)?;
        sandbox.env = self.environment(&sandbox.root, env)?;
        let pools = self.pools()?;
        let options = Options { root, name: self.name, pools, ..Options::default() };
        sandbox.terminal = self.tty;
        sandbox.command = self.command;
        let journal = options.journal();
        hand_down(&mut sandbox, journal.root())?;
        cautions.extend(volumes_like_files(&sandbox, &journal, dir));
        Ok(Resolved { sandbox, options, cautions })
    }

    /// The sandbox to which the settings are applied.
    fn base(&self) -> Sandbox {
        match self.profile {
            Base::Default => Sandbox::default(),
            Base::Compat => Sandbox::compat(),
        }
    }

    /// Which network it asks for.
    pub(in crate::service) fn kind_of_network(&self) -> Result<Network> {
        match &self.network {
            Some(text) => text.parse(),
            None if !self.publish.is_empty() => Ok(Network::Private),
            None => Ok(self.base().network),
        }
    }

    /// Where its address comes from.
    pub(in crate::service) fn pools(&self) -> Result<network::Pools> {
        network::Pools::parse(self.pool4.as_deref(), self.pool6.as_deref())
    }

    fn network(&self, sandbox: &mut Sandbox) -> Result<()> {
        for text in &self.publish {
            sandbox.publish.extend(Publish::parse(text)?);
        }
        sandbox.network = self.kind_of_network()?;
        if let Some(text) = &self.rate {
            sandbox.rates = text.parse::<Rates>().map_err(|error| error.within("--rate"))?;
        }
        if let Some(text) = &self.rate_group {
            let group = text.parse::<RateGroup>().map_err(|error| error.within("--rate-group"))?;
            sandbox.rate_group = Some(group);
        }
        Ok(())
    }

    fn files(&self, sandbox: &mut Sandbox) -> Result<()> {
        if let Some(path) = &self.rootfs {
            sandbox.root = Root::Dir { path: path.clone(), read_only: self.read_only };
        }
        if self.hidepid {
            for mount in &mut sandbox.mounts {
                if let MountKind::Proc { hidepid } = &mut mount.kind {
                    *hidepid = true;
                }
            }
        }
        for text in &self.secret {
            sandbox.secrets.push(Secret::parse(text)?);
        }
        sandbox.run_dirs.clone_from(&self.run_dir);
        for path in &self.rw {
            sandbox.add_mount(Mount::writable(path)?);
        }
        for text in &self.volume {
            sandbox.add_mount(Mount::volume(text)?);
        }
        for text in &self.tmpfs {
            sandbox.add_mount(Mount::tmpfs(text)?);
        }
        if let Some(dir) = &self.workdir {
            sandbox.cwd = Directory::At(dir.clone());
        }
        Ok(())
    }

    fn privileges(&self, sandbox: &mut Sandbox) -> Result<()> {
        let set = |flag: &str, names: &[String]| {
            names.iter().try_fold(CapabilitySet::default(), |set, names| {
                Ok(set.union(CapabilitySet::parse(names).map_err(|error| error.within(flag))?))
            })
        };
        sandbox.user.clone_from(&self.user);
        sandbox.cap_add = set("--cap-add", &self.cap_add)?;
        sandbox.cap_drop = set("--cap-drop", &self.cap_drop)?;
        if self.profile == Base::Default {
            // Capabilities added by name stay, as with docker's --cap-drop all --cap-add chown.
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
                sandbox.seccomp = Seccomp::parse(&text, &origin)?;
            }
        }
        sandbox.allow_suid = self.allow_suid;
        if let Some(text) = &self.umask {
            let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
            sandbox.umask = mask.ok_or_else(|| {
                Error::new(format!("--umask {text}: not an octal mask")).hint("e.g. 027")
            })?;
        }
        Ok(())
    }

    fn limits(&self, sandbox: &mut Sandbox) -> Result<()> {
        let limits = &mut sandbox.limits;
        limits.memory = size("--memory", self.memory.as_deref())?;
        limits.swap = size("--memory-swap", self.memory_swap.as_deref())?;
        limits.cpus = number("--cpus", self.cpus.as_deref())?;
        limits.pids = number("--pids-limit", self.pids_limit.as_deref())?;
        limits.cpuset.clone_from(&self.cpuset_cpus);
        for text in &self.io {
            limits.io.extend(Throttle::parse(text)?);
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

    fn namespaces(&self, sandbox: &mut Sandbox) -> Result<()> {
        sandbox.hostname.clone_from(&self.hostname);
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
        Ok(())
    }
}

/// Without root, a private network needs a program that may not be installed. If only outgoing
/// connections were requested, the sandbox does without, with a warning; with a port or a rate, the
/// start fails instead.
fn without_network(sandbox: &mut Sandbox) -> Option<Error> {
    let only_a_way_out = sandbox.network == Network::Private
        && sandbox.publish.is_empty()
        && sandbox.rates.is_empty()
        && sandbox.rate_group.is_none();
    let missing = only_a_way_out.then(resource::no_private_network)??;
    sandbox.network = Network::None;
    Some(missing.within("continuing with --network none"))
}

/// Volumes that do not exist yet and have the name of a file or directory in `dir`, which may be
/// what was meant.
fn volumes_like_files(sandbox: &Sandbox, journal: &Journal, dir: &Path) -> Vec<Error> {
    let mounts = sandbox.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some((mount, name)),
        _ => None,
    });
    let is_new = |name: &str| {
        matches!(journal.volume(name), Ok(None)) && !VolumeUse::is_of(journal, name).unwrap_or(true)
    };
    let alike = mounts.filter(|(_, name)| dir.join(name).exists() && is_new(name));
    let caution = |(mount, name): (&Mount, &String)| {
        Error::new(format!("{}: a new volume, not {}", mount.origin, dir.join(name).display()))
            .hint(format!("for that, write ./{name}"))
    };
    alike.map(caution).collect()
}

fn number<T: FromStr>(flag: &str, text: Option<&str>) -> Result<Option<T>> {
    let parse =
        |text: &str| text.parse().map_err(|_| Error::new(format!("{flag} {text}: not a number")));
    text.map(parse).transpose()
}

fn size(flag: &str, text: Option<&str>) -> Result<Option<Size>> {
    let parse = |text: &str| {
        text.parse().map_err(|error: Error| error.within(format_args!("{flag} {text}")))
    };
    text.map(parse).transpose()
}
