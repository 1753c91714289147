//! linux.namespaces, the mappings of a user namespace, the offsets of a time namespace, and the
//! names in a UTS namespace.

use garth_tests::{Bundle, Host, Running};
use serde_json::json;

use crate::refused;

/// The names in /proc/PID/ns, and the types of config.json.
const NAMES: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mnt", "mount"),
    ("net", "network"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

fn file_of(kind: &str) -> &'static str {
    NAMES.iter().find(|(_, name)| *name == kind).unwrap().0
}

fn inside(bundle: &mut Bundle, file: &str) -> String {
    bundle.script(&format!("readlink /proc/self/ns/{file}")).run().ok()
}

fn outside(host: &Host, file: &str) -> String {
    host.sh(&format!("readlink /proc/self/ns/{file}")).run().ok()
}

fn is_new(kind: &str) {
    bundle!(host, bundle);
    if kind == "user" {
        bundle.user_namespace(200_000);
    }
    bundle.namespace(kind, None);
    assert_ne!(inside(&mut bundle, file_of(kind)), outside(&host, file_of(kind)));
}

fn is_inherited(kind: &str) {
    bundle!(host, bundle);
    bundle.without_namespace(kind);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    assert_eq!(inside(&mut bundle, file_of(kind)), outside(&host, file_of(kind)));
}

/// A process in a new namespace, and the path of that.
fn holder(host: &Host, kind: &str) -> (Running, String) {
    let option = file_of(kind).replace("mnt", "mount");
    let script = match kind {
        // unshare(1) itself stays outside these two.
        "pid" | "time" => {
            format!("echo $$; exec unshare --{option} --fork --kill-child sleep 600")
        }
        _ => format!("exec unshare --{option} sh -c 'echo $$; exec sleep 600'"),
    };
    let running = host.sh(&script).start();
    let pid = running.line();
    let file = match kind {
        "pid" | "time" => format!("{}_for_children", file_of(kind)),
        _ => file_of(kind).to_owned(),
    };
    let path = format!("/proc/{pid}/ns/{file}");
    // The namespace for children only has a link once it has a process.
    garth_tests::until("the namespace is there", || {
        let read = host.sh(&format!("readlink {path}")).run();
        let own = outside(host, file_of(kind));
        (read.code == 0 && read.stdout != own).then_some(())
    });
    (running, path)
}

fn is_joined(kind: &str) {
    bundle!(host, bundle);
    let (running, path) = holder(&host, kind);
    bundle.namespace(kind, Some(&path));
    if kind == "user" {
        let process = path.trim_end_matches("/ns/user");
        let map = "echo 0 200000 65536";
        host.sh(&format!("{map} >{process}/uid_map; {map} >{process}/gid_map")).run().ok();
        bundle.user_namespace(200_000);
        bundle.namespace("user", Some(&path));
    }
    bundle.config.as_object_mut().unwrap().remove("hostname");
    let there = host.sh(&format!("readlink {path}")).run().ok();
    assert_eq!(inside(&mut bundle, file_of(kind)), there);
    drop(running);
}

macro_rules! each {
    ($test:ident: $($name:ident $kind:literal),+) => {
        $(#[test] fn $name() {
            // In a chroot there are no user namespaces, and joining a mount namespace leads
            // outside.
            if matches!($kind, "user" | "mount") {
                garth_tests::needs!(userns);
            }
            $test($kind);
        })+
    };
}

each!(is_new: new_cgroup "cgroup", new_ipc "ipc", new_mount "mount", new_network "network",
    new_pid "pid", new_time "time", new_user "user", new_uts "uts");

each!(is_inherited: inherited_cgroup "cgroup", inherited_ipc "ipc", inherited_network "network",
    inherited_pid "pid", inherited_time "time", inherited_user "user", inherited_uts "uts");

each!(is_joined: by_path_cgroup "cgroup", by_path_ipc "ipc", by_path_mount "mount",
    by_path_network "network", by_path_pid "pid", by_path_time "time", by_path_user "user",
    by_path_uts "uts");

#[test]
fn pid_1_is_the_process_in_a_new_pid_namespace() {
    bundle!(host, bundle);
    assert_eq!(bundle.script("echo $$; ls -d /proc/[0-9]*").run().ok(), "1\n/proc/1");
}

#[test]
fn a_new_network_namespace_has_loopback_up() {
    bundle!(host, bundle);
    let script = "ls /sys/class/net; cat /sys/class/net/lo/flags; ip -4 addr show lo";
    let text = bundle.script(script).run().ok();
    assert!(text.contains("lo\n0x9\n") && text.contains("inet 127.0.0.1/8"), "{text}");
}

#[test]
fn a_path_of_another_type_is_refused() {
    bundle!(host, bundle);
    bundle.namespace("network", Some("/proc/self/ns/uts"));
    refused(&mut bundle);
}

#[test]
fn a_path_that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.namespace("network", Some("/run/netns/nothing"));
    refused(&mut bundle);
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    bundle!(host, bundle);
    bundle.namespace("network", Some("/etc/hosts"));
    refused(&mut bundle);
}

#[test]
fn a_type_twice_is_refused() {
    bundle!(host, bundle);
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.push(json!({"type": "network"}));
    refused(&mut bundle);
}

#[test]
fn an_unknown_type_is_refused() {
    bundle!(host, bundle);
    bundle.namespace("weather", None);
    refused(&mut bundle);
}

#[test]
fn user_mappings_are_the_ones_asked_for() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["linux"]["gidMappings"] = json!([
        {"containerID": 0, "hostID": 200_000, "size": 1000},
        {"containerID": 1000, "hostID": 300_000, "size": 64000},
    ]);
    let map = bundle.script("cat /proc/self/uid_map /proc/self/gid_map").run().ok();
    let lines: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        vec!["0", "200000", "65536"],
        vec!["0", "200000", "1000"],
        vec!["1000", "300000", "64000"],
    ];
    assert_eq!(lines, expected);
}

#[test]
fn files_of_a_user_namespace_have_mapped_owners() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 100});
    host.sh(&format!("chmod 777 {}", bundle.rootfs("tmp"))).run().ok();
    let ids = bundle.script("touch /tmp/made; stat -c %u:%g /tmp/made /bin/busybox").run().ok();
    assert_eq!(ids, "1000:100\n0:0");
    let made = bundle.rootfs("tmp/made");
    assert_eq!(host.sh(&format!("stat -c %u:%g {made}")).run().ok(), "201000:200100");
}

#[test]
fn a_user_namespace_has_the_default_devices_and_a_terminal_file_system() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    let script = "echo x >/dev/null && head -c 4 /dev/zero | od -An -tx1; ls /dev/pts/ptmx";
    assert_eq!(bundle.script(script).run().ok(), " 00 00 00 00\n/dev/pts/ptmx");
}

#[test]
fn a_user_namespace_without_mappings_is_refused() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.namespace("user", None);
    refused(&mut bundle);
}

#[test]
fn time_offsets() {
    bundle!(host, bundle);
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({
        "monotonic": {"secs": 7_000_000, "nanosecs": 500},
        "boottime": {"secs": 900_000_000},
    });
    let text = bundle.script("cat /proc/self/timens_offsets /proc/uptime").run().ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "7000000", "500", "boottime", "900000000", "0"]);
    assert!(words[6].parse::<f64>().unwrap() > 900_000_000.0, "{text}");
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 7}});
    refused(&mut bundle);
}

#[test]
fn hostname() {
    bundle!(host, bundle);
    bundle.config["hostname"] = "garden-shed".into();
    assert_eq!(bundle.script("hostname").run().ok(), "garden-shed");
    assert_ne!(host.sh("uname -n").run().ok(), "garden-shed");
}

#[test]
fn domainname() {
    bundle!(host, bundle);
    bundle.config["domainname"] = "garden.example".into();
    let script = "cat /proc/sys/kernel/domainname";
    assert_eq!(bundle.script(script).run().ok(), "garden.example");
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    bundle!(host, bundle);
    bundle.without_namespace("uts");
    refused(&mut bundle);
}

#[test]
fn net_devices_are_moved_and_renamed() {
    bundle!(host, bundle);
    host.sh("ip link add veth7 address 02:00:00:00:00:07 type veth peer name veth8
        ip addr add 192.0.2.7/24 dev veth7
        ip addr add 2001:db8::7/64 dev veth7 nodad")
        .run()
        .ok();
    bundle.config["linux"]["netDevices"] = json!({"veth7": {"name": "eth0"}});
    let script = "ls /sys/class/net; cat /sys/class/net/eth0/address; ip addr show eth0";
    let text = bundle.script(script).run().ok();
    for word in ["eth0\nlo\n02:00:00:00:00:07\n", "192.0.2.7/24", "2001:db8::7/64", "UP"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(!text.contains("veth7"), "{text}");
}

#[test]
fn net_devices_keep_their_name_when_no_other_is_given() {
    bundle!(host, bundle);
    host.sh("ip link add veth7 type veth peer name veth8").run().ok();
    bundle.config["linux"]["netDevices"] = json!({"veth7": {}});
    assert_eq!(bundle.script("ls /sys/class/net").run().ok(), "lo\nveth7");
}

#[test]
fn net_devices_that_are_not_there_are_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["netDevices"] = json!({"veth7": {"name": "eth0"}});
    refused(&mut bundle);
}

#[test]
fn net_devices_without_a_network_namespace_are_refused() {
    bundle!(host, bundle);
    host.sh("ip link add veth7 type veth peer name veth8").run().ok();
    bundle.without_namespace("network");
    bundle.config["linux"]["netDevices"] = json!({"veth7": {"name": "eth0"}});
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    host.sh("ip link del veth7").run().ok();
}
