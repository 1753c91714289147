//! The verbs of an OCI runtime beyond the specification, as in runc (and `mounts` as in crun): what
//! they print, what they change, and the words with which they refuse.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use garth_tests::{Bundle, Host, needs, parsed, until};
use serde_json::json;

/// `$R $words` on a sleeping container.
fn call(bundle: &Bundle, words: &str) -> garth_tests::Ran {
    bundle.call(&words.replace("ID", &bundle.id)).run()
}

#[test]
fn ps_shows_the_processes_of_the_container_alone() {
    needs!(root, "ps");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("sleep 500 & exec sleep 600").detach().ok();
    let pids = until("both sleep", || {
        let pids = parsed(&call(&bundle, "ps --format json ID").ok());
        (pids.as_array().unwrap().len() == 2).then_some(pids)
    });
    assert!(pids.as_array().unwrap().contains(&json!(bundle.pid())), "{pids}");
    let table = call(&bundle, "ps ID").ok();
    assert!(table.starts_with("UID") && table.lines().count() == 3, "{table}");
    let table = call(&bundle, "ps ID -o pid,args").ok();
    assert!(table.contains("sleep 500") && table.contains("sleep 600"), "{table}");
    assert!(call(&bundle, "ps ID -o args").fails(1).contains("PID"));
    assert!(call(&bundle, "ps nobody").fails(1).contains("does not exist"));
}

#[test]
fn a_paused_container_stands_still_and_says_so() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    assert!(call(&bundle, "resume ID").fails(1).contains("container not paused"));
    call(&bundle, "pause ID").ok();
    assert_eq!(bundle.status(), "paused");
    assert!(call(&bundle, "pause ID").fails(1).contains("container not running"));
    assert!(bundle.exec("", "true").fails(255).contains("cannot exec in a paused container"));
    call(&bundle, "resume ID").ok();
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    assert!(call(&bundle, "pause ID").fails(1).contains("container not running"));
}

#[test]
fn a_created_container_can_be_paused_and_is_created_again_afterwards() {
    needs!(root);
    let host = Host::new();
    let bundle = Bundle::new(&host);
    bundle.create().ok();
    call(&bundle, "pause ID").ok();
    assert_eq!(bundle.status(), "paused");
    bundle.start().fails(1);
    call(&bundle, "resume ID").ok();
    assert_eq!(bundle.status(), "created");
}

#[test]
fn update_changes_the_cgroup_and_the_record() {
    needs!(root, cgroups);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 40});
    bundle.sleeping();
    call(&bundle, "update --memory 40m --cpu-share 512 --cpu-quota 50000 --cpu-period 100000 ID")
        .ok();
    assert_eq!(bundle.cgroup("memory", "memory.limit_in_bytes"), (40 << 20).to_string());
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "512");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(bundle.cgroup("pids", "pids.max"), "40");
    let update = bundle.call(&format!("update --resources - {}", bundle.id));
    update.input(r#"{"pids": {"limit": 50}, "cpu": {"cpus": "0"}}"#).run().ok();
    assert_eq!(bundle.cgroup("pids", "pids.max"), "50");
    assert_eq!(bundle.cgroup("cpuset", "cpuset.cpus"), "0");
    let record = host.read(&format!("/run/spec/containers/{}/record.json", bundle.id));
    let resources = &parsed(&record)["asked"]["config"]["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 40 << 20);
    assert_eq!(resources["pids"]["limit"], 50);
    assert_eq!(
        (&resources["cpu"]["cpus"], &resources["cpu"]["shares"]),
        (&json!("0"), &json!(512))
    );
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    needs!(root, cgroups);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 40});
    bundle.sleeping();
    let record = format!("/run/spec/containers/{}/record.json", bundle.id);
    let before = host.read(&record);
    call(&bundle, "update --pids-limit 30 --cpuset-cpus 4000 ID").fails(1);
    assert_eq!(bundle.cgroup("pids", "pids.max"), "40");
    assert_eq!(host.read(&record), before);
    assert!(call(&bundle, "update --memory 4q ID").fails(1).contains("--memory"));
    assert!(call(&bundle, "update --l3-cache-schema L3:0=f ID").fails(1).contains("Intel RDT"));
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    assert!(call(&bundle, "update --pids-limit 9 ID").fails(1).contains("container not running"));
}

#[test]
fn events_count_once_and_again_and_again() {
    needs!(root, cgroups);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    let once = parsed(&call(&bundle, "events --stats ID").ok());
    assert_eq!((&once["type"], &once["id"]), (&json!("stats"), &json!(bundle.id)));
    assert_eq!(once["data"]["pids"]["current"], 1);
    assert!(once["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    let mut events = bundle.call(&format!("events --interval 20ms {}", bundle.id)).start();
    for _ in 0..2 {
        assert_eq!(parsed(&events.line())["type"], "stats");
    }
    bundle.delete_force();
    until("events end with the container", || events.has_ended().then_some(()));
    events.wait();
    assert!(call(&bundle, "events --interval 0s ID").fails(1).contains("greater than 0"));
}

#[test]
fn events_tell_when_memory_runs_out() {
    needs!(root, cgroups);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 8 << 20, "swap": 8 << 20});
    bundle.sleeping();
    let events = bundle.call(&format!("events --interval 1h {}", bundle.id)).start();
    until("it listens", || {
        let links = fs::read_dir(format!("/proc/{}/fd", events.pid())).ok()?;
        let leads = |link: fs::DirEntry| fs::read_link(link.path()).unwrap_or_default();
        links.flatten().map(leads).any(|to| to.ends_with("memory.oom_control")).then_some(())
    });
    bundle.exec("", "head -c 30000000 /dev/zero | tail -c 29000000 | wc -c");
    assert_eq!(parsed(&events.line()), json!({"type": "oom", "id": bundle.id}));
    events.signal("KILL");
}

#[test]
fn spec_writes_a_bundle_that_runs_and_overwrites_nothing() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    fs::create_dir_all(host.path("/srv/new")).unwrap();
    call(&bundle, "spec --bundle /srv/new").ok();
    let written = host.read("/srv/new/config.json");
    assert!(written.starts_with("{\n\t\"ociVersion\": \"1."), "{written}");
    assert!(call(&bundle, "spec -b /srv/new").fails(1).contains("config.json already exists"));
    assert_eq!(host.read("/srv/new/config.json"), written);
    bundle.config = parsed(&written);
    bundle.config["process"]["terminal"] = json!(false);
    bundle.script("echo $HOME; uname -n");
    assert_eq!(bundle.run().ok(), "/root\ngarth");
    fs::create_dir_all(host.path("/srv/user")).unwrap();
    call(&bundle, "spec --rootless -b /srv/user").ok();
    let rootless = parsed(&host.read("/srv/user/config.json"));
    assert_eq!(rootless["linux"]["uidMappings"][0]["size"], 1);
}

#[test]
fn features_and_version_are_what_engines_read() {
    needs!(root);
    let host = Host::new();
    let bundle = Bundle::new(&host);
    let features = parsed(&call(&bundle, "features").ok());
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert!(features["hooks"].as_array().unwrap().contains(&json!("createRuntime")));
    let version = host.garth("--version").run().ok();
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("garth version 0."), "{version}");
    assert!(lines.contains(&"spec: 1.3.0"), "{version}");
    assert_eq!(host.garth("-v").run().ok(), version);
}

#[test]
fn exec_joins_cgroups_below_the_containers_own() {
    needs!(root, v1);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    let below = format!("/sys/fs/cgroup/pids/{}/sub", bundle.id);
    host.sh(&format!("mkdir {below}")).run().ok();
    let inside = bundle.exec("--cgroup pids:sub", "cat /proc/self/cgroup").ok();
    let pids = inside.lines().find(|line| line.contains(":pids:")).unwrap();
    assert!(pids.ends_with("/sub"), "{inside}");
    let cpu = inside.lines().find(|line| line.contains(":memory:")).unwrap();
    assert!(!cpu.ends_with("/sub"), "{inside}");
    for (option, words) in [
        ("--cgroup pids:../x", "bad sub cgroup path"),
        ("--cgroup nope:sub", "nope"),
        ("--cgroup pids:gone", "ENOENT"),
        ("--cgroup a --cgroup b", "missing <controller>: prefix"),
        ("--cgroup pids:a --cgroup pids:b", "multiple times"),
    ] {
        let said = bundle.exec(option, "true").fails(255);
        assert!(said.contains(words), "{option}: {said}");
    }
    host.sh(&format!("rmdir {below}")).run().ok();
}

#[test]
fn home_is_that_of_the_containers_own_passwd() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let passwd = bundle.rootfs("/etc/passwd");
    host.write(&passwd, "root:x:0:0::/throne:/bin/sh\nuser:x:1000:1000::/host:/bin/sh\n");
    assert_eq!(bundle.script("echo $HOME").run().ok(), "/throne");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.run().ok(), "/host");
    bundle.config["process"]["user"] = json!({"uid": 77, "gid": 77});
    assert_eq!(bundle.run().ok(), "/");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME=/given"]);
    assert_eq!(bundle.run().ok(), "/given");
    // What is bound over the file counts.
    bundle.config["process"]["env"] = json!(["PATH=/bin"]);
    host.write("/srv/passwd", "other:x:77:77::/bound:/bin/sh\n");
    bundle.mount("/etc/passwd", "bind", "/srv/passwd", &["bind"]);
    assert_eq!(bundle.run().ok(), "/bound");
    bundle.sleeping();
    assert_eq!(bundle.exec("--user 1000", "echo $HOME").ok(), "/");
    assert_eq!(bundle.exec("--user 77", "echo $HOME").ok(), "/bound");
    assert_eq!(bundle.exec("--env HOME=/x", "echo $HOME").ok(), "/x");
}

#[test]
fn sockets_that_were_passed_on_are_counted_in_the_environment() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    host.write("/srv/text", "three");
    let ran =
        bundle.sh("exec 3</srv/text; LISTEN_FDS=1 LISTEN_PID=$$ exec $R run --bundle $B $ID").run();
    assert_eq!(ran.ok(), "1 1\nthree");
}

#[test]
fn errors_of_usage_and_warnings_are_in_the_log() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    call(&bundle, "create --nonsense ID").fails(1);
    assert!(bundle.logged_error().contains("--nonsense"), "{}", bundle.log_text());
    let sets = ["bounding", "effective", "permitted"];
    bundle.capabilities(&sets, &["CAP_KILL", "CAP_OF_TOMORROW"]);
    bundle.script("true").run().ok();
    let warned = bundle.log().iter().any(|line| {
        line["level"] == "warning" && line["msg"].as_str().unwrap().contains("CAP_OF_TOMORROW")
    });
    assert!(warned, "{}", bundle.log_text());
}

#[test]
fn kill_and_exec_refuse_in_runcs_words() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    bundle.kill("0").ok();
    assert!(bundle.kill("NOSUCH").fails(1).contains("NOSUCH"));
    for (options, words) in [
        ("--user user", "--user user"),
        ("--cwd nope", "Cwd must be an absolute path"),
        ("--env FOO", "FOO"),
        ("--console-socket /nowhere", "cannot use console socket"),
        ("--detach --tty", "cannot allocate tty"),
    ] {
        let said = bundle.exec(options, "true").fails(255);
        assert!(said.contains(words), "{options}: {said}");
    }
    bundle.kill("KILL").ok();
    bundle.until("stopped");
    assert!(bundle.kill("TERM").fails(1).contains("container not running"));
    call(&bundle, "kill --all ID KILL").ok();
    assert!(bundle.exec("", "true").fails(255).contains("cannot exec in a stopped container"));
}

#[test]
fn without_criu_and_with_one_that_fails_the_error_names_it() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    let images = bundle.dir("images");
    let words = format!("--criu /nowhere/criu checkpoint --image-path {images} ID");
    assert!(call(&bundle, &words).fails(1).contains("criu is not installed"));
    // A criu that prints its arguments, and fails as criu does.
    let fake = "#!/bin/sh
        echo \"$@\" >/srv/told
        while [ $# -gt 0 ]; do
            case $1 in --work-dir) work=$2;; --log-file) log=$2;; esac; shift
        done
        echo '(00.1) Error (criu/x.c:1): no luck' >$work/$log
        exit 1";
    host.write("/srv/criu", fake);
    host.sh("chmod +x /srv/criu").run().ok();
    let words = format!("--criu /srv/criu checkpoint --image-path {images} --leave-running ID");
    assert!(call(&bundle, &words).fails(1).contains("criu failed: no luck"));
    let told = host.read("/srv/told");
    let pid = bundle.pid();
    for part in
        [format!("dump --images-dir {images} "), format!("--tree {pid} "), "--leave-running".into()]
    {
        assert!(told.contains(&part), "{part} is not in {told}");
    }
    assert_eq!(bundle.status(), "running");
    let words =
        format!("--criu /srv/criu restore --image-path {images} --bundle {} other", bundle.dir(""));
    let wrong = call(&bundle, &words).fails(1);
    assert!(wrong.contains("criu failed: no luck") || wrong.contains("cgroup"), "{wrong}");
    assert!(call(&bundle, "state other").fails(1).contains("does not exist"));
}

/// An ordinary terminal, from which `argv` is run: what it shows, whether it was raw meanwhile and
/// is restored afterwards, and the exit code.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, select, struct, subprocess, sys, termios, time
master, slave = pty.openpty()
size = lambda rows, columns: fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
size(33, 101)
before = termios.tcgetattr(slave)
def setup():
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, preexec_fn=setup)
shown = b''
def until(text):
    global shown
    end = time.time() + 25
    while text not in shown:
        if time.time() > end:
            child.kill()
            sys.exit('waited for %r, saw %r' % (text, shown))
        if select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 4096)
until(b'ready')
raw = not termios.tcgetattr(slave)[3] & termios.ICANON
os.write(master, b'stty size; echo x$((40 + 2))x; tty\n')
until(b'x42x')
size(44, 111)
# One job: between two the terminal is nobody's, and what is typed then is lost.
os.write(master, b'sh -c "sleep 0.2; stty size; exec sleep 500"\n')
until(b'44 111')
os.write(master, b'\x03')
os.write(master, b'echo y$((40 + 3))y\n')
until(b'y43y')
os.write(master, b'exit 7\n')
code = child.wait()
same = termios.tcgetattr(slave) == before
print(json.dumps({'raw': raw, 'same': same, 'code': code, 'shown': shown.decode(errors='replace')}))
"#;

fn assert_terminal(answer: &str) {
    let answer = parsed(answer);
    let shown = answer["shown"].as_str().unwrap();
    assert!(shown.contains("33 101"), "{shown}");
    assert!(shown.contains("/dev/pts/0"), "{shown}");
    assert_eq!(answer["raw"], true, "the caller's terminal must pass on every byte");
    assert_eq!(answer["same"], true, "the caller's terminal is as it was");
    assert_eq!(answer["code"], 7);
}

#[test]
fn the_foreground_has_a_terminal_through_the_callers_own() {
    needs!(root, "python3");
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/terminal.py", TERMINAL);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script("echo ready; exec sh -i");
    let ran = bundle.sh("python3 /srv/terminal.py $R run --bundle $B $ID").run();
    assert_terminal(&ran.ok());
    bundle.config["process"]["terminal"] = json!(false);
    bundle.sleeping();
    let exec = "python3 /srv/terminal.py $R exec --tty $ID sh -c 'echo ready; exec sh -i'";
    assert_terminal(&bundle.sh(exec).run().ok());
}

#[test]
fn a_terminal_that_nobody_would_hold_is_refused() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script("true");
    assert!(bundle.create().fails(1).contains("cannot allocate tty"));
    assert!(bundle.detach().fails(1).contains("cannot allocate tty"));
    // setsid: no terminal to be found through /dev/tty either.
    let ran = bundle.sh("setsid -w $R run --bundle $B $ID </dev/null").run();
    assert!(ran.fails(1).contains("/dev/tty"));
    bundle.config["process"]["terminal"] = json!(false);
    let with_socket = bundle.create_with("--console-socket /srv/socket");
    assert!(with_socket.fails(1).contains("cannot use console socket"));
}

#[test]
fn signals_in_the_foreground_reach_the_program() {
    needs!(root);
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done");
    let running = bundle.start_run("").start();
    assert_eq!(running.line(), "ready");
    running.signal("USR1");
    assert_eq!(running.line(), "caught");
    assert_eq!(running.wait().code, 9);
}
