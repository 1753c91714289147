//! What iscsiadm(8) leaves if it is killed, or with the power, and cannot clear away itself.
//!
//! Its lock is a file, which stays: every other iscsiadm then waits for half a minute, and fails. A
//! record is written in place and not synced: one that is empty or cut can be neither used, nor
//! written again, nor deleted by it. So it is not killed together with us, but comes to its end; an
//! interrupted verb may have left one at work, for which the next one waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::device::VolumeDevice;
use crate::error::{Error, Result};
use crate::journal::{is_there, lock_file};
use crate::sys::process;

/// The lock, a second link to the file beside it.
const LOCK: &str = "/run/lock/iscsi/lock";
const HELD: &str = "/run/lock/iscsi/lock.write";

/// For how long iscsid(8), which holds the lock while it reads a record, may hold it. Its own other
/// programs are seen.
const MOMENT: Duration = Duration::from_secs(2);
/// How long one that an interrupted verb has left may take.
const ORPHAN: Duration = Duration::from_secs(30);

/// Waits until no iscsiadm works on a target of these devices.
///
/// # Errors
/// One does for too long.
pub fn wait_for_orphans(devices: &[VolumeDevice]) -> Result<()> {
    let end = Instant::now() + ORPHAN;
    loop {
        let found = running().find_map(|(pid, words)| Some((pid, works_on(&words, devices)?)));
        let Some((pid, target)) = found else { return Ok(()) };
        if Instant::now() > end {
            return Err(Error::new(format!("iscsiadm (pid {pid}) still works on {target}"))
                .hint("garth waited for it for 30 s; end it, and try again"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Which target of these devices an iscsiadm with these arguments works on, or at which server on all: it
/// names both, one, or neither.
fn works_on(words: &[String], devices: &[VolumeDevice]) -> Option<String> {
    let has = |flag| words.iter().any(|word| word == flag);
    let of_all = has("node") && !has("-T");
    devices.iter().find_map(|device| {
        let VolumeDevice::Iscsi { target, portal, .. } = device else { return None };
        let portal = portal.to_string();
        let is_it = |word: &&String| **word == *target || (of_all && **word == portal);
        let any = || (of_all && !has("-p")).then(|| target.clone());
        words.iter().find(is_it).cloned().or_else(any)
    })
}

/// Removes iscsiadm's lock if nothing that could hold it runs.
///
/// # Errors
/// It cannot be looked at or removed.
pub fn remove_abandoned_lock() -> Result<()> {
    remove_abandoned(Path::new(LOCK), Path::new(HELD), || running().next().is_some())
}

fn remove_abandoned(lock: &Path, held: &Path, is_running: impl Fn() -> bool) -> Result<()> {
    let since = Instant::now();
    // One that runs waits for it longer than we would.
    while is_there(held)? && !is_running() {
        if since.elapsed() < MOMENT {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        // Another Garth may do the same: afterwards the next holder's is there.
        let _guard = lock_file(lock, "open-iscsi's database is")?;
        if is_there(held)? && !is_running() {
            fs::remove_file(held)
                .map_err(|error| Error::io(format!("remove {}", held.display()), &error))?;
        }
        return Ok(());
    }
    Ok(())
}

/// The running iscsiadms, with their arguments.
fn running() -> impl Iterator<Item = (i32, Vec<String>)> {
    process::all().filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim_end() == "iscsiadm").then_some(())?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into());
        Some((pid, words.collect()))
    })
}

/// Removes those of these records that iscsiadm cannot read, since they are empty or cut.
///
/// # Errors
/// One cannot be read or removed.
pub fn remove_unreadable(records: &[PathBuf]) -> Result<()> {
    for record in records {
        let failed = |doing, error| Error::io(format!("{doing} {}", record.display()), &error);
        let text = fs::read(record).map_err(|error| failed("read", error))?;
        if !is_whole(&String::from_utf8_lossy(&text)) {
            fs::remove_file(record).map_err(|error| failed("remove", error))?;
        }
    }
    Ok(())
}

/// It begins and ends as iscsiadm writes it.
fn is_whole(record: &str) -> bool {
    record.starts_with("# BEGIN RECORD") && record.trim_end().ends_with("# END RECORD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("garth-iscsiadm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn one_that_works_on_a_target_or_on_all_of_its_server_is_waited_for() {
        let device =
            VolumeDevice::parse("iscsi://10.0.1.1/iqn.2015-06.net.example:a", Path::new("/"))
                .unwrap();
        let found = |line: &str| {
            let words: Vec<String> = line.split(' ').map(String::from).collect();
            works_on(&words, std::slice::from_ref(&device))
        };
        let login =
            |rest: &str| found(&format!("iscsiadm -m node {rest} -p 10.0.1.1:3260 --login"));
        assert_eq!(
            login("-T iqn.2015-06.net.example:a").as_deref(),
            Some("iqn.2015-06.net.example:a")
        );
        assert_eq!(login("-T iqn.2015-06.net.example:b"), None);
        assert_eq!(login("-n x").as_deref(), Some("10.0.1.1:3260"));
        assert_eq!(found("iscsiadm -m node -p 10.0.2.1:3260 --login"), None);
        assert!(found("iscsiadm -m node --login").is_some());
        assert_eq!(found("iscsiadm -m discovery -t sendtargets -p 10.0.1.1:3260"), None);
    }

    #[test]
    fn the_lock_of_one_that_was_killed_is_removed_and_no_other() {
        let dir = dir("lock");
        let (lock, held) = (dir.join("lock"), dir.join("lock.write"));
        fs::write(&lock, "").unwrap();
        fs::hard_link(&lock, &held).unwrap();
        remove_abandoned(&lock, &held, || true).unwrap();
        assert!(held.exists(), "its holder runs");
        remove_abandoned(&lock, &held, || false).unwrap();
        assert!(lock.exists() && !held.exists());
        remove_abandoned(&lock, &held, || false).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn records_that_are_empty_or_cut_are_removed() {
        let dir = dir("records");
        let text = "# BEGIN RECORD 2.1.8\nnode.name = iqn.x:a\n# END RECORD\n";
        let records = [("whole", text), ("empty", ""), ("cut", &text[..30])].map(|(name, text)| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        });
        remove_unreadable(&records).unwrap();
        assert_eq!(records.map(|path| path.exists()), [true, false, false]);
        fs::remove_dir_all(dir).unwrap();
    }
}
