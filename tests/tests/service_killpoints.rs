//! `garth up` and `garth down`, and the keepers that they start and end, killed at any point: what is
//! left is taken up or ended by the next `up` or `down`, and then nothing is left.
//!
//! `KILLPOINTS=all` takes every point, a number takes that many; the default is 16.

use garth_tests::{CHANGES, Host, Running, Tally, needs, points, sample, until};

const FILE: &str = r#"
[service.db]
command = ["sleep", "1000"]
volume = "data:/data"
health = { command = ["true"], interval = "50ms" }

[service.web]
command = ["sh", "-c", "echo up; exec sleep 1000"]
after = ["db"]
publish = "8080:80"
memory = "64m"

[service.bad]
command = ["sh", "-c", "sleep 0.1; exit 1"]
restart = "on-failure:1"
"#;

/// With strace's `-f` every process is followed: the threads of `up`, keepers, checks, sandboxes.
fn strace(host: &Host, options: &str, script: &str) -> Running {
    host.sh(&format!("exec strace -f {options} sh -c '{script}'")).start()
}

/// The volumes, which nothing removes but this.
fn volumes(host: &Host) -> String {
    host.sh("cd /var/lib/garth && ls -A volumes && rm -r volumes").run().ok()
}

fn survives(script: &str) {
    let host = Host::with_services();
    host.write("/srv/garth.toml", FILE);
    let traced = strace(&host, &format!("-o /srv/trace -e trace={CHANGES}"), script);
    traced.wait();
    assert_eq!(volumes(&host), "data");
    host.assert_nothing_left();
    let points = sample(&points(&host.read("/srv/trace"), true), 16);
    let mut tally = Tally::default();
    for point in points {
        let mut running = strace(&host, &point.strace("/srv/trace"), script);
        // A service whose keeper was killed runs on, and strace with it.
        until(&format!("strace of a kill at {point} ends"), || {
            if !running.has_ended() && host.read("/srv/trace").contains("+++ killed by SIGKILL") {
                host.garth("down --all").run();
                host.garth("gc").run();
            }
            running.has_ended().then_some(())
        });
        running.wait();
        tally.count(&point, point.was_reached(|| host.read("/srv/trace"), true));
        // The next `up` goes on from whatever is there, and `down` ends it.
        let up = host.garth("up -f /srv/garth.toml db web").run();
        assert_eq!(up.code, 0, "up after a kill at {point}: {up}");
        let down = host.garth("down --all").run();
        assert_eq!(down.code, 0, "down after a kill at {point}: {down}");
        assert_eq!(volumes(&host), "data", "after a kill at {point}");
        host.collect(&format!("after a kill at {point}"));
    }
    tally.finish(script);
}

#[test]
fn any_process_of_up_and_down_may_be_killed_at_any_point() {
    needs!(root, netns, "strace", cgroups);
    survives("$GARTH up -f /srv/garth.toml; $GARTH down --all");
}
