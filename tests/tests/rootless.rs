//! An ordinary user: containers without a cgroup, ids from subuid(5), and networks by pasta or
//! slirp4netns.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use garth_tests::{Call, Host, needs, until};
use serde_json::{Value, json};

/// Creates the user walker on this test host only, with a directory, a copy of the binary, and a
/// tun device as udev leaves it.
const WALKER: &str = r#"
for file in passwd group subuid subgid; do
    cp /etc/$file /srv/$file 2>/dev/null || : >/srv/$file
done
echo walker:x:4321:4321::/srv/home:/bin/sh >>/srv/passwd
echo walker:x:4321: >>/srv/group
echo walker:500000:65536 | tee -a /srv/subuid >>/srv/subgid
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || : >/etc/$file
    mount --bind /srv/$file /etc/$file
done
mkdir -p /srv/home /srv/bin /run/user/4321
chown 4321:4321 /srv/home /run/user/4321
chmod 700 /run/user/4321
cp "$GARTH" /srv/bin/garth
if [ -c /dev/net/tun ]; then
    mknod -m 666 /srv/tun c 10 200
    mount --bind /srv/tun /dev/net/tun
fi
"#;

struct Walker {
    host: Host,
}

impl Walker {
    fn new(host: Host) -> Walker {
        host.sh(WALKER).run().ok();
        Walker { host }
    }

    /// A shell script run by walker; `$G` is the binary.
    fn sh(&self, script: &str) -> Call {
        let prefix = "cd /srv/home && exec env -i PATH=${WALKER_PATH:-/usr/bin:/bin:/usr/sbin} \
            HOME=/srv/home USER=walker XDG_RUNTIME_DIR=/run/user/4321 G=/srv/bin/garth \
            setpriv --reuid 4321 --regid 4321 --init-groups -- sh -c \"$WALKER_SCRIPT\"";
        self.host.sh(prefix).env("WALKER_SCRIPT", script)
    }

    /// `garth spec --rootless`, and a busybox root file system.
    fn bundle(&self) -> Value {
        self.sh("mkdir -p rootfs/bin rootfs/dev rootfs/proc rootfs/sys rootfs/tmp &&
            cp /bin/busybox rootfs/bin/ &&
            for name in sh cat id ls sleep; do ln -sf busybox rootfs/bin/$name; done &&
            $G spec --rootless")
            .run()
            .ok();
        let mut config: Value =
            serde_json::from_str(&self.host.read("/srv/home/config.json")).unwrap();
        config["process"]["terminal"] = false.into();
        config
    }

    /// `garth run` with this configuration, and this shell script as its process.
    fn run(&self, config: &Value, script: &str) -> garth_tests::Ran {
        let mut config = config.clone();
        config["process"]["args"] = json!(["sh", "-c", script]);
        self.write(&config);
        self.sh("exec $G run box").run()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let undo = "umount /etc/passwd /etc/group /etc/subuid /etc/subgid; \
            ! [ -c /srv/tun ] || umount -l /dev/net/tun; \
            ip addr del fe80::1/64 dev lan0 2>/dev/null; :";
        self.host.sh(undo).run().ok();
        self.host.assert_nothing_left();
    }

    fn write(&self, config: &Value) {
        fs::write(self.host.path("/srv/home/config.json"), config.to_string()).unwrap();
    }
}

fn walker() -> Walker {
    Walker::new(Host::new())
}

#[test]
fn an_ordinary_user_runs_a_container_by_the_first_page() {
    needs!(root, "busybox", "setpriv");
    let walker = walker();
    let mut config = walker.bundle();
    let said = walker.run(&config, "id -u; cat /proc/self/setgroups").ok();
    assert_eq!(said, "0\ndeny");
    // Each verb.
    config["process"]["args"] = json!(["sleep", "600"]);
    walker.write(&config);
    let g = |words: &str| walker.sh(&format!("exec $G {words}")).run();
    walker.sh("exec $G create box </dev/null >/dev/null 2>&1").run().ok();
    assert!(g("state box").ok().contains("\"created\""));
    // Not traceable before its program is executed: its files belong to root.
    let pid = g("list --format json").ok();
    let pid = serde_json::from_str::<Value>(&pid).unwrap()[0]["pid"].to_string();
    assert_eq!(walker.host.sh(&format!("stat -c %u /proc/{pid}/environ")).run().ok(), "0");
    g("start box").ok();
    assert!(g("list").ok().contains("running"));
    assert!(g("ps box").ok().contains("sleep 600"));
    assert_eq!(g("exec box id -u").ok(), "0");
    assert!(g("pause box").fails(1).contains("freezer"));
    assert!(g("update --memory 64m box").fails(1).contains("memory.limit 67108864: the container"));
    g("kill box KILL").ok();
    until("it has ended", || g("state box").ok().contains("stopped").then_some(()));
    g("delete box").ok();
    assert_eq!(g("list -q").ok(), "");
    walker.assert_nothing_left();
}

#[test]
fn a_limit_that_cannot_be_had_without_root_is_named() {
    needs!(root, "busybox", "setpriv", userns);
    let walker = walker();
    let config = walker.bundle();
    for (name, limits) in [
        ("memory.limit 64000000", json!({"memory": {"limit": 64_000_000}})),
        ("pids.limit 50", json!({"pids": {"limit": 50}})),
    ] {
        let mut config = config.clone();
        config["linux"]["resources"] = limits;
        let said = walker.run(&config, "true").fails(1);
        assert!(said.contains(name) && said.contains("delegated"), "{said}");
    }
}

#[test]
fn ranges_of_ids_are_those_that_newuidmap_grants() {
    needs!(root, "busybox", "setpriv", "newuidmap", userns);
    let walker = walker();
    let mut config = walker.bundle();
    let ranges = |first: u32| {
        json!([{"containerID": 0, "hostID": 4321, "size": 1},
            {"containerID": 1, "hostID": first, "size": 65536}])
    };
    for (key, first) in [("uidMappings", 500_000), ("gidMappings", 500_000)] {
        config["linux"][key] = ranges(first);
    }
    config["process"]["user"] = json!({"uid": 33, "gid": 34, "additionalGids": [5]});
    let said = walker.run(&config, "id -u; id -G; cat /proc/self/setgroups").ok();
    assert_eq!(said, "33\n34 5\nallow");
    config["linux"]["uidMappings"] = ranges(700_000);
    let said = walker.run(&config, "true").fails(1);
    assert!(said.contains("newuidmap") && said.contains("/etc/subuid"), "{said}");
    walker.assert_nothing_left();
}

#[test]
fn a_score_is_set_as_far_as_the_user_may() {
    needs!(root, "busybox", "setpriv", userns);
    let walker = walker();
    let mut config = walker.bundle();
    config["process"]["oomScoreAdj"] = 333.into();
    assert_eq!(walker.run(&config, "cat /proc/self/oom_score_adj").ok(), "333");
    config["process"]["oomScoreAdj"] = (-1000).into();
    let said = walker.run(&config, "true").fails(1);
    assert!(said.contains("process.oomScoreAdj"), "{said}");
}

/// With a route for pasta, which wants a link-local address for IPv6.
fn online() -> Walker {
    let host = Host::with_neighbour();
    host.sh("ip addr add fe80::1/64 dev lan0 nodad").run().ok();
    Walker::new(host)
}

fn has_tun(walker: &Walker) -> bool {
    let there = walker.host.path("/dev/net/tun").exists();
    if !there {
        garth_tests::skip("tun", "/dev/net/tun");
    }
    there
}

#[test]
fn the_networks_process_ends_with_the_sandbox_and_lets_its_ports_go() {
    needs!(root, netns, "busybox", "setpriv", "pasta", "ss", userns);
    let walker = online();
    if !has_tun(&walker) {
        return;
    }
    let listening = || walker.host.sh("ss -Hlnt 'sport = :8080'").run().ok();
    for wrap in ["wrap", "wrap -d"] {
        let start = format!(
            "exec $G {wrap} --name web -p 0.0.0.0:8080:80 -p [::]:8080:80 -- \
                busybox httpd -f -p 80 -h /etc"
        );
        let running = walker.sh(&start).start();
        assert!(walker.host.get("http://127.0.0.1:8080/hostname").len() > 1);
        walker.host.get("http://[::1]:8080/hostname");
        walker.sh("exec $G kill web").run().ok();
        let _ = running.wait();
        until("the port is free", || listening().is_empty().then_some(()));
    }
    // A killed one is left to the collector.
    let running = walker.sh("exec $G wrap --name web -p 8080:80 -- sleep 600").start();
    until("the port is open", || (!listening().is_empty()).then_some(()));
    running.signal("KILL");
    drop(running);
    until("all is collected", || {
        walker.sh("exec $G gc").run();
        listening().is_empty().then_some(())
    });
    walker.assert_nothing_left();
}

/// A pasta that may not enter a sandbox, as with Debian 12's AppArmor profile.
#[test]
fn slirp4netns_takes_the_place_of_a_pasta_that_is_not_allowed_to_work() {
    needs!(root, netns, "busybox", "setpriv", "slirp4netns", "ss", userns);
    let walker = online();
    if !has_tun(&walker) {
        return;
    }
    let pasta = "#!/bin/sh\necho \"Couldn't open user namespace: Permission denied\" >&2\nexit 1\n";
    walker.host.write("/srv/bin/pasta", pasta);
    let path = walker.host.path("/srv/bin/pasta");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let sh = |script: &str| walker.sh(script).env("WALKER_PATH", "/srv/bin:/usr/bin:/bin");
    assert!(sh("exec $G doctor").run().stdout.contains("by slirp4netns"));
    sh("exec $G wrap -d --name web -p 8080:80 -- busybox httpd -f -p 80 -h /etc").run().ok();
    walker.host.get("http://127.0.0.1:8080/hostname");
    assert!(sh("exec $G check web").run().ok().contains("slirp4netns, process"));
    let said = sh("exec $G wrap -p 8080:80 -- true").run().fails(125);
    assert!(said.contains("-p 8080:80") && said.contains("slirp4netns"), "{said}");
    sh("exec $G kill web").run().ok();
    until("the port is free", || {
        walker.host.sh("ss -Hlnt 'sport = :8080'").run().ok().is_empty().then_some(())
    });
    // Without the device it reports the reason, not just its usual warning.
    walker.host.sh("chmod 600 /srv/tun").run().ok();
    let said = sh("exec $G wrap --network private -- true").run().fails(125);
    assert!(said.contains("/dev/net/tun"), "{said}");
    // If neither works, both say why.
    let slirp = "#!/bin/sh\necho no slirp today\nexit 1\n";
    walker.host.write("/srv/bin/slirp4netns", slirp);
    let path = walker.host.path("/srv/bin/slirp4netns");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let said = sh("exec $G wrap --network private -- true").run().fails(125);
    assert!(said.contains("Couldn't open user namespace"), "{said}");
    assert!(said.contains("no slirp today"), "{said}");
    walker.assert_nothing_left();
}

/// Root's own user namespace is a range of ids that no user outside has, or it is refused.
#[test]
fn root_in_a_user_namespace_is_not_the_hosts_root() {
    needs!(root, netns, "busybox", userns);
    let host = Host::new();
    host.write("/srv/subuid", "other:200000:65536\n");
    host.sh("for f in subuid subgid; do mount --bind /srv/subuid /etc/$f; done").run().ok();
    let said = host.garth("wrap --userns -- true").run().fails(125);
    assert!(said.contains("/etc/subuid has no ids for root"), "{said}");
    for wrong in ["0", "0:65536", "100000:0", "x"] {
        host.garth(&format!("wrap --userns={wrong} -- true")).run().refused(125, "--userns");
    }
    host.write("/srv/subuid", "root:300000:65536\n");
    let map = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
    let ids = |flag: &str| host.garth(&format!("wrap {flag}")).script(map).run().ok();
    assert_eq!(ids("--userns"), " 0 300000 65536\n 0 300000 65536");
    assert_eq!(ids("--userns=100000:5"), " 0 100000 5\n 0 100000 5");
    host.garth("wrap --userns=100000:5 -u 5 -- true").run().refused(125, "id 5 is not mapped");
    // It may not read what only the host's root may; what it makes belongs to it.
    host.write("/srv/private", "secret");
    host.sh("chmod 600 /srv/private").run().ok();
    let tries = "id -u; cat /srv/private; stat -c %u /srv/private /tmp; echo x >/tmp/x; echo x >/dev/null; \
        stat -c %u /tmp/x";
    let ran = host.garth("wrap --userns").script(tries).run();
    assert_eq!(ran.stdout, "0\n65534\n0\n0", "{}", ran.stderr);
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    // As a daemon with a port, another user, and a limit where available.
    let daemon =
        "wrap -d --name web --userns -u www-data -p 8080:80 -- busybox httpd -f -p 80 -h /etc";
    host.garth(daemon).run().ok();
    host.get("http://127.0.0.1:8080/hostname");
    assert_eq!(host.garth("exec web -- id -u").run().ok(), "33");
    let outside = "stat -c %u /proc/$(pgrep -x busybox)";
    assert_eq!(host.sh(outside).run().ok(), "300033");
    host.garth("kill web").run().ok();
    until("it has ended", || host.garth("ps -q").run().stdout.is_empty().then_some(()));
    host.sh("umount /etc/subuid /etc/subgid").run().ok();
    host.assert_nothing_left();
}
