//! OCI runtimes on one busybox bundle, `/bin/true`: `run`; `create`, `start` and `delete`; runs per
//! second; the memory charged to the container. `tests/bench` runs it, in a mount namespace without
//! the unified cgroup tree, where Debian's crun works on a machine with both versions.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use garth::measure::bench::{Contender, table_text, timed};

const PEERS: [&str; 3] = ["runc", "crun", "youki"];

/// A runtime with its own state directory.
#[derive(Clone)]
struct Runtime {
    name: &'static str,
    program: PathBuf,
    state: PathBuf,
    bundle: PathBuf,
}

impl Runtime {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).args(words).current_dir(&self.bundle);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn call(&self, words: &[&str]) -> bool {
        self.command(words).status().is_ok_and(|status| status.success())
    }

    /// `run`, for runtimes that may hang when many of them start in parallel.
    fn run_in_time(&self, id: &str) -> bool {
        let Ok(mut child) = self.command(&["run", id]).spawn() else { return false };
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_micros(200)),
                _ => break,
            }
        }
        let _ = child.kill().and_then(|()| child.wait());
        self.call(&["delete", "--force", id]);
        false
    }

    fn run(&self, id: &str) -> bool {
        self.call(&["run", id])
    }

    fn steps(&self, id: &str) -> bool {
        self.call(&["create", id])
            && self.call(&["start", id])
            && self.call(&["delete", "--force", id])
    }
}

/// What `runc spec` writes, without a terminal, and with busybox's true.
fn bundle(dir: &Path) {
    for name in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("rootfs/bin/true")).unwrap();
    let system = |kind: &str, target: &str, options: &[&str]| serde_json::json!({"destination": target, "type": kind, "source": kind, "options": options});
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount"].map(|kind| serde_json::json!({"type": kind}));
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/",
            "env": ["PATH=/bin"], "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities,
                             "permitted": capabilities},
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            system("proc", "/proc", &[]),
            system("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            system("devpts", "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            system("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            system("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
            system("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list",
                            "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                              "/proc/sysrq-trigger"],
        },
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn runtimes(dir: &Path) -> Vec<Runtime> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| {
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
    };
    let garth = std::env::var_os("GARTH").map(PathBuf::from);
    let garth = garth.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/x86_64-unknown-linux-gnu/release/garth")
    });
    assert!(garth.exists(), "{} is missing: cargo build --release", garth.display());
    let peers = PEERS.into_iter().filter_map(|name| Some((name, find(name)?)));
    [("garth", garth)]
        .into_iter()
        .chain(peers)
        .map(|(name, program)| Runtime {
            name,
            program,
            state: dir.join(name),
            bundle: dir.join("bundle"),
        })
        .filter(|runtime| {
            let works = runtime.run("bench-first");
            if !works {
                eprintln!("{}: does not run here, left out", runtime.name);
            }
            works
        })
        .collect()
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let rounds = if quick { 10 } else { 100 };
    let dir = PathBuf::from("/dev/shm").join(format!("garth-bench-{}", std::process::id()));
    bundle(&dir.join("bundle"));
    let runtimes = runtimes(&dir);
    compare("run", &runtimes, rounds, Runtime::run);
    compare("create, start, delete", &runtimes, rounds, Runtime::steps);
    println!(
        "\n| | runs/s, one after the other | runs/s, 8 at a time | memory, peak |\n|---|---|---|---|"
    );
    for runtime in &runtimes {
        let (one, eight) = (rate(runtime, 1, rounds), rate(runtime, 8, rounds));
        let peak = peak(runtime).map_or("-".into(), |bytes| format!("{} kB", bytes / 1024));
        println!("| {} | {one} | {eight} | {peak} |", runtime.name);
    }
    let _ = fs::remove_dir_all(dir);
}

fn compare(what: &str, runtimes: &[Runtime], rounds: usize, call: fn(&Runtime, &str) -> bool) {
    let contender = |runtime: &Runtime| {
        let runtime = runtime.clone();
        Contender::timed(runtime.name, move || {
            assert!(call(&runtime, "bench"), "{}: {what} failed", runtime.name);
            Ok(())
        })
    };
    let contenders = runtimes.iter().map(contender).collect();
    let mut table = timed(what, contenders, rounds, Some("runc"), &mut |_| Ok(())).unwrap();
    PEERS.iter().for_each(|peer| table.conclude("garth", peer));
    println!("\n{}", table_text(&table));
}

/// Runs per second, with this many in parallel; each worker stops at its first failure.
fn rate(runtime: &Runtime, at_a_time: usize, rounds: usize) -> String {
    let (begin, failed) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..at_a_time {
            let failed = &failed;
            scope.spawn(move || {
                let mut rounds = 0..rounds / at_a_time;
                if !rounds.all(|round| runtime.run_in_time(&format!("bench-{worker}-{round}"))) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    match failed.into_inner() {
        0 => {
            let runs = rounds / at_a_time * at_a_time;
            format!("{:.0}", runs as f64 / begin.elapsed().as_secs_f64())
        }
        failed => format!("{failed} of {at_a_time} hung or failed"),
    }
}

/// The peak memory charged to the container's cgroup, in bytes.
fn peak(runtime: &Runtime) -> Option<u64> {
    let file = runtime.bundle.join("pid");
    let words = ["create", "--pid-file", file.to_str()?, "bench-memory"];
    if !runtime.call(&words) {
        return None;
    }
    let pid = fs::read_to_string(&file).ok()?;
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).ok()?;
    let path = cgroups.lines().find_map(|line| line.split_once(":memory:"))?.1;
    let most = Path::new("/sys/fs/cgroup/memory")
        .join(path.trim_start_matches('/'))
        .join("memory.max_usage_in_bytes");
    let started = runtime.call(&["start", "bench-memory"]);
    let bytes = fs::read_to_string(most).ok().and_then(|text| text.trim().parse().ok());
    runtime.call(&["delete", "--force", "bench-memory"]);
    bytes.filter(|_| started)
}
