//! `garth stats`, `top` and `metrics`: what they say is what the kernel counts.

#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use garth_tests::{Bundle, Host, needs, parsed, until};
use serde_json::Value;

/// The sandbox or container of this name, as `garth stats --json` has it.
fn stats(host: &Host, options: &str, name: &str) -> Value {
    let look = parsed(&host.garth(&format!("stats --json {options}")).run().ok());
    let samples = look["samples"].as_array().unwrap();
    let found = samples.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {look}")).clone()
}

/// Bytes and packets that the host's end of the only link has received, and sent.
const COUNTERS: &str = "sed -n 's/^ *garth0[^:]*: *//p' /proc/net/dev | while read b p e d f r c m B P x; \
    do printf '%s\\n' $b $p $B $P; done";

#[test]
fn network_counters_are_the_kernels_to_the_byte_and_layers_follow_by_arithmetic() {
    needs!(root, netns, "python3");
    let host = Host::with_neighbour();
    host.garth(
        "wrap -d --name web -p 0.0.0.0:8080:8080 -- python3 -m http.server 8080 -d /usr/share",
    )
    .run()
    .ok();
    until("it answers", || {
        (host.neighbour("curl -sf http://192.0.2.1:8080/ >/dev/null").run().code == 0).then_some(())
    });
    let download =
        "for i in 1 2 3; do curl -sf http://192.0.2.1:8080/common-licenses/GPL-3 | wc -c; done";
    let sizes = host.neighbour(download).run().ok();
    let payload: u64 = sizes.lines().map(|line| line.parse::<u64>().unwrap()).sum();
    // The link is quiet when its counters stay.
    let (sample, link) = until("a quiet link", || {
        let counters = || host.sh(COUNTERS).run().ok();
        let before = counters();
        let sample = stats(&host, "-i 50ms", "web");
        (counters() == before).then_some((sample, before))
    });
    let link: Vec<u64> = link.lines().map(|line| line.parse().unwrap()).collect();
    let network = &sample["network"];
    // What the host's end receives, the sandbox has sent.
    let seen = [
        &network["up"]["bytes"],
        &network["up"]["packets"],
        &network["down"]["bytes"],
        &network["down"]["packets"],
    ];
    assert_eq!(seen.map(|n| n.as_u64().unwrap()), link[..4]);
    // Headers of 66 bytes for each packet of TCP with timestamps; of trains, once.
    assert!(link[0] > payload && link[0] < payload + 100 * link[1] + 10_000, "{link:?} {payload}");

    // While it sends: frames, and the same without and with what is around them.
    let load = host
        .neighbour(
            "while :; do curl -sf http://192.0.2.1:8080/common-licenses/GPL-3 >/dev/null; done",
        )
        .start();
    let follow = |layer: &str| {
        let words = format!("stats --json -i 500ms --layer {layer} web");
        let look = parsed(&host.garth(&words).run().ok());
        assert_eq!(look["layer"], layer);
        assert!(look["definition"].as_str().unwrap().starts_with(layer), "{look}");
        look["samples"][0]["now"]["up"].as_f64().unwrap()
    };
    for layer in ["ip", "frame", "wire"] {
        assert!(follow(layer) > 10_000.0, "{layer}");
    }
    drop(load);
    host.garth("delete --force web").run().ok();
}

#[test]
fn payload_is_what_the_client_has_counted_of_connections_open_for_an_instant_too() {
    needs!(root, netns, "python3");
    let host = Host::with_neighbour();
    let serve = "python3 -m http.server 8080 -d /usr/share";
    host.garth(&format!("wrap -d --name web -p 0.0.0.0:8080:8080 -- {serve}")).run().ok();
    let url = "http://192.0.2.1:8080/common-licenses/GPL-3";
    until("it answers", || {
        (host.neighbour(&format!("curl -sf {url} >/dev/null")).run().code == 0).then_some(())
    });
    let watch = host.garth("stats -f --json -i 200ms --layer payload web").start();
    let payload = |look: &Value| {
        let moved = &look["samples"][0]["payload"];
        [&moved["up"], &moved["down"]].map(|bytes| bytes.as_u64().unwrap())
    };
    let first = payload(&parsed(&watch.line()));
    let inside = format!(
        "for i in 1 2 3; do curl -sf -o /dev/null {url} -w ' \
        %{{size_header}} %{{size_download}} %{{size_request}}'; done"
    );
    let sizes = host.neighbour(&inside).run().ok();
    let sizes: Vec<u64> = sizes.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let sum = |columns: &[usize]| -> u64 {
        sizes.chunks(3).map(|one| columns.iter().map(|at| one[*at]).sum::<u64>()).sum()
    };
    let expected = [sum(&[0, 1]), sum(&[2])];
    // The end of a connection counts as a byte of it.
    let near = |moved: u64, expected: u64| moved >= expected && moved <= expected + 3;
    let mut bits = 0.0;
    until("all is counted", || {
        let look = parsed(&watch.line());
        let now = &look["samples"][0]["now"];
        bits += now["up"].as_f64().unwrap() * now["seconds"].as_f64().unwrap();
        let moved = payload(&look);
        (near(moved[0] - first[0], expected[0]) && near(moved[1] - first[1], expected[1]))
            .then_some(())
    });
    assert!(near((bits / 8.0).round() as u64, expected[0]), "{bits} {expected:?}");
    host.garth("delete --force web").run().ok();
}

#[test]
fn processors_and_what_holds_them_are_told_with_and_without_a_cgroup() {
    needs!(root, cgroups);
    let host = Host::new();
    let spin = "sh -c 'while :; do :; done'";
    host.sh(&format!("$GARTH wrap -d --name free -- {spin}")).run().ok();
    host.sh(&format!("$GARTH wrap -d --name held --memory 64m --pids-limit 9 -- {spin}"))
        .run()
        .ok();
    let limit = host.garth("limit --name held --duty 25%").start();
    limit.error_line("limiting");
    let hold = until("the limiter has worked for two seconds", || {
        let sample = stats(&host, "-i 1s", "held");
        let of = sample["holds"]["limit"]["of"].as_u64()?;
        (of > 2_000_000_000).then_some(sample)
    });
    let held = hold["now"]["held_by_limit"].as_f64().unwrap();
    assert!((0.5..0.95).contains(&held), "{hold}");
    assert_eq!(hold["memory"]["limit"], 64 << 20);
    assert_eq!(
        (&hold["memory"]["counted_by"], &hold["processes_limit"]),
        (&"cgroup".into(), &9.into())
    );
    let free = stats(&host, "-i 1s", "free");
    assert!((0.2..1.2).contains(&free["now"]["cpus"].as_f64().unwrap()), "{free}");
    assert_eq!(free["cpu"]["counted_by"], "processes");
    assert!(free["memory"].get("reclaimable").is_none(), "nobody counts it: {free}");
    let table = host.garth("stats -i 100ms").run().ok();
    assert!(table.contains("summed over its processes"), "{table}");
    assert!(host.garth("stats -i 100ms held").run().ok().contains("64M"));
    drop(limit);
    for name in ["free", "held"] {
        host.garth(&format!("delete --force {name}")).run().ok();
    }
    host.assert_nothing_left();
}

#[test]
fn a_quota_and_a_rate_are_seen_at_work() {
    needs!(root, netns, "v1:cpu", "python3");
    let host = Host::with_neighbour();
    let serve = "sh -c 'python3 -m http.server 8080 -d /usr/share & while :; do :; done'";
    let wrap = format!(
        "$GARTH wrap -d --name web --cpus 0.5 --rate up=1Mbit/s -p 0.0.0.0:8080:8080 -- {serve}"
    );
    host.sh(&wrap).run().ok();
    let load = host
        .neighbour(
            "while :; do curl -s http://192.0.2.1:8080/common-licenses/GPL-3 >/dev/null; done",
        )
        .start();
    let sample = until("both are at work", || {
        let sample = stats(&host, "-i 1s", "web");
        let now = &sample["now"];
        let both = now["rate_waits"].as_f64()? > 1.0 && now["held_by_cpus"].as_f64()? > 0.1;
        both.then_some(sample)
    });
    let up = sample["now"]["up"].as_f64().unwrap();
    assert!((100_000.0..1_300_000.0).contains(&up), "{sample}");
    drop(load);
    host.garth("delete --force web").run().ok();
}

#[test]
fn containers_are_there_too() {
    needs!(root, cgroups);
    let host = Host::new();
    let mut bundle = Bundle::named(&host, "box");
    bundle.sleeping();
    let look = parsed(&bundle.sh("$R stats --json -i 50ms $ID").run().ok());
    let sample = &look["samples"][0];
    assert_eq!((&sample["kind"], &sample["pid"]), (&"container".into(), &bundle.pid().into()));
    assert!(sample["memory"]["used"].as_u64().unwrap() > 0);
    bundle.delete_force().ok();
}

#[test]
fn requests_that_cannot_be_met_are_refused_and_an_end_ends_it() {
    needs!(root);
    let host = Host::new();
    assert!(host.garth("stats").run().ok().starts_with("NAME"));
    for (words, part) in [
        ("stats web", "no sandbox or container web is running"),
        ("stats -i 0s", "too short"),
        ("stats --layer bits", "layer \"bits\": unknown"),
        ("top", "must be a terminal"),
        ("metrics --listen 9776", "is no place to listen"),
        ("metrics --listen 192.0.2.77:9776", "listen at 192.0.2.77:9776"),
        ("metrics --listen /nowhere/socket", "listen at /nowhere/socket"),
    ] {
        host.garth(words).run().refused(125, part);
    }
    host.garth("wrap -d --name web -- sleep 1000").run().ok();
    // Watched until it ends.
    let watch = host.garth("stats -f -i 50ms --json web").start();
    let line = parsed(&watch.line());
    assert_eq!(line["samples"][0]["name"], "web");
    host.garth("delete --force web").run().ok();
    assert_eq!(watch.wait().code, 0);
    // Interrupted.
    let watch = host.garth("stats -f -i 50ms").start();
    watch.line();
    watch.signal("INT");
    assert_eq!(watch.wait().code, 0);
}

#[test]
fn metrics_are_text_that_prometheus_reads_over_http_and_nothing_stays() {
    needs!(root, netns, "prometheus", "promtool", "curl", "jq");
    let host = Host::with_neighbour();
    host.garth("wrap -d --name web -p 0.0.0.0:8080:8080 -- sleep 1000").run().ok();
    let text = host.garth("metrics").run().ok();
    assert!(
        text.trim_end().ends_with("\n# EOF")
            && text.contains("garth_cpu_seconds_total{name=\"web\""),
        "{text}"
    );
    let server = host.garth("metrics --listen 127.0.0.1:9776").start();
    server.error_line("serving http://127.0.0.1:9776/metrics");
    // A client that says nothing, and one that asks for something else, are in nobody's way.
    let mute = host.sh("exec nc -d 127.0.0.1 9776").start();
    let code = |path: &str| {
        let curl = format!("curl -s -m 20 -o /dev/null -w '%{{http_code}}' {path}");
        host.sh(&curl).run().ok()
    };
    assert_eq!(code("http://127.0.0.1:9776/"), "404");
    assert_eq!(code("-X POST http://127.0.0.1:9776/metrics"), "405");
    assert_eq!(code("http://127.0.0.1:9776/metrics"), "200");
    drop(mute);
    host.write(
        "/srv/prometheus.yml",
        "scrape_configs:\n- job_name: garth\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  \
         static_configs:\n  - targets: ['127.0.0.1:9776']\n",
    );
    let prometheus = host
        .sh("exec prometheus --config.file=/srv/prometheus.yml --storage.tsdb.path=/srv/data \
             --web.listen-address=127.0.0.1:9090 2>/srv/prometheus.log")
        .start();
    let query = |query: &str| {
        let ask =
            format!("curl -sf --data-urlencode 'query={query}' http://127.0.0.1:9090/api/v1/query");
        let answer = host.sh(&ask).run();
        (answer.code == 0).then(|| parsed(&answer.stdout)["data"]["result"].clone())
    };
    let seen = until("it is scraped", || {
        let seen = query("garth_network_frame_bytes_total{name=\"web\"}")?;
        (seen.as_array()?.len() == 2).then_some(seen)
    });
    assert!(seen.to_string().contains("\"direction\":\"up\""), "{seen}");
    assert_eq!(query("up").unwrap()[0]["value"][1], "1");
    drop(prometheus);
    server.signal("TERM");
    assert_eq!(server.wait().code, 0);

    // At a path; what a kill has left there is in nobody's way, and nothing is left after a signal.
    for signal in ["KILL", "TERM"] {
        let server = host.garth("metrics --listen /run/metrics").start();
        server.error_line("serving /run/metrics");
        let got = host.sh("curl -sf --unix-socket /run/metrics http://x/metrics").run().ok();
        assert!(got.contains("garth_processes{name=\"web\",kind=\"sandbox\"}"), "{got}");
        host.garth("metrics --listen /run/metrics").run().refused(125, "in use");
        server.signal(signal);
        let _ = server.wait();
    }
    assert!(!host.path("/run/metrics").exists());
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn top_shows_rows_curves_and_keys_on_a_terminal_of_any_size() {
    needs!(root, "tmux");
    let host = Host::new();
    host.sh("for name in web db spin; do $GARTH wrap -d --name $name -- sleep 1000; done")
        .run()
        .ok();
    host.garth("delete --force spin").run().ok();
    host.sh("$GARTH wrap -d --name spin -- sh -c 'while :; do :; done'").run().ok();
    let tmux = |words: &str| host.sh(&format!("TERM=xterm tmux -S /srv/tmux {words}")).run();
    let begun = "-f /dev/null new-session -d -x 80 -y 24 \"$GARTH top -i 200ms; echo ended \\$?; sleep 1000\"";
    tmux(begun).ok();
    let shows = |what: &str, is: &dyn Fn(&str) -> bool| {
        until(what, || {
            let screen = tmux("capture-pane -p").ok();
            is(&screen).then_some(screen)
        })
    };
    let screen = shows("rows, the busiest first", &|screen| {
        screen.lines().nth(2).is_some_and(|line| line.starts_with("spin"))
    });
    assert!(screen.starts_with("garth top 3 running  by cpu, network: frame"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(screen.contains("q quit  s sort"), "{screen}");
    tmux("send-keys Down").ok();
    shows("curves of the one that is selected", &|screen| screen.contains("spin: cpu, up to "));
    tmux("send-keys / w e").ok();
    shows("what the filter lets through", &|screen| {
        screen.contains("1 of 3 running") && screen.contains("/we_") && !screen.contains("\ndb")
    });
    // A terminal takes what comes right after escape for one key with it.
    tmux("send-keys Escape").ok();
    shows("all", &|screen| screen.contains("3 running") && !screen.contains("filter: "));
    tmux("send-keys s").ok();
    shows("by memory", &|screen| screen.contains("3 running  by memory"));
    tmux("send-keys h").ok();
    shows("help", &|screen| screen.contains("100% is one processor"));
    tmux("send-keys h p").ok();
    shows("paused", &|screen| screen.contains(" paused "));
    // A window that is dragged small, and large.
    tmux("resize-window -x 20 -y 5").ok();
    let screen =
        shows("a small one", &|screen| screen.lines().all(|line| line.chars().count() <= 20));
    assert!(screen.starts_with("garth top 3 running") && screen.contains("spin"), "{screen}");
    tmux("resize-window -x 140 -y 30").ok();
    shows("a wide one", &|screen| screen.contains("WAITS") && screen.contains("TASKS"));
    tmux("send-keys p").ok();
    // One that ends is gone.
    host.garth("delete --force db").run().ok();
    shows("the others", &|screen| screen.contains("2 running") && !screen.contains("\ndb"));
    tmux("send-keys q").ok();
    let screen = shows("the terminal as before", &|screen| screen.contains("ended 0"));
    assert!(!screen.contains("NAME"), "{screen}");
    tmux("kill-server").ok();
    for name in ["web", "spin"] {
        host.garth(&format!("delete --force {name}")).run().ok();
    }
    host.assert_nothing_left();
}
