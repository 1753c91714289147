//! Signals from outside reach the command, whatever user it has become and wherever they come from;
//! and the process that started it ends as it ended.

use garth_tests::{Host, needs, until};

/// What a daemon does that starts as root.
const LEAVES_ROOT: &str = "setpriv --reuid 33 --regid 33 --clear-groups";

fn until_nothing_is_listed(host: &Host) {
    until("ps lists nothing", || (host.garth("ps --json").run().ok() == "[]").then_some(()));
}

/// The pid, on the test host, of the first process of the only sandbox.
fn first(host: &Host) -> String {
    let text = host.garth("ps --json").run().ok();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    list[0]["pid"].to_string()
}

#[test]
fn a_command_that_has_left_root_is_signalled_by_name() {
    needs!(root, "setpriv", userns);
    let host = Host::new();
    for flags in [
        "",
        "--cap-drop kill",
        "--cap-drop all --cap-add setuid,setgid",
        "--userns=100000:65536",
        "--as-pid-1",
    ] {
        let script =
            "trap 'echo usr1' USR1; trap 'exit' TERM; echo ready; while :; do sleep 0.01; done";
        let words = format!("wrap -d --name web --log /srv/log {flags} -- {LEAVES_ROOT} sh -c");
        host.sh("rm -f /srv/log").run().ok();
        host.garth(&words).arg(script).run().ok();
        let logs = |line: &str| {
            until(line, || host.read("/srv/log").contains(line).then_some(()));
        };
        logs("ready");
        host.garth("kill -s USR1 web").run().ok();
        logs("usr1");
        host.garth("kill web").run().ok();
        until_nothing_is_listed(&host);
    }
    host.garth("kill web").run().refused(1, "web");
}

#[test]
fn a_command_that_has_left_root_is_signalled_through_who_started_it() {
    needs!(root, "setpriv");
    let host = Host::new();
    let script = "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    for flags in ["", "--cap-drop kill"] {
        let words = format!("wrap {flags} -- {LEAVES_ROOT} sh -c");
        let sandbox = host.garth(&words).arg(script).start();
        assert_eq!(sandbox.line(), "ready");
        sandbox.signal("TERM");
        assert_eq!(sandbox.line(), "term");
        assert_eq!(sandbox.wait().code, 3);
    }
    // The same for a program that joins a running sandbox.
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    let inside = host.garth(&format!("exec web -- {LEAVES_ROOT} sh -c")).arg(script).start();
    assert_eq!(inside.line(), "ready");
    inside.signal("TERM");
    assert_eq!(inside.line(), "term");
    assert_eq!(inside.wait().code, 3);
}

#[test]
fn a_command_that_has_left_root_is_signalled_through_what_others_know_of_it() {
    needs!(root, "setpriv");
    let host = Host::new();
    let start = || {
        let words = format!("wrap -d --name web -- {LEAVES_ROOT} sleep 600");
        host.garth(&words).run().ok();
        until("it has left root", || {
            host.sh("pgrep -u 33 -x sleep").run().stdout.parse::<u32>().ok()
        })
    };
    // Its first process, which garth ps shows.
    start();
    host.sh(&format!("kill {}", first(&host))).run().ok();
    until_nothing_is_listed(&host);
    // Its parent outside.
    start();
    let parent = format!("ps -o ppid= -p {}", first(&host));
    host.sh(&format!("kill $({parent})")).run().ok();
    until_nothing_is_listed(&host);
}

#[test]
fn an_ordinary_user_signals_what_is_its_own() {
    needs!(root, "setpriv");
    let host = Host::new();
    let script = "mkdir -m 777 /run/nobody; export XDG_RUNTIME_DIR=/run/nobody
        n='setpriv --reuid 65534 --regid 65534 --clear-groups'
        $n $GARTH wrap -d --name web -- sleep 600 && $n $GARTH kill web
        while [ \"$($n $GARTH ps --quiet)\" ]; do sleep 0.01; done; echo gone";
    assert_eq!(host.sh(script).run().stdout, "web\ngone");
}

/// A terminal that runs one program, as its session leader, and then goes away.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
while b"ready" not in seen:
    seen += os.read(terminal, 4096)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_hang_up_reaches_the_command_of_a_terminal_without_a_shell() {
    needs!(root, "python3");
    let host = Host::new();
    host.write("/srv/terminal.py", TERMINAL);
    host.sh("mkdir /srv/out; touch /srv/out/heard").run().ok();
    let command = "trap 'echo HUP >>/srv/out/heard; exit 5' HUP; echo ready; \
        while :; do sleep 0.01; done";
    host.write("/srv/command", command);
    for words in
        ["wrap --rw /srv/out --", "wrap --as-pid-1 --rw /srv/out --", "limit --duty 50% --"]
    {
        host.sh("echo >/srv/out/heard").run().ok();
        let call = format!("timeout 20 python3 /srv/terminal.py $GARTH {words} sh /srv/command");
        assert_eq!(host.sh(&call).run().ok(), "5", "{words}");
        // Once.
        assert_eq!(host.read("/srv/out/heard").trim(), "HUP", "{words}");
    }
}

/// An interactive shell with job control, and keys typed into it.
const KEYS: &str = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = b""
def until(what):
    global seen
    while what not in seen:
        seen += os.read(terminal, 4096)
    seen = seen.split(what, 1)[1]
def type(keys):
    os.write(terminal, keys)
type(b"PS1=; " + os.environ["GARTH"].encode() + b" wrap --rw /srv/out -- sh /srv/command\n")
until(b"re" + b"ady\r")
type(b"\x1a"); until(b"Stopped")
type(b"fg\n"); until(b"on again")
type(b"\x03"); until(b"int")
type(b"\x1c"); until(b"Quit")
type(b"echo code=$?\n"); until(b"code=131")
print("done")
"#;

#[test]
fn the_keys_of_a_terminal_mean_what_they_mean_without_a_sandbox() {
    needs!(root, "python3", "bash");
    let host = Host::new();
    host.write("/srv/keys.py", KEYS);
    host.sh("mkdir /srv/out; touch /srv/out/heard").run().ok();
    let command = "trap 'echo int >>/srv/out/heard; echo int' INT; trap 'echo on again' CONT; \
        echo ready; while :; do sleep 0.01; done";
    host.write("/srv/command", command);
    assert_eq!(host.sh("timeout 20 python3 /srv/keys.py").run().ok(), "done");
    // ^C was received once.
    assert_eq!(host.read("/srv/out/heard").trim(), "int");
}

#[test]
fn who_started_a_command_ends_by_the_signal_that_ended_it() {
    needs!(root);
    let host = Host::new();
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    for words in ["wrap", "wrap --memory 64m", "exec web", "limit --duty 50%"] {
        for (signal, number) in [("HUP", 1), ("KILL", 9), ("USR2", 12), ("TERM", 15)] {
            let ran = host.garth(words).script(&format!("kill -{signal} $$")).run();
            assert_eq!(ran.code, -number, "{words} {signal}: {}", ran.stderr);
        }
        // A command that exits with such a code was not killed.
        assert_eq!(host.garth(words).script("exit 143").run().code, 143, "{words}");
    }
    // A shell shows it as usual.
    let script = "$GARTH wrap -- sh -c 'kill -TERM $$'; echo $?";
    assert_eq!(host.sh(script).run().stdout, "143");
    // Pid 1 of a namespace cannot die this way.
    let script = "unshare --pid --fork $GARTH wrap -- sh -c 'kill -TERM $$'; echo $?";
    assert_eq!(host.sh(script).run().stdout, "143");
}

#[test]
fn who_started_a_command_dumps_no_core_of_its_own() {
    needs!(root);
    let host = Host::new();
    let script = "mkdir /srv/cwd; cd /srv/cwd; ulimit -c unlimited
        $GARTH wrap -- sh -c 'kill -SEGV $$'; echo $? $(ls)";
    assert_eq!(host.sh(script).run().stdout, "139");
}
