//! Debian's daemons from the files in specs/services: all up at once, each asked by a client of its
//! own, then down. And the commands of docs/services.md.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use garth_tests::{Call, Host, missing, needs, skip, until};
use serde_json::Value;

/// The services, each with a command that asks it, and the answer.
const CLIENTS: [(&str, &str, &str); 9] = [
    (
        "memcached",
        "printf 'set a 0 0 5\\r\\nvalue\\r\\nget a\\r\\nquit\\r\\n' | nc -w 5 127.0.0.1 11211",
        "value",
    ),
    (
        "mosquitto",
        "mosquitto_pub -r -t greeting -m hello && mosquitto_sub -t greeting -C 1 -W 5",
        "hello",
    ),
    ("nginx", "curl -sf http://127.0.0.1:8080/", "<html"),
    ("node", "curl -sf http://127.0.0.1:3000/", "hello from Node"),
    ("postgresql", "$AS_POSTGRES psql -h /srv/socket -d postgres -tc 'select 6 * 7'", "42"),
    ("python", "curl -sf http://127.0.0.1:8000/", "hello from Python"),
    ("redis", "redis-cli set a value && redis-cli get a", "value"),
    (
        "sshd",
        "ssh -p 2222 -i /srv/key -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null 127.0.0.1 'echo I am $USER'",
        "I am $WHO",
    ),
    (
        "unbound",
        "dig $TCP_ONLY +short +time=1 +tries=1 -p 5353 @127.0.0.1 localhost; \
        dig +tcp +short +time=1 +tries=1 -p 5353 @127.0.0.1 localhost",
        "127.0.0.1\n127.0.0.1",
    ),
];

/// What a machine has that has them installed, in other places than usual.
const SETUP: &str = "set -e
mkdir /srv/redis /srv/postgresql /srv/socket /srv/mosquitto
[ -z \"$WALKER\" ] || chown walker /srv/redis /srv/postgresql /srv/socket /srv/mosquitto
if [ -z \"$WALKER\" ]; then
    chown redis /srv/redis; chown postgres /srv/postgresql /srv/socket; chown mosquitto /srv/mosquitto
fi
ssh-keygen -q -t ed25519 -N '' -f /srv/key
mkdir -p /srv/home && cp /srv/key.pub /srv/home/keys
[ -z \"$WALKER\" ] || chown walker /srv/key /srv/home/keys";

const VARIABLES: [(&str, &str); 6] = [
    ("REDIS_DATA", "/srv/redis"),
    ("POSTGRESQL_DATA", "/srv/postgresql"),
    ("POSTGRESQL_SOCKETS", "/srv/socket"),
    ("MOSQUITTO_DATA", "/srv/mosquitto"),
    ("SSHD_HOST_KEY", "/srv/key"),
    ("SSHD_KEYS", "/srv/home/keys"),
];

/// An ordinary user of this test host only, with a copy of the binary, and a tun device as udev
/// leaves it.
const WALKER: &str = r#"set -e
for file in passwd group subuid subgid; do
    cp /etc/$file /srv/$file
done
echo walker:x:4321:4321::/srv/home:/bin/sh >>/srv/passwd
echo walker:x:4321: >>/srv/group
echo walker:500000:65536 | tee -a /srv/subuid >>/srv/subgid
for file in passwd group subuid subgid; do
    mount --bind /srv/$file /etc/$file
done
mkdir -p /srv/home /run/user/4321
chown 4321:4321 /srv/home /run/user/4321
chmod 700 /run/user/4321
if [ -c /dev/net/tun ]; then
    mknod -m 666 /srv/tun c 10 200
    mount --bind /srv/tun /dev/net/tun
fi"#;
const NO_WALKER: &str = "umount /etc/passwd /etc/group /etc/subuid /etc/subgid
! [ -c /srv/tun ] || umount -l /dev/net/tun";

/// A test host with the files of specs/services, each changed by `edit`.
fn host(edit: fn(&str) -> String) -> Host {
    let host = Host::with_services();
    host.sh("mkdir /srv/bin && cp $GARTH /srv/bin/garth").run().ok();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/services");
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = if name.ends_with(".toml") { edit(&text) } else { text };
        host.write(&format!("/srv/services/{name}"), &text);
    }
    host
}

/// What the daemons and clients need.
fn lacks() -> Option<String> {
    let programs = [
        "nginx",
        "redis-server",
        "redis-cli",
        "/usr/lib/postgresql/15/bin/initdb",
        "psql",
        "pg_isready",
        "/usr/sbin/sshd",
        "ssh",
        "unbound",
        "/usr/share/dns/root.key",
        "dig",
        "memcached",
        "nc",
        "mosquitto",
        "mosquitto_sub",
        "gunicorn",
        "node",
        "curl",
        "setpriv",
    ];
    programs.into_iter().find_map(missing)
}

/// All of them up, asked, and down; `sh` runs a script as the user that they belong to.
fn up_asked_and_down(sh: &dyn Fn(&str) -> Call, who: &str) {
    let names = CLIENTS.map(|(name, ..)| name);
    let said =
        sh("for file in /srv/services/*.toml; do garth up -f $file || exit; done").run().ok();
    let shown =
        || -> Vec<Value> { serde_json::from_str(&sh("garth ps --json").run().ok()).unwrap() };
    let all = shown();
    let up: BTreeSet<_> = all.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(up, names.into(), "{said}");
    for one in &all {
        let (state, health) = (&one["state"], &one["service"]["health"]);
        assert_eq!((state, health), (&"running".into(), &"healthy".into()), "{one}");
    }
    for (name, ask, answer) in CLIENTS {
        let ran = sh(ask).run();
        let answer = answer.replace("$WHO", who);
        let log = || sh(&format!("garth logs -n 20 {name}")).run();
        assert!(ran.stdout.contains(&answer), "{name}: {ran}\nits log: {}", log());
    }
    // One that ends by a mistake is up again.
    sh("kill -KILL $(pgrep -x redis-server)").run().ok();
    until("redis is up again", || {
        let all = shown();
        let redis = all.iter().find(|one| one["name"] == "redis")?;
        let service = &redis["service"];
        (service["restarts"] == 1 && service["health"] == "healthy").then_some(())
    });
    sh("garth down --all").run().ok();
    assert!(shown().is_empty());
}

#[test]
fn nine_daemons_are_up_at_once_and_answer() {
    needs!(root, netns, cgroups);
    if let Some(reason) = lacks() {
        return skip("program", &reason);
    }
    let host = host(str::to_owned);
    host.sh(SETUP).run().ok();
    let sh = |script: &str| {
        let call = host.sh(&format!("cd /; PATH=/srv/bin:$PATH:/usr/sbin; {script}"));
        let postgres = "setpriv --reuid postgres --regid postgres --clear-groups";
        let call = call.env("AS_POSTGRES", postgres).env("USER", "root");
        VARIABLES.iter().fold(call, |call, (name, value)| call.env(name, value))
    };
    up_asked_and_down(&sh, "root");
    host.assert_nothing_left();
}

#[test]
fn nine_daemons_are_up_at_once_for_an_ordinary_user() {
    needs!(root, "slirp4netns");
    if let Some(reason) = lacks() {
        return skip("program", &reason);
    }
    // The user's own service, without limits where no cgroup is delegated.
    let host = host(|text| {
        let without = ["user =", "memory =", "pids-limit ="];
        let keep = |line: &&str| !without.iter().any(|key| line.starts_with(key));
        text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
    });
    host.sh(WALKER).run().ok();
    host.sh(SETUP).env("WALKER", "1").run().ok();
    // Answers by UDP do not come back through slirp4netns: it is asked by TCP.
    let sh = |script: &str| {
        let variables = VARIABLES.map(|(name, value)| format!("{name}={value}")).join(" ");
        let prefix = format!(
            "cd /srv/home && exec env -i PATH=/srv/bin:/usr/bin:/bin:/usr/sbin HOME=/srv/home \
             USER=walker TCP_ONLY=+tcp XDG_RUNTIME_DIR=/run/user/4321 {variables} \
             setpriv --reuid 4321 --regid 4321 --init-groups -- sh -c \"$SCRIPT\""
        );
        host.sh(&prefix).env("SCRIPT", script)
    };
    up_asked_and_down(&sh, "walker");
    host.sh(NO_WALKER).run().ok();
    host.assert_nothing_left();
}

const GUIDE: &str = include_str!("../../docs/services.md");

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    GUIDE.split(&fence).skip(1).map(|text| text.split_once("\n```").unwrap().0).collect()
}

#[test]
fn the_commands_of_the_guide_work() {
    needs!(root, netns, cgroups, "redis-server", "/usr/bin/python3", "curl");
    let host = Host::with_services();
    host.sh("mkdir /srv/bin && ln -s $GARTH /srv/bin/garth").run().ok();
    let [file] = blocks("toml")[..] else { panic!("one file") };
    host.write("/srv/app/garth.toml", &format!("{file}\n"));
    let commands: Vec<_> = blocks("console").into_iter().flat_map(str::lines).collect();
    assert!(commands.len() > 10);
    for command in commands {
        let command = command.strip_prefix("$ ").expect("a line of a block is a command");
        let ran = host.sh(&format!("cd /srv/app; PATH=/srv/bin:$PATH; {command}")).run();
        assert_eq!(ran.code, 0, "{command}: {ran}");
        if command == "garth explain up" {
            assert!(ran.stdout.contains("change memory"), "{ran}");
        }
    }
    host.assert_nothing_left();
}
