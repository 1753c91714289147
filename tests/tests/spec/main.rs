//! The specification of an OCI runtime, tested on the real binary: the runtime specification 1.3
//! for Linux, and runc's command line where the specification is silent. One file per part.
//!
//! `RUNTIME=runc cargo test -p garth-tests --test spec` tests another runtime, and
//! tests/conformance tests all of them and writes docs/conformance.md.
#![allow(clippy::unwrap_used, reason = "a test")]

/// A test host and a bundle on it.
macro_rules! bundle {
    ($host:ident, $bundle:ident) => {
        garth_tests::needs!(root);
        let $host = garth_tests::Host::new();
        #[allow(unused_mut, reason = "not every test changes its bundle")]
        let mut $bundle = garth_tests::Bundle::new(&$host);
    };
}

mod capabilities;
mod cgroups_v1;
mod cgroups_v2;
mod cli;
mod devices;
mod errors;
mod exec;
mod hooks;
mod lifecycle;
mod masked;
mod mounts;
mod namespaces;
mod notify;
mod process;
mod rlimits;
mod rootfs;
mod seccomp;
mod state;
mod sysctl;
mod terminal;
mod update;
mod user;

use garth_tests::Bundle;

/// The runtime must refuse to run this: an error message, no process, nothing left. Returns the
/// message.
#[track_caller]
fn refused(bundle: &mut Bundle) -> String {
    let ran = bundle.script("echo it runs").run();
    assert_ne!(ran.code, 0, "not refused: {ran}");
    assert_eq!(ran.stdout, "", "refused, but run before that: {ran}");
    let words = bundle.log_text() + &ran.stderr;
    assert!(!words.is_empty(), "refused without a word");
    bundle.assert_nothing_left();
    words
}

/// A line of /proc/self/mountinfo.
#[derive(Debug)]
struct Mounted {
    /// What part of the file system is mounted.
    root: String,
    options: Vec<String>,
    /// shared:N, master:N, unbindable.
    propagation: Vec<String>,
    kind: String,
    source: String,
    superblock: Vec<String>,
}

/// The last mount on `point`.
fn mounted(table: &str, point: &str) -> Option<Mounted> {
    table.lines().rev().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let words: Vec<&str> = mount.split(' ').collect();
        let split = |text: &str| text.split(',').map(str::to_owned).collect();
        let mut rest = filesystem.split(' ').map(str::to_owned);
        (words[4] == point).then(|| Mounted {
            root: words[3].to_owned(),
            options: split(words[5]),
            propagation: words[6..].iter().map(|&word| word.to_owned()).collect(),
            kind: rest.next().unwrap(),
            source: rest.next().unwrap(),
            superblock: split(&rest.next().unwrap()),
        })
    })
}

/// The mount on `point` in the container, which is run to read it.
#[track_caller]
fn mount_of(bundle: &mut Bundle, point: &str) -> Mounted {
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    mounted(&table, point).unwrap_or_else(|| panic!("no mount on {point} in\n{table}"))
}

/// The value of a line of /proc/PID/status, trimmed.
fn status_of(status: &str, name: &str) -> String {
    let value =
        |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim).map(str::to_owned);
    status.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in\n{status}"))
}
