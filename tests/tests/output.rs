//! Output: on one readable line, with no terminal control sequences, and an error if it cannot be
//! written.

use garth_tests::{Host, needs};

#[test]
fn output_that_cannot_be_written_is_an_error_of_every_verb() {
    needs!(root);
    let host = Host::new();
    host.sh("$GARTH wrap -d --name box -- sleep 1000").run().ok();
    for (verb, code) in [
        ("ps", 125),
        ("ps --json", 125),
        ("ps --quiet", 125),
        ("check --json box", 125),
        ("gc", 125),
        ("doctor", 125),
        ("limit --release-all", 125),
        ("explain wrap -- true", 125),
        ("explain wrap --json -- true", 125),
        ("wrap -d --name other -- true", 125),
        ("--help", 125),
        ("wrap --help", 125),
        ("--version", 125),
        ("completions bash", 125),
        ("man /tmp/pages", 125),
        ("list", 1),
        ("list --format json", 1),
        ("features", 1),
    ] {
        let ran = host.sh(&format!("$GARTH {verb} >/dev/full")).run();
        // The doctor has something to say about most machines.
        let right = ran.code == code || (verb == "doctor" && ran.code != 0);
        assert!(right, "{verb}: {ran}");
        assert!(ran.stderr.contains("write to standard output: ENOSPC"), "{verb}: {ran}");
    }
    // A reader that only wants the beginning has got it.
    host.sh("$GARTH doctor | true; $GARTH --help | head -n 1").run().ok();
}

#[test]
fn many_ports_are_one_readable_line() {
    needs!(root, netns);
    let host = Host::with_neighbour();
    let ports = "-p 0.0.0.0:10000-13999:10000-13999/udp -p 127.0.0.1:8080:80";
    let start = format!("ulimit -n 20000; $GARTH wrap -d --name media {ports} -- sleep 1000");
    host.sh(&start).run().ok();
    let table = host.garth("ps").run().ok();
    assert!(table.contains(" 0.0.0.0:10000-13999:10000-13999/udp 127.0.0.1:8080:80 "), "{table}");
    assert!(table.lines().all(|line| line.len() < 250), "{table}");
    host.garth("delete --force media").run().ok();
    host.assert_nothing_left();
}

#[test]
fn names_and_commands_do_not_steer_the_terminal() {
    needs!(root);
    let host = Host::new();
    let steers = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    host.garth("wrap -d --name box -- sh -c").arg("sleep 1000 # \x1b]0;owned\x07").run().ok();
    for words in
        ["ps", "explain wrap -w /tmp/\x1b[2J -- ls \x1b[31m", "explain wrap --rootfs /\x1b[2J -- x"]
    {
        let ran = host.garth(words).run();
        assert!(!steers(&ran.stdout) && !steers(&ran.stderr), "{words}: {:?}", ran.stdout);
    }
    for words in ["wrap --user \x1b[31mme -- true", "kill no\x1b[2J", "wrap -- /no\x1b[2J/such"] {
        let ran = host.garth(words).run();
        assert!(ran.code != 0 && !steers(&ran.stderr), "{words}: {:?}", ran.stderr);
        assert!(ran.stderr.contains("\\u{1b}") || ran.stderr.contains("\\x1b"), "{:?}", ran.stderr);
    }
    host.garth("delete --force box").run().ok();
}
