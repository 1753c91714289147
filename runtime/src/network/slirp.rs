//! slirp4netns, in place of a pasta that is not allowed to work: Debian 12's AppArmor profile for
//! passt forbids entering a namespace of another process.
//!
//! It stays in the foreground and does not exit with the namespace, so its process records its own
//! pid before the exec. Ports are requested through a socket, and are IPv4 only.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::network::{Protocol, Publish};
use crate::sys::{process, program};
use crate::{Error, Result};

/// How long to wait for an answer: all it has to do is open a device or a port.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket on which it takes requests for ports; its command line names it.
pub fn socket(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("socket")
}

/// Starts `program` for the namespaces of process `pid`; returns when the network is up and the
/// ports are open. Its output and its socket are next to `pid_file`.
pub fn start(program: &Path, pid: i32, publish: &[Publish], pid_file: &Path) -> Result<()> {
    let ports: Vec<(IpAddr, &Publish)> = publish.iter().map(address).collect::<Result<_>>()?;
    let (socket, log) = (socket(pid_file), pid_file.with_extension("log"));
    let create = |path: &Path| {
        File::create(path).map_err(|e| Error::io(format!("write {}", path.display()), &e))
    };
    let (said, known) = (create(&log)?, create(pid_file)?);
    let also = said.try_clone().map_err(|e| Error::io("copy a descriptor", &e))?;
    let (ready, told) = std::io::pipe().map_err(|e| Error::io("create a pipe", &e))?;
    let mut command = program::new(program);
    command.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-ipv6"]);
    command.args(["--ready-fd=0", "--api-socket"]).arg(&socket);
    command.arg(pid.to_string()).arg("eth0").stdin(told).stdout(said).stderr(also);
    program::aside(&mut command, known);
    let failed = |e: std::io::Error| Error::io(format!("start {}", program.display()), &e);
    let child = command.spawn().map_err(failed)?;
    // Closes our copy of the writing end.
    drop(command);
    drop(child);
    let mut word = [0; 1];
    let [up] = process::readable([ready.as_fd()], Some(PATIENCE))
        .map_err(|errno| Error::os("wait for slirp4netns", errno))?;
    if !up || (&ready).read(&mut word).ok() != Some(1) {
        return Err(Error::new(format!("slirp4netns for process {pid}: {}", last_line(&log))));
    }
    ports.into_iter().try_for_each(|(address, publish)| open(&socket, address, publish))
}

/// Where a port is opened.
fn address(publish: &Publish) -> Result<(IpAddr, &Publish)> {
    match publish.host {
        // It knows IPv4 only, so a port for loopback is opened on 127.0.0.1.
        None => Ok((Ipv4Addr::LOCALHOST.into(), publish)),
        Some(address @ IpAddr::V4(_)) => Ok((address, publish)),
        Some(IpAddr::V6(_)) => {
            Err(Error::new(format!("-p {publish}: slirp4netns can publish on IPv4 addresses only")))
        }
    }
}

/// Requests one port.
fn open(socket: &Path, address: IpAddr, publish: &Publish) -> Result<()> {
    let proto = match publish.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let wanted = serde_json::json!({"execute": "add_hostfwd", "arguments": {
        "proto": proto, "host_addr": address.to_string(), "host_port": publish.host_port,
        "guest_port": publish.port,
    }});
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(wanted.to_string().as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer =
        ask().map_err(|e| Error::io(format!("-p {publish}: request it from slirp4netns"), &e))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    match answer.get("return") {
        Some(_) => Ok(()),
        None => {
            let why = answer.pointer("/error/desc").and_then(|text| text.as_str());
            let port = publish.host_port;
            Err(Error::new(format!("-p {publish}: slirp4netns: {}", why.unwrap_or("no answer")))
                .hint(format!("is it in use? check with `ss -lnp 'sport = :{port}'`")))
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    // Printed last in any failure: its warning about IPv6, and that its child has failed.
    let noise = ["WARNING:", "child failed"];
    let says =
        |line: &&str| !line.trim().is_empty() && !noise.iter().any(|begin| line.starts_with(begin));
    let last = text.lines().rev().find(says);
    last.unwrap_or("no reason given").trim().to_owned()
}
