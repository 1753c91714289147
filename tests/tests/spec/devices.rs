//! linux.devices, and the devices and links that always exist.

use serde_json::json;

use crate::refused;

#[test]
fn the_default_devices() {
    bundle!(host, bundle);
    let script = "umask 0; cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty";
    let all = "null character special file 1:3 666
zero character special file 1:5 666
full character special file 1:7 666
random character special file 1:8 666
urandom character special file 1:9 666
tty character special file 5:0 666";
    assert_eq!(bundle.script(script).run().ok(), all);
}

#[test]
fn the_default_devices_work() {
    bundle!(host, bundle);
    let script =
        "echo x >/dev/null && head -c 1 /dev/zero | wc -c && head -c 1 /dev/urandom | wc -c
        echo x >/dev/full || echo full";
    assert_eq!(bundle.script(script).run().ok(), "1\n1\nfull");
}

#[test]
fn the_links() {
    bundle!(host, bundle);
    let script = "cd /dev; for link in fd stdin stdout stderr; do readlink $link; done";
    let found = bundle.script(script).run().ok();
    assert_eq!(found, "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2");
}

#[test]
fn ptmx_is_that_of_the_container() {
    bundle!(host, bundle);
    let script = "readlink -f /dev/ptmx; stat -L -c %t:%T /dev/ptmx; stat -c %d /dev/pts; stat -L -c %d /dev/ptmx";
    let text = bundle.script(script).run().ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(["/dev/pts/ptmx", "/dev/ptmx"].contains(&lines[0]), "{text}");
    assert_eq!((lines[1], lines[2]), ("5:2", lines[3]));
}

#[test]
fn no_console_without_a_terminal() {
    bundle!(host, bundle);
    assert_ne!(bundle.script("test -c /dev/console").run().code, 0);
}

#[test]
fn a_character_device_with_mode_and_owner() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] = json!([{"path": "/dev/tea", "type": "c", "major": 1,
        "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8}]);
    bundle.script("stat -c '%F %t:%T %a %u:%g' /dev/tea").save();
    let run = "umask 077; exec $R run --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "character special file 1:3 640 7:8");
}

#[test]
fn an_unbuffered_device() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/tea", "type": "u", "major": 1, "minor": 3, "fileMode": 0o666}]);
    let script = "stat -c '%F %t:%T' /dev/tea";
    assert_eq!(bundle.script(script).run().ok(), "character special file 1:3");
}

#[test]
fn a_block_device() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/tea", "type": "b", "major": 7, "minor": 3, "fileMode": 0o600}]);
    let script = "stat -c '%F %t:%T %a' /dev/tea";
    assert_eq!(bundle.script(script).run().ok(), "block special file 7:3 600");
}

#[test]
fn a_fifo() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/tea", "type": "p", "fileMode": 0o622, "uid": 7, "gid": 8}]);
    let script = "stat -c '%F %a %u:%g' /dev/tea";
    assert_eq!(bundle.script(script).run().ok(), "fifo 622 7:8");
}

#[test]
fn outside_of_dev_in_directories_that_are_made() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] = json!([
        {"path": "/some/where/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
        {"path": "/dev/net/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]);
    let script =
        "echo x >/some/where/null && echo x >/dev/net/null && stat -c %t:%T /some/where/null";
    assert_eq!(bundle.script(script).run().ok(), "1:3");
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666}]);
    let script = "stat -c %t:%T /dev/full; echo x >/dev/full || echo full";
    assert_eq!(bundle.script(script).run().ok(), "1:7\nfull");
}

#[test]
fn a_file_in_its_place_is_refused() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("tea"), "leaves");
    bundle.config["linux"]["devices"] =
        json!([{"path": "/tea", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    refused(&mut bundle);
}

#[test]
fn another_device_in_its_place_is_refused() {
    bundle!(host, bundle);
    host.sh(&format!("mknod {} c 1 5", bundle.rootfs("tea"))).run().ok();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/tea", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    refused(&mut bundle);
}

#[test]
fn the_same_device_in_its_place_is_taken() {
    bundle!(host, bundle);
    host.sh(&format!("mknod {} c 1 3", bundle.rootfs("tea"))).run().ok();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/tea", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    bundle.script("stat -c %t:%T /tea; rm -f /tea");
    assert_eq!(bundle.run().ok(), "1:3");
}

#[test]
fn an_unknown_type_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/tea", "type": "t", "major": 1, "minor": 3}]);
    refused(&mut bundle);
}

#[test]
fn a_path_by_a_symbolic_link_stays_inside() {
    bundle!(host, bundle);
    host.sh(&format!("mkdir /srv/victim; ln -s /srv/victim {}", bundle.rootfs("link"))).run().ok();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/link/tea", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    bundle.run();
    assert_eq!(host.sh("ls /srv/victim").run().ok(), "");
}

#[test]
fn in_a_user_namespace_under_a_name_that_the_host_lacks() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(100_000);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/nothing", "type": "c", "major": 1, "minor": 3}]);
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    let script = "stat -c %t:%T /dev/nothing; echo word >/dev/nothing; cat /proc/self/mountinfo";
    let text = bundle.script(script).run().ok();
    assert!(text.starts_with("1:3\n"), "{text}");
    for device in ["/dev/nothing", "/dev/null", "/dev/zero"] {
        let options = crate::mounted(&text, device).unwrap().options;
        for option in ["nosuid", "noexec"] {
            assert!(options.iter().any(|there| there == option), "{device}: {options:?}");
        }
    }
}

#[test]
fn in_a_user_namespace_one_that_the_host_lacks_is_refused() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(100_000);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/nothing", "type": "c", "major": 240, "minor": 77}]);
    let words = refused(&mut bundle);
    assert!(words.contains("/dev/nothing"), "{words}");
}
