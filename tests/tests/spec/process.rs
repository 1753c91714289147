//! process: arguments, environment, working directory, file descriptors, and process attributes in
//! the kernel: scheduling, personality, memory policy, oom score.

use std::fs;

use garth_tests::{Bundle, Host, needs};
use serde_json::json;

use crate::{refused, status_of};

#[test]
fn arguments() {
    bundle!(host, bundle);
    let script = "for word; do echo \"<$word>\"; done";
    bundle.config["process"]["args"] = json!(["sh", "-c", script, "zero", "a b", "", "*", "ü"]);
    assert_eq!(bundle.run().ok(), "<a b>\n<>\n<*>\n<ü>");
}

#[test]
fn an_absolute_executable() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(["/bin/echo", "hello"]);
    bundle.config["process"]["env"] = json!([]);
    assert_eq!(bundle.run().ok(), "hello");
}

#[test]
fn an_executable_relative_to_the_working_directory() {
    bundle!(host, bundle);
    bundle.config["process"]["cwd"] = "/bin".into();
    bundle.config["process"]["args"] = json!(["./echo", "hello"]);
    assert_eq!(bundle.run().ok(), "hello");
}

#[test]
fn the_path_of_the_config_is_searched() {
    bundle!(host, bundle);
    host.sh(&format!("mkdir {0}; ln -s /bin/busybox {0}/echo", bundle.rootfs("tools"))).run().ok();
    bundle.config["process"]["env"] = json!(["PATH=/nothing:/tools"]);
    bundle.config["process"]["args"] = json!(["echo", "hello"]);
    assert_eq!(bundle.run().ok(), "hello");
}

#[test]
fn a_script_with_an_interpreter() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("script"), "#!/bin/sh\necho \"$1 $#\"\n");
    host.sh(&format!("chmod +x {}", bundle.rootfs("script"))).run().ok();
    bundle.config["process"]["args"] = json!(["/script", "one", "two"]);
    assert_eq!(bundle.run().ok(), "one 2");
}

#[test]
fn environment() {
    bundle!(host, bundle);
    bundle.config["process"]["env"] =
        json!(["PATH=/bin", "ONE=1", "TWO=a b  c", "EMPTY=", "EQUALS=a=b", "HOME=/tmp"]);
    bundle.config["process"]["args"] = json!(["env"]);
    let text = bundle.run().ok();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["EMPTY=", "EQUALS=a=b", "HOME=/tmp", "ONE=1", "PATH=/bin", "TWO=a b  c"]);
}

#[test]
fn nothing_of_the_callers_environment() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(["env"]);
    let text = bundle.start_run("").env("SECRET", "secret").env("LANG", "xx").run().ok();
    for line in text.lines() {
        let name = line.split('=').next().unwrap();
        assert!(["PATH", "TERM", "HOME"].contains(&name), "{text}");
    }
}

#[test]
fn home_is_that_of_the_user() {
    bundle!(host, bundle);
    host.write(
        &bundle.rootfs("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nu:x:7:7::/home/u:/bin/sh\n",
    );
    assert_eq!(bundle.script("echo $HOME").run().ok(), "/root");
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    assert_eq!(bundle.script("echo $HOME").run().ok(), "/home/u");
}

#[test]
fn cwd() {
    bundle!(host, bundle);
    bundle.config["process"]["cwd"] = "/etc".into();
    assert_eq!(bundle.script("pwd; readlink /proc/self/cwd").run().ok(), "/etc\n/etc");
}

#[test]
fn a_cwd_that_is_not_there_is_made() {
    bundle!(host, bundle);
    bundle.config["process"]["cwd"] = "/some/where".into();
    assert_eq!(bundle.script("pwd").run().ok(), "/some/where");
}

#[test]
fn a_relative_cwd_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["cwd"] = "etc".into();
    refused(&mut bundle);
}

#[test]
fn a_cwd_that_is_a_file_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["cwd"] = "/etc/passwd".into();
    refused(&mut bundle);
}

#[test]
fn a_cwd_that_the_user_cannot_enter_is_refused() {
    bundle!(host, bundle);
    host.sh(&format!("chmod 700 {}", bundle.rootfs("root"))).run().ok();
    bundle.config["process"]["cwd"] = "/root".into();
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    let script = "ls /root && echo seen";
    assert!(!bundle.script(script).run().stdout.contains("seen"));
}

#[test]
fn input_and_both_outputs_are_passed_on() {
    bundle!(host, bundle);
    bundle.script("cat; echo error >&2");
    let ran = bundle.start_run("").input("some\ntext").run();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "some\ntext", "error"));
}

/// The file descriptors of the shell that runs this. A pipe or a substitution would be one more,
/// and those from 10 on are the shell's own.
const OPEN: &str = "ls /proc/$$/fd >/tmp/open; grep -x '[0-9]' /tmp/open; true";

#[test]
fn no_other_file_descriptor_is_open() {
    bundle!(host, bundle);
    bundle.script(OPEN);
    let run = "exec 5</etc/passwd 8</ 9</dev/null; exec $R run --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "0\n1\n2");
}

#[test]
fn preserve_fds() {
    bundle!(host, bundle);
    host.write("/srv/three", "three");
    host.write("/srv/four", "four");
    bundle.script(&format!("cat <&3; echo; cat <&4; echo; {OPEN}"));
    let run =
        "exec 3</srv/three 4</srv/four 5</etc/passwd; exec $R run --preserve-fds 2 --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "three\nfour\n0\n1\n2\n3\n4");
}

#[test]
fn listen_fds() {
    bundle!(host, bundle);
    host.write("/srv/three", "three");
    bundle.script(&format!("cat <&3; echo; echo $LISTEN_FDS $LISTEN_PID; {OPEN}"));
    let run =
        "exec 3</srv/three 4</etc/passwd; LISTEN_FDS=1 LISTEN_PID=$$ exec $R run --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "three\n1 1\n0\n1\n2\n3");
}

#[test]
fn signals_that_the_caller_ignores_are_not_ignored() {
    bundle!(host, bundle);
    bundle.script("exec cat /proc/self/status").save();
    let status = bundle.sh("trap '' HUP TERM; exec $R run --bundle $B $ID").run().ok();
    assert_eq!(status_of(&status, "SigBlk"), "0000000000000000");
    let ignored = u64::from_str_radix(&status_of(&status, "SigIgn"), 16).unwrap();
    assert_eq!(ignored & (1 << (libc::SIGHUP - 1) | 1 << (libc::SIGTERM - 1)), 0, "{ignored:x}");
}

#[test]
fn no_args_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!([]);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "{ran}");
}

fn not_executed(args: &[&str], words: &[&str]) {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(args);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "{ran}");
    let text = (bundle.log_text() + &ran.stderr).to_lowercase();
    assert!(words.iter().any(|word| text.contains(word)), "none of {words:?} in {text}");
    bundle.assert_nothing_left();
}

#[test]
fn a_name_that_is_not_in_path_is_refused_in_the_words_of_runc() {
    not_executed(&["no-such-command"], &["executable file not found", "no such file or directory"]);
}

#[test]
fn a_path_that_is_not_there_is_refused_in_the_words_of_runc() {
    not_executed(&["/no/such/command"], &["no such file or directory"]);
}

#[test]
fn a_file_that_is_not_executable_is_refused_in_the_words_of_runc() {
    not_executed(&["/etc/passwd"], &["permission denied"]);
}

#[test]
fn a_directory_is_refused_in_the_words_of_runc() {
    not_executed(&["/etc"], &["permission denied", "is a directory"]);
}

#[test]
fn oom_score_adj() {
    bundle!(host, bundle);
    bundle.config["process"]["oomScoreAdj"] = 700.into();
    assert_eq!(bundle.script("cat /proc/self/oom_score_adj").run().ok(), "700");
}

#[test]
fn without_oom_score_adj_it_stays_as_it_was() {
    bundle!(host, bundle);
    bundle.script("cat /proc/self/oom_score_adj").save();
    let run = "echo 300 >/proc/self/oom_score_adj; exec $R run --bundle $B $ID";
    assert_eq!(bundle.sh(run).run().ok(), "300");
}

#[test]
fn an_oom_score_adj_out_of_range_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["oomScoreAdj"] = 2000.into();
    refused(&mut bundle);
}

#[test]
fn personality_linux32() {
    bundle!(host, bundle);
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    assert_eq!(bundle.script("uname -m").run().ok(), "i686");
}

#[test]
fn personality_linux() {
    bundle!(host, bundle);
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX"});
    bundle.script("uname -m").save();
    assert_eq!(bundle.sh("exec linux32 $R run --bundle $B $ID").run().ok(), "x86_64");
}

#[test]
fn an_unknown_personality_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["personality"] = json!({"domain": "TEA"});
    refused(&mut bundle);
}

#[test]
fn io_priority() {
    bundle!(host, bundle);
    for (class, level, found) in
        [("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"), ("IOPRIO_CLASS_IDLE", 0, "idle")]
    {
        bundle.config["process"]["ioPriority"] = json!({"class": class, "priority": level});
        assert_eq!(bundle.script("ionice").run().ok(), found);
    }
}

#[test]
fn an_unknown_io_priority_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_TEA", "priority": 4});
    refused(&mut bundle);
}

/// Policy and nice value: fields 41 and 19 of proc_pid_stat(5).
const SCHEDULING: &str = "awk '{ print $41, $19 }' /proc/self/stat";

#[test]
fn scheduler_batch_with_nice() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    assert_eq!(bundle.script(SCHEDULING).run().ok(), "3 7");
}

#[test]
fn scheduler_other_with_nice() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 5});
    assert_eq!(bundle.script(SCHEDULING).run().ok(), "0 5");
}

#[test]
fn scheduler_idle() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    // This policy has no nice value; the one shown for it is the caller's.
    assert_eq!(bundle.script(SCHEDULING).run().ok().split(' ').next(), Some("5"));
}

#[test]
fn scheduler_with_reset_on_fork() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] =
        json!({"policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    // The shell itself has it, and its forks do not (sched(7)).
    let script = "cut -d' ' -f19 /proc/$$/stat; (cut -d' ' -f19 /proc/self/stat; true)";
    assert_eq!(bundle.script(script).run().ok(), "-5\n0");
}

#[test]
fn an_unknown_scheduler_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_TEA"});
    refused(&mut bundle);
}

#[test]
fn a_scheduler_flag_that_is_unknown_is_refused() {
    bundle!(host, bundle);
    bundle.config["process"]["scheduler"] =
        json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_TEA"]});
    refused(&mut bundle);
}

#[test]
fn exec_cpu_affinity() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["cat", "/proc/self/status"]);
        process["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    });
    assert_eq!(status_of(&ran.ok(), "Cpus_allowed_list"), "1");
}

#[test]
fn exec_cpu_affinity_of_the_config() {
    bundle!(host, bundle);
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    bundle.sleeping();
    let status = bundle.exec("", "cat /proc/self/status").ok();
    assert_eq!(status_of(&status, "Cpus_allowed_list"), "0");
}

#[test]
fn an_exec_cpu_affinity_that_is_no_list_is_refused() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["echo", "it runs"]);
        process["execCPUAffinity"] = json!({"initial": "tea"});
    });
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
}

#[test]
fn memory_policy_bind() {
    bundle!(host, bundle);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    let script = "grep -m 1 -o 'bind[^ ]*' /proc/self/numa_maps";
    assert_eq!(bundle.script(script).run().ok(), "bind:0");
}

#[test]
fn memory_policy_interleave_with_a_flag() {
    bundle!(host, bundle);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0",
        "flags": ["MPOL_F_STATIC_NODES"]});
    let script = "grep -m 1 -o 'interleave[^ ]*' /proc/self/numa_maps";
    assert_eq!(bundle.script(script).run().ok(), "interleave=static:0");
}

#[test]
fn memory_policy_local() {
    bundle!(host, bundle);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_LOCAL"});
    let script = "grep -m 1 -o ' local ' /proc/self/numa_maps";
    assert_eq!(bundle.script(script).run().ok().trim(), "local");
}

#[test]
fn an_unknown_memory_policy_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_TEA", "nodes": "0"});
    refused(&mut bundle);
}

#[test]
fn a_memory_policy_with_a_node_that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"});
    refused(&mut bundle);
}

/// Does the container have the caller's session keyring?
fn keyring_is_the_callers(options: &str) -> bool {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let program = bundle.rootfs("/bin/intruder");
    fs::copy(env!("CARGO_BIN_EXE_intruder"), host.path(&program)).unwrap();
    let outside = host.sh(&format!("exec {program} session-keyring")).run().ok();
    outside == bundle.script("intruder session-keyring").run_with(options).ok()
}

#[test]
fn a_session_keyring_of_its_own() {
    needs!(root);
    assert!(!keyring_is_the_callers(""));
}

#[test]
fn no_new_keyring() {
    needs!(root);
    assert!(keyring_is_the_callers("--no-new-keyring"));
}

#[test]
fn an_apparmor_profile_is_refused_without_apparmor() {
    bundle!(host, bundle);
    // Where the kernel has it, this host is made to look as if it did not.
    host.sh("cd /sys/module/apparmor/parameters 2>/dev/null && mount -t tmpfs tmpfs .").run();
    bundle.config["process"]["apparmorProfile"] = "tea".into();
    refused(&mut bundle);
}

#[test]
fn an_selinux_label_is_refused_without_selinux() {
    bundle!(host, bundle);
    host.sh("umount -l /sys/fs/selinux").run();
    bundle.config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0:c1,c2".into();
    refused(&mut bundle);
}

#[test]
fn a_mount_label_is_refused_without_selinux() {
    bundle!(host, bundle);
    host.sh("umount -l /sys/fs/selinux").run();
    bundle.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2".into();
    refused(&mut bundle);
}

#[test]
fn intel_rdt_is_refused_without_resctrl() {
    bundle!(host, bundle);
    host.sh("umount -l /sys/fs/resctrl").run();
    bundle.config["linux"]["intelRdt"] = json!({"closID": "tea", "l3CacheSchema": "L3:0=f"});
    refused(&mut bundle);
}

#[test]
fn of_a_variable_that_is_given_twice_the_last_value_counts() {
    bundle!(host, bundle);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "TEA=green", "TEA=black", "HOME=/"]);
    bundle.config["process"]["args"] = json!(["env"]);
    let text = bundle.run().ok();
    let tea: Vec<&str> = text.lines().filter(|line| line.starts_with("TEA=")).collect();
    assert_eq!(tea, ["TEA=black"]);
}

#[test]
fn an_empty_home_is_that_of_the_user() {
    for env in [json!(["PATH=/bin", "HOME="]), json!(["PATH=/bin", "HOME=/x", "HOME="])] {
        bundle!(host, bundle);
        bundle.config["process"]["env"] = env;
        assert_eq!(bundle.script("echo $HOME").run().ok(), "/root");
    }
}

#[test]
fn a_program_without_a_name_is_not_found() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!([""]);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "{ran}");
    // In the form engines look for; they then exit with 127.
    let error = bundle.logged_error();
    assert!(error.contains("exec: \"\": executable file not found in $PATH"), "{error}");
    bundle.assert_nothing_left();
}

/// A start of `entry`, which is in `/` and in `/tmp`, fails with these words and this PATH.
fn search_fails(path: &str, words: &str) {
    bundle!(host, bundle);
    for entry in ["entry", "tmp/entry"].map(|entry| bundle.rootfs(entry)) {
        host.sh(&format!("cp {} {entry}", bundle.rootfs("bin/busybox"))).run().ok();
    }
    bundle.config["process"]["args"] = json!(["entry"]);
    bundle.config["process"]["env"] = json!([format!("PATH={path}")]);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "PATH={path}: {ran}");
    assert!(bundle.logged_error().contains(words), "PATH={path}: {ran}");
}

#[test]
fn no_program_is_run_by_a_part_of_path_that_is_empty_or_relative() {
    for path in [":/bin", "/bin:", "/bin::/usr/bin", "tmp:/bin", "."] {
        search_fails(path, "found relative to current directory");
    }
}

#[test]
fn an_empty_path_finds_nothing() {
    search_fails("", "executable file not found in $PATH");
}

#[test]
fn the_processors_are_those_of_the_cgroup_and_not_the_callers() {
    bundle!(host, bundle);
    let all = status_of(&host.sh("cat /proc/self/status").run().ok(), "Cpus_allowed_list");
    bundle.script("cat /proc/self/status");
    let run = bundle.sh("exec taskset -c 0 $R run --bundle $B $ID").run().ok();
    assert_eq!(status_of(&run, "Cpus_allowed_list"), all);
    bundle.sleeping();
    let exec = "exec taskset -c 0 $R exec $ID cat /proc/self/status";
    assert_eq!(status_of(&bundle.sh(exec).run().ok(), "Cpus_allowed_list"), all);
}

#[test]
fn an_exec_cpu_affinity_stays_as_it_is_given() {
    bundle!(host, bundle);
    bundle.sleeping();
    let ran = bundle.exec_process("", |process| {
        process["args"] = json!(["cat", "/proc/self/status"]);
        process["execCPUAffinity"] = json!({"initial": "0"});
    });
    assert_eq!(status_of(&ran.ok(), "Cpus_allowed_list"), "0");
}
