//! Which sandbox has which address: a lease is a symbolic link `<state root>/leases/<address>` to
//! the id and a number. The number is random for each start, so a sandbox never mistakes for its
//! own the lease of one that had the name before, or has it in another state directory.
//!
//! symlink(2) is atomic and fails if the name exists: no lock, no half-written file, and the whole
//! table is one `ls -l`. The search starts at a slot derived from the id, so it ends after one try
//! as long as the pool is not crowded.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;

use super::names::link_name;
use crate::sys::port;
use crate::{Error, Result};

fn directory(state_root: &Path) -> PathBuf {
    state_root.join("leases")
}

/// A number for a new lease.
pub fn number() -> u64 {
    // RandomState is seeded from getrandom(2).
    RandomState::new().build_hasher().finish()
}

/// The owner as a lease records it. An address that outlives its sandbox belongs to a group; no
/// sandbox has such a name.
pub fn owner(id: &str, group: Option<&str>, number: u64) -> String {
    match group {
        Some(group) => format!("{id}@{group} {number:016x}"),
        None => format!("{id} {number:016x}"),
    }
}

/// Takes `address` for `owner`; false if it is taken. A lease left by an earlier start of the same
/// name is taken over: the caller now holds that name in the journal.
pub fn take(state_root: &Path, address: Ipv4Addr, owner: &str) -> Result<bool> {
    let directory = directory(state_root);
    let path = directory.join(address.to_string());
    let mut result = symlink(owner, &path);
    // The last sandbox to end removes the empty directory, perhaps just now.
    while matches!(&result, Err(error) if error.kind() == ErrorKind::NotFound) {
        fs::create_dir_all(&directory)
            .map_err(|error| Error::io(format!("create {}", directory.display()), &error))?;
        result = symlink(owner, &path);
    }
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let Some(before) = holder(state_root, address)? else { return Ok(false) };
            if first_word(&before) != first_word(owner) {
                return Ok(false);
            }
            give_back(state_root, address, &before)?;
            take(state_root, address, owner)
        }
        Err(error) => Err(Error::io(format!("lease {}", path.display()), &error)),
    }
}

/// Tells every process in this network namespace, whatever its state directory, that elements of
/// this address belong to a sandbox that is starting: as long as the descriptor is held, `gc`
/// leaves them alone. `None`: another process holds the claim. It is the name of an abstract unix
/// socket, which disappears with its holder.
pub fn claim(address: Ipv4Addr) -> Result<Option<OwnedFd>> {
    match port::claim(&link_name(address)) {
        Ok(held) => Ok(Some(held)),
        Err(errno) if errno.0 == libc::EADDRINUSE => Ok(None),
        Err(errno) => Err(Error::os(format!("claim address {address}"), errno)),
    }
}

fn first_word(owner: &str) -> &str {
    owner.split(' ').next().unwrap_or_default()
}

/// The sandbox's id in a lease.
pub fn id_of(owner: &str) -> &str {
    first_word(owner).split('@').next().unwrap_or_default()
}

/// The group in a lease: then it is the group's, not the sandbox's.
pub fn group_of(owner: &str) -> Option<&str> {
    first_word(owner).split_once('@').map(|(_, group)| group)
}

/// Removes the directory, if it is empty.
pub fn remove_empty(state_root: &Path) {
    let _ = fs::remove_dir(directory(state_root));
}

/// The owner of `address`.
pub fn holder(state_root: &Path, address: Ipv4Addr) -> Result<Option<String>> {
    let path = directory(state_root).join(address.to_string());
    match fs::read_link(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        target => target
            .map(|target| Some(target.to_string_lossy().into_owned()))
            .map_err(|error| Error::io(format!("read {}", path.display()), &error)),
    }
}

/// Releases `address`, if `owner` has it.
pub fn give_back(state_root: &Path, address: Ipv4Addr, owner: &str) -> Result<()> {
    if holder(state_root, address)?.is_none_or(|holder| holder != owner) {
        return Ok(());
    }
    match fs::remove_file(directory(state_root).join(address.to_string())) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("release the lease of {address}"), &error))
        }
        _ => Ok(()),
    }
}

/// All leases, as (address, owner).
pub fn list(state_root: &Path) -> Result<Vec<(Ipv4Addr, String)>> {
    let directory = directory(state_root);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("list {}", directory.display()), &error)),
    };
    let mut leases = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|error| Error::io(format!("list {}", directory.display()), &error))?
            .file_name();
        let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        leases.extend(holder(state_root, address)?.map(|owner| (address, owner)));
    }
    Ok(leases)
}

/// The inner addresses of `pool`, the odd one of each pair, in the order in which `id` tries them.
pub fn candidates(pool: Ipv4Network, id: &str) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(pool.network());
    let pairs = 1u64 << (32 - u32::from(pool.prefix())) >> 1;
    let start = hash(id.as_bytes()) % pairs.max(1);
    (0..pairs).map(move |n| Ipv4Addr::from(first + 2 * ((start + n) % pairs) as u32 + 1))
}

/// FNV-1a: the same id starts at the same slot in every process.
pub fn hash(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_a_pool_is_tried_once_and_never_the_host_end() {
        let pool: Ipv4Network = "10.9.8.0/28".parse().unwrap();
        let mut all: Vec<_> = candidates(pool, "web").collect();
        assert_ne!(all[0], candidates(pool, "db").next().unwrap());
        all.sort();
        let odd: Vec<_> = (0..8).map(|n| Ipv4Addr::new(10, 9, 8, 2 * n + 1)).collect();
        assert_eq!(all, odd);
        assert_eq!(candidates("10.0.0.4/32".parse().unwrap(), "x").count(), 0);
        assert_eq!(candidates("0.0.0.0/0".parse().unwrap(), "x").take(3).count(), 3);
    }

    #[test]
    fn a_lease_has_one_holder_and_is_given_back_by_it_only() {
        let root = std::env::temp_dir().join(format!("garth-lease-{}", std::process::id()));
        let address = Ipv4Addr::new(10, 9, 8, 1);
        let (a, b) = (owner("a", None, 1), owner("b", None, 1));
        assert!(take(&root, address, &a).unwrap());
        assert!(!take(&root, address, &b).unwrap());
        give_back(&root, address, &b).unwrap();
        assert_eq!(list(&root).unwrap(), [(address, a.clone())]);
        // Another start of this name; the first one then comes too late.
        let again = owner("a", None, 2);
        assert!(take(&root, address, &again).unwrap());
        give_back(&root, address, &a).unwrap();
        assert_eq!(list(&root).unwrap(), [(address, again.clone())]);
        give_back(&root, address, &again).unwrap();
        give_back(&root, address, &again).unwrap();
        assert!(take(&root, address, &b).unwrap());
        fs::remove_dir_all(&root).unwrap();
    }
}
