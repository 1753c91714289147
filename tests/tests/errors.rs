//! Bad input: one line that says what is wrong, the exit code that says where the fault lies, and
//! nothing left behind.

use garth_tests::{Host, needs};

/// `garth wrap <words> -- true` is refused with code 125 and a line that contains `text`.
#[track_caller]
fn refused(host: &Host, words: &str, text: &str) {
    host.garth(&format!("wrap {words} -- true")).run().refused(125, text);
    host.assert_nothing_left();
}

#[test]
fn a_user_or_group_that_is_not_there() {
    needs!(root);
    let host = Host::new();
    refused(&host, "-u no-such-user", "no-such-user");
    refused(&host, "-u nobody:no-such-group", "no-such-group");
    refused(&host, "-u 4294967296", "4294967296");
}

#[test]
fn a_command_that_is_not_there_is_127() {
    needs!(root);
    let host = Host::new();
    for command in ["no-such-command", "/no/such/command", "./no-such-command"] {
        host.garth(&format!("wrap -- {command}")).run().refused(127, command);
    }
    // What is in /tmp outside does not exist inside.
    let name = format!("garth-suite-{}-true", std::process::id());
    let ran = host.sh(&format!("cp /bin/true /tmp/{name}; $GARTH wrap -- /tmp/{name}")).run();
    host.sh(&format!("rm /tmp/{name}")).run().ok();
    ran.refused(127, &name);
    host.assert_nothing_left();
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/text", "no program");
    for command in ["/etc/passwd", "/etc", "/srv/text"] {
        host.garth(&format!("wrap -- {command}")).run().refused(126, command);
    }
    host.assert_nothing_left();
}

#[test]
fn a_program_in_a_directory_that_may_not_be_entered_is_126() {
    needs!(root);
    let host = Host::new();
    host.sh("mkdir -m 700 /srv/own; cp /bin/true /srv/own/program; ln -s own/program /srv/link")
        .run()
        .ok();
    for program in ["/srv/own/program", "/srv/link"] {
        host.garth(&format!("wrap -u nobody -- {program}")).run().refused(126, "EACCES");
    }
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    host.garth("exec -u nobody web /srv/own/program").run().refused(126, "EACCES");
    // Searched by its bare name, it does not exist for this user.
    let named = "wrap -u nobody -e PATH=/srv/own -- program";
    host.garth(named).run().refused(127, "not found in the sandbox's PATH");
    host.garth("delete -f web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_line_for_a_shell_is_told_from_a_program_that_is_missing() {
    needs!(root);
    let host = Host::new();
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    for verb in ["wrap --", "exec web --", "limit --duty 50% --"] {
        let run = |word: &str| host.garth(verb).arg(word).run();
        run("echo hi").refused(127, "sh -c 'echo hi'");
        run("cd /srv; ls").refused(127, "sh -c 'cd /srv; ls'");
        run("echo 'a b'").refused(127, r"sh -c 'echo '\''a b'\'''");
        host.garth(&format!("{verb} FOO=1 env")).run().refused(127, "sh -c 'FOO=1 COMMAND'");
        let plain = host.garth(&format!("{verb} no-such-command")).run();
        assert!(!plain.stderr.contains("sh -c"), "{plain}");
    }
    // A program may have such a name.
    host.sh("cp /bin/true '/srv/a b=c'; exec $GARTH wrap -- '/srv/a b=c'").run().ok();
    host.garth("delete -f web").run().ok();
}

#[test]
fn a_flag_of_another_tool_is_answered_with_what_to_write_here() {
    needs!(root);
    let host = Host::new();
    for (flag, text) in [
        ("--rm", "remains when it ends"),
        ("--init", "--as-pid-1"),
        ("--timeout 5", "-- timeout 10 COMMAND"),
        ("--timeout=5", "-- timeout 10 COMMAND"),
        ("-m 1g", "--memory"),
    ] {
        refused(&host, flag, text);
        host.garth(&format!("explain wrap {flag} -- true")).run().refused(125, text);
    }
    host.assert_nothing_left();
}

#[test]
fn a_port_in_use() {
    needs!(root, netns, "/usr/bin/python3");
    let host = Host::new();
    host.write("/srv/www/hello", "hello");
    let _server = host.sh("exec /usr/bin/python3 -m http.server 8080 -d /srv/www").start();
    host.get("http://127.0.0.1:8080/hello");
    host.garth("wrap -p 8080:80 -- true").run().refused(125, "8080");
    // It still serves: nothing was redirected.
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
}

#[test]
fn a_port_that_another_sandbox_has() {
    needs!(root, netns);
    let host = Host::new();
    let first =
        host.garth("wrap --name first -p 8080:80").script("echo ready; exec sleep 600").start();
    first.line();
    for words in ["-p 8080:80", "-p 0.0.0.0:8080:80", "-p 127.0.0.1:8080:81"] {
        host.garth(&format!("wrap {words} -- true")).run().refused(125, "8080");
    }
    host.garth("wrap -p 8080:80/udp -- true").run().ok();
    host.garth("wrap -p 8081:80 -- true").run().ok();
    drop(first);
    host.garth("gc").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_port_that_is_none() {
    needs!(root, netns);
    let host = Host::new();
    for port in
        ["70000:80", "80:70000", "http:80", "80", ":80", "80:80/tpc", "1.2.3:80:80", "::1:80:80"]
    {
        refused(&host, &format!("-p {port}"), port);
    }
    // An address that this host does not have.
    refused(&host, "-p 203.0.113.9:80:80", "203.0.113.9");
}

#[test]
fn a_directory_that_is_not_there() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/file", "");
    for words in [
        "-w /no/such",
        "--rw /no/such",
        "-v /no/such:/mnt",
        "--rootfs /no/such",
        "--env-file /no/such",
        "--seccomp /no/such",
        "--network ns:/no/such",
    ] {
        refused(&host, words, "/no/such");
    }
    refused(&host, "-w /srv/file", "/srv/file");
    refused(&host, "--rootfs /srv/file", "/srv/file");
}

#[test]
fn a_size_or_number_that_is_none() {
    needs!(root);
    let host = Host::new();
    for (words, text) in [
        ("--memory 256q", "256q"),
        ("--memory=-1", "-1"),
        ("--memory m", "m"),
        ("--memory 99999999999999999999", "99999999999999999999"),
        ("--cpus many", "many"),
        ("--cpus 0", "0"),
        ("--pids-limit few", "few"),
        ("--cpuset-cpus 0-9999", "0-9999"),
        ("--ulimit nofile", "nofile"),
        ("--ulimit files=1:2", "files"),
        ("--ulimit nofile=2:1", "2:1"),
        ("--tmpfs /mnt:size=abc", "abc"),
        ("--tmpfs /mnt:exex", "exex"),
    ] {
        refused(&host, words, text);
    }
}

#[test]
fn words_that_mean_nothing() {
    needs!(root);
    let host = Host::new();
    for (words, text) in [
        ("--network bridge", "bridge"),
        ("--profile strict", "strict"),
        ("--cap-add FLY", "FLY"),
        ("--cap-drop CAP_FLY", "FLY"),
        ("-v /srv", "/srv"),
        ("-v /srv:/mnt:rx", "rx"),
        ("-v /srv:mnt", "mnt"),
        ("-e =x", "=x"),
        ("--sysctl kernel.no_such=1", "kernel.no_such"),
        ("--sysctl kernel.core_pattern=x", "kernel.core_pattern"),
        ("--name a/b", "a/b"),
        ("--name ..", ".."),
        ("--pool4 10.0.0.0/33", "10.0.0.0/33"),
        ("--no-such-flag", "--no-such-flag"),
    ] {
        refused(&host, words, text);
    }
    let ran = host.garth("wrap").run();
    ran.refused(125, "command");
}

#[test]
fn a_pool_of_addresses_that_others_use() {
    needs!(root, netns, ipv6);
    let host = Host::with_neighbour();
    refused(&host, "--network private --pool4 192.0.2.0/24", "192.0.2.0/24");
    refused(&host, "--network private --pool6 2001:db8::/64", "2001:db8::/64");
}

#[test]
fn a_user_without_any_privilege() {
    needs!(root, userns);
    let host = Host::new();
    // Root without capabilities, with no user namespaces left.
    let script = "echo 0 >/proc/sys/user/max_user_namespaces
        exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all $GARTH wrap -- true";
    let ran = host.sh(&format!("unshare --user --map-root-user sh -c '{script}'")).run();
    ran.refused(125, "");
    host.assert_nothing_left();
}

#[test]
fn a_sandbox_that_is_not_there() {
    needs!(root);
    let host = Host::new();
    // The codes and texts are those that engines expect of an OCI runtime.
    for (code, words) in [(255, "exec web -- true"), (1, "kill web"), (1, "delete web")] {
        host.garth(words).run().refused(code, "container \"web\" does not exist; garth ps");
    }
}

#[test]
fn a_state_root_that_cannot_be_written() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/file", "");
    host.garth("--root /srv/file/state wrap --name web -- true")
        .run()
        .refused(125, "/srv/file/state");
    let read_only =
        "mount -t tmpfs -o ro tmpfs /mnt; GARTH_ROOT=/mnt/garth $GARTH wrap --name web -- true";
    host.sh(&format!("unshare -m sh -c '{read_only}'")).run().refused(125, "/mnt/garth");
    host.assert_nothing_left();
}

#[test]
fn an_explanation_runs_nothing() {
    needs!(root, netns, cgroups);
    let host = Host::new();
    host.write("/srv/data/file", "");
    let plan = host
        .garth("explain wrap -p 8080:80 -u nobody --memory 64m --rw /srv/data --name web")
        .script("echo ran >/srv/data/file")
        .run()
        .ok();
    for word in ["8080", "seccomp", "/srv/data", "67108864"] {
        assert!(plan.contains(word), "{word} is not in {plan}");
    }
    assert_eq!(host.read("/srv/data/file"), "");
    host.garth("explain wrap --memory 256q -- true").run().refused(125, "256q");
    host.assert_nothing_left();
}

#[test]
fn the_doctor_tells() {
    needs!(root);
    let host = Host::new();
    let ran = host.garth("doctor --json").run();
    assert!([0, 1].contains(&ran.code), "{ran}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report.is_object() || report.is_array(), "{ran}");
    assert_eq!(host.garth("doctor").run().code, ran.code);
    host.assert_nothing_left();
}

#[test]
fn output_that_no_one_reads_is_not_a_crash() {
    needs!(root);
    let host = Host::new();
    let ran = host.sh("$GARTH explain wrap -- true | true; $GARTH doctor | head -n0").run();
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    host.assert_nothing_left();
}
