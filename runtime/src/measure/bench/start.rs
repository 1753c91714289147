//! Whole starts of `true`, from the caller's spawn to its wait: `garth wrap` and `garth run` beside what else is
//! installed, each with the same namespaces and, as far as possible, the same mounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::boxed::{ran, unique};
use super::{BenchReport, BenchTable, Contender, Effort, Tell, timed};
use crate::error::{Error, Result};
use crate::facts;
use crate::start::{Process, Spawn, Stdio};
use crate::sys::program;

/// What bwrap is asked for, so that it does what `garth wrap` does by default.
const BWRAP: &str = "bwrap --ro-bind / / --proc /proc --dev /dev --tmpfs /run --tmpfs /tmp --tmpfs /var/tmp \
    --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup --unshare-net --die-with-parent";

/// How many are started at the same time.
const AT_ONCE: usize = 8;

/// One that may be compared: its name, and its command line, in which `ID` is another word each time.
struct Peer {
    name: &'static str,
    line: String,
}

/// Compares starts. `garth` is the program.
///
/// # Errors
/// Garth itself cannot start anything.
pub fn start(garth: &Path, effort: Effort, tell: Tell<'_>) -> Result<BenchReport> {
    let mut notes = vec![
        "bwrap loads no seccomp filter and no Landlock rules, and masks nothing in /proc; garth wrap does".to_owned(),
        "firejail has its own profile of mounts (--noprofile), unshare makes namespaces and /proc only".to_owned(),
    ];
    let garth = garth.display();
    let peer = |name, line: String| Peer { name, line };
    let sandboxes = [
        peer("true alone", "/bin/true".into()),
        peer("garth wrap", format!("{garth} wrap -- /bin/true")),
        peer("bwrap", format!("{BWRAP} /bin/true")),
        peer("garth wrap --as-pid-1", format!("{garth} wrap --as-pid-1 -- /bin/true")),
        peer("bwrap --as-pid-1", format!("{BWRAP} --as-pid-1 /bin/true")),
        peer(
            "garth wrap --network private",
            format!("{garth} wrap --network private -- /bin/true"),
        ),
        peer("unshare", "unshare -m -p -f -i -u -C -n --mount-proc /bin/true".into()),
        peer("firejail", "firejail --quiet --noprofile --net=none --private-tmp /bin/true".into()),
    ];
    let mut tables = Vec::new();
    let rounds = effort.rounds(100)?;
    let title = "A sandbox of the host's files, one after the other";
    let mut table = compared(title, &sandboxes, "bwrap", 1, rounds, &mut notes, tell)?;
    table.conclude("garth wrap", "bwrap");
    table.conclude("garth wrap", "firejail");
    tables.push(table);
    let title = format!("A sandbox of the host's files, {AT_ONCE} at the same time, each of them");
    let mut table =
        compared(&title, &sandboxes, "bwrap", AT_ONCE, rounds / 4 + 2, &mut notes, tell)?;
    table.conclude("garth wrap", "bwrap");
    tables.push(table);
    match Bundle::make() {
        Err(why) => notes.push(format!("containers: left out: {why}")),
        Ok(bundle) => {
            let dir = bundle.0.display();
            let nspawn = format!(
                "systemd-nspawn --quiet --register=no --private-network --read-only --directory={dir}/rootfs /bin/true"
            );
            let containers = [
                peer("garth run", format!("{garth} --root {dir}/state run --bundle {dir} ID")),
                peer("runc run", format!("runc --root {dir}/runc run --bundle {dir} ID")),
                peer("crun run", format!("crun --root {dir}/crun run --bundle {dir} ID")),
                peer("youki run", format!("youki --root {dir}/youki run --bundle {dir} ID")),
                peer("systemd-nspawn", nspawn),
            ];
            let title = "The same OCI bundle, one after the other";
            let mut table = compared(title, &containers, "runc run", 1, rounds, &mut notes, tell)?;
            for other in ["runc run", "crun run", "youki run"] {
                table.conclude("garth run", other);
            }
            tables.push(table);
            let title = format!("The same OCI bundle, {AT_ONCE} at the same time, each of them");
            let rounds = rounds / 4 + 2;
            let mut table =
                compared(&title, &containers, "runc run", AT_ONCE, rounds, &mut notes, tell)?;
            table.conclude("garth run", "runc run");
            tables.push(table);
        }
    }
    if cfg!(debug_assertions) {
        notes.push(
            "garth was built for debugging: its figures are those of a much larger program".into(),
        );
    }
    Ok(BenchReport::new("start", tables, notes))
}

/// Measures those that work here; says why the others do not.
fn compared(
    title: &str,
    peers: &[Peer],
    base: &str,
    at_once: usize,
    rounds: usize,
    notes: &mut Vec<String>,
    tell: Tell<'_>,
) -> Result<BenchTable> {
    let mut contenders = Vec::new();
    let mut number = 0u64;
    for peer in peers {
        let program = peer.line.split(' ').next().unwrap_or_default();
        if program::find(program).is_none() {
            note(notes, format!("{}: {program} is not installed", peer.name));
            continue;
        }
        number += 1;
        // Once, to see whether it works; its words are for the note.
        if let Err(why) = ran(&words(peer, number)) {
            if peer.name.starts_with("garth") && facts::privileged() {
                return Err(Error::new(peer.name).because(why));
            }
            note(notes, format!("{}: does not work here: {why}", peer.name));
            continue;
        }
        let mut turn = number << 32;
        contenders.push(Contender::new(peer.name, move || {
            let begun = std::time::Instant::now();
            let mut started: Vec<Process> = Vec::new();
            for _ in 0..at_once {
                turn += 1;
                let null = || Stdio::Null;
                let words = words(peer, turn);
                let spawn =
                    Spawn { stdin: null(), stdout: null(), stderr: null(), ..Spawn::new(words) };
                started.push(spawn.spawn()?.process);
            }
            for process in started {
                let code = process.wait()?.code();
                if code != 0 {
                    return Err(Error::new(format!("ended with {code}")));
                }
            }
            Ok(vec![begun.elapsed().as_secs_f64() * 1e3 / at_once as f64])
        }));
    }
    timed(title, contenders, rounds, Some(base), tell)
}

fn note(notes: &mut Vec<String>, words: String) {
    if !notes.contains(&words) {
        notes.push(words);
    }
}

fn words(peer: &Peer, number: u64) -> Vec<String> {
    let id = format!("bench-{}-{number:x}", std::process::id());
    peer.line
        .split_whitespace()
        .map(|word| if word == "ID" { id.clone() } else { word.into() })
        .collect()
}

/// A bundle in a directory of its own, which goes with it.
struct Bundle(PathBuf);

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bundle {
    /// With a busybox, whose `true` needs no library, if there is one.
    fn make() -> Result<Bundle> {
        if !facts::privileged() {
            return Err(Error::new("runc and crun want another bundle without root"));
        }
        let busybox = program::find("busybox")
            .ok_or_else(|| Error::new("no busybox, whose true needs no libraries"))?;
        let dir = std::env::temp_dir().join(format!("garth-bench-{}", unique()?));
        let failed = |error: std::io::Error| {
            Error::io(format!("make a bundle in {}", dir.display()), &error)
        };
        fs::create_dir(&dir).map_err(failed)?;
        let bundle = Bundle(dir.clone());
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(dir.join("rootfs").join(name)).map_err(failed)?;
        }
        let program = dir.join("rootfs/bin/true");
        fs::copy(busybox, &program).map_err(failed)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        // systemd-nspawn takes no other directory for a system.
        fs::write(dir.join("rootfs/etc/os-release"), "ID=bench\n").map_err(failed)?;
        let namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "network"]
            .map(|kind| serde_json::json!({"type": kind}));
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": { "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/",
                         "env": ["PATH=/bin"], "noNewPrivileges": true },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": { "namespaces": namespaces },
        });
        fs::write(dir.join("config.json"), config.to_string()).map_err(failed)?;
        Ok(bundle)
    }
}
