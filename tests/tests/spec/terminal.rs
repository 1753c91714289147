//! process.terminal: its pseudo-terminal, its size, and where the other end goes.

use std::fs::File;
use std::io::{Read, Write};

use garth_tests::{Bundle, Socket, terminal};
use serde_json::json;

/// Reads until `word` has arrived, or the end.
fn read_until(terminal: &mut File, word: &str) -> String {
    let mut text = String::new();
    let mut part = [0u8; 4096];
    while !text.contains(word) {
        // EIO is the end of file of a terminal.
        match terminal.read(&mut part) {
            Ok(0) | Err(_) => panic!("no {word:?} in {text:?}"),
            Ok(length) => text += &String::from_utf8_lossy(&part[..length]),
        }
    }
    text
}

/// Creates and starts the container, and returns its terminal.
fn started(bundle: &mut Bundle, script: &str) -> File {
    bundle.config["process"]["terminal"] = true.into();
    let socket = Socket::listen(&bundle.host().path(&bundle.dir("console.sock")));
    let option = format!("--console-socket {}", bundle.dir("console.sock"));
    bundle.script(script).create_with(&option).ok();
    let (_, mut fds) = socket.receive();
    assert_eq!(fds.len(), 1);
    bundle.start().ok();
    terminal(fds.remove(0))
}

#[test]
fn its_other_end_is_sent_to_the_console_socket() {
    bundle!(host, bundle);
    let mut terminal = started(&mut bundle, "read word; echo \"<$word>\"; sleep 600");
    terminal.write_all(b"hello\n").unwrap();
    read_until(&mut terminal, "<hello>\r\n");
}

#[test]
fn it_is_on_the_three_standard_streams_and_controls_the_session() {
    bundle!(host, bundle);
    let script = "for fd in 0 1 2; do test -t $fd && echo fd $fd; done
        echo hello >/dev/tty; cat /proc/self/stat | cut -d' ' -f6,7; echo end; sleep 600";
    let mut terminal = started(&mut bundle, script);
    let text = read_until(&mut terminal, "end\r\n");
    assert!(text.starts_with("fd 0\r\nfd 1\r\nfd 2\r\nhello\r\n1 "), "{text}");
    assert!(!text.contains("1 0\r\n"), "no controlling terminal: {text}");
}

#[test]
fn it_is_dev_console_and_in_dev_pts() {
    bundle!(host, bundle);
    let script =
        "tty; stat -c %t:%T /dev/console; stat -L -c %t:%T /proc/self/fd/0; echo end; sleep 600";
    let mut terminal = started(&mut bundle, script);
    let text = read_until(&mut terminal, "end\r\n");
    let lines: Vec<&str> = text.lines().collect();
    assert!(["/dev/pts/0", "/dev/console"].contains(&lines[0]), "{text}");
    assert!(lines[1].starts_with("88:") && lines[1] == lines[2], "{text}");
}

#[test]
fn console_size() {
    bundle!(host, bundle);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 117});
    let mut terminal = started(&mut bundle, "stty size; echo end; sleep 600");
    assert_eq!(read_until(&mut terminal, "end\r\n"), "33 117\r\nend\r\n");
}

#[test]
fn console_size_without_a_terminal_is_ignored() {
    bundle!(host, bundle);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 117});
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

#[test]
fn of_another_user() {
    bundle!(host, bundle);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let script = "stat -L -c %u /proc/self/fd/0; echo hello >/dev/pts/0; echo end; sleep 600";
    let mut terminal = started(&mut bundle, script);
    assert_eq!(read_until(&mut terminal, "end\r\n"), "1000\r\nhello\r\nend\r\n");
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    let mut terminal = started(&mut bundle, "test -t 0 && echo hello >/dev/tty; sleep 600");
    read_until(&mut terminal, "hello\r\n");
}

#[test]
fn of_exec() {
    bundle!(host, bundle);
    bundle.sleeping();
    let socket = Socket::listen(&host.path(&bundle.dir("console.sock")));
    let words = format!(
        "exec --tty --detach --console-socket {} {} sh -c",
        bundle.dir("console.sock"),
        bundle.id
    );
    let script = "tty >/dev/null && read word && echo \"<$word>\"; sleep 9";
    bundle.call(&words).arg(script).run().ok();
    let (_, mut fds) = socket.receive();
    let mut terminal = terminal(fds.remove(0));
    terminal.write_all(b"hello\n").unwrap();
    read_until(&mut terminal, "<hello>\r\n");
}

#[test]
fn of_exec_by_a_process_file_with_its_size() {
    bundle!(host, bundle);
    bundle.sleeping();
    let socket = Socket::listen(&host.path(&bundle.dir("console.sock")));
    let options = format!("--detach --console-socket {}", bundle.dir("console.sock"));
    bundle
        .exec_process(&options, |process| {
            process["terminal"] = true.into();
            process["consoleSize"] = json!({"height": 33, "width": 117});
            process["args"] = json!(["sh", "-c", "stty size; echo end; sleep 9"]);
        })
        .ok();
    let (_, mut fds) = socket.receive();
    let mut terminal = terminal(fds.remove(0));
    assert_eq!(read_until(&mut terminal, "end\r\n"), "33 117\r\nend\r\n");
}

#[test]
fn of_run_in_the_foreground_is_the_callers() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    // The size may arrive a little later.
    bundle.script(
        "test -t 0 && read word && echo \"<$word>\"
        for n in $(seq 50); do size=$(stty size 2>/dev/null); test \"$size\" && break; sleep 0.05; done
        echo $size; exit 7",
    );
    // script(1) gives the runtime a terminal.
    let run = "stty rows 21 cols 99; exec $R run --bundle $B $ID";
    let ran = bundle
        .sh("exec script --quiet --return --command \"$RUN\" /dev/null")
        .env("RUN", run)
        .input("hello\n")
        .run();
    assert!(ran.stdout.contains("<hello>") && ran.stdout.contains("21 99"), "{ran}");
    assert_eq!(ran.code, 7, "{ran}");
}

#[test]
fn create_without_a_console_socket_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    assert_ne!(bundle.create().code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    bundle!(host, bundle);
    let _socket = Socket::listen(&host.path(&bundle.dir("console.sock")));
    let option = format!("--console-socket {}", bundle.dir("console.sock"));
    assert_ne!(bundle.create_with(&option).code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn a_console_socket_that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    let option = format!("--console-socket {}", bundle.dir("no.sock"));
    assert_ne!(bundle.create_with(&option).code, 0);
    bundle.assert_nothing_left();
}

#[test]
fn a_console_socket_may_have_a_long_path() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    let long = bundle.dir(&format!("{0}/{0}/{0}", "x".repeat(90)));
    host.sh(&format!("mkdir -p {long}")).run().ok();
    // Made under a short name: a socket address has no room for the whole path.
    let link = host.path("/srv/c");
    std::os::unix::fs::symlink(host.path(&long), &link).unwrap();
    let socket = Socket::listen(&link.join("s"));
    bundle.script("sleep 600").create_with(&format!("--console-socket {long}/s")).ok();
    assert_eq!(socket.receive().1.len(), 1);
}

#[test]
fn a_console_socket_at_which_nobody_accepts_is_an_error_at_once() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    let script = "import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(0)
waiting = []
while True:
    c = socket.socket(socket.AF_UNIX); c.setblocking(False); waiting.append(c)
    try: c.connect(sys.argv[1])
    except BlockingIOError: break
sys.exit(subprocess.call(sys.argv[2:], timeout=20))";
    let ran = bundle
        .sh("exec python3 -c \"$SCRIPT\" $B/full.sock $R create --bundle $B --console-socket $B/full.sock $ID")
        .env("SCRIPT", script)
        .run();
    assert!(ran.code != 0 && !ran.stderr.contains("TimeoutExpired"), "{ran}");
    assert!(bundle.logged_error().contains("full.sock"), "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn lines_that_go_to_a_pipe_end_as_the_program_wrote_them() {
    bundle!(host, bundle);
    bundle.config["process"]["terminal"] = true.into();
    // A program that writes immediately, in a runtime that has a terminal only as its input.
    bundle.config["process"]["args"] = json!(["echo", "word"]);
    let run = "$R run --bundle $B $ID </dev/tty 2>/dev/null | od -An -c >$B/seen";
    for _ in 0..20 {
        let call = bundle.sh("exec script --quiet --return --command \"$RUN\" /dev/null");
        call.env("RUN", run).run().ok();
        let seen = host.read(&bundle.dir("seen"));
        assert!(seen.contains("w   o   r   d  \\n") && !seen.contains("\\r"), "{seen}");
    }
}
