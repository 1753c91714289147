//! What the caller or the runtime has open must not be reachable from inside.

use serde_json::json;

/// More than the runtime ever has open.
const NUMBERS: std::ops::Range<u32> = 3..32;

/// An image's working directory is a link to a descriptor of the runtime.
#[test]
fn cve_2024_21626_the_working_directory_of_a_container() {
    bundle!(host, bundle);
    bundle.script("echo it runs");
    for number in NUMBERS {
        bundle.config["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        let ran = bundle.run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{number}: {ran}");
    }
}

/// The same for exec, and a link to such a link; the caller even passes a directory on.
#[test]
fn cve_2024_21626_the_working_directory_of_exec() {
    bundle!(host, bundle);
    host.sh(&format!("ln -s /proc/self/fd {}", bundle.rootfs("/fds"))).run().ok();
    bundle.sleeping();
    for number in NUMBERS {
        for dir in ["/proc/self/fd", "/fds", "/proc/thread-self/fd", "/proc/self/task/../fd"] {
            let script = format!(
                "exec 3</srv; exec $R exec --preserve-fds 1 --cwd {dir}/{number} $ID echo it runs"
            );
            let ran = bundle.sh(&script).run();
            assert!(ran.code != 0 && ran.stdout.is_empty(), "{dir}/{number}: {ran}");
        }
    }
}

/// A program is looked up by a path through a descriptor of the runtime, up to the host's root.
#[test]
fn cve_2024_21626_the_path_of_the_program() {
    bundle!(host, bundle);
    host.sh("cp $(command -v busybox) /srv/echo").run().ok();
    let program = |number| {
        let up = "../".repeat(12);
        json!([format!("/proc/self/fd/{number}/{up}srv/echo"), "it runs"])
    };
    for number in NUMBERS {
        bundle.config["process"]["args"] = program(number);
        let ran = bundle.run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{number}: {ran}");
    }
    bundle.sleeping();
    for number in NUMBERS {
        let ran = bundle.exec_process("", |process| process["args"] = program(number));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "exec, {number}: {ran}");
    }
}

/// The caller has more open than it meant to pass on.
#[test]
fn cve_2024_21626_only_the_standard_descriptors_are_inherited() {
    bundle!(host, bundle);
    // The fourth is the directory that ls(1) reads.
    let list = "echo $(ls /proc/self/fd)";
    bundle.config["hooks"] = json!({"startContainer": [
        {"path": "/bin/sh", "args": ["sh", "-c", "ls /proc/self/fd >/tmp/hook"], "env": ["PATH=/bin"]},
    ]});
    bundle.script(list);
    let leak = "exec 5</ 8</srv 9</proc;";
    let ran = bundle.sh(&format!("{leak} exec $R run --bundle $B $ID")).run();
    assert_eq!(ran.ok(), "0 1 2 3");
    let create = "$R create --bundle $B $ID </dev/null >$B/out 2>$B/err && $R start $ID";
    bundle.script(&format!("{list}; exec sleep 600"));
    bundle.sh(&format!("{leak} {create}")).run().ok();
    garth_tests::until("it has written", || (!bundle.output().is_empty()).then_some(()));
    assert_eq!(bundle.output(), "0 1 2 3");
    let ran = bundle.sh(&format!("{leak} exec $R exec $ID sh -c '{list}'")).run();
    assert_eq!(ran.ok(), "0 1 2 3");
    let hook = host.read(&bundle.rootfs("/tmp/hook"));
    assert_eq!(hook.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// The variables of a service above the caller refer to descriptors that are not the runtime's.
#[test]
fn cve_2024_21626_listen_fds_of_somebody_else() {
    bundle!(host, bundle);
    host.write("/srv/marker", "");
    bundle.script("test -e /proc/self/fd/3/marker && echo it leaks; echo $LISTEN_FDS");
    let script =
        |pid: &str| format!("exec 3</srv; export LISTEN_FDS=1 {pid}; exec $R run --bundle $B $ID");
    assert_eq!(bundle.sh(&script("LISTEN_PID=1")).run().ok(), "");
    assert_eq!(bundle.sh(&script("")).run().ok(), "");
    assert_eq!(bundle.sh(&script("LISTEN_PID=$$")).run().ok(), "it leaks\n1");
}
