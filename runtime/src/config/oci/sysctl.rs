//! `linux.sysctl`: names, and the namespaces that their values belong to.

use super::words::NamespaceType;
use super::{Linux, refuse};
use crate::error::{Error, Result};

/// Values of an IPC namespace, besides fs.mqueue (ipc_namespaces(7)).
const IPC: &[&str] =
    &["msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni"];

/// The path of a value below /proc/sys. The first separator decides: `net.ipv4.ip_forward`, or
/// `net/ipv4/conf/eth0.100/rp_filter`, in which dots are part of names; in the dotted form a slash
/// stands for a dot (sysctl.d(5)).
///
/// # Errors
/// The name leads elsewhere.
pub fn sysctl_path(name: &str) -> Result<String> {
    let path: String = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => name
            .chars()
            .map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    match path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        true => Err(Error::new(format!("{name:?} does not name a file below /proc/sys"))),
        false => Ok(path),
    }
}

impl Linux {
    /// A value that does not belong to one of the container's namespaces would be the host's.
    pub(super) fn check_sysctl(&self) -> Result<()> {
        for name in self.sysctl.keys() {
            let place = format!("linux.sysctl {name:?}");
            let path = sysctl_path(name).map_err(|error| error.within("linux.sysctl"))?;
            let parts: Vec<&str> = path.split('/').collect();
            let needs = match parts.as_slice() {
                ["net", _, ..] => NamespaceType::Network,
                ["fs", "mqueue", _] => NamespaceType::Ipc,
                ["kernel", value] if IPC.contains(value) => NamespaceType::Ipc,
                ["kernel", "domainname"] => NamespaceType::Uts,
                ["kernel", "hostname"] => {
                    return refuse(place, "use `hostname` to set the host name");
                }
                _ => return refuse(place, "not a namespaced parameter"),
            };
            if self.namespace(needs).is_none() {
                return refuse(
                    place,
                    format!("would change the host: it needs a namespace of type {needs}"),
                );
            }
        }
        Ok(())
    }
}
