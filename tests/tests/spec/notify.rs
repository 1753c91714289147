//! NOTIFY_SOCKET (sd_notify(3)), as runc passes it on.

use std::os::unix::net::UnixDatagram;

use garth_tests::{Bundle, Host, PATIENCE};

/// A program that says that it is ready, with other words before and after that must not be passed
/// on.
fn ready(bundle: &mut Bundle<'_>) {
    for (link, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(to, bundle.host().path(&bundle.rootfs(link))).unwrap();
    }
    bundle.mount("/usr", "bind", "/usr", &["rbind", "ro"]);
    let script = "import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'STATUS=loading\\nREADY=1\\nMAINPID=77\\n', os.environ['NOTIFY_SOCKET'])
time.sleep(600)";
    bundle.config["process"]["args"] = serde_json::json!(["/usr/bin/python3", "-c", script]);
}

fn listen(host: &Host) -> UnixDatagram {
    let socket = UnixDatagram::bind(host.path("/srv/notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What is received, until the main process has been named.
fn hear(socket: &UnixDatagram) -> Vec<String> {
    let (mut lines, mut text) = (Vec::<String>::new(), [0; 4096]);
    while !lines.iter().any(|line| line.starts_with("MAINPID=")) {
        let length = socket.recv(&mut text).unwrap();
        lines.extend(String::from_utf8_lossy(&text[..length]).lines().map(str::to_owned));
    }
    lines
}

#[test]
fn start_passes_on_that_the_program_is_ready() {
    bundle!(host, bundle);
    let socket = listen(&host);
    ready(&mut bundle);
    let create = "export NOTIFY_SOCKET=/srv/notify
        $R create --bundle $B $ID </dev/null >$B/out 2>$B/err && $R start $ID";
    bundle.sh(create).run().ok();
    assert_eq!(hear(&socket), ["READY=1".to_owned(), format!("MAINPID={}", bundle.pid())]);
}

#[test]
fn run_detached_waits_until_the_program_is_ready() {
    bundle!(host, bundle);
    let socket = listen(&host);
    ready(&mut bundle);
    let run = "export NOTIFY_SOCKET=/srv/notify
        $R run --detach --bundle $B $ID </dev/null >$B/out 2>$B/err";
    bundle.sh(run).run().ok();
    socket.set_nonblocking(true).unwrap();
    assert_eq!(hear(&socket), ["READY=1".to_owned(), format!("MAINPID={}", bundle.pid())]);
}

#[test]
fn in_the_foreground_the_runtime_is_the_main_process() {
    bundle!(host, bundle);
    let socket = listen(&host);
    ready(&mut bundle);
    let run = bundle.sh("NOTIFY_SOCKET=/srv/notify exec $R run --bundle $B $ID").start();
    let lines = hear(&socket);
    assert_eq!(lines[0], "READY=1");
    let main: u64 = lines[1].strip_prefix("MAINPID=").unwrap().parse().unwrap();
    assert_ne!(main, bundle.pid());
    bundle.kill("KILL").ok();
    assert_eq!(run.wait().code, 137);
}

#[test]
fn a_program_that_ends_before_it_is_ready_is_not_waited_for() {
    bundle!(host, bundle);
    let _socket = listen(&host);
    bundle.script("exit 3");
    let run =
        "NOTIFY_SOCKET=/srv/notify $R run --detach --bundle $B $ID </dev/null >$B/out 2>$B/err";
    bundle.sh(run).run().ok();
    bundle.until("stopped");
}

#[test]
fn nobody_is_told_where_nobody_asks() {
    bundle!(host, bundle);
    bundle.script("echo \"<$NOTIFY_SOCKET>\"; test -e /run/notify; echo $?");
    assert_eq!(bundle.run().ok(), "<>\n1");
}

#[test]
fn in_a_user_namespace_it_is_passed_on_as_well() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    let socket = listen(&host);
    ready(&mut bundle);
    bundle.user_namespace(100_000);
    // Its root must be able to reach the root file system.
    host.sh("chmod 755 /srv /srv/box0").run().ok();
    let run = "export NOTIFY_SOCKET=/srv/notify
        $R run --detach --bundle $B $ID </dev/null >$B/out 2>$B/err";
    bundle.sh(run).run().ok();
    assert_eq!(hear(&socket)[0], "READY=1");
}

#[test]
fn a_socket_that_an_engine_mounts_stays() {
    bundle!(host, bundle);
    host.write("/srv/own/file", "the engine's");
    bundle.mount("/run/notify", "bind", "/srv/own", &["bind"]);
    bundle.config["process"]["args"] = serde_json::json!(["cat", "/run/notify/file"]);
    let run = "NOTIFY_SOCKET=/srv/notify exec $R run --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "the engine's");
}
