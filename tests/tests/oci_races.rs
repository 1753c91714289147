//! Concurrent verbs, on one container and on many: what only one can do, exactly one does; no
//! caller sees a state that never was, and nothing is left.
//!
//! `RACES=full` runs as many rounds as a release needs; otherwise only a few.
#![allow(clippy::unwrap_used, reason = "a test")]

use garth_tests::{Bundle, Host, Ran, needs, until};

/// `full` rounds, or `few` of them.
fn rounds(full: u32, few: u32) -> u32 {
    match std::env::var("RACES").as_deref() {
        Ok("full") => full,
        Ok(text) => text.parse().expect("RACES is `full` or a number"),
        Err(_) => few,
    }
}

/// Runs the words `N` times in parallel, and prints one line with every exit code, then all the
/// output.
fn at_once(count: u32, words: &str) -> String {
    format!(
        "rm -f $B/said.*
        for n in $(seq {count}); do
            {{ {words}; echo code $?; }} </dev/null >$B/said.$n 2>&1 &
        done
        wait
        cat $B/said.*"
    )
}

fn count(ran: &Ran, text: &str) -> usize {
    ran.stdout.lines().filter(|line| *line == text).count()
}

/// The messages of those that did not win: each of these is a valid answer, nothing else is.
#[track_caller]
fn assert_said(ran: &Ran, known: &[&str]) {
    for line in ran.stdout.lines().filter(|line| !line.starts_with("code ")) {
        assert!(known.iter().any(|known| line.contains(known)), "{line:?} in {ran}");
    }
}

#[test]
fn of_24_creates_of_one_name_one_wins() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    for round in 0..rounds(100, 15) {
        let ran = bundle.sh(&at_once(24, "$R create --bundle $B $ID")).run();
        assert_eq!((count(&ran, "code 0"), count(&ran, "code 1")), (1, 23), "round {round}: {ran}");
        assert_said(&ran, &["already exists"]);
        assert_eq!(bundle.status(), "created", "round {round}");
        bundle.delete_force().ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn of_8_creates_in_one_cgroup_one_wins() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    for round in 0..rounds(200, 25) {
        // In every other round, its directory already exists.
        if round % 2 == 1 {
            host.sh("for tree in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do
                    mkdir -p $tree/box0
                done")
                .run()
                .ok();
        }
        let ran = bundle.sh(&at_once(8, "$R create --bundle $B $ID-$n")).run();
        assert_eq!((count(&ran, "code 0"), count(&ran, "code 1")), (1, 7), "round {round}: {ran}");
        assert_said(
            &ran,
            &["container's cgroup is not empty", "is being claimed by another container"],
        );
        let winner = bundle.sh("$R list --quiet").run().ok();
        bundle.call(&format!("start {winner}")).run().ok();
        let lives = bundle.call(&format!("exec {winner} echo lives")).run().ok();
        assert_eq!(lives, "lives", "round {round}");
        bundle.call(&format!("delete --force {winner}")).run().ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn forty_runs_at_once_all_run() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.script("echo it runs");
    let (mut ran, rounds) = (0, rounds(20, 3));
    for round in 0..rounds {
        let all = bundle.sh(&at_once(40, "$R run --bundle $B $ID-$n")).run();
        let fine = count(&all, "it runs").min(count(&all, "code 0"));
        assert_eq!(fine, 40, "round {round}: {all}");
        ran += fine;
        bundle.assert_nothing_left();
    }
    println!("{ran} of {} ran", 40 * rounds);
}

#[test]
fn of_eight_starts_one_wins() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for round in 0..rounds(100, 10) {
        bundle.script("echo once; exec sleep 600").create().ok();
        let ran = bundle.sh(&at_once(8, "$R start $ID")).run();
        assert_eq!((count(&ran, "code 0"), count(&ran, "code 1")), (1, 7), "round {round}: {ran}");
        assert_said(&ran, &["cannot start"]);
        assert_eq!(bundle.status(), "running", "round {round}");
        until("it has written", || (!bundle.output().is_empty()).then_some(()));
        assert_eq!(bundle.output(), "once", "round {round}");
        bundle.delete_force().ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn deletes_at_once_leave_nothing_and_say_so() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for round in 0..rounds(100, 10) {
        bundle.sleeping();
        let ran = bundle.sh(&at_once(8, "$R delete --force $ID")).run();
        assert_eq!(count(&ran, "code 0"), 8, "round {round}: {ran}");
        bundle.assert_nothing_left();

        bundle.script("true").create().ok();
        let ran = bundle.sh(&at_once(8, "$R delete $ID")).run();
        assert_eq!((count(&ran, "code 0"), count(&ran, "code 1")), (1, 7), "round {round}: {ran}");
        assert_said(&ran, &["does not exist"]);
        bundle.assert_nothing_left();
    }
}

#[test]
fn execs_beside_a_delete_end_one_way_or_the_other() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for round in 0..rounds(100, 10) {
        bundle.sleeping();
        let script = at_once(
            12,
            "if [ $n = 6 ]; then $R delete --force $ID || echo DELETE; else \
                $R exec $ID sh -c 'hostname' || true; fi",
        );
        let ran = bundle.sh(&script).run();
        assert!(!ran.stdout.contains("DELETE"), "round {round}: {ran}");
        assert!(!ran.stdout.contains("panicked"), "round {round}: {ran}");
        // Those that joined in time were in the container, and the others were nowhere.
        let hostname = host.sh("hostname").run().ok();
        assert_ne!(hostname, "box");
        assert_eq!(count(&ran, &hostname), 0, "round {round}: outside: {ran}");
        bundle.assert_nothing_left();
    }
}

/// The namespaces to join are read from /proc/PID/ns. If the container ends in between, there is
/// nothing to read, and a program that joins nothing would run outside.
#[test]
fn an_exec_whose_container_ends_while_it_looks_is_not_run_outside() {
    needs!(root, "strace");
    let host = Host::new();
    for kind in ["user", "mnt", "pid"] {
        let mut bundle = Bundle::new(&host);
        bundle.sleeping();
        let pid = bundle.pid();
        let script = format!(
            "strace -f -o $B/trace -P /proc/{pid}/ns/{kind} \
                -e inject=readlink,readlinkat:delay_enter=700000:when=1 \
                $R exec $ID /bin/sh -c 'echo outside of $(hostname)' & e=$!
            until grep -q readlink $B/trace 2>/dev/null; do sleep 0.01; done
            kill -9 {pid}
            wait $e; echo code $?"
        );
        let ran = bundle.sh(&script).run();
        assert!(!ran.stdout.contains("outside"), "{kind}: {ran}");
        assert!(ran.stdout.contains("code 255"), "{kind}: {ran}");
        assert!(ran.stderr.contains("stopped"), "{kind}: {ran}");
        bundle.delete_force().ok();
    }
}

#[test]
fn a_kill_beside_the_end_hits_or_says_that_there_is_nobody() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    for round in 0..rounds(100, 10) {
        bundle.script("usleep 20000").detach().ok();
        let ran = bundle.sh(&at_once(12, "$R kill $ID KILL")).run();
        assert_eq!(count(&ran, "code 0") + count(&ran, "code 1"), 12, "round {round}: {ran}");
        assert_said(&ran, &["not running", "already finished"]);
        bundle.until("stopped");
        bundle.delete().ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn who_lists_beside_creates_and_deletes_sees_whole_containers() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.script("exec sleep 600");
    let churn = rounds(60, 8);
    let script = format!(
        "for n in 1 2 3; do
            ( for i in $(seq {churn}); do
                $R create --bundle $B $ID-$n && $R start $ID-$n && $R delete --force $ID-$n \
                    || echo FAILED
            done ) </dev/null >$B/churn.$n 2>&1 &
            churns=\"$churns $!\"
        done
        ( while [ ! -e $B/end ]; do
            $R list --format json >$B/list 2>$B/list.err || echo LIST $?
            cat $B/list.err
            for n in 1 2 3; do
                $R state $ID-$n >$B/state 2>$B/state.err || grep -v 'does not exist' $B/state.err
            done
            tr -d ' \\n' <$B/list
            echo
        done ) >$B/seen 2>&1 & seen=$!
        wait $churns
        touch $B/end
        wait
        cat $B/churn.*"
    );
    let ran = bundle.sh(&script).run();
    assert_eq!(ran.stdout, "", "{ran}");
    let seen = host.read(&bundle.dir("seen"));
    let mut lists = 0;
    for line in seen.lines() {
        if line == "null" || line == "[]" {
            continue;
        }
        assert!(line.starts_with("[{"), "{line}");
        let list = garth_tests::parsed(line);
        for container in list.as_array().unwrap() {
            lists += 1;
            let status = container["status"].as_str().unwrap();
            let known = ["creating", "created", "running", "stopped"].contains(&status);
            assert!(known, "{container}");
            let pid = container["pid"].as_u64().unwrap();
            assert!(pid > 0 || ["stopped", "creating"].contains(&status), "{container}");
        }
    }
    println!("{lists} containers were seen");
    bundle.assert_nothing_left();
}
