//! exec: another process in a container.

use serde_json::json;

use crate::status_of;

#[test]
fn the_exit_code_and_the_streams() {
    bundle!(host, bundle);
    bundle.sleeping();
    let call = bundle.call(&format!("exec {} sh -c", bundle.id));
    let ran = call.arg("cat; echo error >&2; exit 7").input("text").run();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (7, "text", "error"));
}

#[test]
fn a_signal_that_ends_it_becomes_128_plus_its_number() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.exec("", "kill -9 $$").code, 137);
}

#[test]
fn it_is_in_the_namespaces_of_the_container() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.sleeping();
    let script = "cd /proc; for n in mnt net pid uts ipc cgroup user; do \
        test $(readlink self/ns/$n) = $(readlink 1/ns/$n) || echo $n; done; hostname";
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_PTRACE"]);
    let ran = bundle.exec_process("", |process| process["args"] = json!(["sh", "-c", script]));
    assert_eq!(ran.ok(), "box");
}

#[test]
fn cwd() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.exec("--cwd /etc", "pwd").ok(), "/etc");
    assert_eq!(bundle.exec("", "pwd").ok(), "/");
}

#[test]
fn env_is_added_to_that_of_the_container() {
    bundle!(host, bundle);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "OWN=1", "SAME=old"]);
    bundle.sleeping();
    let script = "echo $OWN $SAME $ONE $TWO";
    let ran = bundle.exec("--env ONE=one --env TWO=two --env SAME=new", script);
    assert_eq!(ran.ok(), "1 new one two");
}

#[test]
fn user() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.exec("--user 1000:100", "id -u; id -g").ok(), "1000\n100");
    assert_eq!(bundle.exec("-u 7", "id -u").ok(), "7");
}

#[test]
fn additional_gids() {
    bundle!(host, bundle);
    bundle.sleeping();
    let text =
        bundle.exec("--user 7:8 --additional-gids 100 --additional-gids 65534", "id -G").ok();
    for gid in ["100", "65534"] {
        assert!(text.split(' ').any(|one| one == gid), "{text}");
    }
}

#[test]
fn cap() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_KILL"]);
    bundle.sleeping();
    let status = bundle.exec("--cap CAP_CHOWN", "cat /proc/self/status").ok();
    let bits = u64::from_str_radix(&status_of(&status, "CapEff"), 16).unwrap();
    assert_eq!(bits & 1, 1, "{status}");
}

#[test]
fn no_new_privs() {
    bundle!(host, bundle);
    bundle.config["process"]["noNewPrivileges"] = false.into();
    bundle.sleeping();
    let script = "cat /proc/self/status";
    assert_eq!(status_of(&bundle.exec("", script).ok(), "NoNewPrivs"), "0");
    assert_eq!(status_of(&bundle.exec("--no-new-privs", script).ok(), "NoNewPrivs"), "1");
}

#[test]
fn a_process_file() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["sh", "-c", "echo $TEA; pwd; id -u; ulimit -n"]);
        process["env"] = json!(["PATH=/bin", "TEA=green"]);
        process["cwd"] = "/tmp".into();
        process["user"] = json!({"uid": 7, "gid": 8});
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 90, "hard": 100}]);
    });
    assert_eq!(ran.ok(), "green\n/tmp\n7\n90");
}

#[test]
fn the_umask_of_a_process_file() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["sh", "-c", "umask"]);
        process["user"]["umask"] = 0o77.into();
    });
    assert_eq!(ran.ok(), "0077");
}

#[test]
fn short_options() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(
        bundle.exec("-e ONE=one -u 7:8 -g 9", "echo $ONE; id -u; id -G").ok(),
        "one\n7\n8 9"
    );
}

#[test]
fn detach_with_a_pid_file() {
    bundle!(host, bundle);
    bundle.sleeping();
    let file = bundle.dir("exec.pid");
    bundle.apart(&format!("exec --detach --pid-file {file} $ID sleep 900")).ok();
    let pid = host.read(&file);
    assert_eq!(host.read(&format!("/proc/{pid}/cmdline")), "sleep\u{0}900\u{0}");
}

#[test]
fn preserve_fds() {
    bundle!(host, bundle);
    bundle.sleeping();
    host.write("/srv/three", "three");
    let exec = "exec 3</srv/three; exec $R exec --preserve-fds 1 $ID sh -c 'cat <&3'";
    assert_eq!(bundle.sh(exec).run().ok(), "three");
}

#[test]
fn options_may_come_with_an_equals_sign() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_eq!(bundle.exec("--cwd=/etc --user=7:8", "pwd; id -u").ok(), "/etc\n7");
}

#[test]
fn what_follows_the_id_is_the_commands() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.call(&format!("exec {} echo --cwd -e --help", bundle.id)).run();
    assert_eq!(ran.ok(), "--cwd -e --help");
}

#[test]
fn in_a_created_container() {
    bundle!(host, bundle);
    bundle.script("exec sleep 600").create().ok();
    assert_eq!(bundle.exec("", "echo hello").ok(), "hello");
}

#[test]
fn in_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.user_namespace(200_000);
    bundle.sleeping();
    let text = bundle.exec("--user 7:8", "id -u; id -g; cat /proc/self/uid_map").ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["7", "8", "0", "200000", "65536"]);
}

#[test]
fn in_a_time_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.namespace("time", None);
    bundle.sleeping();
    let script = "test $(readlink /proc/self/ns/time) = $(readlink /proc/1/ns/time) && echo same";
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_PTRACE"]);
    let ran = bundle.exec_process("", |process| process["args"] = json!(["sh", "-c", script]));
    assert_eq!(ran.ok(), "same");
}

#[test]
fn in_a_paused_container_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    let ran = bundle.exec("", "echo it runs");
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    bundle.call(&format!("resume {}", bundle.id)).run().ok();
    assert_eq!(bundle.exec("", "echo it runs").ok(), "it runs");
}

#[test]
fn ignore_paused() {
    bundle!(host, bundle);
    bundle.sleeping();
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    let words = format!("exec --ignore-paused {} echo hello", bundle.id);
    let running = bundle.call(&words).start();
    // It is frozen as soon as it is inside, and continues with the rest.
    std::thread::sleep(std::time::Duration::from_millis(100));
    bundle.call(&format!("resume {}", bundle.id)).run().ok();
    assert_eq!(running.wait().ok(), "hello");
}

fn not_executed(command: &str, words: &[&str]) {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.call(&format!("exec {} {command}", bundle.id)).run();
    assert_ne!(ran.code, 0, "{ran}");
    let text = (bundle.log_text() + &ran.stderr).to_lowercase();
    assert!(words.iter().any(|word| text.contains(word)), "none of {words:?} in {text}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn of_a_name_that_is_not_in_path() {
    not_executed("no-such-command", &["executable file not found", "no such file or directory"]);
}

#[test]
fn of_a_file_that_is_not_executable() {
    not_executed("/etc/passwd", &["permission denied"]);
}

#[test]
fn without_a_command_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    assert_ne!(bundle.call(&format!("exec {}", bundle.id)).run().code, 0);
}

#[test]
fn it_ends_with_the_container() {
    bundle!(host, bundle);
    bundle.sleeping();
    let running = bundle.call(&format!("exec {} sleep 600", bundle.id)).start();
    garth_tests::until("it runs", || {
        (host
            .sh(&format!("cat /sys/fs/cgroup/pids/{}/cgroup.procs", bundle.id))
            .run()
            .stdout
            .lines()
            .count()
            == 2)
            .then_some(())
    });
    bundle.kill("KILL").ok();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn a_process_file_without_capabilities_and_limits_has_those_of_the_container() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_KILL", "CAP_CHOWN"]);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["sh", "-c", "cat /proc/self/status; ulimit -n"]);
        let process = process.as_object_mut().unwrap();
        process.remove("capabilities");
        process.remove("rlimits");
    });
    let text = ran.ok();
    // chown is 0, kill is 5.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status_of(&text, set), format!("{:016x}", 1 | 1 << 5), "{text}");
    }
    assert!(text.ends_with("\n77"), "{text}");
}

#[test]
fn cap_reaches_another_user_where_there_are_inheritable_ones() {
    bundle!(host, bundle);
    bundle.config["process"]["capabilities"] = json!({});
    let names = ["CAP_KILL", "CAP_CHOWN"];
    bundle.capabilities(&["bounding", "effective", "permitted", "inheritable"], &names);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.sleeping();
    let status = bundle.exec("--cap CAP_CHOWN", "cat /proc/self/status").ok();
    assert_eq!(status_of(&status, "CapEff"), format!("{:016x}", 1), "{status}");
}
