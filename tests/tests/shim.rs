//! The containerd shim, as each generation of daemon starts it: from recorded bytes.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use garth_tests::{Host, needs, parsed, shim_binary, until};

/// A host with a bundle at /srv/b, and `start` with these words around it; prints what `start` does.
struct Daemon(Host);

impl Daemon {
    fn new(annotations: &str) -> Daemon {
        let host = Host::new();
        host.sh("mkdir /srv/b").run().ok();
        host.write("/srv/b/config.json", &format!("{{\"annotations\": {{{annotations}}}}}"));
        Daemon(host)
    }

    /// `input`: printf's; `environment`: what the daemon sets.
    fn start(&self, id: &str, environment: &str, input: &str) -> garth_tests::Call {
        // The daemon stays: a shim without a container ends with it.
        self.0.sh(&format!(
            "cd /srv/b; rm -f /srv/code
            (printf '{input}' | env TTRPC_ADDRESS=/run/c.sock.ttrpc {environment} {} -namespace test \
             -address /run/c.sock -publish-binary /usr/bin/containerd -id {id} start >/srv/out 2>/srv/err
             echo $? >/srv/code.new; mv /srv/code.new /srv/code; exec sleep 1000) >/dev/null 2>&1 &
            while [ ! -e /srv/code ]; do sleep 0.01; done
            cat /srv/out; cat /srv/err >&2; exit $(cat /srv/code)",
            shim_binary().display()
        ))
    }

    /// A shim serves at this address, and ends when told to.
    fn serves(&self, address: &str) {
        let path = address.strip_prefix("unix://").unwrap();
        assert!(path.starts_with("/run/containerd/s/"), "{address}");
        self.0.sh(&connect(path)).run().ok();
        assert_eq!(self.0.read("/srv/b/address"), address);
        let pid = self.0.read("/srv/b/shim.pid");
        let name = self.0.sh(&format!("tr '\\0' ' ' </proc/{pid}/cmdline")).run().ok();
        assert!(name.contains("containerd-shim-garth-v1 -namespace test -id"), "{name}");
        let score = self.0.sh(&format!("cat /proc/{pid}/oom_score_adj")).run().ok();
        let own = self.0.sh("cat /proc/self/oom_score_adj").run().ok();
        assert_eq!(score.parse::<i32>().unwrap(), own.parse::<i32>().unwrap() + 1);
    }

    fn end(&self) {
        let pid = self.0.read("/srv/b/shim.pid");
        self.0.sh(&format!("kill {pid}; while [ -d /proc/{pid} ]; do sleep 0.01; done")).run().ok();
    }
}

fn connect(path: &str) -> String {
    format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{path}\")'")
}

/// containerd.runc.v1.Options with SystemdCgroup, as an `Any`.
const RUNC_OPTIONS: &str = r"\012\032containerd.runc.v1.Options\022\002\110\001";

#[test]
fn an_old_daemon_gets_the_address_and_not_a_byte_more() {
    needs!(root, "python3");
    let daemon = Daemon::new("");
    for input in ["", RUNC_OPTIONS] {
        let ran = daemon.start("one", "", input).run();
        assert_eq!(ran.stderr, "");
        daemon.serves(&ran.ok());
        daemon.end();
    }
    daemon.0.sh("! ls /run/containerd/s/*.n").run().ok();
}

#[test]
fn a_newer_one_gets_json_of_the_version_that_it_knows() {
    needs!(root, "python3");
    let daemon = Daemon::new("");
    for (said, expected) in [(2, 2), (3, 3), (9, 3)] {
        let variable = format!("MAX_SHIM_VERSION={said}");
        let answer = parsed(&daemon.start("one", &variable, RUNC_OPTIONS).run().ok());
        assert_eq!((&answer["version"], &answer["protocol"]), (&expected.into(), &"ttrpc".into()));
        daemon.serves(answer["address"].as_str().unwrap());
        daemon.end();
    }
}

/// `BootstrapParams` for the container `id`: its id, the namespace, the versions and addresses of containerd.
fn parameters(id: &str) -> String {
    let field =
        |number: u8, text: &str| format!("\\{:03o}\\{:03o}{text}", number << 3 | 2, text.len());
    [
        field(1, id),
        field(2, "test"),
        field(4, "2.3.0"),
        field(5, "/run/t.sock"),
        field(6, "/run/c.sock"),
    ]
    .concat()
}

#[test]
fn the_newest_gets_a_message_and_options_are_not_taken_for_one() {
    needs!(root, "python3");
    let daemon = Daemon::new("");
    let ran = daemon.start("one", "MAX_SHIM_VERSION=2", &parameters("one")).run().ok();
    // version 3, address, protocol.
    assert!(ran.starts_with("\u{8}\u{3}\u{12}") && ran.ends_with("\u{1a}\u{5}ttrpc"), "{ran:?}");
    let address = daemon.0.read("/srv/b/address");
    assert!(ran.contains(&address), "{ran:?}");
    daemon.serves(&address);
    let pid = daemon.0.read("/srv/b/shim.pid");
    let environment = daemon.0.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).run().ok();
    assert!(environment.contains("TTRPC_ADDRESS=/run/t.sock"), "{environment}");
    daemon.end();
    // It decodes as parameters, too, but of another identity: the type is where the id would be.
    let answer = daemon.start("one", "MAX_SHIM_VERSION=2", RUNC_OPTIONS).run().ok();
    assert_eq!(parsed(&answer)["version"], 2);
    daemon.end();
}

#[test]
fn containers_of_a_pod_share_a_shim() {
    needs!(root, "python3");
    let daemon = Daemon::new(r#""io.kubernetes.cri.sandbox-id": "pod""#);
    let first = daemon.start("pod", "", "").run().ok();
    let pid = daemon.0.read("/srv/b/shim.pid");
    let second = daemon.start("box", "", "").run().ok();
    assert_eq!((&first, &pid), (&second, &daemon.0.read("/srv/b/shim.pid")));
    // Killed, it is replaced.
    daemon
        .0
        .sh(&format!("kill -KILL {pid}; while [ -d /proc/{pid} ]; do sleep 0.01; done"))
        .run()
        .ok();
    assert_eq!(daemon.start("pod", "", "").run().ok(), first);
    assert_ne!(daemon.0.read("/srv/b/shim.pid"), pid);
    daemon.serves(&first);
    // No container was ever asked for, and who would ask is gone.
    let pid = daemon.0.read("/srv/b/shim.pid");
    daemon
        .0
        .sh(&format!("pkill -x sleep; while [ -d /proc/{pid} ]; do sleep 0.01; done"))
        .run()
        .ok();
    daemon.0.sh("! ls /run/containerd/s/*").run().ok();
}

#[test]
fn a_script_between_containerd_and_the_shim_may_end() {
    needs!(root, "python3");
    let daemon = Daemon::new("");
    // containerd, whose child was not the shim; it sees that somebody looks whether it is there.
    daemon.0.write(
        "/srv/daemon",
        "import socket
server = socket.socket(socket.AF_UNIX)
server.bind('/run/c.sock')
server.listen()
print('ready', flush=True)
server.accept()
print('looked at', flush=True)",
    );
    let containerd = daemon.0.sh("exec python3 /srv/daemon").start();
    assert_eq!(containerd.line(), "ready");
    let address = daemon.start("one", "", "").run().ok();
    daemon.0.sh("pkill -x sleep").run().ok();
    assert_eq!(containerd.line(), "looked at");
    daemon.serves(&address);
    daemon.end();
}

#[test]
fn a_socket_may_have_the_longest_path_that_there_is_while_it_is_new() {
    needs!(root, "python3");
    let daemon = Daemon::new("");
    // 64 digits are the name, and ".n" its end at first.
    for (room, code) in [(107 - 67, 0), (108 - 67, 1)] {
        let directory = "/run/".to_owned() + &"x".repeat(room - 5);
        let input = format!("{}\\112\\{:03o}{directory}", parameters("one"), room);
        let ran = daemon.start("one", "", &input).run();
        assert_eq!(ran.code, code, "{ran}");
        assert_eq!(ran.stderr.contains("longer than 105 bytes"), code == 1, "{ran}");
        if code == 0 {
            let path = daemon.0.read("/srv/b/address");
            let path = path.strip_prefix("unix://").unwrap();
            assert_eq!(path.len(), 105);
            daemon.0.sh(&connect(path)).run().ok();
            daemon.end();
        }
    }
}

#[test]
fn a_start_that_fails_says_why_in_one_line_and_leaves_no_shim() {
    needs!(root);
    let daemon = Daemon::new("");
    let long = "/run/".to_owned() + &"x".repeat(100);
    let socket_dir = format!(r"\112\{:03o}{long}", long.len());
    let shim_cgroup = r"\012\032containerd.runc.v1.Options\022\012\032\010/nowhere";
    for (input, part) in [
        (r"\377", "no options of a runtime"),
        (r"\012\013vmm.Options\022\001x", "options of type \"vmm.Options\": unknown"),
        (r"\012\032containerd.runc.v1.Options\022\001\377", "options containerd.runc.v1.Options"),
        (&(parameters("one") + &socket_dir), "longer than 105 bytes"),
        (shim_cgroup, "ShimCgroup /nowhere: no such cgroup"),
    ] {
        let ran = daemon.start("one", "", input).run();
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    daemon.0.sh("echo '{' >/srv/b/config.json").run().ok();
    let ran = daemon.start("one", "", "").run();
    assert!(ran.code == 1 && ran.stderr.contains("read /srv/b/config.json"), "{}", ran.stderr);
    // As containerd 2 calls it for a pod of its sandboxer "shim".
    daemon.0.sh("rm /srv/b/config.json").run().ok();
    let ran = daemon.start("pod", "", "").run();
    assert!(ran.code == 1 && ran.stderr.contains("\"podsandbox\", its default"), "{}", ran.stderr);
    until("no shim is left", || {
        let left =
            daemon.0.sh("ps -eo args | grep -c '[c]ontainerd-shim-garth-v1 -n'").run().stdout;
        (left == "0").then_some(())
    });
    let shim = shim_binary();
    for (words, part) in
        [("", "-namespace: missing"), ("-namespace n -id x run", "\"run\": unknown verb")]
    {
        let ran = daemon.0.sh(&format!("{} {words}", shim.display())).run();
        assert!(ran.code == 1 && ran.stderr.contains(part), "{}", ran.stderr);
    }
}
