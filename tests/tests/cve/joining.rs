//! Processes on their way in: what they are until they execute the container's program.

use garth_tests::Bundle;
use serde_json::json;

/// A line for each process that is not busybox and can be examined: its memory, root and
/// descriptors are under the same check as the link to its file (proc(5), PTRACE_MODE_READ).
const SPY: &str = "while :; do
        for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in
                */busybox|'') ;;
                *) echo $p $(readlink $p/exe $p/root $p/fd/*);;
            esac
        done 2>/dev/null
        usleep 1000
    done";

/// A joining process already has the powers of the container, and is still a copy of the runtime.
#[test]
fn cve_2016_9962_a_process_that_joins_is_out_of_reach() {
    bundle!(host, bundle);
    garth_tests::needs!("strace");
    bundle.script(SPY).detach().ok();
    // The last steps take a while; keyctl is one of them.
    let trace = "strace -f -o /dev/null -e trace=keyctl -e inject=keyctl:delay_enter=700000";
    for user in ["", "--user 7:7"] {
        let running = bundle.sh(&format!("exec {trace} $R exec {user} $ID true")).start();
        // It is visible to the processes inside.
        garth_tests::until("it is inside", || {
            let script =
                "grep -l strace /proc/[0-9]*/cmdline; cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
            bundle.exec("", script).stdout.contains("exec").then_some(())
        });
        running.wait().ok();
    }
    assert_eq!(bundle.output(), "");
}

/// A container without any capability, but among the host's processes. As their owner's user, it
/// has all capabilities in every user namespace that the runtime makes.
fn spy_of_the_host<'a>(host: &'a garth_tests::Host) -> Bundle<'a> {
    let mut spy = Bundle::named(host, "spy");
    spy.without_namespace("pid");
    spy.config["process"]["capabilities"] = json!({});
    spy.script(SPY).detach().ok();
    spy
}

#[test]
fn cve_2016_9962_a_container_in_a_user_namespace_is_out_of_reach_from_its_birth() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    garth_tests::needs!("strace");
    let spy = spy_of_the_host(&host);
    bundle.user_namespace(200_000);
    let trace = "strace -f -o /dev/null -e trace=prctl -e inject=prctl:delay_enter=500000:when=1";
    bundle.script("true").sh(&format!("exec {trace} $R run --bundle $B $ID")).run().ok();
    assert_eq!(spy.output(), "");
    spy.delete_force();
}

#[test]
fn cve_2016_9962_the_process_behind_an_id_mapped_mount_is_out_of_reach() {
    bundle!(host, bundle);
    garth_tests::needs!("strace");
    let spy = spy_of_the_host(&host);
    host.sh("mkdir /srv/mapped").run().ok();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    bundle.mount("/mnt", "bind", "/srv/mapped", &["bind"]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let mount = mounts.last_mut().unwrap();
    (mount["uidMappings"], mount["gidMappings"]) = (map.clone(), map);
    // Its end is delayed.
    let trace = "strace -f -o /dev/null -e trace=pidfd_send_signal \
        -e inject=pidfd_send_signal:delay_enter=500000:when=1";
    bundle.script("true").sh(&format!("exec {trace} $R run --bundle $B $ID")).run().ok();
    assert_eq!(spy.output(), "");
    spy.delete_force();
}

/// The container ends while a process joins it, and its pid becomes that of a process outside,
/// whose namespaces need not be joined.
#[test]
fn a_number_that_has_come_to_mean_somebody_else_leads_nowhere() {
    bundle!(host, bundle);
    garth_tests::needs!("strace");
    bundle.sleeping();
    host.write("/srv/outside", "");
    let script = format!(
        "strace -f -o /srv/trace -e trace=readlink,readlinkat \
            -e inject=readlink,readlinkat:delay_enter=1500000 -P /proc/self/ns/user \
            $R exec $ID sh -c 'test -e /srv/outside && echo outside' & exec=$!
        until grep -q ns/user /srv/trace 2>/dev/null; do sleep 0.01; done
        kill -9 {pid}
        while kill -0 {pid} 2>/dev/null; do sleep 0.01; done
        echo {before} >/proc/sys/kernel/ns_last_pid; sleep 5 & echo $! >/srv/number
        wait $exec",
        pid = bundle.pid(),
        before = bundle.pid() - 1
    );
    let pid = bundle.pid();
    let ran = bundle.sh(&script).run();
    assert_eq!(host.read("/srv/number").trim(), pid.to_string(), "the number was not had again");
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
}
