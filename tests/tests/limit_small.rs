//! `garth limit` on small things: short connections, short jobs, and commands that leave processes
//! behind; and what two limiters, a shell and a signal see of it.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::time::Instant;

use garth_tests::{Host, Running, needs, until};

/// Sends as many bytes as requested, and closes.
const SERVER: &str = "
import socket, threading
s = socket.create_server(('', 9000), backlog=99)
def serve(c):
    c.sendall(bytes(int(c.recv(99))))
    c.close()
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";
/// Requests this many bytes this often, each time on a new connection.
const CLIENT: &str = "
import socket, sys
for i in range(int(sys.argv[1])):
    c = socket.create_connection((sys.argv[3], 9000))
    c.sendall(sys.argv[2].encode())
    while c.recv(65536): pass
    c.close()
";

fn served() -> (Host, Running) {
    let host = Host::with_neighbour();
    host.write("/srv/server.py", SERVER);
    host.write("/srv/client.py", CLIENT);
    let server = host.neighbour("exec python3 /srv/server.py").start();
    until("the server listens", || {
        host.sh("python3 /srv/client.py 1 1 192.0.2.2").run().code.eq(&0).then_some(())
    });
    (host, server)
}

/// Runs a script at a rate in bytes per second: how much was moved in how many seconds, and the
/// summary.
fn limited(host: &Host, rate: u32, script: &str) -> (f64, f64, serde_json::Value) {
    let received = || -> f64 {
        let text = host.read("/proc/1/net/dev");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("lan0:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (before, begun) = (received(), Instant::now());
    let rate = rate / 1000;
    let ran = host.garth(&format!("limit --rate {rate}kB/s --format json")).script(script).run();
    let (moved, took) = (received() - before, begun.elapsed().as_secs_f64());
    assert_eq!(ran.code, 0, "{ran}");
    let figures = ran.stderr.lines().rfind(|line| line.starts_with('{')).unwrap();
    (moved, took, serde_json::from_str(figures).unwrap())
}

#[test]
fn short_connections_are_counted_and_held() {
    needs!(root, netns, "python3");
    let (host, _server) = served();
    for (script, bytes, asked) in [
        ("exec python3 /srv/client.py 100 100000 192.0.2.2", 10e6, 2_000_000),
        // One process for each.
        ("for i in $(seq 8); do python3 /srv/client.py 1 100000 192.0.2.2; done", 0.8e6, 200_000),
    ] {
        let (moved, took, said) = limited(&host, asked, script);
        assert!(moved >= bytes, "{moved}");
        let rate = moved / took / f64::from(asked);
        // A process that has ended need not pay for what it moved last.
        assert!((0.7..1.3).contains(&rate), "{script}: {rate:.2} of what was asked, {said}");
        let counted = said["moved"].as_f64().unwrap();
        assert!(said["uncounted"].is_null() && counted >= 0.95 * bytes, "{script}: {said}");
    }
}

#[test]
fn a_small_job_at_a_slow_rate_is_held() {
    needs!(root, netns, "python3");
    let (host, _server) = served();
    // All of it is over in a few milliseconds without a limit.
    let (_, took, said) = limited(&host, 100_000, "python3 /srv/client.py 8 50000 192.0.2.2");
    assert!(took > 2.0, "{took} s, {said}");
    assert!(said["moved"].as_f64().unwrap() >= 400e3 * 0.98, "{said}");
}

#[test]
fn what_others_may_have_moved_is_said_and_not_counted() {
    needs!(root, netns, "python3");
    let (host, _server) = served();
    let idle = host.sh("echo $$; exec sleep 600").start();
    let pid = idle.line();
    let limiter = host.garth(&format!("limit --pid {pid} --rate 1MB/s --format json")).start();
    limiter.line();
    host.sh("python3 /srv/client.py 20 100000 192.0.2.2").run().ok();
    limiter.line();
    limiter.signal("INT");
    let ran = limiter.wait();
    let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["moved"], 0, "{last}");
    assert!(last["uncounted"].as_str().unwrap().contains("too short to attribute"), "{last}");
    drop(idle);
}

#[test]
fn a_job_that_uses_files_only_is_told_how_that_is_limited() {
    needs!(root);
    let host = Host::new();
    let copy = "dd if=/dev/zero of=/srv/file bs=64k count=1000 status=none; sleep 0.2";
    let ran = host.garth("limit --rate 1MB/s").script(copy).run();
    assert!(ran.code == 0 && ran.stderr.contains("--count io"), "{ran}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    let ran = host.garth("limit --rate 100MB/s --count io").script(copy).run();
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran}");
    let ran = host.garth("limit --rate 1MB/s").script("cat /dev/null; sleep 0.2").run();
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran}");
}

#[test]
fn what_a_command_leaves_behind_is_named_as_it_has_no_limit_any_more() {
    needs!(root);
    let host = Host::new();
    for wait in ["", "sleep 0.3; "] {
        let script = format!("sleep 600 </dev/null >/dev/null 2>&1 & echo $!; {wait}exit 3");
        let ran = host.garth("limit --duty 50% --period 50ms").script(&script).run();
        let pid = ran.stdout.clone();
        assert_eq!(ran.code, 3, "{ran}");
        assert!(ran.stderr.contains(&format!("garth limit --pid {pid} ")), "{ran}");
        let state = host.read(&format!("/proc/{pid}/stat"));
        assert!(state.contains(") S "), "{state}");
        host.sh(&format!("kill {pid}")).run().ok();
    }
    let ran = host.garth("limit --duty 50%").script("sleep 0.1 | cat; exit 4").run();
    assert_eq!((ran.code, &*ran.stderr), (4, ""), "{ran}");
}

/// A limiter that has stopped its target for the next ten seconds.
fn held(host: &Host, what: &str) -> (Running, String) {
    let words = format!("limit {what} --duty 1% --period 20s");
    let limiter = match what {
        "" => host.garth(&words).script("exec sleep 600").start(),
        _ => host.garth(&words).start(),
    };
    let pid = until("the target is stopped", || {
        let found = host.sh("pgrep -x sleep").run().stdout;
        let status = host.sh(&format!("cat /proc/{found}/status")).run().stdout;
        status.contains("T (stopped)").then_some(found)
    });
    (limiter, pid)
}

#[test]
fn a_second_limiter_is_told_how_the_first_ends_also_while_that_holds_the_target() {
    needs!(root);
    let host = Host::new();
    let target = host.sh("sleep 600 & echo $!; wait").start();
    let pid = target.line();
    let (limiter, _) = held(&host, &format!("--pid {pid}"));
    let ran = host.garth(&format!("limit --pid {pid} --duty 50%")).run();
    let said = ran.fails(125);
    let advice = said.split("; ").find(|part| part.starts_with("kill ")).unwrap();
    assert!(said.contains("already limited"), "{said}");
    host.sh(advice.split(" ends").next().unwrap()).run().ok();
    limiter.wait().ok();
    assert!(host.read(&format!("/proc/{pid}/stat")).contains(") S "));
    host.sh(&format!("kill {pid}")).run().ok();
    drop(target);

    // A limiter that started its target passes signals on to it.
    let (limiter, pid) = held(&host, "");
    let said = host.garth(&format!("limit --pid {pid} --duty 50%")).run().fails(125);
    assert!(said.contains("started it: kill -KILL"), "{said}");
    let advice = said.split(": ").find(|part| part.starts_with("kill -KILL")).unwrap();
    host.sh(advice.split(" removes").next().unwrap()).run().ok();
    until("the target goes on", || {
        host.read(&format!("/proc/{pid}/stat")).contains(") S ").then_some(())
    });
    host.sh(&format!("kill {pid}")).run().ok();
    drop(limiter);
}

#[test]
fn a_target_that_is_asked_to_end_while_it_is_stopped_can() {
    needs!(root);
    let host = Host::new();
    let target = host.sh("sleep 600 & echo $!; wait $!; echo $?").start();
    let pid = target.line();
    let (limiter, _) = held(&host, &format!("--pid {pid}"));
    let asked = Instant::now();
    host.sh(&format!("kill {pid}")).run().ok();
    assert_eq!(target.line(), "143");
    // Not at the end of the stop, which is twenty seconds long.
    assert!(asked.elapsed().as_secs() < 10);
    limiter.wait().ok();
}

#[test]
fn a_command_on_a_terminal_is_limited_without_a_word_about_a_shell() {
    needs!(root, "script");
    let host = Host::new();
    let script = "script -qec '$GARTH limit --duty 50% --period 20ms -- sleep 0.3' /dev/null";
    assert_eq!(host.sh(script).run().ok(), "");
}
