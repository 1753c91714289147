//! The id maps of a user namespace (user_namespaces(7)): written once, from outside, before any
//! process in it does anything.
//!
//! A process with CAP_SETUID and CAP_SETGID may write any map. Others may only map their own id,
//! one to one, at the cost that groups cannot be set; for other ranges there are newuidmap(1) and
//! newgidmap(1), which have the privilege and look up in subuid(5) and subgid(5) which user may
//! have which ids.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::config::oci::IdMapping;
use crate::config::{Capability, IdRange};
use crate::error::{Error, Result};
use crate::plan::IdMaps;
use crate::sys::file::read_kernel;
use crate::sys::{process, program};

#[derive(Clone, Copy)]
struct Kind {
    file: &'static str,
    helper: &'static str,
    table: &'static str,
    capability: Capability,
}

const UIDS: Kind = Kind {
    file: "uid_map",
    helper: "newuidmap",
    table: "/etc/subuid",
    capability: Capability::CAP_SETUID,
};
const GIDS: Kind = Kind {
    file: "gid_map",
    helper: "newgidmap",
    table: "/etc/subgid",
    capability: Capability::CAP_SETGID,
};

/// Whether the caller may write the maps of an undumpable process. Its /proc files are root's
/// (proc(5)).
pub fn reaches_undumpable() -> bool {
    process::effective_ids().0 == 0
}

/// Whether setgroups(2) will be denied in the namespace, because its map is written without
/// privilege.
pub fn denies_setgroups(gids: &[IdMapping]) -> bool {
    !GIDS.is_privileged() && is_own(gids, process::effective_ids().1)
}

/// Whether it is denied in the namespace of process `pid`, or `self`; then also in its descendants.
pub fn setgroups_denied(pid: &str) -> bool {
    read_kernel(format!("/proc/{pid}/setgroups")).is_ok_and(|text| text.trim() == "deny")
}

/// Writes the maps of the user namespace of process `pid`, whose pid cannot be reused meanwhile.
///
/// # Errors
/// A file cannot be written, or the helper fails.
pub fn write(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let (uid, gid) = process::effective_ids();
    if denies_setgroups(gids) {
        put(pid, "setgroups", "deny")?;
    }
    UIDS.write(pid, uids, uid)?;
    GIDS.write(pid, gids, gid)
}

/// The maps of a user namespace that root creates for a sandbox: this range, or the first that
/// subuid(5) and subgid(5) give root.
///
/// # Errors
/// They give none.
pub fn for_root(range: Option<IdRange>) -> Result<IdMaps> {
    let of = |kind: Kind| -> Result<Vec<IdMapping>> {
        let IdRange { first, count } = match range {
            Some(range) => range,
            None => kind.subordinate("root", "0")?,
        };
        Ok(vec![IdMapping { container_id: 0, host_id: first, size: count }])
    };
    Ok(IdMaps { uids: of(UIDS)?, gids: of(GIDS)? })
}

impl Kind {
    /// The first range of a user in its table.
    fn subordinate(self, name: &str, id: &str) -> Result<IdRange> {
        let table = self.table;
        let text = match fs::read_to_string(table) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| Error::io(format!("--userns: read {table}"), &error))?,
        };
        let line = text.lines().find_map(|line| {
            let (user, range) = line.split_once(':')?;
            (user == name || user == id).then_some(range)
        });
        match line {
            Some(range) => range
                .trim()
                .parse()
                .map_err(|error: Error| error.within(format_args!("{table}, entry of {name}"))),
            None => {
                Err(Error::new(format!("--userns: {table} has no ids for {name}")).hint(format!(
                    "add the line {name}:100000:65536 to it, or use --userns=100000:65536, with ids \
                    that are not in use"
                )))
            }
        }
    }

    fn write(self, pid: i32, ranges: &[IdMapping], own: u32) -> Result<()> {
        if self.is_privileged() || is_own(ranges, own) {
            let lines: String = ranges.iter().map(|range| words(range) + "\n").collect();
            return put(pid, self.file, &lines);
        }
        let helper = self.find().ok_or_else(|| {
            Error::new(format!(
                "map ids {}: {} is needed for other ids than the caller's, and is not installed",
                list(ranges),
                self.helper
            ))
            .hint("install the package uidmap")
        })?;
        let numbers =
            ranges.iter().flat_map(|range| [range.container_id, range.host_id, range.size]);
        let mut command = program::new(&helper);
        command.arg(pid.to_string()).args(numbers.map(|number| number.to_string()));
        let output = command
            .output()
            .map_err(|error| Error::io(format!("start {}", helper.display()), &error))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let said = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("failed");
        let said = said.trim().trim_start_matches(self.helper).trim_start_matches(": ");
        Err(Error::new(format!("{}, to map ids {}: {said}", self.helper, list(ranges))).hint(
            format!("{} must assign these host ids to this user: see `garth doctor`", self.table),
        ))
    }

    fn is_privileged(self) -> bool {
        super::has(self.capability)
    }

    fn find(self) -> Option<PathBuf> {
        let path = std::env::var("PATH").unwrap_or_default();
        let directories = path.split(':').filter(|directory| directory.starts_with('/'));
        let places = directories.chain(["/usr/bin", "/bin"]);
        places.map(|place| PathBuf::from(place).join(self.helper)).find(|file| file.is_file())
    }
}

fn words(range: &IdMapping) -> String {
    format!("{} {} {}", range.container_id, range.host_id, range.size)
}

fn list(ranges: &[IdMapping]) -> String {
    ranges.iter().map(words).collect::<Vec<_>>().join(", ")
}

/// Whether these map the caller's own id, and no other.
fn is_own(ranges: &[IdMapping], own: u32) -> bool {
    matches!(ranges, [IdMapping { host_id, size: 1, .. }] if *host_id == own)
}

fn put(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).map_err(|e| {
        Error::io(format!("write {text:?} to {path}"), &e)
            .hint("`garth doctor` shows what user namespaces need here")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_is_ones_own_and_no_other() {
        let range = |host_id, size| IdMapping { container_id: 0, host_id, size };
        assert!(is_own(&[range(1000, 1)], 1000));
        for other in [&[][..], &[range(1000, 2)], &[range(1001, 1)], &[range(1000, 1); 2]] {
            assert!(!is_own(other, 1000), "{other:?}");
        }
    }
}
