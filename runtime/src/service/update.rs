//! Changing the limits of a running sandbox or container.

use super::Face;
use crate::cgroup::Cgroup;
use crate::config::oci::{BlockIo, Cpu, Memory, Resources};
use crate::config::rate::Change;
use crate::config::{Sandbox, Throttle};
use crate::container::{self, Changes};
use crate::error::{Error, Result};
use crate::journal::{Journal, lock_file};
use crate::resource::bandwidth;
use crate::resource::record::SandboxRecord;

/// Changes the limits of the sandbox or container `name`; `disks` are limits on disks, each given
/// by a path on it. A sandbox's record keeps the limits it was started with; `garth ps` shows the
/// kernel's.
///
/// # Errors
/// It is not running, has nothing to change the limit of, or the kernel refused.
pub fn update(journal: &Journal, name: &str, changes: &Changes, disks: &[Throttle]) -> Result<()> {
    match Face::of(journal, name)? {
        Face::Sandbox => of_sandbox(journal, name, changes, disks),
        Face::Container => {
            let containers = &journal.containers();
            let mut changes = changes.clone();
            if !disks.is_empty() {
                let weight = changes.resources.block_io.and_then(|block_io| block_io.weight);
                let disks = container::throttles(containers, name, disks)?;
                changes.resources.block_io = Some(BlockIo { weight, ..disks });
            }
            container::update(containers, name, &changes)
        }
    }
}

fn of_sandbox(journal: &Journal, id: &str, changes: &Changes, disks: &[Throttle]) -> Result<()> {
    let Changes { resources, schemata, rate } = changes;
    if *resources != usual(resources) || schemata.is_some() {
        let what = "use --memory, --memory-swap, --cpus, --cpuset-cpus, --pids-limit, --io or \
                    --rate";
        return Err(
            Error::new(format!("{id} is a sandbox: this limit cannot be changed")).hint(what)
        );
    }
    let nothing = *resources == Resources::default();
    if nothing && disks.is_empty() && rate.is_none() {
        return Err(Error::new("nothing to change").hint("use --memory 512m, --cpus 2, ..."));
    }
    let within = |error: Error| error.within(format_args!("update {id}"));
    let cgroup = match nothing && disks.is_empty() {
        true => Cgroup::default(),
        false => cgroup(journal, id)?,
    };
    if !nothing {
        if cgroup.is_empty() {
            let why = Error::new("it was started without limits and has no cgroup of its own");
            return Err(within(why.hint("restart it with one, e.g. --pids-limit 10000")));
        }
        cgroup.update(resources).map_err(within)?;
    }
    if !disks.is_empty() {
        let limited = cgroup.throttles(disks).and_then(|block_io| {
            cgroup.update(&Resources { block_io: Some(block_io), ..Resources::default() })
        });
        limited.map_err(within)?;
    }
    rate.map_or(Ok(()), |rate| slow_down(journal, id, rate))
}

/// The part of these that a sandbox can have.
fn usual(resources: &Resources) -> Resources {
    let cpu = resources.cpu.clone().map(|Cpu { quota, period, cpus, .. }| Cpu {
        quota,
        period,
        cpus,
        ..Cpu::default()
    });
    let memory = resources.memory.clone();
    let memory =
        memory.map(|Memory { limit, swap, .. }| Memory { limit, swap, ..Memory::default() });
    Resources { cpu, memory, pids: resources.pids.clone(), ..Resources::default() }
}

fn cgroup(journal: &Journal, id: &str) -> Result<Cgroup> {
    let record = SandboxRecord::read(journal, id)?;
    if journal.open_process(id)?.is_none() {
        return Err(Error::new(format!("{id} is not running")));
    }
    Ok(record.resources.cgroup)
}

fn slow_down(journal: &Journal, id: &str, change: Change) -> Result<()> {
    let record = SandboxRecord::read(journal, id)?;
    let not_running = || Error::new(format!("{id} is not running"));
    let rates = change.of(record.asked.rates);
    // A sandbox that cannot have rates is refused in the same words as at a start.
    Sandbox { rates, ..record.asked.clone() }.validate()?;
    bandwidth::check(&rates, None)?;
    let Some(bandwidth) = &record.resources.bandwidth else {
        return Err(Error::new(format!("--rate: {id} has no network of its own")));
    };
    // One update at a time. The entry's own lock is held by the process that looks after the
    // sandbox.
    let _lock = lock_file(&journal.file(id, "record.json"), &format!("{id} is"))?;
    let process = journal.process(id)?.ok_or_else(not_running)?;
    if process.open()?.is_none() {
        return Err(not_running());
    }
    bandwidth.update(&record.owner(journal), process.pid, change)?;
    // The release happens after the end, so it covers what was made while the sandbox was running.
    // If it has ended meanwhile, the release may have come too early for that.
    if process.open()?.is_none() {
        bandwidth::forget(&record.owner(journal), true)?;
        return Err(not_running());
    }
    Ok(())
}
