//! The network of a sandbox without root: pasta (passt.top), a process that turns the packets of a
//! tap device in the sandbox's namespace into sockets of ordinary rights on the host.
//!
//! It is used when it is installed. It sees the sandbox's user and network namespaces, and nothing
//! of the sandbox sees it. It does not end with them in all versions, so its pid is recorded.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::host::resource::{Owner, Resource};
use crate::spec::network::{Protocol, Publish};
use crate::sys::file::read_kernel;
use crate::sys::{Errno, pidfd};
use crate::{Error, Result};

/// A pasta process, known by the file that it writes its process id to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pasta {
    /// The program.
    pub program: PathBuf,
    /// Where it writes its process id.
    pub pid_file: PathBuf,
    /// The published ports.
    pub publish: Vec<Publish>,
}

impl Resource for Pasta {
    fn connect(&self, _: &Owner, pid: i32) -> Result<()> {
        start(&self.program, pid, &self.publish, &self.pid_file).map(drop)
    }

    fn release(&self, _: &Owner) -> Result<()> {
        stop(&self.pid_file)
    }

    fn inspect(&self, _: &Owner) -> Result<Vec<String>> {
        let running = running(&self.pid_file);
        Ok(running.map(|(pid, _)| format!("pasta, process {pid}")).into_iter().collect())
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        vec![format!("start {}", self.program.display())]
    }
}

/// Where `pasta` is in `path` (the value of PATH).
pub fn find(path: &str) -> Option<PathBuf> {
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    directories.map(|directory| Path::new(directory).join("pasta")).find(|file| file.is_file())
}

/// Starts `program` for the namespaces of `pid`, a child that waits meanwhile; returns when the
/// network is up, with the pid of the pasta that stays, to be killed when the sandbox has ended.
/// pasta writes that pid to `pid_file` itself, so a journal that knows the file loses nothing.
pub fn start(program: &Path, pid: i32, publish: &[Publish], pid_file: &Path) -> Result<i32> {
    let output = Command::new(program)
        .args(arguments(pid, publish, pid_file))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| Error::io(format!("start {}", program.display()), &error))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        // Its complaints about a missing system logger are not the reason.
        let mut lines = words.lines().filter(|l| !l.contains("to syslog") && !l.trim().is_empty());
        let why = lines.next_back().unwrap_or("it gave no reason");
        let error = Error::new(format!("pasta for process {pid}: {why}"));
        return Err(match why.contains("tun") {
            true => error.hint("its user must be able to open /dev/net/tun"),
            false => error,
        });
    }
    let pid = fs::read_to_string(pid_file)
        .map_err(|error| Error::io(format!("read {}", pid_file.display()), &error))?;
    let pid = pid.trim().parse();
    pid.map_err(|_| Error::new(format!("{}: no pid in it", pid_file.display())))
}

/// The arguments, such that passt of Debian 12 (2023_03_09) and later understands them.
pub fn arguments(pid: i32, publish: &[Publish], pid_file: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    // Ports of the host's loopback are not the sandbox's, by no name: pasta would map those that
    // are bound (-T auto, -U auto), and the gateway's address.
    add(&["--quiet", "--config-net", "--ns-ifname", "eth0"]);
    add(&["--no-map-gw", "-T", "none", "-U", "none"]);
    for (option, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        let mut none = true;
        for publish in publish.iter().filter(|publish| publish.protocol == protocol) {
            let Publish { host, host_port, port, .. } = publish;
            // This passt binds a number once, so what is for loopback is for that of IPv4.
            let address = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
            add(&[option, &format!("{address}/{host_port}:{port}")]);
            none = false;
        }
        if none {
            add(&[option, "none"]);
        }
    }
    let (pid_file, pid) = (pid_file.display().to_string(), pid.to_string());
    add(&["--pid", &pid_file, &pid]);
    arguments
}

/// Ends the pasta that wrote `pid_file`; one that never started or has ended is fine.
pub fn stop(pid_file: &Path) -> Result<()> {
    let Some((pid, pidfd)) = running(pid_file) else { return Ok(()) };
    match pidfd::send_signal(pidfd.as_fd(), libc::SIGTERM) {
        Ok(()) | Err(Errno(libc::ESRCH)) => Ok(()),
        Err(errno) => Err(Error::os(format!("end pasta, process {pid}"), errno)),
    }
}

/// The pasta that wrote `pid_file`, if it runs.
fn running(pid_file: &Path) -> Option<(i32, OwnedFd)> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let pidfd = pidfd::open(pid).ok()?;
    // The number may be another's by now: what the descriptor holds is looked at.
    let name = read_kernel(format!("/proc/{pid}/comm")).unwrap_or_default();
    (name.starts_with("pasta") || name.starts_with("passt")).then_some((pid, pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_published_passes() {
        let publish =
            [Publish::parse("8080:80").unwrap(), Publish::parse("192.0.2.1:53:5353/udp").unwrap()]
                .concat();
        assert_eq!(
            arguments(42, &publish, Path::new("/run/p")).join(" "),
            "--quiet --config-net --ns-ifname eth0 --no-map-gw -T none -U none \
             -t 127.0.0.1/8080:80 -u 192.0.2.1/53:5353 --pid /run/p 42"
        );
        assert_eq!(
            arguments(42, &[], Path::new("/run/p")).join(" "),
            "--quiet --config-net --ns-ifname eth0 --no-map-gw -T none -U none \
             -t none -u none --pid /run/p 42"
        );
    }

    #[test]
    fn pasta_is_found_in_absolute_directories_only() {
        assert_eq!(find(".:/nonexistent:"), None);
    }
}
