//! Ownership: Garth removes what it made, and nothing else, whatever state directory, name or pid
//! namespace it is called from.

use garth_tests::{Bundle, Yard, needs};

/// How often a command calls fdatasync(2) or a similar call.
fn syncs(yard: &Yard, command: &str) -> usize {
    let calls = "fdatasync,fsync,sync_file_range,syncfs";
    yard.sh(&format!("strace -f -o /srv/trace -e trace={calls} {command}")).run().ok();
    yard.read("/srv/trace").lines().filter(|line| line.contains("sync")).count()
}

#[test]
fn records_are_synced_only_where_a_reboot_leaves_them() {
    needs!(root, "strace");
    let yard = Yard::new();
    assert_eq!(syncs(&yard, "$GARTH wrap --name web -- true"), 0);
    assert_eq!(syncs(&yard, "$GARTH --root /srv/state wrap --name web -- true"), 1);
    let bundle = Bundle::new(&yard);
    bundle.save();
    let run = |root: &str| format!("$GARTH --root {root} run --bundle /srv/{0} {0}", bundle.id);
    assert_eq!(syncs(&yard, &run("/run/x")), 0);
    assert_eq!(syncs(&yard, &run("/srv/state")), 1);
}

/// Is the sandbox's command, a `sleep SECONDS`, running?
fn sleeps(yard: &Yard, seconds: u32) -> bool {
    let list = yard.sh("ps -e -o args=").run().ok();
    list.lines().any(|args| args.trim() == format!("sleep {seconds}"))
}

/// Kills the keeper of the only detached sandbox; it may have reported that this is running before
/// it executed the small program.
fn kill_keeper(yard: &Yard) {
    garth_tests::until("there is a keeper, which can be killed", || {
        (yard.sh("kill -9 $(pgrep -f '^garth-keeper') 2>/dev/null").run().code == 0).then_some(())
    });
}

/// The error of a `garth` command that must fail.
#[track_caller]
fn refused(yard: &Yard, words: &str) -> String {
    let ran = yard.garth(words).run();
    assert!(ran.code != 0, "{words}: {ran}");
    ran.stderr
}

const LIMITED: &str = "--memory 64m --pids-limit 64";

#[test]
fn a_start_leaves_the_running_sandbox_of_the_same_name_in_another_state_directory_alone() {
    needs!(root, cgroups);
    let yard = Yard::new();
    yard.garth(&format!("--root /run/a wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    for limits in [LIMITED, "--memory 64m", "--pids-limit 9 --cpus 1"] {
        let words = format!("--root /run/b wrap --name web {limits} -- sleep 1002");
        assert!(refused(&yard, &words).contains("sandbox's cgroup is"), "{limits}");
        assert!(sleeps(&yard, 1001), "{limits}");
    }
    // Nor does a delete, or a gc, of something that was never made.
    yard.garth("--root /run/b delete --force web").run();
    yard.garth("--root /run/b gc").run().ok();
    assert!(sleeps(&yard, 1001));
    yard.garth("--root /run/a delete --force web").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn a_start_that_is_killed_after_its_record_owns_nothing_of_another_of_its_name() {
    needs!(root, "strace", cgroups);
    let yard = Yard::new();
    let wrap = |root: &str, seconds: u32| {
        format!("--root /run/{root} wrap -d --name web {LIMITED} -- sleep {seconds}")
    };
    yard.garth(&wrap("a", 1001)).run().ok();
    // For each directory that it makes: in its state directory, and then in the trees.
    for point in 1..9 {
        let inject = format!("-f -e trace=mkdir -e inject=mkdir:signal=KILL:when={point}");
        yard.sh(&format!("strace {inject} $GARTH {} 2>/dev/null", wrap("b", 1002))).run();
        yard.garth("--root /run/b gc").run().ok();
        assert!(sleeps(&yard, 1001), "killed at mkdir {point}");
        assert!(!sleeps(&yard, 1002), "killed at mkdir {point}");
    }
    // And an empty journal entry says nothing.
    yard.sh("mkdir -p /run/b/sandboxes/web").run().ok();
    yard.garth("--root /run/b gc").run().ok();
    assert!(sleeps(&yard, 1001));
    yard.garth("--root /run/a delete --force web").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn a_leftover_owns_nothing_of_what_has_its_name_by_now() {
    needs!(root, cgroups);
    let yard = Yard::new();
    // Killed together with its keeper, so that nothing has released it.
    let words = format!("--root /run/a wrap -d --name web {LIMITED} -- sleep 1001");
    yard.garth(&words).run().ok();
    kill_keeper(&yard);
    yard.sh("kill -9 $(pgrep -f '^sleep 1001')").run().ok();
    garth_tests::until("it has ended", || (!sleeps(&yard, 1001)).then_some(()));
    assert!(yard.garth("--root /run/a ps").run().ok().contains("ended"));
    yard.garth(&words.replace("/run/a", "/run/b").replace("1001", "1002")).run().ok();
    yard.garth("--root /run/a gc").run().ok();
    assert!(sleeps(&yard, 1002));
    yard.garth("--root /run/b delete --force web").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn a_name_whose_state_directory_was_lost_is_another_sandbox_when_it_is_used_again() {
    needs!(root, netns, cgroups);
    let yard = Yard::with_neighbour();
    let words = "wrap -d --name web --network private -p 8080:80 -- sleep";
    yard.garth(&format!("wrap -d --name web {LIMITED} -p 8080:80 -- sleep 1001")).run().ok();
    yard.sh("rm -rf /run/garth").run().ok();
    // The ports belong to the first one, and stay with it.
    assert!(refused(&yard, &format!("{words} 1002")).contains("port 8080 is in use"));
    assert!(refused(&yard, &format!("wrap --name web {LIMITED} -- true")).contains("cgroup is"));
    assert!(sleeps(&yard, 1001));
    let elements = || yard.sh("nft list map inet garth publish4").run().ok();
    assert!(elements().contains("8080"));
    yard.garth("wrap -d --name web -p 8090:80 -- sleep 1002").run().ok();
    // The end of the first does not end the second or remove its record.
    yard.sh("kill -9 $(pgrep -f '^sleep 1001')").run().ok();
    garth_tests::until("it has ended", || (!sleeps(&yard, 1001)).then_some(()));
    garth_tests::until("its keeper has", || {
        (yard.sh("pgrep -fc '^garth-keeper'").run().stdout == "1").then_some(())
    });
    assert!(sleeps(&yard, 1002));
    assert!(yard.garth("ps").run().ok().contains("running"));
    assert!(elements().contains("8090"));
    yard.garth("delete --force web").run().ok();
    // What the first one had no longer has an owner: gc finds it.
    yard.garth("gc").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn gc_in_another_pid_namespace_ends_nothing_that_it_cannot_see() {
    needs!(root, cgroups);
    let yard = Yard::new();
    yard.garth(&format!("wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    kill_keeper(&yard);
    // As if it had existed for long.
    yard.sh("find /sys/fs/cgroup -path '*/garth/web' -exec touch -d '1 hour ago' {} +").run().ok();
    let elsewhere =
        |words: &str| yard.sh(&format!("unshare --pid --fork --mount-proc $GARTH {words}")).run();
    // With another state directory, and with this one.
    elsewhere("--root /run/b gc").ok();
    assert!(sleeps(&yard, 1001));
    for words in ["gc", "delete web", "delete --force web", "wrap --name web -- true"] {
        let ran = elsewhere(words);
        assert!(ran.code != 0 && sleeps(&yard, 1001), "{words}: {ran}");
    }
    let taken = elsewhere(&format!("--root /run/b wrap --name web {LIMITED} -- true"));
    assert!(taken.code != 0 && sleeps(&yard, 1001), "{taken}");
    assert!(yard.garth("ps").run().ok().contains("running"));
    yard.garth("delete --force web").run().ok();
    yard.garth("--root /run/b gc").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn a_state_directory_that_cannot_be_looked_at_is_not_an_empty_one() {
    needs!(root, "strace", "python3", cgroups);
    let yard = Yard::new();
    yard.garth(&format!("wrap -d --name web {LIMITED} -- sleep 1001")).run().ok();
    // Kill the keeper: otherwise its lock would be found before the process has to be examined.
    kill_keeper(&yard);
    let mut bundle = Bundle::named(&yard, "box");
    bundle.script("exec sleep 1002").save();
    let create = "$GARTH run -d -b /srv/box box </dev/null >/dev/null 2>&1";
    yard.sh(create).run().ok();
    // A file server that has gone away: ENOTCONN.
    let dead = "import ctypes, os
fd = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()
assert ctypes.CDLL(None).mount(b'dead', b'/run/garth', b'fuse', 0, options) == 0";
    yard.write("/srv/dead.py", dead);
    yard.sh("python3 /srv/dead.py").run().ok();
    let still = |words: &str| {
        assert!(sleeps(&yard, 1001) && sleeps(&yard, 1002), "{words}");
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
        let said = refused(&yard, words);
        assert!(said.contains("ENOTCONN"), "{words}: {said}");
        still(words);
    }
    yard.sh("umount -l /run/garth").run().ok();
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
            let ran = yard.sh(&script).run();
            assert!(ran.code != 0 && ran.stderr.contains("EIO"), "{path}: {words}: {ran}");
            still(&words);
        }
    }
    yard.garth("delete -f web").run().ok();
    yard.garth("delete -f box").run().ok();
    yard.assert_nothing_left();
}

#[test]
fn what_a_killed_delete_has_left_is_removed_by_gc_and_by_the_next_delete() {
    needs!(root, "strace");
    let yard = Yard::new();
    let bundle = Bundle::named(&yard, "box");
    bundle.save();
    let left = || yard.sh("ls -A /run/garth/containers 2>/dev/null").run().stdout;
    let leave = |kill: &str| {
        yard.sh("$GARTH create -b /srv/box box </dev/null >/dev/null 2>&1").run().ok();
        yard.sh(&format!("strace -o /dev/null -e inject={kill} $GARTH delete -f box")).run();
        assert!(left().contains("-gone-box"), "{kill}: {}", left());
    };
    leave("unlink:signal=KILL:when=1");
    yard.garth("gc").run().ok();
    assert_eq!(left(), "");
    leave("unlink:signal=KILL:when=3");
    assert!(yard.garth("list -q").run().ok().is_empty());
    yard.garth("delete box").run().ok();
    assert_eq!(left(), "");
    assert!(refused(&yard, "delete box").contains("does not exist"));
    yard.assert_nothing_left();
}

#[test]
fn what_a_killed_launcher_held_can_be_had_again() {
    needs!(root, netns);
    let yard = Yard::with_neighbour();
    let words = "wrap -p 8080:80 -p 127.0.0.1:8081:81/udp --pool4 10.99.0.0/31";
    for _ in 0..2 {
        let launcher = yard.garth(&format!("{words} -- sleep 1001")).start();
        garth_tests::until("it runs", || sleeps(&yard, 1001).then_some(()));
        launcher.signal("KILL");
        garth_tests::until("it has ended", || (!sleeps(&yard, 1001)).then_some(()));
    }
    // The port, and the only available address.
    yard.garth(&format!("{words} -- true")).run().ok();
    yard.assert_nothing_left();
    // A running sandbox keeps what it has.
    yard.garth("wrap -d --name web -p 8080:80 -- sleep 1001").run().ok();
    kill_keeper(&yard);
    assert!(refused(&yard, "wrap -p 8080:80 -- true").contains("8080"));
    assert!(sleeps(&yard, 1001));
    yard.garth("delete --force web").run().ok();
    yard.assert_nothing_left();
}
