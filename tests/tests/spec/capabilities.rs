//! process.capabilities and process.noNewPrivileges.

use serde_json::json;

use crate::status_of;

const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

// Bits of capabilities(7).
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;

fn bits(status: &str, name: &str) -> u64 {
    u64::from_str_radix(&status_of(status, name), 16).unwrap()
}

fn five(status: &str) -> [u64; 5] {
    ["CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"].map(|name| bits(status, name))
}

#[test]
fn of_root() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_KILL"]);
    let status = bundle.script("cat /proc/self/status").run().ok();
    let both = CHOWN | KILL;
    assert_eq!(five(&status), [both, both, 0, both, 0]);
}

#[test]
fn of_another_user_all_five_sets() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "effective": ["CAP_KILL"],
        "ambient": ["CAP_NET_BIND_SERVICE"],
    });
    let status = bundle.script("cat /proc/self/status").run().ok();
    // execve(2) leaves a user the ambient set of what was permitted and effective.
    let ambient = NET_BIND_SERVICE;
    assert_eq!(five(&status), [CHOWN | KILL | ambient, ambient, KILL | ambient, ambient, ambient]);
}

#[test]
fn of_another_user_without_ambient_are_none() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN"]);
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(five(&status), [CHOWN, 0, 0, 0, 0]);
}

#[test]
fn none_at_all() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    for set in SETS {
        bundle.capabilities(&[set], &[]);
    }
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(five(&status), [0; 5]);
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.config["process"]["capabilities"] = json!({});
    bundle
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(bits(&status, "CapBnd") & CHOWN, CHOWN);
    assert_eq!(bits(&status, "CapEff") & !(CHOWN | 1 << 24), 0);
}

#[test]
fn an_unknown_name_is_a_warning() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_TEA"]);
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(bits(&status, "CapEff"), CHOWN);
    let warned = |line: &serde_json::Value| {
        let is_warning = line["level"].as_str().unwrap().starts_with("warn");
        is_warning && line["msg"].as_str().unwrap().contains("CAP_TEA")
    };
    assert!(bundle.log().iter().any(warned), "{:?}", bundle.log());
}

#[test]
fn one_that_cannot_be_granted_is_a_warning() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_SYS_TIME"]);
    bundle.script("cat /proc/self/status").save();
    // First dropped from the runtime's own bounding set.
    let run = "exec setpriv --bounding-set -sys_time --inh-caps -sys_time sh -c 'exec $R run --bundle $B $ID'";
    let status = bundle.sh(run).run().ok();
    assert_eq!(bits(&status, "CapEff"), CHOWN);
}

#[test]
fn no_new_privileges() {
    bundle!(host, bundle);
    for (asked, found) in [(true, "1"), (false, "0")] {
        bundle.config["process"]["noNewPrivileges"] = asked.into();
        let status = bundle.script("cat /proc/self/status").run().ok();
        assert_eq!(status_of(&status, "NoNewPrivs"), found);
    }
}

#[test]
fn hold_for_exec() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN"]);
    bundle.sleeping();
    let status = bundle.exec("", "cat /proc/self/status").ok();
    assert_eq!(five(&status), [CHOWN, CHOWN, 0, CHOWN, 0]);
    assert_eq!(status_of(&status, "NoNewPrivs"), "1");
}

#[test]
fn a_name_that_is_said_to_be_left_out_is_left_out() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    let names = ["CAP_KILL", "chown", "CHOWN", "cap_chown"];
    bundle.capabilities(&["bounding", "effective", "permitted"], &names);
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(status_of(&status, "CapEff"), format!("{:016x}", 1 << 5), "{status}");
    assert!(bundle.log_text().contains("CHOWN"), "no warning: {}", bundle.log_text());
}
