//! `garth export`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnetwork::IpNetwork;

use super::systemd::ExportSystemd;
use super::{Global, caution, print};
use crate::config::Size;
use crate::error::{Error, Result};
use crate::service;
use crate::service::export::{ExportedDisk, StorageProtocol, StorageServer};
use crate::start;
use crate::sys::process::Signals;
use crate::volume::chap::ChapAccount;
use crate::volume::device::here;

/// What `garth export` can make of what there is.
#[derive(Debug, Subcommand)]
pub enum Export {
    Systemd(ExportSystemd),
    Iscsi(ExportIscsi),
    Nbd(ExportNbd),
}

/// What both have.
#[derive(Debug, Args)]
struct Serving {
    /// Name of the sandbox; with those of the disks, also of iSCSI targets
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where clients reach it: an address of this host, for other machines, or any other odd one,
    /// which the sandbox gets, for this host alone [default: a free one]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    address: Option<String>,
    /// Memory limit, page cache included
    #[arg(long, value_name = "SIZE", default_value = "256m")]
    memory: String,
    /// Run it in the background; garth kill NAME ends it
    #[arg(short, long)]
    detach: bool,
    /// With -d: append its output to this file
    #[arg(long, value_name = "FILE", requires = "detach")]
    log: Option<PathBuf>,
    /// A file or block device, or NAME=FILE
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Serve files and disks of this machine as iSCSI targets, from a sandbox
///
/// The server (tgtd, of the package tgt) sees nothing else of this machine, and has no privileges. What
/// is printed are the devices, as garth volume create takes them.
#[derive(Debug, Args)]
pub struct ExportIscsi {
    #[command(flatten)]
    serving: Serving,
    /// What the targets' names begin with [default: iqn.2015-06. and this host's domain, reversed]
    #[arg(long, value_name = "IQN")]
    prefix: Option<String>,
    /// Admit only the client of this name [default: all]
    #[arg(long, value_name = "IQN")]
    initiator: Vec<String>,
    /// Admit only clients that have the account in this file: USER PASSWORD, in one line
    #[arg(long, value_name = "FILE")]
    chap: Option<PathBuf>,
}

/// Serve files and disks of this machine as NBD exports, from a sandbox
///
/// As garth export iscsi, by nbd-server. NBD knows clients by their addresses alone, and has no
/// accounts.
#[derive(Debug, Args)]
pub struct ExportNbd {
    #[command(flatten)]
    serving: Serving,
    /// Admit only clients with this address, or one of this network [default: all]
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    client: Vec<String>,
}

impl Export {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        match self {
            Export::Systemd(verb) => verb.run(),
            Export::Iscsi(verb) => {
                let protocol = StorageProtocol::Iscsi {
                    prefix: verb.prefix,
                    initiators: verb.initiator,
                    account: verb.chap.as_deref().map(ChapAccount::read).transpose()?,
                };
                verb.serving.run(protocol, 3260, global)
            }
            Export::Nbd(verb) => {
                let clients = verb.client.iter().map(|text| client(text));
                let protocol = StorageProtocol::Nbd { clients: clients.collect::<Result<_>>()? };
                verb.serving.run(protocol, 10809, global)
            }
        }
    }
}

impl Serving {
    fn server(self, protocol: StorageProtocol, port: u16) -> Result<StorageServer> {
        let here = here()?;
        let memory = self.memory.parse::<Size>().map_err(|error| error.within("--memory"))?;
        let address = self.address.as_deref().map(address).transpose()?;
        let disks = self.files.iter().map(|file| ExportedDisk::parse(file, &here));
        Ok(StorageServer {
            name: self.name,
            protocol,
            address: address.map(|(address, _)| address),
            port: address.and_then(|(_, port)| port).unwrap_or(port),
            memory,
            disks: disks.collect::<Result<_>>()?,
        })
    }

    fn run(self, protocol: StorageProtocol, port: u16, global: &Global) -> Result<i32> {
        let (detach, log) = (self.detach, self.log.clone());
        let server = self.server(protocol, port)?;
        let (mut sandbox, options) = server.sandbox(global.root.clone())?;
        sandbox.systemd_cgroup = global.systemd_cgroup;
        let journal = global.journal();
        let show = |server: &StorageServer| -> Result<()> {
            let devices = server.open(&journal)?;
            devices.iter().for_each(|device| print(&format!("{device}\n")));
            Ok(())
        };
        if detach {
            let background = sandbox.detach(&options, log.as_deref())?;
            background.spared.iter().for_each(|loss| caution(loss));
            return match show(&server) {
                Ok(()) => Ok(0),
                Err(error) => Err(server.abandon(&journal, error)),
            };
        }
        sandbox.die_with_parent = true;
        start::protect(&sandbox)?;
        let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
        let child = sandbox.spawn(&options)?;
        child.process().spared().iter().for_each(|loss| caution(loss));
        if let Err(error) = show(&server) {
            child.process().kill();
            child.wait()?;
            return Err(error);
        }
        service::supervise(child, None, &signals, &super::warn).map(service::end_as)
    }
}

fn client(text: &str) -> Result<IpNetwork> {
    text.parse().map_err(|_| {
        Error::new(format!("--client {text}: neither an address nor a network"))
            .hint("e.g. 10.0.1.7 or 10.0.1.0/24")
    })
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn address(text: &str) -> Result<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, None));
    }
    match text.parse::<SocketAddr>() {
        Ok(both) if both.port() != 0 => Ok((both.ip(), Some(both.port()))),
        _ => Err(Error::new(format!("--address {text}: not an address"))
            .hint("write ADDRESS or ADDRESS:PORT, e.g. 10.0.1.1")),
    }
}
