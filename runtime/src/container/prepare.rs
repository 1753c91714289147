//! Shared by `create` and `run`: from a bundle to a process that is ready.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::{self, listen_fds};
use super::notify::{self, Notify};
use super::record::{Asked, ContainerRecord};
use super::terminal::{Console, Master, StandardFiles};
use super::warn::Warn;
use super::{CREATING, devices, hooks, linux, own, trees};
use crate::cgroup::{self, Driver, Entrance, Hierarchy};
use crate::config::CapabilitySet;
use crate::config::oci::{self, Config, Hooks, IdMapping, NamespaceType, Status};
use crate::container::parent;
use crate::error::{Error, Result};
use crate::facts;
use crate::facts::idmap;
use crate::journal::resource::Held;
use crate::journal::{Entry, Journal, ProcessId};
use crate::plan;
use crate::plan::CgroupMount;
use crate::plan::container::{Kernel, Surroundings};
use crate::plan::seccomp::{self, Filter};
use crate::resource::Resources;
use crate::resource::rdt::{self, RdtGroup};
use crate::start::{Channel, Event, HookOutput, Process, run_with_handshake};
use crate::sys::{channel, file, process};

/// How a container is created, apart from its configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CreateOptions {
    /// The bundle; empty: the current directory.
    pub bundle: PathBuf,
    /// Its configuration; `None`: the bundle's config.json.
    pub config: Option<Box<Config>>,
    /// A socket that receives the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// A socket that receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors, from 3 on, the program inherits, besides those of LISTEN_FDS.
    pub preserve_fds: u32,
    /// chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// Have systemd make the cgroup.
    pub systemd_cgroup: bool,
    /// No cgroup at all.
    pub no_cgroup: bool,
    /// Do not wait for the program: it is only created, or left running.
    pub detached: bool,
    /// Receives warnings.
    #[serde(skip)]
    pub warn: Warn,
}

/// A container whose process is ready, or already runs.
#[derive(Debug)]
pub struct Prepared {
    /// Its journal entry.
    pub entry: Entry,
    /// Its record.
    pub record: ContainerRecord,
    /// Its first process.
    pub process: Process,
    /// The master of its terminal, if we hold it.
    pub terminal: Option<Master>,
    /// The program's notifications, if it already runs and the caller wants them.
    pub notify: Option<Notify>,
}

/// Makes a container. With `waits`, its process waits for `start`; otherwise its program runs.
///
/// # Errors
/// The step that failed; nothing is left behind.
pub fn prepare(
    journal: &Journal,
    id: &str,
    options: &CreateOptions,
    files: &StandardFiles,
    waits: bool,
) -> Result<Prepared> {
    let bundle = bundle(&options.bundle)?;
    let config = config(&bundle, options)?;
    config.warnings().iter().for_each(|warning| options.warn.tell(warning));
    config.notes().iter().for_each(|note| options.warn.note(note));
    warn_of_capabilities(&config, &options.warn)?;
    let terminal = config.process.as_ref().is_some_and(|program| program.terminal);
    let socket = options.console_socket.as_deref();
    let console = Console::choose(terminal, socket, options.detached, files)?;
    let trees = Hierarchy::read()?;
    let (entry, mut record) = place_config(journal, id, &bundle, config, (options, &trees))?;
    // Held until a failed start has given up its cgroup.
    let mut held = Held::new();
    let launched = provide(&entry, &mut record, &options.warn).and_then(|()| {
        launch(&entry, &record, (options, &trees), (console, files.numbers()), waits, &mut held)
    });
    match launched {
        Ok((process, terminal, notify)) => {
            Ok(Prepared { entry, record, process, terminal, notify })
        }
        // Report the first error; what could not be released stays on record.
        Err(error) => match super::delete::release(entry, Some(record), &options.warn) {
            Ok(()) => Err(error),
            Err(left) => Err(error.hint(format!(
                "not everything was released ({left}): use garth delete --force {id}"
            ))),
        },
    }
}

/// Makes a bundle's journal entry with its record, and nothing else yet.
///
/// # Errors
/// The bundle is invalid, or the name is taken.
pub fn place(
    journal: &Journal,
    id: &str,
    options: &CreateOptions,
) -> Result<(Entry, ContainerRecord)> {
    let bundle = bundle(&options.bundle)?;
    let config = config(&bundle, options)?;
    config.warnings().iter().for_each(|warning| options.warn.tell(warning));
    config.notes().iter().for_each(|note| options.warn.note(note));
    place_config(journal, id, &bundle, config, (options, &Hierarchy::read()?))
}

fn place_config(
    journal: &Journal,
    id: &str,
    bundle: &Path,
    config: Config,
    how: (&CreateOptions, &Hierarchy),
) -> Result<(Entry, ContainerRecord)> {
    // A name that is taken is reported before anything else.
    let entry = journal.create(id)?;
    match begin(&entry, bundle, config, how) {
        Ok(record) => Ok((entry, record)),
        Err(error) => {
            let _ = entry.remove();
            Err(error)
        }
    }
}

fn begin(
    entry: &Entry,
    bundle: &Path,
    config: Config,
    (options, trees): (&CreateOptions, &Hierarchy),
) -> Result<ContainerRecord> {
    let linux = linux(&config);
    let wanted = cgroup::Wanted {
        id: entry.id(),
        cgroups_path: linux.cgroups_path.as_deref(),
        driver: match (options.no_cgroup, options.systemd_cgroup) {
            (true, _) => Driver::Disabled,
            (false, true) => Driver::Systemd,
            (false, false) => Driver::Cgroupfs,
        },
        rootless: facts::rootless(),
        resources: &linux.resources.clone().unwrap_or_default(),
        annotations: &config.annotations,
    };
    let cgroup = cgroup::choose_container(trees, &wanted)?;
    let rdt = match &linux.intel_rdt {
        Some(wanted) => Some(RdtGroup::choose(&rdt::mounted()?, wanted, entry.id())?),
        None => None,
    };
    let others = Resources::of_container(&config.annotations, entry.journal())?;
    let resources = Resources { cgroup, rdt, ..others };
    let (bundle, owner) = (bundle.to_owned(), process::effective_ids().0);
    let record = ContainerRecord::new(entry.id(), Asked { bundle, owner, config }, resources);
    // The intent is on record before the first side effect outside the journal.
    record.write(entry)?;
    Ok(record)
}

/// Adds what resources provide to the configuration on record.
///
/// # Errors
/// A resource failed, or what it provides is not valid.
pub fn provide(entry: &Entry, record: &mut ContainerRecord, warn: &Warn) -> Result<()> {
    let provided = record.resources.provide(&record.owner(entry.journal()))?;
    if provided.is_empty() {
        return Ok(());
    }
    for one in &provided {
        one.remarks.iter().for_each(|remark| warn.tell(remark));
        one.add_to(&mut record.asked.config)?;
        record.asked.config.validate().map_err(|error| error.within(&one.origin))?;
    }
    record.write(entry)
}

fn bundle(path: &Path) -> Result<PathBuf> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fs::canonicalize(path).map_err(|e| Error::io(format!("bundle {}", path.display()), &e))
}

fn config(bundle: &Path, options: &CreateOptions) -> Result<Config> {
    let (mut config, source) = match &options.config {
        Some(config) => (Config::clone(config), "the configuration".to_owned()),
        None => (read_config(bundle)?, bundle.join("config.json").display().to_string()),
    };
    config.validate().map_err(|error| error.within(&source))?;
    own::check(&config).map_err(|error| error.within(&source))?;
    // From here on, paths mean the same wherever they are read.
    if let Some(root) = &mut config.root {
        let path = bundle.join(&root.path);
        let path = fs::canonicalize(&path)
            .map_err(|e| Error::io(format!("root.path {}", path.display()), &e))?;
        root.path = path.to_string_lossy().into_owned();
    }
    for mount in &mut config.mounts {
        let bind = mount.parse_options()?.is_bind();
        if let Some(source) = &mut mount.source
            && !source.starts_with('/')
            && bind
        {
            *source = bundle.join(&*source).to_string_lossy().into_owned();
        }
    }
    Ok(config)
}

fn read_config(bundle: &Path) -> Result<Config> {
    let path = bundle.join("config.json");
    let failed = |e: &std::io::Error| {
        Error::io(format!("read {}", path.display()), e).hint("`garth spec` writes an example")
    };
    // A fifo may never deliver anything, and a device has no end.
    let metadata = fs::metadata(&path).map_err(|e| failed(&e))?;
    if !metadata.is_file() {
        return Err(Error::new(format!("{}: not a regular file", path.display())));
    }
    // Do not read into memory what will be rejected.
    oci::check_size(metadata.len())
        .map_err(|error| error.within(format_args!("{}", path.display())))?;
    let text = fs::read(&path).map_err(|e| failed(&e))?;
    Config::parse(&text).map_err(|error| error.within(format_args!("{}", path.display())))
}

/// Warns of those the caller does not hold itself; they are left out.
fn warn_of_capabilities(config: &Config, warn: &Warn) -> Result<()> {
    let sets = config.process.as_ref().and_then(|program| program.capabilities.as_ref());
    let Some(sets) = sets else { return Ok(()) };
    if linux(config).namespace(NamespaceType::User).is_some() {
        return Ok(());
    }
    let last = facts::last_capability()?;
    let wanted = plan::container::capability_bits(&sets.permitted, last)
        | plan::container::capability_bits(&sets.bounding, last);
    let missing = CapabilitySet(wanted & !process::capabilities());
    if missing.0 != 0 {
        warn.tell(&format!(
            "process.capabilities: {} cannot be granted: the caller does not have it",
            missing.names()
        ));
    }
    Ok(())
}

/// The user of a program that has a cgroup namespace, with a writable mount of it, may make cgroups
/// of its own (config-linux.md, "Cgroup ownership"); returns its user id outside. Root does not
/// need it.
fn cgroup_owner(config: &Config) -> Option<u32> {
    let linux = config.linux.as_ref()?;
    let writable = |mount: &oci::Mount| {
        mount.kind.as_deref() == Some("cgroup")
            && mount.destination.trim_end_matches('/') == "/sys/fs/cgroup"
            && !mount.options.iter().any(|word| word == "ro" || word == "rro")
    };
    if !linux.is_new(NamespaceType::Cgroup) || !config.mounts.iter().any(writable) {
        return None;
    }
    let uid = config.process.as_ref().map_or(0, |program| program.user.uid);
    let outside = match linux.namespace(NamespaceType::User) {
        None => Some(uid),
        Some(_) => IdMapping::outside(&linux.uid_mappings, uid),
    };
    outside.filter(|uid| *uid != 0)
}

fn delegate_cgroup(record: &ContainerRecord, config: &Config) -> Result<()> {
    let owner = cgroup_owner(config);
    owner.map_or(Ok(()), |uid| record.resources.cgroup.delegate(uid))
}

/// What a mount of type `cgroup` shows.
fn cgroup_mounts(record: &ContainerRecord, trees: &Hierarchy) -> Vec<CgroupMount> {
    let asked = |mount: &oci::Mount| mount.kind.as_deref() == Some("cgroup");
    if !record.asked.config.mounts.iter().any(asked) {
        return Vec::new();
    }
    record.resources.cgroup.inside(trees)
}

fn launch(
    entry: &Entry,
    record: &ContainerRecord,
    (options, hierarchy): (&CreateOptions, &Hierarchy),
    (console, files): (Console, Option<[RawFd; 3]>),
    waits: bool,
    held: &mut Held,
) -> Result<(Process, Option<Master>, Option<Notify>)> {
    let mut config = completed(&record.asked.config, &console);
    let offered = notify::offer(entry, &mut config)?;
    let config = &config;
    // If it waits, `start` listens for its notifications.
    let notify = if waits { None } else { Notify::listen(entry.journal(), entry.id())? };
    let linux = linux(config);
    let lists = config.hooks.clone().unwrap_or_default();
    let channel = if waits { Channel::to_be_started()? } else { Channel::new()? };
    let listener = if waits { Some(listen(entry)?) } else { None };
    let filter = match &linux.seccomp {
        Some(profile) => Some(Filter::from(&seccomp::compile(profile)?)),
        None => None,
    };
    let owner = record.owner(entry.journal());
    *held = record.resources.acquire(&owner)?;
    let cgroup = &record.resources.cgroup;
    // systemd makes a scope around the process, which is then already in it.
    let entrance = match cgroup.is_scope() {
        true => Entrance::default(),
        false => {
            delegate_cgroup(record, config)?;
            cgroup.entrance(None)?
        }
    };
    let mut trees = trees::of_volumes(config, &record.resources.volumes)?;
    let rest = trees::open(config, &trees)?;
    trees.extend(rest);
    trees.retain(|(index, _)| offered.as_ref().is_none_or(|(own, _)| index != own));
    trees.extend(offered);
    let new_userns = linux.is_new(NamespaceType::User);
    let userns = match new_userns && !idmap::reaches_undumpable() {
        true => Some(trees::user_namespace(&linux.uid_mappings, &linux.gid_mappings)?),
        false => None,
    };
    let mut surroundings = Surroundings {
        user_namespace: userns.as_ref().map(AsRawFd::as_raw_fd),
        setgroups_denied: denies_setgroups(&linux),
        trees: trees.iter().map(|(index, tree)| (*index, tree.as_raw_fd())).collect(),
        seccomp: filter,
        channel: channel.number(),
        listener: listener.as_ref().map(AsRawFd::as_raw_fd),
        progress: channel.progress(),
        bundle: record.asked.bundle.clone(),
        environment: if hooks_inherit(&lists) { hooks::own_environment() } else { Vec::new() },
        console: console.descriptor(),
        plain_lines: console.plain_lines(),
        files,
        preserve: inherited(options.preserve_fds)?,
        connects: record.resources.connects(),
        no_pivot: options.no_pivot,
        uncovered: if options.no_pivot { uncovered(config)? } else { Vec::new() },
        no_keyring: options.no_new_keyring,
        cgroup: entrance.unified.as_ref().map(AsRawFd::as_raw_fd),
        cgroup_files: entrance.files,
        cgroups: cgroup_mounts(record, hierarchy),
        confined: facts::confined(),
        devices: devices::bound(config)?,
        states: [
            hooks::around_pid(&record.state(Status::Creating, 0))?,
            hooks::around_pid(&record.state(Status::Created, 0))?,
        ],
        ..surroundings()?
    };
    let score = parent::suit(&mut surroundings, config.process.as_ref())?;
    let plan = plan::container::compile(config, &surroundings)?;
    options.warn.steps(&plan);
    let tell = |line: &str| options.warn.note(line);
    let process = run_with_handshake(
        &plan,
        channel,
        &mut HookOutput::new(&tell),
        |event, process| match event {
            Event::Maps => idmap::write(process.pid(), &linux.uid_mappings, &linux.gid_mappings),
            Event::Begun => {
                entry.write_process(&ProcessId::of(process.pid())?)?;
                record.resources.admit(&owner, process.pid())?;
                if record.resources.cgroup.is_scope() {
                    delegate_cgroup(record, config)?;
                }
                parent::give(&linux, process.pid())?;
                parent::set_clocks(&linux, process.pid())?;
                match &config.process {
                    Some(program) => parent::raise_limits(record, program, process.pid()),
                    None => Ok(()),
                }
            }
            Event::Mounted => {
                before_root(&lists, record, process.pid(), &options.warn)?;
                // After the hooks: an engine may make the network in one.
                record.resources.connect(&owner, process.pid())
            }
            Event::Listener(descriptor) => {
                parent::send_listener(record, Status::Creating, process.pid(), &descriptor)
            }
        },
    )?;
    drop(score);
    if let Some(path) = &options.pid_file {
        parent::write_pid_file(path, process.pid())?;
    }
    if let Some(socket) = parent::connect(options.pidfd_socket.as_deref(), "--pidfd-socket")? {
        channel::send_descriptor(socket.as_raw_fd(), b"pidfd", process.pidfd().as_raw_fd())
            .map_err(|errno| Error::os("send a pidfd to --pidfd-socket", errno))?;
    }
    let terminal = console.take()?;
    Ok((process, terminal, notify))
}

/// Is setgroups(2) denied in the container's user namespace?
fn denies_setgroups(linux: &oci::Linux) -> bool {
    match linux.namespace(NamespaceType::User) {
        None => false,
        Some(namespace) => match &namespace.path {
            None => idmap::denies_setgroups(&linux.gid_mappings),
            // Engines name it by a process inside.
            Some(path) => {
                let pid =
                    path.strip_prefix("/proc/").and_then(|path| path.strip_suffix("/ns/user"));
                pid.is_some_and(idmap::setgroups_denied)
            }
        },
    }
}

/// Adds what depends on this call and not only on the bundle.
fn completed(config: &Config, console: &Console) -> Config {
    let mut completed = config.clone();
    if let Some(program) = &mut completed.process {
        let home = |uid| environment::home_in_bundle(config, uid);
        environment::complete(program, listen_fds(), home);
        program.console_size = console.size().or(program.console_size);
    }
    completed
}

/// How many descriptors, from 3 on, the program gets: `preserve`, plus the sockets of LISTEN_FDS.
/// Each must have been given to us, or one of our own would be passed on in its place.
///
/// # Errors
/// The first descriptor that was not given.
pub fn inherited(preserve: u32) -> Result<u32> {
    let count = environment::passed(preserve);
    let missing = (3..).take(count as usize).find(|fd| !file::is_inherited(*fd));
    match missing {
        None => Ok(count),
        Some(fd) => {
            Err(Error::new(format!("descriptor {fd} is not open, of {count} to pass from 3 up"))
                .hint("the count is --preserve-fds plus LISTEN_FDS"))
        }
    }
}

/// What is the same for every container and every exec.
pub fn surroundings() -> Result<Surroundings> {
    let score = file::read_kernel("/proc/self/oom_score_adj").unwrap_or_default();
    Ok(Surroundings {
        last_capability: facts::last_capability()?,
        held_capabilities: process::capabilities(),
        oom_score_adj: score.trim().parse().unwrap_or(0),
        kernel: Kernel {
            // The file also exists if AppArmor was turned off at boot.
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        },
        ..Surroundings::default()
    })
}

/// Where the host has proc and sysfs mounted, which remain reachable behind a chroot: in a user
/// namespace new ones may only be mounted if some instance is not covered.
fn uncovered(config: &Config) -> Result<Vec<PathBuf>> {
    let root = config.root.as_ref().map(|root| Path::new(&root.path));
    let mounts = facts::mounts()?.into_iter().rev();
    let of_kernel = mounts.filter(|mount| matches!(&*mount.kind, "proc" | "sysfs"));
    let outside = of_kernel.filter(|mount| root.is_none_or(|root| !mount.target.starts_with(root)));
    Ok(outside.map(|mount| mount.target).collect())
}

fn before_root(lists: &Hooks, record: &ContainerRecord, pid: i32, warn: &Warn) -> Result<()> {
    let state = record.state(Status::Creating, pid);
    hooks::run(&lists.prestart, "prestart", &state, warn)?;
    hooks::run(&lists.create_runtime, "createRuntime", &state, warn)
}

/// Does a hook that the child runs inherit the caller's environment?
fn hooks_inherit(lists: &Hooks) -> bool {
    lists.create_container.iter().any(|hook| hook.env.is_none())
}

fn listen(entry: &Entry) -> Result<OwnedFd> {
    channel::listen(entry.as_lock().as_fd(), CREATING)
        .map_err(|errno| Error::os(format!("create {}", entry.file(CREATING).display()), errno))
}
