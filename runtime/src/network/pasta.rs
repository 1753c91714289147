//! The network of a sandbox without root: pasta (passt.top), a process that turns the packets of a
//! tap device in the sandbox's namespace into unprivileged sockets on the host; or, where pasta
//! does not work, slirp4netns, which does the same.
//!
//! It sees the sandbox's user and network namespaces, and nothing in the sandbox sees it. Not every
//! version exits with them, so its pid is recorded.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slirp;
use crate::config::network::{Protocol, Publish};
use crate::journal::resource::{Owner, Resource};
use crate::sys::file::{read_kernel, read_kernel_bytes};
use crate::sys::{self, Errno, pidfd, process};
use crate::{Error, Result};

/// How long a process that was told to exit may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process that carries the packets, known by the file that holds its process id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pasta {
    /// The program, if it is installed.
    pub pasta: Option<PathBuf>,
    /// `slirp4netns`, for where pasta does not work.
    #[serde(default)]
    pub slirp: Option<PathBuf>,
    /// The file with its process id.
    pub pid_file: PathBuf,
    /// The published ports.
    pub publish: Vec<Publish>,
}

impl Pasta {
    /// Which of the two is installed, according to PATH; neither is tried.
    ///
    /// # Errors
    /// Neither is installed.
    pub fn find(pid_file: PathBuf, publish: Vec<Publish>) -> Result<Pasta> {
        let path = std::env::var("PATH").unwrap_or_default();
        let (pasta, slirp) = (find(&path, "pasta"), find(&path, "slirp4netns"));
        if pasta.is_none() && slirp.is_none() {
            return Err(Error::new(MISSING).hint(INSTALL));
        }
        Ok(Pasta { pasta, slirp, pid_file, publish })
    }

    /// Starts the one that works for the namespaces of process `pid`, which waits meanwhile;
    /// returns which.
    ///
    /// # Errors
    /// Neither works.
    pub fn begin(&self, pid: i32) -> Result<&'static str> {
        let by_pasta = self
            .pasta
            .as_deref()
            .map(|program| start(program, pid, &self.publish, &self.pid_file).map(|()| "pasta"));
        let by_slirp = || {
            let program = self.slirp.as_deref()?;
            let started = slirp::start(program, pid, &self.publish, &self.pid_file);
            if started.is_err() {
                let _ = stop(&self.pid_file);
            }
            Some(started.map(|()| "slirp4netns"))
        };
        match by_pasta {
            Some(Ok(name)) => Ok(name),
            // slirp4netns would not get the port either.
            Some(Err(Failed::Port(error))) => Err(error),
            Some(Err(Failed::Start(error))) => match by_slirp() {
                Some(Ok(name)) => Ok(name),
                Some(Err(other)) => Err(other.within(error)),
                None => Err(error),
            },
            None => by_slirp().unwrap_or_else(|| Err(Error::new(MISSING).hint(INSTALL))),
        }
    }

    /// Kills it; one that never started or has already exited is not an error.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn end(&self) -> Result<()> {
        stop(&self.pid_file)
    }
}

const MISSING: &str =
    "a private network without root needs pasta or slirp4netns, and neither is installed";
const INSTALL: &str = "install the package passt, or use --network none";

impl Resource for Pasta {
    fn connect(&self, _: &Owner, pid: i32) -> Result<()> {
        self.begin(pid).map(drop)
    }

    fn release(&self, _: &Owner) -> Result<()> {
        self.end()
    }

    fn inspect(&self, _: &Owner) -> Result<Vec<String>> {
        let running = running(&self.pid_file)?;
        Ok(running.map(|(pid, _, name)| format!("{name}, process {pid}")).into_iter().collect())
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        let programs: Vec<String> = [&self.pasta, &self.slirp]
            .into_iter()
            .flatten()
            .map(|p| p.display().to_string())
            .collect();
        vec![format!("start {}", programs.join(", or if that fails "))]
    }
}

fn find(path: &str, name: &str) -> Option<PathBuf> {
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    directories.map(|directory| Path::new(directory).join(name)).find(|file| file.is_file())
}

/// Why pasta does not run.
#[derive(Debug)]
enum Failed {
    /// A port is not available.
    Port(Error),
    /// Anything else.
    Start(Error),
}

/// Starts `program` for the namespaces of `pid`, a child that waits meanwhile; returns when the
/// network is up. The pasta process that stays in the background, and is killed when the sandbox
/// has ended, writes its pid to `pid_file` itself, so a journal that knows the file never loses it.
fn start(
    program: &Path,
    pid: i32,
    publish: &[Publish],
    pid_file: &Path,
) -> std::result::Result<(), Failed> {
    let mut said = run(program, arguments(pid, &each(publish), pid_file))?;
    if said.as_ref().is_err_and(|why| why.starts_with(ONCE)) {
        let once = once(publish).map_err(Failed::Port)?;
        said = run(program, arguments(pid, &once, pid_file))?;
    }
    let why = match said {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    if why.contains(" port") {
        return Err(Failed::Port(
            Error::new(format!("pasta: {why}")).hint("is it in use? check with `ss -lnp`"),
        ));
    }
    let error = Error::new(format!("pasta for process {pid}: {why}"));
    let denied = why.contains("ermission denied") || why.contains("not permitted");
    Err(Failed::Start(match (why.contains("tun"), denied && Path::new(PROFILE).exists()) {
        (true, _) => error.hint("this user must be able to open /dev/net/tun"),
        (_, true) => error.hint(format!(
            "the AppArmor profile {PROFILE} forbids it from entering a sandbox: install slirp4netns, which is then used instead"
        )),
        _ => error,
    }))
}

/// Debian's profile, which only knows pasta by a command of its own.
const PROFILE: &str = "/etc/apparmor.d/usr.bin.passt";

/// The error message of a pasta that binds a port number on one address, or on all.
const ONCE: &str = "Overlapping port specifier";

/// Runs it; the inner error is its output.
fn run(
    program: &Path,
    arguments: Vec<String>,
) -> std::result::Result<std::result::Result<(), String>, Failed> {
    let mut command = sys::program::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|error| {
        Failed::Start(Error::io(format!("start {}", program.display()), &error))
    })?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let words = String::from_utf8_lossy(&output.stderr);
    // Complaints about a missing system logger are not the reason.
    let mut lines = words.lines().filter(|l| !l.contains("to syslog") && !l.trim().is_empty());
    Ok(Err(lines.next_back().unwrap_or("no reason given").trim().to_owned()))
}

/// A port for pasta to open: the address, `None` for all; the host's port, the sandbox's port.
type Port = (Protocol, Option<IpAddr>, u16, u16);

/// Each port on each of its addresses.
fn each(publish: &[Publish]) -> Vec<Port> {
    let ports = publish.iter().flat_map(|publish| {
        let Publish { host_port, port, protocol, .. } = *publish;
        publish.addresses().map(move |address| (protocol, Some(address), host_port, port))
    });
    ports.collect()
}

/// For a passt like that of Debian 12 (2023_03_09), which binds a port number once: both wildcard
/// addresses together become `None`, and a port for loopback gets the IPv4 one only.
fn once(publish: &[Publish]) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::new();
    for one in publish {
        let Publish { host, host_port, port, protocol } = *one;
        let address = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        match ports.iter_mut().find(|known| (known.0, known.2) == (protocol, host_port)) {
            None => ports.push((protocol, Some(address), host_port, port)),
            Some((_, known @ Some(_), _, to))
                if *to == port
                    && known.is_some_and(|known| known.is_unspecified() && known != address)
                    && address.is_unspecified() =>
            {
                *known = None;
            }
            Some(_) => {
                return Err(Error::new(format!(
                    "-p {one}: this pasta can open port {host_port} only on one address or on all"
                ))
                .hint(format!(
                    "leave one out, or use -p 0.0.0.0:{host_port}:{port} -p [::]:{host_port}:{port}"
                )));
            }
        }
    }
    Ok(ports)
}

/// The arguments, understood by passt of Debian 12 (2023_03_09) and later.
fn arguments(pid: i32, ports: &[Port], pid_file: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    // The sandbox must not reach ports on the host's loopback under any address: by default pasta
    // maps the bound ones (-T auto, -U auto), and the gateway's address.
    add(&["--quiet", "--config-net", "--ns-ifname", "eth0"]);
    add(&["--no-map-gw", "-T", "none", "-U", "none"]);
    for (option, wanted) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        let mut none = true;
        for (_, address, host_port, port) in ports.iter().filter(|port| port.0 == wanted) {
            let address = address.map_or(String::new(), |address| format!("{address}/"));
            add(&[option, &format!("{address}{host_port}:{port}")]);
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

/// Kills the process that wrote `pid_file`, so that its ports are free again when this returns; one
/// that never started or has already exited is not an error.
pub fn stop(pid_file: &Path) -> Result<()> {
    // While it goes into the background there are two processes.
    while let Some((pid, pidfd, name)) = running(pid_file)? {
        match pidfd::send_signal(pidfd.as_fd(), libc::SIGTERM) {
            Ok(()) | Err(Errno(libc::ESRCH)) => {}
            Err(errno) => return Err(Error::os(format!("end {name}, process {pid}"), errno)),
        }
        let has_ended = || matches!(process::readable([pidfd.as_fd()], Some(PATIENCE)), Ok([true]));
        if !has_ended() {
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
            if !has_ended() {
                return Err(Error::new(format!("{name}, process {pid}, cannot be killed")));
            }
        }
    }
    Ok(())
}

/// The running process that wrote `pid_file`, or is about to; and its name.
fn running(pid_file: &Path) -> Result<Option<(i32, OwnedFd, String)>> {
    let text = match fs::read_to_string(pid_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.map_err(|e| Error::io(format!("read {}", pid_file.display()), &e))?,
    };
    if let Ok(pid) = text.trim().parse() {
        return told_of(pid_file, pid);
    }
    // pasta opens its ports first, and the process that started it may have been killed by then. A
    // pasta that has not yet opened the file exits if it cannot.
    let own = format!("Uid:\t{}\t", process::effective_ids().0);
    for pid in process::all() {
        let status = read_kernel(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with(&own))
            && let Some(found) = told_of(pid_file, pid)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Process `pid`, if its command line names `pid_file`, or the socket next to it. The pid may have
/// been reused, even by another pasta, so this checks the process that the descriptor holds.
fn told_of(pid_file: &Path, pid: i32) -> Result<Option<(i32, OwnedFd, String)>> {
    let pidfd = match pidfd::open(pid) {
        Err(Errno(libc::ESRCH | libc::EINVAL)) => return Ok(None),
        pidfd => pidfd.map_err(|errno| Error::os(format!("open process {pid}"), errno))?,
    };
    let name = read_kernel(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let words = read_kernel_bytes(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let told = match name.as_str() {
        "slirp4netns" => slirp::socket(pid_file),
        _ => pid_file.to_owned(),
    };
    let ours = words.split(|byte| *byte == 0).any(|word| word == told.as_os_str().as_bytes());
    Ok(ours.then_some((pid, pidfd, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(texts: &[&str]) -> Vec<Publish> {
        texts.iter().flat_map(|text| Publish::parse(text).unwrap()).collect()
    }

    fn words(ports: &[Port]) -> String {
        arguments(42, ports, Path::new("/run/p")).join(" ")
    }

    #[test]
    fn one_that_has_not_written_its_file_yet_is_ended_too() {
        let file = std::env::temp_dir().join(format!("garth-pasta-{}", std::process::id()));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo begins; read line", "sh"]).arg(&file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut word = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        stop(&file).unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        stop(&file).unwrap();
    }

    #[test]
    fn only_what_is_published_passes() {
        let publish = publish(&["8080:80", "192.0.2.1:53:5353/udp"]);
        let always = "--quiet --config-net --ns-ifname eth0 --no-map-gw -T none -U none";
        assert_eq!(
            words(&each(&publish)),
            format!(
                "{always} -t 127.0.0.1/8080:80 -t ::1/8080:80 -u 192.0.2.1/53:5353 --pid /run/p 42"
            )
        );
        assert_eq!(words(&[]), format!("{always} -t none -u none --pid /run/p 42"));
    }

    #[test]
    fn a_pasta_that_binds_a_number_once_binds_it_for_all_or_for_one_address() {
        let ports = |texts: &[&str]| once(&publish(texts)).map(|ports| words(&ports));
        let all = ports(&["0.0.0.0:8080:80", "[::]:8080:80"]).unwrap();
        assert!(all.contains(" -t 8080:80 "), "{all}");
        let loopback = ports(&["8080:80"]).unwrap();
        assert!(loopback.contains(" -t 127.0.0.1/8080:80 "), "{loopback}");
        for two in [["127.0.0.1:1:80", "[::1]:1:80"], ["0.0.0.0:1:80", "[::]:1:81"]] {
            let error = ports(&two).unwrap_err().to_string();
            assert!(error.contains("can open port 1 only on one address or on all"), "{error}");
        }
    }

    #[test]
    fn programs_are_found_in_absolute_directories_only() {
        assert_eq!(find(".:/nonexistent:", "pasta"), None);
    }
}
