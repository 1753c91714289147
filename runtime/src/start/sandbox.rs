//! Starting a sandbox: facts, journal, resources, plan, child, in this order; and releasing them in
//! reverse order when the child has ended or a step has failed.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::places::placed;
use super::terminal::{Delivery, Terminal, Window};
use super::{Options, Process, run, seal, second, trust, volumes};
use crate::config::secret::MOST;
use crate::config::{LimitSource, Limits, Root, Sandbox, Seccomp, Secret, Size};
use crate::error::{Error, Result};
use crate::facts;
use crate::facts::{idmap, users};
use crate::journal::resource::{Held, Owner};
use crate::journal::{Entry, Journal, ProcessId, is_there};
use crate::plan::seccomp::{self, Filter};
use crate::plan::{self, Facts, Plan, Step, User, view};
use crate::resource::Resources;
use crate::resource::gc;
use crate::resource::record::Record;
use crate::resource::trace::{self, Trace};
use crate::sys::init;
use crate::sys::process::{self, Ended};
use crate::volume::usage::VolumeUse;

/// A running sandbox, held by the process that started it.
#[derive(Debug)]
pub struct Child {
    process: Process,
    recorded: Option<Recorded>,
}

/// What must be released when the sandbox ends.
#[derive(Debug)]
struct Recorded {
    entry: Entry,
    limits: Limits,
    resources: Resources,
    held: Held,
}

impl Sandbox {
    /// Starts the sandbox. When this returns, the command has been executed.
    ///
    /// # Errors
    /// Something requested is not available, or a step failed; nothing is left behind. The kinds
    /// `NotFound` and `NotExecutable` refer to the command.
    pub fn spawn(&self, options: &Options) -> Result<Child> {
        self.validate()?;
        let placed = hiding(options, placed(self, options.name.as_deref())?)?;
        match trust::is_needed(&placed) && !seal::is_protected() {
            true => Child::adopt(second::spawn(placed.clone(), options)?, &placed, options),
            false => placed.spawn_placed(options),
        }
    }

    pub(super) fn spawn_placed(&self, options: &Options) -> Result<Child> {
        let journal = options.journal();
        let mut facts = gather(self)?;
        let recorded = options.name.is_some()
            || self.has_outside()
            || !VolumeUse::of_sandbox(self, &journal)?.is_empty();
        if !recorded {
            let _trees = volumes::make(self, &mut facts, &journal, &[])?;
            let plan = compile(self, &facts, options)?;
            let process = execute(plan, options.window, |_| Ok(()))?;
            return Ok(Child { process, recorded: None });
        }
        let id = options.name.clone().unwrap_or_else(random_id);
        match self.start(&journal, &id, &mut facts, options) {
            // What it needs may still be held by a sandbox that has ended without being released.
            Err(_) if self.network.has_address() && gc::release_networks(&journal)? => {
                self.start(&journal, &id, &mut facts, options)
            }
            started => started,
        }
    }

    fn start(
        &self,
        journal: &Journal,
        id: &str,
        facts: &mut Facts,
        options: &Options,
    ) -> Result<Child> {
        let entry = create(journal, id)?;
        let limits = self.limits.clone();
        let mut recorded =
            Recorded { entry, limits, resources: Resources::default(), held: Held::new() };
        match recorded.start(self, facts, options) {
            Ok(process) => Ok(Child { process, recorded: Some(recorded) }),
            // The first error counts; what could not be released stays on record.
            Err(error) => match recorded.release() {
                Ok(()) => Err(error),
                Err(left) => {
                    Err(error.hint(format!("not everything was released ({left}): run garth gc")))
                }
            },
        }
    }

    /// What [`Sandbox::spawn`] would do, in words: the host resources, then the plan.
    ///
    /// # Errors
    /// Same as `spawn`, as far as can be determined without doing anything.
    pub fn explain(&self, options: &Options) -> Result<Explanation> {
        self.validate()?;
        let placed = &hiding(options, placed(self, options.name.as_deref())?)?;
        let mut facts = gather(placed)?;
        let id = options.name.as_deref().unwrap_or("NAME");
        let journal = &options.journal();
        let resources = Resources::propose(placed, id, journal, &options.pools)?;
        facts.cgroup_files = resources.cgroup.first_join_paths();
        facts.cgroups = resources.cgroup.seen();
        facts.addresses = resources.addresses();
        facts.recorded = options.name.is_some() || !resources.is_empty();
        facts.volumes = volumes::find(placed, journal, &resources.volumes)?;
        let plan = compile(placed, &facts, options)?;
        let owner =
            Owner { journal, id, limits: LimitSource::Flags(&placed.limits), may_kill: true };
        let mut outside = volumes::describe(placed, &facts, journal)?;
        outside.extend(resources.describe(&owner));
        Ok(Explanation { outside, plan })
    }
}

/// What would be done.
#[derive(Debug)]
pub struct Explanation {
    /// Outside the sandbox, by the parent, before and during the child's steps.
    pub outside: Vec<String>,
    /// In the child.
    pub plan: Plan,
}

/// The same, without a view of the volumes of this user, and of what their services have on record:
/// their environment and logs are nobody else's, and the pipes of their output can be written even
/// on a read-only mount. What is below /run is not seen anyway.
fn hiding(options: &Options, mut sandbox: Sandbox) -> Result<Sandbox> {
    if sandbox.root == Root::Host {
        let journal = options.journal();
        let lasting = journal.lasting();
        if lasting == journal.root() {
            // It may be the current directory.
            sandbox.masked.extend(["services", "volumes", "raid"].map(|name| lasting.join(name)));
        } else if volumes::are_in(&sandbox) || is_there(&lasting)? {
            sandbox.masked.push(lasting);
        }
    }
    Ok(sandbox)
}

/// A new entry. A sandbox of the same name that has ended is released first if needed, and its
/// trace removed.
fn create(journal: &Journal, id: &str) -> Result<Entry> {
    match journal.create(id) {
        Err(error) => match gc::release_ended(journal, id) {
            Ok(true) => journal.create(id),
            _ => Err(error),
        },
        entry => entry,
    }
    .and_then(|entry| Trace::remove(journal, id).map(|_| entry))
}

impl Recorded {
    fn start(
        &mut self,
        sandbox: &Sandbox,
        facts: &mut Facts,
        options: &Options,
    ) -> Result<Process> {
        let journal = self.entry.journal().clone();
        let (id, member) = (self.entry.id(), options.membership.as_ref());
        self.resources = Resources::choose(sandbox, id, &journal, &options.pools, member)?;
        let record = Record::new(self.entry.id(), sandbox.clone(), self.resources.clone());
        // The intent is on record before the first side effect outside the journal.
        record.write(&self.entry)?;
        let (sandbox, remarks) = &self.provided(record, facts)?;
        facts.cgroup_files = self.resources.cgroup.first_join_paths();
        facts.cgroups = self.resources.cgroup.seen();
        facts.addresses = self.resources.addresses();
        facts.recorded = true;
        let _trees = volumes::make(sandbox, facts, &journal, &self.resources.volumes)?;
        let plan = compile(sandbox, facts, options)?;
        self.held = self.resources.acquire(&self.owner())?;
        let process = execute(plan, options.window, |pid| {
            self.entry.write_process(&ProcessId::of(pid)?)?;
            self.resources.admit(&self.owner(), pid)?;
            self.resources.connect(&self.owner(), pid)
        })?;
        let remarks = remarks.iter().chain(process.spared()).cloned().collect();
        Ok(process.with_spared(remarks))
    }

    /// What was requested, with what resources provide, and what the user should know of that.
    fn provided(
        &self,
        mut record: Record<Sandbox>,
        facts: &mut Facts,
    ) -> Result<(Sandbox, Vec<String>)> {
        let provided = self.resources.provide(&self.owner())?;
        if !provided.is_empty() {
            for one in &provided {
                record.asked.mounts.extend(one.mounts()?);
            }
            record.write(&self.entry)?;
            *facts = gather(&record.asked)?;
        }
        Ok((record.asked, provided.into_iter().flat_map(|one| one.remarks).collect()))
    }

    fn owner(&self) -> Owner<'_> {
        let (journal, id) = (self.entry.journal(), self.entry.id());
        Owner { journal, id, limits: LimitSource::Flags(&self.limits), may_kill: true }
    }

    fn release(self) -> Result<()> {
        self.resources.release(&self.owner())?;
        drop(self.held);
        self.entry.remove()
    }
}

impl Child {
    /// A sandbox started for this process by a second start, with the descriptors to hold for it.
    fn adopt(
        (started, mut held): (second::Started, Held),
        placed: &Sandbox,
        options: &Options,
    ) -> Result<Child> {
        let process = started.process(&mut held)?;
        let Some(id) = started.id else { return Ok(Child { process, recorded: None }) };
        let journal = options.journal();
        let lost = || Error::new(format!("{id} was released by another process"));
        let lock = held.pop().ok_or_else(lost)?;
        let resources = Record::<Sandbox>::read(&journal, &id)?.resources;
        let entry = journal.adopt(&id, lock)?.ok_or_else(lost)?;
        let limits = placed.limits.clone();
        Ok(Child { process, recorded: Some(Recorded { entry, limits, resources, held }) })
    }

    /// The sandbox's first process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The command's terminal, if it has one of its own ([`Sandbox::terminal`]) and that has not
    /// been taken yet. Its output must be read, or the command waits once a few kilobytes are in
    /// transit.
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.process.take_terminal()
    }

    /// Waits for its end and releases its host resources.
    ///
    /// # Errors
    /// Something could not be released; it stays on record for `garth gc`.
    pub fn wait(self) -> Result<Ended> {
        let ended = self.process.wait()?;
        if let Some(recorded) = self.recorded {
            recorded.release()?;
        }
        Ok(ended)
    }

    /// If the kernel's OOM killer has struck in the sandbox, the limit that was reached, spelled
    /// like its flag. Call this before [`Child::wait`].
    pub fn out_of_memory(&self) -> Option<String> {
        let recorded = self.recorded.as_ref()?;
        trace::out_of_memory(recorded.resources.oom_kills(), &recorded.limits)
    }

    /// The name in the journal, if it has an entry.
    pub fn id(&self) -> Option<&str> {
        self.recorded.as_ref().map(|recorded| recorded.entry.id())
    }

    /// The RAID volumes that are mounted in it.
    pub fn volumes(&self) -> &[VolumeUse] {
        self.recorded.as_ref().map_or(&[], |recorded| &recorded.resources.volumes)
    }

    /// The lock of its entry in the journal.
    pub fn entry(&self) -> Option<BorrowedFd<'_>> {
        self.recorded.as_ref().map(|recorded| recorded.entry.as_lock().as_fd())
    }

    /// The descriptors that must stay open while the sandbox runs: the lock of its entry and the
    /// reservations of its ports. For a process that waits in place of this one.
    pub fn held(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let recorded = self.recorded.iter();
        recorded
            .flat_map(|recorded| recorded.held.iter().chain([recorded.entry.as_lock()]))
            .map(AsFd::as_fd)
    }
}

/// Gathers the facts that the plan of `sandbox` depends on.
pub(super) fn gather(sandbox: &Sandbox) -> Result<Facts> {
    let privileged = facts::privileged();
    let landlock = if sandbox.landlock { process::landlock_abi() } else { 0 };
    let mounts = match sandbox.root {
        Root::Host if privileged => facts::mounts()?,
        _ => Vec::new(),
    };
    Ok(Facts {
        user: user(sandbox)?,
        privileged,
        confined: privileged && process::in_user_namespace(),
        caller: process::effective_ids(),
        user_ids: match privileged && sandbox.namespaces.user.is_new() {
            true => Some(idmap::for_root(sandbox.user_ids)?),
            false => None,
        },
        mounts,
        landlock,
        // In its own user namespace the child has them all.
        held_capabilities: if privileged { process::capabilities() } else { u64::MAX },
        last_capability: facts::last_capability()?,
        cgroup_files: Vec::new(),
        cgroups: Vec::new(),
        hosts: match view::names_itself(sandbox) {
            true => std::fs::read(view::HOSTS).unwrap_or_default(),
            false => Vec::new(),
        },
        addresses: Vec::new(),
        volumes: Vec::new(),
        secrets: sandbox.secrets.iter().map(read_secret).collect::<Result<_>>()?,
        seccomp: filter(sandbox)?,
        init_seccomp: Filter::init(),
        recorded: false,
    })
}

/// Its name and its contents.
fn read_secret(secret: &Secret) -> Result<(String, Vec<u8>)> {
    let what = || format!("--secret {}", secret.file.display());
    let mut text = Vec::new();
    let file = File::open(&secret.file).and_then(|file| file.take(MOST + 1).read_to_end(&mut text));
    file.map_err(|e| Error::io(what(), &e))?;
    match text.len() as u64 > MOST {
        true => Err(Error::new(format!("{}: more than {}", what(), Size(MOST)))),
        false => Ok((secret.name.clone(), text)),
    }
}

/// The user the command runs as; by default the caller, without supplementary groups.
fn user(sandbox: &Sandbox) -> Result<User> {
    let (uid, gid) = process::effective_ids();
    match &sandbox.user {
        None => Ok(User { uid, gid, groups: Vec::new() }),
        Some(spec) => {
            let users::UserEntry { uid, gid, groups, .. } = users::inside(spec, &sandbox.root)?;
            Ok(User { uid, gid, groups })
        }
    }
}

fn filter(sandbox: &Sandbox) -> Result<Option<Filter>> {
    Ok(match &sandbox.seccomp {
        Seccomp::Default if sandbox.allow_suid => Some(seccomp::with_suid()?),
        Seccomp::Default => Some(Filter::default_profile()),
        Seccomp::Log => Some(seccomp::logging(sandbox.allow_suid)?),
        Seccomp::Unconfined => None,
        Seccomp::Profile(origin, profile) => {
            let program = seccomp::compile(profile)?;
            if program.flags & seccomp::NEW_LISTENER != 0 {
                return Err(Error::new(format!("{origin}: SCMP_ACT_NOTIFY needs a supervisor"))
                    .hint("it is only supported for containers"));
            }
            Some(Filter::from(&program))
        }
        Seccomp::Seccompiler(origin, json) => Some(seccomp::by_seccompiler(json, origin)?),
    })
}

pub(super) fn compile(sandbox: &Sandbox, facts: &Facts, options: &Options) -> Result<Plan> {
    let mut plan = plan::compile(sandbox, facts)?;
    if options.merge_stderr {
        plan.insert_first(Step::Descriptor { to: 2, from: Some(1) }, "-d");
    }
    Ok(plan)
}

/// Runs a plan with the init and the terminal that it may need.
pub(super) fn execute(
    mut plan: Plan,
    window: Window,
    beside: impl FnOnce(i32) -> Result<()>,
) -> Result<Process> {
    let init: Option<OwnedFd> = match plan.has_init() {
        true => Some(init::sealed().map_err(|errno| Error::os("create the init's file", errno))?),
        false => None,
    };
    let mut delivery = None;
    for planned in &mut plan.steps {
        if let Step::Terminal { socket, size, plain, .. } = &mut planned.step {
            let socket_pair = Delivery::new()?;
            (*socket, *size, *plain) = (socket_pair.socket(), window.size, window.plain_lines);
            delivery = Some(socket_pair);
        }
    }
    let process = run(&plan, init.as_ref().map(AsFd::as_fd), beside)?;
    match delivery.map(Delivery::take).transpose() {
        Ok(terminal) => Ok(process.with_terminal(terminal)),
        Err(error) => {
            process.kill();
            let _ = process.wait();
            Err(error)
        }
    }
}

/// A random name.
pub fn random_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    // RandomState is seeded from getrandom(2).
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:012x}", random >> 16)
}
