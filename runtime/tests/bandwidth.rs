//! Rates on the real kernel: a "host" whose network namespace is made for each test, and a
//! container's namespace, held by a sleeping process, with a veth pair between them.
//!
//! Every test runs itself again under unshare(1), so that nothing on the machine is touched.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod private;

use std::process::Command;

use garth::config::Rates;
use garth::network::HostEnd;
use garth::resource::bandwidth::{self, Kept};
use private::{Space, on_a_private_host};

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Space {
    /// With eth0, whose other end `name` has index `index` on the host.
    fn linked(name: &str, index: u32) -> Space {
        let space = Space::new();
        let pid = space.pid();
        sh(&format!(
            "ip link add name {name} index {index} type veth peer name eth0 netns {pid}
             ip link set {name} up; nsenter -t {pid} -n ip link set eth0 up"
        ));
        space
    }
}

fn rates(text: &str) -> Rates {
    text.parse().unwrap()
}

fn end(name: &str, index: u32) -> HostEnd {
    HostEnd { name: name.into(), index, mtu: 1500 }
}

/// Their names. The kernel tells later whether a new one has a carrier.
fn links() -> String {
    sh("ip -o link | cut -d : -f 2")
}

#[test]
fn the_kernel_has_what_was_asked_as_tc_tells_it() {
    on_a_private_host("the_kernel_has_what_was_asked_as_tc_tells_it", || {
        let _space = Space::linked("veth0", 7000);
        bandwidth::begin(&end("veth0", 7000), &rates("up=10Mbit/s,down=2MB/s")).unwrap();
        let down = sh("tc qdisc show dev veth0 root");
        assert!(down.contains(" rate 16Mbit burst 16000b lat 50ms"), "{down}");
        let up = sh("tc -d qdisc show dev gifb00001b58 root");
        assert!(up.contains("tbf 6761: root") && up.contains(" rate 10Mbit burst 10000b"), "{up}");
        let filter = sh("tc filter show dev veth0 ingress");
        assert!(filter.contains("match 00000000/00000000 at 0"), "{filter}");
        assert!(filter.contains("Egress Redirect to device gifb00001b58) stolen"), "{filter}");
        let ifb = sh("ip -d addr show gifb00001b58");
        assert!(ifb.contains("UP") && !ifb.contains("inet6"), "{ifb}");
        assert_eq!(Kept::read().unwrap().of(7000), rates("up=10Mbit/s,down=2MB/s"));
        // More bytes per second than 32 bits hold.
        bandwidth::change(&end("veth0", 7000), &rates("100Gbit/s")).unwrap();
        let fast = sh("tc qdisc show dev veth0 root");
        assert!(fast.contains("rate 100Gbit"), "{fast}");
        assert_eq!(Kept::read().unwrap().of(7000), rates("100Gbit/s"));
    });
}

#[test]
fn rates_are_changed_and_taken_off_one_by_one() {
    on_a_private_host("rates_are_changed_and_taken_off_one_by_one", || {
        let _space = Space::linked("veth0", 7000);
        let before = links();
        let veth0 = end("veth0", 7000);
        let mut steps = ["up=1Mbit/s", "8Mbit/s", "down=3Mbit/s", "up=2Mbit/s,down=9Mbit/s"].iter();
        bandwidth::begin(&veth0, &rates(steps.next().unwrap())).unwrap();
        for step in steps {
            bandwidth::change(&veth0, &rates(step)).unwrap();
            // Doing it once more changes nothing.
            bandwidth::change(&veth0, &rates(step)).unwrap();
            assert_eq!(Kept::read().unwrap().of(7000), rates(step), "{step}");
        }
        bandwidth::take_off(7000).unwrap();
        assert_eq!(links(), before);
        let left = sh("tc qdisc show dev veth0");
        assert!(left.contains("noqueue") && left.lines().count() == 1, "{left}");
        bandwidth::take_off(7000).unwrap();
    });
}

#[test]
fn what_a_link_leaves_behind_is_found_and_goes() {
    on_a_private_host("what_a_link_leaves_behind_is_found_and_goes", || {
        let before = links();
        let space = Space::linked("veth0", 7000);
        bandwidth::begin(&end("veth0", 7000), &rates("up=1Mbit/s")).unwrap();
        assert_eq!(bandwidth::strays().unwrap(), []);
        drop(space);
        sh("while ip link show veth0 >/dev/null 2>&1; do sleep 0.01; done");
        let strays = bandwidth::strays().unwrap();
        assert_eq!(strays.len(), 1);
        assert_eq!(strays[0].0, "gifb00001b58");
        // A link with the same index replaces the leftover.
        let space = Space::linked("veth0", 7000);
        bandwidth::begin(&end("veth0", 7000), &rates("up=1Mbit/s")).unwrap();
        drop(space);
        sh("while ip link show veth0 >/dev/null 2>&1; do sleep 0.01; done");
        bandwidth::release(7000).unwrap();
        bandwidth::release(7000).unwrap();
        sh("while ip link show gifb00001b58 >/dev/null 2>&1; do sleep 0.01; done");
        assert_eq!(links(), before);
        bandwidth::take_off(7000).unwrap();
    });
}

#[test]
fn somebody_elses_queue_or_filter_is_left_alone() {
    on_a_private_host("somebody_elses_queue_or_filter_is_left_alone", || {
        let _space = Space::linked("veth0", 7000);
        let veth0 = end("veth0", 7000);
        sh("tc qdisc add dev veth0 root handle 1: tbf rate 5mbit burst 5k latency 50ms");
        let error = bandwidth::change(&veth0, &rates("down=1Mbit/s")).unwrap_err().to_string();
        assert!(error.contains("veth0 has a queue (tbf) that was not set by Garth"), "{error}");
        bandwidth::change(&veth0, &rates("up=1Mbit/s")).unwrap();
        bandwidth::take_off(7000).unwrap();
        assert!(sh("tc qdisc show dev veth0 root").contains("rate 5Mbit"));
        sh("tc qdisc add dev veth0 clsact");
        let error = bandwidth::change(&veth0, &rates("up=1Mbit/s")).unwrap_err().to_string();
        assert!(error.contains("an ingress filter that was not set by Garth"), "{error}");
        bandwidth::take_off(7000).unwrap();
        assert!(sh("tc qdisc show dev veth0").contains("clsact"));
    });
}

#[test]
fn the_hosts_ends_of_a_container_are_found_and_no_others() {
    on_a_private_host("the_hosts_ends_of_a_container_are_found_and_no_others", || {
        let space = Space::linked("veth0", 7000);
        let pid = space.pid();
        let found = bandwidth::ends_of(pid).unwrap();
        assert_eq!(found, [end("veth0", 7000)]);
        sh(&format!(
            "ip link add name veth1 index 7001 mtu 9000 type veth peer name eth1 netns {pid}"
        ));
        let mut found = bandwidth::ends_of(pid).unwrap();
        found.sort_by_key(|end| end.index);
        assert_eq!(found[1], HostEnd { mtu: 9000, ..end("veth1", 7001) });
        // Its other end is in the same namespace, and its index is also that of a link on the host.
        sh(&format!(
            "nsenter -t {pid} -n ip link add name a index 500 type veth peer name b index 7000"
        ));
        let error = bandwidth::ends_of(pid).unwrap_err().to_string();
        assert!(error.contains("(veth) has no peer on this host"), "{error}");

        let empty = Space::new();
        let error = bandwidth::ends_of(empty.pid()).unwrap_err().to_string();
        assert!(error.contains("no network device but loopback"), "{error}");
        sh(&format!("ip link add name mac0 link veth1 netns {} type macvlan", empty.pid()));
        let error = bandwidth::ends_of(empty.pid()).unwrap_err().to_string();
        assert!(error.contains("mac0 of the container (macvlan)"), "{error}");
        let error = bandwidth::ends_of(std::process::id() as i32).unwrap_err().to_string();
        assert!(error.contains("shares the host's network"), "{error}");
        // Another container's link is not an end of this one.
        let other = Space::linked("veth2", 7002);
        let third = Space::new();
        sh(&format!(
            "nsenter -t {} -n ip link add name x index 7002 type veth peer name y netns {}",
            other.pid(),
            third.pid()
        ));
        let error = bandwidth::ends_of(third.pid()).unwrap_err().to_string();
        assert!(error.contains("y of the container (veth) has no peer"), "{error}");
    });
}
