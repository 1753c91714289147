//! Published ports of containers, in a network that an engine has made.

use garth_tests::{Bundle, Host, needs, until};

/// A container of that network that answers `hello` on port 80.
fn bundle<'a>(host: &'a Host, id: &str, namespace: &str, publish: &str) -> Bundle<'a> {
    let mut bundle = Bundle::named(host, id);
    bundle.script("echo hello >/tmp/hello; exec httpd -f -p [::]:80 -h /tmp");
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    bundle.namespace("network", Some(namespace));
    bundle.config["annotations"]["dev.garth.publish"] = publish.into();
    bundle
}

fn refused(bundle: &Bundle<'_>, why: &str) {
    let ran = bundle.create();
    let errors = bundle.errors();
    assert_ne!(ran.code, 0, "{why}");
    assert!(errors.contains("dev.garth.publish") && errors.contains(why), "{why}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

/// It goes a moment after its last element.
fn until_the_table_is_gone(host: &Host) {
    let listed = || host.sh("nft list table inet garth").run();
    until("the table is gone", || (listed().code != 0).then_some(()));
}

#[test]
fn a_port_leads_to_a_container_from_everywhere() {
    needs!(root, netns, "nft", "busybox", "curl");
    let host = Host::with_engine();
    let web = bundle(&host, "web", "/run/netns/box2", "0.0.0.0:8080:80,[::]:8080:80, 81:80");
    web.create().ok();
    web.start().ok();
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
    for url in ["http://192.0.2.1:8080", "http://[2001:db8::1]:8080"] {
        assert_eq!(host.get_from_neighbour(&format!("{url}/hello")), "hello", "{url}");
        assert_eq!(host.get(&format!("{url}/hello")), "hello", "{url}");
        // Through the bridge, the answer would not come by the host.
        let other = host
            .sh(&format!("nsenter --net=/run/netns/box3 curl -gs --max-time 5 {url}/hello"))
            .run();
        assert_eq!(other.ok(), "hello", "{url} from the same network");
    }
    assert_eq!(host.get("http://127.0.0.1:81/hello"), "hello");
    assert!(host.is_closed_to_neighbour("http://192.0.2.1:81/hello"));
    // What is not for loopback does not get there by the opened interface either.
    let forged = "nsenter --net=/run/netns/box3 sh -c 'ip route add 127.0.0.2 via 198.51.100.1
        echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
        nc -w 1 -s 198.51.100.3 127.0.0.2 7777 </dev/null'";
    host.sh("nc -l -p 7777 -s 127.0.0.2 >/srv/got 2>&1 & echo $! >/srv/nc").run().ok();
    assert_ne!(host.sh(forged).run().code, 0);
    host.sh("kill $(cat /srv/nc); nsenter --net=/run/netns/box3 ip route del 127.0.0.2").run().ok();
    // A flush of all rules skips it; and one that is lost comes back.
    host.sh("nft flush ruleset").run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");

    web.call("delete --force web").run().ok();
    assert!(host.is_closed_to_neighbour("http://192.0.2.1:8080/hello"));
    until_the_table_is_gone(&host);
    let localnet = "cat /proc/sys/net/ipv4/conf/br0/route_localnet";
    assert_eq!(host.sh(localnet).run().ok(), "0");
    host.assert_nothing_left();
}

#[test]
fn the_containers_of_a_pod_share_their_ports() {
    needs!(root, netns, "nft", "busybox", "curl");
    let host = Host::with_engine();
    let pause = bundle(&host, "pause", "/run/netns/box2", "0.0.0.0:8080:80");
    pause.detach().ok();
    let same = bundle(&host, "same", "/run/netns/box2", "0.0.0.0:8080:80");
    same.detach().ok();
    let more = bundle(&host, "more", "/run/netns/box2", "82:80");
    refused(&more, "of the same network publishes");
    same.call("delete --force same").run().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:8080/hello"), "hello");
    let taken = bundle(&host, "taken", "/run/netns/box3", "0.0.0.0:8080:80");
    refused(&taken, "port 8080");
    // A record that is lost: its mark leads to everything.
    host.sh("echo x > /run/spec/containers/pause/record.json").run().ok();
    pause.call("delete --force pause").run().ok();
    until_the_table_is_gone(&host);
    host.assert_nothing_left();
}

/// A namespace on the bridge with 198.51.100.4.
const BOX4: &str =
    "unshare -n sh -c 'touch /run/netns/box4; mount --bind /proc/self/ns/net /run/netns/box4'
    ip link add veth4 type veth peer name eth0 netns box4
    ip link set veth4 master br0 addrgenmode none up
    nsenter --net=/run/netns/box4 sh -ec '
        ip addr add 198.51.100.4/24 dev eth0; ip link set eth0 up; ip link set lo up
        ip route add default via 198.51.100.1'";
const WITHOUT_BOX4: &str = "ip link del veth4; umount /run/netns/box4; rm /run/netns/box4";

#[test]
fn what_is_left_of_one_that_is_gone_is_no_hindrance() {
    needs!(root, netns, "nft", "busybox", "curl");
    let host = Host::with_engine();
    host.sh(BOX4).run().ok();
    let old = bundle(&host, "earlier", "/run/netns/box4", "0.0.0.0:8080:80");
    old.detach().ok();
    // Its state directory is lost; then its network, whose address another gets.
    host.sh(&format!(
        "kill -KILL {}; rm -r /run/spec/containers/earlier; {WITHOUT_BOX4}; {BOX4}
        find /sys/fs/cgroup -type d -name earlier -exec sh -c 'until rmdir $0; do :; done' {{}} ';' -prune",
        old.pid()
    ))
    .run()
    .ok();
    let new = bundle(&host, "new", "/run/netns/box4", "0.0.0.0:9090:80");
    new.detach().ok();
    assert_eq!(host.get_from_neighbour("http://192.0.2.1:9090/hello"), "hello");
    assert!(host.is_closed_to_neighbour("http://192.0.2.1:8080/hello"));
    new.call("delete --force new").run().ok();
    until_the_table_is_gone(&host);
    host.sh(WITHOUT_BOX4).run().ok();
}

#[test]
fn what_cannot_be_published_is_refused() {
    needs!(root, netns, "nft", "busybox", "nc");
    let host = Host::with_engine();
    let mut web = bundle(&host, "web", "/run/netns/box2", "");
    let mut ask = |namespace: Option<&str>, publish: &str, why: &str| {
        web.config["annotations"]["dev.garth.publish"] = publish.into();
        match namespace {
            Some("host") => web.without_namespace("network"),
            path => web.namespace("network", path),
        }
        refused(&web, why);
    };
    let (two, three) = (Some("/run/netns/box2"), Some("/run/netns/box3"));
    ask(two, "8080", "port is missing");
    ask(two, "[::1]:1:2", "only a sandbox answers on ::1");
    ask(two, "192.0.2.77:1:2", "no address 192.0.2.77");
    host.sh("nc -lk -p 7070 >/dev/null 2>&1 & echo $! >/srv/nc; sleep 0.3").run().ok();
    ask(two, "0.0.0.0:7070:80", "port 7070 is in use");
    host.sh("kill $(cat /srv/nc)").run().ok();
    ask(None, "8080:80", "has no IPv4 address");
    host.sh("nsenter --net=/run/netns/box3 ip -6 addr flush dev eth0 scope global").run().ok();
    ask(three, "[::]:1:2", "has no IPv6 address");
    let elsewhere = "ip addr flush dev eth0; ip addr add 203.0.113.9/32 dev eth0";
    host.sh(&format!("nsenter --net=/run/netns/box3 sh -c '{elsewhere}'")).run().ok();
    ask(three, "1:2", "no route of this host leads to 203.0.113.9");
    ask(Some("host"), "8080:80", "shares the host's network");
    until_the_table_is_gone(&host);
    host.assert_nothing_left();
}

#[test]
fn without_root_it_is_refused_before_anything_is_made() {
    needs!(root, userns, "setpriv");
    let host = Host::new();
    host.sh("cp $GARTH /srv/garth; mkdir -m 777 /srv/box; mkdir /srv/box/rootfs").run().ok();
    let user =
        "cd /srv/box; setpriv --reuid 1000 --regid 1000 --clear-groups /srv/garth --root state";
    let plain = "sed -i 's/\"terminal\": true/\"terminal\": false/' config.json";
    host.sh(&format!("{user} spec --rootless; {plain}")).run().ok();
    for (key, value) in [("publish", "8080:80"), ("rate.up", "1MB/s")] {
        let annotate =
            format!("sed 's|^{{|{{ \"annotations\": {{\"dev.garth.{key}\": \"{value}\"}},|'");
        host.sh(&format!("cd /srv/box; {annotate} config.json >new; cat new; cp config.json old; cp new config.json"))
            .run()
            .ok();
        let ran = host.sh(&format!("{user} create one")).run();
        host.sh("cd /srv/box; cp old config.json").run().ok();
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains("needs root"), "{ran}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
        host.sh("! ls /srv/box/state/containers/one").run().ok();
    }
}
