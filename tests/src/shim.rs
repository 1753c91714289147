//! A containerd shim on a test host, called as containerd calls it.

use std::cell::RefCell;
use std::path::PathBuf;

use crate::ttrpc::{Answer, Connection, number, text};
use crate::{Bundle, Host, PATIENCE, Running, shim_binary, until};

/// The names of its service; the messages are the same.
pub const TASK: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// A shim of a pod without containers, started as by a daemon, and a connection to it.
pub struct Shim<'a> {
    host: &'a Host,
    /// Where it serves.
    pub socket: PathBuf,
    /// Its process on the test host.
    pub pid: String,
    /// To it.
    pub connection: RefCell<Connection>,
    before: Vec<String>,
    _daemon: Running,
}

impl<'a> Shim<'a> {
    /// Starts it.
    pub fn start(host: &'a Host) -> Shim<'a> {
        Shim::start_by(host, "env")
    }

    /// By a command that runs the one that follows.
    pub fn start_by(host: &'a Host, command: &str) -> Shim<'a> {
        host.write("/srv/pod/config.json", "{}");
        let shim = shim_binary();
        // The daemon stays: a shim without a container ends with it.
        let daemon = host
            .sh(&format!(
                "cd /srv/pod; {command} {} -namespace test -address /run/c.sock -id pod start; echo
                exec sleep 1000",
                shim.display()
            ))
            .start();
        let socket = host.path(daemon.line().strip_prefix("unix://").unwrap());
        let connection = RefCell::new(Connection::open(&socket));
        let pid = host.read("/srv/pod/shim.pid");
        let shim = Shim { host, socket, pid, connection, before: Vec::new(), _daemon: daemon };
        shim.call("Connect", &text(1, "pod")).unwrap();
        Shim { before: shim.holds(), ..shim }
    }

    /// What it answers.
    pub fn call(&self, method: &str, message: &[u8]) -> Answer {
        self.connection.borrow_mut().call(TASK[0], method, message)
    }

    /// What it answers; it must succeed.
    pub fn ok(&self, method: &str, message: &[u8]) -> Vec<u8> {
        self.call(method, message).unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    /// It must fail, with this code and these words.
    #[track_caller]
    pub fn refuses(&self, method: &str, message: &[u8], code: u64, part: &str) {
        assert_refused(method, &self.call(method, message), code, part);
    }

    /// Its descriptors and children, its containers, and what is mounted in bundles.
    pub fn holds(&self) -> Vec<String> {
        let script = format!(
            "cd /proc/{0}; for fd in fd/*; do readlink $fd; done; cat task/*/children
            ls /run/containerd/garth/test/containers; grep -o '/srv/.*/rootfs' self/mountinfo",
            self.pid
        );
        let mut lines: Vec<_> =
            self.host.sh(&script).run().stdout.lines().map(str::to_owned).collect();
        // A thread without children.
        lines.retain(|line| !line.trim().is_empty());
        lines.sort();
        lines
    }

    /// Nothing is left of what was asked for, and it serves.
    #[track_caller]
    pub fn is_as_before(&self) {
        let mut holds = Vec::new();
        for _ in 0..200 {
            holds = self.holds();
            if holds == self.before {
                break;
            }
            std::thread::sleep(PATIENCE / 3000);
        }
        assert_eq!(holds, self.before);
        self.ok("Connect", &text(1, "pod"));
    }

    /// Ends it: it must be able to.
    pub fn end(self) {
        self.is_as_before();
        self.ok("Shutdown", &text(1, "pod"));
        until("the shim ends", || {
            (!self.host.path(&format!("/proc/{}", self.pid)).exists()).then_some(())
        });
    }

    /// A container that runs.
    pub fn run(&self, bundle: &Bundle<'_>) {
        self.ok("Create", &[text(1, &bundle.id), text(2, bundle.dir(""))].concat());
        self.ok("Start", &text(1, &bundle.id));
    }

    /// Ends a container.
    pub fn delete(&self, id: &str) {
        self.ok("Kill", &[text(1, id), number(3, 9)].concat());
        self.ok("Wait", &text(1, id));
        self.ok("Delete", &text(1, id));
    }
}

/// A call must have failed with this code, and with these words in one line.
#[track_caller]
pub fn assert_refused(method: &str, answer: &Answer, code: u64, part: &str) {
    let Err((found, words)) = answer else { panic!("{method} ({part}) is done: {answer:?}") };
    assert!(*found == code && words.contains(part), "{method}: {code} {part:?}: {found} {words:?}");
    assert!(!words.contains(char::is_control), "{method}: {words:?}");
}
