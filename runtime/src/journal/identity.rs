//! The identity of a process, so that another with the same pid is not mistaken for it: same boot,
//! same pid namespace, same start time.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::{Errno, file, pidfd, process};

/// A process, identified by more than its pid: pids are reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id in the host's pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Inode number of the pid namespace that `pid` belongs to; 0: it was not recorded.
    #[serde(default)]
    pub pid_namespace: u64,
}

impl ProcessId {
    /// The identity of the living process `pid`.
    pub fn of(pid: i32) -> Result<ProcessId> {
        let start_time = start_time(pid)?
            .ok_or_else(|| Error::new(format!("process {pid}: no start time in /proc")))?;
        let (boot_id, pid_namespace) = (boot_id()?.to_owned(), pid_namespace()?);
        Ok(ProcessId { pid, start_time, boot_id, pid_namespace })
    }

    /// Opens it, if it is still the same process and has not ended.
    ///
    /// # Errors
    /// The pid belongs to another pid namespace, or the kernel returns no answer.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let pid = self.pid;
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        if self.pid_namespace != 0 && self.pid_namespace != pid_namespace()? {
            return Err(Error::new(format!("process {pid} is in another pid namespace"))
                .hint("run this in the pid namespace in which it was started"));
        }
        // Open first, then compare: a descriptor stays with its process.
        let pidfd = match pidfd::open(pid) {
            Err(Errno(libc::ESRCH | libc::EINVAL)) => return Ok(None),
            pidfd => pidfd.map_err(|errno| Error::os(format!("open process {pid}"), errno))?,
        };
        let [ended] = process::readable([pidfd.as_fd()], Some(Duration::ZERO))
            .map_err(|errno| Error::os(format!("poll process {pid}"), errno))?;
        Ok((!ended && start_time(pid)? == Some(self.start_time)).then_some(pidfd))
    }

    /// The recorded form: words separated by spaces.
    pub(super) fn to_text(&self) -> String {
        let ProcessId { pid, start_time, boot_id, pid_namespace } = self;
        format!("{pid} {start_time} {boot_id} {pid_namespace}")
    }

    /// Reads what [`ProcessId::to_text`] wrote.
    pub(super) fn from_text(text: &str) -> Option<ProcessId> {
        let mut words = text.split(' ');
        Some(ProcessId {
            pid: words.next()?.parse().ok()?,
            start_time: words.next()?.parse().ok()?,
            boot_id: words.next()?.to_owned(),
            pid_namespace: words.next().map_or(Some(0), |word| word.parse().ok())?,
        })
    }
}

/// `None`: there is no such process.
fn start_time(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match file::read_kernel(&path).map_err(Errno::from) {
        Err(Errno(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        stat => stat.map_err(|errno| Error::os(format!("read {path}"), errno))?,
    };
    // The name, in parentheses, may contain spaces and parentheses.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_ascii_whitespace().nth(19).and_then(|word| word.parse().ok()))
}

/// The id of this boot; everything recorded in an earlier one is void.
///
/// # Errors
/// /proc is not mounted.
pub fn boot_id() -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let text = file::read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    Ok(BOOT.get_or_init(|| text.trim().to_owned()))
}

fn pid_namespace() -> Result<u64> {
    let path = "/proc/self/ns/pid";
    let file = fs::metadata(path).map_err(|e| Error::io(format!("stat {path}"), &e))?;
    Ok(file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.open().unwrap().is_some());
        assert_eq!(ProcessId::from_text(&own.to_text()).as_ref(), Some(&own));
        let other = ProcessId { start_time: own.start_time + 1, ..own.clone() };
        assert!(other.open().unwrap().is_none());
        let earlier = ProcessId { boot_id: "another".into(), ..own.clone() };
        assert!(earlier.open().unwrap().is_none());
        // A pid of another pid namespace refers to a different process here.
        let elsewhere = ProcessId { pid_namespace: own.pid_namespace + 1, ..own };
        assert!(elsewhere.open().unwrap_err().to_string().contains("another pid namespace"));
    }
}
