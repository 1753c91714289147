//! A fault in a bundle, a name, the state directory, the disk or the caller is reported in one
//! line, also where engines read it (`--log`), and nothing is left of the attempt.
#![allow(clippy::unwrap_used, reason = "a test")]

use garth_tests::{Bundle, Host, ROOT, Ran, Socket, needs};
use serde_json::json;

/// One line from garth, exit code 1, the same in the log, nothing left.
#[track_caller]
fn assert_refused(bundle: &Bundle<'_>, ran: &Ran, text: &str) {
    assert_eq!(ran.code, 1, "{ran}");
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("garth: "), "{ran}");
    assert!(ran.stderr.contains(text), "{text:?} is not in {ran}");
    assert!(bundle.logged_error().contains(text), "{text:?} is not in {}", bundle.log_text());
    bundle.assert_nothing_left();
}

/// `create` with these shell words, refused.
#[track_caller]
fn create_refused(bundle: &Bundle<'_>, words: &str, text: &str) {
    let ran = bundle.sh(&format!("$R create {words} </dev/null")).run();
    assert_refused(bundle, &ran, text);
}

#[test]
fn a_config_that_cannot_be_read_is_refused() {
    needs!(root);
    let host = Host::new();
    let bundle = Bundle::new(&host);
    let whole = bundle.config.to_string();
    let file = host.path(&bundle.dir("config.json"));
    let try_it = |what: &str, text: &[u8]| {
        bundle.save();
        std::fs::write(&file, text).unwrap();
        let ran = bundle.call(&format!("create --bundle {} {}", bundle.dir(""), bundle.id)).run();
        assert_eq!(ran.code, 1, "{what}: {ran}");
        assert!(ran.stderr.starts_with("garth: ") && ran.stderr.lines().count() == 1, "{ran}");
        assert!(ran.stderr.contains("config.json"), "{what}: {ran}");
        assert!(bundle.logged_error().contains("config.json"), "{what}");
    };
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        try_it(&format!("the first {length} bytes"), &whole.as_bytes()[..length]);
    }
    try_it("binary", &(0..=255u8).cycle().take(100_000).collect::<Vec<_>>());
    try_it("not UTF-8", &[b"{\"ociVersion\":\"", &[0xff, 0xfe][..], b"\"}"].concat());
    try_it("deeply nested", "[".repeat(1_000_000).as_bytes());
    try_it("nested objects", "{\"a\":".repeat(200_000).as_bytes());
    try_it("twenty megabytes of one string", "x".repeat(20 << 20).as_bytes());
    // Not even read.
    bundle.save();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(100 << 20).unwrap();
    let ran = bundle.call(&format!("create --bundle {} {}", bundle.dir(""), bundle.id)).run();
    assert!(
        ran.fails(1).contains("config.json: 104857600 bytes, more than the maximum of 16777216")
    );
    assert!(bundle.logged_error().contains("104857600 bytes"), "{}", bundle.log_text());
    for wrong in [
        "null",
        "[]",
        "7",
        "\"text\"",
        "{}",
        "{\"ociVersion\":7}",
        "{\"ociVersion\":\"1.0.2\",\"process\":[]}",
        "{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":\"true\",\"cwd\":\"/\"}}",
        "{\"ociVersion\":\"1.0.2\",\"process\":{\"user\":{\"uid\":-1},\"cwd\":\"/\"}}",
        "{\"ociVersion\":\"1.0.2\",\"process\":{\"user\":{\"uid\":4294967296},\"cwd\":\"/\"}}",
    ] {
        try_it(wrong, wrong.as_bytes());
    }
    bundle.assert_nothing_left();
}

#[test]
fn a_large_config_is_no_error() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let long = "x".repeat(10 << 20);
    bundle.config["annotations"] = json!({"long": long});
    assert_eq!(bundle.script("echo it runs").run().ok(), "it runs");
    let state = bundle.create();
    assert_eq!(state.code, 0);
    assert_eq!(bundle.state()["annotations"]["long"].as_str().unwrap().len(), long.len());
}

#[test]
fn a_bundle_that_is_none_is_refused() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.save();
    create_refused(&bundle, "--bundle /srv/nowhere $ID", "/srv/nowhere");
    create_refused(&bundle, "--bundle /srv $ID", "config.json");
    create_refused(&bundle, "--bundle /etc/hostname $ID", "/etc/hostname");
    let odd = |script: &str, text: &str| {
        let ran = bundle
            .sh(&format!(
                "mkdir -p /srv/odd; cd /srv/odd; rm -rf config.json; {script}
                exec $R create --bundle /srv/odd $ID </dev/null"
            ))
            .run();
        assert_refused(&bundle, &ran, text);
    };
    odd("mkdir config.json", "not a regular file");
    odd("mkfifo config.json", "not a regular file");
    odd("ln -s /dev/zero config.json", "not a regular file");
    odd("ln -s config.json config.json", "ELOOP");
    odd("cp $B/config.json .", "root.path");

    bundle.config["root"]["path"] = "nowhere".into();
    create_refused(&bundle, "--bundle $B $ID", "nowhere");
    bundle.config["root"]["path"] = "config.json".into();
    create_refused(&bundle, "--bundle $B $ID", "config.json");
    bundle.config["root"]["path"] = "".into();
    create_refused(&bundle, "--bundle $B $ID", "root");
    host.sh(&format!("ln -s rootfs {}", bundle.dir("link"))).run().ok();
    bundle.config["root"]["path"] = "link".into();
    assert_eq!(bundle.script("echo it runs").run().ok(), "it runs");
}

#[test]
fn verbs_at_the_wrong_time_say_so() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let mut neighbour = Bundle::named(&host, "neighbour");
    neighbour.sleeping();
    let log = host.path(&bundle.dir("log"));
    let refused = |ran: Ran, text: &str| {
        assert_eq!(ran.code, 1, "{ran}");
        assert!(ran.stderr.contains(text) && ran.stderr.lines().count() == 1, "{text:?}: {ran}");
        let logged = std::fs::read_to_string(&log).unwrap();
        let last = garth_tests::parsed(logged.lines().last().unwrap());
        assert_eq!(last["level"], "error", "{logged}");
        assert!(last["msg"].as_str().unwrap().contains(text), "{text:?}: {logged}");
        assert_eq!(neighbour.status(), "running");
    };
    for words in ["start box0", "state box0", "delete box0", "kill box0 TERM"] {
        refused(bundle.call(words).run(), "container \"box0\" does not exist");
    }
    bundle.script("exec sleep 600").create().ok();
    refused(bundle.create(), "exists");
    assert_eq!(bundle.status(), "created");
    bundle.start().ok();
    refused(bundle.create(), "exists");
    refused(bundle.start(), "cannot start");
    refused(bundle.delete(), "not stopped");
    assert_eq!(bundle.status(), "running");
    refused(bundle.kill("NOSUCH"), "NOSUCH");
    refused(bundle.kill("9999"), "9999");
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    refused(bundle.create(), "exists");
    refused(bundle.start(), "stopped");
    refused(bundle.kill("KILL"), "not running");
    let exec = bundle.exec("", "echo it runs");
    assert!(exec.code == 255 && exec.stderr.contains("stopped"), "{exec}");
    bundle.delete().ok();
    refused(bundle.delete(), "does not exist");
    bundle.delete_force().ok();
    bundle.assert_nothing_left_but(&neighbour);
}

#[test]
fn a_name_that_is_none_is_refused_by_every_verb() {
    needs!(root);
    let host = Host::new();
    let mut neighbour = Bundle::named(&host, "neighbour");
    neighbour.sleeping();
    let bundle = Bundle::new(&host);
    bundle.save();
    let create = format!("create --bundle {}", bundle.dir(""));
    let run = format!("run --bundle {}", bundle.dir(""));
    for id in [
        "",
        "/",
        "one/two",
        "/neighbour",
        "./neighbour",
        "neighbour/",
        "../containers/neighbour",
        ".",
        "..",
        "...",
        ".hidden",
        "one two",
        "one\ntwo",
        "neighbour\n",
        "tab\t",
        "bell\u{7}",
        "\u{e9}t\u{e9}",
        "*",
        "neigh*",
        "$(id)",
        &"x".repeat(201),
        &"x".repeat(1025),
        &"x".repeat(100_000),
    ] {
        for verb in
            [&*create, &run, "state", "start", "kill", "delete", "delete --force", "pause", "exec"]
        {
            std::fs::write(host.path(&bundle.dir("log")), "").unwrap();
            let mut call = bundle.call(verb).arg(id);
            if verb == "exec" {
                call = call.arg("true");
            }
            let ran = call.run();
            let shown: String = id.chars().take(20).collect();
            assert_eq!(ran.code, if verb == "exec" { 255 } else { 1 }, "{verb} {shown:?}: {ran}");
            assert_eq!(ran.stderr.lines().count(), 1, "{verb} {shown:?}: {ran}");
            let makes = verb.starts_with("create") || verb.starts_with("run");
            assert!(!makes || ran.stderr.len() < 500, "{verb} {shown:?}: {ran}");
            let said = |text: &str| {
                text.contains("invalid container id") || !makes && text.contains("does not exist")
            };
            assert!(said(&ran.stderr), "{verb} {shown:?}: {ran}");
            assert!(said(&bundle.logged_error()), "{verb} {shown:?}: {}", bundle.log_text());
        }
    }
    assert_eq!(neighbour.status(), "running");
    let left = host.sh(&format!("ls -A {ROOT}/containers")).run().ok();
    assert_eq!(left, "neighbour");
    neighbour.delete_force().ok();
    // Dots are fine elsewhere, and so is every name that fits.
    for id in ["a.b", "a..b", "a.", "_", "0", "A-z_0.9+x", &"x".repeat(200)] {
        let ran = bundle.sh(&format!("$R run --bundle $B '{id}' </dev/null")).run();
        assert_eq!(ran.code, 0, "{id}: {ran}");
    }
    bundle.assert_nothing_left();
}

/// Whatever is in the entry of a running container, `delete --force` ends it and removes
/// everything.
#[test]
fn a_damaged_entry_can_be_deleted_by_force() {
    needs!(root);
    let host = Host::new();
    let mut neighbour = Bundle::named(&host, "neighbour");
    neighbour.sleeping();
    let others = neighbour.pid();
    let mut bundle = Bundle::new(&host);
    for damage in [
        "true",
        "rm record.json",
        ": >record.json",
        "head -c 100 record.json >x; mv x record.json",
        "head -c 100000 /dev/urandom >record.json",
        "rm record.json; mkdir record.json; touch record.json/file",
        "echo '{}' >record.json",
        "sed -i 's/\"id\":\"box0\"/\"id\":\"neighbour\"/' record.json",
        "cp ../neighbour/record.json record.json",
        "rm process; ln -s garbage process",
        "rm process; ln -s '1 2 3' process",
        "rm process; ln -s '-1 -1 -1' process",
        "rm process; ln -s '99999999999999999999 1 x' process",
        "rm process",
        "rm process; mkdir process",
        "rm cgroup; ln -s garbage cgroup",
        "rm cgroup; ln -s / cgroup",
        "rm cgroup",
        "touch foreign; mkdir -p dir/dir; touch dir/dir/file; ln -s /etc link; mkfifo fifo",
        "rm record.json process",
        "rm record.json; ln -s /etc/passwd record.json",
        "touch record.new creating created",
    ] {
        bundle.sleeping();
        let script = format!(
            "cd {ROOT}/containers/box0 && {{ {damage}; }} && for v in state 'exec' 'kill'; do
                $R $v box0 true 2>&1; done; $R list 2>&1; $R delete --force box0"
        );
        let ran = bundle.sh(&script).run();
        assert_eq!(ran.code, 0, "{damage}: {ran}");
        assert!(!ran.stdout.contains("panicked"), "{damage}: {ran}");
        let left = host.sh(&format!("ls -A {ROOT}/containers; pgrep -x -r DRST sleep")).run().ok();
        assert_eq!(left, format!("neighbour\n{others}"), "{damage}");
        let trees = "'(' -fstype cgroup -o -fstype cgroup2 ')'";
        let left = host.sh(&format!("find /sys/fs/cgroup {trees} -name box0")).run().ok();
        assert_eq!(left, "", "{damage}");
        assert!(host.path("/etc/passwd").exists());
    }
    assert_eq!(neighbour.status(), "running");
    neighbour.delete_force().ok();
    drop(bundle);
}

/// The same for one that waits for its start, and one that has ended; until then each verb says
/// what is wrong, and what to do.
#[test]
fn a_damaged_record_is_said_and_can_be_deleted_in_every_state() {
    needs!(root);
    let host = Host::new();
    let mut neighbour = Bundle::named(&host, "neighbour");
    neighbour.sleeping();
    let mut bundle = Bundle::new(&host);
    for state in ["created", "stopped"] {
        for damage in [
            ": >record.json",
            "half=$(($(stat -c %s record.json) / 2)); head -c $half record.json >x; mv x record.json",
            "head -c 100000 /dev/urandom >record.json",
            "rm record.json",
        ] {
            bundle.script("exec sleep 600").create().ok();
            if state == "stopped" {
                bundle.start().ok();
                bundle.kill("KILL").ok();
                bundle.until("stopped");
            }
            bundle.sh(&format!("cd {ROOT}/containers/box0; {damage}")).run().ok();
            for words in ["state box0", "start box0", "kill box0", "delete box0", "pause box0"] {
                std::fs::write(host.path(&bundle.dir("log")), "").unwrap();
                let ran = bundle.call(words).run();
                // A verb that needs only the process, or finds nothing left, may succeed.
                if ran.code == 0 {
                    assert!(["kill box0", "delete box0"].contains(&words), "{damage}: {ran}");
                    continue;
                }
                assert_eq!(ran.code, 1, "{state} {damage} {words}: {ran}");
                assert_eq!(ran.stderr.lines().count(), 1, "{state} {damage} {words}: {ran}");
                assert!(bundle.logged_error().contains("box0"), "{words}: {}", bundle.log_text());
            }
            let deleted = bundle.delete_force();
            assert_eq!(deleted.code, 0, "{state} {damage}: {deleted}");
            bundle.assert_nothing_left_but(&neighbour);
            assert_eq!(neighbour.status(), "running");
        }
    }
    // The name can be used again.
    assert_eq!(bundle.script("echo again").run().ok(), "again");
    neighbour.delete_force().ok();
}

/// A bundle, with its root file system, the pid file and the log, on a full disk.
#[test]
fn a_bundle_on_a_full_disk_is_refused_and_leaves_nothing() {
    needs!(root);
    let host = Host::new();
    let mut neighbour = Bundle::named(&host, "neighbour");
    neighbour.sleeping();
    let mut bundle = Bundle::new(&host);
    bundle.script("echo it runs");
    bundle.save();
    for (options, fill) in [
        ("size=8m", "head -c 9m /dev/zero >/srv/full/fill 2>/dev/null"),
        ("nr_inodes=1000", "for i in $(seq 1000); do true >/srv/full/fill.$i; done 2>/dev/null"),
    ] {
        host.sh(&format!(
            "mkdir -p /srv/full; mount -t tmpfs -o {options} tmpfs /srv/full
            cp -a /srv/box0/. /srv/full/; {fill}; true"
        ))
        .run()
        .ok();
        for verb in ["create", "run", "run -d"] {
            for (what, words) in [
                ("the pid file", "--log /srv/log VERB --pid-file /srv/full/pid"),
                ("the log", "--log /srv/full/log VERB"),
                ("a mount's target", "--log /srv/log VERB"),
            ] {
                bundle.config["root"]["path"] = "/srv/full/rootfs".into();
                bundle.config["mounts"] = json!([]);
                if what == "a mount's target" {
                    bundle.mount("/new/new", "tmpfs", "tmpfs", &[]);
                }
                let words = words.replace("VERB", verb);
                let script = format!(
                    "rm -f /srv/log
                    $GARTH --root {ROOT} --log-format json {words} --bundle $B $ID \
                        </dev/null >/srv/out 2>/srv/err
                    code=$?; cat /srv/err >&2; exit $code"
                );
                let ran = bundle.sh(&script).run();
                // A log and a directory need an inode, and at first no space.
                if what == "the pid file" || options.starts_with("nr_inodes") {
                    assert_eq!(ran.code, 1, "{options} {verb} {what}: {ran}");
                    assert!(ran.stderr.contains("ENOSPC"), "{options} {verb} {what}: {ran}");
                    assert_eq!(ran.stderr.lines().count(), 1, "{options} {verb} {what}: {ran}");
                    let logged = || garth_tests::parsed(&host.read("/srv/log"));
                    if what != "the log" {
                        assert_eq!(logged()["level"], "error");
                        assert!(logged()["msg"].as_str().unwrap().contains("ENOSPC"));
                    }
                } else {
                    assert_eq!(ran.code, 0, "{options} {verb} {what}: {ran}");
                }
                assert_eq!(bundle.delete_force().code, 0);
                let other = format!("process {} ", neighbour.pid());
                let known = |line: &String| {
                    line.starts_with(&other)
                        || line.contains("neighbour")
                        || line.contains(" /srv/full ")
                };
                garth_tests::until("nothing is left", || {
                    bundle.left().iter().all(known).then_some(())
                });
                assert_eq!(neighbour.status(), "running", "{options} {verb} {what}");
            }
        }
        host.sh("umount /srv/full").run().ok();
    }
    neighbour.delete_force().ok();
}

/// A state directory without space or without inodes. The log is on another disk.
#[test]
fn on_a_full_disk_creating_fails_and_deleting_works() {
    needs!(root);
    for (options, fill) in [
        ("size=256k", "head -c 300k /dev/zero >/run/spec/fill 2>/dev/null; true"),
        ("nr_inodes=64", "for i in $(seq 100); do true >/run/spec/fill.$i; done 2>/dev/null; true"),
    ] {
        let host = Host::new();
        host.sh(&format!("mkdir {ROOT}; mount -t tmpfs -o mode=700,{options} tmpfs {ROOT}"))
            .run()
            .ok();
        let mut neighbour = Bundle::named(&host, "neighbour");
        neighbour.sleeping();
        let mut other = Bundle::named(&host, "other");
        other.script("exec sleep 600").create().ok();
        let mut bundle = Bundle::new(&host);
        bundle.config["annotations"] = json!({"long": "x".repeat(10_000)});
        let before = host.sh("ls -d /proc/[0-9]*; find /sys/fs/cgroup -name box0").run().ok();
        let full = format!("{fill}\nexec </dev/null\n");
        for verb in ["create", "run", "run -d"] {
            // With nothing free, and with just enough free to get part of the way.
            for room in [
                "",
                "rm -f /run/spec/fill.1",
                "rm -f /run/spec/fill.[1-2]",
                "rm -f /run/spec/fill.[1-3]",
                "rm -f /run/spec/fill.[1-4]",
            ] {
                let ran = bundle
                    .sh(&format!(
                        "{full} {room}\n $R {verb} --bundle $B $ID >$B/out 2>$B/err
                        code=$?; cat $B/err >&2; exit $code"
                    ))
                    .run();
                if room.is_empty() {
                    assert_eq!(ran.code, 1, "{options} {verb}: {ran}");
                    assert!(ran.stderr.contains("ENOSPC"), "{options} {verb}: {ran}");
                    assert!(bundle.logged_error().contains("ENOSPC"), "{}", bundle.log_text());
                }
                let deleted = bundle.sh("$R delete --force $ID").run();
                assert_eq!(deleted.code, 0, "{options} {verb}: {deleted}");
                let left = host.sh("ls -A /run/spec/containers").run().ok();
                assert_eq!(left, "neighbour\nother", "{options} {verb} {room}");
            }
        }
        // Existing containers can still be used.
        assert_eq!((neighbour.status(), other.status()), ("running".into(), "created".into()));
        assert_eq!(neighbour.exec("", "echo it runs").ok(), "it runs");
        other.start().ok();
        neighbour.kill("KILL").ok();
        neighbour.until("stopped");
        neighbour.delete().ok();
        other.delete_force().ok();
        host.sh("rm -f /run/spec/fill*").run().ok();
        let after = host.sh("ls -d /proc/[0-9]*; find /sys/fs/cgroup -name box0").run().ok();
        assert!(after.lines().count() < before.lines().count() + 2, "{before}\n{after}");
        bundle.config.as_object_mut().unwrap().remove("annotations");
        assert_eq!(bundle.script("echo again").run().ok(), "again");
        host.sh(&format!("umount {ROOT}")).run().ok();
    }
}

#[test]
fn a_state_directory_of_somebody_else_is_not_used() {
    needs!(root);
    let host = Host::new();
    let bundle = Bundle::new(&host);
    bundle.save();
    for (how, what) in [("chown 1000", "belongs to another"), ("chmod 777", "writable by others")] {
        host.sh(&format!("rm -rf {ROOT}; mkdir -m 700 {ROOT}; {how} {ROOT}")).run().ok();
        for words in ["create --bundle /srv/box0 box0", "state box0", "list", "delete box0"] {
            let ran = bundle.call(words).run();
            assert_eq!(ran.code, 1, "{how} {words}: {ran}");
            assert!(ran.stderr.contains(what), "{how} {words}: {ran}");
        }
        let left = host.sh(&format!("ls -A {ROOT}; rm -rf {ROOT}/*")).run().ok();
        assert!(["", "containers"].contains(&left.as_str()), "{left}");
        host.sh(&format!("rm -rf {ROOT}")).run().ok();
    }
}

#[test]
fn a_state_directory_that_cannot_be_made_is_said() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.save();
    for root in ["/proc/nowhere/root", "/etc/passwd", "/dev/null/root", "/sys/garth"] {
        let script = format!("$GARTH --root {root} create --bundle $B $ID </dev/null");
        let ran = bundle.sh(&script).run();
        assert!(ran.code == 1 && ran.stderr.contains(root), "{root}: {ran}");
    }
    // /run itself may not exist.
    let script = "unshare -m sh -c 'umount -l /run; mount -t tmpfs t /run; rm -rf /run/*
        exec $GARTH run --bundle $B $ID </dev/null'";
    assert_eq!(bundle.script("echo it runs").sh(script).run().ok(), "it runs");
}

#[test]
fn what_the_caller_asks_to_be_told_and_cannot_be_leaves_no_container() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    for verb in ["create", "run -d"] {
        for (options, text) in [
            ("--pid-file /srv/nowhere/pid", "/srv/nowhere/pid"),
            ("--pid-file /proc/pid", "/proc/pid"),
            ("--pid-file /srv/box0", "/srv/box0"),
            ("--pidfd-socket /srv/nowhere", "--pidfd-socket"),
            ("--pidfd-socket /etc/passwd", "--pidfd-socket"),
            ("--preserve-fds 3", "--preserve-fds"),
            ("--preserve-fds 4294967295", "--preserve-fds"),
        ] {
            let ran = bundle.sh(&format!("$R {verb} {options} --bundle $B $ID </dev/null")).run();
            assert_refused(&bundle, &ran, text);
        }
    }
    bundle.config["process"]["terminal"] = true.into();
    for socket in ["/srv/nowhere", "/etc/passwd", "/srv"] {
        create_refused(&bundle, &format!("--console-socket {socket} --bundle $B $ID"), socket);
    }
    bundle.config["process"]["terminal"] = false.into();
    // An exec is like a run: a process that cannot be reported is not left behind.
    bundle.sleeping();
    for options in [
        "--pid-file /srv/nowhere/pid",
        "-d --pid-file /srv/nowhere/pid",
        "-d --pidfd-socket /etc/passwd",
        "-d --preserve-fds 2",
    ] {
        let ran = bundle.sh(&format!("$R exec {options} $ID sleep 700 </dev/null")).run();
        assert_eq!(ran.code, 255, "{options}: {ran}");
        let others = host.sh("pgrep -fx 'sleep 700'").run();
        assert_eq!(others.stdout, "", "{options}");
    }
    assert_eq!(bundle.status(), "running");
}

/// The reader of the log would never learn what went wrong, so nothing is started. But existing
/// containers can be ended and removed.
#[test]
fn a_log_that_cannot_be_written_is_refused_but_not_to_those_who_remove() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for log in ["/srv/nowhere/log", "/srv", "/proc/log"] {
        let call = |words: &str| host.garth(&format!("--root {ROOT} --log {log} {words}")).run();
        for words in ["create -b /srv/box0 box0", "run -b /srv/box0 box0", "state box0", "list"] {
            bundle.save();
            let ran = call(words);
            assert!(ran.code == 1 && ran.stderr.contains(&format!("--log {log}: ")), "{ran}");
            assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
        }
        bundle.assert_nothing_left();
        bundle.sleeping();
        let ran = call("kill box0 KILL");
        assert!(ran.code == 0 && ran.stderr.starts_with("garth: warning: open --log"), "{ran}");
        bundle.until("stopped");
        assert_eq!(call("delete box0").code, 0);
        bundle.sleeping();
        assert_eq!(call("delete --force box0").code, 0);
        bundle.assert_nothing_left();
    }
    // A log that accepts nothing any more does not hide the error.
    let words = format!("--root {ROOT} --log /dev/full --log-format json state x");
    assert!(host.garth(&words).run().fails(1).contains("does not exist"));
}

#[test]
fn what_the_caller_has_done_to_itself_does_not_matter() {
    needs!(root, "python3");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "true; true"]}]);
    for list in ["createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.config["hooks"][list] = hook.clone();
    }
    bundle
        .script("grep -E '^(SigBlk|SigIgn|ShdPnd|SigPnd)' /proc/self/status; umask; echo it runs");
    // The descriptors it finds: no shell is involved, the caller is python.
    let odd = |setup: &str| {
        host.write(
            "/srv/caller.py",
            &format!(
                "import os, signal, sys, resource\n{setup}\nos.execvp(sys.argv[1], sys.argv[1:])\n"
            ),
        );
        bundle.sh("rm -f $B/out; python3 /srv/caller.py $R run --bundle $B $ID </dev/null").run()
    };
    let plain = odd("").ok();
    assert!(plain.contains("it runs") && plain.contains("SigBlk:\t0000000000000000"), "{plain}");
    for setup in [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "[signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19)]",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))",
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "os.umask(0o777)",
        "os.close(0)",
        "os.chdir('/proc/self')",
        "[os.dup2(1, n) for n in range(20, 30)]",
        "os.environ.clear()",
        "os.setsid()",
    ] {
        let ran = odd(setup);
        assert_eq!(ran.stdout, plain, "{setup}: {ran}");
        assert_eq!(ran.code, 0, "{setup}: {ran}");
    }
    // Without the three, its output is lost, and it runs all the same.
    for setup in ["os.close(1)", "os.close(2)", "os.close(0); os.close(1); os.close(2)"] {
        let ran = odd(setup);
        assert_eq!(ran.code, 0, "{setup}: {ran}");
    }
    // With too few files there is an error, no panic, and nothing is left.
    for files in 3..16 {
        let ran = odd(&format!("resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"));
        assert!(!ran.stderr.contains("panicked"), "{files}: {ran}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_container_in_a_cgroup_that_cannot_be_its_own_is_refused() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for path in ["/", "..", "../..", "/.."] {
        bundle.config["linux"]["cgroupsPath"] = path.into();
        create_refused(&bundle, "--bundle $B $ID", "cgroupsPath");
    }
}

#[test]
fn who_is_refused_the_cgroup_of_another_leaves_that_one_alone() {
    needs!(root);
    let host = Host::new();
    let mut owner = Bundle::named(&host, "owner");
    owner.config["linux"]["cgroupsPath"] = "/owner-and-guest".into();
    owner.sleeping();
    let mut guest = Bundle::named(&host, "guest");
    guest.config["linux"]["cgroupsPath"] = "/owner-and-guest".into();
    guest.script("true").save();
    // It is not needed for anything.
    host.write("/srv/criu", "#!/bin/sh\nexit 1\n");
    host.sh("mkdir /srv/images; chmod +x /srv/criu").run().ok();
    for words in ["create", "run", "--criu /srv/criu restore --image-path /srv/images"] {
        let refused = guest.call(&format!("{words} --bundle {} guest", guest.dir(""))).run();
        let said = refused.fails(1);
        assert!(said.contains("cgroup is not empty"), "{words}: {said}");
        assert!(guest.call("state guest").run().fails(1).contains("does not exist"), "{words}");
        assert_eq!(owner.status(), "running", "{words}");
    }
    guest.call("delete --force guest").run().ok();
    assert_eq!(owner.status(), "running");
    owner.call("delete --force owner").run().ok();
    host.assert_nothing_left();
}

#[test]
fn who_was_never_in_its_cgroup_ends_nobody_there() {
    needs!(root);
    let host = Host::new();
    let mut owner = Bundle::named(&host, "owner");
    owner.config["linux"]["cgroupsPath"] = "/owner-and-guest".into();
    owner.sleeping();
    // As left by a process that was killed between its record and its claim.
    for record in ["sed 's/\"id\":\"owner\"/\"id\":\"guest\"/' owner/record.json", "echo {"] {
        let script = format!(
            "cd {ROOT}/containers && mkdir guest && \
            {record} >guest/record.json && $R delete --force guest"
        );
        owner.sh(&script).run().ok();
        assert_eq!(owner.status(), "running", "{record}");
        assert_eq!(owner.exec("", "echo lives").ok(), "lives", "{record}");
        let guest = host.sh(&format!("ls {ROOT}/containers")).run().ok();
        assert_eq!(guest, "owner", "{record}");
    }
    owner.call("delete --force owner").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_terminal_that_its_receiver_lets_go_of_is_refused() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let socket = Socket::listen(&host.path(&bundle.dir("console")));
    let receiver = std::thread::spawn(move || {
        for _ in 0..3 {
            drop(socket.receive());
        }
    });
    // The sender pauses for a while, so that it is closed when they continue.
    let slow = "timeout 20 strace -f -o /dev/null -e trace=sendmsg \
        -e inject=sendmsg:delay_exit=300000 $R";
    let held = "check that the terminal's master is still open";
    bundle.script("exec sleep 600").config["process"]["terminal"] = true.into();
    for words in ["create", "run --detach"] {
        let words = format!("{words} --console-socket $B/console --bundle $B $ID </dev/null");
        let ran = bundle.sh(&format!("exec {slow} {words}")).run();
        assert_refused(&bundle, &ran, held);
    }
    bundle.config["process"]["terminal"] = false.into();
    bundle.sleeping();
    let words = "exec --tty --detach --console-socket $B/console $ID sleep 600 </dev/null";
    let ran = bundle.sh(&format!("exec {slow} {words}")).run();
    assert!(ran.code != 0 && ran.stderr.contains(held), "{ran}");
    receiver.join().unwrap();
}
