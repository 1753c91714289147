//! linux.resources on cgroups of version 2.

use garth_tests::{Bundle, Host};
use serde_json::{Value, json};

use crate::refused;

macro_rules! bundle_v2 {
    ($host:ident, $bundle:ident) => {
        garth_tests::needs!(v2);
        bundle!($host, $bundle);
    };
}

const MIB: i64 = 1 << 20;

fn limited(bundle: &mut Bundle, name: &str, value: Value) {
    bundle.config["linux"]["resources"][name] = value;
    bundle.script("exec sleep 600").create().ok();
}

fn file(bundle: &Bundle, name: &str) -> String {
    let path = format!("/sys/fs/cgroup/{}/{name}", bundle.id);
    bundle.host().read(&path).trim_end().to_owned()
}

#[test]
fn memory() {
    bundle_v2!(host, bundle);
    limited(&mut bundle, "memory", json!({"limit": 64 * MIB, "reservation": 32 * MIB}));
    assert_eq!(file(&bundle, "memory.max"), (64 * MIB).to_string());
    assert_eq!(file(&bundle, "memory.low"), (32 * MIB).to_string());
}

/// Version 2 limits swap alone; the configuration gives memory and swap together.
#[test]
fn memory_and_swap() {
    bundle_v2!(host, bundle);
    let find = "ls /sys/fs/cgroup/*/memory.swap.max /sys/fs/cgroup/memory.swap.max";
    if host.sh(find).run().stdout.is_empty() {
        return garth_tests::skip("v2", "a kernel that counts swap");
    }
    limited(&mut bundle, "memory", json!({"limit": 64 * MIB, "swap": 80 * MIB}));
    assert_eq!(file(&bundle, "memory.swap.max"), (16 * MIB).to_string());
}

#[test]
fn memory_is_felt() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 24 * MIB});
    let ran = bundle.script("dd if=/dev/zero of=/dev/null bs=64M count=1").run();
    assert_eq!(ran.code, 137, "{ran}");
}

#[test]
fn memory_check_before_update() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] =
        json!({"limit": 64 * MIB, "checkBeforeUpdate": true});
    let script =
        "dd if=/dev/zero of=/dev/shm/held bs=1M count=32 2>/dev/null; echo held; exec sleep 600";
    bundle.script(script).detach().ok();
    garth_tests::until("it holds memory", || (bundle.output() == "held").then_some(()));
    let call = bundle.call(&format!("update --resources - {}", bundle.id));
    let resources = json!({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": true}});
    assert_ne!(call.input(&resources.to_string()).run().code, 0);
    assert_eq!(bundle.status(), "running");
    assert_eq!(file(&bundle, "memory.max"), (64 * MIB).to_string());
}

#[test]
fn cpu() {
    bundle_v2!(host, bundle);
    let cpu = json!({"shares": 1024, "quota": 20_000, "period": 50_000, "burst": 10_000});
    limited(&mut bundle, "cpu", cpu);
    // Newer runtimes map the default to the default, older ones map the ranges.
    assert!(["39", "100"].contains(&&*file(&bundle, "cpu.weight")));
    assert_eq!(file(&bundle, "cpu.max"), "20000 50000");
    assert_eq!(file(&bundle, "cpu.max.burst"), "10000");
}

#[test]
fn cpu_idle() {
    bundle_v2!(host, bundle);
    limited(&mut bundle, "cpu", json!({"idle": 1}));
    assert_eq!(file(&bundle, "cpu.idle"), "1");
}

#[test]
fn cpuset() {
    bundle_v2!(host, bundle);
    if !controllers(&host).contains("cpuset") {
        return garth_tests::skip("v2", "the cpuset controller of version 2");
    }
    limited(&mut bundle, "cpu", json!({"cpus": "0", "mems": "0"}));
    assert_eq!(
        (file(&bundle, "cpuset.cpus"), file(&bundle, "cpuset.mems")),
        ("0".into(), "0".into())
    );
}

#[test]
fn block_io_throttling() {
    bundle_v2!(host, bundle);
    let device = host.sh("cat /sys/block/*/dev | head -n 1").run().stdout;
    let Some((major, minor)) = device.split_once(':') else {
        return garth_tests::skip("disk", "a block device");
    };
    let numbers = (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap());
    let rate = |rate: u32| json!([{"major": numbers.0, "minor": numbers.1, "rate": rate}]);
    let io = json!({"throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(77)});
    limited(&mut bundle, "blockIO", io);
    let expected = format!("{device} rbps=1048576 wbps=max riops=max wiops=77");
    assert_eq!(file(&bundle, "io.max"), expected);
}

/// Those that the test host has, which are not all of the machine's.
fn controllers(host: &Host) -> String {
    host.read("/sys/fs/cgroup/cgroup.controllers")
}

#[test]
fn a_limit_without_its_controller_is_refused() {
    bundle_v2!(host, bundle);
    let there = controllers(&host);
    for (controller, limit) in [
        ("cpuset", json!({"cpu": {"cpus": "0"}})),
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]})),
        ("rdma", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}})),
    ] {
        if !there.contains(controller) {
            bundle.config["linux"]["resources"] = limit;
            refused(&mut bundle);
        }
    }
}

/// A setting that version 2 has no equivalent for is not ignored.
#[test]
fn what_only_version_1_has_is_refused() {
    bundle_v2!(host, bundle);
    for limit in [
        json!({"memory": {"kernelTCP": MIB}}),
        json!({"memory": {"swappiness": 10}}),
        json!({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 100_000}}),
        json!({"network": {"classID": 7}}),
    ] {
        bundle.config["linux"]["resources"] = limit;
        refused(&mut bundle);
    }
}

#[test]
fn pids() {
    bundle_v2!(host, bundle);
    limited(&mut bundle, "pids", json!({"limit": 23}));
    assert_eq!(file(&bundle, "pids.max"), "23");
}

#[test]
fn unified() {
    bundle_v2!(host, bundle);
    let unified = json!({"memory.high": "33554432", "pids.max": "17", "cpu.weight": "77"});
    limited(&mut bundle, "unified", unified);
    assert_eq!(file(&bundle, "memory.high"), "33554432");
    assert_eq!(file(&bundle, "pids.max"), "17");
    assert_eq!(file(&bundle, "cpu.weight"), "77");
}

#[test]
fn unified_with_a_controller_that_is_not_there_is_refused() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["unified"] = json!({"tea.max": "1"});
    refused(&mut bundle);
}

#[test]
fn unified_with_a_path_is_refused() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["unified"] = json!({"../memory.max": "33554432"});
    refused(&mut bundle);
}

#[test]
fn the_mount_in_a_cgroup_namespace() {
    bundle_v2!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let script = "cat /proc/self/cgroup; head -n 1 /sys/fs/cgroup/cgroup.procs
        mkdir /sys/fs/cgroup/sub && echo made; true";
    assert_eq!(bundle.script(script).run().ok(), "0::/\n1");
}

#[test]
fn a_mount_that_can_be_written_belongs_to_the_user() {
    garth_tests::needs!(userns);
    bundle_v2!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.user_namespace(200_000);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB});
    let script = "cd /sys/fs/cgroup; mkdir sub && echo $$ >sub/cgroup.procs && echo moved; \
        stat -c %u . cgroup.procs memory.max";
    assert_eq!(bundle.script(script).run().ok(), "moved\n0\n0\n65534");
}

#[test]
fn a_mount_that_can_be_written_belongs_to_the_processs_own_user() {
    bundle_v2!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let script = "cd /sys/fs/cgroup; mkdir sub && rmdir sub && echo made
        stat -c %u . cgroup.procs pids.max";
    assert_eq!(bundle.script(script).run().ok(), "made\n1000\n1000\n0");
}

#[test]
fn a_mount_that_cannot_be_written_stays_roots() {
    bundle_v2!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    assert_eq!(bundle.script("stat -c %u /sys/fs/cgroup").run().ok(), "0");
}

#[test]
fn pause_and_resume() {
    bundle_v2!(host, bundle);
    bundle.sleeping();
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    assert_eq!((file(&bundle, "cgroup.freeze"), bundle.status()), ("1".into(), "paused".into()));
    bundle.call(&format!("resume {}", bundle.id)).run().ok();
    assert_eq!((file(&bundle, "cgroup.freeze"), bundle.status()), ("0".into(), "running".into()));
}

#[test]
fn a_process_of_exec_is_in_the_cgroup() {
    bundle_v2!(host, bundle);
    bundle.sleeping();
    let inside = bundle.exec("", "cat /proc/self/cgroup").ok();
    assert!(inside.ends_with(&format!("/{}", bundle.id)), "{inside}");
    assert_eq!(inside, bundle.proc("cgroup").trim_end());
}

#[test]
fn update() {
    bundle_v2!(host, bundle);
    bundle.sleeping();
    let resources = json!({"memory": {"limit": 48 * MIB}, "pids": {"limit": 19},
        "cpu": {"quota": 30_000, "period": 60_000}, "unified": {"memory.high": "33554432"}});
    let call = bundle.call(&format!("update --resources - {}", bundle.id));
    call.input(&resources.to_string()).run().ok();
    assert_eq!(file(&bundle, "memory.max"), (48 * MIB).to_string());
    assert_eq!(file(&bundle, "memory.high"), "33554432");
    assert_eq!(file(&bundle, "pids.max"), "19");
    assert_eq!(file(&bundle, "cpu.max"), "30000 60000");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn update_of_one_value_leaves_the_others() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 * MIB}});
    bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 20_000, "period": 50_000});
    bundle.sleeping();
    bundle.call(&format!("update --cpu-quota 40000 {}", bundle.id)).run().ok();
    assert_eq!(file(&bundle, "cpu.max"), "40000 50000");
    assert_eq!(file(&bundle, "memory.max"), (64 * MIB).to_string());
}

#[test]
fn events_stats() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 23});
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB});
    bundle.sleeping();
    let event = bundle.call(&format!("events --stats {}", bundle.id)).run().ok();
    let data = garth_tests::parsed(&event)["data"].clone();
    assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(1), &json!(23)));
    assert_eq!(data["memory"]["usage"]["limit"], 64 * MIB, "{event}");
    assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{event}");
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{event}");
}

#[test]
fn events_tell_when_memory_runs_out() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 24 * MIB});
    bundle.script(
        "until test -e /tmp/go; do sleep 0.05; done
        dd if=/dev/zero of=/dev/null bs=64M count=1; exec sleep 600",
    );
    bundle.detach().ok();
    let events = bundle.call(&format!("events --interval 1h {}", bundle.id)).start();
    bundle.exec("", "touch /tmp/go").ok();
    let told = std::iter::repeat_with(|| garth_tests::parsed(&events.line())).take(20);
    assert!(told.into_iter().any(|event| event["type"] == "oom"));
    bundle.delete_force().ok();
}

/// Without a pid namespace the others do not end with the first process, but they do with their
/// cgroup.
#[test]
fn delete_force_ends_every_process_also_of_frozen_ones() {
    bundle_v2!(host, bundle);
    bundle.without_namespace("pid");
    bundle.script("sleep 600 & setsid sleep 600 & echo ready; wait").detach().ok();
    garth_tests::until("it is ready", || (bundle.output() == "ready").then_some(()));
    bundle.call(&format!("pause {}", bundle.id)).run().ok();
    bundle.delete_force().ok();
    bundle.assert_nothing_left();
}

#[test]
fn devices() {
    bundle_v2!(host, bundle);
    bundle.config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]);
    // Without it, a kernel with dmesg_restrict does not let the log be read.
    bundle.capabilities(&["bounding", "permitted", "effective"], &["CAP_SYSLOG"]);
    // No driver has 1:2, so that it is the cgroup that does not permit it.
    host.sh(&format!(
        "mknod -m 666 {0} c 1 11; mknod -m 666 {1} c 1 2",
        bundle.rootfs("kmsg"),
        bundle.rootfs("kmem")
    ))
    .run()
    .ok();
    let script = "(exec 3</kmsg) 2>/dev/null && echo read; (exec 3>/kmsg) 2>/dev/null && echo write
        head -c 1 /kmem 2>&1 | grep -o 'not permitted'; head -c 1 /dev/zero >/dev/null && echo zero";
    assert_eq!(bundle.script(script).run().ok(), "read\nnot permitted\nzero");
}
