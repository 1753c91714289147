//! Services that know each other by name: those of one file that have a private network.
//!
//! Each keeps its address as long as any service of the file is on record: a name can be resolved
//! before its service is started, and leads to the same address after a restart. A group is a
//! directory, `<state root>/groups/<id>`: `record.json` says which address each member has, and
//! `hosts` is bound over /etc/hosts in all of them. The leases name the group, and are held as long
//! as it exists. A process that starts services holds a shared lock of the directory meanwhile; one
//! that nobody holds, and of whose file no service is on record, is a leftover.
//!
//! Names lead to IPv4 addresses only: forwarding IPv6 may make the whole host ignore router
//! advertisements (`uplink`), and every member has IPv4.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::{Pools, PrivateNetwork, lease};
use crate::config::network::Publish;
use crate::error::{Error, Result};
use crate::journal::{lock_file, read_json, write_json};
use crate::sys::process;

/// The address of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAddress {
    /// The address.
    pub inner4: Ipv4Addr,
    /// The prefix of its IPv6 address, whose last 32 bits are the IPv4 address.
    pool6: Option<Ipv6Network>,
    /// The number of its lease.
    number: u64,
}

/// What a member's sandbox needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// Its own address.
    pub own: GroupAddress,
    /// The members to which it may connect.
    pub reaches: BTreeMap<String, Ipv4Addr>,
}

/// Who joins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joining {
    /// Where its address comes from.
    pub pools: Pools,
    /// Its host name, if that is not its name.
    pub host_name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupRecord {
    file: PathBuf,
    members: BTreeMap<String, GroupAddress>,
}

/// A group that does not end while this is held.
#[derive(Debug)]
pub struct ServiceGroup {
    id: String,
    record: GroupRecord,
    _lock: File,
}

/// The id of the group of the services in `file`.
pub fn id(file: &Path) -> String {
    format!("{:016x}", lease::hash(file.as_os_str().as_encoded_bytes()))
}

/// The file that is bound over /etc/hosts of the members.
pub fn hosts(state_root: &Path, id: &str) -> PathBuf {
    directory(state_root).join(id).join("hosts")
}

/// The ids of all groups.
///
/// # Errors
/// The state directory cannot be read.
pub fn all(state_root: &Path) -> Result<Vec<String>> {
    let dir = directory(state_root);
    let failed = |e: &std::io::Error| Error::io(format!("read {}", dir.display()), e);
    match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let names = entries
                .map_err(|e| failed(&e))?
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<_>>().map_err(|e| failed(&e))
        }
    }
}

fn directory(state_root: &Path) -> PathBuf {
    state_root.join("groups")
}

/// Locks the directory of the groups. It may have been removed and created again meanwhile.
fn lock(state_root: &Path, make: bool) -> Result<Option<File>> {
    let dir = directory(state_root);
    loop {
        if make {
            create_dir(&dir)?;
        }
        match lock_file(&dir, "the groups of services are") {
            Ok(lock) if is_at(&lock, &dir) => return Ok(Some(lock)),
            Ok(_) => {}
            Err(_) if !make && !dir.exists() => return Ok(None),
            Err(_) if make && !dir.exists() => {}
            Err(error) => return Err(error),
        }
    }
}

fn create_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(|e| Error::io(format!("create {}", dir.display()), &e))
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (open, there) = (file.metadata().map(id), fs::metadata(path).map(id));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

impl ServiceGroup {
    /// The group of the services in `file`, of which these have a private network. Reserves an
    /// address for each, unless it has one, and makes the names known to all.
    ///
    /// # Errors
    /// No address is free, or the state directory cannot be written.
    pub fn join(
        state_root: &Path,
        file: &Path,
        joining: &BTreeMap<String, Joining>,
    ) -> Result<ServiceGroup> {
        let _turn = lock(state_root, true)?;
        let id = id(file);
        let dir = directory(state_root).join(&id);
        create_dir(&dir)?;
        let held =
            File::open(&dir).map_err(|e| Error::io(format!("open {}", dir.display()), &e))?;
        process::lock_shared(held.as_fd())
            .map_err(|errno| Error::os(format!("lock {}", dir.display()), errno))?;
        let path = dir.join("record.json");
        let new = || GroupRecord { file: file.to_owned(), members: BTreeMap::new() };
        let mut record: GroupRecord = read_json(&path)?.unwrap_or_else(new);
        if record.file != file {
            let (other, file) = (record.file.display(), file.display());
            return Err(Error::new(format!("{file}: its group is that of {other}")));
        }
        for (name, joining) in joining {
            let within = |error: Error| error.within(format_args!("service {name}"));
            match record.members.get(name) {
                Some(member) => member.keep(state_root, name, &id).map_err(within)?,
                None => {
                    let member = GroupAddress::new(state_root, name, &id, &joining.pools);
                    record.members.insert(name.clone(), member.map_err(within)?);
                }
            }
        }
        write_json(&path, &record)?;
        let group = ServiceGroup { id, record, _lock: held };
        group.write_hosts(&dir.join("hosts"), joining)?;
        Ok(group)
    }

    /// What the sandbox of member `name` needs to know; `reaches` are members.
    pub fn membership(&self, name: &str, reaches: &[String]) -> Option<Membership> {
        let members = &self.record.members;
        let address = |name: &String| Some((name.clone(), members.get(name)?.inner4));
        Some(Membership {
            group: self.id.clone(),
            own: members.get(name)?.clone(),
            reaches: reaches.iter().filter_map(address).collect(),
        })
    }

    /// In place, as running members see this very file.
    fn write_hosts(&self, path: &Path, joining: &BTreeMap<String, Joining>) -> Result<()> {
        let mut text = String::new();
        for (name, joining) in joining {
            let Some(member) = self.record.members.get(name) else { continue };
            let also = joining.host_name.as_ref().filter(|host_name| *host_name != name);
            let also = also.map_or(String::new(), |host_name| format!(" {host_name}"));
            text += &format!("{} {name}{also}\n", member.inner4);
        }
        let mut text = text.into_bytes();
        text.extend(fs::read("/etc/hosts").unwrap_or_default());
        let write = || {
            if fs::read(path).is_ok_and(|before| before == text) {
                return Ok(());
            }
            let mut options = File::options();
            let mut file =
                options.write(true).create(true).truncate(false).mode(0o644).open(path)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)
        };
        write().map_err(|e: std::io::Error| Error::io(format!("write {}", path.display()), &e))
    }

    /// Gives back the addresses of a group that no process holds, and removes it, unless it
    /// `is_used`; false if it stays.
    ///
    /// # Errors
    /// Those of `is_used`; the state directory cannot be changed.
    pub fn release(
        state_root: &Path,
        id: &str,
        is_used: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let Some(_turn) = lock(state_root, false)? else { return Ok(false) };
        let dir = directory(state_root).join(id);
        let failed =
            |what: &str, e: &std::io::Error| Error::io(format!("{what} {}", dir.display()), e);
        let open = match File::open(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            open => open.map_err(|e| failed("open", &e))?,
        };
        let free = process::try_lock(open.as_fd()).map_err(|errno| failed("lock", &errno.into()));
        if !free? || is_used()? {
            return Ok(false);
        }
        for (address, owner) in lease::list(state_root)? {
            if lease::group_of(&owner) == Some(id) {
                lease::give_back(state_root, address, &owner)?;
            }
        }
        fs::remove_dir_all(&dir).map_err(|e| failed("remove", &e))?;
        // Empty ones too; the next group creates them again.
        let _ = fs::remove_dir(directory(state_root));
        lease::remove_empty(state_root);
        Ok(true)
    }
}

impl GroupAddress {
    fn new(state_root: &Path, name: &str, group: &str, pools: &Pools) -> Result<GroupAddress> {
        let number = lease::number();
        let owner = lease::owner(name, Some(group), number);
        let network =
            PrivateNetwork::find(state_root, name, pools, Vec::new(), false, |address| {
                lease::take(state_root, address, &owner)
            })?;
        let pool6 = network.inner6.and_then(|inner6| Ipv6Network::new_checked(inner6, 96));
        Ok(GroupAddress { inner4: network.inner4, pool6, number })
    }

    /// Takes the lease again, should it have been lost.
    fn keep(&self, state_root: &Path, name: &str, group: &str) -> Result<()> {
        let owner = lease::owner(name, Some(group), self.number);
        match lease::holder(state_root, self.inner4)? {
            Some(holder) if holder == owner => Ok(()),
            None if lease::take(state_root, self.inner4, &owner)? => Ok(()),
            _ => {
                Err(Error::new(format!("its address {} was lost to another sandbox", self.inner4))
                    .hint(
                        "garth down ends the services of the file, after which they get new ones",
                    ))
            }
        }
    }
}

impl PrivateNetwork {
    /// The network of service `id`, which has an address already.
    pub fn of_member(
        state_root: &Path,
        id: &str,
        membership: &Membership,
        publish: Vec<Publish>,
    ) -> Result<PrivateNetwork> {
        let Membership { group, own, reaches } = membership;
        if lease::holder(state_root, own.inner4)? != Some(lease::owner(id, Some(group), own.number))
        {
            return Err(Error::new(format!("address {} is not reserved any more", own.inner4))
                .hint("garth up reserves it again"));
        }
        let pair = Ipv4Network::new_checked(own.inner4, 31);
        let pools = Pools { pool4: pair.into_iter().collect(), pool6: own.pool6 };
        let network = PrivateNetwork::find(state_root, id, &pools, publish, false, |_| Ok(true))?;
        let reaches = reaches.clone();
        Ok(PrivateNetwork { number: own.number, group: Some(group.clone()), reaches, ..network })
    }
}
