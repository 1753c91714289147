//! Which trees the limits of a sandbox need, and the messages for when they are not available.

use std::path::Path;

use super::ground::TreeTop;
use super::hierarchy::{self, Controller, Hierarchy, MountedTree, Unfit, Version};
use super::io;
use super::record::{Cgroup, Dir, Placement};
use super::setting::asked;
use crate::config::limits::{Limits, cpu_list};
use crate::config::{LimitSource, Throttle};
use crate::sys::Errno;
use crate::sys::file::read_kernel;
use crate::{Error, Result};

/// Finds the trees for `limits`, and one with a freezer if `freezer` is set. Creates nothing.
///
/// # Errors
/// A limit whose controller is not mounted, not delegated to the caller, or read-only is refused by
/// the name of its flag: a sandbox never runs with weaker limits than were asked for.
pub fn choose(host: &Hierarchy, id: &str, limits: &Limits, freezer: bool) -> Result<Cgroup> {
    limits.check()?;
    let mut cgroup = Cgroup { id: id.into(), parent: host.parent.clone(), ..Cgroup::default() };
    cgroup.check_names()?;
    let (mut unified, mut ground) = (Vec::new(), TreeTop::Free);
    for (controller, flag) in asked(LimitSource::Flags(limits)) {
        match host.v1(controller) {
            Some(mount) => {
                v1_usable(mount, &host.parent).map_err(|error| error.within(&flag))?;
                cgroup.add(Version::V1, &mount.point, controller);
            }
            None => {
                if unified.is_empty() {
                    ground = TreeTop::find(host, id).map_err(|error| error.within(&flag))?;
                }
                // One by one, so that the refusal names the flag that cannot be met.
                if !unified.contains(&controller) {
                    unified.push(controller);
                }
                if controller == Controller::Io && limits.io.iter().any(Throttle::limits_writes) {
                    by_memory(host, &mut unified).map_err(|error| error.within(&flag))?;
                }
                ground
                    .top(host, &unified)
                    .map_err(|unfit| refusal(host, &ground, controller, unfit).within(&flag))?;
            }
        }
    }
    if host.scope && unified.is_empty() {
        if !limits.is_empty() {
            return Err(Error::new(
                "--systemd-cgroup: the controllers are in cgroup v1 hierarchies",
            )
            .hint("leave it out: the limits are set there"));
        }
        ground = TreeTop::find(host, id)?;
    }
    if host.scope || !unified.is_empty() {
        let wanted = unified.first().copied().unwrap_or(Controller::Systemd);
        let top = ground.top(host, &unified);
        let top = top.map_err(|unfit| refusal(host, &ground, wanted, unfit))?;
        if unified.is_empty() {
            let (version, top) = (Version::V2, top.clone());
            cgroup.dirs.push(Dir { version, top, controllers: Vec::new() });
        }
        for controller in unified {
            cgroup.add(Version::V2, &top, controller);
        }
        match ground {
            TreeTop::Scope(unit, _) => cgroup.placement = Placement::Scope(unit),
            TreeTop::Delegated(_) => cgroup.placement = Placement::Delegated,
            TreeTop::Free => {}
        }
    }
    if freezer && !cgroup.dirs.iter().any(|dir| dir.version == Version::V2) {
        // The unified tree first: there even a frozen process can be killed.
        if let Ok(top) = host.v2_top(&[]) {
            cgroup.dirs.push(Dir { version: Version::V2, top, controllers: Vec::new() });
        } else {
            let mount = host.v1(Controller::Freezer).ok_or_else(|| {
                Error::new("pause: no cgroup hierarchy here can freeze processes")
                    .hint("run as root, or under systemd-run --user --scope -p Delegate=yes")
            })?;
            v1_usable(mount, &host.parent).map_err(|error| error.within("pause"))?;
            cgroup.add(Version::V1, &mount.point, Controller::Freezer);
        }
    }
    if let Some((version, _)) = cgroup.directory(Controller::Io) {
        cgroup.disks = io::resolve(&limits.io, version)?;
    }
    cgroup.check_swap(limits)?;
    cgroup.check_cpuset(limits)?;
    Ok(cgroup)
}

/// A buffered write is attributed by the memory that was written to.
fn by_memory(host: &Hierarchy, unified: &mut Vec<Controller>) -> Result<()> {
    if host.v1(Controller::Memory).is_some() {
        return Err(io::memory_is_elsewhere());
    }
    if !unified.contains(&Controller::Memory) {
        unified.push(Controller::Memory);
    }
    Ok(())
}

fn v1_usable(mount: &MountedTree, parent: &str) -> Result<()> {
    let point = &mount.point;
    if mount.read_only {
        return Err(Error::new(format!("the cgroup hierarchy on {point} is mounted read-only"))
            .hint("start this container with it mounted writable"));
    }
    let shared = format!("{point}/{parent}");
    let top = if Path::new(&shared).is_dir() { &shared } else { point };
    hierarchy::writable(top).map_err(|errno| {
        let hint = "run as root: v1 cgroups cannot be delegated safely";
        Error::os(format!("create a directory in {top}"), errno).hint(hint)
    })
}

/// Why the unified tree cannot be used.
fn refusal(host: &Hierarchy, ground: &TreeTop, controller: Controller, unfit: Unfit) -> Error {
    let name = controller.name();
    let delegate = "run as root, or under systemd-run --user --scope -p Delegate=yes";
    match unfit {
        Unfit::NotMounted if host.mounts.is_empty() => {
            Error::new(format!("no {name} controller: no cgroup hierarchy is mounted"))
                .hint("mount -t cgroup2 none /sys/fs/cgroup")
        }
        Unfit::NotMounted => controller.missing(),
        Unfit::NotWritable(top, libc::EROFS) => {
            let hint = match host.systemd {
                true => "set ProtectControlGroups=no in the unit",
                false => "start this container with it mounted writable",
            };
            Error::new(format!("the cgroup hierarchy at {top} is mounted read-only")).hint(hint)
        }
        Unfit::NotWritable(top, errno) => {
            Error::os(format!("no cgroup is delegated to this user: write to {top}"), Errno(errno))
                .hint(delegate)
        }
        Unfit::Lacks(top, lacking) if ground.hint(host, lacking).is_some() => {
            Error::new(format!("the {lacking} controller is not delegated: it is not in {top}"))
                .hint(ground.hint(host, lacking).unwrap_or_default())
        }
        Unfit::Lacks(top, lacking) if host.privileged => {
            Error::new(format!("no {lacking} controller in this cgroup hierarchy")).hint(format!(
                "it is not in {top}/cgroup.controllers: the kernel was built or booted without \
                 it (cgroup_disable=, or cgroup_enable={lacking} missing), or it was not \
                 delegated to this container"
            ))
        }
        Unfit::Lacks(top, lacking) => {
            Error::new(format!("the {lacking} controller is not delegated to this user in {top}"))
                .hint(delegate)
        }
        Unfit::Busy(top) => Error::new(format!(
            "{top} contains processes, so the {name} controller cannot be enabled for its children"
        ))
        .hint("move them to a child cgroup first; in a systemd unit, use DelegateSubgroup="),
    }
}

impl Cgroup {
    /// Without swap accounting the file is missing: in v1 visibly, in v2 only in the new directory.
    fn check_swap(&self, limits: &Limits) -> Result<()> {
        if let Some(swap) = limits.swap
            && let Some(dir) = self.dirs.iter().find(|dir| {
                dir.version == Version::V1 && dir.controllers.contains(&Controller::Memory)
            })
            && !Path::new(&format!("{}/memory.memsw.limit_in_bytes", dir.top)).exists()
        {
            return Err(Error::new(format!(
                "--memory-swap {swap}: this kernel has no swap accounting"
            ))
            .hint("boot with swapaccount=1, or leave the flag out"));
        }
        Ok(())
    }

    /// For a processor that does not exist, v1 would return EINVAL; v2 would accept it and allow
    /// all.
    fn check_cpuset(&self, limits: &Limits) -> Result<()> {
        let has_cpuset = |dir: &&Dir| dir.controllers.contains(&Controller::Cpuset);
        let (Some(asked), Some(dir)) = (&limits.cpuset, self.dirs.iter().find(has_cpuset)) else {
            return Ok(());
        };
        let file = match dir.version {
            Version::V1 => "cpuset.cpus",
            Version::V2 => "cpuset.cpus.effective",
        };
        let Ok(there) = read_kernel(Path::new(&dir.top).join(file)) else { return Ok(()) };
        let there = there.trim();
        let Ok(ranges) = cpu_list(there) else { return Ok(()) };
        let has = |cpu: u32| ranges.iter().any(|(first, last)| (*first..=*last).contains(&cpu));
        for (first, last) in cpu_list(asked)? {
            if let Some(cpu) = (first..=last).find(|cpu| !has(*cpu)) {
                return Err(Error::new(format!("--cpuset-cpus {asked}: no CPU {cpu} here"))
                    .hint(format!("the available CPUs are {there}")));
            }
        }
        Ok(())
    }
}
