//! `garth limit`: rates on a real link, and that no process is ever left stopped.
//!
//! By default a sample with generous bounds; with LIMIT=all everything, with tight ones (`just
//! limits`, on a quiet machine).
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::time::{Duration, Instant};

use garth_tests::{Host, Running, children, kill, needs, until};

/// Sends or receives endlessly, as each client that connects asks.
const SERVER: &str = "
import socket, threading
s = socket.create_server(('', 9000))
def serve(c):
    block = bytearray(1 << 18)
    try:
        if c.recv(1) == b'd':
            while True: c.sendall(block)
        while c.recv_into(block): pass
    except OSError: pass
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";
const CLIENT: &str = "
import socket, sys, os
print(os.getpid(), flush=True)
c = socket.create_connection((sys.argv[2], 9000))
c.sendall(sys.argv[1][:1].encode())
block = bytearray(1 << 18)
while sys.argv[1] == 'down' and c.recv_into(block): pass
while True: c.sendall(block)
";

fn all() -> bool {
    std::env::var_os("LIMIT").is_some_and(|value| value == "all")
}

/// A test host and its neighbour, the wire between them shaped to 200 Mbit/s each way.
fn shaped() -> (Host, Running) {
    let host = Host::with_neighbour();
    let shape = "tc qdisc add dev lan0 root tbf rate 200mbit burst 256k latency 50ms";
    host.sh(shape).run().ok();
    host.neighbour(shape).run().ok();
    // The kernel's own bound on a receive window until 6.16. Since then it is 32 MB, which a
    // download may take at any moment, all at once, and which is more than 10 s of the slowest rate
    // here.
    host.sh("echo 4096 131072 6291456 >/proc/sys/net/ipv4/tcp_rmem").run().ok();
    host.write("/srv/server.py", SERVER);
    host.write("/srv/client.py", CLIENT);
    let server = host.neighbour("exec python3 /srv/server.py").start();
    until("the server listens", || host.sh("nc -z 192.0.2.2 9000").run().code.eq(&0).then_some(()));
    (host, server)
}

/// Payload bytes that the test host's wire has carried in a direction: what the link counted,
/// without 66 bytes of headers for each packet.
fn carried(host: &Host, direction: &str) -> f64 {
    let text = host.read("/proc/1/net/dev");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lan0:")).unwrap();
    let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let at = if direction == "up" { 8 } else { 0 };
    numbers[at] - 66.0 * numbers[at + 1]
}

/// Mbit/s over windows of this many seconds, the mean of those that begin within two seconds: a
/// process runs in bursts, and a single window has one more or one less by chance.
fn rate_over(host: &Host, direction: &str, window: f64) -> f64 {
    let begin = Instant::now();
    let mut points = Vec::new();
    while begin.elapsed().as_secs_f64() < window + 2.0 {
        points.push((begin.elapsed().as_secs_f64(), carried(host, direction)));
        std::thread::sleep(Duration::from_millis(20));
    }
    let from = |(at, bytes): &(f64, f64)| {
        let (end, last) = points.iter().find(|(end, _)| *end >= at + window)?;
        Some((last - bytes) * 8.0 / (end - at) / 1e6)
    };
    let rates: Vec<f64> = points.iter().map_while(from).collect();
    rates.iter().sum::<f64>() / rates.len() as f64
}

/// TCP segments retransmitted by either side.
fn repeated(host: &Host) -> u64 {
    let count = |text: String| -> u64 {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Tcp:")).collect();
        let at = lines[0].split(' ').position(|name| name == "RetransSegs").unwrap();
        lines[1].split(' ').nth(at).unwrap().parse().unwrap()
    };
    count(host.read("/proc/1/net/snmp"))
        + count(host.neighbour("cat /proc/self/net/snmp").run().ok())
}

/// A process on the test host that prints its pid first.
fn target(host: &Host, script: &str) -> (Running, i32) {
    let running = host.sh(&format!("echo $$; {script}")).start();
    let pid = running.line().parse().unwrap();
    (running, pid)
}

/// The state letter of a process on the test host.
fn state(host: &Host, pid: i32) -> char {
    let text = fs::read_to_string(host.path(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    text.rsplit_once(") ").map_or('-', |(_, rest)| rest.chars().next().unwrap())
}

fn until_state(host: &Host, pid: i32, wanted: impl Fn(char) -> bool) {
    until(&format!("process {pid} changes its state"), || wanted(state(host, pid)).then_some(()));
}

fn until_stopped(host: &Host, pid: i32) {
    until_state(host, pid, |state| state == 'T');
}

fn until_running(host: &Host, pid: i32) {
    until_state(host, pid, |state| matches!(state, 'R' | 'S' | 'D'));
}

/// Stays running: for longer than one period.
fn assert_stays_running(host: &Host, pid: i32) {
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert_ne!(state(host, pid), 'T');
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_rate_is_held_on_a_real_link() {
    needs!(root, netns, "python3", "tc", "nc");
    let (host, _server) = shaped();
    let (window, bound) = if all() { (10.0, 0.05) } else { (4.0, 0.2) };
    let cases: &[(&str, u32)] = match all() {
        true => &[("up", 10), ("up", 30), ("up", 60), ("down", 10), ("down", 30), ("down", 60)],
        false => &[("up", 30), ("down", 60)],
    };
    let seconds = |seconds: f64| std::thread::sleep(Duration::from_secs_f64(seconds));
    for (direction, percent) in cases {
        let client = host.sh(&format!("exec python3 /srv/client.py {direction} 192.0.2.2")).start();
        let pid = client.line();
        seconds(1.0);
        let open = repeated(&host);
        // As long as with the limit: TCP probes for the end of a link every few seconds.
        seconds(window);
        let open = (repeated(&host) - open) as f64 / window;
        let rate = 2 * percent;
        let words = format!("limit --pid {pid} --rate {rate}Mbit/s --direction {direction}");
        let limiter = host.garth(&words).start();
        limiter.error_line("payload of its TCP sockets");
        // What the other side may send without being asked is paid for first.
        seconds(3.0 + if *direction == "down" { 200.0 / f64::from(rate) } else { 0.0 });
        let (start, sent) = (Instant::now(), repeated(&host));
        let got = rate_over(&host, direction, window);
        let took = start.elapsed().as_secs_f64();
        let sent = (repeated(&host) - sent) as f64 / took;
        println!(
            "{direction} {percent} %: asked {rate}, got {got:.2} Mbit/s; repeated {sent:.1}/s, without a limit {open:.1}/s"
        );
        let error = (got / f64::from(rate) - 1.0).abs();
        assert!(error <= bound, "{direction} {percent} %: asked {rate}, got {got:.2} Mbit/s");
        // None, except by chance, for example when the machine was busy elsewhere.
        let chance = if all() { 0.2 } else { 0.5 };
        assert!(sent <= open + chance, "{direction} {percent} %: {sent} a second sent again");
        limiter.signal("INT");
        let figures = limiter.wait().ok();
        let last: serde_json::Value =
            serde_json::from_str(figures.lines().last().unwrap()).unwrap();
        assert_eq!(last["summary"], true, "{figures}");
        assert_eq!(last["asked"], rate * 1_000_000);
        until_running(&host, pid.parse().unwrap());
    }
}

#[test]
fn a_real_transfer_holds_its_rate_from_the_beginning() {
    needs!(root, "curl", "python3", "rsync");
    let host = Host::new();
    host.sh("mkdir -p /srv/www; head -c 12000000 /dev/urandom >/srv/www/file").run().ok();
    let _server = host.sh("exec python3 -m http.server 8080 -d /srv/www").start();
    until("it serves", || {
        host.sh("curl -sI http://127.0.0.1:8080/").run().code.eq(&0).then_some(())
    });
    let daemon = "exec rsync --daemon --no-detach --port 8730 --config=/srv/rsyncd.conf";
    host.write("/srv/rsyncd.conf", "[www]\npath=/srv/www\nuse chroot=no\nuid=0\n");
    let _daemon = host.sh(daemon).start();
    until("it serves", || {
        host.sh("rsync rsync://127.0.0.1:8730/www/").run().code.eq(&0).then_some(())
    });
    for command in [
        "curl -s -o /srv/copy http://127.0.0.1:8080/file",
        "rsync --whole-file rsync://127.0.0.1:8730/www/file /srv/copy",
    ] {
        host.sh("rm -f /srv/copy").run().ok();
        let words = format!("limit --rate 2MB/s --direction down --format json -- {command}");
        let ran = host.garth(&words).run();
        host.sh("cmp /srv/www/file /srv/copy").run().ok();
        let figures = ran.stderr.lines().last().unwrap().to_owned();
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran}");
        let last: serde_json::Value = serde_json::from_str(&figures).unwrap();
        let (moved, seconds) = (last["moved"].as_f64().unwrap(), last["seconds"].as_f64().unwrap());
        println!("{command}: {:.2} MB/s of 2 asked", moved / seconds / 1e6);
        // The initial allowance of a connection, and an end in the middle of a period.
        assert!(moved >= 11.9e6, "{figures}");
        // A transfer need not end with its account even: its last window came all at once.
        let rate = 12e6 / seconds / 1e6;
        assert!((1.6..2.4).contains(&rate), "{command}: {rate:.2} MB/s, {figures}");
    }
}

#[test]
fn a_killed_limiter_leaves_nobody_stopped() {
    needs!(root, "python3");
    let host = Host::new();
    let (_target, pid) = target(&host, "sleep 1000 & sh -c 'sleep 1000 & wait' & wait");
    let below = |pid: &i32| -> Vec<i32> {
        let list = fs::read_to_string(host.path(&format!("/proc/{pid}/task/{pid}/children")));
        list.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let tree = || {
        let mut tree = vec![pid];
        let mut at = 0;
        while at < tree.len() {
            tree.extend(below(&tree[at]));
            at += 1;
        }
        tree
    };
    let tree = until("there are four", || Some(tree()).filter(|tree| tree.len() == 4));
    let (times, bound) = if all() { (200, 100) } else { (20, 3000) };
    let mut random = 1u64;
    let (mut slowest, mut stopped) = (Duration::ZERO, 0);
    for round in 0..times {
        let duty = if round % 2 == 0 { "--duty 5%" } else { "--duty 50%" };
        let limiter = host.garth(&format!("limit --pid {pid} {duty} --period 100ms")).start();
        let garth = limiter.pid();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // From before it has begun until its third period.
        std::thread::sleep(Duration::from_micros((random >> 33) % 300_000));
        // On a busy machine it may not have begun by then, so some are killed during a stop.
        if round % 4 == 0 {
            until_stopped(&host, pid);
        }
        stopped += usize::from(tree.iter().any(|pid| state(&host, *pid) == 'T'));
        kill("KILL", garth);
        let killed = Instant::now();
        while tree.iter().any(|pid| state(&host, *pid) == 'T') {
            assert!(
                killed.elapsed() < Duration::from_millis(bound),
                "round {round}: still stopped"
            );
        }
        slowest = slowest.max(killed.elapsed());
        // Killed before it had a watchdog, it leaves a record in which no process is stopped.
        host.garth("limit --release-all").run().ok();
        until("the record is gone", || (!host.path("/run/garth/limits").exists()).then_some(()));
        tree.iter().for_each(|pid| until_running(&host, *pid));
        drop(limiter);
    }
    println!("{times} killed, {stopped} while somebody was stopped; at most {slowest:?}");
    assert!(stopped > times / 10, "the kills met nobody stopped");
}

/// The watchdog of a limiter, as the test sees it.
fn watchdog(limiter: u32) -> u32 {
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("there is a watchdog", || {
        children(limiter).into_iter().find(|pid| name(pid).trim() == "garth-watchdog")
    })
}

#[test]
fn a_killed_watchdog_is_replaced() {
    needs!(root);
    let host = Host::new();
    let (_target, pid) = target(&host, "exec sleep 1000");
    let limiter = host.garth(&format!("limit --pid {pid} --duty 5% --period 200ms")).start();
    until_stopped(&host, pid);
    let first = watchdog(limiter.pid());
    kill("KILL", first);
    limiter.error_line("has been restarted");
    let second = watchdog(limiter.pid());
    assert_ne!(first, second);
    // It does its work.
    until_stopped(&host, pid);
    limiter.signal("KILL");
    until_running(&host, pid);
    assert_stays_running(&host, pid);
}

#[test]
fn a_target_goes_on_when_its_limiter_is_killed_and_the_record_is_lost() {
    needs!(root);
    let host = Host::new();
    let (_target, pid) = target(&host, "exec sleep 1000");
    for lost in ["/run/garth/limits", "/run/garth", "/run/garth/limits/*/record.json"] {
        let limiter = host.garth(&format!("limit --pid {pid} --duty 1% --period 10s")).start();
        watchdog(limiter.pid());
        until_stopped(&host, pid);
        host.sh(&format!("rm -r {lost}")).run().ok();
        limiter.signal("KILL");
        until_running(&host, pid);
        drop(limiter);
        host.garth("limit --release-all").run().ok();
    }
}

#[test]
fn both_killed_at_once_is_what_release_all_and_gc_are_for() {
    needs!(root);
    let host = Host::new();
    let (_target, pid) = target(&host, "exec sleep 1000");
    for (verb, said) in
        [("limit --release-all", "1 process continued"), ("gc", "1 process continued")]
    {
        let limiter = host.garth(&format!("limit --pid {pid} --duty 1% --period 10s")).start();
        let garth = limiter.pid();
        let dog = watchdog(garth);
        until_stopped(&host, pid);
        // The watchdog must not be faster than we are.
        kill("STOP", dog);
        kill("KILL", garth);
        kill("KILL", dog);
        drop(limiter);
        assert_eq!(state(&host, pid), 'T');
        let told = until("the record is free", || {
            let told = host.garth(verb).run().ok();
            told.contains("process").then_some(told)
        });
        assert!(told.contains(said), "{told}");
        until_running(&host, pid);
        assert!(!host.path("/run/garth/limits").exists());
    }
    assert_eq!(host.garth("limit --release-all").run().ok(), "nothing to release");
}

#[test]
fn a_stopped_limiter_does_not_keep_its_target_stopped() {
    needs!(root);
    let host = Host::new();
    let (_target, pid) = target(&host, "exec sleep 1000");
    let limiter = host.garth(&format!("limit --pid {pid} --duty 5% --period 200ms")).start();
    until_stopped(&host, pid);
    limiter.signal("STOP");
    until_running(&host, pid);
    assert_stays_running(&host, pid);
    limiter.signal("CONT");
    until_stopped(&host, pid);
}

/// A program whose first thread has ended looks as if it were over, and is not.
#[test]
fn a_target_goes_on_without_its_first_thread_and_is_held_all_the_same() {
    needs!(root, "python3");
    let host = Host::new();
    let script = "
import ctypes, threading, time
def work():
    print(threading.get_native_id(), flush=True)
    while True: time.sleep(0.001)
threading.Thread(target=work).start()
time.sleep(0.2)
ctypes.CDLL(None).syscall(60, 0)
";
    host.write("/srv/threads.py", script);
    let (program, pid) = target(&host, "exec python3 /srv/threads.py");
    let thread: i32 = program.line().parse().unwrap();
    until_state(&host, pid, |state| state == 'Z');
    let state = || {
        let stat = fs::read_to_string(host.path(&format!("/proc/{pid}/task/{thread}/stat")));
        stat.unwrap().rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    let limiter = host.garth(&format!("limit --pid {pid} --duty 5% --period 200ms")).start();
    until("the thread is stopped", || (state() == 'T').then_some(()));
    limiter.signal("KILL");
    until("the thread goes on", || (state() != 'T').then_some(()));
    until("the record is gone", || (!host.path("/run/garth/limits").exists()).then_some(()));
    // One that another process has stopped can be told from one that runs.
    host.sh(&format!("kill -STOP {pid}")).run().ok();
    until("the thread is stopped", || (state() == 'T').then_some(()));
    host.garth(&format!("limit --pid {pid} --duty 5%")).run().refused(125, "already stopped");
}

#[test]
fn who_was_stopped_by_somebody_else_stays_so() {
    needs!(root);
    let host = Host::new();
    let script = "sleep 1000 & echo $!; sleep 1000 & echo $!; wait";
    let (shell, pid) = target(&host, script);
    let [job, other] = [(); 2].map(|()| shell.line().parse::<i32>().unwrap());
    host.sh(&format!("kill -STOP {job}")).run().ok();
    until_stopped(&host, job);
    let limiter = host.garth(&format!("limit --pid {pid} --duty 50% --period 50ms")).start();
    until_stopped(&host, other);
    for _ in 0..200 {
        assert_eq!(state(&host, job), 'T');
        std::thread::sleep(Duration::from_millis(2));
    }
    limiter.signal("TERM");
    limiter.wait().ok();
    until_running(&host, other);
    assert_eq!(state(&host, job), 'T');
    // Nor is a target that is stopped as a whole.
    let words = format!("limit --pid {job} --duty 50%");
    host.garth(&words).run().refused(125, "already stopped");
}

#[test]
fn children_born_later_are_held_as_well_and_orphans_too() {
    needs!(root);
    let host = Host::new();
    let (shell, pid) = target(
        &host,
        "while :; do sleep 0.05; [ -e /srv/go ] && break; done
        sleep 1000 & echo $!; (sleep 1000 & echo $!); exec sleep 1000",
    );
    let limiter = host.garth(&format!("limit --pid {pid} --duty 40% --period 100ms")).start();
    until_stopped(&host, pid);
    host.write("/srv/go", "");
    let born = [(); 2].map(|()| shell.line().parse::<i32>().unwrap());
    // The second loses its parent immediately; without a session led by the target, only luck finds
    // it.
    until_stopped(&host, born[0]);
    limiter.signal("INT");
    limiter.wait().ok();
    [pid, born[0], born[1]].iter().for_each(|pid| until_running(&host, *pid));

    // Orphans of a command that we start come to us, whatever their session.
    let script = "(setsid sleep 1000 >/dev/null 2>&1 & echo $! >/srv/orphan); exec sleep 1000";
    let limiter = host.garth("limit --duty 10% --period 100ms").script(script).start();
    let orphan = until("it was born", || {
        fs::read_to_string(host.path("/srv/orphan")).ok()?.trim().parse::<i32>().ok()
    });
    until_stopped(&host, orphan);
    limiter.signal("TERM");
    assert_eq!(limiter.wait().code, -15);
    until_running(&host, orphan);
    host.sh(&format!("kill {orphan}")).run().ok();
}

#[test]
fn a_command_is_what_it_would_be_without_a_limit() {
    needs!(root);
    let host = Host::new();
    let limit = || host.garth("limit --duty 50% --period 20ms");
    let ran = limit().script("cat; echo err >&2; exit 7").input("in").run();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, "in", "err"), "{ran}");
    limit().arg("--").arg("no-such-command").run().refused(127, "no-such-command");
    assert_eq!(limit().script("kill -9 $$").run().code, -9);
    assert_eq!(limit().arg("--").arg("true").run().ok(), "");
    // Descriptors and ignored signals are passed through.
    let script = "exec 5>/srv/five; trap '' HUP; $GARTH limit --duty 50% -- \
        sh -c 'echo five >&5; kill -HUP $$; echo alive'";
    assert_eq!(host.sh(script).run().ok(), "alive");
    assert_eq!(host.read("/srv/five"), "five\n");
    // Signals are passed on, even to a command that is stopped nearly all of the time.
    let trap = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    let slow = host.garth("limit --duty 1% --period 5s").script(trap).start();
    assert_eq!(slow.line(), "ready");
    slow.signal("USR1");
    let ran = slow.wait();
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "got"), "{ran}");
    // After the requested time the command continues without a limit.
    let ran = host.garth("limit --duty 50% --for 100ms").script("sleep 0.3; echo done").run();
    assert_eq!(ran.ok(), "done");
    assert!(!host.path("/run/garth/limits").exists());
}

#[test]
fn two_limiters_do_not_share_a_target() {
    needs!(root);
    let host = Host::new();
    let (shell, pid) = target(&host, "sleep 1000 & echo $!; wait");
    let child = shell.line();
    let limiter = host.garth(&format!("limit --pid {pid} --duty 90% --period 100ms")).start();
    limiter.error_line("limiting process");
    for pid in [pid.to_string(), child.clone()] {
        let words = format!("limit --pid {pid} --rate 1MB/s");
        host.garth(&words).run().refused(125, "already limited");
    }
    limiter.signal("INT");
    limiter.wait().ok();
    let below = host.garth(&format!("limit --pid {child} --duty 90%")).start();
    below.error_line("limiting process");
    host.garth(&format!("limit --pid {pid} --duty 50%")).run().refused(125, "in the same tree");
}

#[test]
fn what_cannot_be_limited_is_refused_in_a_line() {
    needs!(root);
    let host = Host::new();
    let (_target, pid) = target(&host, "exec sleep 1000");
    let refused =
        |words: &str, text: &str| host.garth(&format!("limit {words}")).run().refused(125, text);
    for (rate, text) in [
        ("10", "missing unit"),
        ("10Mb", "bits or bytes?"),
        ("0Mbit/s", "less than one bit"),
        ("1bit/s", "not between 8kbit/s and 1Tbit/s"),
        ("50TB/s", "not between 8kbit/s and 1Tbit/s"),
        ("99999999999999TB/s", "too large"),
        ("-1MB/s", "negative"),
    ] {
        refused(&format!("--pid {pid} --rate={rate}"), text);
    }
    for (duty, text) in [
        ("0%", "never run"),
        ("100%", "never be stopped"),
        ("150%", "never be stopped"),
        ("40", "missing % sign"),
        ("x%", "not a number"),
    ] {
        refused(&format!("--pid {pid} --duty {duty}"), text);
    }
    refused(&format!("--pid {pid} --duty 50% --period 1ms"), "--period");
    refused(&format!("--pid {pid} --duty 50% --count packets"), "packets");
    refused(&format!("--pid {pid} --rate 1MB/s --count link"), "no network namespace of its own");
    refused(&format!("--pid {pid}"), "required");
    refused("--duty 50%", "required");
    refused(&format!("--pid {pid} --duty 50% --rate 1MB/s"), "cannot be used with");
    refused("--pid 0 --duty 50%", "not a process id");
    refused("--pid x --duty 50%", "not a process id");
    refused("--pid 4000000 --duty 50%", "no such process 4000000");
    refused("--pid 1 --duty 50%", "init cannot be stopped");
    refused("--name nobody --duty 50%", "nobody");

    // Ourselves, and our ancestors.
    let own = "sh -c 'exec $GARTH limit --pid $$ --duty 50%'";
    host.sh(own).run().refused(125, "cannot stop itself");
    host.sh("$GARTH limit --pid $$ --duty 50%; exit $?").run().refused(125, "is its descendant");
    // Another user's.
    let other = "exec setpriv --reuid 65534 --clear-groups $GARTH --root /tmp/none limit";
    let ran = host.sh(&format!("{other} --pid {pid} --duty 50%")).run();
    ran.refused(125, "belongs to another user");
    // One that has ended and was not reaped.
    let script = "sh -c 'exit' & sleep 0.2; $GARTH limit --pid $! --duty 50%; exit $?";
    host.sh(script).run().refused(125, "no such process");
    assert!(!host.path("/run/garth/limits").exists());
    assert_stays_running(&host, pid);
}

#[test]
fn a_thread_of_the_kernel_is_refused() {
    needs!(root);
    // Kernel threads are only visible outside the test host.
    let kthread = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path().join("stat")).ok()?;
        let flags: u64 = text.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()?;
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        (flags & 0x0020_0000 != 0).then_some(pid)
    });
    let Some(pid) = kthread else {
        return garth_tests::skip("kthreads", "a pid namespace with kernel threads");
    };
    let root = std::env::temp_dir().join(format!("garth-limit-kthread-{}", std::process::id()));
    let ran = std::process::Command::new(garth_tests::binary())
        .arg("--root")
        .arg(&root)
        .args(["limit", "--pid", &pid.to_string(), "--duty", "50%"])
        .output()
        .unwrap();
    let _ = fs::remove_dir_all(root);
    assert_eq!(ran.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("kernel thread"));
}

#[test]
fn a_cgroup_of_its_own_is_frozen_and_thawed_whatever_happens() {
    needs!(root);
    let host = Host::new();
    let make = "for top in /sys/fs/cgroup/freezer /sys/fs/cgroup/unified /sys/fs/cgroup; do
            mkdir $top/limited 2>/dev/null || continue
            [ -e $top/limited/freezer.state ] || [ -e $top/limited/cgroup.freeze ] || continue
            echo $$ >$top/limited/cgroup.procs && echo $top/limited && exec sleep 1000
        done; echo none";
    let (target, pid) = target(&host, make);
    let dir = target.line();
    if dir == "none" {
        return garth_tests::skip("freezer", "a cgroup with a freezer");
    }
    let frozen = || {
        let read = |name: &str| fs::read_to_string(host.path(&format!("{dir}/{name}")));
        let text = read("freezer.state").or_else(|_| read("cgroup.freeze")).unwrap();
        matches!(text.trim(), "FROZEN" | "FREEZING" | "1")
    };
    let start = || {
        let limiter = host.garth(&format!("limit --pid {pid} --duty 10% --period 200ms")).start();
        limiter.error_line("the freezer");
        until("it is frozen", || frozen().then_some(()));
        limiter
    };
    let limiter = start();
    limiter.signal("INT");
    let figures = limiter.wait().ok();
    assert!(figures.contains("\"hold\":\"freezer\"") && !frozen(), "{figures}");
    start().signal("KILL");
    until("it is thawed", || (!frozen()).then_some(()));
    until("the record is gone", || (!host.path("/run/garth/limits").exists()).then_some(()));
    kill("KILL", target.pid());
    drop(target);
    host.sh(&format!("rmdir {dir}; true")).run().ok();
}

#[test]
fn a_sandbox_is_limited_by_its_name_and_by_its_link() {
    needs!(root, netns);
    let host = Host::new();
    host.garth("wrap -d --name web --network private -- sleep 1000").run().ok();
    let ran = host.garth("limit --name web --rate 1MB/s --for 300ms").run();
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("bytes on the links of its network namespace"), "{ran}");
    let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["count"], &last["duty"]), (&"link".into(), &1.0.into()), "{ran}");
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_member_that_an_ordinary_user_may_not_look_into_ends_nothing() {
    needs!(root, "setpriv", "python3");
    let host = Host::new();
    host.sh(
        "install -m 4755 $(command -v sleep) /srv/sleep; install -d -o 65534 -g 65534 /srv/state",
    )
    .run()
    .ok();
    let limit = "exec setpriv --reuid 65534 --regid 65534 --clear-groups $GARTH --root /srv/state \
                 limit --rate 1MB/s";
    // Hundreds of processes end, and any of them may be examined at that moment.
    let many = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; echo finished; exit 7";
    let ran = host.sh(&format!("{limit} -- sh -c \"$SCRIPT\"")).env("SCRIPT", many).run();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (7, "finished", ""), "{ran}");
    let undumpable = "python3 -c 'import ctypes, time
ctypes.CDLL(None).prctl(4, 0)
time.sleep(0.5)
exit(3)'";
    let set_uid = "sh -c '/srv/sleep 0.5; exit 3'";
    for (count, command) in
        [("sockets", undumpable), ("io", undumpable), ("sockets", set_uid), ("io", set_uid)]
    {
        let words = format!("{limit} --count {count} --format json -- {command}");
        let ran = host.sh(&words).run();
        assert_eq!(ran.code, 3, "{ran}");
        assert!(ran.stderr.contains("is not counted"), "{ran}");
        let last = ran.stderr.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        assert!(last.contains("\"uncounted\":\"1 process of another user\""), "{ran}");
    }
    // Itself the command.
    let ran = host.sh(&format!("{limit} -- /srv/sleep 0.3")).run();
    assert_eq!(ran.code, 0, "{ran}");
    // One that is running was itself meant.
    let script = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups /srv/sleep 20 >/dev/null 2>&1 &
        sleep 0.2; {} --pid $!",
        limit.trim_start_matches("exec ")
    );
    host.sh(&script).run().refused(125, "may not inspect it");
}
