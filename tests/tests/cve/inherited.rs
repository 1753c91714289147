//! What a program inherits without being told: ignored or blocked signals, variables.

use serde_json::json;

use crate::status_of;

#[track_caller]
fn assert_signals(status: &str) {
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(status_of(status, mask), "0000000000000000", "{mask}: {status}");
    }
}

#[test]
fn signals_are_neither_ignored_nor_blocked() {
    bundle!(host, bundle);
    // A caller that ignores some and blocks others, as daemons do.
    let caller = "exec env --ignore-signal=HUP,INT,QUIT,PIPE,TERM,CHLD,USR1 \
        --block-signal=USR2,ALRM,WINCH,CONT";
    bundle.config["hooks"] = json!({"startContainer": [
        {"path": "/bin/cp", "args": ["cp", "/proc/self/status", "/tmp/status"]},
    ]});
    bundle.config["process"]["args"] = json!(["cat", "/proc/self/status"]);
    let ran = bundle.sh(&format!("{caller} $R run --bundle $B $ID")).run();
    assert_signals(&ran.ok());
    assert_signals(&host.read(&bundle.rootfs("/tmp/status")));
    bundle.config["hooks"] = json!(null);
    bundle.sleeping();
    let ran = bundle.sh(&format!("{caller} $R exec $ID cat /proc/self/status")).run();
    assert_signals(&ran.ok());
}

#[test]
fn the_environment_is_not_the_callers() {
    bundle!(host, bundle);
    let host_hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "env >>/srv/hooks"],
        "env": ["PATH=/usr/bin:/bin", "HOOK=1"]}]);
    let start_hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "env >/tmp/hook; id -u >>/tmp/hook"],
        "env": ["PATH=/bin"]}]);
    bundle.config["hooks"] = json!({"prestart": host_hook, "createRuntime": host_hook,
        "createContainer": host_hook, "startContainer": start_hook, "poststart": host_hook,
        "poststop": host_hook});
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    host.sh(&format!("chmod 1777 {}", bundle.rootfs("/tmp"))).run().ok();
    let secret = "export SECRET=1 LD_PRELOAD=/srv/evil.so NOTIFY_SOCKET=/srv/socket;";
    bundle.config["process"]["args"] = json!(["env"]);
    let ran = bundle.sh(&format!("{secret} exec $R run --bundle $B $ID")).run();
    // The socket is not the caller's: it leads to the runtime, which passes readiness on.
    let notify = "NOTIFY_SOCKET=/run/notify/notify.sock";
    assert_eq!(ran.ok(), format!("PATH=/bin\nTERM=xterm\nHOME=/\n{notify}"));
    let all = host.read("/srv/hooks") + &host.read(&bundle.rootfs("/tmp/hook"));
    assert_eq!(all.matches("HOOK=1").count(), 5, "{all}");
    for word in ["SECRET", "LD_PRELOAD", "NOTIFY_SOCKET", "TERM"] {
        assert!(!all.contains(word), "{all}");
    }
    // The hook in the container is as much inside as the program.
    assert!(all.ends_with("\n7\n"), "{all}");
}
