//! A small private host for a test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use crate::cgroups::Cgroups;
use crate::{Call, PATIENCE, Snapshot, binary, children, until, which};

/// Private pid, mount, network and host name namespaces, with an empty /run (hence a private state
/// root of Garth), an empty /srv for what tests bring along, and a part of each cgroup tree.
///
/// Pid 1 is a shell that reaps and waits for the end of its input, which the test holds: however
/// the test ends, the host ends too, and with it every process, mount, link and rule.
pub struct Host {
    holder: Child,
    init: u32,
    before: Option<Snapshot>,
    cgroups: Cgroups,
}

/// See [`Host::with_neighbour`].
const NEIGHBOUR: &str = "mkdir /run/netns
    unshare -n sh -c 'touch /run/netns/lan; mount --bind /proc/self/ns/net /run/netns/lan'
    ip link add lan0 type veth peer name lan0 netns lan
    lan() { nsenter --net=/run/netns/lan ip \"$@\"; }
    ip addr add 192.0.2.1/24 dev lan0
    lan addr add 192.0.2.2/24 dev lan0
    ip addr add 2001:db8::1/64 dev lan0 nodad
    lan addr add 2001:db8::2/64 dev lan0 nodad
    ip link set lan0 addrgenmode none up
    lan link set lan0 addrgenmode none up
    lan link set lo up
    ip route add default via 192.0.2.2
    ip route add default via 2001:db8::2
    # Once the carrier is there, which takes a moment.
    until ip -6 route show table local dev lan0 | grep -q 2001:db8::1; do sleep 0.01; done";

impl Host {
    /// A host with loopback only.
    pub fn new() -> Host {
        Host::with("")
    }

    /// A host with a neighbour: 192.0.2.1 and 2001:db8::1 here, and on the same wire another host,
    /// 192.0.2.2 and 2001:db8::2, which is the default gateway and has no route back to any address
    /// but these. [`Host::neighbour`] runs commands there.
    pub fn with_neighbour() -> Host {
        Host::with(NEIGHBOUR)
    }

    /// The same, with a network as engines make it: a bridge, br0, and on it the namespaces
    /// /run/netns/box2 and box3, with 198.51.100.2 and 2001:db8:1::2, and .3 and ::3.
    pub fn with_engine() -> Host {
        Host::with(&format!(
            "{NEIGHBOUR}
            echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
            ip link add br0 type bridge
            ip addr add 198.51.100.1/24 dev br0
            ip addr add 2001:db8:1::1/64 dev br0 nodad
            ip link set br0 up
            for n in 2 3; do
                unshare -n sh -c \"touch /run/netns/box$n; mount --bind /proc/self/ns/net /run/netns/box$n\"
                ip link add veth$n type veth peer name eth0 netns box$n
                ip link set veth$n master br0 up
                nsenter --net=/run/netns/box$n sh -ec \"
                    ip addr add 198.51.100.$n/24 dev eth0
                    ip addr add 2001:db8:1::$n/64 dev eth0 nodad
                    ip link set eth0 up; ip link set lo up
                    ip route add default via 198.51.100.1
                    ip route add default via 2001:db8:1::1\"
            done
            echo 1 >/proc/sys/net/ipv4/conf/br0/forwarding
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            for dev in br0 veth2 veth3; do
                until ip -6 route show table local dev $dev | grep -q 'anycast fe80::'; do sleep 0.01; done
            done"
        ))
    }

    /// A host in which these directories may be changed: changes are kept in memory and vanish with
    /// the host.
    pub fn with_changes_of(dirs: &[&str]) -> Host {
        Host::with(&format!(
            "for dir in {}; do
                mkdir -p /srv/changes$dir/upper /srv/changes$dir/work
                mount -t overlay overlay $dir \
                    -o lowerdir=$dir,upperdir=/srv/changes$dir/upper,workdir=/srv/changes$dir/work
            done",
            dirs.join(" ")
        ))
    }

    /// A host whose /var/lib is empty: for services, whose records are there, and which are to be up
    /// again after a reboot.
    pub fn with_services() -> Host {
        Host::with("mount -t tmpfs -o mode=0755 tmpfs /var/lib")
    }

    fn with(setup: &str) -> Host {
        let cgroups = Cgroups::new();
        let script = format!(
            "set -e
            {}
            mount -t tmpfs -o mode=0755 tmpfs /run
            mount -t tmpfs -o mode=0755 tmpfs /srv
            [ ! -d /var/lib/garth ] || mount -t tmpfs -o mode=0755 tmpfs /var/lib/garth
            ip link set lo up
            {setup}
            {}
            echo ready
            cat",
            cgroups.script(),
            env::var("RUNTIME_SETUP").unwrap_or_default()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "--", "sh", "-c", &script])
            // Where programs start: not every user may enter a clone of the repository.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "making a host failed; its words are above");
        let init = children(holder.id())[0];
        let mut host = Host { holder, init, before: None, cgroups };
        until("the host is quiet", || {
            let cat = *children(init).first()?;
            (fs::read_to_string(format!("/proc/{cat}/cmdline")).ok()? == "cat\0").then_some(())
        });
        host.before = Some(host.snapshot());
        host
    }

    /// `garth` with these words, split at spaces.
    pub fn garth(&self, words: &str) -> Call {
        let mut call = self.call(None);
        call.command.arg(binary()).args(words.split_whitespace());
        call
    }

    /// A shell script outside any sandbox; `$GARTH` is the binary.
    pub fn sh(&self, script: &str) -> Call {
        let mut call = self.call(None);
        call.command.args(["sh", "-c", script]);
        call
    }

    /// A shell script on the neighbouring host.
    pub fn neighbour(&self, script: &str) -> Call {
        let mut call = self.call(Some("/run/netns/lan"));
        call.command.args(["sh", "-c", script]);
        call
    }

    pub(crate) fn call(&self, net: Option<&str>) -> Call {
        let mut command = Command::new("nsenter");
        // The root of a mount namespace is not that of a process in a chroot.
        command.arg(format!("--target={}", self.init));
        command.args(["--mount", "--root", "--wd", "--uts", "--pid"]);
        match net {
            None => command.arg("--net"),
            // The path is looked up before the mount namespace is entered.
            Some(path) => command.arg(format!("--net={}", self.path(path).display())),
        };
        command.arg("--").env("GARTH", binary()).env_remove("GARTH_ROOT");
        Call::new(command)
    }

    /// The path at which the test finds a file of the host.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{file}", self.init))
    }

    /// Writes a world-readable file below /srv; creates the directories.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, file: &str) -> String {
        let path = self.path(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {file}: {error}"))
    }

    /// What a URL answers, asked on the host, as soon as it does.
    pub fn get(&self, url: &str) -> String {
        until(&format!("{url} answers"), || answer(self.sh(&curl(url))))
    }

    /// What a URL answers, asked from the neighbouring host, as soon as it does.
    pub fn get_from_neighbour(&self, url: &str) -> String {
        until(&format!("{url} answers outside"), || answer(self.neighbour(&curl(url))))
    }

    /// Whether nothing at all answers at a URL asked from the neighbouring host.
    pub fn is_closed_to_neighbour(&self, url: &str) -> bool {
        answer(self.neighbour(&curl(url))).is_none()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.init, self.cgroups.points())
    }

    /// What exists now and did not when the host was made.
    pub fn left(&self) -> Vec<String> {
        let before = self.before.as_ref().unwrap();
        self.snapshot().since(before)
    }

    /// Runs `garth gc` until nothing is left, after what `when` says, such as a kill; it never fails.
    /// The first may come while the kernel is still ending a sandbox, or a keeper also cleans up.
    #[track_caller]
    pub fn collect(&self, when: &str) {
        for _ in 0..20 {
            let gc = self.garth("gc").run();
            assert_eq!(gc.code, 0, "gc {when}: {gc}");
            if self.left().is_empty() {
                break;
            }
        }
        self.assert_nothing_left();
    }

    /// Fails unless the host is as it was when it was made. Processes may take a while to end.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let deadline = Instant::now() + PATIENCE / 3;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(PATIENCE / 600);
        }
    }
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

fn curl(url: &str) -> String {
    assert!(which("curl").is_some(), "curl is not installed");
    format!("exec curl --silent --globoff --fail --max-time 3 --noproxy '*' '{url}'")
}

fn answer(curl: Call) -> Option<String> {
    let ran = curl.run();
    (ran.code == 0).then_some(ran.stdout)
}
