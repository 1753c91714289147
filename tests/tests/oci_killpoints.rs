//! Killed at any point of any verb, Garth leaves a container whose state can be queried, which
//! `delete --force` removes with everything it had, and whose id can be reused.
//!
//! Each verb is killed in Garth's own process, and in any of its children too. A container's
//! process outlives the verb that makes it, so strace runs beside it (`-D`), not as its parent.
//!
//! `KILLPOINTS=all` takes every point of each, a number takes that many; the default is 6, and
//! always those where processes communicate.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::os::unix::net::UnixStream;

use garth_tests::{Bundle, CHANGES, Host, Point, Socket, Tally, needs, points, sample};

const DETACH: &str =
    "$R run --detach --bundle $B $ID >/dev/null 2>&1 </dev/null || echo PREPARE $?";
const CREATE: &str = "$R create --bundle $B $ID >/dev/null 2>&1 </dev/null || echo PREPARE $?";

/// Kills `$R words` at each point, with strace's `-f` or nothing. `before` runs first.
fn kill_at_each(bundle: &Bundle<'_>, follow: &str, before: &str, words: &str) {
    let strace = |options: &str| {
        format!(
            "{before}
            timeout 20 strace -D {follow} {options} $R {words} </dev/null >$B/out 2>$B/err
            echo code $?"
        )
    };
    let trace = || bundle.host().read(&bundle.dir("trace"));
    let count = || {
        let options = format!("-o $B/trace -e trace={CHANGES}");
        let counted = bundle.sh(&format!("{}\n$R delete --force $ID", strace(&options))).run();
        assert_eq!((counted.code, counted.stdout.as_str()), (0, "code 0"), "{words}: {counted}");
        bundle.assert_nothing_left();
        points(&trace(), !follow.is_empty())
    };
    // For calls that are made more often in one run than in the next, such as polling, the smaller
    // count.
    let (mut all, again) = (count(), count());
    all.retain(|point| again.contains(point));
    let mut tally = Tally::default();
    for point in &chosen(&all) {
        let script = format!(
            "{}
            timeout 20 $R state $ID >$B/state 2>&1
            echo state $?
            grep -e '\"status\"' -e 'does not exist' -e 'record' $B/state >/dev/null || cat $B/state
            timeout 20 $R list >/dev/null 2>$B/list || echo list $?
            timeout 20 $R delete --force $ID 2>&1
            echo delete $?",
            strace(&point.strace("$B/trace"))
        );
        let killed = bundle.sh(&script).run();
        let mut lines = killed.stdout.lines();
        let (code, state, deleted) = (lines.next(), lines.next(), lines.next());
        let at = format!("{follow} {words} killed at {point}");
        let reached = point.was_reached(trace, !follow.is_empty());
        tally.count(point, reached);
        if reached && follow.is_empty() {
            // As timeout(1) and the shell report SIGKILL.
            assert_eq!(code, Some("code 137"), "{at}: {killed}");
        }
        assert!(code.is_some_and(|line| line.starts_with("code ")), "{at}: {killed}");
        assert!(code != Some("code 124"), "{at}: it hangs: {killed}");
        assert!(matches!(state, Some("state 0" | "state 1")), "{at}: {killed}");
        assert_eq!((deleted, lines.next()), (Some("delete 0"), None), "{at}: {killed}");
        let left = settled(bundle);
        assert!(left.is_empty(), "{at}: left behind:\n{}\n{killed}", left.join("\n"));
        let again = bundle
            .sh("[ -S $B/console ] && console=\"--console-socket $B/console\"
                { timeout 20 $R create --bundle $B $console $ID && timeout 20 $R start $ID &&
                timeout 20 $R delete --force $ID; } </dev/null >$B/out 2>&1 || cat $B/out")
            .run();
        assert_eq!(again.stdout, "", "{at}: again: {again}");
    }
    bundle.assert_nothing_left();
    tally.finish(&format!("{follow} {words}"));
}

/// A sample, and always the points where two processes wait for each other: killing one there may
/// leave the other waiting.
fn chosen(all: &[Point]) -> Vec<Point> {
    let mut chosen = sample(all, 6);
    let taken: Vec<String> = chosen.iter().map(Point::to_string).collect();
    let talks = |point: &&Point| point.call == "sendto" && !taken.contains(&point.to_string());
    chosen.extend(all.iter().filter(talks).cloned());
    chosen
}

/// What is left once ending processes have had time to end.
fn settled(bundle: &Bundle<'_>) -> Vec<String> {
    let mut left = bundle.left();
    for _ in 0..100 {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        left = bundle.left();
    }
    left
}

/// In Garth's own process, then in everything that it starts.
fn survives(before: &str, words: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, before, words);
    }
}

#[test]
fn create() {
    needs!(root, "strace");
    survives("", "create --bundle $B --pid-file $B/pid $ID");
}

/// In Garth's own process: the holder of the firewall's table outlives it, and strace would wait.
fn survives_with_published_ports(before: &str, words: &str) {
    let host = Host::with_engine();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    bundle.namespace("network", Some("/run/netns/box2"));
    bundle.config["annotations"]["dev.garth.publish"] = "0.0.0.0:8080:80,[::]:53:53/udp".into();
    kill_at_each(&bundle, "", before, words);
}

#[test]
fn create_with_published_ports() {
    needs!(root, netns, "strace", "nft");
    survives_with_published_ports("", "create --bundle $B $ID");
}

#[test]
fn delete_with_published_ports() {
    needs!(root, netns, "strace", "nft");
    survives_with_published_ports(CREATE, "delete --force $ID");
}

#[test]
fn start() {
    needs!(root, "strace");
    survives(CREATE, "start $ID");
}

#[test]
fn run() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("true");
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, "", "run --bundle $B $ID");
    }
}

#[test]
fn run_detached() {
    needs!(root, "strace");
    survives("", "run --detach --bundle $B $ID");
}

#[test]
fn exec() {
    needs!(root, "strace");
    survives(DETACH, "exec $ID true");
}

#[test]
fn exec_detached() {
    needs!(root, "strace");
    survives(DETACH, "exec --detach --pid-file $B/exec.pid $ID sleep 600");
}

#[test]
fn kill() {
    needs!(root, "strace");
    survives(DETACH, "kill $ID KILL");
    survives(DETACH, "kill --all $ID KILL");
}

#[test]
fn delete() {
    needs!(root, "strace");
    survives(CREATE, "delete $ID");
    survives(DETACH, "delete --force $ID");
}

#[test]
fn pause_and_resume() {
    needs!(root, "strace");
    survives(DETACH, "pause $ID");
    survives(&format!("{DETACH}; $R pause $ID"), "resume $ID");
}

#[test]
fn update() {
    needs!(root, "strace", cgroups);
    survives(DETACH, "update --pids-limit 50 $ID");
}

#[test]
fn mounts_add() {
    needs!(root, "strace");
    let list = r#"[{"destination":"/mnt","type":"tmpfs","source":"tmpfs"}]"#;
    let before = format!("{DETACH}; echo '{list}' >$B/mounts");
    survives(&before, "mounts add $ID $B/mounts");
}

#[test]
fn create_with_hooks() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let path = if hook == "startContainer" { "/bin/true" } else { "/usr/bin/true" };
        bundle.config["hooks"][hook] = serde_json::json!([{"path": path}]);
    }
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, "", "create --bundle $B $ID");
        kill_at_each(&bundle, follow, CREATE, "start $ID");
    }
}

#[test]
fn create_with_a_user_namespace() {
    needs!(root, "strace", userns);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    bundle.user_namespace(100_000);
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, "", "create --bundle $B $ID");
    }
}

/// Then a second process takes the place of the first, and no namespace ends with it.
#[test]
fn create_in_a_pid_namespace_that_is_there() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    bundle.namespace("pid", Some("/proc/1/ns/pid"));
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, "", "create --bundle $B $ID");
    }
}

#[test]
fn create_with_a_terminal() {
    needs!(root, "strace");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    bundle.config["process"]["terminal"] = true.into();
    // Receive each terminal and keep it: without its master a terminal no longer has a name.
    let path = host.path(&bundle.dir("console"));
    let socket = Socket::listen(&path);
    let receiver = std::thread::spawn(move || {
        let mut held = Vec::new();
        // Some are killed after connecting and before sending.
        loop {
            let (text, fds) = socket.receive();
            held.extend(fds);
            if text == "end" {
                break;
            }
        }
    });
    for follow in ["", "-f"] {
        kill_at_each(&bundle, follow, "", "create --bundle $B --console-socket $B/console $ID");
    }
    UnixStream::connect(path).unwrap().write_all(b"end").unwrap();
    receiver.join().unwrap();
}
