//! External plugins, speaking the protocol of docs/plugins.md: the shipped sample, and programs of
//! a few lines that do everything wrong.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use garth_tests::{Bundle, Call, Host, ROOT, Ran, needs, parsed};
use serde_json::{Value, json};

/// Where the test host's plugins are, and where `marker` makes its marks. A leftover mark is found
/// by [`Host::assert_nothing_left`].
const PLUGINS: &str = "/srv/plugins";
const MARKS: &str = "/run/garth/marks";

/// Makes a mark for each sandbox, named by the config key `as`, and removes it; logs each request.
const MARKER: &str = r#"
request=$(cat)
of() { printf %s "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
mark=/run/garth/marks/$(of kind)-$(of as)
printf '%s\n' "$request" >>/srv/log
case $(of verb) in
add) mkdir -p /run/garth/marks && : >$mark ;;
check) [ ! -e $mark ] || there="\"the mark $mark\""; echo "{\"protocol\":1,\"there\":[$there]}" ;;
del) rm -f $mark; rmdir /run/garth/marks 2>/dev/null; : ;;
esac
"#;

fn plugin(host: &Host, name: &str, script: &str) {
    let file = format!("{PLUGINS}/{name}");
    host.write(&file, &format!("#!/bin/sh\n{script}"));
    for path in [PLUGINS, &file] {
        fs::set_permissions(host.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn garth(host: &Host, words: &str) -> Call {
    host.garth(words).env("GARTH_PLUGIN_PATH", PLUGINS)
}

fn host_with(name: &str, script: &str) -> Host {
    let host = Host::new();
    plugin(&host, name, script);
    host
}

/// The requests that `marker` has logged.
fn requests(host: &Host) -> Vec<Value> {
    host.read("/srv/log").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verbs(host: &Host) -> Vec<String> {
    requests(host).iter().map(|each| each["verb"].as_str().unwrap().to_owned()).collect()
}

/// The small part of JSON Schema that specs/schema/plugin.json uses.
fn violations(value: &Value, schema: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{at}: {what}: {value}"));
        }
    };
    for (key, rule) in schema.as_object().unwrap() {
        if key == "items" {
            continue;
        }
        match (key.as_str(), rule) {
            ("type", rule) => {
                let is = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    "array" => value.is_array(),
                    other => panic!("a type {other}"),
                };
                expect(is, &rule.to_string());
            }
            ("const", rule) => expect(value == rule, &rule.to_string()),
            ("enum", rule) => expect(rule.as_array().unwrap().contains(value), &rule.to_string()),
            ("minimum", rule) => expect(value.as_i64() >= rule.as_i64(), "too small"),
            ("required", rule) => {
                for key in rule.as_array().unwrap() {
                    expect(!value[key.as_str().unwrap()].is_null(), &format!("no {key}"));
                }
            }
            ("description" | "pattern" | "properties" | "additionalProperties", _) => {}
            (other, _) => panic!("the schema uses {other}"),
        }
    }
    for (number, each) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(violations(each, &schema["items"], &format!("{at}[{number}]")));
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let place = format!("{at}.{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) => found.push(format!("{place}: not in the schema")),
            (Value::Null, rule) => found.extend(violations(value, rule, &place)),
            (rule, _) => found.extend(violations(value, rule, &place)),
        }
    }
    found
}

#[test]
fn the_sample_makes_a_sandbox_known_by_name_for_its_life() {
    needs!(root, netns, "python3", "nsenter");
    let host = Host::with_neighbour();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/plugins/hosts");
    plugin(&host, "hosts", "");
    fs::copy(sample, host.path(&format!("{PLUGINS}/hosts"))).unwrap();
    host.write("/srv/hosts", "127.0.0.1 localhost\n");
    let ask = "--network private --plugin hosts:file=/srv/hosts,name=web.internal";
    garth(&host, &format!("wrap -d --name web {ask} -- sleep 600")).run().ok();
    let hosts = host.read("/srv/hosts");
    let list = parsed(&host.garth("ps --json").run().ok());
    let addresses = list[0]["addresses"].as_array().unwrap();
    assert!(!addresses.is_empty());
    for address in addresses {
        let line = format!("\n{} web.internal #", address.as_str().unwrap());
        assert!(hosts.contains(&line), "{line} is not in {hosts}");
    }
    let there = host.garth("check web").run().ok();
    assert!(there.contains("plugin hosts: /srv/hosts: ") && there.contains("lease of "), "{there}");
    host.garth("delete --force web").run().ok();
    assert_eq!(host.read("/srv/hosts"), "127.0.0.1 localhost\n");
    // A refusal is passed on, and leaves nothing behind.
    let words = "wrap --plugin hosts:file=/srv/hosts,colour=red -- true";
    garth(&host, words).run().refused(125, "plugin hosts: add: ValueError: unknown key colour");
    let words = "wrap --plugin hosts:file=/srv/hosts -- true";
    garth(&host, words).run().refused(125, "LookupError: Device \"eth0\" does not exist");
    host.assert_nothing_left();
}

#[test]
fn requests_are_as_the_schema_has_them() {
    needs!(root);
    let host = host_with("marker", MARKER);
    garth(&host, "wrap -d --name web --plugin marker:as=x,b=2 -- sleep 600").run().ok();
    let pid = parsed(&host.garth("ps --json").run().ok())[0]["pid"].clone();
    assert_eq!(
        host.garth("check web").run().ok(),
        format!("plugin marker: the mark {MARKS}/sandbox-x")
    );
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
    let schema = include_str!("../../specs/schema/plugin.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let sent = requests(&host);
    for request in &sent {
        let wrong = violations(request, &schema["$defs"]["request"], "request");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(request["id"], "web");
        assert_eq!(request["config"], json!({"as": "x", "b": "2"}));
    }
    assert_eq!(&verbs(&host)[..2], ["add", "check"]);
    // The keeper and we both release it, in either order.
    assert!(verbs(&host)[2..].iter().all(|verb| verb == "del") && sent.len() > 2);
    assert_eq!(sent[0]["process"], json!({"pid": pid, "netns": format!("/proc/{pid}/ns/net")}));
    assert_eq!(sent[0]["process"], sent[1]["process"]);
    assert!(sent[2]["process"].is_null());
    // And the check finds what is wrong.
    let wrong = json!({"protocol": 2, "verb": "run", "new": 1});
    assert!(violations(&wrong, &schema["$defs"]["request"], "request").len() > 5);
}

/// What [`PROVIDER`] answers.
const PROVIDED: &str = r#"{
    "protocol": 1,
    "mounts": [{ "source": "/srv/volume", "destination": "/mnt", "options": ["ro"] }],
    "devices": [{ "source": "/dev/full", "path": "/dev/mine" }]
}"#;

/// Provides a directory and a device; a mark stays as long as it is not released.
const PROVIDER: &str = r#"
request=$(cat)
printf '%s\n' "$request" >>/srv/log
case $request in
*'"verb":"provide"'*) mkdir -p /run/garth/marks && : >/run/garth/marks/volume && cat /srv/answer ;;
*'"verb":"check"'*) echo '{"protocol":1,"there":["the volume"]}' ;;
*) rm -f /run/garth/marks/volume; rmdir /run/garth/marks 2>/dev/null; : ;;
esac
"#;

/// What a command sees of it.
const LOOK: &str = "cat /mnt/data; echo x >/mnt/data; echo x >/dev/mine || echo full";

fn host_with_provider() -> Host {
    let host = host_with("providers/volume", PROVIDER);
    fs::set_permissions(
        host.path(&format!("{PLUGINS}/providers")),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    host.write("/srv/volume/data", "mine\n");
    host.write("/srv/answer", PROVIDED);
    host
}

fn assert_seen(ran: &Ran) {
    assert_eq!(ran.stdout, "mine\nfull", "{ran}");
    assert!(ran.stderr.to_lowercase().contains("read-only file system"), "{ran}");
}

#[test]
fn a_provider_brings_a_volume_and_a_device() {
    needs!(root, cgroups);
    let schema = include_str!("../../specs/schema/plugin.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let answer = serde_json::from_str(PROVIDED).unwrap();
    let wrong = violations(&answer, &schema["$defs"]["answer"], "answer");
    assert!(wrong.is_empty(), "{wrong:?}");

    let host = host_with_provider();
    let said = garth(&host, "explain wrap --plugin volume -- true").run().ok();
    let call = "call /srv/plugins/providers/volume to provide mounts and devices for volume";
    assert!(said.contains(call), "{said}");
    let ran = garth(&host, "wrap --plugin volume --").arg("sh").arg("-c").arg(LOOK).run();
    assert_seen(&ran);
    host.assert_nothing_left();
    assert_eq!(verbs(&host), ["provide", "del"]);
    for request in requests(&host) {
        let wrong = violations(&request, &schema["$defs"]["request"], "request");
        assert!(wrong.is_empty() && request["process"].is_null(), "{wrong:?}");
    }

    // A container's devices are denied but for those of its own.
    let mut bundle = Bundle::new(&host);
    bundle.config["annotations"]["dev.garth.plugin.volume"] = "".into();
    bundle.config["process"]["args"] = json!(["sh", "-c", LOOK]);
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    let script = format!("GARTH_PLUGIN_PATH={PLUGINS} $R run --bundle $B $ID");
    assert_seen(&bundle.sh(&script).run());
    bundle.assert_nothing_left();
    host.assert_nothing_left();
    assert_eq!(verbs(&host)[2..], ["provide", "del"]);

    // What was provided is part of what was requested: another process in the container sees it
    // too.
    bundle.config["process"]["args"] = json!(["sleep", "600"]);
    bundle.save();
    create(&bundle).ok();
    bundle.sh("$R start $ID").run().ok();
    assert_seen(&bundle.sh(&format!("$R exec $ID sh -c '{LOOK}'")).run());
    bundle.delete_force().ok();
    host.assert_nothing_left();
}

#[test]
fn what_the_source_of_a_provided_mount_forbids_stays_forbidden() {
    needs!(root);
    let host = host_with_provider();
    host.sh("mount -t tmpfs -o noexec,ro none /srv/volume").run().ok();
    let answer = r#"{"protocol":1,"mounts":[{"source":"/srv/volume","destination":"/mnt"}]}"#;
    host.write("/srv/answer", answer);
    let look = "grep ' /mnt ' /proc/self/mounts";
    let of_sandbox = garth(&host, "wrap --plugin volume --").arg("sh").arg("-c").arg(look).run();
    let mut bundle = Bundle::new(&host);
    bundle.config["annotations"]["dev.garth.plugin.volume"] = "".into();
    bundle.config["process"]["args"] = json!(["sh", "-c", look]);
    let script = format!("GARTH_PLUGIN_PATH={PLUGINS} $R run --bundle $B $ID");
    let of_container = bundle.sh(&script).run();
    for ran in [of_sandbox, of_container] {
        let line = ran.ok();
        assert!(line.contains(" ro,") && line.contains("noexec"), "{line}");
    }
    host.sh("umount /srv/volume").run().ok();
    host.assert_nothing_left();
}

#[test]
fn what_a_provider_gets_wrong_ends_the_start() {
    needs!(root);
    let host = host_with_provider();
    for (answer, says) in [
        ("", "plugin volume: provide: no response"),
        (
            r#"{"protocol":1,"mounts":[{"source":"/srv","destination":"/mnt","options":["rox"]}]}"#,
            "plugin volume: /mnt: unknown option \"rox\"",
        ),
        (
            r#"{"protocol":1,"mounts":[{"source":"srv","destination":"/mnt"}]}"#,
            "plugin volume: /mnt: \"srv\" is not an absolute path",
        ),
        (r#"{"protocol":1,"mounts":[{"source":"/srv/none","destination":"/mnt"}]}"#, "/srv/none"),
        (r#"{"protocol":1,"devices":[{"path":"/srv"}]}"#, "plugin volume: /srv is not a device"),
        (
            r#"{"protocol":1,"devices":[{"path":"/dev/none"}]}"#,
            "plugin volume: stat device /dev/none: ENOENT",
        ),
    ] {
        host.write("/srv/answer", answer);
        garth(&host, "wrap --plugin volume -- true").run().refused(125, says);
        host.assert_nothing_left();
    }
}

#[test]
fn a_plugin_has_nothing_of_the_callers() {
    needs!(root);
    let host = host_with(
        "spy",
        "request=$(cat)
        case $request in *'\"add\"'*)
            { env | sort; pwd; echo args $#; ls /proc/self/fd; cat /proc/self/status; } >/srv/seen
            printf %s \"$request\" | sed 's/.*\"directory\":\"\\([^\"]*\\)\".*/\\1/' | xargs ls -ld >>/srv/seen
        esac",
    );
    host.sh("export SECRET=1; cd /srv; exec 7</dev/null 8</etc/passwd; \
         exec $GARTH wrap --plugin spy -- true")
        .env("GARTH_PLUGIN_PATH", PLUGINS)
        .run()
        .ok();
    let seen = host.read("/srv/seen");
    let (environment, rest) = seen.split_once("\n/\n").unwrap();
    // PWD and _ are sh's own.
    let names: Vec<&str> =
        environment.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(
        names.iter().filter(|name| !["PWD", "_", "OLDPWD", "SHLVL"].contains(name)).count(),
        2
    );
    assert!(names.contains(&"PATH") && names.contains(&"LANG"), "{names:?}");
    // 3 is the directory that ls reads.
    assert!(rest.starts_with("args 0\n0\n1\n2\n3\nName:"), "{rest}");
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "drwx------"] {
        assert!(rest.contains(line), "{line} is not in {rest}");
    }
    host.assert_nothing_left();
}

#[test]
fn one_that_fails_ends_the_start_and_leaves_nothing() {
    needs!(root, cgroups);
    let host = host_with("marker", MARKER);
    plugin(
        &host,
        "broken",
        "grep -q '\"verb\":\"add\"' || exit 0; echo 'no such zone' >&2; exit 3",
    );
    let words = "wrap --plugin marker:as=x --plugin broken --memory 64m -- touch /srv/ran";
    let said = "plugin broken: add: no such zone (exited with code 3)";
    garth(&host, words).run().refused(125, said);
    host.assert_nothing_left();
    assert_eq!(verbs(&host), ["add", "del"]);
    assert!(!host.path("/srv/ran").exists());
}

#[test]
fn one_that_hangs_is_killed_with_its_children() {
    needs!(root);
    let host = host_with("slow", "grep -q '\"verb\":\"add\"' || exit 0; sleep 600 & wait");
    let call = garth(&host, "wrap --plugin slow -- true").env("GARTH_PLUGIN_TIMEOUT", "300ms");
    call.run().refused(125, "plugin slow: add: timed out after 300ms and was killed");
    host.assert_nothing_left();
    let call = garth(&host, "wrap --plugin slow -- true").env("GARTH_PLUGIN_TIMEOUT", "soon");
    call.run().refused(125, "GARTH_PLUGIN_TIMEOUT: time \"soon\"");
}

#[test]
fn one_that_answers_nonsense_has_failed() {
    needs!(root);
    let host = host_with("odd", "grep -q '\"verb\":\"add\"' || exit 0; echo done");
    let said = "plugin odd: add: invalid response \"done\": ";
    garth(&host, "wrap --plugin odd -- true").run().refused(125, said);
    plugin(&host, "odd", "grep -q '\"verb\":\"add\"' || exit 0; exec yes");
    let said = "plugin odd: add: killed: its response exceeds 64 KiB";
    garth(&host, "wrap --plugin odd -- true").run().refused(125, said);
    host.assert_nothing_left();
}

#[test]
fn one_that_is_not_there_is_named_with_where_it_was_looked_for() {
    needs!(root);
    let host = host_with("plain", "");
    garth(&host, "wrap --plugin absent:x=1 -- true")
        .run()
        .refused(125, "plugin absent: not found in /srv/plugins; set GARTH_PLUGIN_PATH for");
    host.garth("wrap --plugin absent -- true").run().refused(
        125,
        "plugin absent: not found in /usr/local/libexec/garth/plugins or /usr/libexec/garth/plugins",
    );
    garth(&host, "wrap --plugin ../plain -- true").run().refused(125, "is not a valid plugin name");
    garth(&host, "wrap --plugin plain:x -- true").run().refused(125, "\"x\" is not key=value");
    garth(&host, "wrap --plugin plain --plugin plain:x=1 -- true")
        .run()
        .refused(125, "given twice");
    host.sh("chmod 775 /srv/plugins/plain").run().ok();
    garth(&host, "wrap --plugin plain -- true").run().refused(125, "can be changed by other users");
    host.assert_nothing_left();
    let said = garth(&host, "explain wrap --plugin plain -- true").run();
    assert!(said.stderr.contains("can be changed by other users"), "{said}");
    host.sh("chmod 755 /srv/plugins/plain").run().ok();
    let said = garth(&host, "explain wrap --plugin plain:x=1 -- true").run().ok();
    assert!(said.contains("out  call /srv/plugins/plain to add plain:x=1"), "{said}");
}

#[test]
fn a_release_that_fails_is_said_and_tried_again_until_it_succeeds() {
    needs!(root, cgroups);
    let fails =
        "grep -q '\"verb\":\"del\"' || exit 0; [ -e /srv/repaired ] || { echo busy >&2; exit 1; }";
    let host = host_with("sticky", fails);
    let said = "plugin sticky: del: busy (exited with code 1)";
    garth(&host, "wrap --name web --memory 64m --plugin sticky -- true").run().refused(125, said);
    let gc = host.garth("gc").run().fails(125);
    assert!(gc.contains("sandbox web: ") && gc.contains(said), "{gc}");
    host.garth("delete web").run().refused(125, said);
    host.garth("delete --force web").run().refused(125, said);
    let both = "echo broken >&2; exit 1";
    plugin(&host, "broken", both);
    let failed = garth(&host, "wrap --name other --plugin broken -- true").run();
    failed.refused(
        125,
        "plugin broken: add: broken (exited with code 1); not everything was released",
    );
    plugin(&host, "broken", "");
    host.garth("delete other").run().ok();
    // Its name stays taken.
    host.garth("wrap --name web -- true").run().refused(125, "a sandbox named web already exists");
    // The plugin is gone, then comes back.
    host.sh("mv /srv/plugins/sticky /srv/away").run().ok();
    host.garth("gc").run().refused(125, "start /srv/plugins/sticky: ENOENT");
    host.sh("mv /srv/away /srv/plugins/sticky; touch /srv/repaired").run().ok();
    // Only the plugin's part was left.
    let left = host.left();
    assert!(!left.iter().any(|line| line.starts_with("cgroup")), "{left:?}");
    assert!(host.garth("gc").run().ok().contains("removed sandbox web"));
    host.assert_nothing_left();
}

#[test]
fn a_damaged_record_is_no_obstacle_to_a_release() {
    needs!(root);
    let host = host_with("marker", MARKER);
    garth(&host, "wrap -d --name web --plugin marker:as=x -- sleep 600").run().ok();
    host.sh(": >/run/garth/sandboxes/web/record.json").run().ok();
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();

    let mut bundle = Bundle::new(&host);
    bundle.config["annotations"]["dev.garth.plugin.marker"] = "as=y".into();
    create(&bundle).ok();
    assert!(host.path(&format!("{MARKS}/container-y")).exists());
    host.sh(&format!(": >{ROOT}/containers/{}/record.json", bundle.id)).run().ok();
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
    host.assert_nothing_left();
}

/// `create`, with the test host's plugins.
fn create(bundle: &Bundle) -> Ran {
    let script = format!(
        "GARTH_PLUGIN_PATH={PLUGINS} $R create --bundle $B $ID </dev/null >$B/out 2>$B/err
        code=$?; cat $B/err >&2; exit $code"
    );
    bundle.sh(&script).run()
}

#[test]
fn a_create_that_is_killed_leaves_nothing_that_delete_does_not_find() {
    needs!(root);
    // `add` takes its time, so that some of the kills hit it: before, at, and after its mark.
    let slow = MARKER.replace(": >$mark ;;", "sleep 0.03 && : >$mark && sleep 0.03 ;;");
    let host = host_with("marker", &slow);
    let mut bundle = Bundle::new(&host);
    bundle.config["annotations"]["dev.garth.plugin.marker"] = "as=y".into();
    let mut added = 0;
    for milliseconds in (2..150).step_by(6) {
        let create = format!(
            "GARTH_PLUGIN_PATH={PLUGINS} timeout -s KILL 0.{milliseconds:03} \
             $R create --bundle $B $ID </dev/null >$B/out 2>&1"
        );
        let _ = bundle.sh(&create).run();
        added += u32::from(host.path(&format!("{MARKS}/container-y")).exists());
        bundle.delete_force().ok();
        bundle.assert_nothing_left();
    }
    assert!(added > 0, "none of the creates came as far as the plugin");
    host.assert_nothing_left();
}

#[test]
fn a_container_asks_by_annotation() {
    needs!(root);
    let host = host_with("marker", MARKER);
    let mut bundle = Bundle::new(&host);
    let mark = format!("{MARKS}/container-y");
    bundle.script("sleep 600");
    bundle.config["annotations"]["dev.garth.plugin.marker"] = "as=y".into();
    bundle.config["annotations"]["dev.garth.plugins"] = "marker".into();
    // The mark exists when a hook in the container's own namespaces runs, and not before the hooks
    // in which an engine makes the network.
    let hook = |when: &str| {
        let look = format!("ls {MARKS} >/srv/{when} 2>&1; true");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", look]}])
    };
    bundle.config["hooks"] = json!({
        "createRuntime": hook("before"), "createContainer": hook("after"),
    });
    let said = create(&bundle);
    assert_eq!(said.code, 0, "{said}");
    assert!(bundle.log_text().contains("dev.garth.plugins"), "{}", bundle.log_text());
    assert!(!host.read("/srv/before").contains("container-y"));
    assert!(host.read("/srv/after").contains("container-y"));
    bundle.start().ok();
    assert!(host.path(&mark).exists());
    let there = bundle.call(&format!("check {}", bundle.id)).run().ok();
    assert!(there.contains(&format!("plugin marker: the mark {mark}")), "{there}");
    assert!(there.contains("cgroup "), "{there}");
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    assert!(host.path(&mark).exists());
    bundle.delete().ok();
    bundle.assert_nothing_left();
    host.assert_nothing_left();
    assert_eq!(verbs(&host), ["add", "check", "del"]);

    // And one that fails makes the create fail.
    plugin(&host, "broken", "grep -q '\"verb\":\"add\"' || exit 0; echo no >&2; exit 1");
    bundle.config["annotations"]["dev.garth.plugin.broken"] = "".into();
    let said = create(&bundle).fails(1);
    assert!(said.contains("plugin broken: add: no (exited with code 1)"), "{said}");
    bundle.assert_nothing_left();
    host.assert_nothing_left();
}
