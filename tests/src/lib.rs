//! Harness of the black-box suite: the real binary, the real kernel, real daemons.
//!
//! A test makes a [`Yard`], a small host of its own: its own processes, mounts, network and /run.
//! In it the test runs `garth` as a user would ([`Call`]) and looks at what came out ([`Ran`]) or
//! talks to what runs ([`Running`]). At the end [`Yard::assert_nothing_left`] compares the yard
//! with how it was ([`Snapshot`]), and when the yard is dropped the kernel removes all of it.
//!
//! What a test needs, it says first: `needs!(root, netns, "nginx")`. Where that is missing, the
//! test prints why and passes; with `REQUIRE=all` in the environment it fails.
//!
//! A [`Bundle`] is an OCI bundle in a yard, for the tests of what is specified of a runtime.
//!
//! The binary is `$GARTH`, or the newest of target/release and target/debug.
#![expect(clippy::unwrap_used, reason = "where the harness fails, the test fails")]

mod bundle;
mod call;
mod cgroups;
mod guest;
mod points;
mod snapshot;
mod socket;
mod yard;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

pub use bundle::{Bundle, ROOT, parsed, runtime};
pub use call::{Call, Ran, Running};
pub use guest::{second_kernel, second_kernel_with};
pub use points::{CHANGES, Point, Tally, points, sample};
pub use snapshot::Snapshot;
pub use socket::{Socket, answer_notification, terminal};
pub use yard::Yard;

/// How long anything may take before the test fails. Generous: it bounds, it does not measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns from the test, with the reason printed, unless all of this is there: `root`, `netns`
/// (network namespaces with veth and nftables), `ipv6`, or a program by its name in quotes.
#[macro_export]
macro_rules! needs {
    ($($what:tt),+ $(,)?) => {
        $(if let Some(reason) = $crate::missing(stringify!($what).trim_matches('"')) {
            return $crate::skip(&reason);
        })+
    };
}

/// Why `what` cannot be had here, if it cannot.
pub fn missing(what: &str) -> Option<String> {
    let works = |words: &str| {
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let (there, reason) = match what {
        "root" => (works("unshare -mp --fork true"), "root".into()),
        "netns" => (
            works("unshare -n ip link add type veth") && works("unshare -n nft add table inet t"),
            "network namespaces, veth, ip(8) and nft(8)".into(),
        ),
        "ipv6" => (Path::new("/proc/net/if_inet6").exists(), "IPv6".into()),
        program => (which(program).is_some(), format!("the program {program}")),
    };
    (!there).then_some(reason)
}

/// Says that the calling test does not run; a failure where the machine should have everything.
pub fn skip(reason: &str) {
    assert!(env::var_os("REQUIRE").is_none_or(|value| value != "all"), "needs {reason}");
    elsewhere(reason);
}

/// Says that the calling test does not run here, where nobody requires it: it runs in the second
/// kernel (`second_kernel.rs`), which has what this one lacks.
pub fn elsewhere(reason: &str) {
    eprintln!("skipped: needs {reason}");
}

/// A program's file, looked for also where only root's PATH leads.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let everywhere = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    everywhere.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("GARTH") {
        return path.into();
    }
    // The test is target/[triple/]<profile>/deps/<name>-<hash>.
    let test = env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let built = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    ["release", "debug"]
        .map(|profile| target.join(profile).join("garth"))
        .into_iter()
        .filter(|path| built(path).is_some())
        .max_by_key(built)
        .unwrap_or_else(|| {
            panic!("no garth in {}: `cargo build -p garth`, or set GARTH", target.display())
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

/// Sends a signal, by name or number, to one process of ours. One that has ended is no failure.
pub fn kill(signal: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// The children of a process, oldest first.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
