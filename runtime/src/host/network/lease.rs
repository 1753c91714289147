//! Who has which address: a lease is a symbolic link `<state root>/leases/<address>` -> id.
//!
//! symlink(2) is made at once or not at all, and fails if the name is there: no lock, no half-made
//! file, and the whole table is one `ls -l`. The search starts at a slot that follows from the id,
//! so it ends after one try as long as the pool is not crowded.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;

use crate::{Error, Result};

/// How the names of our links begin, by which the firewall knows them.
pub const LINK_PREFIX: &str = "garth";

/// The host end's name: the prefix and the sandbox's address in hexadecimal.
pub fn link_name(inner4: Ipv4Addr) -> String {
    format!("{LINK_PREFIX}{:08x}", u32::from(inner4))
}

fn directory(state_root: &Path) -> PathBuf {
    state_root.join("leases")
}

/// Takes `address` for `id`; false if another has it. An address that `id` has already is its.
pub fn take(state_root: &Path, address: Ipv4Addr, id: &str) -> Result<bool> {
    let directory = directory(state_root);
    let path = directory.join(address.to_string());
    let mut result = symlink(id, &path);
    // The last sandbox to end takes the empty directory with it, perhaps just now.
    while matches!(&result, Err(error) if error.kind() == ErrorKind::NotFound) {
        fs::create_dir_all(&directory)
            .map_err(|error| Error::io(format!("create {}", directory.display()), &error))?;
        result = symlink(id, &path);
    }
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(holder(state_root, address).is_some_and(|holder| holder == id))
        }
        Err(error) => Err(Error::io(format!("lease {}", path.display()), &error)),
    }
}

/// Who has `address`.
pub fn holder(state_root: &Path, address: Ipv4Addr) -> Option<String> {
    let target = fs::read_link(directory(state_root).join(address.to_string())).ok()?;
    target.into_os_string().into_string().ok()
}

/// Gives `address` back, if `id` has it.
pub fn give_back(state_root: &Path, address: Ipv4Addr, id: &str) -> Result<()> {
    if holder(state_root, address).is_none_or(|holder| holder != id) {
        return Ok(());
    }
    match fs::remove_file(directory(state_root).join(address.to_string())) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("give back the lease of {address}"), &error))
        }
        _ => Ok(()),
    }
}

/// All leases, as (address, id).
pub fn list(state_root: &Path) -> Result<Vec<(Ipv4Addr, String)>> {
    let directory = directory(state_root);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("list {}", directory.display()), &error)),
    };
    let addresses = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    Ok(addresses.filter_map(|a| Some((a, holder(state_root, a)?))).collect())
}

/// The inner addresses of `pool`, the odd one of each pair, in the order in which `id` tries them.
pub fn candidates(pool: Ipv4Network, id: &str) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(pool.network());
    let pairs = 1u64 << (32 - u32::from(pool.prefix())) >> 1;
    let start = hash(id) % pairs.max(1);
    (0..pairs).map(move |n| Ipv4Addr::from(first + 2 * ((start + n) % pairs) as u32 + 1))
}

/// FNV-1a: the same id begins at the same slot in every process.
fn hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
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
        assert!(take(&root, address, "a").unwrap());
        assert!(take(&root, address, "a").unwrap());
        assert!(!take(&root, address, "b").unwrap());
        give_back(&root, address, "b").unwrap();
        assert_eq!(list(&root).unwrap(), [(address, "a".to_owned())]);
        give_back(&root, address, "a").unwrap();
        give_back(&root, address, "a").unwrap();
        assert!(take(&root, address, "b").unwrap());
        fs::remove_dir_all(&root).unwrap();
    }
}
