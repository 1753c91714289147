//! The life of a container: created, running, stopped, gone; and what is not allowed when.

use garth_tests::{Bundle, until};
use serde_json::json;

/// This must fail, with a message.
#[track_caller]
fn fails(bundle: &Bundle, ran: garth_tests::Ran) {
    assert_ne!(ran.code, 0, "{ran}");
    assert!(!(bundle.log_text() + &ran.stderr).is_empty(), "failed without a word");
}

#[test]
fn run_returns_the_exit_code() {
    bundle!(host, bundle);
    for code in [0, 1, 7, 255] {
        // Long enough for a runtime that waits late.
        assert_eq!(bundle.script(&format!("sleep 0.05; exit {code}")).run().code, code);
    }
}

#[test]
fn run_of_a_process_that_ends_at_once() {
    bundle!(host, bundle);
    for _ in 0..8 {
        bundle.run().ok();
    }
}

#[test]
fn run_returns_128_and_the_signal() {
    bundle!(host, bundle);
    // Pid 1 of a pid namespace only gets signals it handles, except SIGKILL from outside.
    let running = bundle.script("exec sleep 600").start_run("").start();
    let state = format!("state {}", bundle.id);
    until("it is there", || (bundle.call(&state).run().code == 0).then_some(()));
    bundle.until("running");
    bundle.kill("KILL").ok();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn run_forwards_signals() {
    bundle!(host, bundle);
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let running = bundle.script(script).start_run("").start();
    assert_eq!(running.line(), "ready");
    running.signal("USR1");
    assert_eq!(running.line(), "usr1");
    running.signal("TERM");
    assert_eq!(running.line(), "term");
    assert_eq!(running.wait().code, 5);
}

#[test]
fn run_keep() {
    bundle!(host, bundle);
    bundle.script("exit 3");
    assert_eq!(bundle.run_with("--keep").code, 3);
    assert_eq!(bundle.status(), "stopped");
    bundle.delete().ok();
}

#[test]
fn create_does_not_run_the_process_and_start_does() {
    bundle!(host, bundle);
    bundle.script("echo started; exec sleep 600").create().ok();
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.output(), "");
    bundle.start().ok();
    assert_eq!(bundle.status(), "running");
    until("it writes", || (bundle.output() == "started").then_some(()));
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}

#[test]
fn what_becomes_of_config_json_after_create_does_not_matter() {
    bundle!(host, bundle);
    bundle.script("echo first").create().ok();
    host.write(&bundle.dir("config.json"), "{}");
    bundle.start().ok();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "first");
    bundle.delete().ok();
}

#[test]
fn detach() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.status(), "running");
    assert_eq!(host.read(&format!("/proc/{}/cmdline", bundle.pid())), "sleep\x00600\x00");
}

#[test]
fn pid_file() {
    bundle!(host, bundle);
    let file = bundle.dir("pid");
    bundle.script("exec sleep 600").create_with(&format!("--pid-file {file}")).ok();
    assert_eq!(host.read(&file), bundle.pid().to_string());
    bundle.start().ok();
    let exec = bundle.dir("exec.pid");
    let words = format!("exec --detach --pid-file {exec} $ID sleep 77");
    bundle.apart(&words).ok();
    let pid = host.read(&exec);
    assert_eq!(host.read(&format!("/proc/{pid}/cmdline")), "sleep\x0077\0");
}

#[test]
fn a_second_container_with_the_same_id_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    let before = bundle.state();
    fails(&bundle, bundle.create());
    let ran = bundle.run();
    fails(&bundle, ran);
    assert_eq!(bundle.state(), before);
}

#[test]
fn an_id_can_be_used_again() {
    bundle!(host, bundle);
    for _ in 0..2 {
        bundle.script("exec sleep 600").create().ok();
        bundle.delete_force().ok();
    }
    bundle.script("true").run().ok();
}

#[test]
fn start_of_a_running_container_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    fails(&bundle, bundle.start());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn start_of_a_stopped_container_is_refused() {
    bundle!(host, bundle);
    bundle.detach().ok();
    bundle.until("stopped");
    fails(&bundle, bundle.start());
    assert_eq!(bundle.status(), "stopped");
}

#[test]
fn kill_of_a_created_container() {
    bundle!(host, bundle);
    bundle.create().ok();
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    bundle.delete().ok();
}

#[test]
fn kill_of_a_stopped_container_is_refused() {
    bundle!(host, bundle);
    bundle.detach().ok();
    bundle.until("stopped");
    let ran = bundle.kill("TERM");
    fails(&bundle, ran);
    // What engines look for.
    let text = bundle.log_text().to_lowercase();
    let known = ["not running", "process already finished", "no such process"];
    assert!(known.iter().any(|words| text.contains(words)), "{text}");
}

#[test]
fn kill_by_names_and_numbers() {
    bundle!(host, bundle);
    let script = "for s in USR1 USR2 HUP WINCH; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.02; done";
    bundle.script(script).detach().ok();
    let mut expected = String::from("ready");
    for (signal, name) in [
        ("USR1", "USR1"),
        ("SIGUSR2", "USR2"),
        ("1", "HUP"),
        ("sigwinch", "WINCH"),
        ("usr1", "USR1"),
    ] {
        until("it is ready", || (bundle.output() == expected).then_some(()));
        bundle.kill(signal).ok();
        expected = format!("{expected}\n{name}");
    }
    until("the last has come", || (bundle.output() == expected).then_some(()));
}

#[test]
fn kill_sends_term_by_default() {
    bundle!(host, bundle);
    bundle.script("trap 'echo term; exit' TERM; echo ready; while :; do sleep 0.02; done");
    bundle.detach().ok();
    until("it is ready", || (bundle.output() == "ready").then_some(()));
    bundle.kill("").ok();
    bundle.until("stopped");
    assert_eq!(bundle.output(), "ready\nterm");
}

#[test]
fn kill_with_an_unknown_signal_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    for signal in ["TEA", "900", "-3"] {
        fails(&bundle, bundle.kill(signal));
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn kill_all() {
    bundle!(host, bundle);
    // Without a pid namespace the others do not end with the first process.
    bundle.without_namespace("pid");
    bundle.script("sleep 600 & sleep 600 & echo ready; wait").detach().ok();
    until("it is ready", || (bundle.output() == "ready").then_some(()));
    bundle.call(&format!("kill --all {} KILL", bundle.id)).run().ok();
    bundle.until("stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}

#[test]
fn delete_of_a_running_container_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    fails(&bundle, bundle.delete());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn delete_of_a_created_container_takes_it_with_it_or_is_refused() {
    bundle!(host, bundle);
    bundle.create().ok();
    // runc kills it; the specification asks for an error, since it is not stopped.
    if bundle.delete().code == 0 {
        bundle.assert_nothing_left();
    } else {
        assert_eq!(bundle.status(), "created");
    }
}

#[test]
fn delete_force_of_a_running_container() {
    bundle!(host, bundle);
    bundle.sleeping();
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
}

#[test]
fn delete_force_without_a_pid_namespace_takes_every_process() {
    bundle!(host, bundle);
    bundle.without_namespace("pid");
    bundle.script("sleep 600 & echo ready; wait").detach().ok();
    until("it is ready", || (bundle.output() == "ready").then_some(()));
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
}

#[test]
fn delete_force_of_nothing_is_no_error() {
    bundle!(host, bundle);
    bundle.delete_force().ok();
}

#[test]
fn of_nothing_everything_else_is_refused() {
    bundle!(host, bundle);
    for words in [
        "state",
        "start",
        "kill",
        "delete",
        "pause",
        "resume",
        "ps",
        "update --memory 64M",
        "events --stats",
    ] {
        let ran = bundle.call(&format!("{words} {}", bundle.id)).run();
        assert_ne!(ran.code, 0, "{ran}");
    }
    fails(&bundle, bundle.exec("", "true"));
}

#[test]
fn exec_in_a_stopped_container_is_refused() {
    bundle!(host, bundle);
    bundle.detach().ok();
    bundle.until("stopped");
    fails(&bundle, bundle.exec("", "true"));
}

#[test]
fn a_process_without_args_is_needed_to_start() {
    bundle!(host, bundle);
    bundle.config["process"] = json!(null);
    let ran = bundle.create();
    // Some runtimes see it immediately, some when it is started.
    if ran.code == 0 {
        fails(&bundle, bundle.start());
    }
}

#[test]
fn pause_and_resume() {
    bundle!(host, bundle);
    bundle.script("while :; do echo tick; sleep 0.01; done").detach().ok();
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    assert_eq!(bundle.status(), "paused");
    let before = bundle.output();
    assert_eq!(bundle.output(), before);
    bundle.call(&format!("resume {}", bundle.id)).run().ok();
    assert_eq!(bundle.status(), "running");
    until("it goes on", || (bundle.output().len() > before.len()).then_some(()));
}

#[test]
fn pause_of_a_stopped_container_is_refused() {
    bundle!(host, bundle);
    bundle.detach().ok();
    bundle.until("stopped");
    fails(&bundle, bundle.call(&format!("pause {}", bundle.id)).run());
}

#[test]
fn resume_of_a_running_container_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    fails(&bundle, bundle.call(&format!("resume {}", bundle.id)).run());
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    bundle!(host, bundle);
    bundle.sleeping();
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
}

#[test]
fn many_at_once() {
    bundle!(host, bundle);
    let bundles: Vec<Bundle> = (0..6).map(|n| Bundle::named(&host, &format!("many{n}"))).collect();
    let running: Vec<_> = bundles.iter().map(|bundle| bundle.start_run("").start()).collect();
    for run in running {
        run.wait().ok();
    }
    bundle.run().ok();
}

#[test]
fn one_of_many_creates_with_the_same_id_wins() {
    bundle!(host, bundle);
    bundle.script("exec sleep 600");
    let script = "for n in 1 2 3 4 5 6; do
            ($R create --bundle $B $ID </dev/null >/dev/null 2>&1 && echo won) &
        done; wait";
    assert_eq!(bundle.sh(script).run().ok(), "won");
    assert_eq!(bundle.status(), "created");
}
