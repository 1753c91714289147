//! `garth update --io` of a sandbox.

use crate::error::{Error, Result};
use crate::host::journal::Journal;
use crate::host::record::Record;
use crate::spec::Throttle;

/// Gives a sandbox that runs other limits on disks. They go with its cgroup, so its record is not
/// changed: it says what was asked at the start.
///
/// # Errors
/// When it does not run, or was started without the controllers.
pub fn throttle(journal: &Journal, id: &str, throttles: &[Throttle]) -> Result<()> {
    let record = Record::read(journal, id)?;
    if journal.open_process(id).is_none() {
        return Err(Error::new(format!("{id} is not running")));
    }
    let cgroup = record.resources.cgroup.unwrap_or_default();
    let done = cgroup.throttle(throttles);
    done.map_err(|error| error.within(format_args!("update {id}")))
}
