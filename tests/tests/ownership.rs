//! Ownership: Garth removes what it made, and nothing else, whatever state directory, name or pid
//! namespace it is called from.

use garth_tests::{Bundle, Host, needs};

/// How often a command calls fdatasync(2) or a similar call.
fn syncs(host: &Host, command: &str) -> usize {
    let calls = "fdatasync,fsync,sync_file_range,syncfs";
    host.sh(&format!("strace -f -o /srv/trace -e trace={calls} {command}")).run().ok();
    host.read("/srv/trace").lines().filter(|line| line.contains("sync")).count()
}

#[test]
fn records_are_synced_only_where_a_reboot_leaves_them() {
    needs!(root, "strace");
    let host = Host::new();
    assert_eq!(syncs(&host, "$GARTH wrap --name web -- true"), 0);
    assert_eq!(syncs(&host, "$GARTH --root /srv/state wrap --name web -- true"), 1);
    let bundle = Bundle::new(&host);
    bundle.save();
    let run = |root: &str| format!("$GARTH --root {root} run --bundle /srv/{0} {0}", bundle.id);
    assert_eq!(syncs(&host, &run("/run/x")), 0);
    assert_eq!(syncs(&host, &run("/srv/state")), 1);
}

/// Is the sandbox's command, a `sleep SECONDS`, running?
fn sleeps(host: &Host, seconds: u32) -> bool {
    let list = host.sh("ps -e -o args=").run().ok();
    list.lines().any(|args| args.trim() == format!("sleep {seconds}"))
}

/// Kills the keeper of the only detached sandbox; it may have reported that this is running before
/// it executed the small program.
fn kill_keeper(host: &Host) {
    garth_tests::until("there is a keeper, which can be killed", || {
        (host.sh("kill -9 $(pgrep -f '^garth-keeper') 2>/dev/null").run().code == 0).then_some(())
    });
}

/// The error of a `garth` command that must fail.
#[track_caller]
fn refused(host: &Host, words: &str) -> String {
    let ran = host.garth(words).run();
    assert!(ran.code != 0, "{words}: {ran}");
    ran.stderr
}

const LIMITED: &str = "--memory 64m --pids-limit 64";

#[test]
fn a_start_leaves_the_running_sandbox_of_the_same_name_in_another_state_directory_alone() {
    needs!(root, cgroups);
    let host = Host::new();
    host.garth(&format!("--root /run/a wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    for limits in [LIMITED, "--memory 64m", "--pids-limit 9 --cpus 1"] {
        let words = format!("--root /run/b wrap --name web {limits} -- sleep 1002");
        assert!(refused(&host, &words).contains("sandbox's cgroup is"), "{limits}");
        assert!(sleeps(&host, 1001), "{limits}");
    }
    // Nor does a delete, or a gc, of something that was never made.
    host.garth("--root /run/b delete --force web").run();
    host.garth("--root /run/b gc").run().ok();
    assert!(sleeps(&host, 1001));
    host.garth("--root /run/a delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_start_that_is_killed_after_its_record_owns_nothing_of_another_of_its_name() {
    needs!(root, "strace", cgroups);
    let host = Host::new();
    let wrap = |root: &str, seconds: u32| {
        format!("--root /run/{root} wrap -d --name web {LIMITED} -- sleep {seconds}")
    };
    host.garth(&wrap("a", 1001)).run().ok();
    // For each directory that it makes: in its state directory, and then in the trees.
    for point in 1..9 {
        let inject = format!("-f -e trace=mkdir -e inject=mkdir:signal=KILL:when={point}");
        host.sh(&format!("strace {inject} $GARTH {} 2>/dev/null", wrap("b", 1002))).run();
        host.garth("--root /run/b gc").run().ok();
        assert!(sleeps(&host, 1001), "killed at mkdir {point}");
        assert!(!sleeps(&host, 1002), "killed at mkdir {point}");
    }
    // And an empty journal entry says nothing.
    host.sh("mkdir -p /run/b/sandboxes/web").run().ok();
    host.garth("--root /run/b gc").run().ok();
    assert!(sleeps(&host, 1001));
    host.garth("--root /run/a delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_leftover_owns_nothing_of_what_has_its_name_by_now() {
    needs!(root, cgroups);
    let host = Host::new();
    // Killed together with its keeper, so that nothing has released it.
    let words = format!("--root /run/a wrap -d --name web {LIMITED} -- sleep 1001");
    host.garth(&words).run().ok();
    kill_keeper(&host);
    host.sh("kill -9 $(pgrep -f '^sleep 1001')").run().ok();
    garth_tests::until("it has ended", || (!sleeps(&host, 1001)).then_some(()));
    // Its first process ends after the command.
    garth_tests::until("ps says so", || {
        host.garth("--root /run/a ps").run().ok().contains("ended").then_some(())
    });
    host.garth(&words.replace("/run/a", "/run/b").replace("1001", "1002")).run().ok();
    host.garth("--root /run/a gc").run().ok();
    assert!(sleeps(&host, 1002));
    host.garth("--root /run/b delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_name_whose_state_directory_was_lost_is_another_sandbox_when_it_is_used_again() {
    needs!(root, netns, cgroups);
    let host = Host::with_neighbour();
    let words = "wrap -d --name web --network private -p 8080:80 -- sleep";
    host.garth(&format!("wrap -d --name web {LIMITED} -p 8080:80 -- sleep 1001")).run().ok();
    host.sh("rm -rf /run/garth").run().ok();
    // The ports belong to the first one, and stay with it.
    assert!(refused(&host, &format!("{words} 1002")).contains("port 8080 is in use"));
    assert!(refused(&host, &format!("wrap --name web {LIMITED} -- true")).contains("cgroup is"));
    assert!(sleeps(&host, 1001));
    let elements = || host.sh("nft list map inet garth publish4").run().ok();
    assert!(elements().contains("8080"));
    host.garth("wrap -d --name web -p 8090:80 -- sleep 1002").run().ok();
    // The end of the first does not end the second or remove its record.
    host.sh("kill -9 $(pgrep -f '^sleep 1001')").run().ok();
    garth_tests::until("it has ended", || (!sleeps(&host, 1001)).then_some(()));
    garth_tests::until("its keeper has", || {
        (host.sh("pgrep -fc '^garth-keeper'").run().stdout == "1").then_some(())
    });
    assert!(sleeps(&host, 1002));
    assert!(host.garth("ps").run().ok().contains("running"));
    assert!(elements().contains("8090"));
    host.garth("delete --force web").run().ok();
    // What the first one had no longer has an owner: gc finds it.
    host.garth("gc").run().ok();
    host.assert_nothing_left();
}

#[test]
fn gc_in_another_pid_namespace_ends_nothing_that_it_cannot_see() {
    needs!(root, cgroups);
    let host = Host::new();
    host.garth(&format!("wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    kill_keeper(&host);
    // As if it had existed for long.
    host.sh("find /sys/fs/cgroup -path '*/garth/web' -exec touch -d '1 hour ago' {} +").run().ok();
    let elsewhere =
        |words: &str| host.sh(&format!("unshare --pid --fork --mount-proc $GARTH {words}")).run();
    // With another state directory, and with this one.
    elsewhere("--root /run/b gc").ok();
    assert!(sleeps(&host, 1001));
    for words in ["gc", "delete web", "delete --force web", "wrap --name web -- true"] {
        let ran = elsewhere(words);
        assert!(ran.code != 0 && sleeps(&host, 1001), "{words}: {ran}");
    }
    let taken = elsewhere(&format!("--root /run/b wrap --name web {LIMITED} -- true"));
    assert!(taken.code != 0 && sleeps(&host, 1001), "{taken}");
    assert!(host.garth("ps").run().ok().contains("running"));
    host.garth("delete --force web").run().ok();
    host.garth("--root /run/b gc").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_state_directory_that_cannot_be_looked_at_is_not_an_empty_one() {
    needs!(root, "strace", "python3", cgroups);
    let host = Host::new();
    host.garth(&format!("wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    // Kill the keeper: otherwise its lock would be found before the process has to be examined.
    kill_keeper(&host);
    let mut bundle = Bundle::named(&host, "box");
    bundle.script("exec sleep 1002").save();
    let create = "$GARTH run -d -b /srv/box box </dev/null >/dev/null 2>&1";
    host.sh(create).run().ok();
    // A file server that has gone away: ENOTCONN.
    let dead = "import ctypes, os
fd = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()
assert ctypes.CDLL(None).mount(b'dead', b'/run/garth', b'fuse', 0, options) == 0";
    host.write("/srv/dead.py", dead);
    host.sh("python3 /srv/dead.py").run().ok();
    let still = |words: &str| {
        assert!(sleeps(&host, 1001) && sleeps(&host, 1002), "{words}");
    };
    const VERBS: [&str; 12] = [
        "delete -f web",
        "delete web",
        "kill web KILL",
        "delete -f box",
        "delete box",
        "kill box KILL",
        "gc",
        "ps",
        "list",
        "state box",
        "check web",
        "wrap --name web -- true",
    ];
    for words in VERBS {
        let said = refused(&host, words);
        assert!(said.contains("ENOTCONN"), "{words}: {said}");
        still(words);
    }
    host.sh("umount -l /run/garth").run().ok();
    // A disk that cannot be read.
    for path in
        ["sandboxes/web", "sandboxes/web/process", "containers/box", "containers/box/process"]
    {
        let id = if path.contains("web") { "web" } else { "box" };
        for words in [format!("delete -f {id}"), format!("delete {id}"), "gc".into()] {
            if words == "gc" && id == "box" {
                continue;
            }
            let calls = "stat,lstat,statx,newfstatat,readlink,readlinkat,open,openat";
            let script = format!(
                "strace -o /dev/null -P /run/garth/{path} -e trace={calls} \
                 -e inject={calls}:error=EIO $GARTH {words}"
            );
            let ran = host.sh(&script).run();
            assert!(ran.code != 0 && ran.stderr.contains("EIO"), "{path}: {words}: {ran}");
            still(&words);
        }
    }
    host.garth("delete -f web").run().ok();
    host.garth("delete -f box").run().ok();
    host.assert_nothing_left();
}

#[test]
fn what_a_killed_delete_has_left_is_removed_by_gc_and_by_the_next_delete() {
    needs!(root, "strace");
    let host = Host::new();
    let bundle = Bundle::named(&host, "box");
    bundle.save();
    let left = || host.sh("ls -A /run/garth/containers 2>/dev/null").run().stdout;
    let leave = |kill: &str| {
        host.sh("$GARTH create -b /srv/box box </dev/null >/dev/null 2>&1").run().ok();
        host.sh(&format!("strace -o /dev/null -e inject={kill} $GARTH delete -f box")).run();
        assert!(left().contains("-gone-box"), "{kill}: {}", left());
    };
    leave("unlink:signal=KILL:when=1");
    host.garth("gc").run().ok();
    assert_eq!(left(), "");
    leave("unlink:signal=KILL:when=3");
    assert!(host.garth("list -q").run().ok().is_empty());
    host.garth("delete box").run().ok();
    assert_eq!(left(), "");
    assert!(refused(&host, "delete box").contains("does not exist"));
    host.assert_nothing_left();
}

#[test]
fn what_a_killed_launcher_held_can_be_had_again() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    let words = "wrap -p 8080:80 -p 127.0.0.1:8081:81/udp --pool4 10.99.0.0/31";
    for _ in 0..2 {
        let launcher = host.garth(&format!("{words} -- sleep 1001")).start();
        garth_tests::until("it runs", || sleeps(&host, 1001).then_some(()));
        launcher.signal("KILL");
        garth_tests::until("it has ended", || (!sleeps(&host, 1001)).then_some(()));
    }
    // The port, and the only available address.
    host.garth(&format!("{words} -- true")).run().ok();
    host.assert_nothing_left();
    // A running sandbox keeps what it has.
    host.garth("wrap -d --name web -p 8080:80 -- sleep 1001").run().ok();
    kill_keeper(&host);
    assert!(refused(&host, "wrap -p 8080:80 -- true").contains("8080"));
    assert!(sleeps(&host, 1001));
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn an_address_is_free_again_though_its_sockets_wait_for_a_peer_that_has_vanished() {
    needs!(root, netns, "nc.openbsd");
    let host = Host::with_neighbour();
    let words = "wrap -d --name box --network private --pool4 10.99.0.0/31 --";
    let peer = host.neighbour("exec nc.openbsd -lk 7000 >/dev/null </dev/null").start();
    let has_socket = |state: &str| {
        let there = host.neighbour(&format!("ss -Htan state {state} sport = :7000")).run().ok();
        (!there.is_empty()).then_some(())
    };
    garth_tests::until("the peer listens", || has_socket("listening"));
    host.sh(&format!("$GARTH {words} nc.openbsd 192.0.2.2 7000")).run().ok();
    garth_tests::until("it is connected", || has_socket("established"));
    // Nobody acknowledges anything from now on: the kernel tries for minutes, with the namespace.
    host.neighbour("ip addr del 192.0.2.2/24 dev lan0").run().ok();
    host.garth("delete --force box").run().ok();
    host.garth(&format!("{words} sleep 1001")).run().ok();
    assert!(sleeps(&host, 1001));
    host.garth("delete --force box").run().ok();
    host.sh("pkill -xf 'nc.openbsd -lk 7000'").run().ok();
    peer.wait();
    host.assert_nothing_left();
}

#[test]
fn an_address_is_free_again_once_the_kernel_has_removed_its_link() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    let words = "wrap -d --name box --network private --pool4 10.99.0.0/31 -- sleep 1001";
    // A process of somebody else keeps the network namespace, and with it link and route.
    let outlive = |seconds: u32| {
        host.garth(words).run().ok();
        let hold = format!(
            "pid=$(pgrep -xf 'sleep 1001') && {{ sleep {seconds} <&9 >/dev/null 2>&1 & }} 9</proc/$pid/ns/net"
        );
        host.sh(&hold).run().ok();
        host.garth("delete --force box").run().ok();
    };
    outlive(2);
    host.garth(words).run().ok();
    host.garth("delete --force box").run().ok();
    // Longer than a start waits: the link is removed for it, but not for a plan.
    outlive(1002);
    let plan = words.replace("wrap -d --name box", "explain wrap --name box");
    let said = refused(&host, &plan);
    assert!(said.contains("link garth0a630001 of an earlier start is still there"), "{said}");
    host.garth(words).run().ok();
    host.sh("pkill -xf 'sleep 1002'").run().ok();
    // That of a sandbox that lives is not, also if its state directory is another and it has lost its keeper.
    let other = "--root /srv/other wrap --name twin --network private --pool4 10.99.0.0/31 -- true";
    assert!(refused(&host, other).contains("no free address"));
    kill_keeper(&host);
    assert!(refused(&host, other).contains("no free address"));
    assert!(sleeps(&host, 1001));
    host.garth("delete --force box").run().ok();
    host.assert_nothing_left();
}
