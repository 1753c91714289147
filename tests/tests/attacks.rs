//! What a workload does to get out, and what a hostile root file system or state directory does to
//! the caller.

use garth_tests::{Bundle, Host, needs, until};

/// Between its start and its execve, pid 1 shares the caller's memory and has its descriptors.
#[test]
fn the_command_never_runs_beside_an_init_that_still_is_a_part_of_the_caller() {
    needs!(root, "strace", cgroups);
    let host = Host::new();
    let attack = "for i in 1 2 3 4 5; do
            (exec 3<>/proc/1/mem) && echo memory
            readlink /proc/1/exe
            ls /proc/1/fd
        done 2>/dev/null; true";
    for user in ["", "-u www-data"] {
        for more in ["", "--pids-limit 50"] {
            // The init's execve takes a second.
            let ran = host
                .sh(&format!(
                    "exec strace -f -o /dev/null -e inject=execveat:delay_enter=1000000 \
                        $GARTH wrap {user} {more} -- sh -c '{attack}'"
                ))
                .run();
            assert_eq!(ran.ok(), "", "wrap {user} {more}");
        }
    }
    host.assert_nothing_left();
}

/// Without XDG_RUNTIME_DIR the state is below /tmp, where any user can be first.
#[test]
fn records_that_someone_else_has_laid_there_are_not_believed() {
    needs!(root, "setpriv");
    let host = Host::new();
    // A record of a "sandbox" whose first process belongs to the victim.
    let script = "
        setpriv --reuid=12345 --regid=12345 --clear-groups sleep 1000 & victim=$!
        until [ \"$(cut -d' ' -f2 /proc/$victim/stat)\" = '(sleep)' ]; do sleep 0.01; done
        state=/srv/garth-12345
        $GARTH --root $state wrap --name bait -- sh -c 'echo; exec sleep 1000' >/srv/started & bait=$!
        until [ -s /srv/started ]; do sleep 0.01; done
        cp -r $state /srv/copy
        kill -9 $bait
        rm -rf $state; mv /srv/copy $state
        start=$(cut -d' ' -f22 /proc/$victim/stat)
        ln -sfn \"$victim $start $(cat /proc/sys/kernel/random/boot_id)\" $state/sandboxes/bait/process
        chown -R -h 1000:1000 $state; chmod -R a+rX $state
        for verb in ps gc 'kill bait' 'delete bait' 'delete --force bait' 'exec bait true'; do
            setpriv --reuid=12345 --regid=12345 --clear-groups $GARTH --root $state $verb 2>&1
            echo $?
        done
        kill -0 $victim && echo alive
        kill $victim";
    let ran = host.sh(script).run().ok();
    let refused = ran.matches("belongs to another user").count();
    assert_eq!((refused, ran.matches("\n125").count()), (6, 6), "{ran}");
    assert!(ran.ends_with("alive"), "{ran}");
}

#[test]
fn a_gc_beside_a_start_does_not_make_it_fail() {
    needs!(root, "strace");
    let host = Host::new();
    // The new entry is not locked for a second, and gc takes it for a leftover.
    let script = "
        strace -o /dev/null -e inject=flock:delay_enter=1000000:when=1 \
            $GARTH wrap --name web -- echo started & start=$!
        until ls -A /run/garth/sandboxes 2>/dev/null | grep -q web; do sleep 0.01; done
        $GARTH gc
        wait $start";
    let ran = host.sh(script).run().ok();
    assert!(ran.contains("removed sandbox .") && ran.ends_with("started"), "{ran}");
    host.assert_nothing_left();
}

#[test]
fn a_sandbox_that_ends_while_gc_looks_is_no_failure() {
    needs!(root, "strace");
    let host = Host::new();
    // A second passes between reading the names and examining each.
    let script = "
        $GARTH wrap --name web -- sh -c 'echo; read end' </srv/fifo >/srv/started & start=$!
        exec 3>/srv/fifo
        until [ -s /srv/started ]; do sleep 0.01; done
        strace -o /srv/trace -e inject=getdents64:delay_exit=1000000:when=1 $GARTH gc & gc=$!
        until grep -q getdents64 /srv/trace 2>/dev/null; do sleep 0.01; done
        echo >&3
        wait $start && wait $gc";
    let ran = host.sh(&format!("mkfifo /srv/fifo; {script}")).run();
    assert_eq!(ran.ok(), "nothing to clean up");
}

/// Connecting to a socket is not a write, so a read-only view is no obstacle.
#[test]
fn sockets_that_make_root_of_their_clients_are_out_of_sight() {
    needs!(root);
    let host = Host::new();
    let script = "
        mount -t tmpfs tmpfs /var/lib
        mkdir -p /var/lib/incus /var/lib/other
        touch /var/lib/incus/unix.socket /var/lib/other/file
        $GARTH wrap -- ls -A /var/lib/incus /var/lib/other
        $GARTH wrap -v /var/lib/incus:/var/lib/incus -- ls -A /var/lib/incus";
    let ran = host.sh(script).run().ok();
    assert_eq!(ran, "/var/lib/incus:\n\n/var/lib/other:\nfile\nunix.socket");
}

/// gc sees links, elements and leases before it reads the records.
#[test]
fn a_gc_beside_a_start_leaves_it_its_lease() {
    needs!(root, netns, "strace");
    let host = Host::new();
    // Each read of a directory takes half a second; a sandbox starts during one of them.
    let script = "
        $GARTH wrap -d --name old --network private -- sleep 60
        strace -o /srv/trace -e inject=getdents64:delay_exit=500000 $GARTH gc & gc=$!
        until grep -q getdents64 /srv/trace 2>/dev/null; do sleep 0.01; done
        for n in 1 2 3 4; do
            $GARTH wrap -d --name new$n --network private -- sleep 60; sleep 0.4
        done
        wait $gc
        ls -l /run/garth/leases | grep -c -- '-> '
        for name in old new1 new2 new3 new4; do $GARTH delete --force $name; done";
    let ran = host.sh(script).run().ok();
    assert!(ran.ends_with("\n5"), "{ran}");
    host.assert_nothing_left();
}

/// Names in the kernel's files can be chosen by any user and need not be UTF-8: of processes,
/// mounts and links. Such a name must not put its owner out of reach.
#[test]
fn a_name_that_is_no_text_hides_nobody() {
    needs!(root, netns, "ip", cgroups);
    let host = Host::new();
    // Also with parentheses, followed by what looks like a record of the kernel.
    let rename = "printf '\\377) R 1 1' >/proc/$$/comm; while :; do sleep 1; done";
    let mut bundle = Bundle::new(&host);
    bundle.script(rename);
    bundle.detach().ok();
    let stat = host.path(&format!("/proc/{}/stat", bundle.pid()));
    let named = || std::fs::read(&stat).unwrap().windows(9).any(|some| some == b"\xff) R 1 1)");
    until("it has the name", || named().then_some(()));
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();

    host.garth("wrap -d --name web --network private").script(rename).run().ok();
    let pid = until("it runs", || {
        let list = host.garth("ps --json").run().ok();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list[0]["pid"].as_u64().filter(|_| list[0]["state"] == "running")
    });
    // Its link is renamed, and both are limited all the same.
    let link = format!("nsenter -n -t {pid} ip link set eth0 down");
    host.sh(&format!("{link}; nsenter -n -t {pid} ip link set eth0 name \"$(printf '\\377x')\""))
        .run()
        .ok();
    let ran = host.garth("limit --name web --rate 1MB/s --for 200ms").run();
    assert!(ran.code == 0 && ran.stdout.contains("\"count\":\"link\""), "{ran}");
    let ran = host.garth("limit --name web --duty 50% --for 200ms").run();
    assert!(ran.code == 0 && ran.stdout.contains("\"processes\":3"), "{ran}");
    host.garth("delete --force web").run().ok();

    // A mount that any user may have made, as with FUSE, must not prevent a start.
    let mount = "d=\"/tmp/$(printf 'x\\377')\"; mkdir \"$d\"; mount -t tmpfs none \"$d\"";
    let start = "$GARTH wrap --pids-limit 50 -- echo started; umount \"$d\"";
    let ran = host.sh(&format!("{mount}; {start}")).run();
    assert_eq!(ran.ok(), "started");
    host.assert_nothing_left();
}

/// A process that joins by `exec` is visible to all processes inside, and a container that may
/// trace gets at what it has open: that must not include a directory from which a path leads up
/// into the host.
#[test]
fn who_joins_a_container_brings_no_directory_of_the_host() {
    needs!(root, "strace");
    let host = Host::new();
    let spy = "while :; do for p in /proc/[0-9]*; do
            case \"$(readlink $p/exe)\" in ''|*busybox) continue;; esac
            for fd in $p/fd/*; do echo \"$fd $(readlink $fd)\"; done
        done; done >/seen 2>/dev/null";
    let caps = ["CAP_SYS_PTRACE", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"];
    let mut container = Bundle::new(&host);
    container.script(spy);
    container.capabilities(&["bounding", "effective", "permitted"], &caps);
    container.detach().ok();
    // Inside, it immediately becomes a session leader; here that takes a second.
    let join = |command: &str| {
        let delay = "strace -f -o /dev/null -e inject=setsid:delay_enter=1000000";
        container.sh(&format!("exec {delay} {command}")).run()
    };
    let ran = join(&format!("$GARTH --root /run/spec exec {} true", container.id));
    assert_eq!(ran.code, 0, "{ran}");
    let seen = || host.read(&container.rootfs("seen"));
    let joined = seen();
    assert!(joined.contains("socket:"), "nobody was seen: {joined}");
    let outside = |line: &&str| {
        let target = line.split_once(' ').map_or("", |(_, target)| target);
        target.contains("pidfd") || (target.starts_with('/') && !target.starts_with("/dev/"))
    };
    assert_eq!(joined.lines().find(outside), None, "{joined}");
    container.delete_force().ok();
}

/// In a v1 tree that it may write to, a container freezes itself in a cgroup below its own, where
/// even SIGKILL is not handled.
#[test]
fn a_container_that_has_frozen_itself_is_killed_and_deleted() {
    needs!(root, "v1:freezer");
    let host = Host::new();
    for verb in ["kill", "delete --force"] {
        let mut container = Bundle::new(&host);
        container.namespace("cgroup", None);
        container.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "nodev", "noexec", "rw"]);
        container.script(
            "below=/sys/fs/cgroup/freezer/below; mkdir $below || exit 1
            sleep 1000 & echo $! >$below/cgroup.procs
            echo FROZEN >$below/freezer.state; echo >/ready; echo 1 >$below/cgroup.procs; sleep 1000",
        );
        container.detach().ok();
        until("it is frozen", || {
            std::fs::metadata(host.path(&container.rootfs("ready"))).ok().map(drop)
        });
        if verb == "kill" {
            container.kill("KILL").ok();
            container.until("stopped");
            container.delete().ok();
        } else {
            container.delete_force().ok();
        }
        container.assert_nothing_left();
    }
}
