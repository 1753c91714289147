//! Storage servers: `garth export iscsi`, read and written by clients that need no module of the kernel.

use garth_tests::{Host, needs};

const TARGETS: &str = "iscsi://10.0.1.1/iqn.2015-06.net.example:s1";
const CLIENT: &str = "iqn.1993-08.org.debian:01:client";

/// Two disks and an account in /srv.
fn host() -> Host {
    let host = Host::new();
    let script = "cd /srv && truncate -s 32M vol1.img vol2.img && umask 077 &&
        echo 'joe correct-horse-battery' >chap && mkdir /srv/private && echo secret >/srv/private/file";
    host.sh(script).run().ok();
    host
}

/// With `--prefix`, as the host's own domain is unknown.
fn export(host: &Host, words: &str) -> String {
    let line =
        format!("cd /srv && exec $GARTH export iscsi --prefix iqn.2015-06.net.example {words}");
    host.sh(&line).run().ok()
}

/// Writes and reads a disk; `account` is `USER%PASSWORD@` or nothing.
fn writes_and_reads(host: &Host, account: &str, disk: &str) -> bool {
    let url = format!("{TARGETS}.{disk}/1").replace("//", &format!("//{account}"));
    let io = "qemu-io -f raw -c 'write -P 0x5a 1M 64k' -c flush -c 'read -P 0x5a 1M 64k'";
    let ran = host.sh(&format!("timeout 20 {io} -c 'length' '{url}'")).run();
    ran.code == 0 && ran.stdout.contains("read 65536/65536") && !ran.stdout.contains("failed")
}

#[test]
fn disks_are_served_by_a_daemon_that_sees_and_may_do_nothing_else() {
    needs!(root, netns, cgroups, "tgtd", "qemu-io");
    let host = host();
    let devices = export(&host, "-d --name s1 --address 10.0.1.1 vol1.img");
    assert_eq!(devices, format!("{TARGETS}.vol1/1"));
    assert!(writes_and_reads(&host, "", "vol1"));
    assert_eq!(host.sh("od -An -tx1 -j1M -N4 /srv/vol1.img").run().ok().trim(), "5a 5a 5a 5a");
    let status =
        host.garth("exec s1 -- sh").arg("-c").arg("cat /proc/$(pidof tgtd)/status").run().ok();
    for line in
        ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(status.contains(line), "{line} in {status}");
    }
    let seen =
        "ls -A /run/disks /srv /etc /root /home /var 2>&1; cat /sys/class/net/*/address | wc -l;
        ! touch /usr/x 2>&1";
    let seen = host.garth("exec s1 -- sh").arg("-c").arg(seen).run().ok();
    assert!(
        seen.starts_with("/etc:\n\n/home:\n\n/root:\n\n/run/disks:\nvol1\n\n/srv:\n\n/var:\n2\n"),
        "{seen}"
    );
    assert!(host.garth("ps").run().ok().contains("10.0.1.1"));
    // It ends when it is asked to, which tgtd by itself does not.
    host.garth("kill s1").run().ok();
    host.garth("wait s1").run();
    assert!(!writes_and_reads(&host, "", "vol1"));
    host.garth("delete s1").run();
    host.assert_nothing_left();
}

#[test]
fn only_clients_with_the_account_or_of_the_name_are_served() {
    needs!(root, netns, cgroups, "tgtd", "qemu-io", "iscsi-ls");
    let host = host();
    export(&host, "-d --name s1 --address 10.0.1.1 --chap chap vol1.img vol2.img");
    assert!(writes_and_reads(&host, "joe%correct-horse-battery@", "vol2"));
    assert!(!writes_and_reads(&host, "joe%correct-horse-batterx@", "vol2"));
    assert!(!writes_and_reads(&host, "", "vol2"));
    // Nobody who can list processes, files or records finds the password.
    let find =
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c correct-hors[e];
        grep -rl correct-hors[e] /run; $GARTH logs s1 | grep -c correct-hors[e]";
    assert_eq!(host.sh(find).run().stdout, "0\n0");
    host.garth("delete --force s1").run().ok();

    export(&host, &format!("-d --name s1 --address 10.0.1.1 --initiator {CLIENT} vol1.img"));
    let list =
        |name: &str| host.sh(&format!("timeout 20 iscsi-ls -i {name} iscsi://10.0.1.1")).run();
    assert!(list(CLIENT).stdout.contains("s1.vol1"));
    assert!(!list("iqn.1993-08.org.debian:01:other").stdout.contains("s1.vol1"));
    assert!(!writes_and_reads(&host, "", "vol1"));
    host.garth("delete --force s1").run().ok();
    host.assert_nothing_left();
}

#[test]
fn exports_of_nbd_are_served_to_the_clients_that_are_named() {
    needs!(root, netns, cgroups, "nbd-server", "qemu-io");
    let host = host();
    let export = |words: &str| {
        let line =
            format!("cd /srv && exec $GARTH export nbd -d --name s1 --address 10.0.1.1 {words}");
        host.sh(&line).run().ok()
    };
    let io = |export: &str| {
        let io = "qemu-io -f raw -c 'write -P 0x5a 1M 64k' -c flush -c 'read -P 0x5a 1M 64k'";
        let ran = host.sh(&format!("timeout 20 {io} nbd://10.0.1.1/{export}")).run();
        ran.code == 0 && ran.stdout.contains("read 65536/65536")
    };
    // It looks for primes first: each start takes seconds.
    assert_eq!(export("vol1.img second=vol2.img"), "nbd://10.0.1.1/vol1\nnbd://10.0.1.1/second");
    assert!(io("vol1") && io("second") && !io("vol2"));
    let status = "cat /proc/$(pidof nbd-server | cut -d' ' -f1)/status";
    let status = host.garth("exec s1 -- sh").arg("-c").arg(status).run().ok();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    host.garth("kill s1").run().ok();
    host.garth("wait s1").run();
    assert!(!io("vol1"));
    export("--client 10.9.0.0/16 vol1.img");
    assert!(!io("vol1"));
    host.garth("delete --force s1").run().ok();
    export("--client 10.9.0.0/16 --client 10.0.1.0 vol1.img");
    assert!(io("vol1"));
    host.garth("delete --force s1").run().ok();
    host.assert_nothing_left();
}

#[test]
fn an_address_of_the_host_serves_other_hosts() {
    needs!(root, netns, cgroups, ipv6, "tgtd", "qemu-img");
    let host = Host::with_neighbour();
    host.sh("truncate -s 32M /srv/vol1.img").run().ok();
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        let at = address.trim_matches(['[', ']']);
        let words = "export iscsi -d --name s1 --prefix iqn.2015-06.x /srv/vol1.img --address";
        let device = host.garth(words).arg(at).run().ok();
        assert_eq!(device, format!("iscsi://{address}/iqn.2015-06.x:s1.vol1/1"));
        let read = format!("timeout 20 qemu-img info '{device}'");
        assert!(host.neighbour(&read).run().ok().contains("32 MiB"));
        assert!(host.sh(&read).run().ok().contains("32 MiB"));
        host.garth("delete --force s1").run().ok();
    }
    host.assert_nothing_left();
}

#[test]
fn three_servers_of_one_host_are_killed_and_started_again() {
    needs!(root, netns, cgroups, "tgtd", "iscsi-ls");
    let host = host();
    let start = |n: u32| export(&host, &format!("-d --name s{n} --address 10.0.{n}.1 vol1.img"));
    let lists =
        |n: u32| host.sh(&format!("timeout 5 iscsi-ls -s iscsi://10.0.{n}.1")).run().code == 0;
    (1..=3).for_each(|n| drop(start(n)));
    assert!((1..=3).all(lists));
    host.garth("kill s2 KILL").run().ok();
    host.garth("wait s2").run();
    assert_eq!([1, 2, 3].map(lists), [true, false, true]);
    start(2);
    assert!(lists(2));
    (1..=3).for_each(|n| drop(host.garth(&format!("delete --force s{n}")).run()));
    host.assert_nothing_left();
}

#[test]
fn a_server_in_the_foreground_ends_with_its_signal() {
    needs!(root, netns, cgroups, "tgtd");
    let host = host();
    let mut server =
        host.garth("export iscsi --name s1 --prefix iqn.2015-06.net.example --address 10.0.1.1 /srv/vol1.img").start();
    assert_eq!(server.line().trim_end(), format!("{TARGETS}.vol1/1"));
    assert!(!server.has_ended());
    server.signal("TERM");
    let _ = server.wait();
    host.assert_nothing_left();
}

#[test]
fn what_cannot_be_served_is_refused_in_a_line_and_leaves_nothing() {
    needs!(root, netns, cgroups, "tgtd");
    let host = host();
    host.sh("cd /srv && echo 'joe short' >short && chmod 600 short && echo 'joe correct-horse-battery' >open &&
        chmod 644 open && mkdir dir && cp vol1.img dir/ && : >empty.img").run().ok();
    for (words, says) in [
        ("none.img", "export /srv/none.img: ENOENT"),
        ("dir", "neither a file nor a block device"),
        ("vol1.img dir/vol1.img", "are both named vol1; write NAME=FILE"),
        ("--chap open vol1.img", "can be read by every user; chmod o= open"),
        ("--chap short vol1.img", "less than 12 characters"),
        ("--chap none vol1.img", "read none: ENOENT"),
        ("--prefix x vol1.img", "is not a target's name; --prefix iqn.2015-06.net.example"),
        ("--initiator me vol1.img", "not an initiator's name"),
        ("--address here vol1.img", "not an address; write ADDRESS"),
        ("--address 10.0.1.2 vol1.img", "choose an odd one"),
        ("--address fd00::1 vol1.img", "ip address add"),
        ("--memory lots vol1.img", "--memory"),
        ("empty.img", "an empty file is no disk"),
    ] {
        for detach in ["", "-d"] {
            let line =
                format!("cd /srv && timeout 60 $GARTH export iscsi {detach} --name s1 {words}");
            host.sh(&line).run().refused(125, says);
        }
    }
    export(&host, "-d --name s1 --address 10.0.1.1 vol1.img");
    let again = "cd /srv && $GARTH export iscsi -d --name s1 --address 10.0.1.1 vol1.img";
    host.sh(again).run().refused(125, "s1");
    let taken = "cd /srv && $GARTH export iscsi -d --name s2 --address 10.0.1.1 vol1.img";
    host.sh(taken).run().refused(125, "--address 10.0.1.1: sandbox s1 has it");
    host.garth("delete --force s1").run().ok();
    host.assert_nothing_left();
}
