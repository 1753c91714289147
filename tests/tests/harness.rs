//! The harness itself: it notices what is left behind, and leaves nothing behind itself.

use garth_tests::{Host, needs};

#[test]
fn what_is_left_on_a_host_is_seen() {
    needs!(root, netns);
    let host = Host::new();
    host.assert_nothing_left();
    let script = "sleep 60 >/dev/null 2>&1 &
        mount -t tmpfs tmpfs /mnt
        ip link add garth0 type veth peer name garth1
        nft add table inet garth
        nft add map inet garth publish4 '{ type inet_service : ipv4_addr; }'
        nft add element inet garth publish4 '{ 80 : 192.0.2.1 }'
        mkdir -p /run/garth/sandboxes/web
        echo x >/run/garth/sandboxes/web/record
        awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts | while read tree; do
            mkdir -p $tree/garth/web
        done";
    host.sh(script).run().ok();
    let left = host.left();
    for what in [
        "process ",
        "mount ",
        "link garth0",
        "element of publish4",
        "file /run/garth/sandboxes/web",
        "file /run/garth/sandboxes/web/record",
    ] {
        assert!(left.iter().any(|line| line.starts_with(what)), "{what} is not in {left:#?}");
    }
    let cgroups = left.iter().filter(|line| line.starts_with("cgroup ")).count();
    let trees = host.sh("grep -c ' cgroup2* ' /proc/mounts").run().stdout;
    assert!(cgroups >= trees.parse::<usize>().unwrap_or_default(), "{left:#?}");
}

#[test]
fn a_host_takes_everything_with_it() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    let running = host.sh("echo $$; exec sleep 600").start();
    running.line();
    let pid = running.pid();
    drop(host);
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}/ns")).exists() || running.wait().code == -9
    );
}

#[test]
fn results_and_output_of_commands_come_back() {
    needs!(root);
    let host = Host::new();
    let ran = host.sh("cat; echo error >&2; exit 7").input("text").run();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (7, "text", "error"));
    assert_eq!(host.sh("kill -TERM $$").run().code, -15);
}
