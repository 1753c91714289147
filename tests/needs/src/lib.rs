//! What a test needs from the machine, stated in its first line: `needs!(root, netns, "nginx")`.
//!
//! Where something is missing, the test prints why, notes it in the file `$SKIPPED` for the summary
//! at the end of `tests/run`, and passes. `$REQUIRE` lists what this machine must have (`root netns
//! program`, or `all`): where such a thing is missing, the test fails.
//!
//! | need | meaning |
//! |---|---|
//! | `root` | root, with pid and mount namespaces, not in a chroot: joining a mount namespace
//! leaves it |
//! | `userns` | user namespaces, which the kernel does not make in a chroot |
//! | `netns` | network namespaces, veth, nftables |
//! | `ipv6` | IPv6 |
//! | `cgroups` | a cgroup tree with controllers, of either version |
//! | `v1`, `"v1:CONTROLLER"` | cgroups of version 1, with the memory or that controller |
//! | `v2` | the unified cgroup tree, with the memory controller |
//! | `uml` | a processor on which User-Mode Linux can run |
//! | `"PROGRAM"`, `"/PATH"` | a program; required as `program` |
//!
//! A test with another kind of need calls [`skip`] with a name of its own for it.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// Returns from the test, with the reason noted, unless all of this is available.
#[macro_export]
macro_rules! needs {
    ($($what:tt),+ $(,)?) => {
        $(if let Some(reason) = $crate::missing(stringify!($what).trim_matches('"')) {
            return $crate::skip($crate::class(stringify!($what).trim_matches('"')), &reason);
        })+
    };
}

/// The word by which `$REQUIRE` requests a need.
pub fn class(what: &str) -> &str {
    match what.split(':').next().unwrap_or(what) {
        known @ ("root" | "userns" | "cgroups" | "netns" | "ipv6" | "v1" | "v2" | "uml") => known,
        _ => "program",
    }
}

/// Why `what` is not available here, if it is not.
pub fn missing(what: &str) -> Option<String> {
    let (there, reason) = match what.split_once(':').unwrap_or((what, "memory")) {
        ("root", _) if in_chroot() => {
            (false, "a root that is its mount namespace's: this is a chroot".to_owned())
        }
        ("root", _) => (works("unshare -mp --fork true"), "root".to_owned()),
        ("userns", _) => (
            works("unshare --user true"),
            "user namespaces, which there are not in a chroot".to_owned(),
        ),
        ("netns", _) => (
            works("unshare -n ip link add type veth") && works("unshare -n nft add table inet t"),
            "network namespaces, veth, ip(8) and nft(8)".to_owned(),
        ),
        ("cgroups", _) => {
            (has_v1("memory") || has_v2(), "a cgroup tree with controllers".to_owned())
        }
        ("ipv6", _) => (Path::new("/proc/net/if_inet6").exists(), "IPv6".to_owned()),
        ("v1", controller) => {
            (has_v1(controller), format!("the {controller} controller of cgroups version 1"))
        }
        ("v2", _) => (has_v2(), "the unified cgroup tree with controllers".to_owned()),
        // Linux 6.1 in user mode reads 2.6 kB of a process's registers and cannot write them back
        // if there are more: it dies at its first process.
        ("uml", _) => {
            (!has_amx(), "User-Mode Linux, which cannot run on a processor with AMX".to_owned())
        }
        _ => (which(what).is_some(), format!("the program {what}")),
    };
    (!there).then_some(reason)
}

/// Notes that the calling test does not run because it needs `reason`.
///
/// # Panics
/// If `$REQUIRE` lists `need`, or is `all`.
pub fn skip(need: &str, reason: &str) {
    let required = env::var("REQUIRE").unwrap_or_default();
    let is_required = required.split_whitespace().any(|word| word == need || word == "all");
    assert!(!is_required, "needs {reason}, and REQUIRE={required:?}");
    // One line each, whatever the error says.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("skipped: needs {reason}");
    let Some(file) = env::var_os("SKIPPED") else { return };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let line = format!("{reason}\t{test}\n");
    let noted = fs::OpenOptions::new().create(true).append(true).open(&file);
    noted.and_then(|mut file| file.write_all(line.as_bytes())).unwrap_or_else(|error| {
        panic!("note a skipped test in {}: {error}", file.display());
    });
}

/// The path of a program, searched for in root's PATH as well.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let everywhere = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    everywhere.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether a v1 tree with this controller is mounted. A directory of that name proves nothing:
/// engines make some that are not mounts.
pub fn has_v1(controller: &str) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split_once(" - cgroup ")).any(|(_, rest)| {
        let options = rest.rsplit(' ').next().unwrap_or_default();
        options.split(',').any(|option| option == controller)
    })
}

/// Whether /sys/fs/cgroup is the unified tree and has controllers.
pub fn has_v2() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|word| word == "memory")
}

/// Whether this processor's registers are the 8 kB larger ones of AMX.
fn has_amx() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "amx_tile")
}

/// Whether joining our own mount namespace leads to another root (setns(2)).
fn in_chroot() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let root = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let own = ["stat", "-c", "%d:%i", "/"];
    let joined = [&["nsenter", "--mount=/proc/self/ns/mnt"], &own[..]].concat();
    // A process that may not join is not root.
    *ANSWER.get_or_init(|| is_root() && root(&joined) != root(&own))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| MetadataExt::uid(&own) == 0)
}

fn works(words: &str) -> bool {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_required_by_its_kind() {
        assert_eq!(class("v1:freezer"), "v1");
        assert_eq!(class("root"), "root");
        assert_eq!(class("/usr/bin/python3"), "program");
    }

    #[test]
    fn what_is_there_is_not_missing() {
        assert_eq!(missing("sh"), None);
        assert_eq!(missing("no-such").as_deref(), Some("the program no-such"));
        assert!(!has_v1("no-such"));
    }

    #[test]
    fn a_skipped_test_is_noted_and_fails_where_the_need_is_required() {
        // Each in a process of its own, as the environment is shared by all threads.
        if let Ok(need) = env::var("GARTH_NEEDS_SKIP") {
            return skip(&need, "a thing");
        }
        let name = "tests::a_skipped_test_is_noted_and_fails_where_the_need_is_required";
        let file = env::temp_dir().join(format!("garth-needs-{}", std::process::id()));
        let run = |require: &str| {
            let me = env::current_exe().expect("this test has a file");
            let mut again = Command::new(me);
            again.args(["--exact", name]).env("GARTH_NEEDS_SKIP", "thing");
            again.env("REQUIRE", require).env("SKIPPED", &file);
            again.output().expect("it runs").status.success()
        };
        assert!(run("root") && !run("root thing") && !run("all"));
        assert_eq!(fs::read_to_string(&file).expect("notes"), format!("a thing\t{name}\n"));
        fs::remove_file(file).expect("the notes go");
    }
}
