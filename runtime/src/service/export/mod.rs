//! Storage servers: files and disks of this machine that other machines, or this one, use as block
//! devices, each served by a daemon in a sandbox of its own.
//!
//! [`StorageServer::sandbox`] says which sandbox that is; once it runs, [`StorageServer::open`] tells
//! the daemon what to serve ([`tgt`]), and waits until it does.

pub mod tgt;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::config::network::Protocol;
use crate::config::{
    Access, Capability, CapabilitySet, Directory, Limits, Mount, MountKind, Network, Publish,
    Sandbox, Size, USUAL_PATH,
};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::network::Pools;
use crate::resource::gc;
use crate::resource::record::SandboxRecord;
use crate::resource::trace::Trace;
use crate::start::Options;
use crate::sys::openat2;
use crate::volume::chap::ChapAccount;
use crate::volume::device::{Portal, VolumeDevice, is_target};
use crate::volume::host;
use tgt::{TgtDisk, TgtRequest};

/// What is served, and to whom.
#[derive(Debug, Clone)]
pub struct StorageServer {
    /// The name of its sandbox.
    pub name: String,
    /// How it is served, and to which clients.
    pub protocol: StorageProtocol,
    /// Where clients reach it: an address of this host, or one that its sandbox gets. `None`: an
    /// address from the pool of private networks.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// How much memory it may have, page cache included.
    pub memory: Size,
    /// What it serves.
    pub disks: Vec<ExportedDisk>,
}

/// How disks are served.
#[derive(Debug, Clone)]
pub enum StorageProtocol {
    /// As iSCSI targets, by tgtd(8).
    Iscsi {
        /// What the names of the targets begin with, `iqn.2015-06.net.example`; `None`: see
        /// [`usual_prefix`]. The name of the server follows, and that of the disk.
        prefix: Option<String>,
        /// The names of the clients that are admitted; none: all.
        initiators: Vec<String>,
        /// The account that clients must have.
        account: Option<ChapAccount>,
    },
    /// As NBD exports, by nbd-server(1). The protocol has neither names of clients nor accounts.
    Nbd {
        /// The addresses of the clients that are admitted; none: all.
        clients: Vec<IpNetwork>,
    },
}

/// A file or block device, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedDisk {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Where the server finds them.
const DISKS: &str = "/run/disks";
/// Its control socket, to which tgtd(8) adds a number; the number of the first.
const CONTROL: &str = "/run/tgtd";
const CONTROL_SUFFIX: &str = ".0";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same of nbd-server, which looks for large primes first, for TLS: some seconds here, minutes on
/// a slow machine.
const PRIMES: Duration = Duration::from_secs(240);
/// The unit of a disk's size, in bytes.
const SECTOR: u64 = 512;
/// More threads than it has: tgtd has 16 for each disk.
const THREADS: u64 = 32;

/// The directories of the host that a daemon needs: programs and libraries. All others are hidden.
const SEEN: [&str; 13] = [
    "bin", "dev", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp", "usr",
    "nix",
];

/// tgtd does not end when it is asked to: the shell does, and with it the sandbox.
const START_TGT: &str = r#"tgtd "$@" & wait $!"#;
/// nbd-server serves one client alone unless it goes into the background.
const START_NBD: &str = r#"set -e
printf %s "$1" >/run/nbd.conf
printf %s "$2" >/run/clients
nbd-server -C /run/nbd.conf -p /run/nbd.pid
until [ -s /run/nbd.pid ]; do sleep 0.1; done
while kill -0 "$(cat /run/nbd.pid)"; do sleep 1; done"#;

impl ExportedDisk {
    /// `FILE`, whose name without its suffix is that of the disk, or `NAME=FILE`.
    ///
    /// # Errors
    /// It is neither a file nor a block device, or has no name.
    pub fn parse(text: &Path, here: &Path) -> Result<ExportedDisk> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && !name.starts_with(['.', '-'])
                && name.chars().all(known)
        };
        let shown = text.display();
        let given = text.to_str().and_then(|text| text.split_once('='));
        let given = given.filter(|(name, _)| is_name(name));
        let path = here.join(given.map_or(text, |(_, path)| Path::new(path)));
        let failed = |error| Error::io(format!("export {}", path.display()), &error);
        let meta = std::fs::metadata(&path).map_err(failed)?;
        let kind = meta.file_type();
        if kind.is_file() && meta.len() < SECTOR {
            return Err(Error::new(format!("{}: an empty file is no disk", path.display()))
                .hint(format!("truncate -s 1G {}", path.display())));
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::new(format!(
                "{}: neither a file nor a block device",
                path.display()
            )));
        }
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = given.map(|(name, _)| name.to_owned()).or(stem).unwrap_or_default();
        match is_name(&name) {
            // Names of targets have no capitals (RFC 3722).
            true => Ok(ExportedDisk { name: name.to_ascii_lowercase(), path }),
            false => Err(Error::new(format!("{shown}: no name for a disk"))
                .hint("write NAME=FILE, with letters, digits, -, _ and .")),
        }
    }
}

/// The reversed domain of this host. The month is one in which it had that domain (RFC 3720, 3.2.6.3),
/// which only its owner knows: it distinguishes nothing here.
pub fn usual_prefix() -> String {
    prefix_of(&rustix::system::uname().nodename().to_string_lossy())
}

fn prefix_of(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let domain = host.split_once('.').map_or("localdomain", |(_, domain)| domain);
    let labels: Vec<&str> = domain.split('.').rev().collect();
    let prefix = format!("iqn.2015-06.{}", labels.join("."));
    if is_target(&prefix) { prefix } else { "iqn.2015-06.localdomain".to_owned() }
}

impl StorageServer {
    /// What a client calls a disk of the server at `portal`.
    fn device(&self, portal: &Portal, disk: &ExportedDisk) -> VolumeDevice {
        let portal = portal.clone();
        match &self.protocol {
            StorageProtocol::Iscsi { prefix, .. } => {
                let target = self.target(prefix.as_deref(), disk);
                VolumeDevice::Iscsi { portal, target, lun: Some(tgt::LUN) }
            }
            StorageProtocol::Nbd { .. } => VolumeDevice::Nbd { portal, export: disk.name.clone() },
        }
    }

    fn target(&self, prefix: Option<&str>, disk: &ExportedDisk) -> String {
        let prefix = prefix.map_or_else(usual_prefix, ToOwned::to_owned);
        format!("{prefix}:{}.{}", self.name, disk.name)
    }

    fn check(&self) -> Result<()> {
        for (at, disk) in self.disks.iter().enumerate() {
            if let Some(other) = self.disks[..at].iter().find(|other| other.name == disk.name) {
                let (one, two) = (other.path.display(), disk.path.display());
                return Err(Error::new(format!("{one} and {two} are both named {}", disk.name))
                    .hint("write NAME=FILE"));
            }
        }
        let (program, package) = match &self.protocol {
            StorageProtocol::Iscsi { prefix, initiators, account } => {
                for target in self.disks.iter().map(|disk| self.target(prefix.as_deref(), disk)) {
                    if !is_target(&target) {
                        return Err(Error::new(format!("{target} is not a target's name")).hint(
                            "--prefix iqn.2015-06.net.example: a month and a reversed domain",
                        ));
                    }
                }
                if let Some(name) = initiators.iter().find(|name| !is_target(name)) {
                    return Err(Error::new(format!("--initiator {name}: not an initiator's name"))
                        .hint("a client has it in /etc/iscsi/initiatorname.iscsi"));
                }
                account.as_ref().map_or(Ok(()), ChapAccount::demand_length)?;
                ("tgtd", "tgt")
            }
            StorageProtocol::Nbd { clients } => {
                if !clients.is_empty() && self.address.is_some_and(|it| it.is_ipv6()) {
                    return Err(Error::new(
                        "--client: nbd-server admits clients by IPv4 address alone",
                    )
                    .hint("use an IPv4 address, or iSCSI with --initiator or --chap"));
                }
                // A section of its configuration.
                if self.disks.iter().any(|disk| disk.name == "generic") {
                    return Err(
                        Error::new("an NBD export cannot be named generic").hint("write NAME=FILE")
                    );
                }
                ("nbd-server", "nbd-server")
            }
        };
        match USUAL_PATH.split(':').any(|dir| Path::new(dir).join(program).is_file()) {
            true => Ok(()),
            false => {
                Err(Error::new(format!("there is no {program}")).hint(format!("install {package}")))
            }
        }
    }

    fn command(&self) -> Vec<OsString> {
        let first = format!("portal={}", self.first_portal());
        let words = match &self.protocol {
            StorageProtocol::Iscsi { .. } => {
                ["sh", "-c", START_TGT, "tgtd", "-f", "--iscsi", &first].map(String::from).to_vec()
            }
            StorageProtocol::Nbd { clients } => {
                let lines: String = clients.iter().map(|client| format!("{client}\n")).collect();
                let words = ["sh", "-c", START_NBD, "nbd-server", &self.nbd_config(), &lines];
                words.map(String::from).to_vec()
            }
        };
        words.into_iter().map(OsString::from).collect()
    }

    /// nbd-server(5). On a socket of both families it takes clients of IPv4 for others, and admits
    /// those that it should not.
    fn nbd_config(&self) -> String {
        let any = if self.address.is_some_and(|it| it.is_ipv6()) { "::" } else { "0.0.0.0" };
        let mut text = format!("[generic]\nport = {}\nlistenaddr = {any}\n", self.port);
        text += "allowlist = true\n";
        let admits_all =
            matches!(&self.protocol, StorageProtocol::Nbd { clients } if clients.is_empty());
        for disk in &self.disks {
            text += &format!("[{}]\nexportname = {DISKS}/{}\n", disk.name, disk.name);
            text += "flush = true\nfua = true\n";
            if !admits_all {
                text += "authfile = /run/clients\n";
            }
        }
        text
    }

    /// The sandbox of the server, and how it is started.
    ///
    /// # Errors
    /// It cannot be served so.
    pub fn sandbox(&self, root: Option<PathBuf>) -> Result<(Sandbox, Options)> {
        self.check()?;
        let mut sandbox = Sandbox {
            command: self.command(),
            env: vec![
                ("PATH".into(), USUAL_PATH.into()),
                ("TGT_IPC_SOCKET".into(), CONTROL.into()),
            ],
            cwd: Directory::At("/".into()),
            // It is connected to, and connects to nobody.
            network: Network::Internal,
            root_capabilities: CapabilitySet::default(),
            limits: Limits {
                memory: Some(self.memory),
                pids: Some(THREADS + 16 * self.disks.len() as u64),
                ..Limits::default()
            },
            die_with_parent: false,
            ..Sandbox::default()
        };
        let mut pools = Pools::default();
        let options = Options { root, name: Some(self.name.clone()), ..Options::default() };
        self.refuse_taken(&options.journal())?;
        match self.address {
            None => {}
            Some(host) if is_own(host)? => sandbox.publish.push(Publish {
                host: Some(host),
                host_port: self.port,
                port: self.port,
                protocol: Protocol::Tcp,
            }),
            Some(inner) => pools.pool4 = vec![pair_of(inner)?],
        }
        for disk in &self.disks {
            let meta = std::fs::metadata(&disk.path)
                .map_err(|error| Error::io(format!("export {}", disk.path.display()), &error))?;
            if meta.uid() != 0 {
                // tgtd takes requests of root alone, so it is root, here without root's rights.
                sandbox.cap_add = CapabilitySet::of(&[Capability::CAP_DAC_OVERRIDE]);
            }
            sandbox.mounts.push(Mount {
                target: Path::new(DISKS).join(&disk.name),
                kind: MountKind::Bind { source: disk.path.clone(), recursive: false },
                access: Access { read_only: false, nosuid: true, nodev: false, noexec: true },
                optional: false,
                origin: format!("export {}", disk.path.display()),
            });
        }
        sandbox.masked.extend(unneeded()?);
        Ok((sandbox, Options { pools, ..options }))
    }

    /// An address is one sandbox's, and a disk that is in use is served to nobody else.
    fn refuse_taken(&self, journal: &Journal) -> Result<()> {
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        let others = super::list(journal)?.into_iter().filter(|other| other.name != self.name);
        if let Some(other) = others.into_iter().find(|other| other.addresses.contains(&address)) {
            return Err(Error::new(format!("--address {address}: sandbox {} has it", other.name)));
        }
        for path in self.disks.iter().map(|disk| &disk.path) {
            let is_block =
                std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
            if is_block && host::is_busy(path)? {
                return Err(Error::new(format!("{} is in use", path.display()))
                    .hint("it is mounted, or a member of an array or of LVM"));
            }
        }
        Ok(())
    }

    /// The portal that tgtd begins with, which no client reaches.
    fn first_portal(&self) -> SocketAddr {
        let port = if self.port == 3259 { 3258 } else { 3259 };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn requests(&self) -> Vec<TgtRequest> {
        let StorageProtocol::Iscsi { prefix, initiators, account } = &self.protocol else {
            return Vec::new();
        };
        let path = |disk: &ExportedDisk| format!("{DISKS}/{}", disk.name);
        let disks = self.disks.iter();
        let disks: Vec<TgtDisk> = disks
            .map(|disk| TgtDisk { target: self.target(prefix.as_deref(), disk), path: path(disk) })
            .collect();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)).to_string();
        let any6 = format!("[::]:{}", self.port);
        let mut portals = vec![any];
        portals.extend(self.address.filter(IpAddr::is_ipv6).map(|_| any6));
        let first = self.first_portal().to_string();
        tgt::requests(&disks, initiators, account.as_ref(), &portals, &first)
    }

    /// Tells the daemon in the running sandbox what to serve, and waits until it does. Returns what
    /// the disks are called by clients.
    ///
    /// # Errors
    /// It does not start, or cannot serve that.
    pub fn open(&self, journal: &Journal) -> Result<Vec<VolumeDevice>> {
        let record = SandboxRecord::read(journal, &self.name)?;
        let address = match self.address {
            Some(address) => address,
            None => {
                let mut all = record.resources.addresses().into_iter();
                let first = all.find_map(|text| text.parse().ok());
                first.ok_or_else(|| Error::new(format!("{} has no address", self.name)))?
            }
        };
        let end = Instant::now() + PATIENCE;
        for request in self.requests() {
            let root = || self.root(journal);
            ask(&root, &request, end).map_err(|error| error.within(&request.doing))?;
        }
        let portal = Portal { host: address.to_string(), port: self.port };
        let end = match self.protocol {
            StorageProtocol::Iscsi { .. } => end,
            StorageProtocol::Nbd { .. } => Instant::now() + PRIMES,
        };
        loop {
            match self.greets((address, self.port).into()) {
                Ok(()) => break,
                Err(error) if Instant::now() > end => {
                    return Err(Error::io(format!("connect to {portal}"), &error));
                }
                // Unless it has ended it may still be starting.
                Err(_) => drop(self.root(journal)?),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self.disks.iter().map(|disk| self.device(&portal, disk)).collect())
    }

    /// Whether clients are served. nbd-server listens before it is ready for them.
    fn greets(&self, at: SocketAddr) -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        if let StorageProtocol::Nbd { .. } = self.protocol {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut [0; 8])?;
        }
        Ok(())
    }

    /// Ends a detached sandbox whose server does not serve; returns `error` with what that said last.
    pub fn abandon(&self, journal: &Journal, error: Error) -> Error {
        let log = super::log_of(journal, &self.name);
        let said = log.and_then(|dir| crate::resource::log::last(&dir, 1)).unwrap_or_default();
        let error = said.into_iter().fold(error, Error::because);
        let ended = match journal.has(&self.name) {
            Ok(true) => gc::force(journal, &self.name),
            ended => ended.map(drop),
        };
        match ended.and_then(|()| Trace::remove(journal, &self.name)) {
            Ok(_) => error,
            Err(also) => error.hint(format!("garth delete --force {} ends it ({also})", self.name)),
        }
    }

    /// What the sandbox sees as `/`.
    fn root(&self, journal: &Journal) -> Result<OwnedFd> {
        let gone = || {
            Error::new("it has ended")
                .hint(format!("garth ps -a shows how, garth logs {} why", self.name))
        };
        let process = journal.process(&self.name)?.ok_or_else(gone)?;
        let held = process.open()?.ok_or_else(gone)?;
        let path = format!("/proc/{}/root", process.pid);
        let root = std::fs::File::open(&path).map_err(|error| Error::io(&path, &error))?;
        // It was still the same process when its root was opened.
        let [ended] = crate::sys::process::readable([held.as_fd()], Some(Duration::ZERO))
            .map_err(|errno| Error::os("watch the server", errno))?;
        if ended { Err(gone()) } else { Ok(root.into()) }
    }
}

/// Sends one request to tgtd. As long as it is starting it is asked again.
fn ask(root: &dyn Fn() -> Result<OwnedFd>, request: &TgtRequest, end: Instant) -> Result<()> {
    let failed = |error: &std::io::Error| Error::io("ask tgtd", error);
    let mut stream = loop {
        match connect(&root()?) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > end => return Err(failed(&error)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut answer = [0; tgt::ANSWER];
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(&request.bytes()))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.map_err(|error| failed(&error))?;
    match tgt::refusal(answer) {
        None => Ok(()),
        Some(why) => Err(Error::new(why)),
    }
}

/// Connects to tgtd's control socket, below the root of its sandbox: its links lead nowhere else.
fn connect(root: &OwnedFd) -> std::io::Result<UnixStream> {
    let path = format!("{CONTROL}{CONTROL_SUFFIX}");
    let path = std::ffi::CString::new(path)?;
    let socket = openat2::in_root(root.as_fd(), &path, libc::O_PATH | libc::O_NOFOLLOW)?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

/// Whether this host has the address.
fn is_own(address: IpAddr) -> Result<bool> {
    match TcpListener::bind((address, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
        Err(error) => Err(Error::io(format!("--address {address}"), &error)),
    }
}

/// The pair of addresses of a sandbox that has this one: it has the second, the host the first.
fn pair_of(inner: IpAddr) -> Result<Ipv4Network> {
    let refused = |hint: &str| {
        Error::new(format!("--address {inner}: this host does not have it")).hint(hint)
    };
    let IpAddr::V4(inner) = inner else {
        return Err(refused("give it to an interface of this host: ip address add"));
    };
    let odd = u32::from(inner) % 2 == 1;
    let pair = odd.then(|| Ipv4Network::new(Ipv4Addr::from(u32::from(inner) - 1), 31).ok());
    pair.flatten().ok_or_else(|| {
        refused(
            "give it to an interface of this host, or choose an odd one, which the sandbox gets",
        )
    })
}

/// What of the host's root a server does not need.
fn unneeded() -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("list /", &error);
    let mut hidden = Vec::new();
    for entry in std::fs::read_dir("/").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let seen = SEEN.iter().any(|name| entry.file_name() == *name);
        if !seen && !entry.file_type().map_err(failed)?.is_symlink() {
            hidden.push(entry.path());
        }
    }
    Ok(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_after_the_hosts_domain() {
        for (host, prefix) in [
            ("store1.example.net", "iqn.2015-06.net.example"),
            ("Store1.EU.Example.NET", "iqn.2015-06.net.example.eu"),
            ("store1", "iqn.2015-06.localdomain"),
            ("store1.", "iqn.2015-06.localdomain"),
            ("a.b c", "iqn.2015-06.localdomain"),
        ] {
            assert_eq!(prefix_of(host), prefix, "{host}");
        }
    }

    #[test]
    fn a_disk_is_named_after_its_file_or_as_it_is_said() {
        let dir = std::env::temp_dir().join(format!("garth-export-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for file in ["Vol1.img", "a b.img", ".img"] {
            std::fs::write(dir.join(file), [0; SECTOR as usize]).unwrap();
        }
        let named = |text: &str| {
            ExportedDisk::parse(Path::new(text), &dir)
                .map(|disk| disk.name)
                .map_err(|e| e.to_string())
        };
        assert_eq!(named("Vol1.img").as_deref(), Ok("vol1"));
        assert_eq!(named("data=a b.img").as_deref(), Ok("data"));
        assert!(named("a b.img").unwrap_err().contains("no name for a disk; write NAME=FILE"));
        assert!(named(".img").unwrap_err().contains("no name"));
        std::fs::write(dir.join("empty.img"), "").unwrap();
        assert!(named("empty.img").unwrap_err().contains("no disk; truncate -s"));
        assert!(named("none.img").unwrap_err().contains("ENOENT"));
        assert!(named(".").unwrap_err().contains("neither a file nor a block device"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_address_of_a_sandbox_is_the_second_of_a_pair() {
        let pair = |text: &str| pair_of(text.parse().unwrap()).map(|pair| pair.to_string());
        assert_eq!(pair("10.0.1.1").unwrap(), "10.0.1.0/31");
        assert!(pair("10.0.1.2").unwrap_err().to_string().contains("choose an odd one"));
        assert!(pair("fd00::1").unwrap_err().to_string().contains("ip address add"));
    }
}
