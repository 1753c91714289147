//! What is known of a detached sandbox that has ended: how it ended, and its last output.

use garth_tests::{Host, needs, until};
use serde_json::Value;

fn listed(host: &Host, words: &str) -> Vec<Value> {
    let text = host.garth(&format!("ps {words} --json")).run().ok();
    serde_json::from_str(&text).unwrap_or_default()
}

fn until_released(host: &Host) {
    until("ps lists nothing", || listed(host, "").is_empty().then_some(()));
}

#[test]
fn an_exit_code_and_the_last_lines_are_remembered() {
    needs!(root);
    let host = Host::new();
    let script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i; done; echo last >&2; exit 3";
    host.garth("wrap -d --name web").script(script).run().ok();
    let ran = host.garth("wait web").run();
    assert_eq!(ran.code, 3);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines[0], lines[1], lines[10]), ("web: exited 3", "  12", "  last"), "{ran}");
    // It is no longer a sandbox, and has nothing outside.
    until_released(&host);
    host.assert_nothing_left();
    let text = host.garth("ps -a").run().ok();
    assert!(text.contains("exited 3") && text.contains("web"), "{text}");
    let all = listed(&host, "-a");
    assert_eq!((&all[0]["state"], &all[0]["pid"]), (&"exited".into(), &Value::Null), "{all:?}");
    let end = &all[0]["end"];
    assert_eq!((&end["exit_code"], &end["signal"]), (&3.into(), &Value::Null), "{all:?}");
    assert_eq!(end["output"][9], "last", "{all:?}");
    // However often it is asked, until it is deleted.
    assert_eq!(host.garth("wait web --json").run().code, 3);
    host.garth("gc").run().ok();
    assert_eq!(listed(&host, "--all").len(), 1);
    host.garth("delete web").run().ok();
    assert!(listed(&host, "-a").is_empty());
    host.garth("wait web").run().refused(125, "no sandbox named web");
}

#[test]
fn a_signal_is_remembered_by_its_name() {
    needs!(root);
    let host = Host::new();
    for (flags, script, words, code) in [
        ("", "kill -TERM $$", "killed TERM", 143),
        ("", "exit 143", "exited 143", 143),
        ("--as-pid-1", "exit 143", "exited 143", 143),
        ("", "kill -KILL $$", "killed KILL", 137),
    ] {
        host.garth(&format!("wrap -d --name web {flags}")).script(script).run().ok();
        let ran = host.garth("wait web").run();
        assert_eq!((ran.code, ran.stdout), (code, format!("web: {words}")), "{flags} {script}");
    }
    // One with another name does not touch it; delete --force of a running one leaves none.
    host.garth("wrap -d --name other -- sleep 600").run().ok();
    host.garth("delete --force other").run().ok();
    until_released(&host);
    let all = listed(&host, "-a");
    assert_eq!((all.len(), &all[0]["name"]), (1, &"web".into()), "{all:?}");
}

/// Takes 64 MB.
const GREEDY: &str = "x=$(head -c 64m /dev/zero | tr '\\0' x)";

#[test]
fn a_want_of_memory_is_told_with_the_name_of_the_limit() {
    needs!(root, cgroups);
    let host = Host::new();
    host.garth("wrap -d --name web --memory 16m").script(GREEDY).run().ok();
    let ran = host.garth("wait web").run();
    assert!(ran.stdout.contains(", out of memory (--memory 16m)"), "{ran}");
    assert_ne!(ran.code, 0);
    let all = listed(&host, "-a");
    assert_eq!(all[0]["end"]["out_of_memory"], "--memory 16m", "{all:?}");
    // In the foreground it is reported.
    let ran = host.garth("wrap --memory 16m").script(GREEDY).run();
    assert!(ran.stderr.contains("out of memory (--memory 16m)"), "{ran}");
    let ran = host.garth("wrap --memory 16m").script("exit 137").run();
    assert_eq!((ran.code, ran.stderr.as_str()), (137, ""));
    until_released(&host);
    host.assert_nothing_left();
}

#[test]
fn one_that_runs_is_waited_for() {
    needs!(root);
    let host = Host::new();
    let script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.01; done";
    host.garth("wrap -d --name web").script(script).run().ok();
    let output = || host.sh("cat /run/garth/sandboxes/web/log").run().stdout;
    until("it is ready", || output().contains("hello").then_some(()));
    let waiting = host.garth("wait web").start();
    host.garth("kill web").run().ok();
    let ran = waiting.wait();
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "web: exited 7\n  hello\n  bye"));
    // A sandbox in the foreground is reported only to its caller.
    let sandbox = host.garth("wrap --name shop").script("echo ready; exec sleep 600").start();
    sandbox.line();
    let waiting = host.garth("wait shop").start();
    let look = "ls -l /proc/$(pgrep -f '[w]ait shop')/fd | grep pidfd";
    until("it waits", || host.sh(look).run().stdout.contains("pidfd").then_some(()));
    sandbox.signal("TERM");
    waiting.wait().refused(125, "no trace");
}

#[test]
fn a_name_that_is_used_again_means_the_new_one() {
    needs!(root);
    let host = Host::new();
    host.garth("wrap -d --name web").script("exit 3").run().ok();
    assert_eq!(host.garth("wait web").run().code, 3);
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    let all = listed(&host, "-a");
    assert_eq!((all.len(), &all[0]["state"]), (1, &"running".into()), "{all:?}");
    host.garth("kill web").run().ok();
    assert_eq!(host.garth("wait web").run().code, 143);
    assert_eq!(listed(&host, "-a").len(), 1);
    // Also for one in the foreground.
    host.garth("wrap --name web -- true").run().ok();
    assert!(listed(&host, "-a").is_empty());
}

#[test]
fn what_is_remembered_is_forgotten_in_time() {
    needs!(root);
    let host = Host::new();
    host.garth("wrap -d --name old -- true").run().ok();
    host.garth("wrap -d --name new -- true").run().ok();
    for name in ["old", "new"] {
        host.garth(&format!("wait {name}")).run().ok();
    }
    host.sh("sed -i 's/\"ended\":[0-9]*/\"ended\":1/' /run/garth/ended/old/ended.json").run().ok();
    // What a killed delete left half removed.
    host.sh("mkdir /run/garth/ended/half; touch /run/garth/ended/half/log").run().ok();
    let said = host.garth("gc").run().ok();
    assert!(said.contains("trace of old") && !said.contains("new"), "{said}");
    assert_eq!(host.sh("ls /run/garth/ended").run().stdout, "new");
}

#[test]
fn the_output_that_is_kept_is_bounded() {
    needs!(root);
    let host = Host::new();
    let script = "yes | head -c 300000; echo; echo end; exec sleep 600";
    host.garth("wrap -d --name web").script(script).run().ok();
    let kept = || {
        host.sh("cd /run/garth/sandboxes/web; cat log.1 log; cat log.1 log | wc -c").run().stdout
    };
    until("all is written", || kept().contains("end").then_some(()));
    let size: u64 = kept().lines().last().unwrap_or_default().parse().unwrap_or(u64::MAX);
    assert!((65536..=131072).contains(&size), "{size}");
    host.garth("kill web").run().ok();
    let ran = host.garth("wait web").run();
    assert!(ran.stdout.ends_with("\n  end"), "{ran}");
    // The keeper stays small.
    host.garth("wrap -d --name small -- sleep 600").run().ok();
    let resident = "awk '/^VmRSS/ { print $2 }' /proc/$(pgrep -f ^garth-keeper)/status";
    let resident: u64 = host.sh(resident).run().stdout.parse().unwrap_or(u64::MAX);
    assert!(resident < 100, "{resident} kB");
}

#[test]
fn a_command_of_another_user_opens_its_output() {
    needs!(root);
    let host = Host::new();
    let script = "echo out >/dev/stdout; echo error >/dev/stderr";
    host.garth("wrap -d --name web -u nobody").script(script).run().ok();
    assert_eq!(host.garth("wait web").run().ok(), "web: exited 0\n  out\n  error");
}

#[test]
fn the_last_lines_of_a_log_of_the_callers_are_remembered_too() {
    needs!(root);
    let host = Host::new();
    host.sh("echo before >/srv/log").run().ok();
    host.garth("wrap -d --name web --log /srv/log").script("echo after; exit 1").run().ok();
    let ran = host.garth("wait web").run();
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "web: exited 1\n  before\n  after"));
    assert_eq!(host.read("/srv/log"), "before\nafter\n");
}

#[test]
fn words_of_garth_are_names_like_others() {
    needs!(root);
    let host = Host::new();
    let words = "--root /srv/wrap wrap -d --name wrap --hostname wrap";
    assert_eq!(host.garth(words).script("echo wrap; exit 4").run().ok(), "wrap");
    let ran = host.garth("--root /srv/wrap wait wrap").run();
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "wrap: exited 4\n  wrap"));
    // One without a given name has one all the same.
    let name = host.garth("wrap -d").script("hostname").run().ok();
    assert_eq!(
        host.garth(&format!("wait {name}")).run().ok(),
        format!("{name}: exited 0\n  {name}")
    );
}

#[test]
fn without_its_keeper_a_sandbox_goes_on_and_leaves_no_trace() {
    needs!(root);
    let host = Host::new();
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    host.sh("kill -KILL $(pgrep -f ^garth-keeper)").run().ok();
    assert_eq!(listed(&host, "")[0]["state"], "running");
    host.garth("kill web").run().ok();
    until("it has ended", || (listed(&host, "")[0]["state"] == "ended").then_some(()));
    host.garth("gc").run().ok();
    assert!(listed(&host, "-a").is_empty());
    host.assert_nothing_left();
}
