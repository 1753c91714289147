//! Killed at any point, Garth leaves nothing behind that `garth gc` does not find.
//!
//! With strace's `-f`, the child that becomes the command is killed too; then a Garth that outlives
//! its child has to clean up.
//!
//! `KILLPOINTS=all` takes every point, a number takes that many; the default is 16.

use garth_tests::{CHANGES, Host, Point, Ran, Running, Tally, needs, points, sample, until};

/// Its mark, if it stays, is a file below the state root.
const PLUGIN: &str = r#"#!/bin/sh
case $(cat) in
*'"verb":"add"'*) mkdir -p /run/garth/marks && : >/run/garth/marks/mark ;;
*'"verb":"del"'*) rm -f /run/garth/marks/mark ;;
esac
"#;

/// `-f` or nothing, and garth's words.
fn strace(host: &Host, follow: &str, options: &str, words: &str) -> Running {
    let call = host.sh(&format!("exec strace {follow} {options} $GARTH {words}"));
    call.env("GARTH_PLUGIN_PATH", "/srv/plugins").start()
}

/// Killed at `point`. `strace -f` waits for every process started, and the holder of the firewall's
/// table may have lost the process that would have ended it: it lives until `garth gc`.
fn killed_at(host: &Host, follow: &str, point: &Point, words: &str) -> Ran {
    let mut running = strace(host, follow, &point.strace("/srv/trace"), words);
    until(&format!("strace of a kill at {point} ends"), || {
        if !running.has_ended() && host.read("/srv/trace").contains("+++ killed by SIGKILL") {
            host.garth("gc").run().ok();
        }
        running.has_ended().then_some(())
    });
    running.wait()
}

/// The points of a command.
fn points_of(host: &Host, follow: &str, words: &str) -> Vec<Point> {
    strace(host, follow, &format!("-o /srv/trace -e trace={CHANGES}"), words).wait().ok();
    host.assert_nothing_left();
    sample(&points(&host.read("/srv/trace"), !follow.is_empty()), 16)
}

fn survives(follow: &str, words: &str) {
    let host = Host::with_neighbour();
    host.write("/srv/plugins/mark", PLUGIN);
    host.sh("chmod 755 /srv/plugins /srv/plugins/mark").run().ok();
    let points = points_of(&host, follow, words);
    let mut tally = Tally::default();
    for point in points {
        let killed = killed_at(&host, follow, &point, words);
        let reached = point.was_reached(|| host.read("/srv/trace"), !follow.is_empty());
        tally.count(&point, reached);
        let point = format!("{point}, exit code {}", killed.code);
        host.collect(&format!("after a kill at {point}"));
        // And everything can be used again.
        let again = host.garth(words).env("GARTH_PLUGIN_PATH", "/srv/plugins").run();
        assert_eq!(again.code, 0, "again after a kill at {point}: {again}");
        host.assert_nothing_left();
    }
    tally.finish(&format!("{follow} {words}"));
}

const WRAP: &str = "wrap -p 8080:80 -p [::1]:8081:81/udp --memory 64m --pids-limit 64 -- true";
const WITH_PLUGIN: &str = "wrap --plugin mark --memory 64m -- true";
const RATED: &str = "wrap --network private --rate up=10Mbit/s,down=2MB/s -- true";
const GROUPED: &str =
    "wrap --network private --rate-group all:up=10Mbit/s,down=2MB/s,share=2 -- true";
const DETACHED: &str = "wrap -d --name web -p 8080:80 --pids-limit 64 -- true";

#[test]
fn garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace", cgroups);
    survives("", WRAP);
}

#[test]
fn any_process_of_a_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace", cgroups);
    survives("-f", WRAP);
}

#[test]
fn a_detaching_garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace", cgroups);
    survives("", DETACHED);
}

#[test]
fn any_process_of_a_detached_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace", cgroups);
    survives("-f", DETACHED);
}

#[test]
fn garth_may_be_killed_at_any_point_beside_a_plugin() {
    needs!(root, "strace", cgroups);
    survives("", WITH_PLUGIN);
}

#[test]
fn any_process_may_be_killed_at_any_point_the_plugins_too() {
    needs!(root, "strace", cgroups);
    survives("-f", WITH_PLUGIN);
}

#[test]
fn a_garth_that_keeps_a_rate_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", RATED);
}

#[test]
fn the_first_and_last_of_a_rate_group_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", GROUPED);
}

#[test]
fn an_update_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    let host = Host::with_neighbour();
    let start = || {
        host.garth("wrap -d --name web --network private -- sleep 1000").run().ok();
    };
    start();
    const UPDATE: &str = "update web --rate up=10Mbit/s,down=2MB/s";
    strace(&host, "", &format!("-o /srv/trace -e trace={CHANGES}"), UPDATE).wait().ok();
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
    let mut tally = Tally::default();
    for point in sample(&points(&host.read("/srv/trace"), false), 16) {
        start();
        strace(&host, "", &point.strace("/srv/trace"), UPDATE).wait();
        tally.count(&point, point.was_reached(|| host.read("/srv/trace"), false));
        // What was begun can be finished, and what was left behind can be released.
        host.garth("update web --rate up=1Mbit/s").run().ok();
        assert!(host.garth("ps").run().ok().contains("up=1Mbit/s"), "after a kill at {point}");
        host.garth("delete --force web").run().ok();
        host.assert_nothing_left();
    }
    tally.finish(UPDATE);
}
