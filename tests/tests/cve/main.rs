//! The known container escapes, each tried on the real binary. One file per class; the numbers in
//! the names are those of the CVEs. docs/security-tests.md says which missing defence each test was
//! seen to catch.
//!
//! The attacker is a root file system, a running container, or the caller's environment. Races are
//! made certain where delaying one system call does so (strace(1)), and are bounded otherwise.
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

mod binary;
mod capabilities;
mod cgroups;
mod descriptors;
mod devices;
mod inherited;
mod joining;
mod keyring;
mod mounts;
mod procfs;
mod seccomp;
mod state;
mod terminal;
mod users;

use std::fs;

use garth_tests::Bundle;

/// Puts the program `intruder` into the root file system.
fn with_intruder(bundle: &Bundle) {
    let file = bundle.host().path(&bundle.rootfs("/bin/intruder"));
    fs::copy(env!("CARGO_BIN_EXE_intruder"), file).unwrap();
}

/// The value of a line of /proc/PID/status.
#[track_caller]
fn status_of<'a>(status: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim);
    status.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in\n{status}"))
}
