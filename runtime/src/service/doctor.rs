//! What this host can do, found out by trying: most probes are plans run without the last step, the
//! execve.

use serde::Serialize;

use crate::cgroup::systemd;
use crate::cgroup::{self, Hierarchy};
use crate::config::units::{Rate, Size};
use crate::config::{Capability, Limits, RateGroup, Rates, Sandbox, Throttle};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Journal;
use crate::network::HostEnd;
use crate::network::pasta::Pasta;
use crate::network::{self, Pools, PrivateNetwork};
use crate::plan::{IdMaps, Plan, Step};
use crate::resource::bandwidth;
use crate::resource::record::SandboxRecord;
use crate::start::{self, Options};
use crate::sys::file::read_kernel;
use crate::sys::{netns, process};
use crate::volume::available::VolumeTools;
use crate::volume::status::VolumeHealth;
use crate::volume::verbs;

/// The result of one probe.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was tried.
    pub name: &'static str,
    /// How it went.
    pub state: Health,
    /// What was found, or the error.
    pub detail: String,
}

/// How a probe went, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Ok,
    /// It does not work; what needs it is refused or left out, as described in KERNEL.md.
    Degraded,
    /// No sandbox works without it.
    Unusable,
}

/// The oldest kernel with full support; KERNEL.md lists what needs it.
const OLDEST: (u32, u32) = (5, 14);

/// Runs all probes. They leave nothing behind.
pub fn examine(journal: &Journal) -> Vec<Finding> {
    use Health::{Degraded, Unusable};
    let mut found = Vec::new();
    let mut note = |name, worst, result: Result<String>| {
        let (state, detail) = match result {
            Ok(detail) => (Health::Ok, detail),
            Err(error) => (worst, error.to_string()),
        };
        found.push(Finding { name, state, detail });
    };
    note("kernel", Unusable, kernel());
    note("sandbox", Unusable, sandbox());
    note("state directory", Degraded, state_directory(journal));
    note("user namespaces", Degraded, user_namespace());
    note("time namespaces", Degraded, time_namespace());
    note("landlock", Degraded, landlock());
    note("apparmor", Degraded, apparmor());
    note("cgroups", Degraded, cgroups());
    note("systemd", Degraded, systemd::reached());
    note("memory limit", Degraded, limit(Limits { memory: Some(Size(1 << 30)), ..none() }));
    note("cpu limit", Degraded, limit(Limits { cpus: Some(0.5), ..none() }));
    note("process limit", Degraded, limit(Limits { pids: Some(100), ..none() }));
    note("cpu set", Degraded, limit(Limits { cpuset: Some("0".into()), ..none() }));
    note("disk limit", Degraded, disk_limit());
    note("private network", Degraded, private_network(journal, |_| Ok(())));
    note("firewall", Degraded, firewall(journal));
    note("network rates", Degraded, rates(journal));
    note("rate groups", Degraded, rate_groups(journal));
    note("ipv6", Degraded, ipv6());
    note("raid volumes", Degraded, raid_volumes(journal));
    note("raising limits", Degraded, raising_limits());
    found
}

fn none() -> Limits {
    Limits::default()
}

fn kernel() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let release = read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let release = release.trim().to_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => {
            Ok(format!("Linux {release}"))
        }
        _ => Err(Error::new(format!("Linux {release} is older than 5.14"))
            .hint("see KERNEL.md for what is missing")),
    }
}

/// The whole default profile, up to the execve.
fn sandbox() -> Result<String> {
    let sandbox = Sandbox { command: vec!["true".into()], init: false, ..Sandbox::default() };
    let explanation = sandbox.explain(&Options::default())?;
    let steps = explanation.plan.steps.len() - 1;
    rehearse(explanation.plan, |_| Ok(()))?;
    Ok(format!("all {steps} steps of the default profile work"))
}

/// Runs all steps but the execve.
fn rehearse(mut plan: Plan, beside: impl FnOnce(i32) -> Result<()>) -> Result<()> {
    plan.steps.retain(|planned| !matches!(planned.step, Step::Exec { .. }));
    start::run(&plan, None, beside)?.wait().map(drop)
}

fn state_directory(journal: &Journal) -> Result<String> {
    let entry = journal.create(&start::random_id())?;
    entry.remove()?;
    Ok(journal.root().display().to_string())
}

fn user_namespace() -> Result<String> {
    let plan = in_user_namespace(libc::CLONE_NEWUSER as u64, [Step::AwaitGo]);
    rehearse(plan, |_| Ok(())).map_err(|e| {
        e.hint("see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; the kernel refuses them in a chroot")
    })?;
    Ok("sandboxes without root".into())
}

/// Steps taken in new namespaces of these kinds, including a user namespace.
fn in_user_namespace<const N: usize>(namespaces: u64, steps: [Step; N]) -> Plan {
    let (uid, gid) = process::effective_ids();
    let id_maps = Some(IdMaps::one((uid, uid), (gid, gid)));
    Plan { namespaces, id_maps, awaits_go: true, ..Plan::of(steps) }
}

fn time_namespace() -> Result<String> {
    let unshare = Step::Unshare { flags: libc::CLONE_NEWTIME };
    let plan = match facts::privileged() {
        true => Plan::of([unshare]),
        false => in_user_namespace(libc::CLONE_NEWUSER as u64, [Step::AwaitGo, unshare]),
    };
    rehearse(plan, |_| Ok(()))
        .map_err(|e| e.hint("needs CONFIG_TIME_NS and Linux 5.6: --timens is refused"))?;
    Ok("--timens".into())
}

fn landlock() -> Result<String> {
    match process::landlock_abi() {
        0 => Err(Error::new("not in this kernel, or not enabled by lsm=")
            .hint("writes are confined by read-only mounts alone")),
        abi => Ok(format!("ABI {abi}")),
    }
}

/// A process's profile belongs to its executable, or was set by the process that started it.
fn apparmor() -> Result<String> {
    let enabled = read_kernel("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Ok("not in this kernel, or not enabled".into());
    }
    let path = "/proc/self/attr/current";
    let profile = read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    match profile.trim_matches(['\0', '\n']) {
        "unconfined" => Ok("enabled, with no profile confining this program".into()),
        profile => Err(Error::new(format!("this program is confined by the profile {profile}"))
            .hint("what it denies fails with EACCES or EPERM: see the kernel log")),
    }
}

/// Where the cgroup of a sandbox would be.
fn cgroups() -> Result<String> {
    cgroup::place_in_words(&Hierarchy::read()?)
}

fn limit(limits: Limits) -> Result<String> {
    let cgroup = cgroup::choose(&Hierarchy::read()?, "doctor", &limits, false)?;
    let file = cgroup.join_paths().first().map(|path| path.display().to_string());
    Ok(file.unwrap_or_default().trim_end_matches("/doctor/cgroup.procs").to_owned())
}

/// The io controller, on the disk of the root file system.
fn disk_limit() -> Result<String> {
    let one = |text: &str| limit(Limits { io: Throttle::parse(text)?, ..none() });
    let read = one("riops=1:/")?;
    Ok(match one("wiops=1:/") {
        Ok(_) => read,
        Err(_) => format!("{read}, for reads only: the kernel cannot attribute writes to a cgroup"),
    })
}

/// A host, a sandbox and the veth pair between them, in a network namespace that ends with the
/// probe.
fn private_network(
    journal: &Journal,
    then: impl FnOnce(&HostEnd) -> Result<()> + Send,
) -> Result<String> {
    if !facts::privileged() {
        return unprivileged_network(journal);
    }
    let rehearsal = || {
        let network =
            PrivateNetwork::propose(journal.root(), "doctor", &Pools::default(), Vec::new())?;
        network.rehearse()?;
        let plan = Plan {
            namespaces: libc::CLONE_NEWNET as u64,
            awaits_go: true,
            ..Plan::of([Step::AwaitGo, Step::LoopbackUp])
        };
        rehearse(plan, |pid| {
            network.connect(pid)?;
            then(&network.end())
        })
    };
    netns::in_new_netns(rehearsal)
        .map_err(|errno| Error::os("create a network namespace", errno))??;
    Ok("veth, addresses, routes, nftables".into())
}

/// Other firewall chains on this host, and our own chains for running sandboxes.
fn firewall(journal: &Journal) -> Result<String> {
    if !facts::privileged() {
        return Ok("not needed with pasta".into());
    }
    let mut wrong = network::obstacles()?;
    for id in &journal.ids()? {
        if journal.open_process(id)?.is_none() {
            continue;
        }
        let Ok(record) = SandboxRecord::read(journal, id) else { continue };
        let network = record.resources.network.as_ref();
        let lacks = network.map_or(Ok(Vec::new()), PrivateNetwork::lacks)?;
        let new = lacks.into_iter().filter(|line| !wrong.contains(line));
        let new: Vec<String> = new.map(|line| format!("{id}: {line}")).collect();
        wrong.extend(new);
    }
    match wrong.is_empty() {
        true => Ok("no chain drops forwarded packets".into()),
        false => Err(Error::new(wrong.join("; "))),
    }
}

/// The program that carries the packets of unprivileged sandboxes, in a sandbox for this probe.
fn unprivileged_network(journal: &Journal) -> Result<String> {
    let entry = journal.create(&start::random_id())?;
    let helper = Pasta::find(entry.file("pasta.pid"), Vec::new());
    let tried = helper.and_then(|helper| {
        let kinds = (libc::CLONE_NEWUSER | libc::CLONE_NEWNET) as u64;
        let mut by = "";
        let tried = rehearse(in_user_namespace(kinds, [Step::AwaitGo, Step::LoopbackUp]), |pid| {
            by = helper.begin(pid)?;
            Ok(())
        });
        helper.end().and(tried).map(|()| format!("by {by}"))
    });
    entry.remove()?;
    tried
}

/// Both directions, on such a veth pair.
fn rates(journal: &Journal) -> Result<String> {
    let both = Some(Rate(1_000_000));
    let rates = Rates { up: both, down: both };
    bandwidth::check(&rates, None)?;
    private_network(journal, |end| bandwidth::begin(end, &rates))?;
    Ok("tbf, ingress, u32, mirred, ifb".into())
}

/// The same veth pair, in a rate group of its own.
fn rate_groups(journal: &Journal) -> Result<String> {
    let group = "doctor:1Mbit/s".parse::<RateGroup>()?;
    bandwidth::check(&Rates::default(), Some(&group))?;
    private_network(journal, |end| {
        bandwidth::join_group(journal.root(), end, &group, &Rates::default())
    })?;
    Ok("htb, clsact, bfifo".into())
}

fn ipv6() -> Result<String> {
    match std::path::Path::new("/proc/sys/net/ipv6").exists() {
        true => Ok("available".into()),
        false => Err(Error::new("not in this kernel, or disabled at boot")
            .hint("private networks have IPv4 only")),
    }
}

/// What is missing matters where there are volumes.
fn raid_volumes(journal: &Journal) -> Result<String> {
    let VolumeTools { there, missing } = VolumeTools::look()?;
    let names = verbs::names(journal)?;
    if !names.is_empty() && !missing.is_empty() {
        return Err(Error::new(format!("missing: {}", missing.join(", ")))
            .hint("volumes that need it cannot be assembled"));
    }
    for name in names {
        let status = verbs::status(journal, &name)?;
        if matches!(status.health, VolumeHealth::Degraded | VolumeHealth::Failed) {
            return Err(Error::new(format!("{name} {}", status.in_words()))
                .hint(format!("see garth volume status {name}")));
        }
    }
    Ok(match missing.is_empty() {
        true => there.join(", "),
        false => format!("none; they would need {}", missing.join(", ")),
    })
}

fn raising_limits() -> Result<String> {
    match facts::has(Capability::CAP_SYS_RESOURCE) {
        true => Ok("--ulimit may raise a hard limit".into()),
        false => Err(Error::new("no CAP_SYS_RESOURCE")
            .hint("--ulimit can lower hard limits but not raise them")),
    }
}
