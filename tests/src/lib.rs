//! Harness of the black-box suite: the real binary, the real kernel, real daemons.
//!
//! A test makes a [`Host`], a small private host: its own processes, mounts, network and /run. On
//! it the test runs `garth` as a user would ([`Call`]) and examines the result ([`Ran`]) or
//! interacts with the running command ([`Running`]). At the end [`Host::assert_nothing_left`]
//! compares the host with its initial state ([`Snapshot`]), and when it is dropped the kernel
//! removes all of it.
//!
//! A test first states what it needs: `needs!(root, netns, "nginx")`; the crate `garth-needs` says
//! what happens where something is missing.
//!
//! A [`Bundle`] is an OCI bundle on such a host, for tests of the runtime specification.
//!
//! The binary is `$GARTH`, or the newest of target/release and target/debug; the shim is `$GARTH_SHIM`, likewise.
#![expect(clippy::unwrap_used, reason = "where the harness fails, the test fails")]

mod bundle;
mod call;
mod cgroups;
mod guest;
mod host;
mod points;
pub mod shim;
mod snapshot;
mod socket;
pub mod ttrpc;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

pub use bundle::{Bundle, ROOT, parsed, runtime};
pub use call::{Call, Ran, Running};
pub use garth_needs::{has_v1, missing, needs, skip, which};
pub use guest::{second_kernel, second_kernel_with};
pub use host::Host;
pub use points::{CHANGES, Point, Tally, points, sample};
pub use snapshot::Snapshot;
pub use socket::{Socket, answer_notification, terminal};

/// How long anything may take before the test fails. Generous: it bounds, it does not measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub fn binary() -> PathBuf {
    program("GARTH", "garth", "garth")
}

/// The shim under test.
pub fn shim_binary() -> PathBuf {
    program("GARTH_SHIM", "containerd-shim-garth-v1", "containerd-shim-garth")
}

fn program(variable: &str, name: &str, package: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    // The test is target/[triple/]<profile>/deps/<name>-<hash>.
    let test = env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let built = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    ["release", "debug"]
        .map(|profile| target.join(profile).join(name))
        .into_iter()
        .filter(|path| built(path).is_some())
        .max_by_key(built)
        .unwrap_or_else(|| {
            let target = target.display();
            panic!("no {name} in {target}: `cargo build -p {package}`, or set {variable}")
        })
}

/// Polls until `probe` has an answer.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal, by name or number, to one of our processes. One that has ended is not a failure.
pub fn kill(signal: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// The children of a process, oldest first.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
