//! Services from files: `garth up`, `down`, `ps`, `logs`, and the keeper of each service.

use garth_tests::{Host, needs, until};
use serde_json::Value;

const FILE: &str = "/srv/garth.toml";

fn host(file: &str) -> Host {
    let host = Host::with_services();
    host.write(FILE, file);
    host
}

fn up(host: &Host) -> String {
    host.garth(&format!("up -f {FILE}")).run().ok()
}

fn down(host: &Host) -> String {
    host.garth(&format!("down -f {FILE}")).run().ok()
}

/// What `garth ps` shows of one.
fn shown(host: &Host, name: &str) -> Value {
    let text = host.garth("ps --json").run().ok();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
}

fn until_state(host: &Host, name: &str, state: &str) -> Value {
    until(&format!("{name} is {state}"), || {
        Some(shown(host, name)).filter(|one| one["state"] == state)
    })
}

fn sleeper(name: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sleep\", \"1000\"]\n{more}\n")
}

fn script(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('$', "$$");
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\n{more}\n")
}

#[test]
fn services_come_up_in_order_and_go_down_in_the_opposite_one() {
    needs!(root, netns);
    let health = "health = { command = [\"true\"], interval = \"1s\" }";
    let file = [
        sleeper("web", "after = [\"app\"]"),
        sleeper("app", &format!("after = [\"db\"]\n{health}")),
        sleeper("db", health),
    ];
    let host = host(&file.concat());
    let text = up(&host);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("db   healthy") < place("app  starting"), "{text}");
    assert!(place("app  healthy") < place("web  starting"), "{text}");
    for name in ["web", "app", "db"] {
        let one = shown(&host, name);
        assert_eq!((&one["state"], &one["service"]["restarts"]), (&"running".into(), &0.into()));
    }
    assert_eq!(shown(&host, "db")["service"]["health"], "healthy");
    assert!(host.garth("ps").run().ok().lines().next().is_some_and(|line| line.contains("HEALTH")));
    // Once more, and nothing is done.
    assert_eq!(up(&host).matches("is up already").count(), 3);
    let text = down(&host);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("web  stopped") < place("app  stopping"), "{text}");
    assert!(place("app  stopped") < place("db   stopping"), "{text}");
    host.assert_nothing_left();
}

#[test]
fn one_failure_stops_what_depends_on_it() {
    needs!(root, netns);
    let file = [
        script("db", "echo no disk >&2; exit 3", ""),
        sleeper("web", "after = [\"db\"]"),
        sleeper("other", ""),
    ];
    let host = host(&file.concat());
    let ran = host.garth(&format!("up -f {FILE}")).run();
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("db: exited 3; its last words: no disk"), "{ran}");
    assert!(ran.stderr.contains("web: not started, since db failed"), "{ran}");
    assert_eq!(shown(&host, "other")["state"], "running");
    assert_eq!(shown(&host, "db")["state"], "failed");
    assert_eq!(shown(&host, "web"), Value::Null);
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn an_edit_changes_what_it_can_and_restarts_what_it_must() {
    needs!(root, netns, cgroups, "busybox", "bash");
    let echo = |name: &str, port: u32, more: &str| {
        format!(
            "[service.{name}]\ncommand = [\"busybox\", \"nc\", \"-ll\", \"-p\", \"7\", \"-e\", \"cat\"]
            publish = \"{port}:7\"\n{more}\n"
        )
    };
    let file = |rate: &str, memory: &str, seconds: u32| {
        [
            echo("slow", 7001, &format!("rate = \"{rate}\"")),
            echo("small", 7002, &format!("memory = \"{memory}\"")),
            sleeper("same", ""),
            format!("[service.other]\ncommand = [\"sleep\", \"{seconds}\"]\n"),
        ]
        .concat()
    };
    let names = ["slow", "small", "same", "other"];
    let host = host(&file("1Mbit/s", "64m", 1000));
    up(&host);
    let pids = || names.map(|name| shown(&host, name)["pid"].as_u64());
    let before = pids();
    // A connection through each of the two that are changed.
    let connection = |port: u32| {
        let talk = "echo $text >&3; read -r answer <&3; echo $answer";
        let script = format!(
            "exec bash -c 'until exec 3<>/dev/tcp/127.0.0.1/{port}; do sleep 0.1; done
            text=before; {talk}; until [ -e /srv/edited ]; do sleep 0.05; done; text=after; {talk}'"
        );
        let running = host.sh(&script).start();
        assert_eq!(running.line(), "before");
        running
    };
    let connections = [connection(7001), connection(7002)];
    host.write(FILE, &file("2Mbit/s", "32m", 2000));
    let explained = host.garth(&format!("explain up -f {FILE}")).run().ok();
    assert!(explained.contains("slow: change rate\n"), "{explained}");
    assert!(explained.contains("other: restart: command changed\n"), "{explained}");
    assert_eq!(explained.matches("execute sleep").count(), 1, "of the one restarted: {explained}");
    let text = up(&host);
    assert!(text.contains("slow   changed while it runs: rate"), "{text}");
    assert!(text.contains("small  changed while it runs: memory"), "{text}");
    assert!(text.contains("same   is up already"), "{text}");
    assert!(text.contains("other  restarting: command changed"), "{text}");
    host.write("/srv/edited", "");
    for connection in connections {
        assert_eq!(connection.wait().ok(), "after");
    }
    let after = pids();
    assert_eq!(before[..3], after[..3]);
    assert_ne!(before[3], after[3]);
    assert_eq!(shown(&host, "slow")["rates"], "up=2Mbit/s,down=2Mbit/s");
    // The kernel has the limit, and so has a later start.
    let limit = host.sh("cat /sys/fs/cgroup/memory/*/small*/memory.limit_in_bytes /sys/fs/cgroup/*/small*/memory.max /sys/fs/cgroup/memory/small*/memory.limit_in_bytes 2>/dev/null; garth=$GARTH; $garth exec small cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || $garth exec small cat /sys/fs/cgroup/memory.max").run();
    assert!(limit.stdout.contains("33554432"), "{limit}");
    assert_eq!(up(&host).matches("is up already").count(), 4);
    // What is no longer in the file is stopped.
    host.write(FILE, &sleeper("same", ""));
    let text = up(&host);
    assert!(text.contains("other  stopped") && text.contains("same   is up already"), "{text}");
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn a_policy_decides_whether_it_is_started_again() {
    needs!(root);
    let fails = "echo $$ >> /srv/runs; exit 1";
    let file = [
        script("often", fails, "restart = \"on-failure:2\"\nrw = \"/srv\""),
        script("done", "sleep 0.3", "restart = \"on-failure\""),
        script("never", "sleep 0.3; exit 4", ""),
        script("always", "sleep 0.3", "restart = \"always\""),
    ];
    let host = host(&file.concat());
    assert_eq!(host.garth(&format!("up -d -f {FILE}")).run().code, 0);
    let often = until_state(&host, "often", "failed");
    assert_eq!(often["service"]["restarts"], 2, "{often}");
    assert_eq!(host.read("/srv/runs").lines().count(), 3);
    assert_eq!(until_state(&host, "done", "exited")["service"]["restarts"], 0);
    assert_eq!(until_state(&host, "never", "failed")["service"]["last"], "exited 4");
    until("always was restarted", || {
        (shown(&host, "always")["service"]["restarts"].as_u64() >= Some(2)).then_some(())
    });
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn garth_kill_ends_one_that_is_up_unless_stopped() {
    needs!(root);
    let file =
        [sleeper("one", "restart = \"unless-stopped\""), sleeper("two", "restart = \"always\"")];
    let host = host(&file.concat());
    up(&host);
    host.garth("kill one").run().ok();
    host.garth("kill two").run().ok();
    assert_eq!(until_state(&host, "one", "failed")["service"]["last"], "killed TERM");
    until("two is up again", || {
        let two = shown(&host, "two");
        (two["state"] == "running" && two["service"]["restarts"] == 1).then_some(())
    });
    // A crash is another matter.
    up(&host);
    let pid = &shown(&host, "one")["pid"];
    host.sh(&format!("kill -KILL {pid}")).run().ok();
    until("one is up again", || {
        let one = shown(&host, "one");
        (one["state"] == "running" && one["service"]["restarts"] == 1).then_some(())
    });
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn a_service_that_fails_at_once_is_not_restarted_in_a_storm() {
    needs!(root);
    let runs = "echo >> /srv/runs; exit 1";
    let host = host(&script("bad", runs, "restart = \"always\"\nrw = \"/srv\""));
    let ran = host.garth(&format!("up -f {FILE}")).run();
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("bad: exited 1"), "{ran}");
    // Pauses double: in the time of ten of the first, it has been started a few times.
    host.sh("sleep 1").run().ok();
    let runs = host.read("/srv/runs").lines().count();
    assert!((3..7).contains(&runs), "{runs} starts");
    let shown = until_state(&host, "bad", "restarting");
    assert_eq!(shown["service"]["last"], "exited 1");
    // It goes down at once, in the middle of a pause.
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn what_is_not_healthy_is_said_and_started_again() {
    needs!(root);
    let health = "health = { command = [\"test\", \"-e\", \"/tmp/ok\"], interval = \"100ms\", retries = 2, start-period = \"5s\" }";
    let works = "sleep 0.2; touch /tmp/ok; exec sleep 1000";
    let file = [
        script("again", works, &format!("{health}\nrestart = \"on-failure\"")),
        script("left", works, health),
        script("dull", "exec sleep 1000", &health.replace("5s", "0s").replace("0s\"", "0ms\"")),
    ];
    let host = host(&file.concat());
    let ran = host.garth(&format!("up -f {FILE}")).run();
    assert!(ran.stdout.contains("again  healthy after"), "{ran}");
    assert!(ran.stderr.contains("dull: not healthy: exited 1"), "{ran}");
    for name in ["again", "left"] {
        assert_eq!(shown(&host, name)["service"]["health"], "healthy");
        host.garth(&format!("exec {name} rm /tmp/ok")).run().ok();
    }
    let again = until("it was started again", || {
        let again = shown(&host, "again");
        let healthy = again["service"]["health"] == "healthy";
        (healthy && again["service"]["restarts"] == 1).then_some(again)
    });
    assert!(
        again["service"]["last"].as_str().unwrap_or("").contains("not healthy: exited 1"),
        "{again}"
    );
    let left = until("it is not healthy", || {
        Some(shown(&host, "left")).filter(|left| left["service"]["health"] == "unhealthy")
    });
    assert_eq!((&left["state"], &left["service"]["why"]), (&"running".into(), &"exited 1".into()));
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn a_port_and_a_page_are_checked_inside() {
    needs!(root, netns, "python3");
    let server = |name: &str, health: &str| {
        let serve = "[\"python3\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"--directory\", \"/srv\", \"80\"]";
        format!("[service.{name}]\ncommand = {serve}\n{health}\n")
    };
    let brief = "interval = \"100ms\", start-period = \"10s\"";
    let file = [
        server("page", &format!("health = {{ http = \":80/garth.toml\", {brief} }}")),
        server("port", &format!("health = {{ tcp = 80, {brief} }}\nnetwork = \"private\"")),
        server(
            "lost",
            "health = { http = \":80/none\", interval = \"50ms\", start-period = \"1s\" }",
        ),
    ];
    let host = host(&file.concat());
    let ran = host.garth(&format!("up -f {FILE}")).run();
    assert!(ran.stdout.contains("page  healthy") && ran.stdout.contains("port  healthy"), "{ran}");
    assert!(ran.stderr.contains("lost: not healthy: GET /none from port 80: status 404"), "{ran}");
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn one_that_ignores_its_signal_is_killed_after_its_time() {
    needs!(root);
    let deaf = "trap '' TERM; while :; do sleep 0.05; done";
    let polite = "trap 'echo bye; exit 0' USR1; trap '' TERM; while :; do sleep 0.05; done";
    let file = [
        script("deaf", deaf, "stop-timeout = \"300ms\"\nrestart = \"always\""),
        script("polite", polite, "stop-signal = \"USR1\"\nstop-timeout = \"20s\""),
        script("forks", "sleep 1000 & sleep 1000 & wait", ""),
    ];
    let host = host(&file.concat());
    up(&host);
    down(&host);
    assert_eq!(host.sh("pgrep -c sleep").run().stdout, "0");
    host.assert_nothing_left();
}

fn keeper(host: &Host, name: &str) -> String {
    host.sh(&format!("readlink /var/lib/garth/services/{name}/process"))
        .run()
        .ok()
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_service_that_has_lost_its_keeper_is_taken_up_again() {
    needs!(root, netns);
    let talks =
        "trap 'echo bye; exit 7' USR1; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";
    let file = script("web", talks, "restart = \"on-failure\"\npublish = \"8080:80\"");
    let host = host(&file);
    for (nth, verb) in ["ps", "gc", "up -f /srv/garth.toml"].into_iter().enumerate() {
        up(&host);
        let (pid, keeper_pid) = (shown(&host, "web")["pid"].clone(), keeper(&host, "web"));
        host.sh(&format!("kill -KILL {keeper_pid}")).run().ok();
        // It is not held up, nor ended, by the loss of its reader.
        host.sh("sleep 0.2").run().ok();
        let ran = host.garth(verb).run();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == 0 && said.contains("lost its keeper"), "{verb}: {ran}");
        let one = shown(&host, "web");
        assert_eq!((&one["state"], &one["pid"]), (&"running".into(), &pid), "{verb}: {one}");
        assert_ne!(keeper(&host, "web"), keeper_pid);
        // The port is still its own, and the new keeper does everything that the old one did.
        assert_ne!(host.sh("$GARTH wrap -p 8080:80 true").run().code, 0);
        host.garth("kill web USR1").run().ok();
        until("it was started again", || {
            let restarts = shown(&host, "web")["service"]["restarts"].as_u64();
            (restarts == Some(nth as u64 + 1) || restarts >= Some(1)).then_some(())
        });
        until_state(&host, "web", "running");
        assert!(host.garth("logs web").run().ok().lines().any(|line| line == "bye"));
        down(&host);
        host.assert_nothing_left();
    }
}

#[test]
fn what_was_up_before_a_reboot_is_up_again() {
    needs!(root, netns);
    let file = [
        sleeper("web", "after = [\"db\"]\npublish = \"8080:80\""),
        sleeper("db", "restart = \"no\""),
        script("done", "exit 0", ""),
        script("again", "sleep 0.3", "restart = \"always\""),
    ];
    let host = host(&file.concat());
    up(&host);
    until_state(&host, "done", "exited");
    // Everything ends, and /run is empty; only /var/lib is left.
    host.sh(
        "kill -KILL $(pgrep -f ^garth-) $(pgrep sleep); sleep 0.3; umount -l /run; mount -t tmpfs -o mode=0755 tmpfs /run
        nft delete table inet garth
        for one in /var/lib/garth/services/*/process; do
            set -- $(readlink $one); ln -sfn \"$1 $2 00000000-0000-0000-0000-000000000000 $4\" $one
        done",
    )
    .run()
    .ok();
    let text = host.garth("up --resume").run().ok();
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("db     running") < place("web    starting"), "{text}");
    assert!(!text.contains("done "), "{text}");
    for name in ["web", "db"] {
        until_state(&host, name, "running");
    }
    host.garth("down --all").run().ok();
    assert_eq!(host.sh("find /var/lib/garth/services /run/garth -mindepth 2").run().stdout, "");
}

#[test]
fn what_is_ended_for_a_shutdown_is_up_again_when_it_is_resumed() {
    needs!(root, netns);
    let done = script("done", "exit 0", "");
    let file = [sleeper("db", "restart = \"always\""), sleeper("web", "after = [\"db\"]"), done];
    let host = host(&file.concat());
    up(&host);
    until_state(&host, "web", "running");
    until_state(&host, "done", "exited");
    let text = host.garth("down --all --resumable").run().ok();
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("web   stopped") < place("db    stopping"), "{text}");
    // Nothing has lost its keeper, so nothing is started again by itself.
    host.garth("gc").run().ok();
    for name in ["db", "web"] {
        let state = &shown(&host, name)["state"];
        assert!(*state != "running" && *state != "restarting", "{name}: {state}");
    }
    let text = host.garth("up --resume").run().ok();
    assert!(!text.contains("done "), "{text}");
    for name in ["db", "web"] {
        until_state(&host, name, "running");
    }
    // It rests no longer: what now ends by itself stays ended.
    host.garth("kill web KILL").run().ok();
    until_state(&host, "web", "failed");
    assert!(!host.garth("up --resume").run().ok().contains("web  "));
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn an_interrupted_up_leaves_what_runs_and_says_how_to_go_on() {
    needs!(root, netns);
    let health = "health = { command = [\"false\"], interval = \"50ms\", start-period = \"100s\" }";
    let file = [sleeper("db", health), sleeper("web", "after = [\"db\"]"), sleeper("other", "")];
    let host = host(&file.concat());
    let running = host.garth(&format!("up -f {FILE}")).start();
    until_state(&host, "db", "running");
    until_state(&host, "other", "running");
    running.signal("INT");
    let ran = running.wait();
    assert_eq!(ran.code, 130, "{ran}");
    assert!(ran.stderr.contains("interrupted; not up or not healthy yet: db, "), "{ran}");
    assert!(ran.stderr.contains("garth up goes on, garth down ends what runs"), "{ran}");
    assert_eq!(shown(&host, "db")["state"], "running");
    assert_eq!(shown(&host, "web"), Value::Null);
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn a_mistake_is_shown_where_it_is_and_nothing_is_started() {
    needs!(root, netns);
    let host = host("");
    let ok = sleeper("ok", "");
    for (more, says) in [
        (
            "[service.web]\ncommand = \"sleep\"\nmemroy = 5",
            "garth.toml:7:1: memroy = 5: unknown key \"memroy\"; did you mean memory?",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nmemory = \"lots\"",
            "garth.toml:7: service web: --memory lots:",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nuser = \"nobody-here\"",
            "garth.toml:7: service web: ",
        ),
        (
            "[service.web]\nuser = \"root\"\ncommand = \"no-such-command\"",
            "garth.toml:7: service web: no-such-command: no such command",
        ),
        (
            "[service.web]\ncommand = \"/no/such\"",
            "garth.toml:6: service web: /no/such: no such command",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nenv-file = \"none\"",
            "garth.toml:7: service web: --env-file /srv/none:",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nsecret = \"none\"",
            "garth.toml:7: service web: --secret /srv/none: ENOENT",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nafter = [\"wep\"]",
            "after: no service \"wep\" in the file; did you mean web?",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nafter = \"web\"",
            "services wait for each other: web after web",
        ),
        (
            "[service.a]\ncommand = \"sleep\"\npublish = \"80:80\"\n[service.b]\ncommand = \"sleep\"\npublish = \"80:81\"",
            "services a and b both publish port 80",
        ),
        (
            "[service.web]\ncommand = \"sleep\"\nhealth = { tcp = 80, http = \":80\" }",
            "garth.toml:7:10: health: not one kind of check",
        ),
        ("[service.web]\ncommand = \"sleep\"\nhealth = { tpc = 80 }", "garth.toml:7:"),
    ] {
        host.write(FILE, &format!("{ok}\n{more}\n"));
        let ran = host.garth(&format!("up -f {FILE}")).run();
        assert_eq!(ran.code, 125, "{more}: {ran}");
        assert!(
            ran.stderr.contains(says) && ran.stderr.lines().count() == 1,
            "{more}\n wants {says}\n says {ran}"
        );
        host.assert_nothing_left();
    }
    host.sh(&format!("chmod 666 {FILE}")).run().ok();
    host.garth(&format!("up -f {FILE}")).run().refused(125, "can be changed by other users");
    host.garth("up").run().refused(125, "write one, or name it: -f FILE");
    host.garth(&format!("down -f {FILE} x")).run().refused(125, "cannot be used with");
    host.garth("down x").run().refused(125, "no service x is up");
    host.garth("logs x").run().refused(125, "no service or detached sandbox named x");
}

#[test]
fn a_name_belongs_to_one_file() {
    needs!(root);
    let host = host(&sleeper("web", ""));
    up(&host);
    host.write("/srv/other/garth.toml", &sleeper("web", ""));
    let ran = host.garth("up -f /srv/other").run();
    assert!(ran.stderr.contains("service web is up already, from /srv/garth.toml"), "{ran}");
    host.garth("delete web").run().refused(125, "garth down web ends it");
    host.garth("delete --force web").run().refused(125, "garth down web ends it");
    host.garth("wrap -d --name web sleep 1")
        .run()
        .refused(125, "a sandbox named web already exists");
    down(&host);
    host.garth("wrap -d --name web sleep 1000").run().ok();
    let ran = host.garth("up -f /srv/other").run();
    assert!(ran.stderr.contains("a sandbox named web is running"), "{ran}");
    host.garth("delete --force web").run().ok();
}

#[test]
fn a_damaged_record_does_not_hide_the_others() {
    needs!(root);
    let host = host(&[sleeper("bad", ""), sleeper("good", "")].concat());
    up(&host);
    for file in ["record.json", "status.json"] {
        let dir = "/var/lib/garth/services";
        host.sh(&format!("cp -p {dir}/bad/{file} /srv/kept; echo x > {dir}/bad/{file}")).run().ok();
        assert_eq!(shown(&host, "bad")["state"], "damaged", "{file}");
        assert_eq!(shown(&host, "good")["state"], "running", "{file}");
        host.sh(&format!("cat /srv/kept > {dir}/bad/{file}")).run().ok();
    }
    host.sh("echo x > /var/lib/garth/services/bad/record.json").run().ok();
    for verb in ["gc", &format!("up -f {FILE}")] {
        let ran = host.garth(verb).run();
        assert!(ran.code == 125 && ran.stderr.contains("garth down bad ends it"), "{verb}: {ran}");
    }
    // What has nothing to do with it comes up, goes down, and is resumed.
    let other = "/srv/other.toml";
    host.write(other, &sleeper("other", ""));
    let unknown = "garth down bad ends it";
    for verb in ["up -f /srv/garth.toml good", "up -f /srv/other.toml", "up --resume"] {
        let ran = host.garth(verb).run();
        assert!(ran.code == 0, "{verb}: {ran}");
        assert!(ran.stderr.contains(unknown) || verb.ends_with("good"), "{verb}: {ran}");
    }
    assert_eq!(shown(&host, "other")["state"], "running");
    let ran = host.garth(&format!("down -f {other}")).run();
    assert!(ran.code == 0 && ran.stderr.contains(unknown), "{ran}");
    assert_eq!(shown(&host, "other"), Value::Null);
    // As the hint says.
    host.garth("down bad").run().ok();
    assert_eq!(host.sh("pgrep -c sleep").run().stdout, "1");
    up(&host);
    assert_eq!(shown(&host, "bad")["state"], "running");
    down(&host);
    host.assert_nothing_left();
}

/// A plugin that waits until the process that called it is gone, or the file /srv/fast exists.
const SLOW: &str = "#!/bin/sh\ncat >/dev/null; echo $PPID > /srv/parent
    while kill -0 $PPID && [ ! -e /srv/fast ]; do sleep 0.05; done 2>/dev/null";

/// Kills the process that waits for the plugin.
fn kill_starter(host: &Host) {
    let pid = until("the plugin was called", || {
        Some(host.sh("cat /srv/parent").run()).filter(|ran| ran.code == 0 && !ran.stdout.is_empty())
    });
    host.sh(&format!("rm /srv/parent; kill -KILL {}", pid.stdout)).run().ok();
}

#[test]
fn a_keeper_killed_during_a_start_is_reported_with_what_to_do() {
    needs!(root);
    let host = host(&sleeper("web", "plugin = \"slow\""));
    host.write("/srv/plugins/slow", SLOW);
    host.sh("chmod 755 /srv/plugins /srv/plugins/slow").run().ok();
    let garth = |words: &str| host.garth(words).env("GARTH_PLUGIN_PATH", "/srv/plugins");
    let lost = garth(&format!("up -f {FILE}")).start();
    kill_starter(&host);
    let text = lost.wait().fails(1);
    let says = "web: the keeper of service web was killed before it had finished; garth up goes on \
                with it, garth down web ends it";
    assert!(text.contains(says), "{text}");
    let lost = garth("wrap -d --name box --plugin slow sleep 1000").start();
    kill_starter(&host);
    let text = lost.wait().fails(125);
    let says = "the keeper of sandbox box was killed before it had finished; garth ps -a shows box";
    assert!(text.contains(says), "{text}");
    // As the hints say.
    host.sh("touch /srv/fast").run().ok();
    garth("gc").run().ok();
    garth(&format!("up -f {FILE}")).run().ok();
    assert_eq!(shown(&host, "web")["state"], "running");
    garth("down web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn what_is_on_record_of_services_is_hidden_from_sandboxes() {
    needs!(root);
    let host = host(&sleeper("web", "env = \"PASSWORD=x\""));
    up(&host);
    for way in ["wrap", "wrap --rw /var/lib", "exec web"] {
        let ran = host.garth(way).script("ls -A /var/lib/garth; echo x > /var/lib/garth/x").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{way}: {ran}");
    }
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn a_secret_is_seen_by_its_service_alone() {
    needs!(root);
    let reads = "cat /run/secrets/tls; exec sleep 1000";
    let file = [
        script("web", reads, "user = \"nobody\"\nsecret = [\"key:tls\"]"),
        script("other", "ls -A /run/secrets; exec sleep 1000", ""),
    ];
    let host = host(&file.concat());
    host.write("/srv/key", "hunter2\n");
    host.sh("chmod 600 /srv/key").run().ok();
    up(&host);
    assert_eq!(host.garth("logs web").run().ok(), "hunter2");
    assert!(host.garth("logs other").run().ok().contains("No such file"));
    let found = "grep -lr hunter2 /run/garth /var/lib/garth --exclude=log";
    assert_eq!(host.sh(found).run().stdout, "");
    down(&host);
    host.assert_nothing_left();
}

#[test]
fn little_stays_resident_beside_a_service() {
    needs!(root);
    let health = "health = { command = [\"true\"], interval = \"100s\" }";
    let host = host(&sleeper("web", health));
    up(&host);
    let keeper = keeper(&host, "web");
    let resident = |pid: &str| -> u64 {
        let text = host.read(&format!("/proc/{pid}/status"));
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(u64::MAX)
    };
    let init = shown(&host, "web")["pid"].to_string();
    let (keeper, init) = (resident(&keeper), resident(&init));
    assert!(keeper + init <= 64, "keeper {keeper} kB, init {init} kB");
    down(&host);
}

#[test]
fn no_line_is_lost_over_rotations_and_restarts() {
    needs!(root);
    // Four runs, each with a quarter of a million lines.
    let talk = "seq -f 'line %.0f' 1 250000; echo bad >&2; exit 1";
    let logs = "log-size = \"900k\"\nlog-count = 99\nrestart = \"on-failure:3\"";
    let host = host(&script("web", talk, logs));
    host.garth(&format!("up -d -f {FILE}")).run().ok();
    // One that follows it sees the same.
    let follow = host.sh("$GARTH logs -f web > /srv/followed; echo followed").start();
    until_state(&host, "web", "failed");
    assert_eq!(follow.wait().ok(), "followed");
    let files = host.sh("ls /var/lib/garth/services/web/ | grep -c ^log").run().ok();
    assert!(files.parse().unwrap_or(0) > 50, "{files} files");
    host.sh("seq -f 'line %.0f' 1 250000 | sort > /srv/lines").run().ok();
    for read in ["$GARTH logs web", "cat /srv/followed"] {
        // Standard output and error are two pipes: the order between them is not kept.
        let lines = host.sh(&format!("{read} | grep -v ^bad > /srv/all; wc -l < /srv/all")).run();
        assert_eq!(lines.stdout, "1000000", "{read}: {lines}");
        let check = "sort /srv/all | uniq -c | awk '{ print $1 }' | sort -u; sort -u /srv/all | cmp - /srv/lines";
        assert_eq!(host.sh(check).run().ok(), "4", "{read}");
    }
    assert_eq!(host.sh("$GARTH logs web | grep -c ^bad").run().ok(), "4");
    assert_eq!(host.garth("logs -n 1 --timestamps web").run().ok().lines().count(), 1);
    assert_eq!(host.garth("logs --since 1h -n 2 web").run().ok().lines().count(), 2);
    assert_eq!(host.garth("logs --since 2100-01-01T00:00:00Z web").run().ok(), "");
    host.garth("logs --since soon web").run().refused(125, "or a time: 2026-11-29T18:52:21Z");
    down(&host);
    host.assert_nothing_left();
}
