//! What connects to a server, and waits for what that brings.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use super::device::{Portal, VolumeDevice};
use super::session::IscsiSession;
use super::tools::execute;
use super::{host, nbd};
use crate::error::{Error, Result};
use crate::sys::run;

/// Connects an NBD export.
///
/// # Errors
/// It is none, or cannot be connected.
pub fn connect_nbd(device: &VolumeDevice) -> Result<()> {
    let VolumeDevice::Nbd { portal, export } = device else {
        return Err(Error::new(format!("{device} is not an NBD export")));
    };
    let sys = Path::new(host::SYS);
    if !sys.join("module/nbd").exists() {
        // If that fails, the next says why.
        let _ = execute(&["modprobe", "nbd"].map(String::from));
    }
    nbd::connect(sys, portal, export, &device.to_string())
}

/// Waits for the block devices of devices, each with the seconds that it may take, and for the sessions they
/// have.
///
/// # Errors
/// One is not there in time.
pub fn wait(devices: &[(&VolumeDevice, u32)]) -> Result<()> {
    let begun = Instant::now();
    let mut missing = devices.to_vec();
    loop {
        let sessions = IscsiSession::all(Path::new(host::SYS))?;
        let mut still = Vec::new();
        for (device, seconds) in missing {
            // Known to the kernel before its node is made; and a session that was lost is there before
            // it works again.
            let (path, works) = host::working(&sessions, device)?;
            let path = path.filter(|path| path.exists());
            if path.is_some() && works {
                continue;
            }
            let is_late = begun.elapsed() > Duration::from_secs(seconds.into());
            if is_late && path.is_some() {
                return Err(Error::new(format!("{device}: no session again in {seconds} s"))
                    .hint("iscsid(8) makes it: does it run? then try again"));
            }
            if is_late {
                return Err(Error::new(format!("{device}: no disk within {seconds} s")).hint(
                    "the target has no such LUN, has several (write /LUN after its name), or does \
                     not allow this initiator's name",
                ));
            }
            still.push((device, seconds));
        }
        if still.is_empty() {
            return Ok(());
        }
        missing = still;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A login fails in the same way whatever the reason is; that the server does not name the target is
/// the likeliest one. `offered` is what the servers said they have, each a line for each target:
/// `ADDRESS:PORT,GROUP TARGET`.
pub fn not_offered(words: &[String], offered: &[(String, String)]) -> Option<Error> {
    let after = |flag| words.iter().skip_while(|word| *word != flag).nth(1);
    let (target, portal) = (after("-T")?, after("-p")?);
    words.iter().find(|word| *word == "--login")?;
    // Not by the address in it: behind one that is translated it says another.
    let (_, said) = offered.iter().find(|(server, _)| server == portal)?;
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    let names: Vec<&str> = lines.map(|(_, name)| name.trim()).collect();
    if names.contains(&target.as_str()) {
        return None;
    }
    let error = Error::new(format!("{portal} has no target {target} for this host"));
    Some(match names[..] {
        [] => error.hint("it names none: is this host's initiator name allowed there?"),
        _ => error.hint(format!("it names {}", run::one_line(&names.join(", ")))),
    })
}

/// Which of these servers accept connections: all are tried at the same time, so that those that do
/// not answer within so many seconds cost that once.
pub fn reach_all(servers: &[(&Portal, u32)]) -> Vec<Result<()>> {
    std::thread::scope(|scope| {
        let begin = |(portal, seconds): &(&Portal, u32)| {
            let (portal, seconds) = ((*portal).clone(), *seconds);
            scope.spawn(move || reach(&portal, seconds))
        };
        let threads: Vec<_> = servers.iter().map(begin).collect();
        let lost = |_| Err(Error::new("a thread ended early"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
    })
}

/// Whether a server accepts connections, by any of its addresses.
///
/// # Errors
/// It does not.
fn reach(portal: &Portal, seconds: u32) -> Result<()> {
    let failed = |error: &std::io::Error| {
        Error::io(format!("connect to {portal}"), error)
            .hint("is the server up, and its address right?")
    };
    let addresses = (portal.host.as_str(), portal.port).to_socket_addrs();
    let addresses: Vec<_> = addresses.map_err(|error| failed(&error))?.collect();
    let within = Duration::from_secs(seconds.into());
    let end = Instant::now() + within;
    loop {
        let mut last = std::io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        for address in &addresses {
            match TcpStream::connect_timeout(address, within) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    last = std::io::Error::from_raw_os_error(libc::ETIMEDOUT);
                }
                Err(error) => last = error,
            }
        }
        // The kernel says so for a while after a host is back, by its table of neighbours.
        if last.raw_os_error() != Some(libc::EHOSTUNREACH) || Instant::now() > end {
            return Err(failed(&last));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Writes values to files of block devices in sysfs, each with the device.
///
/// # Errors
/// One has no block device, or cannot be written.
pub fn set(all: &[(&VolumeDevice, &str, &str)]) -> Result<()> {
    let paths = host::block_devices(all.iter().map(|(device, ..)| *device))?;
    for ((device, file, value), path) in all.iter().zip(paths) {
        let path = path.ok_or_else(|| Error::new(format!("{device} is not there")))?;
        let file = Path::new(host::SYS).join("block").join(host::kernel_name(&path)?).join(file);
        fs::write(&file, value)
            .map_err(|error| Error::io(format!("write {value} to {}", file.display()), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::not_offered;

    #[test]
    fn a_target_that_the_server_does_not_name_is_said_to_be_wrong() {
        let login = |target: &str| {
            let words = ["iscsiadm", "-m", "node", "-T", target, "-p", "10.0.2.1:3260", "--login"];
            let said = "10.231.2.1:3260,1 iqn.x:a\n10.231.2.1:3260,1 iqn.x:b\n";
            let others = "10.231.3.1:3260,1 iqn.x:c\n";
            let offered = [("10.0.3.1:3260", others), ("10.0.2.1:3260", said)]
                .map(|(server, said)| (server.to_owned(), said.to_owned()));
            let error = not_offered(&words.map(String::from), &offered);
            error.map(|error| error.to_string())
        };
        assert_eq!(login("iqn.x:b"), None);
        assert_eq!(
            login("iqn.x:c").as_deref(),
            Some("10.0.2.1:3260 has no target iqn.x:c for this host; it names iqn.x:a, iqn.x:b")
        );
    }
}
