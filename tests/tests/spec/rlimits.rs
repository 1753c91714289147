//! process.rlimits.

use serde_json::json;

use crate::refused;

/// Each type, with its line in /proc/PID/limits and values that are below any default.
const ALL: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 33, 1 << 34),
    ("RLIMIT_CORE", "Max core file size", 0, 0),
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_DATA", "Max data size", 1 << 32, 1 << 33),
    ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
    ("RLIMIT_LOCKS", "Max file locks", 70, 80),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 100, 200),
    ("RLIMIT_NPROC", "Max processes", 500, 600),
    ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 100, 200),
    ("RLIMIT_STACK", "Max stack size", 1 << 22, 1 << 23),
];

fn limit(table: &str, name: &str) -> (String, String) {
    let line = table.lines().find(|line| line.starts_with(name));
    let mut words =
        line.unwrap_or_else(|| panic!("no {name} in\n{table}"))[name.len()..].split_whitespace();
    (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
}

#[test]
fn every_type() {
    bundle!(host, bundle);
    let entry = |&(kind, _, soft, hard): &_| json!({"type": kind, "soft": soft, "hard": hard});
    bundle.config["process"]["rlimits"] = ALL.iter().map(entry).collect();
    let table = bundle.script("cat /proc/self/limits").run().ok();
    for (kind, name, soft, hard) in ALL {
        assert_eq!(limit(&table, name), (soft.to_string(), hard.to_string()), "{kind}");
    }
}

#[test]
fn infinity() {
    bundle!(host, bundle);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_CPU", "soft": u64::MAX, "hard": u64::MAX}]);
    let table = bundle.script("cat /proc/self/limits").run().ok();
    assert_eq!(limit(&table, "Max cpu time"), ("unlimited".into(), "unlimited".into()));
}

#[test]
fn hold_for_exec() {
    bundle!(host, bundle);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    bundle.sleeping();
    let table = bundle.exec("", "cat /proc/self/limits").ok();
    assert_eq!(limit(&table, "Max open files"), ("100".into(), "200".into()));
}

#[test]
fn an_unknown_type_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_TEA", "soft": 1, "hard": 1}]);
    refused(&mut bundle);
}

#[test]
fn a_type_twice_is_refused() {
    bundle!(host, bundle);
    let entry = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200});
    bundle.config["process"]["rlimits"] = json!([entry, entry]);
    refused(&mut bundle);
}

#[test]
fn a_soft_limit_above_the_hard_one_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]);
    refused(&mut bundle);
}

#[test]
fn a_limit_that_the_kernel_does_not_grant_is_refused() {
    bundle!(host, bundle);
    // More than fs.nr_open is refused to every process.
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 1u64 << 40, "hard": 1u64 << 40}]);
    refused(&mut bundle);
}
