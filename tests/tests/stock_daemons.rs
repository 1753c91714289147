//! The daemons of docs/daemons.md, with the configuration that their packages install.
//!
//! Each block of that file is run as it stands, on a test host of its own: the commands before the
//! first `garth wrap` set up what the daemon needs, those after it are retried until they succeed,
//! and then `garth kill` is run. A command continues until the next line that begins with `$ `.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use garth_tests::{Host, PATIENCE, missing, needs, skip, until};

/// Debian's daemons, by the names of their sandboxes.
const DAEMONS: [&str; 21] = [
    "apache",
    "caddy",
    "cron",
    "dnsmasq",
    "exim",
    "haproxy",
    "java",
    "mariadb",
    "memcached",
    "mosquitto",
    "nginx",
    "node",
    "node-exporter",
    "php",
    "postgresql",
    "python",
    "redis",
    "rsync",
    "sshd",
    "unbound",
    "vsftpd",
];

const TEXT: &str = include_str!("../../docs/daemons.md");

#[test]
fn each_starts_answers_and_ends_by_itself_when_it_is_killed() {
    needs!(root, netns, "curl", "nc", "/usr/bin/python3");
    let blocks = blocks(TEXT);
    let started: Vec<_> = blocks.iter().flat_map(|block| block.names("wrap")).collect();
    assert_eq!(started.iter().copied().collect::<BTreeSet<_>>(), DAEMONS.into());
    assert_eq!(started.len(), DAEMONS.len(), "one has two blocks: {started:?}");

    let (blocks, failed) = (Mutex::new(VecDeque::from(blocks)), Mutex::new(Vec::new()));
    let next = || blocks.lock().unwrap().pop_front();
    let run_all = || {
        while let Some(block) = next() {
            // A failure is reported with the daemon's name, and the others are still run.
            let name = block.names("wrap").join(" and ");
            let thread = thread::Builder::new().name(name.clone());
            if thread.spawn(move || block.run()).unwrap().join().is_err() {
                failed.lock().unwrap().push(name);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get).min(4) {
            scope.spawn(run_all);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed, each with its reason above: {failed:?}");
}

/// The commands of one block.
struct Block(Vec<String>);

fn blocks(text: &str) -> Vec<Block> {
    let fenced = text.split("\n```console\n").skip(1);
    fenced.map(|text| Block::parse(text.split_once("\n```").expect("a block ends").0)).collect()
}

impl Block {
    fn parse(text: &str) -> Block {
        let text = text.strip_prefix("$ ").expect("a block begins with a command");
        let block = Block(text.split("\n$ ").map(str::to_owned).collect());
        assert_eq!(
            block.names("wrap").into_iter().collect::<BTreeSet<_>>(),
            block.names("kill").into_iter().collect(),
            "{text}"
        );
        block
    }

    /// The sandboxes to which `garth VERB` is applied.
    fn names(&self, verb: &str) -> Vec<&str> {
        let beginning = match verb {
            "wrap" => "garth wrap -d --name ".to_owned(),
            _ => format!("garth {verb} "),
        };
        let rest = self.0.iter().filter_map(|command| command.strip_prefix(&beginning));
        rest.filter_map(|rest| rest.split_whitespace().next()).collect()
    }

    /// The programs that its commands start with, in a sandbox or not.
    fn programs(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|command| {
            let mut words = command.split_whitespace();
            if command.starts_with("garth ") {
                return words.skip_while(|word| *word != "--").nth(1);
            }
            words.next()
        })
    }

    fn run(&self) {
        for program in self.programs() {
            if let Some(reason) = missing(program) {
                return skip("program", &reason);
            }
        }
        let host = Host::with_changes_of(&["/etc", "/var"]);
        host.sh("mkdir /srv/bin && ln -s $GARTH /srv/bin/garth").run().ok();
        let account = host.sh(ACCOUNT).run();
        if account.code != 0 {
            skip("accounting", &format!("process accounting: {}", account.stderr));
        }
        let shell = |command: &str| host.sh(&format!("PATH=/srv/bin:$PATH:/usr/sbin; {command}"));
        let log = || shell("tail -n 20 /srv/log").run().stdout;

        let starts = |command: &String| command.starts_with("garth wrap ");
        let first = self.0.iter().position(starts).expect("a block starts a sandbox");
        for (number, command) in self.0.iter().enumerate() {
            if starts(command) {
                shell(&command.replacen("wrap -d ", "wrap -d --log /srv/log ", 1)).run().ok();
            } else if let Some(stop) = command.strip_prefix("garth kill ") {
                shell(command).run().ok();
                let name = stop.split(' ').next().unwrap_or(stop);
                let runs = || shell("garth ps -q").run().ok().lines().any(|line| line == name);
                until(&format!("{name} ends; its log:\n{}", log()), || (!runs()).then_some(()));
            } else if number < first {
                shell(command).run().ok();
            } else {
                answers(|| shell(command).run(), log);
            }
        }
        let killed = shell(KILLED).run().ok();
        assert!(killed.is_empty(), "ended by SIGKILL: {killed}; the log:\n{}", log());
        host.assert_nothing_left();
    }
}

/// Retries until the exit code is 0.
fn answers(ask: impl Fn() -> garth_tests::Ran, log: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = ask();
        if ran.code == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "no answer: {ran}\nits log:\n{}", log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// The kernel records how each process of the test host ends: acct(2).
const ACCOUNT: &str = "touch /srv/ended && /usr/bin/python3 -c '
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.acct(b\"/srv/ended\"): sys.exit(os.strerror(ctypes.get_errno()))'";

/// The processes that ended by SIGKILL, except Garth's own. The records are struct acct_v3.
const KILLED: &str = "/usr/bin/python3 -c '
import struct
record = struct.Struct(\"<xB2xI8xI28x16s\")
for version, status, pid, name in record.iter_unpack(open(\"/srv/ended\", \"rb\").read()):
    assert version == 3
    name = name.rstrip(b\"\\0\").decode()
    if status & 127 == 9 and not name.startswith(\"garth\"): print(pid, name)'";
