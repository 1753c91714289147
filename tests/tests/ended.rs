//! What is known of a detached sandbox that has ended: how it ended, and its last output.

use garth_tests::{Yard, needs, until};
use serde_json::Value;

fn listed(yard: &Yard, words: &str) -> Vec<Value> {
    let text = yard.garth(&format!("ps {words} --json")).run().ok();
    serde_json::from_str(&text).unwrap_or_default()
}

fn until_released(yard: &Yard) {
    until("ps lists nothing", || listed(yard, "").is_empty().then_some(()));
}

#[test]
fn an_exit_code_and_the_last_lines_are_remembered() {
    needs!(root);
    let yard = Yard::new();
    let script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i; done; echo last >&2; exit 3";
    yard.garth("wrap -d --name web").script(script).run().ok();
    let ran = yard.garth("wait web").run();
    assert_eq!(ran.code, 3);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines[0], lines[1], lines[10]), ("web: exited 3", "  12", "  last"), "{ran}");
    // It is no longer a sandbox, and has nothing outside.
    until_released(&yard);
    yard.assert_nothing_left();
    let text = yard.garth("ps -a").run().ok();
    assert!(text.contains("exited 3") && text.contains("web"), "{text}");
    let all = listed(&yard, "-a");
    assert_eq!((&all[0]["state"], &all[0]["pid"]), (&"exited".into(), &Value::Null), "{all:?}");
    let end = &all[0]["end"];
    assert_eq!((&end["exit_code"], &end["signal"]), (&3.into(), &Value::Null), "{all:?}");
    assert_eq!(end["output"][9], "last", "{all:?}");
    // However often it is asked, until it is deleted.
    assert_eq!(yard.garth("wait web --json").run().code, 3);
    yard.garth("gc").run().ok();
    assert_eq!(listed(&yard, "--all").len(), 1);
    yard.garth("delete web").run().ok();
    assert!(listed(&yard, "-a").is_empty());
    yard.garth("wait web").run().refused(125, "no sandbox named web");
}

#[test]
fn a_signal_is_remembered_by_its_name() {
    needs!(root);
    let yard = Yard::new();
    for (flags, script, words, code) in [
        ("", "kill -TERM $$", "killed TERM", 143),
        ("", "exit 143", "exited 143", 143),
        ("--as-pid-1", "exit 143", "exited 143", 143),
        ("", "kill -KILL $$", "killed KILL", 137),
    ] {
        yard.garth(&format!("wrap -d --name web {flags}")).script(script).run().ok();
        let ran = yard.garth("wait web").run();
        assert_eq!((ran.code, ran.stdout), (code, format!("web: {words}")), "{flags} {script}");
    }
    // One with another name does not touch it; delete --force of a running one leaves none.
    yard.garth("wrap -d --name other -- sleep 600").run().ok();
    yard.garth("delete --force other").run().ok();
    until_released(&yard);
    let all = listed(&yard, "-a");
    assert_eq!((all.len(), &all[0]["name"]), (1, &"web".into()), "{all:?}");
}

/// Takes 64 MB.
const GREEDY: &str = "x=$(head -c 64m /dev/zero | tr '\\0' x)";

#[test]
fn a_want_of_memory_is_told_with_the_name_of_the_limit() {
    needs!(root, cgroups);
    let yard = Yard::new();
    yard.garth("wrap -d --name web --memory 16m").script(GREEDY).run().ok();
    let ran = yard.garth("wait web").run();
    assert!(ran.stdout.contains(", out of memory (--memory 16m)"), "{ran}");
    assert_ne!(ran.code, 0);
    let all = listed(&yard, "-a");
    assert_eq!(all[0]["end"]["out_of_memory"], "--memory 16m", "{all:?}");
    // In the foreground it is reported.
    let ran = yard.garth("wrap --memory 16m").script(GREEDY).run();
    assert!(ran.stderr.contains("out of memory (--memory 16m)"), "{ran}");
    let ran = yard.garth("wrap --memory 16m").script("exit 137").run();
    assert_eq!((ran.code, ran.stderr.as_str()), (137, ""));
    until_released(&yard);
    yard.assert_nothing_left();
}

#[test]
fn one_that_runs_is_waited_for() {
    needs!(root);
    let yard = Yard::new();
    let script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.01; done";
    yard.garth("wrap -d --name web").script(script).run().ok();
    let output = || yard.sh("cat /run/garth/sandboxes/web/output.0").run().stdout;
    until("it is ready", || output().contains("hello").then_some(()));
    let waiting = yard.garth("wait web").start();
    yard.garth("kill web").run().ok();
    let ran = waiting.wait();
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "web: exited 7\n  hello\n  bye"));
    // A sandbox in the foreground is reported only to its caller.
    let sandbox = yard.garth("wrap --name shop").script("echo ready; exec sleep 600").start();
    sandbox.line();
    let waiting = yard.garth("wait shop").start();
    let look = "ls -l /proc/$(pgrep -f '[w]ait shop')/fd | grep pidfd";
    until("it waits", || yard.sh(look).run().stdout.contains("pidfd").then_some(()));
    sandbox.signal("TERM");
    waiting.wait().refused(125, "no trace");
}

#[test]
fn a_name_that_is_used_again_means_the_new_one() {
    needs!(root);
    let yard = Yard::new();
    yard.garth("wrap -d --name web").script("exit 3").run().ok();
    assert_eq!(yard.garth("wait web").run().code, 3);
    yard.garth("wrap -d --name web -- sleep 600").run().ok();
    let all = listed(&yard, "-a");
    assert_eq!((all.len(), &all[0]["state"]), (1, &"running".into()), "{all:?}");
    yard.garth("kill web").run().ok();
    assert_eq!(yard.garth("wait web").run().code, 143);
    assert_eq!(listed(&yard, "-a").len(), 1);
    // Also for one in the foreground.
    yard.garth("wrap --name web -- true").run().ok();
    assert!(listed(&yard, "-a").is_empty());
}

#[test]
fn what_is_remembered_is_forgotten_in_time() {
    needs!(root);
    let yard = Yard::new();
    yard.garth("wrap -d --name old -- true").run().ok();
    yard.garth("wrap -d --name new -- true").run().ok();
    for name in ["old", "new"] {
        yard.garth(&format!("wait {name}")).run().ok();
    }
    yard.sh("sed -i 's/\"ended\":[0-9]*/\"ended\":1/' /run/garth/ended/old/ended.json").run().ok();
    // What a killed delete left half removed.
    yard.sh("mkdir /run/garth/ended/half; touch /run/garth/ended/half/output.0").run().ok();
    let said = yard.garth("gc").run().ok();
    assert!(said.contains("remembered of old") && !said.contains("new"), "{said}");
    assert_eq!(yard.sh("ls /run/garth/ended").run().stdout, "new");
}

#[test]
fn the_output_that_is_kept_is_bounded() {
    needs!(root);
    let yard = Yard::new();
    let script = "yes | head -c 3000000; echo; echo end; exec sleep 600";
    yard.garth("wrap -d --name web").script(script).run().ok();
    let kept =
        || yard.sh("cd /run/garth/sandboxes/web; cat output.?; cat output.? | wc -c").run().stdout;
    until("all is written", || kept().contains("end").then_some(()));
    let size: u64 = kept().lines().last().unwrap_or_default().parse().unwrap_or(u64::MAX);
    assert!((65536..=131072).contains(&size), "{size}");
    yard.garth("kill web").run().ok();
    let ran = yard.garth("wait web").run();
    assert!(ran.stdout.ends_with("\n  end"), "{ran}");
    // The keeper stays small.
    yard.garth("wrap -d --name small -- sleep 600").run().ok();
    let resident = "awk '/^VmRSS/ { print $2 }' /proc/$(pgrep -f ^garth-keeper)/status";
    let resident: u64 = yard.sh(resident).run().stdout.parse().unwrap_or(u64::MAX);
    assert!(resident < 100, "{resident} kB");
}

#[test]
fn a_command_of_another_user_opens_its_output() {
    needs!(root);
    let yard = Yard::new();
    let script = "echo out >/dev/stdout; echo error >/dev/stderr";
    yard.garth("wrap -d --name web -u nobody").script(script).run().ok();
    assert_eq!(yard.garth("wait web").run().ok(), "web: exited 0\n  out\n  error");
}

#[test]
fn the_last_lines_of_a_log_of_the_callers_are_remembered_too() {
    needs!(root);
    let yard = Yard::new();
    yard.sh("echo before >/srv/log").run().ok();
    yard.garth("wrap -d --name web --log /srv/log").script("echo after; exit 1").run().ok();
    let ran = yard.garth("wait web").run();
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "web: exited 1\n  before\n  after"));
    assert_eq!(yard.read("/srv/log"), "before\nafter\n");
}

#[test]
fn words_of_garth_are_names_like_others() {
    needs!(root);
    let yard = Yard::new();
    let words = "--root /srv/wrap wrap -d --name wrap --hostname wrap";
    assert_eq!(yard.garth(words).script("echo wrap; exit 4").run().ok(), "wrap");
    let ran = yard.garth("--root /srv/wrap wait wrap").run();
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "wrap: exited 4\n  wrap"));
    // One without a given name has one all the same.
    let name = yard.garth("wrap -d").script("hostname").run().ok();
    assert_eq!(
        yard.garth(&format!("wait {name}")).run().ok(),
        format!("{name}: exited 0\n  {name}")
    );
}

#[test]
fn without_its_keeper_a_sandbox_goes_on_and_leaves_no_trace() {
    needs!(root);
    let yard = Yard::new();
    yard.garth("wrap -d --name web -- sleep 600").run().ok();
    yard.sh("kill -KILL $(pgrep -f ^garth-keeper)").run().ok();
    assert_eq!(listed(&yard, "")[0]["state"], "running");
    yard.garth("kill web").run().ok();
    until("it has ended", || (listed(&yard, "")[0]["state"] == "ended").then_some(()));
    yard.garth("gc").run().ok();
    assert!(listed(&yard, "-a").is_empty());
    yard.assert_nothing_left();
}
