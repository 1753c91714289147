//! The cost of a start is mostly kernel time, so its system calls are counted. The bounds leave
//! room for a few more; if one is exceeded, look for what the start does twice.
#![allow(clippy::unwrap_used, reason = "a test")]

use garth_tests::{Bundle, Call, Host, needs};

/// The lowest of three runs, as waiting for other processes takes calls too.
fn fewest(host: &Host, traced: impl Fn() -> Call) -> usize {
    let run = |_| {
        traced().run().ok();
        calls(&host.read("/srv/trace"))
    };
    (0..3).map(run).min().unwrap()
}

fn calls(trace: &str) -> usize {
    trace.lines().filter(|line| !line.contains(" resumed>") && line.contains('(')).count()
}

/// How many: the file has one line for each.
fn lines(host: &Host, file: &str) -> usize {
    host.sh(&format!("cat {file}")).run().ok().lines().count()
}

#[test]
fn a_container_starts_and_goes_with_few_system_calls() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exit 0");
    // A mount for each tree, at a mount point that has to be made.
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "nodev", "noexec"]);
    let run = || bundle.sh("exec strace -f -qq -o /srv/trace $R run --bundle $B $ID");
    let count = fewest(&host, run);
    let trees = lines(&host, "/proc/self/cgroup");
    let most = 640 + 18 * trees;
    assert!(count <= most, "{count} calls with {trees} cgroup trees, more than {most}");
    bundle.assert_nothing_left();
}

#[test]
fn a_sandbox_starts_and_goes_with_few_system_calls() {
    needs!(root, netns, "strace");
    let host = Host::new();
    let mounts = lines(&host, "/proc/self/mountinfo");
    for (flags, most) in [("", 560), ("--network private -p 8080:80", 770)] {
        let wrap = format!("$GARTH wrap {flags} -- true");
        // The first one makes the firewall's table and starts its holder.
        host.sh(&wrap).run().ok();
        let count = fewest(&host, || host.sh(&format!("exec strace -f -qq -o /srv/trace {wrap}")));
        let most = most + 8 * mounts;
        assert!(
            count <= most,
            "wrap {flags}: {count} calls with {mounts} mounts, more than {most}"
        );
    }
    host.assert_nothing_left();
}
