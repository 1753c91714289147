//! Health checks, which the keeper of a service has made: each is a second start of this program
//! that runs a command in the sandbox, or connects to a port there, and records what came of it.
//! After the start of the service, one process checks until it is healthy or has had its time.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::enter::{Entering, enter};
use super::keeper;
use super::register::{HealthState, HealthStatus, Registered};
use super::rules::{HealthCheck, Probe, Restart};
use super::signal::kill_for_good;
use crate::error::{Error, Result};
use crate::facts::{self, now};
use crate::journal::Journal;
use crate::sys::{netns, process, raw};

/// The first pause between two checks of a service that has just started.
const FIRST: Duration = Duration::from_millis(50);

/// Checks once, or until the service is healthy if it was never.
///
/// # Errors
/// The state directory cannot be read or written.
pub fn check(words: &[std::ffi::OsString]) -> Result<()> {
    let (journal, name) = keeper::of_health_check(words)?;
    let service = Registered::new(&journal, &name);
    let Some(record) = service.record()? else { return Ok(()) };
    let rules = record.rules();
    let Some(health) = &rules.health else { return Ok(()) };
    let Some(first) = journal.process(&name)? else { return Ok(()) };
    let started = service.status()?.since;
    let mut pause = FIRST;
    loop {
        let begun = Instant::now();
        let outcome = probe(health, &journal, &name, first.pid);
        // What was checked may be gone, and another be there.
        if first.open()?.is_none() || journal.process(&name)?.as_ref() != Some(&first) {
            return Ok(());
        }
        let before = service.health()?;
        let young = now().saturating_sub(started) < health.start_period.0;
        let status = before.clone().after(outcome, health.retries, young);
        service.write_health(&status)?;
        match status.state {
            HealthState::Starting => {
                sleep(pause.saturating_sub(begun.elapsed()));
                pause = (pause * 2).min(health.interval.0);
            }
            HealthState::Healthy => return Ok(()),
            HealthState::Unhealthy if rules.restart == Restart::No => return Ok(()),
            // Its keeper starts it again.
            HealthState::Unhealthy => {
                let (signal, patience) = (rules.stop_signal.0, rules.stop_timeout.0);
                return kill_for_good(&journal, &name, &first, signal, patience);
            }
        }
    }
}

impl HealthStatus {
    /// After a check; `young`: failures do not count yet.
    fn after(
        mut self,
        outcome: std::result::Result<(), String>,
        retries: u32,
        young: bool,
    ) -> HealthStatus {
        match outcome {
            Ok(()) => return HealthStatus { state: HealthState::Healthy, failures: 0, why: None },
            Err(why) => self.why = Some(why),
        }
        if self.state == HealthState::Starting && young {
            return self;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= retries {
            self.state = HealthState::Unhealthy;
        }
        self
    }
}

/// Makes one check; the error says what was wrong.
fn probe(
    health: &HealthCheck,
    journal: &Journal,
    name: &str,
    pid: i32,
) -> std::result::Result<(), String> {
    let timeout = health.timeout.0;
    let words = |error: Error| error.to_string();
    match health.check().map_err(words)? {
        Probe::Command(command) => {
            let command = command.iter().map(|word| word.clone().into_os_string()).collect();
            let entering = Entering { command, ..Entering::default() };
            let process = enter(journal, name, entering).map_err(words)?;
            let ready = process::readable([process.pidfd()], Some(timeout));
            let in_time = matches!(ready, Ok([true]));
            if !in_time {
                process.kill();
            }
            match process.wait().map_err(words)? {
                _ if !in_time => Err(format!("no answer within {}", health.timeout)),
                process::Ended::Exited(0) => Ok(()),
                process::Ended::Exited(code) => Err(format!("exited {code}")),
                process::Ended::Killed(signal) => {
                    Err(format!("killed {}", process::signal_name(signal)))
                }
            }
        }
        Probe::Tcp(port) => inside(pid, || connect(port, timeout)).map(drop),
        Probe::Http(port, path) => inside(pid, || request(port, path, timeout)),
    }
}

/// Does something in the network namespace of process `pid`.
fn inside<T>(
    pid: i32,
    work: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    let failed = |what: &str| format!("enter the network of the service: {what}");
    let file = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
    let inode = |file: &File| file.metadata().map(|file| file.ino());
    let own = File::open("/proc/self/ns/net").and_then(|own| inode(&own));
    let there = file("net").map_err(|e| failed(&e.to_string()))?;
    match (own, inode(&there)) {
        (Ok(own), Ok(other)) if own == other => work(),
        _ if facts::privileged() => {
            netns::in_netns_of(pid, work).map_err(|errno| failed(&errno.to_string()))?
        }
        // Without rights out here, there is no way back, and none is needed.
        _ => {
            let user = file("user").map_err(|e| failed(&e.to_string()))?;
            raw::setns(user.as_raw_fd(), libc::CLONE_NEWUSER)
                .and_then(|()| raw::setns(there.as_raw_fd(), libc::CLONE_NEWNET))
                .map_err(|errno| failed(&errno.to_string()))?;
            work()
        }
    }
}

fn connect(port: u16, timeout: Duration) -> std::result::Result<TcpStream, String> {
    let to = |address: SocketAddr| TcpStream::connect_timeout(&address, timeout);
    to((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|error| to((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
        .map_err(|error| format!("connect to port {port}: {error}"))
}

fn request(port: u16, path: &str, timeout: Duration) -> std::result::Result<(), String> {
    let until = Instant::now() + timeout;
    let mut stream = connect(port, timeout)?;
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut answer = Vec::new();
    let mut talk = || -> std::io::Result<()> {
        stream.set_write_timeout(Some(left()))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: garth\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut piece = [0; 64];
        // The status line is all that is wanted.
        while answer.len() < 16 && !answer.contains(&b'\n') {
            stream.set_read_timeout(Some(left()))?;
            match stream.read(&mut piece)? {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        Ok(())
    };
    talk().map_err(|error| format!("GET {path} from port {port}: {error}"))?;
    match status(&answer) {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("GET {path} from port {port}: status {status}")),
        None => Err(format!("GET {path} from port {port}: no HTTP answer")),
    }
}

/// The status in the first line of an answer (RFC 9112, section 4).
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.trim_end().split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_nothing_else() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nX: y"), Some(200));
        assert_eq!(status(b"HTTP/1.0 404\r\n"), Some(404));
        for odd in [&b""[..], b"200", b"HTTP/2 200", b"HTTP/1.1 x", b"HTTP/1.1 99", b"\xff\n"] {
            assert_eq!(status(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn failures_count_in_a_row_and_not_at_the_start() {
        let failed = || Err("x".to_owned());
        let status = HealthStatus::default().after(failed(), 2, true);
        assert_eq!((status.state, status.failures), (HealthState::Starting, 0));
        let status = status.after(failed(), 2, false);
        assert_eq!((status.state, status.failures), (HealthState::Starting, 1));
        let healthy = status.after(Ok(()), 2, false);
        assert_eq!((healthy.state, healthy.failures), (HealthState::Healthy, 0));
        // Once healthy, it is no longer young.
        let status = healthy.after(failed(), 2, true);
        assert_eq!((status.state, status.failures), (HealthState::Healthy, 1));
        let status = status.after(failed(), 2, true);
        assert_eq!((status.state, status.failures), (HealthState::Unhealthy, 2));
        assert_eq!(status.after(Ok(()), 2, false).state, HealthState::Healthy);
    }
}
