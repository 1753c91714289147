//! Killed at any point, Garth leaves nothing that `garth gc` does not find.
//!
//! With strace's `-f` the child that becomes the command is killed too; there a Garth that survives
//! its child has to clean up.
//!
//! `KILLPOINTS=all` takes every point, a number takes so many; the default is 16.

use garth_tests::{CHANGES, Point, Ran, Tally, Yard, needs, points, sample};

/// `-f` or nothing, and garth's words.
fn strace(yard: &Yard, follow: &str, options: &str, words: &str) -> Ran {
    yard.sh(&format!("exec strace {follow} {options} $GARTH {words}")).run()
}

/// The points of a command.
fn points_of(yard: &Yard, follow: &str, words: &str) -> Vec<Point> {
    strace(yard, follow, &format!("-o /srv/trace -e trace={CHANGES}"), words).ok();
    yard.assert_nothing_left();
    sample(&points(&yard.read("/srv/trace"), !follow.is_empty()), 16)
}

fn survives(follow: &str, words: &str) {
    let yard = Yard::with_neighbour();
    let points = points_of(&yard, follow, words);
    let mut tally = Tally::default();
    for point in points {
        let killed = strace(&yard, follow, &point.strace("/srv/trace"), words);
        let reached = point.was_reached(|| yard.read("/srv/trace"), !follow.is_empty());
        tally.count(&point, reached);
        let point = format!("{point}, exit code {}", killed.code);
        // The first may come while the kernel still ends the sandbox, or a keeper cleans up too.
        for _ in 0..20 {
            let gc = yard.garth("gc").run();
            assert_eq!(gc.code, 0, "gc after a kill at {point}: {gc}");
            if yard.left().is_empty() {
                break;
            }
        }
        yard.assert_nothing_left();
        // And all can be had again.
        let again = yard.garth(words).run();
        assert_eq!(again.code, 0, "again after a kill at {point}: {again}");
        yard.assert_nothing_left();
    }
    tally.finish(&format!("{follow} {words}"));
}

const WRAP: &str = "wrap -p 8080:80 -p [::1]:8081:81/udp --memory 64m --pids-limit 64 -- true";
const DETACHED: &str = "wrap -d --name web -p 8080:80 --pids-limit 64 -- true";

#[test]
fn garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", WRAP);
}

#[test]
fn any_process_of_a_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("-f", WRAP);
}

#[test]
fn a_detaching_garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", DETACHED);
}

#[test]
fn any_process_of_a_detached_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("-f", DETACHED);
}
