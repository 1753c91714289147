//! The output of services in the journal of a systemd-journald, which runs in the test's host alone.

use garth_tests::{Host, Running, needs, until};

const FILE: &str = "/srv/garth.toml";
const JOURNALD: &str = "/lib/systemd/systemd-journald";

fn service(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('$', "$$");
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\n{more}\n")
}

fn host(file: &str) -> Host {
    let host = Host::with_services();
    host.write(FILE, file);
    host
}

/// A journald that keeps all in memory, and leaves the kernel's log and its auditing alone.
fn journald(host: &Host) -> Running {
    let config = "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\n";
    host.sh("mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log/journal")
        .run()
        .ok();
    host.write("/run/systemd/journald.conf.d/test.conf", config);
    let journald = host.sh(&format!("exec {JOURNALD}")).start();
    until("journald listens", || {
        let there = host.sh("echo ready | systemd-cat -t ready && journalctl --sync && journalctl -q -t ready -o cat").run();
        there.stdout.contains("ready").then_some(())
    });
    journald
}

/// Ends it; then nothing may be left of the services.
fn end(host: &Host, mut journald: Running) {
    journald.signal("TERM");
    until("journald is gone", || journald.has_ended().then_some(()));
    host.assert_nothing_left();
}

fn until_state(host: &Host, name: &str, state: &str) {
    until(&format!("{name} is {state}"), || {
        let shown = host.garth("ps").run().ok();
        let line = shown.lines().find(|line| line.starts_with(name))?;
        line.contains(state).then_some(())
    });
}

#[test]
fn what_a_service_writes_is_in_the_journal_complete_and_in_order() {
    needs!(root, "/lib/systemd/systemd-journald", "journalctl");
    let talk = "seq -f 'line %.0f' 1 50000 & seq -f 'bad %.0f' 1 20000 >&2; wait; exit 1";
    let host = host(&service("web", talk, "restart = \"on-failure:1\""));
    let journald = journald(&host);
    // Another's, of the same name and before it.
    host.sh("echo old | systemd-cat -t web; sleep 1.1").run().ok();
    host.garth(&format!("up -d -f {FILE}")).run().ok();
    let follow = host.sh("$GARTH logs -f web > /srv/followed; echo followed").start();
    until_state(&host, "web", "failed");
    assert_eq!(follow.wait().ok(), "followed");
    host.sh("$GARTH logs web > /srv/read").run().ok();
    let once = "seq -f 'line %.0f' 1 50000; seq -f 'bad %.0f' 1 20000";
    for read in ["/srv/read", "/srv/followed"] {
        for (stream, lines) in [("line", "50000"), ("bad", "20000")] {
            let wanted = format!("for run in 1 2; do seq -f '{stream} %.0f' 1 {lines}; done");
            let same =
                format!("({wanted}) > /srv/wanted; grep ^{stream} {read} | cmp - /srv/wanted");
            host.sh(&same).run().ok();
        }
        assert_eq!(host.sh(&format!("wc -l < {read}")).run().ok(), "140000", "{read}: {once}");
    }
    // As the journal's own tool shows it, and the streams told apart.
    assert_eq!(host.sh("journalctl -q -t web -p err -o cat | grep -c bad").run().ok(), "40000");
    assert_eq!(host.sh("journalctl -q -t web -p 6..6 -o cat | grep -vc line").run().stdout, "1");
    assert_eq!(host.sh("ls /var/lib/garth/services/web | grep ^log").run().stdout, "");
    // Like those of files.
    host.sh("$GARTH logs -n 3 web > /srv/last; tail -n 3 /srv/read | cmp - /srv/last").run().ok();
    assert_eq!(host.garth("logs --since 1h -n 2 web").run().ok().lines().count(), 2);
    assert_eq!(host.garth("logs --since 2100-01-01T00:00:00Z web").run().ok(), "");
    let line = host.garth("logs -t -n 1 web").run().ok();
    assert!(line.starts_with("20") && line.contains("Z "), "{line}");
    host.garth(&format!("down -f {FILE}")).run().ok();
    end(&host, journald);
}

#[test]
fn lines_of_any_length_and_content_come_back_from_the_journal() {
    needs!(root, "/lib/systemd/systemd-journald", "journalctl");
    let talk = r"printf 'a\0b\n  in  \n<3>x\n'; head -c 200000 /dev/zero | tr '\0' y; echo .; printf begun; /bin/echo ' ended'; printf open; echo now >&2; exec sleep 1000";
    let host =
        host(&[service("odd", talk, ""), service("files", talk, "log = \"files\"")].concat());
    let journald = journald(&host);
    host.garth(&format!("up -f {FILE}")).run().ok();
    host.garth("kill odd").run().ok();
    host.garth("kill files").run().ok();
    until_state(&host, "odd", "failed");
    until_state(&host, "files", "failed");
    for name in ["odd", "files"] {
        let wanted = r"(printf 'a\0b\n  in\n<3>x\n'; head -c 200000 /dev/zero | tr '\0' y; printf '.\nbegun ended\nopen\nnow\n') | sort > /srv/wanted";
        // The journal keeps no spaces at the end of a line.
        let read = format!(
            "{wanted}; $GARTH logs {name} > /srv/{name}; sed 's/ *$//' /srv/{name} | sort | cmp - /srv/wanted"
        );
        host.sh(&read).run().ok();
    }
    assert_eq!(host.sh("ls /var/lib/garth/services/files | grep -c ^log").run().ok(), "1");
    host.garth(&format!("down -f {FILE}")).run().ok();
    end(&host, journald);
}

#[test]
fn a_journald_that_is_gone_is_no_reason_to_lose_lines_of_the_next_start() {
    needs!(root, "/lib/systemd/systemd-journald", "journalctl");
    let talk = "echo first; until [ -e /srv/go ]; do sleep 0.05; done; echo more; exit 1";
    let host = host(&service("web", talk, "restart = \"always\""));
    let mut first = journald(&host);
    host.garth(&format!("up -f {FILE}")).run().ok();
    first.signal("TERM");
    until("journald is gone", || first.has_ended().then_some(()));
    // Nobody reads: the write fails, and ends the service. Then there are files.
    host.sh("touch /srv/go").run().ok();
    until("there are files", || {
        let more = host.sh("grep -h more /var/lib/garth/services/web/log").run();
        more.stdout.contains("more").then_some(())
    });
    host.sh("rm /srv/go").run().ok();
    // Its words before that are in the journal, and are shown too.
    let text = until("both are read", || {
        let text = host.garth("logs web").run();
        (text.code == 0).then_some(text.stdout)
    });
    assert!(text.starts_with("first\n") && text.contains("more"), "{text}");
    host.garth(&format!("down -f {FILE}")).run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_journal_that_cannot_be_had_is_an_error_with_its_line() {
    needs!(root, "/lib/systemd/systemd-journald", "journalctl", "setpriv", userns);
    let host = host(&service("web", "exec sleep 1000", "log = \"journal\""));
    let up = format!("up -f {FILE}");
    host.garth(&up).run().refused(125, "garth.toml:3: service web: the journal cannot be its log");
    let journald = journald(&host);
    let terminal = service("web", "exec sleep 1000", "log = \"journal\"\ntty = true");
    host.write("/srv/terminal.toml", &terminal);
    host.garth("up -f /srv/terminal.toml").run().refused(125, "to a terminal is read from there");
    // A user may not be able to read what was written there.
    // setpriv itself may still enter the directory of the program, which may be root's home.
    let user = "env HOME=/nowhere setpriv --reuid 65534 --regid 65534 --clear-groups --";
    let of_user = host.sh(&format!("{user} $GARTH up -f {FILE}")).run();
    assert!(of_user.stderr.contains("users cannot always read"), "{of_user}");
    // Those who did not ask for it have files.
    host.write("/srv/auto.toml", &service("auto", "echo words; exec sleep 1000", "tty = true"));
    for file in [FILE, "/srv/auto.toml"] {
        host.garth(&format!("up -f {file}")).run().ok();
    }
    assert_eq!(host.garth("logs auto").run().ok(), "words");
    assert_eq!(host.sh("ls /var/lib/garth/services/*/journal.json").run().ok().lines().count(), 1);
    for file in [FILE, "/srv/auto.toml"] {
        host.garth(&format!("down -f {file}")).run().ok();
    }
    end(&host, journald);
}

#[test]
fn a_log_in_the_journal_outlives_a_keeper_that_is_killed() {
    needs!(root, "/lib/systemd/systemd-journald", "journalctl");
    let talk = "trap 'echo told; exit 1' TERM; echo up; while :; do sleep 0.05; done";
    let host = host(&service("web", talk, "restart = \"on-failure:1\""));
    let journald = journald(&host);
    host.garth(&format!("up -f {FILE}")).run().ok();
    let process = "/var/lib/garth/services/web/process";
    let pid = host.sh(&format!("readlink {process} | cut -d' ' -f1")).run().ok();
    host.sh(&format!("kill -9 {pid}; sleep 0.2; $GARTH up -f {FILE}")).run().ok();
    host.garth("kill web").run().ok();
    until("it was started again", || {
        (host.garth("logs web").run().ok() == "up\ntold\nup").then_some(())
    });
    host.garth(&format!("down -f {FILE}")).run().ok();
    end(&host, journald);
}
