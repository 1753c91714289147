//! `garth up` and `garth down`: bring the services of a file to what the file says, and end them.
//!
//! What has to be done is found by comparing the file with what is on record, and is plain data
//! ([`Action`]); `explain up` prints it. Doing it is in `perform.rs`, one thread for each service,
//! which waits for those it depends on.

mod names;
mod perform;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::file::{Service, ServiceFile};
use super::keeper;
use super::register::{AskedService, Phase, Registered, ServiceRecord, ServiceStatus};
use super::rules::Restart;
use super::settings::Settings;
use crate::config::{Network, Publish, Root, Sandbox, variable};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::network::group::Joining;
use crate::resource::Resources;
pub use names::release_unused;
pub use perform::{DownEnding, UpEvent, down, perform, take_up};

/// What is done with a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not up.
    Start,
    /// It runs as the file says.
    Keep,
    /// It runs, but its keeper is gone: a new one takes its place.
    TakeUp,
    /// These keys are changed while it runs.
    Change(Vec<String>),
    /// These keys have changed, and not all can be while it runs.
    Restart(Vec<String>),
    /// It is no longer in the file.
    Stop,
}

impl Action {
    /// Whether its sandbox is started.
    pub fn starts(&self) -> bool {
        matches!(self, Action::Start | Action::Restart(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start => f.write_str("start"),
            Action::Keep => f.write_str("keep as it is"),
            Action::TakeUp => f.write_str("take up: its keeper is gone"),
            Action::Change(keys) => write!(f, "change {}", keys.join(", ")),
            Action::Restart(keys) => write!(f, "restart: {} changed", keys.join(", ")),
            Action::Stop => f.write_str("stop: no longer in the file"),
        }
    }
}

/// What is on record of a service.
#[derive(Debug, Clone)]
pub struct Known {
    /// The record.
    pub record: ServiceRecord,
    /// It runs, or its keeper is about to start it again.
    pub is_up: bool,
    /// A keeper is in charge.
    pub is_kept: bool,
}

/// What is to be done for a file.
#[derive(Debug, Default)]
pub struct UpPlan {
    /// For each service of the file, and those that are no longer in it.
    pub actions: BTreeMap<String, Action>,
    /// What each service of the file means on this host.
    pub asked: BTreeMap<String, AskedService>,
    /// The services that each waits for.
    pub after: BTreeMap<String, Vec<String>>,
    /// For each file, the services that know each other by name.
    pub groups: BTreeMap<PathBuf, BTreeMap<String, Joining>>,
    /// What services have to do without.
    pub cautions: Vec<Error>,
}

impl ServiceFile {
    /// What has to be done so that the services of this file named `only`, and what they depend on,
    /// are up; all, if none is named. `root` is the state directory, if not the default.
    ///
    /// # Errors
    /// Something in the file cannot be done on this host: nothing has been started then.
    pub fn plan(&self, root: Option<PathBuf>, only: &[String]) -> Result<UpPlan> {
        let journal = Journal::at(root.clone().unwrap_or_else(Journal::default_root));
        let mut plan = UpPlan::default();
        let members = self.members();
        for name in self.chosen(only)? {
            let service = &self.services[&name];
            let (mut asked, cautions) = self.resolve(&name, service, root.clone())?;
            asked.reaches = self.reached(&name, &members)?;
            if members.contains_key(&name) {
                let needed = !asked.reaches.is_empty();
                names::add_hosts(&mut asked.sandbox, journal.root(), &self.path, needed);
            }
            let named = |error: Error| error.within(format_args!("service {name}"));
            let cautions = cautions.into_iter().chain(self.unreached(&name));
            plan.cautions.extend(cautions.map(named));
            plan.after.insert(name.clone(), service.rules.after.clone());
            plan.asked.insert(name, asked);
        }
        check_together(&plan.asked)?;
        if !members.is_empty() {
            plan.groups.insert(self.path.clone(), members);
        }
        for (name, asked) in &plan.asked {
            let known = known(&journal, name)?;
            if let Some(known) = &known
                && known.record.asked.file != self.path
                && known.is_up
            {
                let other = known.record.asked.file.display();
                return Err(Error::new(format!("service {name} is up already, from {other}"))
                    .hint(format!("garth down {name} ends it")));
            }
            if known.is_none() && journal.has(name)? && journal.open_process(name)?.is_some() {
                return Err(Error::new(format!("a sandbox named {name} is running"))
                    .hint(format!("garth kill {name} ends it")));
            }
            plan.actions.insert(name.clone(), action(known.as_ref(), asked));
        }
        if only.is_empty() {
            for other in Registered::all(&journal)? {
                let record = match other.record() {
                    // Whether it is from this file cannot be told; its own file says.
                    Err(error) if !self.services.contains_key(other.name()) => {
                        plan.cautions.push(error);
                        continue;
                    }
                    record => record?,
                };
                let Some(record) = record else { continue };
                if record.asked.file == self.path && !self.services.contains_key(other.name()) {
                    plan.actions.insert(other.name().to_owned(), Action::Stop);
                }
            }
        }
        Ok(plan)
    }

    /// These services and what they depend on.
    fn chosen(&self, only: &[String]) -> Result<Vec<String>> {
        let mut chosen: Vec<String> = match only {
            [] => self.services.keys().cloned().collect(),
            only => only.to_vec(),
        };
        let mut at = 0;
        while let Some(name) = chosen.get(at) {
            let service = self.service(name)?;
            for before in service.rules.after.clone() {
                if !chosen.contains(&before) {
                    chosen.push(before);
                }
            }
            at += 1;
        }
        Ok(chosen)
    }

    /// What a service means on this host.
    fn resolve(
        &self,
        name: &str,
        service: &Service,
        root: Option<PathBuf>,
    ) -> Result<(AskedService, Vec<Error>)> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let resolve = |settings: &Settings| {
            let mut settings = Settings { name: Some(name.to_owned()), ..settings.clone() };
            // What is wrong with it is found below.
            if let Ok(Network::Internal) = self.kind_of_network(name, &settings) {
                settings.network = Some(Network::Internal.to_string());
            }
            let resolved = settings.resolve_for_service(root.clone(), dir)?;
            command_exists(&resolved.sandbox)?;
            for secret in &resolved.sandbox.secrets {
                let open = std::fs::File::open(&secret.file);
                open.map_err(|e| Error::io(format!("--secret {}", secret.file.display()), &e))?;
            }
            Resources::propose(
                &resolved.sandbox,
                name,
                &resolved.options.journal(),
                &resolved.options.pools,
            )?;
            Ok::<_, Error>(resolved)
        };
        let settings = &service.settings;
        let resolved = resolve(settings).map_err(|error| {
            // The key without which it would work is the one that is wrong.
            let culprit = service.values().into_iter().map(|(key, _)| key).find(|key| {
                let without = service.without(key);
                without.is_some_and(|without| resolve(&without.settings).is_ok())
            });
            self.at(name, culprit.as_deref(), error)
        })?;
        keeper::check_log(service.rules.log, &resolved.sandbox)
            .map_err(|error| self.at(name, Some("log"), error))?;
        let asked = AskedService {
            file: self.path.clone(),
            service: service.clone(),
            sandbox: resolved.sandbox,
            options: resolved.options,
            reaches: Vec::new(),
        };
        Ok((asked, resolved.cautions))
    }
}

/// Refuses a command that is certainly missing, before anything is started.
fn command_exists(sandbox: &Sandbox) -> Result<()> {
    let Some(program) = sandbox.command.first().filter(|_| sandbox.root == Root::Host) else {
        return Ok(());
    };
    let program = Path::new(program);
    // Something else may be there than on the host.
    let covered = |file: &Path| sandbox.has_mount_over(file);
    let missing = Error::new(format!("{}: no such command", program.display()));
    if program.components().count() > 1 || program.is_absolute() {
        return match program.is_absolute() && !covered(program) && !program.exists() {
            true => Err(missing),
            false => Ok(()),
        };
    }
    let search = variable(&sandbox.env, "PATH").unwrap_or_default();
    let mut files = std::env::split_paths(search).map(|dir| dir.join(program));
    match files.any(|file| covered(&file) || file.is_file()) {
        true => Ok(()),
        false => Err(missing.hint("it is searched for in the PATH of the service")),
    }
}

/// Refuses what two services of one file want.
fn check_together(asked: &BTreeMap<String, AskedService>) -> Result<()> {
    let mut taken: Vec<(&str, &Publish)> = Vec::new();
    for (name, asked) in asked {
        for publish in &asked.sandbox.publish {
            let same = |(_, other): &&(&str, &Publish)| {
                let overlap =
                    other.host.is_none() || publish.host.is_none() || other.host == publish.host;
                overlap
                    && other.host_port == publish.host_port
                    && other.protocol == publish.protocol
            };
            if let Some((other, _)) = taken.iter().find(same) {
                let port = publish.host_port;
                return Err(Error::new(format!(
                    "services {other} and {name} both publish port {port}"
                )));
            }
            taken.push((name, publish));
        }
    }
    Ok(())
}

impl UpPlan {
    /// What has to be done so that everything is up that was before a reboot, and was not ended by
    /// `garth down`: from the records, whatever has become of the files. What had ended by itself is
    /// started again only if it is to be always.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn resume(journal: &Journal) -> Result<UpPlan> {
        let mut plan = UpPlan::default();
        for service in Registered::all(journal)? {
            let name = service.name().to_owned();
            match resumed(journal, &service) {
                Ok(None) => {}
                Ok(Some((action, asked))) => {
                    if let Some(joining) = names::joining_again(&asked) {
                        let group = plan.groups.entry(asked.file.clone()).or_default();
                        group.insert(name.clone(), joining);
                    }
                    plan.after.insert(name.clone(), asked.service.rules.after.clone());
                    plan.asked.insert(name.clone(), asked);
                    plan.actions.insert(name, action);
                }
                // The others are up again nevertheless.
                Err(error) => plan.cautions.push(error),
            }
        }
        // One that is no longer on record is not waited for.
        let known: Vec<String> = plan.asked.keys().cloned().collect();
        plan.after.values_mut().for_each(|after| after.retain(|other| known.contains(other)));
        Ok(plan)
    }
}

/// What has to be done with a service after a reboot, if anything.
fn resumed(journal: &Journal, service: &Registered) -> Result<Option<(Action, AskedService)>> {
    let Some(known) = known(journal, service.name())? else { return Ok(None) };
    let ended = status_of(service)?.phase == Phase::Ended;
    let is_always = known.record.rules().restart == Restart::Always;
    let for_good = ended && !is_always && !service.rests()?;
    if service.goes_down()? || for_good {
        return Ok(None);
    }
    let action = match (known.is_up, known.is_kept) {
        (true, true) => Action::Keep,
        (true, false) => Action::TakeUp,
        (false, _) => Action::Start,
    };
    Ok(Some((action, known.record.asked)))
}

fn status_of(service: &Registered) -> Result<ServiceStatus> {
    let name = service.name();
    let hint = || format!("garth down {name} ends it and removes it");
    service.status().map_err(|error| error.hint(hint()))
}

/// The services from this file that are on record, and those of which that cannot be told.
///
/// # Errors
/// The state directory cannot be read.
pub fn of_file(journal: &Journal, file: &Path) -> Result<(Vec<String>, Vec<Error>)> {
    let (mut names, mut unknown) = (Vec::new(), Vec::new());
    for service in Registered::all(journal)? {
        match service.record() {
            Ok(Some(record)) if record.asked.file == file => {
                names.push(service.name().to_owned());
            }
            Ok(_) => {}
            Err(error) => unknown.push(error),
        }
    }
    Ok((names, unknown))
}

/// Gives the services that have lost their keeper a new one; returns their names, and those of which
/// that cannot be told.
///
/// # Errors
/// The state directory cannot be read.
pub fn take_up_lost(journal: &Journal) -> Result<Vec<(String, Result<()>)>> {
    let mut taken = Vec::new();
    for service in Registered::all(journal)? {
        match service.has_lost_keeper() {
            Ok(false) => {}
            Ok(true) => taken.push((service.name().to_owned(), take_up(journal, service.name()))),
            Err(error) => taken.push((service.name().to_owned(), Err(error))),
        }
    }
    Ok(taken)
}

/// What is on record of service `name`.
fn known(journal: &Journal, name: &str) -> Result<Option<Known>> {
    let service = Registered::new(journal, name);
    let Some(record) = service.record()? else { return Ok(None) };
    let is_kept = service.is_kept()?;
    let is_up = match is_kept {
        true => status_of(&service)?.phase != Phase::Ended,
        false => journal.has(name)? && journal.open_process(name)?.is_some(),
    };
    Ok(Some(Known { record, is_up, is_kept }))
}

/// Keys of limits, which the cgroup of a running service can have changed.
const LIMITS: [&str; 5] = ["memory", "memory-swap", "cpus", "cpuset-cpus", "pids-limit"];
/// Keys that are looked at only when they are needed.
const DECISIONS: [&str; 3] = ["restart", "stop-signal", "stop-timeout"];

/// What has to be done with a service of which this is known. Pure.
fn action(known: Option<&Known>, asked: &AskedService) -> Action {
    let Some(known) = known.filter(|known| known.is_up) else { return Action::Start };
    let before = &known.record.asked;
    let (old, new) = (before.service.values(), asked.service.values());
    let keys = changed(&old, &new);
    let live = |key: &String| match key.as_str() {
        "after" | "reaches" => before.reaches == asked.reaches,
        key if DECISIONS.contains(&key) => true,
        // A limit is changed where there is a cgroup, and not taken away.
        key if LIMITS.contains(&key) => !before.sandbox.limits.is_empty() && new.contains_key(key),
        "rate" => {
            before.sandbox.network.has_address()
                && asked.sandbox.network.has_address()
                && before.sandbox.rate_group.is_none()
        }
        _ => false,
    };
    match keys {
        keys if !keys.iter().all(live) => Action::Restart(keys),
        // The same text may mean something else now: another user's id, another file.
        _ if !same_on_this_host(before, asked) || before.reaches != asked.reaches => {
            Action::Restart(vec!["host".into()])
        }
        keys if !keys.is_empty() => Action::Change(keys),
        _ if !known.is_kept => Action::TakeUp,
        _ => Action::Keep,
    }
}

/// Whether both mean the same sandbox, apart from what can be changed while it runs.
fn same_on_this_host(before: &AskedService, asked: &AskedService) -> bool {
    let rest = |asked: &AskedService| {
        let mut sandbox = asked.sandbox.clone();
        sandbox.limits = Default::default();
        sandbox.rates = Default::default();
        serde_json::to_value(&sandbox).ok()
    };
    rest(before) == rest(asked)
}

/// The keys in which two services differ.
fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests;
