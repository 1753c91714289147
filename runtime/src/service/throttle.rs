//! `garth update` of a sandbox's cgroup.

use crate::cgroup::Cgroup;
use crate::config::Throttle;
use crate::config::oci::Resources;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::record::SandboxRecord;

/// Gives a sandbox that runs other limits on disks. They go with its cgroup, so its record is not
/// changed: it says what was asked at the start.
///
/// # Errors
/// When it does not run, or was started without the controllers.
pub fn throttle(journal: &Journal, id: &str, throttles: &[Throttle]) -> Result<()> {
    let done = cgroup(journal, id)?.throttle(throttles);
    done.map_err(|error| error.within(format_args!("update {id}")))
}

/// Gives a sandbox that runs other limits on memory, processors and processes, in the words of
/// config.json.
///
/// # Errors
/// When it does not run, or was started without limits.
pub fn limit(journal: &Journal, id: &str, resources: &Resources) -> Result<()> {
    let cgroup = cgroup(journal, id)?;
    let done = match cgroup.is_empty() {
        true => Err(Error::new("it was started without limits, and has no cgroup of its own")
            .hint("start it again with one, as --pids-limit 10000")),
        false => cgroup.update_sandbox(resources),
    };
    done.map_err(|error| error.within(format_args!("update {id}")))
}

fn cgroup(journal: &Journal, id: &str) -> Result<Cgroup> {
    let record = SandboxRecord::read(journal, id)?;
    if journal.open_process(id)?.is_none() {
        return Err(Error::new(format!("{id} is not running")));
    }
    Ok(record.resources.cgroup.unwrap_or_default())
}
