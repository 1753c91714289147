//! cgroups under a container's control: the host's release agent, and trees that hide something.

use garth_tests::Bundle;

/// Only the container's own part of a tree is there; the agent is a file in the tree's root.
#[test]
fn cve_2022_0492_no_release_agent_is_in_sight() {
    garth_tests::needs!(root, userns);
    for own_namespace in [false, true] {
        let host = garth_tests::Host::new();
        let mut bundle = Bundle::new(&host);
        if own_namespace {
            bundle.namespace("cgroup", None);
        }
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
        let script = "find /sys/fs/cgroup -name release_agent
            find /sys/fs/cgroup -name devices.allow | wc -l
            mkdir /tmp/c; mount -t cgroup -o memory cgroup /tmp/c 2>/dev/null && echo mounted
            unshare -UrmC sh -c 'mount -t cgroup -o memory cgroup /tmp/c 2>/dev/null &&
                (exec 3>>/tmp/c/release_agent) 2>/dev/null && echo opened'
            true";
        let trees = if garth_tests::has_v1("devices") { "1" } else { "0" };
        assert_eq!(bundle.script(script).run().ok(), trees, "cgroup namespace: {own_namespace}");
    }
}

/// A read-only mount of them is read-only, down to the last tree.
#[test]
fn cve_2022_0492_read_only_trees_are_read_only() {
    bundle!(host, bundle);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let script = "for tree in /sys/fs/cgroup/*/; do mkdir $tree/x 2>/dev/null && echo $tree
            (exec 3>>$tree/notify_on_release) 2>/dev/null && echo $tree
        done; mkdir /sys/fs/cgroup/x 2>/dev/null && echo top; true";
    assert_eq!(bundle.script(script).run().ok(), "");
}

/// Directories whose path is longer than the kernel accepts, with names that are not UTF-8. There
/// is a process in the last.
const HIDE: &str = "cd /sys/fs/cgroup/pids 2>/dev/null || cd /sys/fs/cgroup || exit 1
    name=$(printf '\\377'); while [ ${#name} -lt 250 ]; do name=x$name; done
    n=0; while [ $n -lt 20 ]; do mkdir $name && cd -P $name || exit 1; n=$((n + 1)); done
    sleep 700 & echo $! >cgroup.procs && echo hidden; cd /";

fn hiding(bundle: &mut Bundle) {
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    bundle.script(&format!("{HIDE}; exec sleep 600")).detach().ok();
    garth_tests::until("it is hidden", || (bundle.output() == "hidden").then_some(()));
}

#[test]
fn a_cgroup_too_deep_to_be_named_is_deleted() {
    bundle!(host, bundle);
    hiding(&mut bundle);
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_process_in_a_cgroup_too_deep_to_be_named_is_found() {
    bundle!(host, bundle);
    // When the first process ends, the others do not.
    bundle.without_namespace("pid");
    hiding(&mut bundle);
    let hidden = "pgrep -x -f 'sleep 700'";
    let pid = host.sh(hidden).run().ok();
    let listed = bundle.call(&format!("ps --format json {}", bundle.id)).run().ok();
    assert!(listed.contains(&pid), "{pid} is not in {listed}");
    bundle.call(&format!("kill --all {} TERM", bundle.id)).run().ok();
    garth_tests::until("it ends", || (host.sh(hidden).run().code == 1).then_some(()));
}

#[test]
fn nobody_in_a_cgroup_too_deep_to_be_named_survives() {
    bundle!(host, bundle);
    bundle.without_namespace("pid");
    hiding(&mut bundle);
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
}
