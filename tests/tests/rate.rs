//! `--rate` keeps its promise: this many frames each way, whatever the sandbox does.
//!
//! A payload is sent between the sandbox and a neighbour on a link that the test made, and counted
//! by the receiver. Rates count frames with their Ethernet headers, so the payload of TCP with
//! timestamps, in full frames of 1514 bytes, is 1448/1514 of it over IPv4 and 1428/1514 over IPv6.
//!
//! `RATES=all` measures 1 Mbit/s to 1 Gbit/s over five seconds, with a tolerance of 2 %, and of 10
//! % for the shares of a group. Without it one rate is measured briefly, with bounds that hold on a
//! busy machine.

use garth_tests::{Bundle, Host, Running, needs, until};

const METER: &str = include_str!("rate.py");
/// How many seconds a transfer continues after it has been measured.
const AFTER: u32 = 1;

/// Payload per frame.
const TCP4: f64 = 1448. / 1514.;
const TCP6: f64 = 1428. / 1514.;
/// 1448 bytes per datagram.
const UDP4: f64 = 1448. / 1490.;

fn with_meter() -> Host {
    let host = Host::with_neighbour();
    host.write("/srv/rate.py", METER);
    host
}

fn all() -> bool {
    std::env::var("RATES").is_ok_and(|value| value == "all")
}

/// The direction of the payload, seen from the sandbox.
#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

/// The neighbour's end of a transfer of `protocol` (tcp or udp), ready for the sandbox.
fn neighbour(host: &Host, way: Way, protocol: &str, address: &str, seconds: f64) -> Running {
    let does = match way {
        Way::Up => "receive",
        Way::Down => "send",
    };
    let script = format!(
        "exec python3 -u /srv/rate.py {does} listen {protocol} {address} {seconds} {AFTER}"
    );
    let running = host.neighbour(&script).start();
    assert_eq!(running.line(), "ready");
    running
}

/// The sandbox's end, as a command.
fn inside(way: Way, protocol: &str, address: &str, seconds: f64) -> String {
    let does = match way {
        Way::Up => "send",
        Way::Down => "receive",
    };
    format!("python3 -u /srv/rate.py {does} connect {protocol} {address} {seconds} {AFTER}")
}

/// Payload bits per second, as counted by the receiver.
fn measure(
    host: &Host,
    flags: &str,
    way: Way,
    (protocol, address): (&str, &str),
    seconds: f64,
) -> f64 {
    let there = neighbour(host, way, protocol, address, seconds);
    let command = inside(way, protocol, address, seconds);
    let here = host.garth(&format!("wrap --network private {flags} -- {command}")).run();
    let counted = match way {
        Way::Up => there.line(),
        Way::Down => here.ok(),
    };
    counted.parse().unwrap_or_else(|_| panic!("not a figure: {counted}"))
}

#[track_caller]
fn assert_near(got: f64, asked: f64, bound: f64, what: &str) {
    let ratio = got / asked;
    println!("{what}: {:.2} % of what was asked", 100. * ratio);
    assert!((ratio - 1.).abs() <= bound, "{what}: {:.2} % of what was asked", 100. * ratio);
}

#[test]
fn a_rate_is_kept_each_way() {
    needs!(root, netns, "python3");
    let host = with_meter();
    let (rates, seconds, bound): (&[u32], f64, f64) =
        if all() { (&[1, 10, 100, 1000], 5., 0.02) } else { (&[20], 1., 0.1) };
    for &mbit in rates {
        for way in [Way::Up, Way::Down] {
            // The other direction has a different limit.
            let flags = match way {
                Way::Up => format!("--rate up={mbit}Mbit/s,down=1Gbit/s"),
                Way::Down => format!("--rate down={mbit}Mbit/s,up=1Gbit/s"),
            };
            let got = measure(&host, &flags, way, ("tcp", "192.0.2.2"), seconds);
            let asked = f64::from(mbit) * 1e6 * TCP4;
            assert_near(got, asked, bound, &format!("{mbit} Mbit/s {way:?}"));
        }
    }
    host.assert_nothing_left();
}

#[test]
fn a_rate_is_one_of_ipv6_and_udp_too() {
    needs!(root, netns, ipv6, "python3");
    let host = with_meter();
    let (seconds, bound) = if all() { (5., 0.02) } else { (1., 0.1) };
    for way in [Way::Up, Way::Down] {
        for (protocol, address, share) in [("tcp", "2001:db8::2", TCP6), ("udp", "192.0.2.2", UDP4)]
        {
            let got = measure(&host, "--rate 20Mbit/s", way, (protocol, address), seconds);
            let what = format!("{protocol} to {address} {way:?}");
            assert_near(got, 20e6 * share, bound, &what);
        }
    }
}

#[test]
fn a_rate_is_changed_while_it_is_used() {
    needs!(root, netns, "python3");
    let host = with_meter();
    let there = neighbour(&host, Way::Up, "tcp", "192.0.2.2", 0.);
    let command = inside(Way::Up, "tcp", "192.0.2.2", 0.);
    let flags = "wrap --network private --name web --rate up=10Mbit/s";
    let here = host.garth(&format!("{flags} -- {command}")).start();
    // One figure per half second.
    let within = |running: &Running, mbit: f64, what: &str| {
        until(what, || {
            let got: f64 = running.line().parse().unwrap();
            ((got / (mbit * 1e6 * TCP4) - 1.).abs() < 0.1).then_some(())
        });
    };
    let rate = || {
        host.garth("ps")
            .run()
            .ok()
            .split_whitespace()
            .find(|w| w.contains("bit/s"))
            .map(String::from)
    };
    within(&there, 10., "10 Mbit/s are sent");
    assert_eq!(rate().as_deref(), Some("up=10Mbit/s"));
    host.garth("update web --rate up=40Mbit/s,down=1Gbit/s").run().ok();
    within(&there, 40., "40 Mbit/s are sent");
    assert_eq!(rate().as_deref(), Some("up=40Mbit/s,down=1Gbit/s"));
    host.garth("update --rate up=5Mbit/s web").run().ok();
    within(&there, 5., "5 Mbit/s are sent");
    host.garth("update web --rate none").run().ok();
    until("more than 100 Mbit/s are sent", || {
        (there.line().parse::<f64>().unwrap() > 100e6).then_some(())
    });
    assert_eq!(rate(), None);
    // One that started without a rate has one now, and leaves the same things behind.
    host.garth("update web --rate up=8Mbit/s").run().ok();
    within(&there, 8., "8 Mbit/s are sent");
    host.garth("kill -s KILL web").run().ok();
    here.wait();
    drop(there);

    // A member of a group has other bounds within it.
    let there = neighbour(&host, Way::Up, "tcp", "192.0.2.2", 0.);
    let group = "wrap --network private --name web --rate-group all:up=20Mbit/s";
    let here = host.garth(&format!("{group} -- {command}")).start();
    within(&there, 20., "20 Mbit/s are sent");
    host.garth("update web --rate up=5Mbit/s").run().ok();
    within(&there, 5., "5 Mbit/s are sent");
    host.garth("update web --rate up=15Mbit/s").run().ok();
    within(&there, 15., "15 Mbit/s are sent");
    host.garth("update web --rate none").run().ok();
    within(&there, 20., "20 Mbit/s are sent again");
    host.garth("kill -s KILL web").run().ok();
    here.wait();
    drop(there);
    host.assert_nothing_left();
}

/// The neighbour's two addresses, so that two transfers can run in parallel, and their payload per
/// frame.
const SIDES: [(&str, f64); 2] = [("192.0.2.2", TCP4), ("2001:db8::2", TCP6)];

/// Bits per second, counted in frames, of two sandboxes that transfer in parallel.
fn measure_two(host: &Host, flags: [&str; 2], way: Way, seconds: f64) -> [f64; 2] {
    // Both continue for another second, as they do not start at the same moment.
    let there = SIDES.map(|(address, _)| neighbour(host, way, "tcp", address, seconds));
    let here = [0, 1].map(|n| {
        let command = inside(way, "tcp", SIDES[n].0, seconds);
        host.garth(&format!("wrap --network private {} -- {command}", flags[n])).start()
    });
    let got = [0, 1].map(|n| {
        let counted = match way {
            Way::Up => there[n].line(),
            Way::Down => here[n].line(),
        };
        counted.parse::<f64>().unwrap_or_else(|_| panic!("not a figure: {counted}")) / SIDES[n].1
    });
    // The next group may have another budget: this one must be gone.
    here.into_iter().for_each(|running| drop(running.wait().ok()));
    got
}

#[test]
fn a_group_divides_its_budget_by_shares() {
    needs!(root, netns, ipv6, "python3");
    let host = with_meter();
    let (seconds, bound) = if all() { (5., 0.1) } else { (3., 0.4) };
    for way in [Way::Up, Way::Down] {
        let group =
            |share: u32| format!("--rate-group all:up=20Mbit/s,down=20Mbit/s,share={share}");
        let [one, three] = measure_two(&host, [&group(1), &group(3)], way, seconds);
        println!("{way:?}: {one} and {three} of 20 Mbit/s");
        // On a busy machine one of the two may start late, or end late and be alone for a while.
        let [of_one, of_three] = if all() { [bound, bound] } else { [1.0, bound] };
        assert_near(one, 5e6, of_one, &format!("a share of 1 {way:?}"));
        assert_near(three, 15e6, of_three, &format!("a share of 3 {way:?}"));
        assert!(three > 1.3 * one, "{way:?}: {one} and {three}");
        // A sandbox on its own gets everything, and no more.
        let got = measure(&host, &group(1), way, ("tcp", "192.0.2.2"), seconds);
        assert_near(got, 20e6 * TCP4, bound, &format!("alone {way:?}"));
    }
    // A bound on one leaves the rest to the other.
    let group = "--rate-group all:up=20Mbit/s";
    let bounded = format!("{group} --rate up=4Mbit/s");
    let [own, rest] = measure_two(&host, [&bounded, group], Way::Up, seconds);
    assert_near(own, 4e6, bound, "a bound of its own");
    assert_near(rest, 16e6, bound, "the rest");
    host.assert_nothing_left();
}

#[test]
fn a_group_is_one_for_all_and_goes_with_the_last() {
    needs!(root, netns, "tc");
    let host = Host::with_neighbour();
    let member = |name: &str, group: &str| {
        host.garth(&format!(
            "wrap -d --name {name} --network private --rate-group {group} -- sleep 600"
        ))
    };
    let devices = || host.sh("ip -o link show type ifb | cut -d: -f2 | sort | xargs").run().ok();
    let told =
        host.garth("explain wrap --network private --rate-group all:up=9Mbit/s -- true").run();
    assert!(told.ok().contains("ifb gifbu-all, unless it exists: htb with 9Mbit/s"));
    member("one", "all:up=10Mbit/s,down=2MB/s").run().ok();
    member("two", "all:up=10Mbit/s,down=2MB/s,share=2").run().ok();
    assert_eq!(devices(), "gifbd-all gifbu-all");
    let shown = host.garth("ps").run().ok();
    assert!(shown.contains("up=10Mbit/s,down=16Mbit/s in all"), "{shown}");
    let there = host.garth("check two").run().ok();
    assert!(there.contains("with ceil 10Mbit/s on gifbu-all"), "{there}");
    for (group, why) in [
        ("all:up=11Mbit/s,down=2MB/s", "with 10Mbit/s on gifbu-all"),
        ("all:up=10Mbit/s", "with another limit on gifbd-all"),
        ("all:10", "missing unit"),
        ("all:up=1bit/s", "less than 8kbit/s"),
        ("all", "missing : after the name"),
        ("all:up=1Mbit/s,share=0", "not from 1 to 100"),
        ("all:up=1Mbit/s --rate up=2Mbit/s", "of rate group all"),
        ("all:up=1Mbit/s --rate down=1Mbit/s", "has no down="),
    ] {
        member("three", group).run().refused(125, why);
    }
    for network in ["none", "host"] {
        let words = format!("wrap --network {network} --rate-group all:up=1Mbit/s -- true");
        host.garth(&words).run().refused(125, "--rate-group all:up=1Mbit/s");
    }
    for (change, shown) in [
        ("up=1Mbit/s", "up=1Mbit/s of up=10Mbit/s,down=16Mbit/s in all"),
        ("down=500kbit/s", "up=1Mbit/s,down=500kbit/s of up=10Mbit/s"),
        ("up=none", " down=500kbit/s of up=10Mbit/s"),
        ("none", " up=10Mbit/s,down=16Mbit/s in all"),
    ] {
        host.garth(&format!("update one --rate {change}")).run().ok();
        let list = host.garth("ps").run().ok();
        let one = list.lines().find(|line| line.starts_with("one ")).unwrap();
        assert!(one.contains(shown), "{change}: {list}");
    }
    let above = host.garth("update one --rate up=11Mbit/s").run();
    above.refused(125, "of rate group all");
    // One that is killed together with its keepers is removed later, and the other stays.
    host.garth("delete --force one").run().ok();
    assert_eq!(devices(), "gifbd-all gifbu-all");
    host.sh("echo x > /run/garth/sandboxes/two/record.json").run().ok();
    host.garth("delete --force two").run().ok();
    assert_eq!(devices(), "");
    host.assert_nothing_left();
    // Nothing of it is left on record.
    member("one", "all:up=10Mbit/s").run().ok();
    host.sh("pkill -KILL -x garth-keeper; rm -r /run/garth/sandboxes/one /run/garth/leases")
        .run()
        .ok();
    host.sh("pkill -KILL -x sleep").run().ok();
    until("the link is gone", || {
        host.left().iter().all(|line| !line.contains("link garth")).then_some(())
    });
    let told = host.garth("gc").run().ok();
    assert!(told.contains("removed ifb gifbu-all"), "{told}");
    host.assert_nothing_left();
}

#[test]
fn what_a_program_wrote_before_it_ended_arrives() {
    needs!(root, netns, "python3", "nc");
    let host = Host::with_neighbour();
    let there = host.neighbour("nc -l 5001 | wc -c").start();
    let connects = "for i in range(100):
        try:
            end = socket.create_connection(('192.0.2.2', 5001))
            break
        except OSError:
            time.sleep(0.05)";
    // More than the queue holds, and as much as a socket accepts in one go.
    host.write(
        "/srv/send.py",
        &format!(
            "import socket, time\nif 1:\n    {connects}\nend.send(bytes(60000))\nend.close()\n"
        ),
    );
    let flags = "--network private --rate up=1Mbit/s";
    host.garth(&format!("wrap {flags} -- python3 /srv/send.py")).run().ok();
    assert_eq!(there.line().trim(), "60000");
    drop(there);
    host.assert_nothing_left();
}

#[test]
fn whoever_may_do_everything_inside_cannot_lift_it() {
    needs!(root, netns, "python3", "tc");
    let host = with_meter();
    let there = neighbour(&host, Way::Up, "tcp", "192.0.2.2", 1.);
    let command = inside(Way::Up, "tcp", "192.0.2.2", 1.);
    // Any of this that works only affects its own end.
    let tricks = format!(
        "tc qdisc replace dev eth0 root pfifo limit 1000
        tc qdisc del dev eth0 root
        tc qdisc add dev eth0 ingress
        ip link set eth0 txqueuelen 10000 mtu 9000
        ip link set eth0 mtu 1500
        for dev in $(tc qdisc show | grep -o 'dev [^ ]*' | cut -d' ' -f2); do
            case $dev in lo|eth0) ;; *) echo sees $dev ;; esac
        done
        ip link del gifb4ae70001
        {command}"
    );
    let flags = "wrap --network private --cap-add all --seccomp unconfined --rate up=20Mbit/s";
    let ran = host.garth(flags).script(&format!("exec 2>/dev/null; {tricks}")).run();
    assert_eq!(ran.ok(), "", "of the host's disciplines nothing is seen");
    let got: f64 = there.line().parse().unwrap();
    assert_near(got, 20e6 * TCP4, 0.1, "20 Mbit/s, with all capabilities");
}

#[test]
fn a_rate_that_cannot_be_kept_is_refused() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    for (flags, why) in [
        ("--network private --rate 10", "missing unit"),
        ("--network private --rate up=10,down=1Mbit/s", "missing unit"),
        ("--network private --rate up=10Mbps", "bits or bytes?"),
        ("--network private --rate 0Mbit/s", "less than one bit"),
        ("--network private --rate 1bit/s", "less than 8kbit/s"),
        ("--network private --rate 999Tbit/s", "more than 400Gbit/s"),
        ("--network private --rate 99999999TB/s", "too large"),
        ("--network private --rate sideways=1Mbit/s", "not up= or down="),
        ("--rate 1Mbit/s", "the sandbox has no network"),
        ("--network none --rate 1Mbit/s", "the sandbox has no network"),
        ("--network host --rate 1Mbit/s", "shares the host's network"),
        ("--network ns:/run/netns/lan --rate 1Mbit/s", "joins another's network"),
    ] {
        host.garth(&format!("wrap {flags} -- true")).run().refused(125, why);
    }
    let without_root = "exec setpriv --reuid=12345 --regid=12345 --clear-groups \
        $GARTH wrap --network private --rate 1Mbit/s -- true";
    host.sh(without_root).run().refused(125, "needs root");
    host.garth("wrap -d --name alone -- sleep 1000").run().ok();
    for (words, why) in [
        ("alone --rate 1Mbit/s", "the sandbox has no network"),
        ("alone --rate 1", "missing unit"),
        ("alone --memory 1g --rate 1Mbit/s", "started without limits"),
        ("alone --cpu-burst 5", "this limit cannot be changed"),
        ("alone", "nothing to change"),
    ] {
        host.garth(&format!("update {words}")).run().refused(125, why);
    }
    let unknown = host.garth("update nobody --rate 1Mbit/s").run();
    assert!(unknown.fails(1).contains("does not exist"));
    host.garth("kill -s KILL alone").run().ok();
    host.assert_nothing_left();
}

#[test]
fn explain_tells_what_the_kernel_gets() {
    needs!(root, netns, "tc");
    let host = Host::with_neighbour();
    let flags = "--name web --network private --rate up=10Mbit/s,down=2MB/s -- sleep 1000";
    let told = host.garth(&format!("explain wrap {flags}")).run().ok();
    let told: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("out  ")).collect();
    let of = |start: &str| *told.iter().find(|line| line.starts_with(start)).unwrap();
    let (down, up) = (of("qdisc tbf on garth"), of("qdisc tbf on gifb"));
    host.garth(&format!("wrap -d {flags}")).run().ok();
    for (line, rate) in [(down, "16Mbit"), (up, "10Mbit")] {
        let device = line.split([' ', ':']).nth(3).unwrap();
        let burst = line.split(' ').skip_while(|word| *word != "burst").nth(1).unwrap();
        let limit = line.split(' ').skip_while(|word| *word != "limit").nth(1).unwrap();
        let shown = host.sh(&format!("tc -d -r qdisc show dev {device} root")).run().ok();
        assert!(shown.contains(&format!("rate {rate} burst {burst}b")), "{line}\n{shown}");
        let json = host.sh(&format!("tc -j qdisc show dev {device} root")).run().ok();
        let latency = (limit.parse::<f64>().unwrap() - burst.parse::<f64>().unwrap()) * 8.
            / rate.trim_end_matches("Mbit").parse::<f64>().unwrap();
        let lat = json.split("\"lat\":").nth(1).and_then(|t| t.split([',', '}']).next()).unwrap();
        let lat: f64 = lat.parse().unwrap();
        assert!((lat - latency).abs() < 2., "{line}\n{json}");
    }
    host.garth("kill -s KILL web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_damaged_record_keeps_nothing_from_being_released() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    for damage in ["echo x > record.json", "rm record.json", ": > record.json"] {
        host.garth("wrap -d --name web --network private --rate 1Mbit/s -- sleep 1000").run().ok();
        host.sh(&format!("cd /run/garth/sandboxes/web; {damage}")).run().ok();
        host.garth("delete --force web").run().ok();
        host.assert_nothing_left();
    }
    // Even if nothing of it is left on record, and its keeper is gone.
    host.garth("wrap -d --name web --network private --rate 1Mbit/s -- sleep 1000").run().ok();
    host.sh("pkill -KILL -x garth-keeper; rm -r /run/garth/sandboxes/web /run/garth/leases")
        .run()
        .ok();
    assert!(host.left().iter().any(|line| line.contains("gifb")));
    host.sh("pkill -KILL -x sleep").run().ok();
    until("the link is gone", || {
        host.left().iter().all(|line| !line.contains("link garth")).then_some(())
    });
    let told = host.garth("gc").run().ok();
    assert!(told.contains("removed ifb gifb"), "{told}");
    host.assert_nothing_left();
}

#[test]
fn a_rate_costs_a_start_few_system_calls() {
    needs!(root, netns, "strace");
    let host = Host::with_neighbour();
    let calls = |flags: &str| {
        host.sh(&format!("strace -o /srv/calls $GARTH wrap --network private {flags} -- true"))
            .run()
            .ok();
        f64::from(host.read("/srv/calls").lines().count() as u32)
    };
    // The first one makes the firewall's table.
    calls("");
    let (without, with) = (calls(""), calls("--rate 10Mbit/s"));
    println!("{without} system calls without a rate, {with} with one each way");
    assert!(with / without < 1.25, "{without} system calls became {with}");
}

// ---- Containers -----------------------------------------------------------------------------------

/// A network as engines make it: a namespace that outlives the container, with a veth pair into it.
fn engine(host: &Host) {
    host.sh(
        "unshare -n sh -c 'touch /run/netns/box; mount --bind /proc/self/ns/net /run/netns/box'
        ip link add veth0 type veth peer name eth0 netns box
        box() { nsenter --net=/run/netns/box ip \"$@\"; }
        ip addr add 198.51.100.1/24 dev veth0
        box addr add 198.51.100.2/24 dev eth0
        ip link set veth0 up; box link set eth0 up; box link set lo up",
    )
    .run()
    .ok();
}

/// The engine's part at the end.
fn dismantle(host: &Host) {
    host.sh("ip link del veth0; umount /run/netns/box; rm /run/netns/box").run().ok();
}

fn bundle<'a>(host: &'a Host, id: &str, rates: &[(&str, &str)]) -> Bundle<'a> {
    let mut bundle = Bundle::named(host, id);
    bundle.script("exec sleep 600");
    bundle.namespace("network", Some("/run/netns/box"));
    for (way, rate) in rates {
        bundle.config["annotations"][format!("dev.garth.rate.{way}")] = (*rate).into();
    }
    bundle
}

/// The output of tc(8) for the engine's link, and the devices that were made.
fn kept(host: &Host) -> String {
    host.sh("tc qdisc show dev veth0; tc qdisc show | grep gifb || true").run().ok()
}

#[test]
fn a_containers_link_is_held_to_its_annotations() {
    needs!(root, netns, "tc", "busybox");
    let host = Host::new();
    host.sh("mkdir -p /run/netns").run().ok();
    engine(&host);
    let before = kept(&host);
    let container = bundle(&host, "web", &[("up", "10Mbit/s"), ("down", "2MB/s")]);
    container.create().ok();
    let limited = kept(&host);
    assert!(limited.contains("rate 16Mbit") && limited.contains("rate 10Mbit"), "{limited}");
    container.start().ok();
    container.call("update web --rate up=none").run().ok();
    let changed = kept(&host);
    assert!(changed.contains("rate 16Mbit") && !changed.contains("gifb"), "{changed}");
    container.call("update --rate up=1Mbit/s,down=3Mbit/s web").run().ok();
    let changed = kept(&host);
    assert!(changed.contains("rate 3Mbit") && changed.contains("rate 1Mbit"), "{changed}");
    // The engine's link lives on, unchanged.
    container.call("delete --force web").run().ok();
    assert_eq!(kept(&host), before);
    // One that had no rate gets one.
    let container = bundle(&host, "plain", &[]);
    container.detach().ok();
    assert_eq!(kept(&host), before);
    container.call("update plain --rate down=7Mbit/s").run().ok();
    assert!(kept(&host).contains("rate 7Mbit"));
    host.sh("echo x > /run/spec/containers/plain/record.json").run().ok();
    container.call("delete --force plain").run().ok();
    assert_eq!(kept(&host), before);
    dismantle(&host);
}

#[test]
fn the_containers_of_a_pod_share_a_rate() {
    needs!(root, netns, "tc", "busybox");
    let host = Host::new();
    host.sh("mkdir -p /run/netns").run().ok();
    engine(&host);
    let before = kept(&host);
    let pause = bundle(&host, "pause", &[("up", "10Mbit/s")]);
    pause.detach().ok();
    let limited = kept(&host);
    let other = bundle(&host, "other", &[("up", "11Mbit/s")]);
    let refused = other.create();
    assert_ne!(refused.code, 0);
    assert!(
        other.errors().contains("veth0 is already limited to up=10Mbit/s by another"),
        "{}",
        other.errors()
    );
    let same = bundle(&host, "same", &[("up", "10Mbit/s")]);
    same.detach().ok();
    same.call("delete --force same").run().ok();
    assert_eq!(kept(&host), limited);
    pause.call("delete --force pause").run().ok();
    assert_eq!(kept(&host), before);
    dismantle(&host);
}

#[test]
fn containers_and_sandboxes_share_a_group() {
    needs!(root, netns, "tc", "busybox");
    let host = Host::with_neighbour();
    host.sh("mkdir -p /run/netns").run().ok();
    engine(&host);
    let before = kept(&host);
    let classes = || {
        let list = "tc class show dev gifbu-all | grep -o 'ceil [^ ]*' | sort | xargs";
        host.sh(list).run().ok()
    };
    let web = bundle(&host, "web", &[("group", "all:up=10Mbit/s,share=2"), ("up", "4Mbit/s")]);
    web.detach().ok();
    assert_eq!(classes(), "ceil 10Mbit ceil 4Mbit");
    host.garth("wrap -d --name host --network private --rate-group all:up=10Mbit/s -- sleep 600")
        .run()
        .ok();
    assert_eq!(classes(), "ceil 10Mbit ceil 10Mbit ceil 4Mbit");
    web.call("update web --rate up=5Mbit/s").run().ok();
    assert_eq!(classes(), "ceil 10Mbit ceil 10Mbit ceil 5Mbit");
    web.call("update web --rate up=11Mbit/s").run().fails(1);
    // Another container of the pod may ask for the same, and changes nothing.
    let same = bundle(&host, "same", &[("group", "all:up=10Mbit/s"), ("up", "5Mbit/s")]);
    same.detach().ok();
    same.call("delete --force same").run().ok();
    assert_eq!(classes(), "ceil 10Mbit ceil 10Mbit ceil 5Mbit");
    // The engine's link lives on, without a limit; the group keeps working for the other.
    web.call("delete --force web").run().ok();
    assert_eq!(classes(), "ceil 10Mbit ceil 10Mbit");
    host.garth("delete --force host").run().ok();
    assert_eq!(kept(&host), before);
    // A filter installed by another program is left alone.
    host.sh("tc qdisc add dev veth0 clsact").run().ok();
    let watched = kept(&host);
    let refused = bundle(&host, "refused", &[("group", "all:up=10Mbit/s")]);
    assert_ne!(refused.create().code, 0);
    let error = refused.errors();
    assert!(error.contains("veth0 has an ingress filter that was not set by Garth"), "{error}");
    assert_eq!(kept(&host), watched);
    dismantle(&host);
}

#[test]
fn an_annotation_that_cannot_be_met_is_refused() {
    needs!(root, netns, "busybox");
    let host = Host::new();
    host.sh("mkdir -p /run/netns").run().ok();
    engine(&host);
    let mut refused = Vec::new();
    for (rate, why) in [
        ("10", "missing unit"),
        ("0bit/s", "less than one bit"),
        ("1bit/s", "less than 8kbit/s"),
        ("fast", "not a number"),
    ] {
        let wrong = bundle(&host, &format!("wrong{}", refused.len()), &[("up", rate)]);
        assert_ne!(wrong.create().code, 0);
        let errors = wrong.errors();
        assert!(errors.contains("annotation") && errors.contains(why), "{errors}");
        refused.push(wrong);
    }
    let mut shared = bundle(&host, "host", &[("down", "1Mbit/s")]);
    shared.without_namespace("network");
    assert_ne!(shared.create().code, 0);
    assert!(shared.errors().contains("shares the host's network"), "{}", shared.errors());
    // A device without a queue and without another end.
    let mut lonely = bundle(&host, "lonely", &[("down", "1Mbit/s")]);
    lonely.namespace("network", None);
    assert_ne!(lonely.create().code, 0);
    assert!(lonely.errors().contains("no network device but loopback"), "{}", lonely.errors());
    assert!(!kept(&host).contains("tbf"));
    dismantle(&host);
}
