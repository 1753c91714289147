//! `garth bench`: each in a short form, its files, and what it refuses.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use garth_tests::{Host, needs, parsed, until};
use serde_json::Value;

/// Runs a bench in a short form, with its files, and once more with a comparison; returns the report.
fn bench(host: &Host, which: &str) -> Value {
    let ran = host
        .garth(&format!("bench {which} --quick --json /srv/r.json --svg /srv/r.svg"))
        .run()
        .ok();
    assert!(ran.starts_with("garth bench ") && ran.contains(", Linux "), "{ran}");
    let report = parsed(&host.read("/srv/r.json"));
    assert_eq!(report["version"], 1);
    for table in report["tables"].as_array().unwrap() {
        let title = table["title"].as_str().unwrap();
        assert!(ran.contains(title), "{title}: {ran}");
        for row in table["rows"].as_array().unwrap() {
            let figure = &row["figures"][0];
            let [low, middle, high] =
                ["p10", "median", "p90"].map(|key| figure[key].as_f64().unwrap());
            assert!(0.0 < low && low <= middle && middle <= high, "{row}");
        }
    }
    let chart = host.read("/srv/r.svg");
    assert!(chart.starts_with("<svg") && chart.contains("<rect"), "{chart}");
    report
}

fn names(table: &Value) -> Vec<String> {
    let rows = table["rows"].as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_ways_to_spawn_are_measured_and_compared_with_an_earlier_report() {
    needs!(root);
    let host = Host::new();
    let report = bench(&host, "spawn");
    let names = names(&report["tables"][0]);
    for name in
        ["vfork", "clone3 VM+VFORK", "posix_spawn", "fork", "system", "popen", "garth::Spawn"]
    {
        assert!(names.iter().any(|one| one == name), "{name}: {names:?}");
    }
    assert_eq!(report["tables"].as_array().unwrap().len(), 3);
    // What depends neither on this machine nor on what else it does: a large parent costs fork more of a processor than
    // a small one.
    let fork = |table: usize| {
        let table = &report["tables"][table];
        assert_eq!(table["columns"][2], "ms CPU of the caller");
        let row =
            table["rows"].as_array().unwrap().iter().find(|row| row["name"] == "fork").unwrap();
        row["figures"][2]["median"].as_f64().unwrap()
    };
    assert!(fork(1) > fork(0), "{report}");
    let compared = host.garth("bench spawn --quick --compare /srv/r.json").run().ok();
    assert!(compared.contains(" of 30 figures have changed beyond their spread"), "{compared}");
    // Another bench's report, another version's, none, and one that cannot be written.
    for (words, part) in [
        ("start --quick --compare /srv/r.json", "that is a report of bench spawn"),
        ("spawn --rounds 2", "2 rounds have no spread"),
        ("spawn --compare /srv/nothing", "read /srv/nothing"),
        ("spawn --json /nowhere/x", "write /nowhere/x"),
    ] {
        host.garth(&format!("bench {words}")).run().refused(125, part);
    }
    host.sh("sed -i 's/\"version\": 1/\"version\": 2/' /srv/r.json").run().ok();
    host.garth("bench spawn --quick --compare /srv/r.json")
        .run()
        .refused(125, "a report of version 2");
}

#[test]
fn starts_are_compared_with_what_is_installed_and_it_is_said_what_is_not() {
    needs!(root, netns, "busybox", "runc");
    let host = Host::new();
    let report = bench(&host, "start");
    let tables = report["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 4, "{report}");
    assert!(names(&tables[0]).contains(&"garth wrap".to_owned()), "{report}");
    assert!(names(&tables[2]).contains(&"garth run".to_owned()), "{report}");
    let notes = report["notes"].to_string();
    for peer in ["bwrap", "crun run", "youki run", "systemd-nspawn"] {
        let measured = tables.iter().any(|table| names(table).contains(&peer.to_owned()));
        let said = [": ", " loads"].iter().any(|more| notes.contains(&format!("{peer}{more}")));
        assert!(measured || said, "{peer}: {notes}");
    }
    host.assert_nothing_left();
}

#[test]
fn ciphers_are_measured_through_a_sandboxed_sshd_with_aes_instructions_and_without() {
    needs!(root, netns, "/usr/sbin/sshd", "ssh", "ssh-keygen");
    let host = Host::new();
    let report = bench(&host, "ssh-ciphers --cipher aes128-gcm --cipher 3des --mac hmac-sha2-256");
    for table in report["tables"].as_array().unwrap() {
        let mut names = names(table);
        names.sort();
        assert_eq!(names, ["3des-cbc hmac-sha2-256", "aes128-gcm@openssh.com"]);
        assert_eq!(table["base"], "3des-cbc hmac-sha2-256");
        for row in table["rows"].as_array().unwrap() {
            for cpu in 1..3 {
                assert!(row["figures"][cpu]["median"].as_f64().unwrap() > 0.0, "{row}");
            }
        }
    }
    host.garth("bench ssh-ciphers --quick --cipher rot13")
        .run()
        .refused(125, "ssh knows no such cipher");
    host.garth("bench ssh-ciphers --quick --mac crc").run().refused(125, "ssh knows no MAC crc");
    host.assert_nothing_left();
}

/// The account of a transfer among the tables of a report: its rows by their names, with mbit/s and bytes.
fn account<'a>(report: &'a Value, title: &str) -> (&'a Value, impl Fn(&str) -> [f64; 2] + 'a) {
    let tables = report["tables"].as_array().unwrap();
    let found = tables.iter().find(|table| table["title"].as_str().unwrap().starts_with(title));
    let table = found.unwrap_or_else(|| panic!("{title}: {report}"));
    let of = move |name: &str| {
        let rows = table["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"].as_str().unwrap().starts_with(name));
        let row = row.unwrap_or_else(|| panic!("{name}: {table}"));
        [0, 1].map(|column| row["figures"][column]["median"].as_f64().unwrap())
    };
    (table, of)
}

#[test]
fn every_layer_of_a_transfer_agrees_with_the_kernels_count_and_with_the_theory() {
    needs!(root, netns, "ethtool", "iperf3");
    let host = Host::with_neighbour();
    // A sandbox's link has the MTU of the way out.
    for (mtu, timestamps, percent) in
        [(1500, 1, "94.15"), (1500, 0, "94.93"), (9000, 1, "99.00"), (9000, 0, "99.14")]
    {
        host.sh(&format!(
            "ip link set lan0 mtu {mtu}; echo {timestamps} >/proc/sys/net/ipv4/tcp_timestamps"
        ))
        .run()
        .ok();
        let report = bench(&host, "link");
        let ways = names(&report["tables"][0]);
        for way in ["loopback", "a bare veth", "the sandbox's link", "a published port"] {
            assert!(ways.iter().any(|one| one.starts_with(way)), "{way}: {ways:?}");
        }
        let (table, of) = account(&report, "The same with each segment in a frame of its own");
        let conclusion = table["conclusions"][0].as_str().unwrap();
        assert!(conclusion.ends_with(&format!("it is {percent} %")), "{conclusion}");
        // What TCP's own count of segments makes of it is what the link has counted: but for the handshake, and segments
        // that were not full.
        for (ours, links) in
            [("frame, by TCP", "frame, as the link"), ("wire, by TCP", "wire, by the link")]
        {
            let [ours, links] = [of(ours)[1], of(links)[1]];
            assert!((ours / links - 1.0).abs() < 0.005, "{ours} {links}: {table}");
        }
        let part = of("payload")[1] / of("wire, by TCP")[1] * 100.0;
        let theory: f64 = percent.parse().unwrap();
        assert!((part - theory).abs() < 0.3, "{part} {theory}: {table}");
        let [iperf, iftop] = ["iperf3 would show", "iftop would show"].map(|name| of(name)[0]);
        assert_eq!(iperf, of("payload")[0]);
        assert!((of("ip, by TCP")[0] / iftop - 1.048_576).abs() < 1e-6, "{table}");
    }
    host.assert_nothing_left();
}

#[test]
fn what_is_told_of_a_shaped_link_is_what_iperf3_measures() {
    needs!(root, netns, "iperf3", "jq");
    let host = Host::new();
    host.sh("$GARTH wrap -d --name web -p 5201:5201 --rate down=40Mbit/s -- iperf3 -s").run().ok();
    until("iperf3 serves", || {
        let once = host.sh("iperf3 -c 127.0.0.1 -t 1 -J | jq -e .end.sum_sent").run();
        (once.code == 0).then_some(())
    });
    let client = host.sh("iperf3 -c 127.0.0.1 -t 9 -J >/srv/iperf.json").start();
    // Neither its slow start nor its end.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let look = parsed(&host.garth("stats --json -i 4s web").run().ok());
    let frames = look["samples"][0]["now"]["down"].as_f64().unwrap();
    client.wait().ok();
    let received = "jq '[.intervals[3:7][].sum.bits_per_second] | add / length' /srv/iperf.json";
    let payload: f64 = host.sh(received).run().ok().trim().parse().unwrap();
    // Of 1514 bytes of a frame, 1448 are payload; trains have fewer headers, so the link counts less.
    let most = payload * 1514.0 / 1448.0;
    assert!(frames > payload * 0.97 && frames < most * 1.03, "{frames} {payload}");
    host.garth("delete --force web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_page_of_reports_is_shown_by_a_browser_light_and_dark_and_on_a_phone() {
    needs!(root, "chromium", "/usr/bin/python3");
    let host = Host::new();
    host.garth("bench report /srv").run().refused(125, "/srv has no report");
    host.sh("mkdir /srv/reports; $GARTH bench spawn --quick --json /srv/reports/spawn.json")
        .run()
        .ok();
    assert_eq!(host.garth("bench report /srv/reports").run().ok(), "/srv/reports/index.html");
    let browse = |options: &str| {
        host.sh(&format!(
            "HOME=/srv timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
             --hide-scrollbars {options} file:///srv/reports/index.html 2>/srv/browser.log"
        ))
        .run()
        .ok()
    };
    let dom = browse("--dump-dom");
    assert!(
        dom.contains("<svg")
            && dom.contains("garth::Spawn with a pipe")
            && dom.contains("</table>"),
        "{dom}"
    );
    browse("--window-size=390,844 --screenshot=/srv/light.png");
    browse(
        "--window-size=390,844 --blink-settings=preferredColorScheme=0 --screenshot=/srv/dark.png",
    );
    // The first and the brightness of all pixels of the first rows: paper is light, or dark, and has ink.
    let look = "import struct, sys, zlib
data = open(sys.argv[1], 'rb').read()
width, height, depth, kind = struct.unpack('>IIBB', data[16:26])
chunks, at = b'', 8
while at < len(data):
    size, = struct.unpack('>I', data[at:at + 4])
    if data[at + 4:at + 8] == b'IDAT': chunks += data[at + 8:at + 8 + size]
    at += size + 12
pixel = 4 if kind == 6 else 3
raw, line, above = zlib.decompress(chunks), width * pixel, bytes(width * pixel)
rows = []
for y in range(height):
    kind, row = raw[y * (line + 1)], bytearray(raw[y * (line + 1) + 1:(y + 1) * (line + 1)])
    for x in range(line):
        left, up = row[x - pixel] if x >= pixel else 0, above[x]
        corner = above[x - pixel] if x >= pixel else 0
        if kind == 1: row[x] = (row[x] + left) & 255
        elif kind == 2: row[x] = (row[x] + up) & 255
        elif kind == 3: row[x] = (row[x] + (left + up) // 2) & 255
        elif kind == 4:
            near = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))
            row[x] = (row[x] + near[2]) & 255
    above = bytes(row); rows.append(above)
green = [row[x + 1] for row in rows for x in range(0, line, pixel)]
print(width, height, green[0], max(green), min(green))";
    host.write("/srv/look.py", look);
    let of = |file: &str| -> Vec<u32> {
        let told = host.sh(&format!("/usr/bin/python3 /srv/look.py {file}")).run().ok();
        told.split(' ').map(|word| word.parse().unwrap()).collect()
    };
    let [light, dark] = ["/srv/light.png", "/srv/dark.png"].map(of);
    assert_eq!([&light[..2], &dark[..2]], [&[390, 844], &[390, 844]]);
    assert!(light[2] > 240 && light[4] < 60, "dark ink on light ground: {light:?}");
    assert!(dark[2] < 40 && dark[3] > 200, "light ink on dark ground: {dark:?}");
}

#[test]
fn a_bench_that_is_killed_takes_its_sandbox_with_it() {
    needs!(root, netns);
    let host = Host::new();
    // All hosts share /tmp, and other benches run.
    host.sh("mkdir /srv/tmp").run().ok();
    let bench = || host.sh("exec env TMPDIR=/srv/tmp $GARTH bench link --rounds 1000").start();
    let killed = bench();
    let names = || host.garth("ps -q").run().ok();
    until("its sandbox runs", || names().starts_with("bench-link-").then_some(()));
    killed.signal("KILL");
    let _ = killed.wait();
    until("nothing runs", || {
        host.garth("gc").run().ok();
        (names().is_empty() && host.left().is_empty()).then_some(())
    });
    host.sh("rm -r /srv/tmp/garth-bench-link-*").run().ok();
    // Interrupted, it cleans up itself.
    let interrupted = bench();
    until("its sandbox runs", || names().starts_with("bench-link-").then_some(()));
    interrupted.signal("INT");
    interrupted.wait().refused(125, "interrupted");
    host.sh("! ls -d /srv/tmp/garth-bench-link-*").run().ok();
    host.assert_nothing_left();
}
