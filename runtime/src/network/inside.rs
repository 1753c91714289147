//! Looking into a container's network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::refusal::route_socket;
use crate::error::{Error, Result};
use crate::sys::netlink::Socket;
use crate::sys::netns;

/// The inode of process `pid`'s namespace; `None`: it is this one.
pub fn own_namespace(pid: i32) -> Result<Option<u64>> {
    let inode = |path: &str| {
        let file = fs::metadata(path);
        file.map(|file| file.ino()).map_err(|e| Error::io(format!("stat {path}"), &e))
    };
    let there = inode(&format!("/proc/{pid}/ns/net"))?;
    Ok((there != inode("/proc/thread-self/ns/net")?).then_some(there))
}

/// A socket of process `pid`'s namespace.
pub fn route_socket_of(pid: i32) -> Result<Socket> {
    netns::in_netns_of(pid, route_socket)
        .map_err(|errno| Error::os("enter the container's network namespace", errno))?
}
