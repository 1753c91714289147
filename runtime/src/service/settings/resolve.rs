//! From [`Settings`] to a [`Sandbox`] and [`Options`] on this host.

use std::path::PathBuf;
use std::str::FromStr;

use super::{Base, Settings};
use crate::config::units::Size;
use crate::config::{
    CapabilitySet, Directory, Mount, MountKind, Namespace, Network, Publish, RateGroup, Rates,
    Rlimit, Root, Sandbox, Seccomp, Throttle,
};
use crate::error::{Error, Result};
use crate::service::handed::hand_down;
use crate::start::Options;
use crate::{network, resource};

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
        let mut sandbox = match self.profile {
            Base::Default => Sandbox::default(),
            Base::Compat => Sandbox::compat(),
        };
        let mut cautions = Vec::new();
        self.network(&mut sandbox)?;
        cautions.extend(without_network(&mut sandbox));
        self.files(&mut sandbox)?;
        self.privileges(&mut sandbox)?;
        self.limits(&mut sandbox)?;
        self.namespaces(&mut sandbox)?;
        sandbox.env = self.environment(&sandbox.root)?;
        let pools = network::Pools::parse(self.pool4.as_deref(), self.pool6.as_deref())?;
        let options = Options { root, name: self.name, pools, merge_stderr: false };
        sandbox.command = self.command;
        hand_down(&mut sandbox, options.journal().root())?;
        Ok(Resolved { sandbox, options, cautions })
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
