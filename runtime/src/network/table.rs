//! Which process may change the firewall's table, and when.
//!
//! The table is owned (nftables' flags owner, Linux 5.12, and persist, 6.9): the kernel lets only
//! one netlink socket change it, and a flush of the whole ruleset skips it. One process in each
//! network namespace keeps that socket and lends it: the holder (`sys/init/main.rs`), a program of
//! one memory page. It listens at an abstract address, which belongs to the network namespace just
//! as the table does, and which is named after the owner's number as the kernel reports it: so
//! there is no record that could be wrong, sandboxes of other state directories or pid namespaces
//! find it too, and no process needs the right to inspect others. It lends to one process at a
//! time; the connection is the turn.
//!
//! Each process that runs a sandbox keeps the socket open as well. So the table stays, and stays
//! owned, when the holder is killed (with the unit in which it was started, for instance): the next
//! process that wants a turn finds the socket in one of those processes, and starts another holder.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::elements;
use super::firewall::{self, is_missing};
use super::refusal::refused;
use crate::error::{Error, Result};
use crate::sys::file::read_kernel;
use crate::sys::netlink::{Family, Socket};
use crate::sys::{Errno, again, channel, init, pidfd, process, sockopt};
use crate::wire::nft;

/// As defined in `sys/init/main.rs`: the messages of a borrower, and those to it.
const RELEASED: u8 = b'r';
const LAST: u8 = b'x';
const TENDED: u8 = b't';
/// How long to wait for a turn. The holder gives each borrower at most five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The table, while no other process changes it.
#[derive(Debug)]
pub struct Table {
    /// The socket that owns it.
    pub socket: Socket,
    turn: Turn,
    /// It was just created, or had no owner: elements that belong in it may be missing.
    pub new: bool,
}

#[derive(Debug)]
enum Turn {
    /// Lent by the holder until this is closed; `tended`: it runs a program when the last sandbox
    /// is gone.
    Lent { stream: UnixStream, tended: bool },
    /// There is no holder yet: others wait until this is served.
    Own(UnixListener),
}

impl Table {
    /// Waits for a turn; `None`: there is no table.
    pub fn find() -> Result<Option<Table>> {
        Table::open(false)
    }

    /// Waits for a turn; creates the table if there is none.
    pub fn make() -> Result<Table> {
        match Table::open(true)? {
            Some(table) => Ok(table),
            None => Err(Error::new("nftables table inet garth keeps appearing and disappearing")),
        }
    }

    fn open(make: bool) -> Result<Option<Table>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut own = firewall::socket()?;
            let found = nft::find_table(&mut own).map_err(refused)?;
            if let Some(nft::NftTable { owner: None, persists: false }) = found {
                // From a version of Garth before tables had owners, or created by hand.
                nft::delete_table(&mut own).map_err(refused)?;
            }
            own.abandon();
            let table = match found {
                None if !make => return Ok(None),
                None => create()?,
                Some(nft::NftTable { owner: None, persists: true }) => adopt()?,
                Some(nft::NftTable { owner: None, .. }) => None,
                Some(nft::NftTable { owner: Some(owner), .. }) => match borrow(owner)? {
                    None => recover(owner)?,
                    table => table,
                },
            };
            if table.is_some() {
                return Ok(table);
            }
            // Another process was faster, or the holder has just exited.
            if Instant::now() > deadline {
                return Err(Error::new("wait for access to nftables table inet garth: timed out")
                    .hint("`nft list table inet garth` shows its owner"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A descriptor that keeps the table owned as long as it is open.
    pub fn keep(&self) -> Result<OwnedFd> {
        self.socket.descriptor().map_err(|errno| Error::os("keep the firewall's socket", errno))
    }

    /// Ends the turn. Starts a holder if there is none.
    pub fn close(self) -> Result<()> {
        match self.turn {
            Turn::Lent { .. } => Ok(()),
            Turn::Own(listener) => hold(&self.socket, &listener),
        }
    }

    /// Ends the turn of a process that has removed elements: if they were the last, the table goes
    /// too, now or after a while in which no more were added.
    pub fn close_released(mut self) -> Result<()> {
        if let Turn::Lent { stream, tended: true } = &self.turn {
            return say(stream, RELEASED);
        }
        match elements::is_empty(&mut self.socket).map_err(refused)? {
            true => self.dissolve(),
            false => self.close(),
        }
    }

    /// Removes the table, and with it the holder.
    pub fn dissolve(mut self) -> Result<()> {
        for switch in elements::opened(&mut self.socket).map_err(refused)? {
            switch.shut()?;
        }
        // Announce it first: if we are killed after that, no holder is left without a table.
        if let Turn::Lent { stream, .. } = &self.turn {
            say(stream, LAST)?;
        }
        nft::delete_table(&mut self.socket).map_err(refused)?;
        self.socket.abandon();
        Ok(())
    }
}

fn say(mut stream: &UnixStream, word: u8) -> Result<()> {
    use std::io::Write;
    stream.write_all(&[word]).map_err(|e| Error::io("send to the holder of the firewall", &e))
}

fn address(owner: u32) -> Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("garth-table-{owner:08x}"))
        .map_err(|e| Error::io("name the holder of the firewall", &e))
}

/// A socket of ours with a number, and the address at which it will be lent, before anything exists
/// that could lead others there.
fn number() -> Result<(Socket, UnixListener)> {
    let socket = firewall::socket()?;
    let failed = |errno| Error::os("assign a port id to the firewall's socket", errno);
    // Above all process ids, which others use for their sockets.
    const FIRST: u32 = 0x4000_0000;
    let mut owner = FIRST | (random() as u32 & (FIRST - 1));
    loop {
        match UnixListener::bind_addr(&address(owner)?) {
            Ok(listener) => match socket.bind(owner) {
                Ok(()) => return Ok((socket, listener)),
                Err(errno) if errno.0 == libc::EADDRINUSE => {}
                Err(errno) => return Err(failed(errno)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(error.into())),
        }
        owner = FIRST | (owner + 1) & (FIRST - 1);
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // RandomState is seeded from getrandom(2).
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Creates the table; `None`: another process was faster.
fn create() -> Result<Option<Table>> {
    let (mut socket, listener) = number()?;
    match firewall::create(&mut socket) {
        Ok(()) => Ok(Some(Table { socket, turn: Turn::Own(listener), new: true })),
        // EPERM: it exists and another socket owns it.
        Err(refusal) if matches!(refusal.errno.0, libc::EEXIST | libc::EPERM) => Ok(None),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Becomes the owner of a table that has lost its own; `None`: another process was faster.
fn adopt() -> Result<Option<Table>> {
    let (mut socket, listener) = number()?;
    match nft::own_table(&mut socket) {
        Ok(()) => Ok(Some(Table { socket, turn: Turn::Own(listener), new: true })),
        Err(refusal) if is_missing(&refusal) || refusal.errno.0 == libc::EPERM => Ok(None),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Asks the holder; `None`: there is none, or it has just exited.
fn borrow(owner: u32) -> Result<Option<Table>> {
    let failed = |e: &std::io::Error| Error::io("ask the holder of the firewall", e);
    let stream = match UnixStream::connect_addr(&address(owner)?) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    // Any process may listen on any abstract address: the holder must have our uid.
    let (uid, _) = process::effective_ids();
    if sockopt::peer_uid(stream.as_fd()) != Ok(uid) {
        return Ok(None);
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
    let (fd, word) = match channel::take_with_word(stream.as_fd()) {
        Ok(Some(taken)) => taken,
        Ok(None) | Err(Errno(libc::ECONNRESET)) => return Ok(None),
        Err(errno) => return Err(Error::os("wait for the holder of the firewall", errno)),
    };
    let turn = Turn::Lent { stream, tended: word == TENDED };
    let socket = Socket::shared(fd, Family::Netfilter, owner);
    Ok(socket.map(|socket| Table { socket, turn, new: false }))
}

/// Finds the socket in another process that has it open, as processes that run sandboxes do;
/// `None`: the table has lost its owner, or another process was faster.
fn recover(owner: u32) -> Result<Option<Table>> {
    let listener = match UnixListener::bind_addr(&address(owner)?) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Ok(None),
        Err(error) => return Err(Error::io("listen as the holder of the firewall", &error)),
    };
    let Some(inode) = inode(owner)? else { return Ok(None) };
    let wanted = format!("socket:[{inode}]");
    let mut refused = None;
    for pid in processes() {
        let fds = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(fds) => fds,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    refused = Some(pid);
                }
                continue;
            }
        };
        let has =
            |fd: &fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|l| l.as_os_str() == &*wanted);
        let Some(fd) = fds.flatten().find(has) else { continue };
        let number = fd.file_name().to_str().and_then(|name| name.parse().ok());
        let copy = pidfd::open(pid)
            .and_then(|process| pidfd::get_fd(process.as_fd(), number.ok_or(Errno(libc::EBADF))?));
        match copy {
            Ok(fd) => {
                if let Some(socket) = Socket::shared(fd, Family::Netfilter, owner) {
                    return Ok(Some(Table { socket, turn: Turn::Own(listener), new: true }));
                }
            }
            Err(errno) if errno.0 == libc::EPERM => refused = Some(pid),
            Err(_) => {}
        }
    }
    match refused {
        // It may have been closed in the meantime.
        Some(_) if self::inode(owner)? == Some(inode) => {
            Err(Error::new("nftables table inet garth is still owned, but its holder was killed").hint(
                "without CAP_SYS_PTRACE it cannot be replaced: run `garth gc` as root with all capabilities",
            ))
        }
        _ => Ok(None),
    }
}

/// The inode of the netlink socket with this number (/proc/net/netlink: the protocol is the second
/// word, the number the third, the inode the last).
fn inode(owner: u32) -> Result<Option<u64>> {
    let path = "/proc/thread-self/net/netlink";
    let text = read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let protocol = libc::NETLINK_NETFILTER.to_string();
    let line = text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = words.get(1) == Some(&&*protocol) && words.get(2)?.parse() == Ok(owner);
        ours.then(|| words.last()?.parse().ok()).flatten()
    });
    Ok(line)
}

/// All processes, this one first.
fn processes() -> impl Iterator<Item = i32> {
    let own = std::process::id() as i32;
    std::iter::once(own).chain(process::all().filter(move |pid| *pid != own))
}

fn hold(socket: &Socket, listener: &UnixListener) -> Result<()> {
    let start = || -> std::result::Result<(), Errno> {
        let news = Socket::open(Family::Route)?;
        // linux/rtnetlink.h: RTNLGRP_IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE.
        news.join(&[5, 7, 9, 11])?;
        let program = match again::is_possible(crate::at_program_start) {
            true => Some(OwnedFd::from(File::open("/proc/self/exe")?)),
            false => None,
        };
        let program = program.as_ref().map(AsFd::as_fd);
        const ARGS: [&CStr; 2] = [again::NAME, c"tend"];
        init::hold(listener.as_fd(), socket.as_fd(), news.as_fd(), program, ARGS)
    };
    start().map_err(|errno| Error::os("start the holder of the firewall", errno))
}
