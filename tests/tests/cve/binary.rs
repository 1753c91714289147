//! The runtime's own file, which a process about to become the container's is still executing.

use garth_tests::{Bundle, Host, until};
use serde_json::json;

/// A process inside looks for one that is not busybox, keeps its file open for reading, and opens
/// it for writing as soon as it is no longer being executed ("Text file busy"). The result is
/// printed.
const ATTACK: &str = "
    foreign() {
        for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox|'') ;; *) echo $p/exe; return;; esac
        done 2>/dev/null
    }
    until file=$(foreign) && [ -n \"$file\" ]; do usleep 5000; done
    exec 4<$file; echo >/tmp/open
    for n in $(seq 1000); do
        (exec 3>>/proc/self/fd/4) 2>/tmp/why && echo written >/tmp/why
        grep -q busy /tmp/why || break
        usleep 10000
    done
    mv /tmp/why /tmp/result; exec sleep 600";

/// A private copy of the runtime as `$R`, and an input that never ends.
const COPY: &str = "set -- $R; cp $1 /srv/runtime; shift; R=\"/srv/runtime $*\"
    test -e /srv/fifo || mkfifo /srv/fifo; exec 9<>/srv/fifo </dev/null >/dev/null 2>&1;";

/// The process in this pid file is the one the attacker has found; it is killed then.
#[track_caller]
fn assert_refused(host: &Host, bundle: &Bundle, pid_file: &str) {
    let (open, result) =
        (host.path(&bundle.rootfs("/tmp/open")), host.path(&bundle.rootfs("/tmp/result")));
    until("the file is open", || open.exists().then_some(()));
    host.sh(&format!("kill -9 $(cat {pid_file})")).run().ok();
    let text = until("the attack has ended", || std::fs::read_to_string(&result).ok());
    assert!(text.contains("Read-only file system"), "{text}");
}

fn attacked_in_exec(program: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    let script = bundle.rootfs("/bin/script");
    host.write(&script, "#!/proc/self/exe update\n");
    host.sh(&format!("chmod 755 {script}")).run().ok();
    bundle.script(ATTACK);
    bundle.sh(&format!("{COPY} exec $R run --detach --bundle $B $ID")).run().ok();
    let exec = format!("{COPY} exec $R exec --detach --pid-file /srv/pid $ID {program} <&9");
    bundle.sh(&exec).run().ok();
    assert_refused(&host, &bundle, "/srv/pid");
}

#[test]
fn cve_2019_5736_exec_of_proc_self_exe() {
    garth_tests::needs!(root);
    attacked_in_exec("/proc/self/exe mounts add x");
}

#[test]
fn cve_2019_5736_exec_of_a_script_for_proc_self_exe() {
    garth_tests::needs!(root);
    attacked_in_exec("/bin/script --resources -");
}

#[test]
fn cve_2019_5736_the_container_itself_is_proc_self_exe() {
    bundle!(host, bundle);
    // So that the attacker does not end with it.
    bundle.without_namespace("pid");
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "mounts", "add", "x"]);
    let run = "exec $R run --detach --pid-file /srv/pid --bundle $B $ID <&9";
    bundle.sh(&format!("{COPY} {run}")).run().ok();
    let exec = bundle.sh(&format!("{COPY} exec $R exec --detach $ID sh -c \"$ATTACK\""));
    exec.env("ATTACK", ATTACK).run().ok();
    assert_refused(&host, &bundle, "/srv/pid");
}

/// There is no loader that a root file system could provide.
#[test]
fn cve_2019_5736_no_library_of_the_image_is_loaded() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "--version"]);
    let text = bundle.run().ok();
    assert!(text.starts_with("garth"), "{text}");
}

/// The names of the calls that `run` itself makes, and the whole trace.
fn traced(bundle: &Bundle, flags: &str) -> (Vec<String>, String) {
    let run = format!("{COPY} exec strace -o /srv/trace {flags} $R run --bundle $B $ID");
    bundle.sh(&run).run().ok();
    let trace = std::fs::read_to_string(bundle.host().path("/srv/trace")).unwrap();
    let name = |line: &str| line.split('(').next().unwrap_or_default().to_owned();
    (trace.lines().map(name).collect(), trace)
}

/// A start does little before it is untraceable: not even its libc has started.
#[test]
fn the_start_from_a_read_only_mount_comes_first() {
    garth_tests::needs!(root, strace);
    bundle!(host, bundle);
    bundle.script("true");
    let (calls, trace) = traced(&bundle, "");
    let begin = ["execve", "statfs", "open_tree", "mount_setattr", "execveat", "statfs", "brk"];
    assert!(calls.iter().map(String::as_str).take(begin.len()).eq(begin), "{trace}");
}

/// Where the file cannot be mounted, a sealed copy of it is executed.
#[test]
fn without_a_mount_a_sealed_copy_is_started() {
    garth_tests::needs!(root, strace);
    bundle!(host, bundle);
    bundle.script("true");
    let (calls, trace) = traced(&bundle, "-e inject=open_tree:error=EPERM:when=1..2");
    let began = calls.iter().filter(|call| call.starts_with("exec")).count();
    assert_eq!(began, 2, "{trace}");
    assert!(trace.contains("F_SEAL_WRITE") && calls.iter().any(|c| c == "memfd_create"), "{trace}");
}
