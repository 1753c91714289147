//! linux.seccomp.

use garth_tests::{Bundle, Socket, needs, parsed};
use serde_json::{Value, json};

use crate::{refused, status_of};

/// A filter that allows everything except what these rules say.
fn filter(bundle: &mut Bundle, rules: Value) {
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules});
}

/// What happens to mkdir(1) under a rule for its system calls.
fn mkdir(rule: Value) -> garth_tests::Ran {
    let host = garth_tests::Host::new();
    let mut bundle = Bundle::new(&host);
    let mut rule = rule;
    rule["names"] = json!(["mkdir", "mkdirat"]);
    filter(&mut bundle, json!([rule]));
    bundle.script("mkdir /tmp/made; code=$?; ls /tmp; exit $code").run()
}

#[test]
fn errno_is_eperm_by_default() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_ERRNO"}));
    assert!(ran.code == 1 && ran.stderr.contains("Operation not permitted"), "{ran}");
}

#[test]
fn errno_ret() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSPC}));
    assert!(ran.code == 1 && ran.stderr.contains("No space left"), "{ran}");
}

#[test]
fn errno_ret_of_zero_does_nothing_and_succeeds() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}));
    assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran}");
}

#[test]
fn kill() {
    needs!(root);
    assert_eq!(mkdir(json!({"action": "SCMP_ACT_KILL"})).code, 128 + libc::SIGSYS);
}

#[test]
fn kill_thread() {
    needs!(root);
    assert_eq!(mkdir(json!({"action": "SCMP_ACT_KILL_THREAD"})).code, 128 + libc::SIGSYS);
}

#[test]
fn kill_process() {
    needs!(root);
    assert_eq!(mkdir(json!({"action": "SCMP_ACT_KILL_PROCESS"})).code, 128 + libc::SIGSYS);
}

#[test]
fn trap() {
    needs!(root);
    assert_eq!(mkdir(json!({"action": "SCMP_ACT_TRAP"})).code, 128 + libc::SIGSYS);
}

#[test]
fn log() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_LOG"}));
    assert_eq!((ran.code, &*ran.stdout), (0, "made"), "{ran}");
}

#[test]
fn allow() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_ALLOW"}));
    assert_eq!((ran.code, &*ran.stdout), (0, "made"), "{ran}");
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    needs!(root);
    let ran = mkdir(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7}));
    assert!(ran.code == 1 && ran.stderr.contains("Function not implemented"), "{ran}");
}

/// The calls of a shell with a few commands, and of a runtime between its filter and execve(2).
const USUAL: &str = "access arch_prctl brk capget capset chdir clone clone3 close close_range \
    dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fchdir fcntl fork fstat fstatfs futex getcwd getdents64 getegid \
    geteuid getgid getgroups getpgrp getpid getppid getrandom getrlimit getsid gettid getuid ioctl \
    lseek lstat madvise mmap mprotect mremap munmap nanosleep newfstatat open openat openat2 pipe \
    pipe2 poll ppoll prctl pread64 prlimit64 pwrite64 read readlink readlinkat readv recvfrom recvmsg \
    restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield select \
    sendmsg sendto setgid setgroups setresgid setresuid setpgid setsid setuid set_robust_list \
    set_tid_address sigaltstack socket stat statfs statx sysinfo tgkill umask uname vfork wait4 \
    waitid write writev getpeername getsockopt setsockopt clock_gettime clock_nanosleep seccomp \
    unlink unlinkat shutdown pidfd_open pidfd_send_signal kill tkill";

#[test]
fn default_errno_ret() {
    bundle!(host, bundle);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::ENOSPC,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": USUAL.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}],
    });
    let ran = bundle.script("mkdir /tmp/made; echo $?").run();
    assert!(ran.stdout == "1" && ran.stderr.contains("No space left"), "{ran}");
}

#[test]
fn default_action_errno_is_eperm() {
    bundle!(host, bundle);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": USUAL.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}],
    });
    let ran = bundle.script("mkdir /tmp/made; echo $?").run();
    assert!(ran.stdout == "1" && ran.stderr.contains("Operation not permitted"), "{ran}");
}

/// Which of these signals, all ignored by default, kill(1) may not send under this condition on its
/// second argument.
fn denied(op: &str, value: u64, value_two: u64) -> String {
    let host = garth_tests::Host::new();
    let mut bundle = Bundle::new(&host);
    let arg = json!({"index": 1, "value": value, "valueTwo": value_two, "op": op});
    filter(&mut bundle, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [arg]}]));
    let script = "for n in 0 17 18 23 28; do kill -$n $$ 2>/dev/null || echo $n; done";
    bundle.script(script).run().ok().replace('\n', " ")
}

macro_rules! operator {
    ($($name:ident $op:literal $value:literal $two:literal $denied:literal),+) => {
        $(#[test] fn $name() { needs!(root); assert_eq!(denied($op, $value, $two), $denied); })+
    };
}

operator!(
    operator_eq "SCMP_CMP_EQ" 18 0 "18",
    operator_ne "SCMP_CMP_NE" 18 0 "0 17 23 28",
    operator_lt "SCMP_CMP_LT" 18 0 "0 17",
    operator_le "SCMP_CMP_LE" 18 0 "0 17 18",
    operator_ge "SCMP_CMP_GE" 18 0 "18 23 28",
    operator_gt "SCMP_CMP_GT" 18 0 "23 28",
    operator_masked_eq "SCMP_CMP_MASKED_EQ" 24 16 "17 18 23"
);

#[test]
fn arguments_are_compared_in_64_bits() {
    bundle!(host, bundle);
    let rule = |op: &str, value: u64| {
        json!({"names": ["ftruncate"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": value, "op": op}]})
    };
    filter(
        &mut bundle,
        json!([rule("SCMP_CMP_GT", 0x2_0000_0000), rule("SCMP_CMP_EQ", 0x1_0000_0005)]),
    );
    // 5, 2^32, 2^32+5, 2^33, 2^33+1
    let script = "for n in 5 4294967296 4294967301 8589934592 8589934593; do \
        /bin/busybox truncate -s $n /tmp/file 2>/dev/null || echo $n; done";
    assert_eq!(bundle.script(script).run().stdout, "4294967301\n8589934593");
}

#[test]
fn all_arguments_of_a_rule_must_match() {
    bundle!(host, bundle);
    let args = json!([
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 18, "op": "SCMP_CMP_EQ"},
    ]);
    filter(&mut bundle, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args}]));
    let script = "kill -18 1 || echo both; kill -23 1 || echo first; sleep 9 & kill -18 $! || echo second; kill -9 $!";
    assert_eq!(bundle.script(script).run().stdout, "both");
}

#[test]
fn one_rule_of_a_call_must_match() {
    bundle!(host, bundle);
    let rule = |signal: u32, errno: i32| {
        json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 1, "value": signal, "op": "SCMP_CMP_EQ"}]})
    };
    filter(&mut bundle, json!([rule(18, libc::EPERM), rule(23, libc::ENOSPC)]));
    let script = "for n in 17 18 23; do kill -$n $$; done";
    let ran = bundle.script(script).run();
    assert!(ran.stderr.contains("not permitted") && ran.stderr.contains("No space"), "{ran}");
    assert_eq!(ran.stderr.lines().count(), 2, "{ran}");
}

#[test]
fn a_filter_is_reported_by_the_kernel() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]));
    let status = bundle.script("cat /proc/self/status").run().ok();
    assert_eq!(status_of(&status, "Seccomp"), "2");
}

#[test]
fn without_no_new_privileges() {
    bundle!(host, bundle);
    bundle.config["process"]["noNewPrivileges"] = false.into();
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    let status = bundle.script("mkdir /tmp/made; cat /proc/self/status").run();
    assert!(status.stderr.contains("not permitted"), "{status}");
    assert_eq!(status_of(&status.stdout, "NoNewPrivs"), "0");
}

#[test]
fn for_another_user_without_no_new_privileges() {
    bundle!(host, bundle);
    bundle.config["process"]["noNewPrivileges"] = false.into();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    let ran = bundle.script("mkdir /dev/shm/made; id -u").run();
    assert!(ran.stdout == "1000" && ran.stderr.contains("not permitted"), "{ran}");
}

#[test]
fn holds_for_exec() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    bundle.sleeping();
    let ran = bundle.exec("", "mkdir /tmp/made");
    assert!(ran.code == 1 && ran.stderr.contains("not permitted"), "{ran}");
}

#[test]
fn flags() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]),
    ] {
        bundle.config["linux"]["seccomp"]["flags"] = flags;
        assert_eq!(bundle.script("mkdir /tmp/made 2>/dev/null; echo $?").run().ok(), "1");
    }
}

#[test]
fn an_unknown_flag_is_refused() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([]));
    bundle.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_TEA"]);
    refused(&mut bundle);
}

#[test]
fn several_architectures() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    bundle.config["linux"]["seccomp"]["architectures"] =
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    assert_eq!(bundle.script("mkdir /tmp/made 2>/dev/null; echo $?").run().ok(), "1");
}

#[test]
fn the_native_architecture_without_being_named() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    bundle.config["linux"]["seccomp"].as_object_mut().unwrap().remove("architectures");
    assert_eq!(bundle.script("mkdir /tmp/made 2>/dev/null; echo $?").run().ok(), "1");
}

#[test]
fn an_unknown_architecture_is_refused() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([]));
    bundle.config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_TEA"]);
    refused(&mut bundle);
}

#[test]
fn names_that_this_kernel_does_not_know_are_passed_over() {
    bundle!(host, bundle);
    filter(
        &mut bundle,
        json!([{"names": ["tea_leaves", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]),
    );
    assert_eq!(bundle.script("mkdir /tmp/made 2>/dev/null; echo $?").run().ok(), "1");
}

fn rule_is_refused(rule: Value) {
    bundle!(host, bundle);
    filter(&mut bundle, json!([rule]));
    refused(&mut bundle);
}

#[test]
fn an_unknown_action_is_refused() {
    rule_is_refused(json!({"names": ["mkdir"], "action": "SCMP_ACT_TEA"}));
}

#[test]
fn an_unknown_operator_is_refused() {
    rule_is_refused(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_TEA"}]}));
}

#[test]
fn an_argument_that_no_call_has_is_refused() {
    rule_is_refused(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}));
}

#[test]
fn no_names_are_refused() {
    rule_is_refused(json!({"names": [], "action": "SCMP_ACT_ERRNO"}));
}

#[test]
fn an_errno_for_an_action_that_has_none_is_refused() {
    rule_is_refused(json!({"names": ["mkdir"], "action": "SCMP_ACT_KILL", "errnoRet": 1}));
}

#[test]
fn an_unknown_default_action_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_TEA"});
    refused(&mut bundle);
}

/// Sends mkdir(2) to a listener, which answers ENOTEMPTY.
fn notified(bundle: &mut Bundle) {
    filter(bundle, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
    bundle.config["linux"]["seccomp"]["listenerPath"] = "/srv/listener".into();
    bundle.config["linux"]["seccomp"]["listenerMetadata"] = "black or green".into();
}

#[test]
fn notify() {
    bundle!(host, bundle);
    notified(&mut bundle);
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    let socket = Socket::listen(&host.path("/srv/listener"));
    let running = bundle.script("mkdir /tmp/made; echo $?").start_run("").start();
    let (text, fds) = socket.receive();
    let state = parsed(&text);
    assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
    assert_eq!(state["metadata"], "black or green", "{state}");
    assert_eq!(state["state"]["id"], bundle.id, "{state}");
    assert_eq!(state["state"]["status"], "creating", "{state}");
    assert_eq!(state["state"]["bundle"], bundle.dir(""), "{state}");
    assert_eq!(state["state"]["annotations"]["org.example.key"], "value", "{state}");
    assert!(state["ociVersion"].is_string() && state["pid"].as_u64() > Some(1), "{state}");
    assert_eq!(fds.len(), 1);
    garth_tests::answer_notification(&fds[0], libc::ENOTEMPTY);
    let ran = running.wait();
    assert!(ran.stdout == "1" && ran.stderr.contains("not empty"), "{ran}");
}

#[test]
fn notify_closes_the_connection() {
    bundle!(host, bundle);
    notified(&mut bundle);
    let socket = Socket::listen(&host.path("/srv/listener"));
    let running = bundle.script("mkdir /tmp/made; echo $?").start_run("").start();
    let (_, fds) = socket.receive_all();
    garth_tests::answer_notification(&fds[0], libc::ENOTEMPTY);
    assert_eq!(running.wait().stdout, "1");
}

#[test]
fn notify_for_exec() {
    bundle!(host, bundle);
    notified(&mut bundle);
    let socket = Socket::listen(&host.path("/srv/listener"));
    bundle.sleeping();
    let (_, first) = socket.receive();
    let words = format!("exec {} mkdir /tmp/made", bundle.id);
    let running = bundle.call(&words).start();
    let (text, fds) = socket.receive();
    assert_eq!(parsed(&text)["state"]["id"], bundle.id);
    garth_tests::answer_notification(&fds[0], libc::ENOTEMPTY);
    let ran = running.wait();
    assert!(ran.code == 1 && ran.stderr.contains("not empty"), "{ran}");
    drop(first);
}

#[test]
fn notify_without_a_listener_path_is_refused() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
    refused(&mut bundle);
}

#[test]
fn notify_without_a_listener_is_refused() {
    bundle!(host, bundle);
    notified(&mut bundle);
    refused(&mut bundle);
}

#[test]
fn listener_metadata_without_a_listener_path_is_refused() {
    bundle!(host, bundle);
    filter(&mut bundle, json!([]));
    bundle.config["linux"]["seccomp"]["listenerMetadata"] = "tea".into();
    refused(&mut bundle);
}

/// Under a filter for the calls of a failing start, the failure is still reported, and the process
/// ends.
fn failure_is_told(action: &str, names: Value) {
    bundle!(host, bundle);
    host.sh(&format!("echo no program >{0}; chmod 755 {0}", bundle.rootfs("entry"))).run().ok();
    filter(&mut bundle, json!([{"names": names, "action": action}]));
    bundle.config["process"]["args"] = json!(["/entry"]);
    let ran = bundle.sh("timeout -k 1 20 $R run --bundle $B $ID").run();
    assert!(ran.code != 0, "{ran}");
    assert!(bundle.logged_error().to_lowercase().contains("exec format error"), "run: {ran}");
    host.sh(&format!("rm {}", bundle.dir("log"))).run().ok();
    bundle.create().ok();
    let ran = bundle.sh("timeout -k 1 20 $R start $ID").run();
    assert!(ran.code != 0, "{ran}");
    assert!(bundle.logged_error().to_lowercase().contains("exec format error"), "start: {ran}");
    bundle.until("stopped");
}

#[test]
fn a_failure_is_told_where_exit_is_refused() {
    failure_is_told("SCMP_ACT_ERRNO", json!(["exit_group", "exit"]));
}

#[test]
fn a_failure_is_told_where_telling_it_would_kill() {
    failure_is_told("SCMP_ACT_KILL", json!(["exit_group", "exit", "sendto", "sendmsg", "openat2"]));
}

#[test]
fn a_death_before_the_program_is_told() {
    bundle!(host, bundle);
    bundle.config["process"]["noNewPrivileges"] = false.into();
    filter(&mut bundle, json!([{"names": ["capset"], "action": "SCMP_ACT_KILL"}]));
    assert_ne!(bundle.run().code, 0);
    assert!(bundle.logged_error().contains("killed"), "{}", bundle.log_text());
    bundle.create().ok();
    assert_ne!(bundle.start().code, 0);
    assert!(bundle.logged_error().contains("killed"), "{}", bundle.log_text());
}

#[test]
fn one_under_which_no_program_can_start_is_refused() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_TRAP"] {
        bundle!(host, bundle);
        filter(&mut bundle, json!([{"names": ["execve"], "action": action}]));
        assert!(refused(&mut bundle).contains("execve"));
    }
}
