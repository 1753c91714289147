//! `update`: changes the limits of a running container.

use serde_json::Value;

use super::Container;
use crate::config::Throttle;
use crate::config::oci::{BlockIo, Resources, Status};
use crate::config::rate::Change;
use crate::error::{Error, Kind, Result};
use crate::journal::{Entry, Journal};
use crate::resource::bandwidth::Bandwidth;

/// Lines for the `schemata` of a resctrl group (Documentation/filesystems/resctrl.rst).
#[derive(Clone, Debug, Default)]
pub struct Schemata {
    /// `L3:0=f;1=f0`.
    pub l3_cache: Option<String>,
    /// `MB:0=20;1=70`.
    pub memory_bandwidth: Option<String>,
}

impl Schemata {
    /// Is any of it set?
    pub fn is_some(&self) -> bool {
        self.l3_cache.is_some() || self.memory_bandwidth.is_some()
    }
}

/// What to change; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Limits, in the format of config.json's `linux.resources`.
    pub resources: Resources,
    /// Limits on cache and memory bandwidth.
    pub schemata: Schemata,
    /// Network rates.
    pub rate: Option<Change>,
}

/// Changes a container's limits, in its record as well.
///
/// # Errors
/// It has stopped, or the kernel refused a limit; then the previous limits are restored.
pub fn update(journal: &Journal, id: &str, changes: &Changes) -> Result<()> {
    let Changes { resources, schemata, rate } = changes;
    let mut container = Container::open(journal, id)?;
    let entry = container.lock()?;
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(Error::new("container not running").kind(Kind::WrongState));
    }
    let record = &mut container.record;
    let linux = record.asked.config.linux.get_or_insert_default();
    let before = linux.resources.clone().unwrap_or_default();
    let after = merged(&before, resources)?;
    if let Err(error) = record.resources.cgroup.update(resources) {
        let _ = record.resources.cgroup.update(&before);
        return Err(error);
    }
    for line in [&schemata.l3_cache, &schemata.memory_bandwidth].into_iter().flatten() {
        let group = record.resources.rdt.as_ref().ok_or_else(|| {
            Error::new(format!("Intel RDT: {line}: the container has no resctrl group")).hint(
                "create the container with linux.intelRdt, on a host with /sys/fs/resctrl mounted",
            )
        })?;
        group.change(line)?;
    }
    if let Some(change) = rate
        && let Err(error) = slow_down(&mut container, &entry, *change)
    {
        let _ = container.record.resources.cgroup.update(&before);
        return Err(error);
    }
    if after != before {
        let record = &mut container.record;
        record.asked.config.linux.get_or_insert_default().resources = Some(after);
        record.write(&entry)?;
    }
    Ok(())
}

/// A container that never had a rate gets it on record first.
fn slow_down(container: &mut Container, entry: &Entry, change: Change) -> Result<()> {
    let pid = container.process()?.map_or(0, |(pid, _)| pid);
    let record = &mut container.record;
    if record.resources.bandwidth.is_none() {
        record.resources.bandwidth = Some(Bandwidth::default());
        record.write(entry)?;
    }
    let owner = record.owner(entry.journal());
    let bandwidth = record.resources.bandwidth.as_ref();
    bandwidth.map_or(Ok(()), |bandwidth| bandwidth.update(&owner, pid, change).map(drop))
}

/// Limits on the disks below paths, in the format of config.json.
///
/// # Errors
/// There is no such container, or a limit would have no effect.
pub fn throttles(journal: &Journal, id: &str, wanted: &[Throttle]) -> Result<BlockIo> {
    Container::open(journal, id)?.record.resources.cgroup.throttles(wanted)
}

/// `before` with `changes` applied. Lists are replaced as a whole.
fn merged(before: &Resources, changes: &Resources) -> Result<Resources> {
    let failed = |e: serde_json::Error| Error::new(format!("merge resources: {e}"));
    let mut all = serde_json::to_value(before).map_err(failed)?;
    overlay(&mut all, serde_json::to_value(changes).map_err(failed)?);
    serde_json::from_value(all).map_err(failed)
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_stays_and_what_is_there_counts() {
        let parse = |text: &str| serde_json::from_str::<Resources>(text).unwrap();
        let before = parse(
            r#"{"memory":{"limit":100,"swap":200},"pids":{"limit":5},"unified":{"a":"1","b":"2"},
                "devices":[{"allow":false,"access":"rwm"}]}"#,
        );
        let changes = parse(
            r#"{"memory":{"limit":150},"cpu":{"shares":7},"unified":{"b":"3"},
                "devices":[{"allow":true}]}"#,
        );
        let after = parse(
            r#"{"memory":{"limit":150,"swap":200},"pids":{"limit":5},"cpu":{"shares":7},
                "unified":{"a":"1","b":"3"},"devices":[{"allow":true}]}"#,
        );
        assert_eq!(merged(&before, &changes).unwrap(), after);
        assert_eq!(merged(&before, &Resources::default()).unwrap(), before);
    }
}
