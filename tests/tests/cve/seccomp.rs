//! Other ways to make a system call that a filter denies.

use serde_json::json;

use crate::with_intruder;

/// Enough for a static program, and for a runtime about to execute it.
const USUAL: &str = "access arch_prctl brk capget capset chdir clone close close_range dup dup2 dup3 \
    execve execveat exit exit_group faccessat faccessat2 fchdir fcntl fork fstat fstatfs futex getcwd \
    getdents64 getegid geteuid getgid getgroups getpid getrandom getrlimit gettid getuid ioctl lseek \
    lstat madvise mmap mprotect mremap munmap newfstatat open openat openat2 pipe2 poll ppoll prctl \
    pread64 prlimit64 read readlink readlinkat readv recvfrom recvmsg rseq rt_sigaction \
    rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendmsg sendto setgroups setresgid \
    setresuid set_robust_list set_tid_address sigaltstack socket stat statfs statx tgkill umask \
    uname vfork wait4 waitid write writev seccomp shutdown";

#[test]
fn a_denied_call_is_denied_by_every_door() {
    bundle!(host, bundle);
    with_intruder(&bundle);
    let filter = |architectures: &[&str]| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]})
    };
    for architectures in
        [&["SCMP_ARCH_X86_64"][..], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]]
    {
        bundle.config["linux"]["seccomp"] = filter(architectures);
        assert_eq!(bundle.script("intruder getppid").run().ok(), "errno 1");
        for door in ["x32", "i386"] {
            let ran = bundle.script(&format!("intruder getppid {door}; true")).run();
            let denied = ran.stdout.is_empty() || ran.stdout.starts_with("errno");
            assert!(denied, "{door} with {architectures:?}: {ran}");
        }
    }
}

/// Programs take "not there" as a reason to try clone(2), whose flags can be read, and "not
/// permitted" as one to give up; the same goes for every call that a profile does not know.
#[test]
fn what_a_profile_does_not_know_is_not_there() {
    bundle!(host, bundle);
    with_intruder(&bundle);
    let names: Vec<&str> = USUAL.split_whitespace().collect();
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}]});
    let run = |bundle: &mut garth_tests::Bundle, words: &str| {
        let args: Vec<&str> = words.split(' ').collect();
        bundle.config["process"]["args"] = json!(args);
        bundle.run().ok()
    };
    assert_eq!(run(&mut bundle, "intruder clone3"), "errno 38");
    assert_eq!(run(&mut bundle, "intruder syscall 900"), "errno 38");
    assert_eq!(run(&mut bundle, "intruder getppid"), "errno 1");
}

/// A container's filter also applies to a process that joins it.
#[test]
fn exec_is_under_the_filter_too() {
    bundle!(host, bundle);
    with_intruder(&bundle);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]});
    bundle.sleeping();
    assert_eq!(bundle.exec("", "intruder getppid").ok(), "errno 1");
}
