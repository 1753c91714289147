//! Whole starts of `/bin/true`, from the caller's spawn to its wait, next to the installed peers:
//! `tests/bench` runs it, in a network namespace of its own.
//!
//! Each peer makes the same namespaces and, as far as possible, the same mounts.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

#[path = "measure/mod.rs"]
mod measure;

use std::fs;
use std::path::{Path, PathBuf};

use garth::{Spawn, Stdio};
use measure::{Contender, interleaved, median, table};

fn binary() -> PathBuf {
    match std::env::var_os("GARTH") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/x86_64-unknown-linux-gnu/release/garth"),
    }
}

fn run(words: &[String]) -> bool {
    let spawn = Spawn { stdout: Stdio::Null, stderr: Stdio::Null, ..Spawn::new(words) };
    spawn.spawn().is_ok_and(|child| child.process.wait().is_ok_and(|ended| ended.code() == 0))
}

/// A bundle for OCI runtimes: the host's /bin/true, seen through its read-only root.
fn bundle() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("garth-bench-{}", std::process::id()));
    for name in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/tmp"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    if let Ok(busybox) = fs::read("/bin/busybox") {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("rootfs/bin/true");
        fs::write(&path, busybox).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
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
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let rounds = if quick { 10 } else { 100 };
    let garth = binary();
    assert!(garth.exists(), "{} is missing: cargo build --release", garth.display());
    let garth = garth.to_string_lossy();
    let bundle = bundle();
    let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    let bwrap = "bwrap --ro-bind / / --proc /proc --dev /dev --tmpfs /run --tmpfs /tmp \
        --tmpfs /var/tmp --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup --unshare-net \
        --die-with-parent";
    let lines = [
        ("/bin/true alone", "/bin/true".to_owned()),
        ("garth wrap", format!("{garth} wrap -- /bin/true")),
        ("bwrap", format!("{bwrap} /bin/true")),
        ("garth wrap --as-pid-1", format!("{garth} wrap --as-pid-1 -- /bin/true")),
        ("bwrap --as-pid-1", format!("{bwrap} --as-pid-1 /bin/true")),
        ("garth wrap --network private", format!("{garth} wrap --network private -- /bin/true")),
        ("garth wrap -p 18080:80", format!("{garth} wrap -p 18080:80 -- /bin/true")),
        ("unshare", "unshare -m -p -f -i -u -C -n --mount-proc /bin/true".to_owned()),
        ("firejail", "firejail --quiet --noprofile --net=none --private-tmp /bin/true".to_owned()),
        ("runc run", format!("runc run --bundle {} garth-bench", bundle.display())),
    ];
    let contenders = lines.iter().filter_map(|(name, line)| {
        let words = words(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        if !run(&words) {
            eprintln!("{name}: does not run here, left out");
            return None;
        }
        Some(Contender::new(*name, move || assert!(run(&words))))
    });
    let taken = interleaved(contenders.collect(), rounds);
    println!("\n{rounds} rounds:\n\n{}", table(&taken, "bwrap"));
    let of = |name: &str| median(&taken, name);
    if let (Some(wrap), Some(bwrap)) = (of("garth wrap"), of("bwrap")) {
        println!("garth wrap takes {:.2} of bwrap's time.", wrap / bwrap);
    }
    if let (Some(port), Some(wrap)) = (of("garth wrap -p 18080:80"), of("garth wrap")) {
        println!("A private network and a published port add {:.2} ms.", port - wrap);
    }
    let _ = fs::remove_dir_all(bundle);
    left_behind(&garth);
}

/// What stays resident behind a detached sandbox.
fn left_behind(garth: &str) {
    let words = |line: String| line.split(' ').map(String::from).collect::<Vec<_>>();
    if !run(&words(format!("{garth} wrap -d --name garth-bench -- sleep 100"))) {
        return;
    }
    let mut total = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let ours = command.starts_with("garth-init") || command.contains("garth-bench\0");
        if !ours || command.contains("--force\0garth-bench\0-") {
            continue;
        }
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 =
            resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        let name = command.split('\0').next().unwrap_or_default();
        println!("{name}: {kilobytes} kB resident");
        total += kilobytes;
    }
    println!("Behind a detached sandbox stay {total} kB.");
    assert!(run(&words(format!("{garth} delete --force garth-bench"))));
}
