//! `exec --user`: which user is meant, in a root file system that says what its author likes.

use garth_tests::Bundle;

fn ids(bundle: &Bundle, user: &str) -> String {
    bundle.exec(&format!("--user {user}"), "echo $(id -u) $(id -g) $(id -G)").ok()
}

#[test]
fn only_numbers_are_users() {
    bundle!(host, bundle);
    bundle.sleeping();
    let bad = [
        "root",
        "user",
        "-1",
        "+0",
        "+1000",
        "0x0",
        "1e3",
        "1_000",
        "４",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "0:0:0",
        "0:",
        ":0",
        ":",
        "0:-1",
        "0:+1",
        "0:4294967295",
        "0:root",
        "0.0",
        "0,0",
    ];
    for user in bad {
        let ran = bundle.exec(&format!("--user={user}"), "echo it runs");
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{user}: {ran}");
    }
    for user in ["", " 0", "0 ", "0\n0", "0\t:0"] {
        let call = bundle.call("exec --user").arg(user).arg(&bundle.id).arg("echo").arg("it runs");
        let ran = call.run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{user:?}: {ran}");
    }
}

/// The image has a user whose name is a number.
#[test]
fn a_number_is_no_name() {
    bundle!(host, bundle);
    let passwd = "1000:x:0:0::/:/bin/sh\n+:x:0:0::/:/bin/sh\nuser:x:1000:0::/root:/bin/sh\n";
    host.write(&bundle.rootfs("/etc/passwd"), passwd);
    host.write(&bundle.rootfs("/etc/group"), "1000:x:0:\nwheel:x:0:1000,user\n");
    bundle.sleeping();
    assert_eq!(ids(&bundle, "1000:1000"), "1000 1000 1000");
    assert_eq!(ids(&bundle, "4294967294:4294967294"), "4294967294 4294967294 4294967294");
}

/// Another user is not in root's group because of that.
#[test]
fn without_a_group_it_stays_that_of_the_container() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    bundle.sleeping();
    assert_eq!(ids(&bundle, "1001"), "1001 1000 1000");
    assert_eq!(ids(&bundle, "1001:7"), "1001 7 7");
}

/// The caller's other groups stay outside.
#[test]
fn supplementary_groups_are_those_asked_for() {
    bundle!(host, bundle);
    garth_tests::needs!("setpriv");
    bundle.script("id -G; exec sleep 600");
    let with_groups = "setpriv --groups=4,27,999 --";
    let run = format!("{with_groups} $R run --detach --bundle $B $ID </dev/null >$B/out 2>$B/err");
    bundle.sh(&run).run().ok();
    let ran = bundle.sh(&format!("exec {with_groups} $R exec --user 7:8 $ID id -G")).run();
    assert_eq!(ran.ok(), "8");
    garth_tests::until("it has written", || (bundle.output() == "0").then_some(()));
}
