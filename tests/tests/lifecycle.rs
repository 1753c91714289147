//! From start to end: detached sandboxes, signals, and every kind of death.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use garth_tests::{Host, Running, kill, needs, until};

/// A detached sandbox named `web` that would run for long.
fn detached(host: &Host) {
    host.garth("wrap -d --name web -- sleep 600").run().ok();
}

/// The names that `garth ps` lists.
fn listed(host: &Host) -> Vec<String> {
    let text = host.garth("ps --format json").run().ok();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = |entry: &serde_json::Value| entry["name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

fn until_gone(host: &Host) {
    until("ps lists nothing", || listed(host).is_empty().then_some(()));
    host.assert_nothing_left();
}

#[test]
fn the_exit_code_is_the_commands() {
    needs!(root);
    let host = Host::new();
    for code in [0, 1, 77, 255] {
        let words = format!("exit {code}");
        assert_eq!(host.garth("wrap").script(&words).run().code, code);
        assert_eq!(host.garth("wrap --as-pid-1").script(&words).run().code, code);
    }
    host.assert_nothing_left();
}

#[test]
fn signals_are_forwarded_to_the_command() {
    needs!(root);
    let host = Host::new();
    let signals = ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TERM"];
    let traps = signals.map(|signal| format!("trap 'echo {signal}' {signal}; ")).concat();
    let script = format!("{traps} echo ready; while :; do sleep 0.01; done");
    for words in ["wrap", "wrap --as-pid-1"] {
        let sandbox = host.garth(words).script(&script).start();
        assert_eq!(sandbox.line(), "ready");
        for signal in signals {
            sandbox.signal(signal);
            assert_eq!(sandbox.line(), signal);
        }
    }
}

#[test]
fn orphans_are_reaped() {
    needs!(root);
    let host = Host::new();
    let script = "for i in $(seq 20); do (sleep 0.1 &); done; sleep 0.3; \
        while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.01; done; echo reaped";
    assert_eq!(host.garth("wrap").script(script).run().ok(), "reaped");
}

#[test]
fn the_output_ends_with_the_command_and_not_with_what_it_left() {
    needs!(root);
    let host = Host::new();
    assert_eq!(host.garth("wrap").script("sleep 600 & echo done").run().ok(), "done");
    host.assert_nothing_left();
}

#[test]
fn a_detached_sandbox_is_listed_and_deleted() {
    needs!(root);
    let host = Host::new();
    detached(&host);
    assert_eq!(listed(&host), ["web"]);
    assert!(host.garth("ps").run().ok().contains("web"));
    host.garth("delete web").run().refused(125, "web");
    host.garth("delete --force web").run().ok();
    until_gone(&host);
}

#[test]
fn a_detached_sandbox_with_a_network_serves_until_it_is_deleted() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::new();
    host.write("/srv/www/hello", "hello");
    host.garth("wrap -d --name web -p 8080:80 -- busybox httpd -f -p 80 -h /srv/www").run().ok();
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
    host.garth("delete --force web").run().ok();
    until_gone(&host);
}

#[test]
fn a_command_enters_a_running_sandbox() {
    needs!(root, userns);
    let host = Host::new();
    host.garth("wrap -d --name web -u nobody --hostname shed -- sleep 600").run().ok();
    let exec = |script: &str| host.garth("exec web").script(script).run();
    assert_eq!(exec("uname -n; id -un; cat /proc/2/comm").ok(), "shed\nnobody\nsleep");
    let status = exec("grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status").ok();
    let expected = "CapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\nCapBnd: 0000000000000000";
    for line in expected.lines() {
        assert!(status.replace('\t', " ").contains(line), "{line} is not in {status}");
    }
    assert_eq!(exec("exit 7").code, 7);
    assert_eq!(exec("kill -9 $$").code, -9);
    host.garth("exec web -- no-such-command").run().refused(127, "no-such-command");
    host.garth("delete --force web").run().ok();
    until_gone(&host);
}

#[test]
fn a_detached_sandbox_can_be_signalled() {
    needs!(root);
    let host = Host::new();
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit' TERM; echo ready; \
        while :; do sleep 0.01; done";
    host.garth("wrap -d --name web --log /srv/log").script(script).run().ok();
    let logged = |line: &str| {
        until("the log has it", || host.read("/srv/log").contains(line).then_some(()));
    };
    logged("ready");
    host.garth("kill -s USR1 web").run().ok();
    logged("usr1");
    host.garth("kill web").run().ok();
    logged("term");
    until_gone(&host);
}

#[test]
fn a_detached_sandbox_that_ends_by_itself_leaves_nothing() {
    needs!(root, netns);
    let host = Host::new();
    host.garth("wrap -d --name web -p 8080:80 -- true").run().ok();
    until_gone(&host);
}

#[test]
fn a_name_is_used_once() {
    needs!(root);
    let host = Host::new();
    detached(&host);
    host.garth("wrap -d --name web -- sleep 600").run().refused(125, "web");
    host.garth("wrap --name web -- true").run().refused(125, "web");
    assert_eq!(listed(&host), ["web"]);
    host.garth("delete --force web").run().ok();
    host.garth("wrap --name web -- true").run().ok();
    until_gone(&host);
}

#[test]
fn gc_leaves_what_runs_alone() {
    needs!(root, netns, "busybox", "curl");
    let host = Host::new();
    host.write("/srv/www/hello", "hello");
    host.garth("wrap -d --name web -p 8080:80 -- busybox httpd -f -p 80 -h /srv/www").run().ok();
    let sandbox = host.garth("wrap --name b").script("echo ready; exec sleep 600").start();
    sandbox.line();
    host.garth("gc").run().ok();
    assert_eq!(listed(&host).len(), 2);
    assert_eq!(host.get("http://127.0.0.1:8080/hello"), "hello");
}

/// Starts a sandbox with everything, and sends SIGKILL to garth once it runs.
fn killed(host: &Host, words: &str) {
    let sandbox: Running = host.garth(words).script("echo ready; exec sleep 600").start();
    assert_eq!(sandbox.line(), "ready");
    sandbox.signal("KILL");
    // Its output ends: no process of the sandbox has outlived garth.
    assert_eq!(sandbox.wait().code, -9);
}

#[test]
fn a_sandbox_dies_with_garth() {
    needs!(root);
    let host = Host::new();
    killed(&host, "wrap");
    killed(&host, "wrap --as-pid-1");
    killed(&host, "wrap -u nobody");
}

#[test]
fn gc_clears_what_a_killed_garth_left() {
    needs!(root, netns, cgroups);
    let host = Host::with_neighbour();
    let words = "wrap -p 8080:80 -p 0.0.0.0:8081:81/udp --memory 64m --cpus 1 --pids-limit 9";
    killed(&host, words);
    killed(&host, "wrap --name web -p 8082:80 --pids-limit 9");
    host.garth("gc").run().ok();
    assert!(listed(&host).is_empty());
    host.assert_nothing_left();
    // Ports and names can be reused immediately.
    host.garth("wrap --name web -p 8080:80 --pids-limit 9 -- true").run().ok();
}

#[test]
fn a_detached_sandbox_outlives_the_shell_that_started_it() {
    needs!(root);
    let host = Host::new();
    host.sh("setsid sh -c '$GARTH wrap -d --name web -- sleep 600; kill -HUP 0'").run();
    assert_eq!(listed(&host), ["web"]);
    assert_eq!(host.garth("exec web -- echo alive").run().ok(), "alive");
}

#[test]
fn a_killed_init_ends_a_detached_sandbox_and_nothing_is_left() {
    needs!(root, netns);
    let host = Host::new();
    host.garth("wrap -d --name web -p 8080:80 -- sleep 600").run().ok();
    let pid = host.sh("pgrep -f '^sleep 600$'").run().ok();
    let pid = host.sh(&format!("ps -o ppid= -p {pid}")).run().ok();
    host.sh(&format!("kill -KILL {pid}")).run().ok();
    until_gone(&host);
}

#[test]
fn many_start_at_once() {
    needs!(root, netns);
    let host = Host::new();
    let started: Vec<Running> =
        (0..200).map(|_| host.garth("wrap --network private -- true").start()).collect();
    for sandbox in started {
        sandbox.wait().ok();
    }
    host.assert_nothing_left();
}

#[test]
fn a_stopped_garth_does_not_stop_others() {
    needs!(root, netns);
    let host = Host::new();
    let sandbox = host.garth("wrap --network private").script("echo ready; exec sleep 600").start();
    sandbox.line();
    sandbox.signal("STOP");
    host.garth("wrap --network private -- true").run().ok();
    host.garth("ps").run().ok();
    host.garth("gc").run().ok();
    kill("CONT", sandbox.pid());
}

#[test]
fn limits_are_changed_while_it_runs() {
    needs!(root, cgroups);
    let host = Host::new();
    host.garth("wrap -d --name web --memory 512m --pids-limit 500 --cpus 2 -- sleep 600")
        .run()
        .ok();
    let eats = || {
        let script = "head -c 64m /dev/zero | tail -c 64m >/dev/null; exit $?";
        host.garth("exec web").script(script).run().code == 0
    };
    let forks = || {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait";
        !host.garth("exec web").script(script).run().stderr.contains("fork")
    };
    assert!(eats() && forks());
    host.garth("update web --memory 16m --memory-swap 16m --pids-limit 8 --cpus 0.5").run().ok();
    assert!(!eats(), "64 MiB in 16");
    assert!(!forks(), "12 processes among 8");
    let find = "find /sys/fs/cgroup -path '*/web/cpu.cfs_quota_us' -o -path '*/web/cpu.max'";
    let quota = host.sh(&format!("cat $({find})")).run().ok();
    assert!(quota.starts_with("50000"), "{quota}");
    host.garth("update web --memory-swap -1 --memory -1 --pids-limit -1").run().ok();
    assert!(eats() && forks());
    host.garth("kill -s KILL web").run().ok();
    host.assert_nothing_left();
}
