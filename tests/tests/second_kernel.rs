//! The same program on another kernel, in User-Mode Linux: Linux 6.1 with the unified cgroup tree
//! and its controllers, without Landlock, time namespaces, IPv6 and nftables' inet family.

use std::path::PathBuf;

use garth_tests::{needs, second_kernel as there, second_kernel_with as there_with};

#[test]
fn limits_hold_in_the_unified_tree() {
    needs!(root, "linux.uml", uml);
    let said = there(
        "limits",
        "$GARTH wrap --memory 24m -- sh -c 'x=$(head -c 60000000 /dev/zero | tr \"\\0\" x)'; echo memory $?
         $GARTH wrap --pids-limit 8 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; wait'; echo pids $?
         $GARTH wrap -d --name host --cpus 0.5 --memory 64m -- sleep 60; echo
         cat /sys/fs/cgroup/garth/host/cpu.max /sys/fs/cgroup/garth/host/memory.max
         $GARTH exec host -- cat /proc/self/cgroup
         $GARTH delete --force host; ls /sys/fs/cgroup | grep -c garth",
    );
    for line in ["memory 137", "pids 2", "50000 100000", "67108864", "0::/", "\n0\n"] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}

/// The specification's suite (`tests/spec`), as last built.
fn suite() -> PathBuf {
    let here = std::env::current_exe().expect("this test has a file");
    let list = std::fs::read_dir(here.parent().expect("a directory")).expect("it can be read");
    let is_suite = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("spec-") && path.extension().is_none()
    };
    let built = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let all = list.filter_map(|entry| Some(entry.ok()?.path())).filter(is_suite);
    all.max_by_key(built).expect("the suite: cargo test -p garth-tests --test spec --no-run")
}

/// What cannot be tested on a machine whose controllers are version 1: limits in files and in
/// effect, devices by eBPF, the freezer, delegation, update, events, and how everything ends.
#[test]
fn containers_have_the_unified_tree() {
    needs!(root, "linux.uml", uml, "busybox");
    let script = "modprobe loop; ${GARTH%/*}/suite --test-threads=1 cgroups_v2";
    let said = there_with("containers", script, &[("suite", suite())]);
    let passed = said.matches(" ... ok\n").count();
    assert!(said.contains("test result: ok.") && passed >= 20, "{passed} passed:\n{said}");
    assert!(!said.contains("skipped: needs the unified"), "{said}");
}

#[test]
fn what_this_kernel_lacks_is_said_and_the_rest_works() {
    needs!(root, "linux.uml", uml);
    let said = there(
        "lacks",
        "$GARTH wrap -u nobody -- grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; echo plain $?
         $GARTH wrap --timens -- true; echo timens $?
         $GARTH wrap --cpuset-cpus 0 -- true; echo cpuset $?
         $GARTH wrap --network private -- true; echo network $?
         $GARTH doctor; echo doctor $?
         $GARTH gc",
    );
    for line in [
        "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nplain 0",
        "timens 125",
        "lacks a namespace of this type",
        "cpuset 125",
        "no cpuset controller in this cgroup hierarchy",
        "network 125",
        "missing  landlock",
        "doctor 1",
        "nothing to clean up",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}
