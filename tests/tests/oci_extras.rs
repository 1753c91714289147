//! What neither a specification nor runc has, done as crun does it: patterns for `kill` and
//! `delete`, `mounts add` and `remove`; and pidfds by `--pidfd-socket`.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::fd::AsRawFd;

use garth_tests::{Bundle, Host, Ran, Socket, needs};
use serde_json::{Value, json};

#[test]
fn kill_and_delete_take_every_container_that_a_pattern_matches() {
    needs!(root);
    let host = Host::new();
    let mut bundles = ["web-1", "web-2", "db"].map(|id| Bundle::named(&host, id));
    for bundle in &mut bundles {
        bundle.sleeping();
    }
    let [one, two, other] = &bundles;
    other.call("kill --regex ^web- KILL").run().ok();
    one.until("stopped");
    two.until("stopped");
    assert_eq!(other.status(), "running");
    other.call("delete --regex ^web-").run().ok();
    assert_eq!(other.call("list -q").run().ok(), "db");
    // Without the option it is a name, and no container has that name.
    assert!(other.call("kill ^db KILL").run().fails(1).contains("^db"));
    assert!(other.call("kill --regex ( KILL").run().fails(1).contains("--regex"));
    assert!(other.call("delete --regex ^d").run().fails(1).contains("not stopped"));
    other.call("delete --force --regex ^d").run().ok();
    assert_eq!(other.call("list -q").run().ok(), "");
}

#[test]
fn a_pattern_goes_on_behind_a_container_that_refuses() {
    needs!(root);
    let host = Host::new();
    let mut bundles = ["a-runs", "b-stopped"].map(|id| Bundle::named(&host, id));
    for bundle in &mut bundles {
        bundle.sleeping();
    }
    let [runs, stopped] = &bundles;
    stopped.kill("KILL").ok();
    stopped.until("stopped");
    assert!(runs.call("delete --regex -").run().fails(1).contains("a-runs"));
    assert_eq!(runs.call("list -q").run().ok(), "a-runs");
}

#[test]
fn kill_all_reaches_those_that_the_first_process_has_left() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.without_namespace("pid");
    bundle.script("setsid sleep 600 & exit 0").detach().ok();
    bundle.until("stopped");
    let sleeps = || host.sh("pgrep -x sleep").run().code == 0;
    garth_tests::until("what is left behind sleeps", || sleeps().then_some(()));
    bundle.call(&format!("kill --all {} KILL", bundle.id)).run().ok();
    garth_tests::until("nobody sleeps", || {
        host.sh("pgrep -x sleep").run().stdout.is_empty().then_some(())
    });
}

/// `mounts add` or `remove` of a list.
fn mounts(bundle: &Bundle, verb: &str, list: &Value) -> Ran {
    let call = bundle.call(&format!("mounts {verb} {} -", bundle.id));
    call.input(&list.to_string()).run()
}

#[test]
fn mounts_are_added_to_a_container_that_runs_and_removed_again() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/data/file", "text");
    host.write(&bundle.dir("beside/file"), "from the bundle");
    bundle.sleeping();
    let list = json!([
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]},
        {"destination": "/beside", "type": "bind", "source": "beside", "options": ["bind"]},
        {"destination": "/made", "type": "tmpfs", "source": "made", "options": ["size=64k", "nosuid"]},
    ]);
    mounts(&bundle, "add", &list).ok();
    let script = "cat /data/file; echo; cat /beside/file; echo; touch /made/file && echo made
        touch /data/file 2>/dev/null || echo ro; grep -o '/made .*nosuid.*size=64k' /proc/self/mountinfo | wc -l";
    assert_eq!(bundle.exec("", script).ok(), "text\nfrom the bundle\nmade\nro\n1");
    // Existing mounts can be changed too.
    let again = json!([{"destination": "/made", "type": "tmpfs", "options": ["remount", "ro"]}]);
    mounts(&bundle, "add", &again).ok();
    assert_eq!(bundle.exec("", "touch /made/x 2>/dev/null || echo ro").ok(), "ro");
    // An object that contains the list works too.
    mounts(&bundle, "remove", &json!({"mounts": list})).ok();
    let script = "grep -cE ' /(data|beside|made) ' /proc/self/mountinfo; ls /data";
    assert_eq!(bundle.exec("", script).stdout, "0");
    assert!(mounts(&bundle, "remove", &list).fails(1).contains("/data"));
}

#[test]
fn added_mounts_stay_inside_whatever_links_are_there() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/data/file", "text");
    host.write("/srv/victim/file", "outside");
    bundle.sleeping();
    bundle.exec("", "mkdir -p /srv/victim; ln -s /srv/victim /link; ln -s ../../../srv /up").ok();
    for destination in ["/link", "/up/made"] {
        let mount =
            json!([{"destination": destination, "source": "/srv/data", "options": ["bind"]}]);
        mounts(&bundle, "add", &mount).ok();
    }
    let script = "cat /srv/victim/file; cat /srv/made/file";
    assert_eq!(bundle.exec("", script).ok(), "texttext");
    assert_eq!(host.read("/srv/victim/file"), "outside");
    assert!(!host.path("/srv/made").exists());
}

#[test]
fn what_cannot_be_added_or_removed_is_an_error() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    for (verb, list, words) in [
        ("add", json!([{"destination": "made", "type": "tmpfs"}]), "not an absolute path"),
        (
            "add",
            json!([{"destination": "/x", "source": "/srv/no", "options": ["bind"]}]),
            "/srv/no",
        ),
        ("add", json!([{"destination": "/x", "type": "cgroup"}]), "cgroup"),
        ("add", json!([{"destination": "/x", "type": "teafs"}]), "teafs"),
        ("add", json!({"tea": 1}), "standard input"),
        ("remove", json!([{"destination": "/"}]), "root"),
        ("remove", json!([{"destination": "/home"}]), "/home"),
    ] {
        let error = mounts(&bundle, verb, &list).fails(1);
        assert!(error.contains(words), "{verb} {list}: {error}");
    }
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    let list = json!([{"destination": "/made", "type": "tmpfs"}]);
    assert!(mounts(&bundle, "add", &list).fails(1).contains("not running"));
    bundle.delete().ok();
    assert!(mounts(&bundle, "add", &list).fails(1).contains("does not exist"));
}

/// The specification asks for the option; the type alone works too.
#[test]
fn a_mount_of_type_bind_is_one_and_its_source_may_be_relative() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write(&bundle.dir("beside/file"), "text");
    bundle.mount("/data", "bind", "beside", &["ro"]);
    let script = "cat /data/file; touch /data/made 2>/dev/null || echo ro";
    assert_eq!(bundle.script(script).run().ok(), "textro");
}

/// A pidfd of the process with this pid on the test host.
fn assert_pidfd(socket: &Socket, of: impl Fn(&[&str]) -> bool) {
    let (_, fds) = socket.receive();
    let [pidfd] = fds.as_slice() else { panic!("{} descriptors", fds.len()) };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("it is a pidfd");
    assert!(of(&line.split_whitespace().collect::<Vec<_>>()), "{info}");
}

#[test]
fn a_pidfd_of_the_process_is_sent() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let socket = Socket::listen(&host.path("/srv/pidfd.sock"));
    bundle.script("exec sleep 600").create_with("--pidfd-socket /srv/pidfd.sock").ok();
    let pid = bundle.pid().to_string();
    assert_pidfd(&socket, |numbers| numbers.contains(&&*pid));
    bundle.start().ok();
    let words = "exec --detach --pidfd-socket /srv/pidfd.sock $ID sleep 500";
    bundle.apart(words).ok();
    // Another process, which also has a pid in the container.
    assert_pidfd(&socket, |numbers| numbers.len() >= 3 && !numbers.contains(&&*pid));
}
