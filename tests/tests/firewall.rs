//! The firewall's table: changes by others, who holds it, and when it is removed.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use garth_tests::{Host, Running, needs, until};

/// A web server on port 8080 of the host, in the sandbox `web`.
fn web(host: &Host, root: &str) {
    host.write("/srv/www/hello", "hello");
    let words = format!("{root} wrap -d --name web -p 0.0.0.0:8080:80 -- busybox httpd -f -p 80");
    host.garth(&format!("{words} -h /srv/www")).run().ok();
}

/// Whether a service of the host itself answers the sandbox `web`.
fn host_answers(host: &Host, _: &Running) -> bool {
    let ask = "exec web -- curl -sf --max-time 2 http://192.0.2.1:9999/hello";
    host.garth(ask).run().code == 0
}

fn service(host: &Host) -> Running {
    let service = host.sh("echo ready; exec busybox httpd -f -p 9999 -h /srv/www").start();
    assert_eq!(service.line(), "ready");
    let hello = "curl -s --max-time 3 http://192.0.2.1:9999/hello";
    until("the host's service answers", || (host.sh(hello).run().code == 0).then_some(()));
    service
}

fn holders(host: &Host) -> Vec<u32> {
    let text = host.sh("pgrep -f '^garth-holder'").run().stdout;
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

/// Kills the holder of the table and, if asked, every process that keeps it for a sandbox.
fn kill_holders(host: &Host, keepers_too: bool) {
    let pattern = if keepers_too { "^garth-(holder|keeper)" } else { "^garth-holder" };
    host.sh(&format!("pkill -KILL -f '{pattern}'")).run().ok();
    until("the holder has ended", || holders(host).is_empty().then_some(()));
}

fn table(host: &Host) -> String {
    host.sh("nft list table inet garth").run().stdout
}

fn switches(host: &Host) -> String {
    host.sh("grep -H . /proc/sys/net/ipv*/conf/lan0/*forwarding; true").run().ok()
}

#[test]
fn a_flush_of_the_ruleset_neither_opens_the_host_nor_closes_a_port() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    web(&host, "");
    let service = service(&host);
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.sh("nft flush ruleset").run().ok();
    assert!(!host_answers(&host, &service), "the host's own service is open to a sandbox");
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.garth("check web").run().ok();
}

#[test]
fn the_last_sandbox_takes_the_table_and_forwarding_with_it() {
    needs!(root, netns, "busybox", "nft");
    let host = Host::with_neighbour();
    let before = switches(&host);
    web(&host, "");
    assert_ne!(switches(&host), before, "nothing was switched on");
    host.garth("wrap -p 8081:80 -- true").run().ok();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!table(&host).is_empty(), "one of two took the table away");
    host.garth("delete --force web").run().ok();
    until("the table is gone", || table(&host).is_empty().then_some(()));
    assert_eq!(switches(&host), before);
    host.assert_nothing_left();
}

#[test]
fn gc_takes_the_table_and_forwarding_away_after_a_crash() {
    needs!(root, netns, "nft");
    let host = Host::with_neighbour();
    let before = switches(&host);
    let sandbox = host.garth("wrap -p 0.0.0.0:8080:80").script("echo ready; sleep 600").start();
    assert_eq!(sandbox.line(), "ready");
    assert_ne!(switches(&host), before);
    kill_holders(&host, false);
    sandbox.signal("KILL");
    sandbox.wait();
    host.garth("gc").run().ok();
    assert_eq!((table(&host), switches(&host)), (String::new(), before));
    host.assert_nothing_left();
}

#[test]
fn a_host_that_became_a_router_meanwhile_stays_one() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    web(&host, "");
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward").run().ok();
    host.garth("delete --force web").run().ok();
    host.garth("gc").run().ok();
    assert!(switches(&host).contains("ipv4/conf/lan0/forwarding:1"), "{}", switches(&host));
}

#[test]
fn a_killed_holder_loses_nothing_and_the_next_start_has_another() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    web(&host, "");
    kill_holders(&host, false);
    host.sh("nft flush ruleset").run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.garth("wrap -p 8081:80 -- true").run().ok();
    assert_eq!(holders(&host).len(), 1);
    host.garth("check web").run().ok();
}

#[test]
fn check_tells_that_the_table_is_lost_and_gc_makes_it_anew() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    web(&host, "");
    let service = service(&host);
    host.garth("check web").run().ok();
    kill_holders(&host, true);
    host.sh("nft flush ruleset").run().ok();
    assert!(host_answers(&host, &service), "the test asks in vain");
    host.garth("check web").run().refused(125, "table inet garth");
    let doctor = host.garth("doctor").run();
    assert!(
        doctor.stdout.contains("web: nftables table inet garth is missing"),
        "{}",
        doctor.stdout
    );
    host.garth("gc").run().ok();
    host.garth("check web").run().ok();
    assert!(!host_answers(&host, &service));
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
}

#[test]
fn the_next_start_makes_a_lost_table_anew_for_all() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    web(&host, "");
    kill_holders(&host, true);
    host.sh("nft flush ruleset").run().ok();
    host.garth("wrap --network private -- true").run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.garth("check web").run().ok();
}

#[test]
fn sandboxes_of_two_state_directories_share_one_table() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    web(&host, "--root /srv/one");
    let other =
        host.garth("--root /srv/two wrap -p 8081:80").script("echo ready; sleep 600").start();
    assert_eq!(other.line(), "ready");
    assert_eq!(holders(&host).len(), 1);
    host.garth("--root /srv/two wrap -p 0.0.0.0:8080:80 -- true").run().refused(125, "8080");
    host.garth("--root /srv/two gc").run().ok();
    host.garth("--root /srv/two check nobody").run().refused(125, "nobody");
    other.signal("KILL");
    other.wait();
    host.garth("--root /srv/two gc").run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.garth("--root /srv/one check web").run().ok();
    host.garth("--root /srv/one delete --force web").run().ok();
    until("the table is gone", || table(&host).is_empty().then_some(()));
}

#[test]
fn a_start_without_the_right_to_trace_shares_the_table() {
    needs!(root, netns, "busybox", "curl", "setpriv");
    let host = Host::with_neighbour();
    web(&host, "");
    host.sh("exec setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace \
         $GARTH wrap -p 8081:80 -- true")
        .run()
        .ok();
    host.garth("check web").run().ok();
}

#[test]
fn a_sandbox_follows_the_host_to_another_way_out() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::with_neighbour();
    web(&host, "");
    host.sh("ip link add lan1 type veth peer name lan1 netns lan
        ip addr add 198.51.100.1/24 dev lan1
        ip link set lan1 up")
        .run()
        .ok();
    host.neighbour(
        "ip addr add 198.51.100.2/24 dev lan1
        ip link set lan1 up
        ip addr add 203.0.113.1/32 dev lo
        mkdir -p /srv/far && echo far >/srv/far/hello",
    )
    .run()
    .ok();
    host.sh("ip route replace default via 198.51.100.2 dev lan1").run().ok();
    let far = host.neighbour("echo ready; exec busybox httpd -f -p 7777 -h /srv/far").start();
    assert_eq!(far.line(), "ready");
    assert_eq!(host.get_from_neighbour("http://198.51.100.1:8080/hello"), "hello");
    let ask = "exec web -- curl -sf --max-time 2 http://203.0.113.1:7777/hello";
    until("the sandbox gets out", || (host.garth(ask).run().code == 0).then_some(()));
    host.garth("check web").run().ok();
}

#[test]
fn a_host_is_no_router_for_others_on_a_new_way_out_either() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::with_neighbour();
    web(&host, "");
    // Two more wires, and a service of the neighbour on one of them: requested over the other,
    // through this host.
    host.sh("for n in 1 2; do ip link add lan$n type veth peer name lan$n netns lan; done
        ip addr add 198.51.100.1/24 dev lan1; ip link set lan1 up
        ip addr add 203.0.113.1/24 dev lan2; ip link set lan2 up")
        .run()
        .ok();
    host.neighbour(
        "ip addr add 198.51.100.2/24 dev lan1; ip link set lan1 up; ip link set lan2 up
        unshare -n sh -c 'touch /run/netns/far; mount --bind /proc/self/ns/net /run/netns/far'
        ip link set lan2 netns far",
    )
    .run()
    .ok();
    host.sh("far() { nsenter --net=/run/netns/far \"$@\"; }
        far ip addr add 203.0.113.2/24 dev lan2; far ip link set lan2 up
        far ip route add default via 203.0.113.1")
        .run()
        .ok();
    host.neighbour("ip route add 203.0.113.0/24 via 198.51.100.1").run().ok();
    let ask = "ping -c 1 -W 1 203.0.113.2";
    let answers = || host.neighbour(ask).run().code == 0;
    assert!(!answers());
    host.sh("ip route replace default via 198.51.100.2 dev lan1").run().ok();
    let switch = "cat /proc/sys/net/ipv4/conf/lan1/forwarding";
    until("forwarding is on", || (host.sh(switch).run().ok() == "1").then_some(()));
    assert!(!answers(), "what is for no sandbox is forwarded");
    host.sh("nft flush ruleset").run().ok();
    assert!(!answers(), "what is for no sandbox is forwarded");
}

#[test]
fn a_chain_that_drops_what_is_forwarded_is_named_with_the_way_out() {
    needs!(root, netns, "busybox", "curl", "nft");
    let host = Host::with_neighbour();
    host.sh("nft add table inet fw
        nft 'add chain inet fw pass { type filter hook forward priority 0; policy drop; }'")
        .run()
        .ok();
    host.write("/srv/www/hello", "hello");
    let words = "wrap -d --name web -p 0.0.0.0:8080:80 -- busybox httpd -f -p 80 -h /srv/www";
    let started = host.garth(words).run();
    let line = "nft 'insert rule inet fw pass iifname \"garth*\" accept; \
        insert rule inet fw pass oifname \"garth*\" accept'";
    assert!(started.stderr.contains(line), "{}", started.stderr);
    let checked = host.garth("check web").run();
    assert!(checked.code != 0 && checked.stderr.contains(line), "{}", checked.stderr);
    let doctor = host.garth("doctor").run();
    assert!(doctor.stdout.contains("chain pass of table inet fw drops"), "{}", doctor.stdout);
    assert!(host.is_closed_to_neighbour("http://192.0.2.1:8080/hello"));
    // The suggested command works, and then there is nothing to report.
    host.sh(line).run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    host.garth("check web").run().ok();
    assert_eq!(host.garth("wrap -p 8081:80 -- true").run().stderr, "");
}

#[test]
fn a_refusal_at_the_end_of_a_chain_is_told_as_well() {
    needs!(root, netns, "nft");
    let host = Host::with_neighbour();
    host.sh("nft add table ip fw
        nft 'add chain ip fw pass { type filter hook forward priority 10; policy accept; }'
        nft add rule ip fw pass ct state established accept")
        .run()
        .ok();
    assert_eq!(host.garth("wrap --network private -- true").run().stderr, "");
    host.sh("nft add rule ip fw pass counter reject").run().ok();
    let said = host.garth("wrap --network private -- true").run().stderr;
    assert!(said.contains("chain pass of table ip fw drops"), "{said}");
}
