//! A host network device given to a container (`linux.netDevices` of config.json): it is moved into
//! the container's network namespace, renamed, gets its addresses back, and is brought up.

use libc::{
    IFA_F_PERMANENT, IFA_FLAGS, IFLA_IFNAME, IFLA_NET_NS_PID, NLM_F_CREATE, NLM_F_EXCL,
    RT_SCOPE_UNIVERSE, RTM_NEWADDR, RTM_NEWLINK,
};

use super::listing::{self, ifinfomsg};
use crate::error::{Error, Result};
use crate::sys::netlink::{Batch, Family, Refusal, Socket, attribute, attributes};
use crate::sys::{Errno, netns};

/// An address as the kernel reports it: struct ifaddrmsg without the index, and the attributes.
struct Address {
    head: [u8; 4],
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Moves device `name` into the network namespace of process `pid`, where it is called `new_name`.
///
/// # Errors
/// There is no such device, the new name is already taken there, or the kernel refuses.
pub fn give(name: &str, new_name: &str, pid: i32) -> Result<()> {
    let refused = |refusal: Refusal| {
        let error = Error::os(format!("{} {name}", refusal.doing), refusal.errno);
        match (refusal.errno.0, refusal.text) {
            (libc::ENODEV, _) => error.hint("no such network device on the host"),
            (libc::EEXIST, _) => error.hint(format!("the container already has a {new_name}")),
            (_, Some(text)) => error.hint(text),
            _ => error,
        }
    };
    let open =
        || Socket::open(Family::Route).map_err(|errno| Error::os("open a netlink socket", errno));
    let mut host = open()?;
    let index = index_of(&mut host, name).map_err(refused)?;
    let addresses = addresses_of(&mut host, index).map_err(refused)?;
    let mut batch = Batch::new();
    batch.message("move network device", RTM_NEWLINK, 0, &ifinfomsg(index, false));
    batch.u32(IFLA_NET_NS_PID, pid as u32);
    batch.text(IFLA_IFNAME, new_name);
    host.execute(batch).map_err(refused)?;

    let mut inside = netns::in_netns_of(pid, open)
        .map_err(|errno| Error::os("enter the container's network namespace", errno))??;
    // The index may already be in use there, so the device may have a new one.
    let index = index_of(&mut inside, new_name).map_err(refused)?;
    let mut batch = Batch::new();
    for address in &addresses {
        let mut fixed = [0u8; 8];
        fixed[..4].copy_from_slice(&address.head);
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        batch.message("set the address of network device", RTM_NEWADDR, flags, &fixed);
        for (kind, value) in &address.attributes {
            batch.attr(*kind, value);
        }
    }
    batch.message("bring up network device", RTM_NEWLINK, 0, &ifinfomsg(index, true));
    inside.execute(batch).map_err(refused)
}

/// The index of device `name`, in the socket's namespace.
fn index_of(socket: &mut Socket, name: &str) -> std::result::Result<u32, Refusal> {
    let doing = "find network device";
    let (errno, text) = (Errno(libc::ENODEV), None);
    let link = listing::named(socket, name)?;
    link.map(|link| link.index).ok_or(Refusal { message: 0, doing, errno, text })
}

/// The addresses that would be lost in the move: permanent ones of global scope (the others are
/// regenerated, or were not the device's own).
fn addresses_of(socket: &mut Socket, index: u32) -> std::result::Result<Vec<Address>, Refusal> {
    let mut found = Vec::new();
    listing::addresses(socket, "list the addresses of network device", |head, rest| {
        let flags = attribute(rest, IFA_FLAGS)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(u32::from(head[2]), u32::from_ne_bytes);
        let own = head[4..8] == index.to_ne_bytes();
        if own && head[3] == RT_SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0 {
            let kept = attributes(rest)
                .filter(|(kind, _)| *kind != libc::IFA_CACHEINFO && *kind != libc::IFA_LABEL)
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect();
            found.push(Address { head: [head[0], head[1], head[2], head[3]], attributes: kept });
        }
    })?;
    Ok(found)
}
