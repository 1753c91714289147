//! hooks: when, where, with what input, and what happens when they fail.

use garth_tests::{Bundle, parsed};
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Adds a hook of this kind: a shell script, where /share is a directory of the bundle that the
/// container has too. (Where the container's own files are not yet the root, it is elsewhere.)
fn hook(bundle: &mut Bundle, kind: &str, script: &str) {
    let path = if kind == "startContainer" { "/bin/sh" } else { "/usr/bin/env" };
    let share = if kind == "startContainer" { "/share".to_owned() } else { bundle.dir("share") };
    let script = format!("cd {share}; {script}");
    let args = match kind {
        "startContainer" => json!(["sh", "-c", script]),
        _ => json!(["env", "sh", "-c", script]),
    };
    let hook =
        json!({"path": path, "args": args, "env": ["PATH=/usr/bin:/bin", format!("KIND={kind}")]});
    match bundle.config["hooks"][kind].as_array_mut() {
        Some(list) => list.push(hook),
        None => bundle.config["hooks"][kind] = json!([hook]),
    }
}

fn share(bundle: &mut Bundle) {
    let share = bundle.dir("share");
    bundle.host().sh(&format!("mkdir {share}")).run().ok();
    bundle.mount("/share", "bind", &share, &["bind"]);
}

fn read(bundle: &Bundle, file: &str) -> String {
    bundle.host().read(&bundle.dir(&format!("share/{file}")))
}

#[test]
fn all_six_in_their_order() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in KINDS {
        for number in 1..=2 {
            hook(&mut bundle, kind, &format!("echo {kind} {number} >>order"));
        }
    }
    bundle.script("echo process >>/share/order").create().ok();
    let created = "prestart 1\nprestart 2\ncreateRuntime 1\ncreateRuntime 2\n\
        createContainer 1\ncreateContainer 2\n";
    assert_eq!(read(&bundle, "order"), created);
    bundle.start().ok();
    bundle.until("stopped");
    let order = read(&bundle, "order");
    let started: Vec<&str> = order.strip_prefix(created).unwrap().lines().collect();
    assert_eq!(started[..2], ["startContainer 1", "startContainer 2"]);
    // The process and its poststart hooks need not wait for each other.
    let rest: Vec<&str> = started[2..].iter().copied().filter(|line| *line != "process").collect();
    assert_eq!((rest, started.len()), (vec!["poststart 1", "poststart 2"], 5));
    bundle.delete().ok();
    assert!(read(&bundle, "order").ends_with("\npoststop 1\npoststop 2\n"));
}

#[test]
fn all_six_in_run() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in KINDS {
        hook(&mut bundle, kind, &format!("echo {kind} >>order"));
    }
    bundle.script("sleep 0.2").run().ok();
    assert_eq!(read(&bundle, "order"), KINDS.join("\n") + "\n");
}

fn namespaces(kind: &str, where_runs_the_process: bool) {
    bundle!(host, bundle);
    share(&mut bundle);
    let names = "for n in mnt net uts ipc; do readlink /proc/self/ns/$n; done";
    hook(&mut bundle, kind, &format!("({names}) >hook"));
    bundle.script(&format!("({names}) >/share/process; sleep 0.1")).run().ok();
    let runtime = host.sh(names).run().ok() + "\n";
    let (hook, process) = (read(&bundle, "hook"), read(&bundle, "process"));
    let expected = if where_runs_the_process { &process } else { &runtime };
    assert_eq!(&hook, expected, "{kind}");
}

#[test]
fn prestart_runs_in_the_runtimes_namespaces() {
    namespaces("prestart", false);
}

#[test]
fn create_runtime_runs_in_the_runtimes_namespaces() {
    namespaces("createRuntime", false);
}

#[test]
fn create_container_runs_in_the_containers_namespaces() {
    namespaces("createContainer", true);
}

#[test]
fn start_container_runs_in_the_containers_namespaces() {
    namespaces("startContainer", true);
}

#[test]
fn poststart_runs_in_the_runtimes_namespaces() {
    namespaces("poststart", false);
}

#[test]
fn poststop_runs_in_the_runtimes_namespaces() {
    namespaces("poststop", false);
}

#[test]
fn create_container_runs_before_the_root_is_changed() {
    bundle!(host, bundle);
    share(&mut bundle);
    host.write("/srv/outside", "outside");
    hook(&mut bundle, "createContainer", "cat /srv/outside >seen");
    bundle.run().ok();
    assert_eq!(read(&bundle, "seen"), "outside");
}

#[test]
fn create_container_can_mount_for_the_container() {
    bundle!(host, bundle);
    share(&mut bundle);
    host.write("/srv/data/file", "text");
    let target = bundle.rootfs("mnt");
    hook(&mut bundle, "createContainer", &format!("mount --bind /srv/data {target}"));
    assert_eq!(bundle.script("cat /mnt/file").run().ok(), "text");
}

#[test]
fn start_container_is_looked_up_in_the_root_file_system() {
    bundle!(host, bundle);
    share(&mut bundle);
    host.write(&bundle.rootfs("hook"), "#!/bin/sh\necho $1 >/share/seen\n");
    host.sh(&format!("chmod +x {}", bundle.rootfs("hook"))).run().ok();
    bundle.config["hooks"]["startContainer"] = json!([{"path": "/hook", "args": ["hook", "word"]}]);
    bundle.run().ok();
    assert_eq!(read(&bundle, "seen"), "word\n");
}

/// What each kind received, in a life from create to delete.
fn states(bundle: &mut Bundle) -> (u64, Vec<(&'static str, Value)>) {
    share(bundle);
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    for kind in KINDS {
        hook(bundle, kind, &format!("cat >state.{kind}"));
    }
    bundle.script("exec sleep 600").create().ok();
    bundle.start().ok();
    let pid = bundle.pid();
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
    (pid, KINDS.map(|kind| (kind, parsed(&read(bundle, &format!("state.{kind}"))))).to_vec())
}

#[test]
fn the_state_is_on_their_input() {
    bundle!(host, bundle);
    let (pid, states) = states(&mut bundle);
    for (kind, state) in states {
        assert_eq!(state["id"], bundle.id, "{kind}: {state}");
        assert_eq!(state["bundle"], bundle.dir(""), "{kind}: {state}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}: {state}");
        assert!(state["ociVersion"].is_string(), "{kind}: {state}");
        // Inside the container a different pid may be meant.
        if ["prestart", "createRuntime", "poststart"].contains(&kind) {
            assert_eq!(state["pid"], pid, "{kind}: {state}");
        }
    }
}

#[test]
fn the_status_in_the_state_is_that_of_the_moment() {
    bundle!(host, bundle);
    let (_, states) = states(&mut bundle);
    let found: Vec<(&str, &str)> =
        states.iter().map(|(kind, state)| (*kind, state["status"].as_str().unwrap())).collect();
    let expected = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn arguments_and_environment_are_those_given() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in ["createRuntime", "createContainer", "poststop"] {
        // Variables that a shell adds itself are ignored.
        let script = format!(
            "cd {}; echo \"$0,$1,$2,$#\" >args.{kind}; env | grep -v -E '^(PWD|OLDPWD|SHLVL|_)=' >env.{kind}",
            bundle.dir("share")
        );
        bundle.config["hooks"][kind] = json!([{"path": "/bin/sh",
            "args": ["sh", "-c", script, "zero", "one word", "two"],
            "env": ["PATH=/usr/bin:/bin", "TEA=green and black"]}]);
    }
    bundle.run().ok();
    for kind in ["createRuntime", "createContainer", "poststop"] {
        assert_eq!(read(&bundle, &format!("args.{kind}")), "zero,one word,two,2\n", "{kind}");
        let env = read(&bundle, &format!("env.{kind}"));
        let mut env: Vec<&str> = env.lines().collect();
        env.sort_unstable();
        assert_eq!(env, ["PATH=/usr/bin:/bin", "TEA=green and black"], "{kind}");
    }
}

fn fails_create(kind: &str) {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, kind, "echo broken-hook >&2; exit 3");
    hook(&mut bundle, kind, "touch after");
    let ran = bundle.create();
    assert_ne!(ran.code, 0, "{ran}");
    assert!(!(bundle.log_text() + &ran.stderr).is_empty());
    assert!(!host.path(&bundle.dir("share/after")).exists(), "the next hook has run");
    assert_ne!(bundle.call(&format!("state {}", bundle.id)).run().code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn prestart_that_fails_fails_create() {
    fails_create("prestart");
}

#[test]
fn create_runtime_that_fails_fails_create() {
    fails_create("createRuntime");
}

#[test]
fn create_container_that_fails_fails_create() {
    fails_create("createContainer");
}

#[test]
fn start_container_that_fails_fails_start() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "startContainer", "exit 3");
    bundle.script("touch /share/process").create().ok();
    let ran = bundle.start();
    assert_ne!(ran.code, 0, "{ran}");
    garth_tests::until("it is stopped or gone", || {
        let ran = bundle.call(&format!("state {}", bundle.id)).run();
        (ran.code != 0 || ran.stdout.contains("\"stopped\"")).then_some(())
    });
    assert!(!host.path(&bundle.dir("share/process")).exists(), "the process has run");
}

#[test]
fn start_container_that_fails_fails_run() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "startContainer", "exit 3");
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn poststart_that_fails_fails_start_and_stops_the_container() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "poststart", "exit 3");
    bundle.script("exec sleep 600").create().ok();
    let ran = bundle.start();
    assert_ne!(ran.code, 0, "{ran}");
    garth_tests::until("it is stopped or gone", || {
        let ran = bundle.call(&format!("state {}", bundle.id)).run();
        (ran.code != 0 || ran.stdout.contains("\"stopped\"")).then_some(())
    });
}

#[test]
fn poststop_that_fails_is_a_warning() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "poststop", "exit 3");
    hook(&mut bundle, "poststop", "touch after");
    bundle.script("exec sleep 600").create().ok();
    bundle.start().ok();
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
    assert!(host.path(&bundle.dir("share/after")).exists(), "the next hook has not run");
    assert!(!bundle.log_text().is_empty(), "no warning");
}

#[test]
fn a_timeout_ends_the_hook() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "createRuntime", "exec sleep 600");
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = 1.into();
    assert_ne!(bundle.create().code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn a_timeout_of_zero_is_refused() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "createRuntime", "exec sleep 1");
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = 0.into();
    let ran = bundle.create();
    assert_ne!(ran.code, 0, "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn a_hook_that_is_not_there_fails_create() {
    bundle!(host, bundle);
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "/no/such/hook"}]);
    assert_ne!(bundle.create().code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn a_relative_path_is_refused() {
    bundle!(host, bundle);
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "true"}]);
    assert_ne!(bundle.create().code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn prestart_can_give_the_network_namespace_an_interface() {
    bundle!(host, bundle);
    share(&mut bundle);
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); \
        ip link add veth7 type veth peer name veth8 netns $pid";
    hook(&mut bundle, "prestart", &format!("tr -d '\\n' | {{ {script}; }}"));
    assert_eq!(bundle.script("ls /sys/class/net").run().ok(), "lo\nveth8");
}

#[test]
fn the_reason_on_standard_error_is_in_the_error() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        bundle!(host, bundle);
        share(&mut bundle);
        hook(&mut bundle, kind, "echo working; echo no such device >&2; exit 3");
        let created = bundle.script("exec sleep 600").create();
        let ran = if kind.starts_with("create") || kind == "prestart" {
            created
        } else {
            created.ok();
            bundle.start()
        };
        assert_ne!(ran.code, 0, "{kind}: {ran}");
        let error = bundle.logged_error();
        assert!(error.contains(kind) && error.contains("no such device"), "{kind}: {error}");
        assert!(!error.contains("working"), "{kind}: {error}");
    }
}

#[test]
fn what_they_write_is_in_the_log_and_never_in_the_containers_output() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in KINDS {
        hook(&mut bundle, kind, "echo out-$KIND; echo err-$KIND >&2");
    }
    bundle.script("echo from the program").create().ok();
    bundle.start().ok();
    bundle.until("stopped");
    bundle.delete().ok();
    assert_eq!(bundle.output(), "from the program");
    assert_eq!(bundle.errors(), "");
    let log = bundle.log_text();
    for kind in KINDS {
        let told = |word: &str| log.contains(&format!("{word}-{kind}"));
        assert!(told("out") && told("err"), "{kind}: {log}");
    }
    assert_eq!(bundle.logged_error(), "");
}

#[test]
fn those_of_the_runtime_run_in_the_bundles_directory() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let script = format!("pwd >{}", bundle.dir(&format!("share/{kind}")));
        bundle.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
    }
    bundle.script("sleep 0.1").sh("cd /usr; $R run --bundle $B $ID").run().ok();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        assert_eq!(read(&bundle, kind).trim_end(), bundle.dir(""), "{kind}");
    }
}

#[test]
fn without_an_environment_of_their_own_they_have_that_of_the_caller() {
    bundle!(host, bundle);
    share(&mut bundle);
    for kind in ["createRuntime", "createContainer", "poststop"] {
        let script = format!("echo $CALLER >{}", bundle.dir(&format!("share/{kind}")));
        bundle.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    }
    bundle.sh("export CALLER=here; $R run --bundle $B $ID").run().ok();
    for kind in ["createRuntime", "createContainer", "poststop"] {
        assert_eq!(read(&bundle, kind), "here\n", "{kind}");
    }
}

#[test]
fn an_empty_environment_stays_empty() {
    bundle!(host, bundle);
    share(&mut bundle);
    let script = format!("echo \"caller:$CALLER\" >{}", bundle.dir("share/seen"));
    bundle.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": []}]);
    bundle.sh("export CALLER=here; $R run --bundle $B $ID").run().ok();
    assert_eq!(read(&bundle, "seen"), "caller:\n");
}

#[test]
fn start_container_without_an_environment_has_that_of_the_process() {
    bundle!(host, bundle);
    share(&mut bundle);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "TEA=green"]);
    bundle.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo $TEA$CALLER >/share/seen"]}]);
    bundle.sh("export CALLER=here; $R run --bundle $B $ID").run().ok();
    assert_eq!(read(&bundle, "seen"), "green\n");
}

#[test]
fn start_container_runs_under_the_filter_of_the_container() {
    for no_new_privileges in [true, false] {
        bundle!(host, bundle);
        share(&mut bundle);
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}]});
        hook(&mut bundle, "startContainer", "cat /proc/self/status >status");
        bundle.run().ok();
        assert_eq!(crate::status_of(&read(&bundle, "status"), "Seccomp"), "2");
    }
}

#[test]
fn one_that_goes_on_in_the_background_is_not_waited_for() {
    bundle!(host, bundle);
    share(&mut bundle);
    hook(&mut bundle, "createRuntime", "sleep 3 & echo $! >pid");
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
    let pid = read(&bundle, "pid");
    assert_eq!(host.sh(&format!("kill {pid}")).run().code, 0, "it was waited for");
}
