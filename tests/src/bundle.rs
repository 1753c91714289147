//! An OCI bundle on a test host, and the runtime under test.
//!
//! The runtime is `$RUNTIME`, a path or a name, or else the binary under test: any runtime with
//! runc's command line can be tested. `$RUNTIME_SETUP` is a shell script that adapts the test host
//! to a runtime with other needs. A bundle has a small busybox root file system and a config.json
//! much like the one `runc spec` writes, which a test edits as data:
//!
//! ```ignore
//! let host = Host::new();
//! let mut bundle = Bundle::new(&host);
//! bundle.config["hostname"] = "shed".into();
//! assert_eq!(bundle.script("uname -n").run().ok(), "shed");
//! ```
//!
//! When a bundle goes out of scope in a test that has not failed, its container is force-deleted,
//! and nothing may be left of it: no entry in the state directory, no cgroup, process, mount or
//! link.

use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs};

use serde_json::{Value, json};

use crate::{Call, Host, PATIENCE, Ran, binary, until, which};

/// The `--root` of the runtime, on every test host.
pub const ROOT: &str = "/run/spec";

/// The busybox applets in the root file system, as symbolic links.
const APPLETS: &str = "sh ash awk cat chmod chown chrt cp cut date dd df echo env false find grep \
    head hostname id ionice ip kill ln ls mkdir mkfifo mknod mount mountpoint mv nproc od ps pwd \
    readlink realpath rm rmdir sed seq setpriv setsid sleep sort stat stty sync tail tee test \
    timeout touch tr true tty umount uname unshare wc which yes nsenter taskset usleep printf";

/// The runtime under test.
pub fn runtime() -> PathBuf {
    let Some(asked) = env::var_os("RUNTIME").filter(|path| !path.is_empty()) else {
        return binary();
    };
    let path = PathBuf::from(&asked);
    if path.components().count() > 1 {
        return path.canonicalize().unwrap_or_else(|error| panic!("RUNTIME={path:?}: {error}"));
    }
    which(&asked.to_string_lossy()).unwrap_or_else(|| panic!("RUNTIME={path:?} is not in PATH"))
}

/// A bundle and the one container made from it.
pub struct Bundle<'a> {
    /// The contents of config.json at the next `create` or `run`.
    pub config: Value,
    /// The container's id.
    pub id: String,
    host: &'a Host,
    /// The path of the bundle on the test host.
    dir: String,
    /// Whether there may be a container to delete.
    lives: Cell<bool>,
}

impl<'a> Bundle<'a> {
    /// A bundle on this test host, which may have others.
    pub fn new(host: &'a Host) -> Bundle<'a> {
        let taken = |number: &u32| !host.path(&format!("/srv/box{number}")).exists();
        let id = format!("box{}", (0..).find(taken).unwrap());
        Bundle::named(host, &id)
    }

    /// A bundle for a container with this id.
    pub fn named(host: &'a Host, id: &str) -> Bundle<'a> {
        let bundle = Bundle {
            config: default_config(id),
            id: id.to_owned(),
            host,
            dir: format!("/srv/{id}"),
            lives: Cell::new(false),
        };
        let rootfs = host.path(&bundle.rootfs(""));
        for dir in ["bin", "dev", "etc", "mnt", "proc", "root", "sys", "tmp", "home"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        let busybox = which("busybox").expect("busybox-static is not installed");
        fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:\n")
            .unwrap();
        fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
        bundle
    }

    /// The test host it is on.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// The path of a file of the bundle on the test host.
    pub fn dir(&self, file: &str) -> String {
        format!("{}/{file}", self.dir).trim_end_matches('/').to_owned()
    }

    /// The path of a file of the root file system on the test host.
    pub fn rootfs(&self, file: &str) -> String {
        format!("{}/rootfs/{}", self.dir, file.trim_start_matches('/'))
    }

    /// Makes a shell script the container's process.
    pub fn script(&mut self, text: &str) -> &mut Self {
        self.config["process"]["args"] = json!(["sh", "-c", text]);
        self
    }

    /// One more entry of `mounts`.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({
            "destination": destination, "type": kind, "source": source, "options": options,
        });
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Adds a namespace, or replaces the one of that type.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let mut namespace = json!({"type": kind});
        if let Some(path) = path {
            namespace["path"] = path.into();
        }
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    /// Removes the namespace of this type.
    pub fn without_namespace(&mut self, kind: &str) {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
    }

    /// A user namespace: 0 to 65535 inside map to `host` and up outside. The root file system
    /// belongs to root inside.
    pub fn user_namespace(&mut self, host: u32) {
        self.namespace("user", None);
        let map = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        self.host.sh(&format!("chown -hR {host}:{host} {}", self.rootfs(""))).run().ok();
    }

    /// These capabilities, in all of these sets.
    pub fn capabilities(&mut self, sets: &[&str], names: &[&str]) {
        for set in sets {
            self.config["process"]["capabilities"][*set] = json!(names);
        }
    }

    /// Writes config.json as it is now.
    pub fn save(&self) {
        let text = serde_json::to_string_pretty(&self.config).unwrap();
        self.host.write(&self.dir("config.json"), &text);
    }

    fn globals(&self) -> String {
        let log = self.dir("log");
        format!("{} --root {ROOT} --log {log} --log-format json", runtime().display())
    }

    /// The runtime with its global options and these words, split at spaces.
    pub fn call(&self, words: &str) -> Call {
        let line = format!("{} {words}", self.globals());
        self.lives.set(true);
        line.split_whitespace().fold(self.host.call(None), Call::arg)
    }

    /// A shell script on the test host, where `$R` is the runtime with its global options, `$B` the
    /// bundle, `$ID` the id. config.json is written first.
    pub fn sh(&self, script: &str) -> Call {
        self.save();
        self.lives.set(true);
        let call = self.host.sh(script).env("R", &self.globals());
        call.env("B", &self.dir).env("ID", &self.id)
    }

    /// `run` in the foreground, to the end.
    pub fn run(&self) -> Ran {
        self.run_with("")
    }

    /// `run` with more options.
    pub fn run_with(&self, options: &str) -> Ran {
        self.start_run(options).run()
    }

    /// `run`, for the test to start.
    pub fn start_run(&self, options: &str) -> Call {
        self.save();
        self.call(&format!("run --bundle {} {options} {}", self.dir, self.id))
    }

    /// `create`; the container's output is [`Bundle::output`] and [`Bundle::errors`].
    pub fn create(&self) -> Ran {
        self.create_with("")
    }

    /// `create` with more options.
    pub fn create_with(&self, options: &str) -> Ran {
        self.apart(&format!("create --bundle $B {options} $ID"))
    }

    /// `run --detach`.
    pub fn detach(&self) -> Ran {
        self.detach_with("")
    }

    /// `run --detach` with more options.
    pub fn detach_with(&self, options: &str) -> Ran {
        self.apart(&format!("run --detach --bundle $B {options} $ID"))
    }

    /// The runtime, with the container's output going to files, since the container keeps those
    /// open. The words are the shell's.
    pub fn apart(&self, words: &str) -> Ran {
        let script =
            format!("$R {words} </dev/null >$B/out 2>$B/err; code=$?; cat $B/err >&2; exit $code");
        self.sh(&script).run()
    }

    /// A container that sleeps until it is killed.
    pub fn sleeping(&mut self) -> &mut Self {
        self.script("exec sleep 600").detach().ok();
        self
    }

    /// The output of a container that was created or detached.
    pub fn output(&self) -> String {
        self.host.read(&self.dir("out")).trim_end().to_owned()
    }

    /// The standard error of a container that was created or detached, and the runtime's.
    pub fn errors(&self) -> String {
        self.host.read(&self.dir("err")).trim_end().to_owned()
    }

    /// `start`.
    pub fn start(&self) -> Ran {
        self.call(&format!("start {}", self.id)).run()
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> Ran {
        self.call(&format!("kill {} {signal}", self.id)).run()
    }

    /// `delete`.
    pub fn delete(&self) -> Ran {
        let ran = self.call(&format!("delete {}", self.id)).run();
        if ran.code == 0 {
            self.lives.set(false);
        }
        ran
    }

    /// `delete --force`.
    pub fn delete_force(&self) -> Ran {
        let ran = self.call(&format!("delete --force {}", self.id)).run();
        self.lives.set(false);
        ran
    }

    /// `state`, which must succeed.
    #[track_caller]
    pub fn state(&self) -> Value {
        parsed(&self.call(&format!("state {}", self.id)).run().ok())
    }

    /// The status in `state`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("state has a status").to_owned()
    }

    /// Waits for a status.
    pub fn until(&self, status: &str) {
        until(&format!("{} is {status}", self.id), || (self.status() == status).then_some(()));
    }

    /// The pid of the container's process on the test host.
    #[track_caller]
    pub fn pid(&self) -> u64 {
        self.state()["pid"].as_u64().filter(|pid| *pid > 0).expect("state has a pid")
    }

    /// A file below /proc/PID of the container's process.
    #[track_caller]
    pub fn proc(&self, file: &str) -> String {
        self.host.read(&format!("/proc/{}/{file}", self.pid()))
    }

    /// `exec` of a shell script, with options.
    pub fn exec(&self, options: &str, script: &str) -> Ran {
        self.call(&format!("exec {options} {} sh -c", self.id)).arg(script).run()
    }

    /// `exec --process` with this as the process, based on the container's own.
    pub fn exec_process(&self, options: &str, edit: impl FnOnce(&mut Value)) -> Ran {
        let mut process = self.config["process"].clone();
        edit(&mut process);
        self.host.write(&self.dir("process.json"), &process.to_string());
        let file = self.dir("process.json");
        self.call(&format!("exec {options} --process {file} {}", self.id)).run()
    }

    /// The text of the file passed as `--log`.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.host.path(&self.dir("log"))).unwrap_or_default()
    }

    /// Its lines.
    pub fn log(&self) -> Vec<Value> {
        self.log_text().lines().map(parsed).collect()
    }

    /// The message of the last error in the log, where engines look for it.
    pub fn logged_error(&self) -> String {
        let is_error = |line: &&Value| line["level"] == "error";
        let message = |line: &Value| line["msg"].as_str().unwrap_or_default().to_owned();
        self.log().iter().rfind(is_error).map(message).unwrap_or_default()
    }

    /// A file of a cgroup (version 1) of the container, without white space at the end.
    #[track_caller]
    pub fn cgroup(&self, controller: &str, file: &str) -> String {
        let path = format!("/sys/fs/cgroup/{controller}/{}/{file}", self.id);
        self.host.read(&path).trim_end().to_owned()
    }

    /// What still exists of the container although it should be gone.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.host.left();
        let find = format!(
            "find {ROOT} -name '*{id}*'
            find /sys/fs/cgroup '(' -fstype cgroup -o -fstype cgroup2 ')' -name '*{id}*'",
            id = self.id
        );
        left.extend(self.host.sh(&find).run().stdout.lines().map(str::to_owned));
        left
    }

    /// Fails unless nothing is left. Processes may take a while to end.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.expect_nothing(|_| true);
    }

    /// Fails unless nothing is left except what belongs to another, sleeping container.
    #[track_caller]
    pub fn assert_nothing_left_but(&self, other: &Bundle<'_>) {
        let (pid, id) = (format!("process {} ", other.pid()), other.id.clone());
        self.expect_nothing(|line| !line.starts_with(&pid) && !line.contains(&id));
    }

    #[track_caller]
    fn expect_nothing(&self, counts: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE / 6;
        loop {
            let mut left = self.left();
            left.retain(|line| counts(line));
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(PATIENCE / 600);
        }
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.lives.get() {
            self.delete_force();
        }
        self.assert_nothing_left();
    }
}

/// Parses what must be JSON.
#[track_caller]
pub fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
}

/// Much like `runc spec`, without a terminal, with a writable root file system and a cgroup path of
/// its own.
fn default_config(id: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options":
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"],
        },
    })
}
