//! Units of Debian's packages as services of Garth, and services as units.

#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::time::{Duration, Instant};

use garth_tests::{Host, PATIENCE, Ran, missing, needs, skip, until};

/// A unit, its daemon, what is done before it is started, and what it must answer.
struct Daemon {
    unit: &'static str,
    /// Its service, and the program it needs.
    service: &'static str,
    program: &'static str,
    before: &'static str,
    ask: &'static str,
}

const DAEMONS: [Daemon; 12] = [
    Daemon {
        unit: "nginx",
        service: "nginx",
        program: "/usr/sbin/nginx",
        before: "",
        ask: "curl -sf http://127.0.0.1/",
    },
    Daemon {
        unit: "apache2",
        service: "apache2",
        program: "/usr/sbin/apache2",
        before: "",
        ask: "curl -sf http://127.0.0.1/",
    },
    Daemon {
        unit: "caddy",
        service: "caddy",
        program: "/usr/bin/caddy",
        before: "",
        ask: "curl -sf http://127.0.0.1/",
    },
    Daemon {
        unit: "haproxy",
        service: "haproxy",
        program: "/usr/sbin/haproxy",
        before: "",
        ask: "garth exec haproxy -- sh -c 'echo show info | nc -NU /run/haproxy/admin.sock' | grep Version",
    },
    Daemon {
        unit: "redis-server",
        service: "redis-server",
        program: "/usr/bin/redis-server",
        before: "",
        ask: "redis-cli ping | grep -x PONG",
    },
    Daemon {
        unit: "memcached",
        service: "memcached",
        program: "/usr/bin/memcached",
        before: "",
        ask: "printf 'version\\r\\nquit\\r\\n' | nc -w 2 127.0.0.1 11211 | grep VERSION",
    },
    Daemon {
        unit: "postgresql@15-main",
        service: "postgresql-15-main",
        program: "/usr/lib/postgresql/15/bin/postgres",
        // As tmpfiles.d makes it at boot.
        before: "install -d -o postgres -g postgres -m 2775 /run/postgresql",
        ask: "setpriv --reuid postgres --clear-groups psql -tc 'select 6 * 7' | grep 42",
    },
    Daemon {
        unit: "mariadb",
        service: "mariadb",
        program: "/usr/sbin/mariadbd",
        before: "",
        ask: "garth exec mariadb -- mariadb-admin ping",
    },
    Daemon {
        unit: "unbound",
        service: "unbound",
        program: "/usr/sbin/unbound",
        before: "/usr/libexec/unbound-helper root_trust_anchor_update",
        ask: "dig +short +time=1 +tries=1 @127.0.0.1 localhost | grep -x 127.0.0.1",
    },
    Daemon {
        unit: "mosquitto",
        service: "mosquitto",
        program: "/usr/sbin/mosquitto",
        before: "",
        ask: "mosquitto_pub -t greeting -m hello",
    },
    Daemon {
        unit: "ssh",
        service: "ssh",
        program: "/usr/sbin/sshd",
        before: "",
        ask: "ssh-keyscan 127.0.0.1 2>&1 | grep ssh-ed25519",
    },
    Daemon {
        unit: "vsftpd",
        service: "vsftpd",
        program: "/usr/sbin/vsftpd",
        before: "touch /var/log/vsftpd.log",
        ask: "nc -w 2 127.0.0.1 21 </dev/null | grep ^220",
    },
];

/// Does what systemd would do with the ExecStart= of a unit: words, %% and $$.
const RUN: &str = r#"
import os, re, shlex, sys
text = open(sys.argv[1]).read().replace("\\\n", " ")
line = re.search("^ExecStart=(.*)$", text, re.M).group(1)
words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
os.execvp(words[0], words)
"#;

fn shell(host: &Host, script: &str) -> Ran {
    host.sh(&format!("PATH=/srv/bin:$PATH:/usr/sbin; {script}")).run()
}

/// Has root CAP_SYS_RESOURCE here?
fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(bounding.trim(), 16).unwrap() & (1 << 24) != 0
}

fn ready() -> Host {
    let host = Host::with_changes_of(&["/etc", "/var"]);
    host.sh("mkdir /srv/bin && ln -s $GARTH /srv/bin/garth").run().ok();
    host.write("/srv/run.py", RUN);
    host
}

/// From the unit to a service, from that to a unit again: with its command, the daemon answers.
#[test]
fn daemons_run_as_their_units_say() {
    needs!(root, netns, "curl", "nc", "/usr/bin/python3");
    let mut failed = Vec::new();
    for daemon in &DAEMONS {
        let here = missing(daemon.program);
        if let Some(reason) = here {
            skip("program", &reason);
            continue;
        }
        if let Err(why) = daemon.answers() {
            failed.push(format!("{}: {why}", daemon.unit));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

impl Daemon {
    fn answers(&self) -> Result<(), String> {
        let host = ready();
        let Daemon { unit, service, before, ask, .. } = self;
        shell(&host, before).ok();
        let imported = shell(&host, &format!("garth import systemd {unit} >/srv/garth.toml")).ok();
        assert_eq!(imported, "");
        // A nested root may not raise limits, nor grant what it does not have itself.
        if !may_raise_limits() {
            let edit =
                "sed -i -e '/^ulimit = /d' -e '/^cap-add = .\"sys_resource\"/d' /srv/garth.toml";
            shell(&host, edit).ok();
        }
        let export = format!("cd /srv && garth export systemd {service} >/srv/unit 2>/srv/notes");
        shell(&host, &export).ok();
        let start = "setsid /usr/bin/python3 /srv/run.py /srv/unit >/srv/log 2>&1 </dev/null &";
        shell(&host, start).ok();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ran = shell(&host, ask);
            if ran.code == 0 {
                break;
            }
            if Instant::now() > deadline {
                let log = shell(&host, "cat /srv/garth.toml; tail -n 20 /srv/log").stdout;
                return Err(format!("no answer: {ran}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        shell(&host, &format!("garth kill {service}")).ok();
        let runs = || shell(&host, "garth ps -q").ok().lines().any(|line| line == *service);
        until(&format!("{service} ends"), || (!runs()).then_some(()));
        host.assert_nothing_left();
        Ok(())
    }
}

#[test]
fn an_imported_service_goes_up_and_down() {
    needs!(root, netns, "curl", "/usr/sbin/nginx");
    let host = ready();
    shell(&host, "garth import systemd nginx >/srv/garth.toml").ok();
    shell(&host, "garth up -f /srv/garth.toml").ok();
    until("nginx answers", || (shell(&host, "curl -sf http://127.0.0.1/").code == 0).then_some(()));
    shell(&host, "garth down -f /srv/garth.toml").ok();
    assert_eq!(shell(&host, "garth ps -q").ok(), "");
}

#[test]
fn a_unit_is_found_with_its_drop_ins_and_by_its_other_names() {
    needs!(root);
    let host = ready();
    host.sh("mkdir -p /etc/systemd/system /run/systemd/system/mine@.service.d /etc/systemd/system/mine@a.service.d")
        .run()
        .ok();
    host.write("/etc/systemd/system/mine@.service", "[Service]\nExecStart=/bin/mine %i\n");
    host.write("/run/systemd/system/mine@.service.d/1.conf", "[Service]\nUMask=077\n");
    host.write("/run/systemd/system/mine@.service.d/2.conf", "[Service]\nUMask=007\n");
    // Of two files with one name, that of the first directory counts.
    host.write("/etc/systemd/system/mine@a.service.d/2.conf", "[Service]\nUser=nobody\n");
    host.sh("ln -s mine@.service /etc/systemd/system/alias@.service; ln -s /dev/null /etc/systemd/system/off.service")
        .run()
        .ok();
    let said = host.garth("import systemd mine@a").run().ok();
    for line in [
        "[service.mine-a]",
        r#"command = ["/bin/mine", "a"]"#,
        r#"umask = "077""#,
        r#"user = "nobody""#,
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    let said = host.garth("import systemd alias@b.service").run().ok();
    assert!(said.contains(r#"["/bin/mine", "b"]"#), "{said}");
    host.write("/srv/plain.service", "[Service]\nExecStart=/bin/plain\nNice=5\n");
    let ran = host.garth("import systemd /srv/plain.service").run();
    assert!(ran.stderr.contains("not carried over (the comments say why): Nice"), "{ran}");
    assert!(ran.ok().contains("# - Nice=5: "));
    for (unit, says) in [
        ("off", "off.service: masked"),
        ("mine@", "which instance?"),
        ("no-such-unit", "no such unit"),
        ("ssh.socket", "a socket"),
        ("/srv/no-such.service", "/srv/no-such.service: ENOENT"),
    ] {
        host.garth(&format!("import systemd {unit}")).run().refused(125, says);
    }
    host.write("/srv/odd.service", "[Service]\nExecStart=/bin/x\nUser\n");
    host.garth("import systemd /srv/odd.service").run().refused(125, "odd.service: line 3: User:");
}

const SERVICES: &str = r#"
[service.db]
command = ["sleep", "1000"]

[service.web]
command = ["sh", "-c", "echo $$HOME 100%; exec sleep 1000", "a b", "c\"d"]
memory = "64m"
rw = ["/srv/data dir"]
env = ["A=$${B} %n"]
after = ["db"]
restart = "on-failure:3"
stop-signal = "QUIT"
health = { tcp = 80 }
"#;

#[test]
fn systemd_accepts_the_unit_of_a_service() {
    needs!(root, "systemd-analyze");
    let host = ready();
    host.write("/srv/garth.toml", SERVICES);
    let units = "/run/systemd/system";
    shell(&host, &format!("mkdir -p {units}")).ok();
    for service in ["db", "web"] {
        let to = format!("{units}/garth-{service}.service");
        shell(&host, &format!("cd /srv && garth export systemd {service} >{to}")).ok();
    }
    shell(
        &host,
        &format!("cd /srv && garth export systemd --notify web >{units}/notifying.service"),
    )
    .ok();
    for unit in ["garth-web.service", "garth-db.service", "notifying.service"] {
        let ran = shell(&host, &format!("systemd-analyze verify {units}/{unit}"));
        assert!(ran.code == 0 && !ran.stderr.contains(unit), "{ran}");
    }
    let said = host.sh("cd /srv && $GARTH export systemd web").run();
    for note in ["health:", "after db:"] {
        assert!(said.stderr.contains(&format!("warning: not in the unit: {note}")), "{said}");
    }
    let unit = said.ok();
    for line in
        ["Type=exec", "Requires=garth-db.service", "KillSignal=SIGQUIT", "StartLimitBurst=4"]
    {
        assert!(unit.lines().any(|said| said == line), "{line}: {unit}");
    }
    host.sh("cd /srv && $GARTH export systemd wbe").run().refused(125, "there are: db, web");
    host.sh("chmod 666 /srv/garth.toml").run().ok();
    let refused = host.sh("cd /srv && $GARTH export systemd web").run();
    refused.refused(125, "can be changed by other users");
}

/// The units of specs/systemd, with this binary instead of the installed one.
#[test]
fn systemd_accepts_the_units_that_come_with_garth() {
    needs!(root, "systemd-analyze");
    let host = ready();
    let units = "/run/systemd/system";
    host.sh(&format!("mkdir -p {units} /etc/garth")).run().ok();
    for (name, text) in [
        ("garth.service", include_str!("../../specs/systemd/garth.service")),
        ("garth@.service", include_str!("../../specs/systemd/garth@.service")),
    ] {
        host.write(&format!("{units}/{name}"), &text.replace("/usr/bin/garth", "/srv/bin/garth"));
    }
    for unit in ["garth.service", "garth@web.service"] {
        let ran = shell(&host, &format!("systemd-analyze verify {units}/{unit}"));
        assert!(ran.code == 0 && !ran.stderr.contains("garth"), "{ran}");
    }
}
