//! What is reported about containers: state, list, ps, events.

use garth_tests::{Bundle, parsed};
use serde_json::{Value, json};

#[test]
fn state_has_what_is_specified() {
    bundle!(host, bundle);
    bundle.config["annotations"] = json!({"org.example.key": "value", "other": "two words"});
    bundle.script("exec sleep 600").create().ok();
    let state = bundle.state();
    assert_eq!(state["id"], bundle.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.dir(""));
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert_eq!(state["annotations"]["other"], "two words");
    let version = state["ociVersion"].as_str().unwrap();
    assert!(version.starts_with("1."), "{state}");
    let command = host.read(&format!("/proc/{}/cgroup", state["pid"]));
    assert!(command.contains(&bundle.id), "the pid is another's: {state}");
}

#[test]
fn state_of_a_bundle_given_by_a_relative_path_has_the_absolute_one() {
    bundle!(host, bundle);
    bundle.script("exec sleep 600");
    let create = "cd /srv && $R create --bundle ./${B#/srv/} $ID </dev/null >$B/out 2>&1";
    bundle.sh(create).run().ok();
    assert_eq!(bundle.state()["bundle"], bundle.dir(""));
}

#[test]
fn state_of_the_working_directory_as_bundle() {
    bundle!(host, bundle);
    bundle.script("exec sleep 600");
    bundle.sh("cd $B && $R create $ID </dev/null >$B/out 2>&1").run().ok();
    assert_eq!(bundle.state()["bundle"], bundle.dir(""));
}

#[test]
fn state_of_a_stopped_container_has_no_pid() {
    bundle!(host, bundle);
    bundle.detach().ok();
    bundle.until("stopped");
    let state = bundle.state();
    assert!(state["pid"] == 0 || state["pid"].is_null(), "{state}");
}

#[test]
fn state_has_the_fields_of_runc() {
    bundle!(host, bundle);
    bundle.sleeping();
    let state = bundle.state();
    assert_eq!(
        host.sh(&format!("readlink -f {}", bundle.rootfs(""))).run().ok(),
        state["rootfs"].as_str().unwrap()
    );
    // RFC 3339
    let created = state["created"].as_str().unwrap();
    assert!(created.len() >= 20 && created.as_bytes()[10] == b'T', "{created}");
    assert!(state["owner"].is_string(), "{state}");
}

fn listed(bundle: &Bundle) -> Vec<Value> {
    let text = bundle.call("list --format json").run().ok();
    let list = parsed(&text);
    list.as_array().into_iter().flatten().cloned().collect()
}

#[test]
fn list_of_nothing() {
    bundle!(host, bundle);
    assert!(listed(&bundle).is_empty());
    assert_eq!(bundle.call("list --quiet").run().ok(), "");
}

#[test]
fn list_as_json() {
    bundle!(host, bundle);
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    bundle.sleeping();
    let list = listed(&bundle);
    assert_eq!(list.len(), 1, "{list:?}");
    let entry = &list[0];
    assert_eq!(entry["id"], bundle.id);
    assert_eq!(entry["status"], "running");
    assert_eq!(entry["pid"], bundle.pid());
    assert_eq!(entry["bundle"], bundle.dir(""));
    assert!(entry["created"].as_str().unwrap().contains('T'), "{entry}");
    assert_eq!(entry["annotations"]["org.example.key"], "value");
    assert_eq!(entry["owner"], "root");
}

#[test]
fn list_quiet_has_ids_only() {
    bundle!(host, bundle);
    let mut second = Bundle::named(&host, "another");
    bundle.sleeping();
    second.sleeping();
    let text = bundle.call("list -q").run().ok();
    let mut ids: Vec<&str> = text.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids, ["another", &bundle.id]);
    bundle.delete_force().ok();
}

#[test]
fn list_as_a_table() {
    bundle!(host, bundle);
    bundle.sleeping();
    let text = bundle.call("list").run().ok();
    let mut lines = text.lines();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next().unwrap()), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row = words(lines.next().unwrap());
    assert_eq!(
        row[..4],
        [bundle.id.clone(), bundle.pid().to_string(), "running".into(), bundle.dir("")]
    );
}

#[test]
fn ps_as_json_has_the_pids_of_the_caller() {
    bundle!(host, bundle);
    bundle.script("sleep 600 & exec sleep 600").detach().ok();
    garth_tests::until("both are listed", || {
        let text = bundle.call(&format!("ps --format json {}", bundle.id)).run().ok();
        let pids: Vec<u64> = serde_json::from_str(&text).expect("a list of numbers");
        let all = pids.iter().all(|pid| {
            std::fs::read_to_string(host.path(&format!("/proc/{pid}/cgroup")))
                .is_ok_and(|text| text.contains(&bundle.id))
        });
        (pids.len() == 2 && pids.contains(&bundle.pid()) && all).then_some(())
    });
}

#[test]
fn ps_as_a_table_is_that_of_ps() {
    bundle!(host, bundle);
    garth_tests::needs!("ps");
    bundle.sleeping();
    let text = bundle.call(&format!("ps {}", bundle.id)).run().ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("UID") && lines[0].contains("PID"), "{text}");
    assert!(
        lines[1].contains("sleep 600") && lines[1].contains(&bundle.pid().to_string()),
        "{text}"
    );
}

#[test]
fn ps_with_options_of_ps() {
    bundle!(host, bundle);
    garth_tests::needs!("ps");
    bundle.sleeping();
    let text = bundle.call(&format!("ps {} -o pid,comm", bundle.id)).run().ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["PID", "COMMAND", &bundle.pid().to_string(), "sleep"]);
}

#[test]
fn events_stats() {
    garth_tests::needs!(cgroups);
    bundle!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    bundle.sleeping();
    let ask = || parsed(&bundle.call(&format!("events --stats {}", bundle.id)).run().ok());
    // Until execve(2) the process may have had threads.
    let event = garth_tests::until("one process is counted", || {
        Some(ask()).filter(|event| event["data"]["pids"]["current"] == 1)
    });
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], bundle.id);
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20, "{data}");
    assert_eq!(data["pids"]["limit"], 20, "{data}");
    assert!(data["cpu"]["throttling"].is_object(), "{data}");
    assert!(data["memory"]["raw"].is_object(), "{data}");
}

#[test]
fn events_go_on_until_the_end() {
    garth_tests::needs!(cgroups);
    bundle!(host, bundle);
    bundle.sleeping();
    let events = bundle.call(&format!("events --interval 100ms {}", bundle.id)).start();
    for _ in 0..2 {
        assert_eq!(parsed(&events.line())["type"], "stats");
    }
    bundle.delete_force().ok();
    assert_eq!(events.wait().code, 0);
}
