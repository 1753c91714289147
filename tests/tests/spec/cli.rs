//! The command line: --version, spec, features, the log, and input that cannot be understood.

use garth_tests::parsed;

#[test]
fn version() {
    bundle!(host, bundle);
    let text = bundle.call("--version").run().ok();
    let mut lines = text.lines();
    let words: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert!(words.len() >= 3 && words[1] == "version", "{text}");
    let spec = lines.find_map(|line| line.strip_prefix("spec:")).expect("no spec:").trim();
    assert!(spec.starts_with("1."), "{text}");
}

#[test]
fn spec_writes_a_config_that_runs() {
    bundle!(host, bundle);
    bundle.sh("rm $B/config.json; $R spec --bundle $B").run().ok();
    let mut config = parsed(&host.read(&bundle.dir("config.json")));
    assert_eq!(config["process"]["args"][0], "sh");
    assert_eq!(config["root"]["path"], "rootfs");
    config["process"]["terminal"] = false.into();
    config["process"]["env"] = serde_json::json!(["PATH=/bin"]);
    config["linux"]["cgroupsPath"] = format!("/{}", bundle.id).into();
    // That one is tested in `mounts`: a test host has only part of each tree, where not every
    // runtime finds its own.
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    bundle.config = config;
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

#[test]
fn spec_does_not_overwrite() {
    bundle!(host, bundle);
    host.write(&bundle.dir("config.json"), "mine");
    let ran = bundle.call(&format!("spec --bundle {}", bundle.dir(""))).run();
    assert_ne!(ran.code, 0, "{ran}");
    assert_eq!(host.read(&bundle.dir("config.json")), "mine");
}

#[test]
fn spec_rootless() {
    bundle!(host, bundle);
    bundle.sh("rm $B/config.json; $R spec --rootless --bundle $B").run().ok();
    let config = parsed(&host.read(&bundle.dir("config.json")));
    let namespaces = config["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|namespace| namespace["type"] == "user"), "{config}");
    assert!(config["linux"]["uidMappings"].is_array(), "{config}");
}

#[test]
fn features() {
    bundle!(host, bundle);
    let features = parsed(&bundle.call("features").run().ok());
    for key in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[key].as_str().unwrap().starts_with("1."), "{features}");
    }
    let has = |list: &serde_json::Value, word: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|one| one == word))
    };
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        assert!(has(&features["hooks"], hook), "{hook}");
    }
    for option in ["bind", "rbind", "ro", "nosuid", "rro"] {
        assert!(has(&features["mountOptions"], option), "{option}");
    }
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has(&features["linux"]["namespaces"], namespace), "{namespace}");
    }
    assert!(has(&features["linux"]["capabilities"], "CAP_CHOWN"));
    assert!(features["linux"]["cgroup"]["v1"].is_boolean());
    assert!(features["linux"]["seccomp"]["enabled"].is_boolean());
    assert!(has(&features["linux"]["seccomp"]["actions"], "SCMP_ACT_ERRNO"));
    assert!(has(&features["linux"]["seccomp"]["operators"], "SCMP_CMP_EQ"));
}

#[test]
fn features_of_1_3() {
    bundle!(host, bundle);
    let features = parsed(&bundle.call("features").run().ok());
    assert!(
        features["potentiallyUnsafeConfigAnnotations"].is_array()
            || features["annotations"].is_object()
    );
    assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
    assert!(features["linux"]["intelRdt"]["enabled"].is_boolean());
    assert!(features["linux"]["netDevices"]["enabled"].is_boolean());
    assert!(features["linux"]["memoryPolicy"]["modes"].is_array());
}

#[test]
fn a_failure_is_a_line_of_json_in_the_log() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = serde_json::json!(["no-such-command"]);
    assert_ne!(bundle.create().code, 0);
    let last = bundle.log().into_iter().rfind(|line| line["level"] == "error");
    let last = last.unwrap_or_else(|| panic!("no error in {}", bundle.log_text()));
    assert!(last["msg"].as_str().unwrap().contains("no-such-command"), "{last}");
    let time = last["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{last}");
}

#[test]
fn the_log_is_appended_to() {
    bundle!(host, bundle);
    host.write(&bundle.dir("log"), "{\"level\":\"info\",\"msg\":\"before\",\"time\":\"x\"}\n");
    bundle.call("start nothing").run();
    let log = bundle.log();
    assert!(log.len() >= 2 && log[0]["msg"] == "before", "{log:?}");
}

#[test]
fn a_log_as_text() {
    bundle!(host, bundle);
    let log = bundle.dir("text");
    bundle.call(&format!("--log {log} --log-format text start nothing")).run();
    let text = host.read(&log);
    assert!(text.contains("level=error") && text.contains("msg="), "{text}");
}

#[test]
fn nothing_is_logged_when_all_is_well() {
    bundle!(host, bundle);
    bundle.run().ok();
    assert_eq!(bundle.log_text(), "");
}

#[test]
fn help() {
    bundle!(host, bundle);
    let text = bundle.call("--help").run().ok();
    for verb in [
        "create", "start", "state", "kill", "delete", "run", "exec", "list", "ps", "pause",
        "resume", "update", "events", "spec", "features",
    ] {
        assert!(text.contains(verb), "no {verb} in\n{text}");
    }
}

#[test]
fn options_may_come_after_the_id() {
    bundle!(host, bundle);
    bundle.script("exec sleep 600").create().ok();
    bundle.call(&format!("kill {} KILL", bundle.id)).run().ok();
    bundle.until("stopped");
    bundle.call(&format!("delete {} --force", bundle.id)).run().ok();
    bundle.assert_nothing_left();
}

#[test]
fn an_unknown_verb_or_option_is_refused() {
    bundle!(host, bundle);
    for words in ["brew", "list --tea", "--tea list"] {
        let ran = bundle.call(words).run();
        assert_ne!(ran.code, 0, "{ran}");
    }
}

#[test]
fn an_id_is_needed() {
    bundle!(host, bundle);
    // Only `ps` may list anything other than the processes of a container.
    for verb in ["create", "start", "state", "kill", "delete", "run", "exec", "pause", "resume"] {
        let ran = bundle.call(verb).run();
        assert_ne!(ran.code, 0, "{ran}");
    }
}

#[test]
fn containers_of_another_root_are_not_seen() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.call("--root /run/elsewhere list -q").run().ok(), "");
    assert_ne!(bundle.call(&format!("--root /run/elsewhere state {}", bundle.id)).run().code, 0);
}

#[test]
fn checkpoint_without_criu_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    // Where none is found, whether or not this machine has one.
    let ran = bundle.sh("PATH=/srv/empty exec $R checkpoint --image-path /srv/image $ID").run();
    assert!(ran.code != 0 && !(bundle.log_text() + &ran.stderr).is_empty(), "{ran}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn debug_tells_step_by_step_what_is_done() {
    bundle!(host, bundle);
    bundle.script("echo runs");
    let ran = bundle.sh("$R --debug create --bundle $B $ID </dev/null >$B/out 2>$B/err").run();
    ran.ok();
    bundle.call(&format!("--debug start {}", bundle.id)).run().ok();
    bundle.until("stopped");
    assert_eq!((bundle.output(), bundle.errors()), ("runs".into(), String::new()));
    let messages: Vec<String> = bundle
        .log()
        .iter()
        .filter(|line| line["level"] == "debug")
        .map(|line| line["msg"].as_str().unwrap().to_owned())
        .collect();
    let place = |word: &str| {
        let place = messages.iter().position(|message| message.contains(word));
        place.unwrap_or_else(|| panic!("no {word} in {messages:#?}"))
    };
    let places =
        ["clone3", "mount proc on /proc", "mounts[0]", "pivot", "execute", "start the process"]
            .map(place);
    assert!(places.is_sorted(), "{messages:#?}");
}
