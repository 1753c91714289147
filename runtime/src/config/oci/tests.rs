//! One test for each part of the specification: what is accepted, and what is refused and where.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn example(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/oci").join(name);
    std::fs::read(path).unwrap()
}

/// A configuration with all namespaces new; `change` is merged into it.
fn with(change: Value) -> Config {
    let mut base = json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["/bin/true"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {
            "namespaces": NamespaceType::NAMES.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        },
    });
    merge(&mut base, change);
    Config::parse(base.to_string().as_bytes()).unwrap()
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

/// The same without the namespaces of `kinds`.
fn without(kinds: &[&str], change: Value) -> Config {
    let mut config = with(change);
    let linux = config.linux.as_mut().unwrap();
    linux.namespaces.retain(|namespace| !kinds.contains(&namespace.kind.name()));
    if kinds.contains(&"user") {
        linux.uid_mappings.clear();
        linux.gid_mappings.clear();
    }
    config
}

#[track_caller]
fn good(change: Value) {
    with(change).validate().unwrap();
}

/// Refused, with a message that starts with `config.json: ` and contains `says`.
#[track_caller]
fn bad(config: &Config, says: &str) {
    let error = config.validate().expect_err(says).to_string();
    let rest = error.strip_prefix("config.json: ").unwrap_or_default();
    assert!(rest.starts_with(says), "{error}\nis not about\n{says}");
    assert!(!error.contains('\n'), "{error}");
}

#[track_caller]
fn refused(change: Value, says: &str) {
    bad(&with(change), says);
}

fn process(change: Value) -> Value {
    json!({"process": change})
}

fn linux(change: Value) -> Value {
    json!({"linux": change})
}

fn mount(change: Value) -> Value {
    json!({"mounts": [change]})
}

#[test]
fn the_examples_are_read_and_valid() {
    for name in ["minimal.json", "rootless.json", "everything.json", "engine.json"] {
        let config = Config::parse(&example(name)).unwrap();
        config.validate().unwrap();
    }
}

#[test]
fn no_field_is_lost_on_the_way_through_the_types() {
    let json = example("everything.json");
    let before: Value = serde_json::from_slice(&json).unwrap();
    let config = Config::parse(&json).unwrap();
    assert_eq!(serde_json::to_value(&config).unwrap(), before);
    let again = Config::parse(serde_json::to_string(&config).unwrap().as_bytes()).unwrap();
    assert_eq!(again, config);
}

/// A field missing from everything.json would escape the test above. The output of Debug has all of
/// them, `Name { field: value, .. }`.
#[test]
fn everything_has_every_field_of_the_types() {
    let text = format!("{:?}", Config::parse(&example("everything.json")).unwrap());
    let (mut given, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    let mut types: Vec<String> = Vec::new();
    let mut rest = text.as_str();
    while let Some(character) = rest.chars().next() {
        let word =
            rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        match (character, word) {
            ('"', _) => rest = rest[1..].split_once('"').unwrap().1,
            ('}', _) => {
                types.pop();
                rest = &rest[1..];
            }
            (_, 0) => {
                if character == '{' {
                    types.push("map".into());
                }
                rest = &rest[character.len_utf8()..];
            }
            _ => {
                let (name, after) = rest.split_at(word);
                rest = after;
                if let Some(fields) = after.strip_prefix(" {") {
                    types.push(name.to_owned());
                    rest = fields;
                } else if let Some(value) = after.strip_prefix(": ") {
                    let field = format!("{}.{name}", types.last().unwrap());
                    let value = value.split([',', ' ']).next().unwrap();
                    match matches!(value, "None" | "[]" | "{}" | "false" | "0" | "\"\"") {
                        true => lacking.insert(field),
                        false => given.insert(field),
                    };
                }
            }
        }
    }
    assert!(given.len() > 130, "{given:?}");
    let lacking: Vec<_> = lacking.difference(&given).collect();
    // None exists; not in the specification; not with a deadline.
    assert_eq!(lacking, ["Personality.flags", "Rule.comment", "Scheduler.priority"]);
}

#[test]
fn the_configuration_to_begin_with_is_that_of_runc() {
    let config = Config::example(None);
    config.validate().unwrap();
    let value = serde_json::to_value(&config).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&value), ["hostname", "linux", "mounts", "ociVersion", "process", "root"]);
    assert_eq!(value["process"]["user"], json!({"uid": 0, "gid": 0}));
    assert_eq!(value["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
    assert_eq!(
        value["mounts"][0],
        json!({"destination": "/proc", "type": "proc", "source": "proc"})
    );
    assert_eq!(value["mounts"].as_array().unwrap().len(), 7);
}

#[test]
fn the_configuration_for_somebody_who_is_not_root_is_in_the_examples() {
    let config = Config::example(Some((1000, 100)));
    config.validate().unwrap();
    let text = serde_json::to_string_pretty(&config).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/oci/rootless.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text.as_bytes(), example("rootless.json"));
    assert!(config.linux.unwrap().namespace(NamespaceType::Network).is_none());
}

#[test]
fn oci_version() {
    for version in ["1.0.0", "1.0.0-rc5-dev", "1.0.2-dev", "1.2.1+dev", "1.3.0", "1.99.0"] {
        good(json!({"ociVersion": version}));
    }
    for version in
        ["", "1", "1.0", "v1.0.0", "2.0.0", "0.9.0", "1.0.0 ", "1..0", "1.0.x", "1.0.0-\n"]
    {
        refused(json!({"ociVersion": version}), "ociVersion: ");
    }
}

#[test]
fn root() {
    refused(json!({"root": null}), "root: missing");
    refused(json!({"root": {"path": ""}}), "root.path: missing");
    good(json!({"root": {"path": "/abs/olute"}}));
}

#[test]
fn process_is_needed_only_by_start() {
    good(json!({"process": null}));
}

#[test]
fn process_args_and_cwd() {
    refused(process(json!({"args": []})), "process: args: missing");
    refused(process(json!({"args": null})), "process: args: missing");
    // It is looked up, and not found.
    good(process(json!({"args": ["", "x"]})));
    refused(process(json!({"cwd": "srv"})), "process: cwd: \"srv\" is not an absolute path");
    refused(process(json!({"cwd": ""})), "process: cwd: \"\" is not");
}

#[test]
fn process_user() {
    let user = |user: Value| process(json!({"user": user}));
    good(user(json!({"uid": 4294967294u32, "umask": 511, "additionalGids": [0, 0]})));
    refused(user(json!({"uid": u32::MAX})), "process: user.uid: ");
    refused(user(json!({"gid": u32::MAX})), "process: user.gid: ");
    refused(user(json!({"additionalGids": [1, u32::MAX]})), "process: user.additionalGids: ");
    refused(user(json!({"umask": 512})), "process: user.umask: 512");
}

#[test]
fn process_console_size() {
    good(process(json!({"consoleSize": {"height": 65535, "width": 0}})));
    refused(process(json!({"consoleSize": {"height": 1, "width": 65536}})), "process: consoleSize");
}

#[test]
fn process_capabilities_without_a_name_are_left_out_with_a_warning() {
    let caps =
        json!({"bounding": ["CAP_CHOWN", "CAP_NEW", "chown"], "ambient": ["CAP_NEW", "cap_kill"]});
    let config = with(process(json!({"capabilities": caps})));
    config.validate().unwrap();
    let left_out: Vec<_> =
        config.warnings().iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(left_out, ["CAP_NEW", "cap_kill", "chown"]);
}

#[test]
fn process_rlimits() {
    let limit =
        |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    let all: Vec<Value> = RlimitType::NAMES.iter().map(|kind| limit(kind, 0, u64::MAX)).collect();
    assert_eq!(all.len(), 16);
    good(process(json!({"rlimits": all})));
    let twice = [limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_AS", 1, 1), limit("RLIMIT_CPU", 1, 1)];
    refused(process(json!({"rlimits": twice})), "process: rlimits[2]: duplicate RLIMIT_CPU");
    refused(process(json!({"rlimits": [limit("RLIMIT_CPU", 2, 1)]})), "process: rlimits[0]: ");
    let json = br#"{"process":{"rlimits":[{"type":"RLIMIT_FISH","soft":1,"hard":1}]}}"#;
    let error = Config::parse(json).unwrap_err().to_string();
    assert!(error.contains("process.rlimits[0].type: unknown variant `RLIMIT_FISH`"), "{error}");
}

#[test]
fn process_oom_score_adj_and_io_priority() {
    good(process(json!({"oomScoreAdj": -1000})));
    refused(process(json!({"oomScoreAdj": 1001})), "process: oomScoreAdj: 1001");
    good(process(json!({"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7}})));
    for priority in [-1, 8] {
        let io = json!({"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": priority}});
        refused(process(io), "process: ioPriority.priority: ");
    }
}

#[test]
fn process_scheduler() {
    let scheduler = |scheduler: Value| process(json!({"scheduler": scheduler}));
    good(scheduler(json!({"policy": "SCHED_BATCH", "nice": 19})));
    good(scheduler(
        json!({"policy": "SCHED_FIFO", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    ));
    good(scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2})));
    refused(
        scheduler(json!({"policy": "SCHED_OTHER", "nice": 20})),
        "process: scheduler: nice: 20",
    );
    refused(
        scheduler(json!({"policy": "SCHED_OTHER", "priority": 1})),
        "process: scheduler: priority: ",
    );
    refused(scheduler(json!({"policy": "SCHED_RR"})), "process: scheduler: priority: 0");
    refused(
        scheduler(json!({"policy": "SCHED_IDLE", "period": 1})),
        "process: scheduler: runtime, ",
    );
    for (runtime, deadline, period) in [(0, 2, 3), (3, 2, 3), (1, 3, 2)] {
        let asked = json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period});
        refused(scheduler(asked), "process: scheduler: runtime: must satisfy 0 < runtime");
    }
    for json in [r#"{"policy":"SCHED_FAIR"}"#, r#"{"policy":"SCHED_RR","flags":["X"]}"#, "{}"] {
        let json = format!(r#"{{"process":{{"scheduler":{json}}}}}"#);
        assert!(
            Config::parse(json.as_bytes()).unwrap_err().to_string().contains("process.scheduler")
        );
    }
}

#[test]
fn process_exec_cpu_affinity() {
    good(process(json!({"execCPUAffinity": {"initial": "0-3,7", "final": "1"}})));
    for list in ["3-1", "a", "1,", "-1", "99999", "1-2-3"] {
        let initial = process(json!({"execCPUAffinity": {"initial": list}}));
        refused(initial, "process: execCPUAffinity.initial: ");
        let last = process(json!({"execCPUAffinity": {"final": list}}));
        refused(last, "process: execCPUAffinity.final: ");
    }
}

#[test]
fn hostname_and_domainname_need_a_uts_namespace() {
    good(json!({"hostname": "a".repeat(64), "domainname": "b"}));
    refused(json!({"hostname": "a".repeat(65)}), "hostname: 65 bytes, more than the maximum of 64");
    bad(&without(&["uts"], json!({"hostname": "a"})), "hostname: would change the host");
    bad(&without(&["uts"], json!({"domainname": "a"})), "domainname: would change the host");
}

#[test]
fn mounts_destinations() {
    refused(mount(json!({"type": "proc"})), "mounts[0] (\"\"): destination: missing");
    let relative = with(mount(json!({"destination": "proc", "type": "proc"})));
    relative.validate().unwrap();
    assert!(relative.warnings()[0].contains("mounts[0].destination: \"proc\""));
    let proc = mount(json!({"destination": "/proc", "type": "proc"}));
    bad(&without(&["mount"], proc), "mounts: would change the host");
}

#[test]
fn mounts_types_and_sources() {
    refused(
        mount(json!({"destination": "/x", "source": "y"})),
        "mounts[0] (\"/x\"): type: missing",
    );
    refused(
        mount(json!({"destination": "/x", "options": ["rbind"]})),
        "mounts[0] (\"/x\"): source: ",
    );
    refused(mount(json!({"destination": "/x", "type": "bind"})), "mounts[0] (\"/x\"): source: ");
    good(mount(json!({"destination": "/x", "type": "bind", "source": "rel/ative"})));
    let own = json!({"destination": "/x", "source": "/y", "options": ["bind", "size=4k"]});
    good(mount(own));
}

#[test]
fn mounts_idmap() {
    let map = json!([{"containerID": 0, "hostID": 5, "size": 2}]);
    let bind = |change: Value| {
        let mut base = json!({"destination": "/x", "source": "/y", "options": ["bind", "idmap"]});
        merge(&mut base, change);
        mount(base)
    };
    good(bind(json!({"uidMappings": map, "gidMappings": map})));
    without(&["user"], bind(json!({"uidMappings": map, "gidMappings": map}))).validate().unwrap();
    // The mappings of the user namespace apply.
    good(bind(json!({})));
    bad(&without(&["user"], bind(json!({}))), "mounts[0] (\"/x\"): option idmap: no mappings");
    refused(bind(json!({"uidMappings": map})), "mounts[0] (\"/x\"): uidMappings, gidMappings: one");
    let empty = json!([{"containerID": 0, "hostID": 5, "size": 0}]);
    let change = json!({"uidMappings": map, "gidMappings": empty});
    refused(bind(change), "mounts[0] (\"/x\"): gidMappings[0].size: must not be 0");
    let change =
        json!({"type": "tmpfs", "options": ["idmap"], "uidMappings": map, "gidMappings": map});
    refused(bind(change), "mounts[0] (\"/x\"): uidMappings: only bind mounts");
}

#[test]
fn hooks() {
    for (list, _) in Hooks::default().lists() {
        let hook = |hook: Value| {
            let mut lists = serde_json::Map::new();
            lists.insert(list.to_owned(), json!([{"path": "/bin/true"}, hook]));
            json!({"hooks": lists})
        };
        good(hook(json!({"path": "/x", "timeout": 1})));
        refused(hook(json!({"path": "x"})), &format!("hooks.{list}[1].path: \"x\" is not"));
        refused(hook(json!({})), &format!("hooks.{list}[1].path: \"\" is not"));
        refused(hook(json!({"path": "/x", "timeout": 0})), &format!("hooks.{list}[1].timeout: 0"));
    }
    let names: Vec<&str> = Hooks::default().lists().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, Hooks::NAMES);
}

#[test]
fn annotations() {
    refused(json!({"annotations": {"": "x"}}), "annotations: an empty key");
}

#[test]
fn namespaces() {
    let list =
        |list: Value| linux(json!({"namespaces": list, "uidMappings": null, "gidMappings": null}));
    good(list(json!([{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "uts"}])));
    refused(
        list(json!([{"type": "pid"}, {"type": "pid", "path": "/x"}])),
        "linux.namespaces[1]: duplicate",
    );
    refused(list(json!([{"type": "pid", "path": "x"}])), "linux.namespaces[0].path: \"x\" is not");
    assert_eq!(NamespaceType::NAMES.len(), 8);
    let json = br#"{"linux":{"namespaces":[{"type":"net"}]}}"#;
    assert!(Config::parse(json).unwrap_err().to_string().contains("unknown variant `net`"));
}

#[test]
fn user_mappings() {
    let map = |ranges: &[(u32, u32, u32)]| -> Value {
        let range = |(container, host, size): &(u32, u32, u32)| json!({"containerID": container, "hostID": host, "size": size});
        ranges.iter().map(range).collect()
    };
    for key in ["uidMappings", "gidMappings"] {
        let with_map = |ranges: &[(u32, u32, u32)]| {
            let mut maps = serde_json::Map::new();
            maps.insert(key.to_owned(), map(ranges));
            linux(Value::Object(maps))
        };
        good(with_map(&[(10, 0, 5), (0, 5, 10), (15, 15, u32::MAX - 15)]));
        refused(with_map(&[]), &format!("linux.{key}: missing for the new"));
        refused(with_map(&[(0, 0, 1), (1, 1, 0)]), &format!("linux.{key}[1].size: must not be 0"));
        refused(
            with_map(&[(5, 0, 5), (0, 100, 6)]),
            &format!("linux.{key}: containerID: 5 is in more than one"),
        );
        refused(
            with_map(&[(0, 9, 5), (5, 5, 5)]),
            &format!("linux.{key}: hostID: 9 is in more than one"),
        );
        refused(
            with_map(&[(1, 0, u32::MAX)]),
            &format!("linux.{key}[0].containerID: the range ends"),
        );
        refused(with_map(&[(0, u32::MAX, 1)]), &format!("linux.{key}[0].hostID: the range ends"));
        let mut config = without(&["user"], json!({}));
        config.validate().unwrap();
        let one = vec![IdMapping { container_id: 0, host_id: 0, size: 1 }];
        let linux = config.linux.as_mut().unwrap();
        match key {
            "uidMappings" => linux.uid_mappings = one,
            _ => linux.gid_mappings = one,
        }
        bad(&config, &format!("linux.{key}: needs a namespace of type user"));
    }
}

#[test]
fn mappings_may_be_repeated_for_a_user_namespace_that_is_joined() {
    let mut config = with(json!({}));
    let linux = config.linux.as_mut().unwrap();
    linux.namespaces.iter_mut().for_each(|namespace| namespace.path = Some("/run/ns".into()));
    config.validate().unwrap();
}

#[test]
fn time_offsets() {
    let offset = |clock: &str, nanosecs: u32| {
        linux(json!({"timeOffsets": {clock: {"secs": -5, "nanosecs": nanosecs}}}))
    };
    good(offset("monotonic", 999_999_999));
    good(offset("boottime", 0));
    refused(offset("realtime", 0), "linux.timeOffsets \"realtime\": valid clocks");
    refused(
        offset("boottime", 1_000_000_000),
        "linux.timeOffsets \"boottime\": nanosecs 1000000000",
    );
    bad(&without(&["time"], offset("boottime", 0)), "linux.timeOffsets \"boottime\": needs a new");
    let mut joined = with(offset("boottime", 0));
    joined.linux.as_mut().unwrap().namespaces.iter_mut().for_each(|n| n.path = Some("/x".into()));
    bad(&joined, "linux.timeOffsets \"boottime\": needs a new");
}

#[test]
fn devices() {
    let device = |device: Value| linux(json!({"devices": [device]}));
    good(device(json!({"path": "/dev/x", "type": "b", "major": 4095, "minor": 1048575})));
    good(device(json!({"path": "/run/pipe", "type": "p"})));
    refused(device(json!({"path": "dev/x", "type": "c"})), "linux.devices[0].path: ");
    refused(
        device(json!({"path": "/x", "type": "c", "major": 4096})),
        "linux.devices[0]: major: 4096",
    );
    refused(device(json!({"path": "/x", "type": "c", "minor": -1})), "linux.devices[0]: minor: -1");
    let json = br#"{"linux":{"devices":[{"path":"/x","type":"d"}]}}"#;
    assert!(
        Config::parse(json).unwrap_err().to_string().contains("linux.devices[0].type: unknown")
    );
}

#[test]
fn net_devices() {
    let devices = |devices: Value| linux(json!({"netDevices": devices}));
    good(devices(json!({"eth0": {"name": "abcdefghijklmno"}, "eth1": {}})));
    for name in ["abcdefghijklmnop", "a b", "a/b", "a:b", "..", "\u{a0}"] {
        refused(devices(json!({name: {}})), &format!("linux.netDevices {name:?}: "));
        refused(devices(json!({"eth0": {"name": name}})), "linux.netDevices \"eth0\": ");
    }
    refused(devices(json!({"": {}})), "linux.netDevices \"\": ");
    let twice = devices(json!({"eth0": {"name": "eth1"}, "eth1": {}}));
    refused(twice, "linux.netDevices \"eth1\": duplicate device name \"eth1\"");
    bad(
        &without(&["network"], devices(json!({"eth0": {}}))),
        "linux.netDevices \"eth0\": needs a namespace",
    );
}

#[test]
fn cgroups_path() {
    for path in ["/a/b", "a", "system.slice:docker:abc", "/a..b"] {
        good(linux(json!({"cgroupsPath": path})));
    }
    refused(linux(json!({"cgroupsPath": "/a/../../b"})), "linux.cgroupsPath: ");
}

#[test]
fn resources_devices() {
    let rule = |rule: Value| linux(json!({"resources": {"devices": [rule]}}));
    good(rule(json!({"allow": true, "type": "", "major": -1, "access": "mwr"})));
    refused(rule(json!({"type": "p"})), "linux.resources: devices[0]: type: \"p\"");
    refused(rule(json!({"access": "rx"})), "linux.resources: devices[0]: access: \"rx\"");
    refused(rule(json!({"major": -2})), "linux.resources: devices[0]: major: -2");
    refused(rule(json!({"minor": 1 << 20})), "linux.resources: devices[0]: minor: 1048576");
}

#[test]
fn resources_memory() {
    for key in ["limit", "reservation", "swap", "kernel", "kernelTCP"] {
        good(linux(json!({"resources": {"memory": {key: -1}}})));
        let says = format!("linux.resources: memory.{key}: -2 is below -1");
        refused(linux(json!({"resources": {"memory": {key: -2}}})), &says);
    }
    let obsolete = with(linux(json!({"resources": {"memory": {"kernel": 1}}})));
    assert!(obsolete.warnings()[0].starts_with("linux.resources.memory.kernel: "));
}

#[test]
fn resources_by_name() {
    let resources = |resources: Value| linux(json!({"resources": resources}));
    for size in ["64KB", "2MB", "1GB"] {
        good(resources(json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]})));
    }
    for size in ["", "2", "MB", "2mb", "2MB/x", "02MB", "../2MB"] {
        let limits = json!({"hugepageLimits": [{"pageSize": size}]});
        refused(resources(limits), "linux.resources: hugepageLimits[0].pageSize: ");
    }
    let priorities = json!({"network": {"priorities": [{"name": "a b", "priority": 1}]}});
    refused(resources(priorities), "linux.resources: network.priorities[0].name: ");
    let rdma = |limits: Value| resources(json!({"rdma": {"mlx 0": limits}}));
    refused(rdma(json!({"hcaObjects": 1})), "linux.resources: rdma: \"mlx 0\"");
    refused(rdma(json!({})), "linux.resources: rdma \"mlx 0\": neither hcaHandles nor");
    let weight = json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}});
    refused(resources(weight), "linux.resources: blockIO.weightDevice[0]: neither weight nor");
    for name in ["", "../x", "a/b", ".", ".."] {
        refused(resources(json!({"unified": {name: "1"}})), "linux.resources: unified: ");
    }
}

#[test]
fn intel_rdt() {
    let rdt = |rdt: Value| linux(json!({"intelRdt": rdt}));
    good(rdt(json!({"closID": "a.b", "l3CacheSchema": "L3CODE:0=f", "memBwSchema": "MB:0=1"})));
    for id in [".", "..", "a/b", "a\nb", "/"] {
        refused(rdt(json!({"closID": id})), "linux.intelRdt.closID: ");
    }
    refused(rdt(json!({"l3CacheSchema": "L3:0=1\nMB:0=1"})), "linux.intelRdt.l3CacheSchema: ");
    refused(rdt(json!({"memBwSchema": "0=1"})), "linux.intelRdt.memBwSchema: ");
    refused(rdt(json!({"schemata": ["L2:0=1", "a\nb"]})), "linux.intelRdt.schemata[1]: ");
}

#[test]
fn memory_policy() {
    let policy = |mode: &str, nodes: Option<&str>, flags: &[&str]| {
        linux(json!({"memoryPolicy": {"mode": mode, "nodes": nodes, "flags": flags}}))
    };
    assert_eq!((MemoryMode::NAMES.len(), MemoryFlag::NAMES.len()), (7, 3));
    good(policy("MPOL_DEFAULT", None, &[]));
    good(policy("MPOL_PREFERRED", None, &[]));
    good(policy("MPOL_BIND", Some("0,2-3"), &["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"]));
    refused(
        policy("MPOL_LOCAL", Some("0"), &[]),
        "linux.memoryPolicy: nodes: not allowed for MPOL_LOCAL",
    );
    refused(policy("MPOL_INTERLEAVE", None, &[]), "linux.memoryPolicy: nodes: missing");
    refused(policy("MPOL_BIND", Some("2-1"), &[]), "linux.memoryPolicy: nodes: \"2-1\" is not");
    refused(policy("MPOL_DEFAULT", None, &["MPOL_F_STATIC_NODES"]), "linux.memoryPolicy: flags: ");
    let both = policy("MPOL_BIND", Some("0"), &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]);
    refused(both, "linux.memoryPolicy: flags: MPOL_F_STATIC_NODES and");
    for json in [r#"{"mode":"MPOL_X"}"#, r#"{"mode":"MPOL_BIND","flags":["X"]}"#, "{}"] {
        let json = format!(r#"{{"linux":{{"memoryPolicy":{json}}}}}"#);
        assert!(
            Config::parse(json.as_bytes()).unwrap_err().to_string().contains("linux.memoryPolicy")
        );
    }
}

#[test]
fn sysctl() {
    let value = |name: &str| linux(json!({"sysctl": {name: "1"}}));
    for (name, kind) in [
        ("net.ipv4.ip_forward", "network"),
        ("net/ipv4/conf/eth0.100/rp_filter", "network"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel.msgmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("kernel/domainname", "uts"),
    ] {
        good(value(name));
        let says = format!(
            "linux.sysctl {name:?}: would change the host: it needs a namespace of type {kind}"
        );
        bad(&without(&[kind], value(name)), &says);
    }
    refused(value("kernel.hostname"), "linux.sysctl \"kernel.hostname\": use `hostname`");
    for name in [
        "vm.swappiness",
        "kernel.panic",
        "kernel.shm",
        "kernel.core_pattern",
        "net",
        "fs.mqueue.a.b",
    ] {
        refused(value(name), &format!("linux.sysctl {name:?}: not a namespaced parameter"));
    }
    for name in
        ["", "net..x", "net/../kernel/core_pattern", "net.ipv4.", "net.//.kernel.panic", "/net/x"]
    {
        refused(value(name), &format!("linux.sysctl: {name:?} does not name"));
    }
    assert_eq!(
        sysctl_path("net.ipv4.conf.eth0/100.rp_filter").unwrap(),
        "net/ipv4/conf/eth0.100/rp_filter"
    );
    assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/x").unwrap(), "net/ipv4/conf/eth0.100/x");
}

#[test]
fn seccomp() {
    let profile = |profile: Value| linux(json!({"seccomp": profile}));
    let notify = json!([{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]);
    good(profile(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a", "syscalls": notify}),
    ));
    let alone = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify});
    refused(profile(alone), "linux.seccomp: SCMP_ACT_NOTIFY without listenerPath");
    refused(profile(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), "linux.seccomp: defaultAction");
    let json = br#"{"linux":{"seccomp":{"defaultAction":"ALLOW"}}}"#;
    assert!(Config::parse(json).unwrap_err().to_string().contains("linux.seccomp.defaultAction: "));
}

#[test]
fn rootfs_propagation() {
    for word in
        ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"]
    {
        good(linux(json!({"rootfsPropagation": word})));
    }
    refused(linux(json!({"rootfsPropagation": "sharde"})), "linux.rootfsPropagation: \"sharde\"");
}

#[test]
fn masked_and_readonly_paths() {
    for key in ["maskedPaths", "readonlyPaths"] {
        good(linux(json!({key: ["/proc/kcore"]})));
        refused(
            linux(json!({key: ["/a", "b"]})),
            &format!("linux.{key}[1]: \"b\" is not an absolute"),
        );
        let config = without(&["mount"], linux(json!({key: ["/proc/kcore"]})));
        bad(&config, &format!("linux.{key}: would change the host"));
    }
}

#[test]
fn personality() {
    good(linux(json!({"personality": {"domain": "LINUX"}})));
    let flags = linux(json!({"personality": {"domain": "LINUX32", "flags": ["X"]}}));
    refused(flags, "linux.personality.flags: \"X\"; no flags are defined");
    let json = br#"{"linux":{"personality":{"domain":"SVR4"}}}"#;
    assert!(Config::parse(json).unwrap_err().to_string().contains("unknown variant `SVR4`"));
}

#[test]
fn what_exec_and_update_are_given() {
    let process = Process::parse(br#"{"args":["sh"],"cwd":"/","user":{"uid":7},"x":1}"#).unwrap();
    process.validate().unwrap();
    assert_eq!(process.user.uid, 7);
    let error = Process::parse(br#"{"args":"sh"}"#).unwrap_err().to_string();
    assert!(error.starts_with("process.json: args: invalid type"), "{error}");
    let resources = Resources::parse(br#"{"pids":{"limit":-1},"memory":null}"#).unwrap();
    resources.validate().unwrap();
    assert_eq!(resources.pids.unwrap().limit, Some(-1));
    assert!(Resources::parse(br#"{"memory":1}"#).unwrap_err().to_string().contains(": memory: "));
}

#[test]
fn the_state_has_the_words_of_the_specification() {
    let state = State { id: "a".into(), status: Status::Running, pid: 5, ..State::default() };
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(text, r#"{"ociVersion":"","id":"a","status":"running","pid":5,"bundle":""}"#);
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    for status in
        [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped]
    {
        assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
    }
}

#[test]
fn features_list_what_is_parsed() {
    let features = features();
    let json = serde_json::to_value(&features).unwrap();
    assert_eq!(serde_json::from_value::<Features>(json.clone()).unwrap(), features);
    assert_eq!(features.linux.capabilities.len(), 41);
    for word in &features.mount_options {
        assert_eq!(MountOptions::parse(&[word]).unwrap().data, [], "{word}");
    }
    for pointer in [
        "/ociVersionMin",
        "/ociVersionMax",
        "/hooks/5",
        "/mountOptions/61",
        "/linux/namespaces/7",
        "/linux/cgroup/systemdUser",
        "/linux/cgroup/rdma",
        "/linux/seccomp/actions/8",
        "/linux/seccomp/operators/6",
        "/linux/seccomp/archs/0",
        "/linux/seccomp/knownFlags/0",
        "/linux/seccomp/supportedFlags/0",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/memoryPolicy/modes/6",
        "/linux/memoryPolicy/flags/2",
        "/linux/intelRdt/schemata",
        "/linux/intelRdt/monitoring",
        "/linux/mountExtensions/idmap/enabled",
        "/linux/netDevices/enabled",
        "/annotations/garth.version",
        "/potentiallyUnsafeConfigAnnotations/0",
    ] {
        assert!(json.pointer(pointer).is_some(), "{pointer}");
    }
}
