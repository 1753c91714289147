//! OpenSSH's ciphers: a sandboxed sshd, its published port, and a stream through it with each cipher, and with each
//! MAC where the cipher does not authenticate by itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::boxed::{Boxed, free_port, output, sbin};
use super::machine::BenchMachine;
use super::{BenchReport, BenchTable, Contender, Effort, Tell, interleaved};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Journal;
use crate::measure::processes::ProcessTable;
use crate::sys::{program, run, spawners};

const COLUMNS: [&str; 3] = ["MB/s", "CPU s per GB, client", "CPU s per GB, server"];

/// The user that there is in the sandbox only.
const USER: &str = "bench";
/// By what a server is reached inside.
const PORT: u16 = 2222;
/// Turns AES-NI and carry-less multiplication off in OpenSSL (OPENSSL_ia32cap(3)).
const WITHOUT_AES: &str = "OPENSSL_ia32cap=~0x200000200000000";

/// What no hardware helps: the oldest cipher is the measure of the others.
const REFERENCE: &str = "3des-cbc";

/// Which ciphers.
#[derive(Clone, Debug, Default)]
pub struct Ciphers {
    /// Only those whose names contain one of these; empty: all.
    pub only: Vec<String>,
    /// With this MAC only, where one is used.
    pub mac: Option<String>,
}

/// Measures all that client and server share. `garth` is the program.
///
/// # Errors
/// There is no sshd, the caller is not root, or the sandbox does not start.
pub fn ssh_ciphers(
    garth: &Path,
    journal: &Journal,
    which: &Ciphers,
    effort: Effort,
    tell: Tell<'_>,
) -> Result<BenchReport> {
    if !facts::privileged() {
        return Err(Error::new("bench ssh-ciphers: needs root")
            .hint("sshd serves another user than its own as root only, also in a sandbox"));
    }
    for (name, package) in
        [("sshd", "openssh-server"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client")]
    {
        if sbin(name).is_none() {
            return Err(
                Error::new(format!("{name} is not installed")).hint(format!("install {package}"))
            );
        }
    }
    let pairs = pairs(which, effort)?;
    let rounds = effort.rounds(3)?;
    let bytes: usize = if effort.quick { 4 << 20 } else { 128 << 20 };
    let mut tables = Vec::new();
    let mut notes = vec![
        format!("{} MB of zeros through each, without compression; the time is from the first byte to the end of the remote \
            command, without the handshake", bytes / 1_000_000),
        "processor time is of the whole connection, with its handshake".to_owned(),
        "client, server and this program share the processors: on few of them, none has one for itself".to_owned(),
        "a cipher with a MAC has the MAC's name behind it; the others authenticate by themselves".to_owned(),
    ];
    let variants: &[(&str, Option<&str>)] =
        match (cfg!(target_arch = "x86_64"), BenchMachine::read().aes) {
            (true, true) => {
                &[("with AES instructions", None), ("without AES instructions", Some(WITHOUT_AES))]
            }
            (true, false) => &[("this processor has no AES instructions", None)],
            (false, _) => {
                notes.push(
                    "AES instructions cannot be turned off by a variable on this architecture"
                        .into(),
                );
                &[("with the instructions that the processor has", None)]
            }
        };
    for (title, variable) in variants {
        let server = Server::start(garth, journal, *variable)?;
        let title = format!("OpenSSH's ciphers through a published port, {title}");
        let contender = |(cipher, mac): &(String, Option<String>)| {
            let (cipher, mac, server) = (cipher.clone(), mac.clone(), &server);
            let name = match &mac {
                Some(mac) => format!("{cipher} {mac}"),
                None => cipher.clone(),
            };
            Contender::new(name, move || server.stream(Some(&cipher), mac.as_deref(), bytes))
        };
        let contenders = pairs.iter().map(contender).collect();
        let mut rows = interleaved(contenders, rounds, COLUMNS.len(), &title, tell)?;
        rows.sort_by(|a, b| {
            let speed = |row: &super::BenchRow| row.figures[0].map_or(0.0, |figure| figure.median);
            speed(b).total_cmp(&speed(a))
        });
        // The fastest with the reference cipher: its MAC costs least.
        let base =
            rows.iter().find(|row| row.name.starts_with(REFERENCE)).map(|row| row.name.clone());
        tables.push(BenchTable {
            title,
            columns: COLUMNS.map(String::from).to_vec(),
            more_is_better: true,
            base,
            rows,
            conclusions: Vec::new(),
        });
    }
    notes.push(match tables.iter().any(|table| table.base.is_some()) {
        true => format!("normalised by {REFERENCE} with its fastest MAC: no processor helps it, and its code has not changed \
            for decades, so what is told is how much each cipher gains from this processor"),
        false => format!("not normalised: {REFERENCE}, which no processor helps, was not measured"),
    });
    let [one, other] = ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"];
    tables.iter_mut().for_each(|table| table.conclude(one, other));
    Ok(BenchReport::new("ssh-ciphers", tables, notes))
}

/// The ciphers, each with its MACs; those that authenticate by themselves with none.
fn pairs(which: &Ciphers, effort: Effort) -> Result<Vec<(String, Option<String>)>> {
    let list = |what: &str| {
        Ok::<_, Error>(output(&["ssh", "-Q", what])?.lines().map(String::from).collect::<Vec<_>>())
    };
    let (ciphers, authenticated, macs) = (list("cipher")?, list("cipher-auth")?, list("mac")?);
    if let Some(mac) = which.mac.as_ref().filter(|mac| !macs.contains(mac)) {
        return Err(Error::new(format!("ssh knows no MAC {mac}")).hint("ssh -Q mac lists them"));
    }
    let is_meant = |cipher: &String| {
        which.only.is_empty() || which.only.iter().any(|part| cipher.contains(part))
    };
    let mut pairs = Vec::new();
    for cipher in ciphers.into_iter().filter(is_meant) {
        if authenticated.contains(&cipher) {
            pairs.push((cipher, None));
            continue;
        }
        let macs = macs.iter().filter(|mac| which.mac.as_ref().is_none_or(|only| only == *mac));
        // A short run has each cipher once.
        let macs = macs.take(if effort.quick { 1 } else { usize::MAX });
        pairs.extend(macs.map(|mac| (cipher.clone(), Some(mac.clone()))));
    }
    match pairs.is_empty() {
        true => Err(Error::new("ssh knows no such cipher").hint("ssh -Q cipher lists them")),
        false => Ok(pairs),
    }
}

/// An sshd in a sandbox, with keys and a user of its own.
struct Server {
    boxed: Boxed,
    port: u16,
    pid: i32,
    variable: Option<String>,
}

impl Server {
    fn start(garth: &Path, journal: &Journal, variable: Option<&str>) -> Result<Server> {
        let mut boxed = Boxed::new(garth, journal, "ssh")?;
        let dir = boxed.dir.clone();
        let failed =
            |error: std::io::Error| Error::io(format!("prepare {}", dir.display()), &error);
        let path = |name: &str| dir.join(name).display().to_string();
        for key in ["host", "user"] {
            output(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path(key)])?;
        }
        let all = |what: &str| {
            Ok::<_, Error>(output(&["ssh", "-Q", what])?.lines().collect::<Vec<_>>().join(","))
        };
        let config = format!(
            "Port {PORT}\nListenAddress 0.0.0.0\nHostKey /srv/bench/host\n\
             AuthorizedKeysFile /srv/bench/user.pub\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nMaxStartups 100\nUseDNS no\nCiphers {}\nMACs {}\n",
            all("cipher")?,
            all("mac")?
        );
        let passwd = format!(
            "root:x:0:0::/:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n\
             {USER}:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
        );
        let group = format!("root:x:0:\n{USER}:x:1000:\nnogroup:x:65534:\n");
        // The account is not locked, and no password leads to it.
        let shadow = format!("root:*:1::::::\nsshd:*:1::::::\n{USER}:*:1::::::\n");
        for (name, text, mode) in [
            ("sshd_config", config, 0o644),
            ("passwd", passwd, 0o644),
            ("group", group, 0o644),
            ("shadow", shadow, 0o600),
        ] {
            fs::write(dir.join(name), text).map_err(failed)?;
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode))
                .map_err(failed)?;
        }
        let port = free_port()?;
        let mut flags: Vec<String> =
            ["-p", &format!("127.0.0.1:{port}:{PORT}"), "--run-dir", "sshd"]
                .map(String::from)
                .to_vec();
        for file in ["passwd", "group", "shadow"] {
            flags.extend(["-v".into(), format!("{}:/etc/{file}:ro", path(file))]);
        }
        flags.extend(["-v".into(), format!("{}:/srv/bench:ro", dir.display())]);
        if let Some(variable) = variable {
            flags.extend(["--env".into(), variable.into()]);
        }
        // -r: otherwise sshd executes itself anew for each connection, without the variable.
        let command = ["/usr/sbin/sshd", "-D", "-e", "-r", "-f", "/srv/bench/sshd_config"];
        boxed.start(&flags, &command.map(String::from))?;
        let pid = boxed.pid()?;
        let server = Server { boxed, port, pid, variable: variable.map(str::to_owned) };
        server.until_it_answers()?;
        Ok(server)
    }

    fn until_it_answers(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match self.stream(None, None, 1) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    let log = self.boxed.log();
                    return Err(if log.is_empty() { error } else { error.hint(log) });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn client(&self, cipher: Option<&str>, mac: Option<&str>) -> Command {
        let mut ssh = program::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-T",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.args([
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "Compression=no",
            "-o",
            "ConnectTimeout=10",
        ]);
        ssh.arg("-i").arg(self.boxed.dir.join("user")).args(["-p", &self.port.to_string()]);
        ssh.args(cipher.map(|cipher| format!("-c{cipher}")));
        ssh.args(mac.map(|mac| format!("-m{mac}")));
        if let Some((name, value)) = self.variable.as_deref().and_then(|it| it.split_once('=')) {
            ssh.env(name, value);
        }
        // Its first line says that the handshake is over.
        ssh.arg(format!("{USER}@127.0.0.1")).arg("echo; exec cat >/dev/null");
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    /// Sends so many bytes: MB/s, and processor time of client and server in seconds per GB.
    fn stream(&self, cipher: Option<&str>, mac: Option<&str>, bytes: usize) -> Result<Vec<f64>> {
        let server = self.server_time();
        let client = spawners::children_time();
        let mut ssh = self.client(cipher, mac);
        let mut ssh = ssh.spawn().map_err(|error| Error::io("start ssh", &error))?;
        let sent = send(&mut ssh, bytes);
        let finished = ssh.wait_with_output().map_err(|error| Error::io("wait for ssh", &error))?;
        let ended = Instant::now();
        if !finished.status.success() {
            let said = String::from_utf8_lossy(&finished.stderr).into_owned();
            return Err(Error::new("ssh").because(run::one_line(&said)));
        }
        let seconds = (ended - sent?).as_secs_f64();
        // Of a connection, sshd has waited for the processes when it is closed, or does so at once.
        let end = Instant::now() + Duration::from_secs(1);
        let mut served = self.server_time();
        while served == server && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            served = self.server_time();
        }
        let gigabytes = bytes as f64 / 1e9;
        let client = spawners::children_time().saturating_sub(client).as_secs_f64();
        Ok(vec![
            bytes as f64 / 1e6 / seconds,
            client / gigabytes,
            served.saturating_sub(server) as f64 / 1e9 / gigabytes,
        ])
    }

    /// Processor time of all processes of the sandbox, in nanoseconds.
    fn server_time(&self) -> u64 {
        let trees = ProcessTable::read().trees(&[self.pid].into());
        trees.values().map(|tree| tree.cpu).sum()
    }
}

/// Sends zeros once the remote command runs; returns when it began to.
fn send(ssh: &mut Child, bytes: usize) -> Result<Instant> {
    let failed = |error: std::io::Error| Error::io("send to ssh", &error);
    let mut begun = [0];
    if let Some(output) = &mut ssh.stdout {
        output.read_exact(&mut begun).map_err(failed)?;
    }
    let since = Instant::now();
    // Closed when it is dropped.
    if let Some(mut input) = ssh.stdin.take() {
        let zeros = vec![0; 256 << 10];
        let mut left = bytes;
        while left > 0 {
            let some = left.min(zeros.len());
            input.write_all(&zeros[..some]).map_err(failed)?;
            left -= some;
        }
    }
    Ok(since)
}
