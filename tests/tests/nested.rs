//! Garth inside something that already confines it: the table of docs/nested.md, except the
//! engines, whose rows are in tests/clients (`a_sandbox_inside`).

use garth_tests::{Host, needs};

/// Answers clone3 as docker's profile used to, and as ours does.
const NO_CLONE3: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
    [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;

#[test]
fn in_a_sandbox_a_command_can_be_limited_and_a_sandbox_needs_another_filter() {
    needs!(root);
    let host = Host::new();
    let ran = host.sh("$GARTH wrap -- $GARTH limit --rate 1MB/s -- sh -c 'exit 3'").run();
    assert_eq!((ran.code, &*ran.stderr), (3, ""), "{ran}");
    let ran = host.sh("$GARTH wrap -- $GARTH wrap -- true").run();
    ran.refused(125, "a seccomp filter in force here forbids it");
    let ran = host.sh("$GARTH wrap --profile compat -- $GARTH wrap -- sh -c 'exit 3'").run();
    assert_eq!((ran.code, &*ran.stderr), (3, ""), "{ran}");
    host.assert_nothing_left();
}

#[test]
fn without_clone3_all_is_as_with_it() {
    needs!(root, userns);
    let host = Host::new();
    host.write("/srv/filter.json", NO_CLONE3);
    let inside = |script: &str| {
        let outer = "exec $GARTH wrap --profile compat --cap-add all --seccomp /srv/filter.json --";
        host.sh(&format!("{outer} sh -c \"$SCRIPT\"")).env("SCRIPT", script).run()
    };
    inside("$GARTH wrap --network none -- sh -c 'exit 3'; [ $? = 3 ]").ok();
    inside("$GARTH wrap --userns=100000:65536 -- true").ok();
    inside("$GARTH limit --duty 50% -- sh -c 'exit 3'; [ $? = 3 ]").ok();
    let named = "$GARTH wrap -d --name nested-web --network private -- sleep 1000 &&
        $GARTH exec nested-web true && $GARTH delete --force nested-web";
    inside(named).ok();
    let container = "mkdir -p /srv/c/rootfs/bin && cd /srv/c && cp $(command -v busybox) rootfs/bin &&
        $GARTH spec && sed -i 's/\"terminal\": true/\"terminal\": false/; s|\"sh\"|\"/bin/busybox\", \"true\"|' config.json &&
        $GARTH run nested-box";
    inside(container).ok();
    host.assert_nothing_left();
}

#[test]
fn in_a_user_namespace_of_somebody_elses_a_sandbox_starts() {
    needs!(root, "setpriv", "bwrap", userns);
    let host = Host::new();
    // Where a user may not enter, the program cannot be started either.
    host.sh("mkdir -m 777 /srv/state; cp $GARTH /srv/garth").run().ok();
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let bwrap = "bwrap --ro-bind / / --dev /dev --proc /proc --bind /srv /srv --unshare-all";
    for around in [
        "unshare -Urmpf".to_owned(),
        "unshare -Urmpf --mount-proc".to_owned(),
        format!("{user} unshare -Urmpf"),
        bwrap.to_owned(),
        format!("{bwrap} --cap-add ALL"),
        format!("{user} {bwrap}"),
    ] {
        let command = "sh -c 'hostname; touch /etc/x 2>/dev/null || exit 3'";
        let ran =
            host.sh(&format!("{around} /srv/garth --root /srv/state wrap -- {command}")).run();
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (3, "garth", ""), "{around}: {ran}");
    }
}

#[test]
fn what_nobody_asked_for_is_left_out_with_a_warning_and_what_was_asked_for_is_an_error() {
    needs!(root, "setpriv");
    let host = Host::new();
    // Like podman for an unprivileged container: the host name cannot be set.
    let filter = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    host.write("/srv/filter.json", filter);
    let wrap = "wrap --profile compat --cap-add all --seccomp /srv/filter.json -- $GARTH wrap";
    let ran = host.sh(&format!("$GARTH {wrap} -- sh -c 'exit 3'")).run();
    assert_eq!(ran.code, 3, "{ran}");
    let warning =
        "warning: the sandbox keeps the host's host name (set the host name to garth: EPERM)";
    assert_eq!(ran.stderr, format!("garth: {warning}"), "{ran}");
    let ran = host.sh(&format!("$GARTH {wrap} --hostname mine -- true")).run();
    ran.refused(125, "set the host name to mine (--hostname): EPERM");
    // Parts of /proc and all of /proc/sys are covered or read-only, as in a container.
    let covered = "mount -t tmpfs tmpfs /proc/acpi 2>/dev/null || mount -t tmpfs tmpfs /proc/fs;
        mount -o bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys;
        exec setpriv --reuid 65534 --regid 65534 --clear-groups $GARTH wrap";
    let ran = host.sh(&format!("{covered} -- sh -c 'test -r /proc/self/status; exit 3'")).run();
    assert_eq!(ran.code, 3, "{ran}");
    for loss in [
        "ports below 1024 need CAP_NET_BIND_SERVICE in the sandbox",
        "/proc shows the host's processes",
    ] {
        assert!(ran.stderr.contains(loss), "{ran}");
    }
    let ran = host.sh(&format!("{covered} --hidepid -- true")).run();
    ran.refused(125, "mount proc on /proc");
}
