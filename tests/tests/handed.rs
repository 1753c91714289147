//! What a service manager passes down reaches the command: sockets, readiness notification,
//! directories, the watchdog.

use garth_tests::{Host, needs};

/// The socket of a service manager, for the managers below.
const NOTIFIED: &str = r#"
import os, socket
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
os.makedirs("/run/manager", exist_ok=True)
path = "/run/manager/notify"
if os.path.exists(path): os.unlink(path)
manager.bind(path)
os.chmod(path, 0o666)
manager.settimeout(10)
"#;

/// A service manager that waits for a notification, and prints it and its sender. Its arguments are
/// garth's.
const MANAGER: &str = r#"
import os, subprocess, sys
from notified import manager, path
ran = subprocess.run([os.environ["GARTH"]] + sys.argv[1:], env=dict(os.environ, NOTIFY_SOCKET=path))
print(manager.recv(99).decode(), ran.returncode)
"#;

const READY: &str = r#"
import os, socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"#;

#[test]
fn a_command_says_that_it_is_ready() {
    needs!(root, "python3", userns);
    let host = Host::new();
    host.write("/srv/notified.py", NOTIFIED);
    host.write("/srv/manager.py", MANAGER);
    host.write("/srv/ready.py", READY);
    for flags in ["", "-u nobody", "--userns=100000:65536", "--profile compat", "-d --name web"] {
        let call = format!("python3 /srv/manager.py wrap {flags} -- python3 /srv/ready.py");
        let said = host.sh(&call).run();
        assert!(said.stdout.ends_with("READY=1 0"), "{flags}: {said}");
    }
    // The socket's neighbours are not visible.
    let call = "NOTIFY_SOCKET=/run/manager/notify $GARTH wrap -- ls -A /run /run/manager";
    host.sh("touch /run/manager/other /run/x").run().ok();
    let said = host.sh(call).run().ok();
    assert!(said.contains("notify") && !said.contains("other") && !said.contains('x'), "{said}");
    // A socket that does not exist is not required.
    host.sh("NOTIFY_SOCKET=/run/manager/gone $GARTH wrap -- true").run().ok();
}

/// A manager that has its service reload, waits for its watchdog, and stops it. It prints each
/// message, and whether the sender is a process that it can see.
const RELOADS: &str = r#"
import os, signal, socket, struct, subprocess, sys
from notified import manager, path
manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
def heard():
    text, extra, _, _ = manager.recvmsg(999, 999)
    pids = [struct.unpack("3i", data)[0] for _, kind, data in extra if kind == socket.SCM_CREDENTIALS]
    files = [len(data) // 4 for _, kind, data in extra if kind == socket.SCM_RIGHTS]
    print(text.decode().split("\n")[0], os.path.exists(f"/proc/{pids[0]}"), sum(files), flush=True)
env = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="50000")
shell = 'WATCHDOG_PID=$$ exec "$@"'
service = subprocess.Popen(["sh", "-c", shell, "sh", os.environ["GARTH"]] + sys.argv[1:], env=env)
heard()
service.send_signal(signal.SIGHUP)
for _ in range(4): heard()
service.terminate()
heard()
print(service.wait(10))
"#;

/// A service that speaks the whole protocol (sd_notify(3)).
const SPEAKS: &str = r#"
import array, os, signal, socket, sys, time
def tell(text, fds=[]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        manager.sendmsg([text.encode()], files, 0, os.environ["NOTIFY_SOCKET"])
reloads = []
signal.signal(signal.SIGHUP, lambda *_: reloads.append(1))
def stop(*_):
    tell("STOPPING=1")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
assert "WATCHDOG_PID" not in os.environ
every = int(os.environ["WATCHDOG_USEC"]) / 2e6
tell("READY=1\nSTATUS=works")
while not reloads: time.sleep(0.01)
tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
tell("READY=1")
tell("FDSTORE=1\nFDNAME=state", [0])
time.sleep(every)
tell("WATCHDOG=1")
while True: time.sleep(1)
"#;

#[test]
fn a_service_reloads_and_is_watched() {
    needs!(root, "python3", userns);
    let host = Host::new();
    host.write("/srv/notified.py", NOTIFIED);
    host.write("/srv/manager.py", RELOADS);
    host.write("/srv/speaks.py", SPEAKS);
    for flags in ["", "-u nobody", "--userns=100000:65536", "--as-pid-1"] {
        let call = format!("python3 /srv/manager.py wrap {flags} -- python3 /srv/speaks.py");
        let said = host.sh(&call).run();
        let expected = "READY=1 True 0\nRELOADING=1 True 0\nREADY=1 True 0\nFDSTORE=1 True 1\n\
            WATCHDOG=1 True 0\nSTOPPING=1 True 0\n0";
        assert_eq!(said.stdout, expected, "{flags}: {said}");
    }
}

/// Executes its arguments with a listening socket as descriptor 3 and another as 4.
const ACTIVATE: &str = r#"
import os, socket, sys
kept = []
for fd in 3, 4:
    sock = socket.socket()
    kept.append(sock)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    os.dup2(sock.fileno(), fd)
    os.set_inheritable(fd, True)
os.environ.update(LISTEN_FDS="2", LISTEN_FDNAMES="web:admin", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
"#;

const ACTIVATED: &str = r#"
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()), (os.environ["LISTEN_PID"], os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
for fd in range(3, 3 + int(os.environ["LISTEN_FDS"])):
    sock = socket.socket(fileno=fd)
    print(names[fd - 3], sock.getsockname()[0], sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    sock.detach()
print(sorted(os.listdir("/proc/self/fd"), key=int)[:-1])
"#;

#[test]
fn a_command_is_activated_by_sockets() {
    needs!(root, "python3", userns, cgroups);
    let host = Host::new();
    host.write("/srv/activate.py", ACTIVATE);
    host.write("/srv/activated.py", ACTIVATED);
    let expected = "web 127.0.0.1 1\nadmin 127.0.0.1 1\n['0', '1', '2', '3', '4']";
    for flags in [
        "",
        "--as-pid-1",
        "-u nobody",
        "--userns=100000:65536",
        "--profile compat",
        "--network private",
        "--memory 64m",
    ] {
        let call =
            format!("python3 /srv/activate.py $GARTH wrap {flags} -- python3 /srv/activated.py");
        assert_eq!(host.sh(&call).run().ok(), expected, "{flags}");
    }
    let call = "python3 /srv/activate.py $GARTH wrap -d --name web --log /srv/log -- \
        python3 /srv/activated.py; $GARTH wait web >/dev/null; cat /srv/log";
    assert_eq!(host.sh(call).run().ok(), format!("web\n{expected}"));
}

#[test]
fn sockets_for_another_process_are_not_passed_on() {
    needs!(root);
    let host = Host::new();
    let call = "LISTEN_PID=1 LISTEN_FDS=1 $GARTH wrap -- sh -c 'echo $LISTEN_FDS; ls /proc/self/fd' 3</dev/null";
    assert_eq!(host.sh(call).run().ok(), "\n0\n1\n2\n3");
    let call = "LISTEN_PID=$$ LISTEN_FDS=2 exec $GARTH wrap -- true 3</dev/null 4<&-";
    host.sh(call).run().refused(125, "descriptor 4 is not open");
}

#[test]
fn directories_that_were_made_for_a_command_are_there() {
    needs!(root);
    let host = Host::new();
    host.sh("mkdir -p /run/web/x /run/credentials/web; echo secret >/run/credentials/web/key")
        .run()
        .ok();
    let call = "CREDENTIALS_DIRECTORY=/run/credentials/web RUNTIME_DIRECTORY=/run/web:/run/garth \
        $GARTH wrap --name web -- sh -c 'echo pid >/run/web/pid; cat $CREDENTIALS_DIRECTORY/key
        echo x >/run/credentials/web/key; ls /run'";
    let ran = host.sh(call).run();
    assert_eq!(ran.stdout, "secret\ncredentials\nweb", "{ran}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    assert_eq!(host.read("/run/web/pid"), "pid\n");
}

#[test]
fn what_a_flag_names_is_not_a_path_of_the_host() {
    needs!(root);
    let host = Host::new();
    host.sh("mkdir -p /run/secrets /run/web; echo secret >/run/secrets/key").run().ok();
    let call = "$GARTH wrap -e CREDENTIALS_DIRECTORY=/run/secrets -e RUNTIME_DIRECTORY=/run/web \
        --run-dir web -- sh -c 'ls /run; touch /run/web/mine'; ls /run/web";
    assert_eq!(host.sh(call).run().ok(), "web");
}
