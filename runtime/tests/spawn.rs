//! `garth::Spawn`: the environment of a program that is started without any namespace.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use garth::config::Rlimit;
use garth::{FileAction, Group, Kind, Spawn, Stdio};

fn said(spawn: Spawn) -> String {
    let mut child = Spawn { stdout: Stdio::Pipe, ..spawn }.spawn().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.process.wait().unwrap();
    said
}

fn sh(script: &str) -> Spawn {
    Spawn::new(["sh", "-c", script])
}

#[test]
fn the_exit_code_and_the_signal_come_back() {
    assert_eq!(sh("exit 7").spawn().unwrap().process.wait().unwrap().code(), 7);
    let killed = sh("kill -TERM $$").spawn().unwrap().process.wait().unwrap();
    assert_eq!(killed, garth::sys::process::Ended::Killed(15));
}

#[test]
fn pipes_carry_input_and_output_as_with_popen() {
    let spawn = Spawn { stdin: Stdio::Pipe, stdout: Stdio::Pipe, ..Spawn::new(["cat"]) };
    let mut cat = spawn.spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through the pipe").unwrap();
    let mut back = String::new();
    cat.stdout.take().unwrap().read_to_string(&mut back).unwrap();
    assert_eq!(back, "through the pipe");
    assert_eq!(cat.process.wait().unwrap().code(), 0);
}

#[test]
fn the_environment_and_the_directory_are_those_given() {
    let env = Some(vec![("PATH".into(), "/usr/bin:/bin".into()), ("NAME".into(), "x y".into())]);
    let spawn = Spawn { env, cwd: Some("/usr".into()), ..sh("pwd; env | sort | grep NAME") };
    assert_eq!(said(spawn), "/usr\nNAME=x y\n");
}

#[test]
fn only_the_named_descriptors_are_open() {
    let file = File::open("/etc/passwd").unwrap();
    let leak = File::open("/etc/group").unwrap();
    // Opened without close-on-exec, as C libraries do.
    garth::sys::raw::set_cloexec(leak.as_raw_fd(), false).unwrap();
    let files = vec![FileAction::Copy { from: file.as_raw_fd(), to: 9 }, FileAction::Close(0)];
    let look = "for n in $(seq 0 99); do [ -e /proc/$$/fd/$n ] && printf '%s ' $n; done";
    assert_eq!(said(Spawn { files, ..sh(look) }), "1 2 9 ");
}

#[test]
fn a_descriptor_can_keep_its_number() {
    let file = File::open("/etc/hostname").unwrap();
    let number = file.as_raw_fd();
    let files = vec![FileAction::Copy { from: number, to: number }];
    let link = said(Spawn { files, ..sh(&format!("readlink /proc/self/fd/{number}")) });
    assert_eq!(link, "/etc/hostname\n");
}

#[test]
fn the_signal_mask_and_dispositions_are_those_given() {
    let (term, hup) = (1 << 14, 1 << 0);
    let spawn = Spawn { blocked: term, ignored: hup, ..Spawn::new(["cat", "/proc/self/status"]) };
    let status = said(spawn);
    assert!(status.contains("SigBlk:\t0000000000004000\n"), "{status}");
    assert!(status.contains("SigIgn:\t0000000000000001\n"), "{status}");
    // The caller's own are unchanged: Rust ignores SIGPIPE.
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(own.contains("SigBlk:\t0000000000000000\n"), "{own}");
}

#[test]
fn limits_mask_and_session_are_set() {
    let spawn = Spawn {
        rlimits: vec![Rlimit { resource: 7, soft: 33, hard: 44 }],
        umask: Some(0o027),
        group: Group::Session,
        ..sh("ulimit -Sn; ulimit -Hn; umask; cut -d' ' -f 1,5,6 /proc/$$/stat")
    };
    let lines = said(spawn);
    let mut lines = lines.lines();
    assert_eq!(lines.next(), Some("33"));
    assert_eq!(lines.next(), Some("44"));
    assert_eq!(lines.next(), Some("0027"));
    let ids: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "pid, group, session: {ids:?}");
}

#[test]
fn a_process_group_of_its_own() {
    let ids = said(Spawn { group: Group::Process(0), ..sh("cut -d' ' -f 1,5 /proc/$$/stat") });
    let (pid, group) = ids.trim().split_once(' ').unwrap();
    assert_eq!(pid, group);
}

#[test]
fn a_failure_is_told_before_spawn_returns() {
    let missing = Spawn::new(["no-such-program"]).spawn().unwrap_err();
    assert_eq!(missing.get_kind(), Kind::NotFound);
    let denied = Spawn::new(["/etc/passwd"]).spawn().unwrap_err();
    assert_eq!(denied.get_kind(), Kind::NotExecutable);
    let lost = Spawn { cwd: Some("/no/such/place".into()), ..sh("true") }.spawn().unwrap_err();
    assert!(lost.to_string().contains("/no/such/place"), "{lost}");
    let raised = Spawn {
        rlimits: vec![Rlimit { resource: 7, soft: u64::MAX, hard: u64::MAX }],
        ..sh("true")
    };
    assert!(raised.spawn().unwrap_err().to_string().contains("nofile"));
    assert!(Spawn::default().spawn().unwrap_err().to_string().contains("no command"));
}

#[test]
fn many_threads_spawn_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for code in 0..25 {
                    let child = sh(&format!("exit {code}")).spawn().unwrap();
                    assert_eq!(child.process.wait().unwrap().code(), code);
                }
            });
        }
    });
}
