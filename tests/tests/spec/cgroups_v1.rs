//! linux.resources and linux.cgroupsPath on cgroups of version 1.

use garth_tests::{Bundle, Host, has_v1};
use serde_json::{Value, json};

use crate::refused;

macro_rules! bundle_v1 {
    ($host:ident, $bundle:ident) => {
        garth_tests::needs!(v1);
        bundle!($host, $bundle);
    };
}

/// A created container with these resources.
fn limited(bundle: &mut Bundle, resources: &[(&str, Value)]) {
    for (name, value) in resources {
        bundle.config["linux"]["resources"][*name] = value.clone();
    }
    bundle.script("exec sleep 600").create().ok();
}

const MIB: i64 = 1 << 20;

#[test]
fn memory() {
    bundle_v1!(host, bundle);
    let memory = json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 80 * MIB,
        "swappiness": 30});
    limited(&mut bundle, &[("memory", memory)]);
    let file = |name: &str| bundle.cgroup("memory", &format!("memory.{name}"));
    assert_eq!(file("limit_in_bytes"), (64 * MIB).to_string());
    assert_eq!(file("soft_limit_in_bytes"), (32 * MIB).to_string());
    assert_eq!(file("memsw.limit_in_bytes"), (80 * MIB).to_string());
    assert_eq!(file("swappiness"), "30");
}

#[test]
fn memory_without_limit() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("memory", json!({"limit": -1, "swap": -1}))]);
    assert!(bundle.cgroup("memory", "memory.limit_in_bytes").parse::<u64>().unwrap() > 1 << 60);
}

#[test]
fn memory_without_oom_killer() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("memory", json!({"limit": 64 * MIB, "disableOOMKiller": true}))]);
    assert!(bundle.cgroup("memory", "memory.oom_control").contains("oom_kill_disable 1"));
}

#[test]
fn memory_for_tcp() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("memory", json!({"kernelTCP": 8 * MIB}))]);
    let file = bundle.cgroup("memory", "memory.kmem.tcp.limit_in_bytes");
    assert_eq!(file, (8 * MIB).to_string());
}

#[test]
fn memory_is_felt() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 16 * MIB, "swap": 16 * MIB});
    let ran = bundle.script("dd if=/dev/zero of=/dev/null bs=64M count=1").run();
    assert_eq!(ran.code, 137, "{ran}");
}

#[test]
fn memory_that_is_less_than_what_is_needed_is_refused() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 4096, "swap": 4096});
    let ran = bundle.script("echo it runs").run();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
}

#[test]
fn a_swap_limit_below_the_memory_limit_is_refused() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB, "swap": 32 * MIB});
    refused(&mut bundle);
}

#[test]
fn cpu() {
    bundle_v1!(host, bundle);
    let cpu = json!({"shares": 512, "quota": 20_000, "period": 50_000, "burst": 10_000});
    limited(&mut bundle, &[("cpu", cpu)]);
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "512");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_burst_us"), "10000");
}

#[test]
fn cpu_shares_quota_and_period() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("cpu", json!({"shares": 512, "quota": 20_000, "period": 50_000}))]);
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "512");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_period_us"), "50000");
}

#[test]
fn cpu_idle() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("cpu", json!({"idle": 1}))]);
    assert_eq!(bundle.cgroup("cpu", "cpu.idle"), "1");
}

#[test]
fn cpuset() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("cpu", json!({"cpus": "1", "mems": "0"}))]);
    assert_eq!(bundle.cgroup("cpuset", "cpuset.cpus"), "1");
    assert_eq!(bundle.cgroup("cpuset", "cpuset.mems"), "0");
    bundle.start().ok();
    assert_eq!(bundle.exec("", "grep -c ^Cpus_allowed_list:.1$ /proc/self/status").ok(), "1");
}

#[test]
fn a_cpu_that_is_not_there_is_refused() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": "700"});
    refused(&mut bundle);
}

#[test]
fn pids() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("pids", json!({"limit": 23}))]);
    assert_eq!(bundle.cgroup("pids", "pids.max"), "23");
}

#[test]
fn pids_without_limit() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("pids", json!({"limit": -1}))]);
    assert_eq!(bundle.cgroup("pids", "pids.max"), "max");
}

#[test]
fn pids_are_felt() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 30});
    let script = "for i in $(seq 60); do sleep 9 & done; echo all";
    let ran = bundle.script(script).run();
    assert!(ran.stderr.contains("fork") && !ran.stdout.contains("all"), "{ran}");
}

/// A whole disk of this machine, as major and minor.
fn disk() -> Option<(i64, i64)> {
    let mut disks: Vec<_> = std::fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.sort_by_key(|entry| entry.path());
    let text = std::fs::read_to_string(disks.first()?.path().join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn block_io_throttling() {
    bundle_v1!(host, bundle);
    let Some((major, minor)) = disk() else {
        return garth_tests::skip("disk", "a disk");
    };
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let block = json!({
        "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400),
    });
    limited(&mut bundle, &[("blockIO", block)]);
    for (file, value) in [
        ("read_bps_device", 1_048_576),
        ("write_bps_device", 2_097_152),
        ("read_iops_device", 300),
        ("write_iops_device", 400),
    ] {
        let found = bundle.cgroup("blkio", &format!("blkio.throttle.{file}"));
        assert_eq!(found, format!("{major}:{minor} {value}"), "{file}");
    }
}

/// Hides the tree of a controller from this test host, if the machine has one: its own tree, or on
/// a hybrid machine the unified one.
fn without_controller(host: &Host, controller: &str) {
    if has_v1(controller) {
        host.sh(&format!("umount -l /sys/fs/cgroup/{controller}")).run().ok();
    }
    let unified = "/sys/fs/cgroup/unified";
    let script =
        format!("! grep -qw {controller} {unified}/cgroup.controllers || umount -l {unified}");
    host.sh(&script).run().ok();
}

#[test]
fn huge_pages_without_their_controller_are_refused() {
    bundle_v1!(host, bundle);
    without_controller(&host, "hugetlb");
    bundle.config["linux"]["resources"]["hugepageLimits"] =
        json!([{"pageSize": "2MB", "limit": 2 * MIB}]);
    refused(&mut bundle);
}

#[test]
fn network_classes_without_their_controller_are_refused() {
    bundle_v1!(host, bundle);
    without_controller(&host, "net_cls");
    bundle.config["linux"]["resources"]["network"] = json!({"classID": 1_048_577});
    refused(&mut bundle);
}

#[test]
fn rdma_without_its_controller_is_refused() {
    bundle_v1!(host, bundle);
    without_controller(&host, "rdma");
    bundle.config["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}});
    refused(&mut bundle);
}

#[test]
fn unified_without_version_2_is_refused() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["unified"] = json!({"memory.max": "67108864"});
    refused(&mut bundle);
}

/// What a container with these rules may do with a device that is not a default one, and whether it
/// may read one that is.
fn devices(rules: Value) -> String {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.config["linux"]["resources"]["devices"] = rules;
    host.sh(&format!("mknod -m 666 {} c 10 229", bundle.rootfs("fuse"))).run().ok();
    let script = "(exec 3</fuse) 2>/dev/null && echo read; (exec 3>/fuse) 2>/dev/null && echo write
        head -c 1 /dev/zero >/dev/null && echo zero";
    bundle.script(script).run().ok().replace('\n', " ")
}

macro_rules! devices {
    ($($name:ident $rules:tt $found:literal),+ $(,)?) => {
        $(#[test] fn $name() {
            garth_tests::needs!(root);
            if !std::path::Path::new("/dev/fuse").exists() {
                return garth_tests::skip("fuse", "/dev/fuse");
            }
            assert_eq!(devices(json!($rules)), $found);
        })+
    };
}

devices!(
    devices_denied [{"allow": false, "access": "rwm"}] "zero",
    devices_allowed [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ] "read write zero",
    devices_allowed_to_be_read [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
    ] "read zero",
    devices_allowed_by_their_major_number [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "access": "rwm"},
    ] "read write zero",
    devices_all_allowed_but_one [
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ] "zero",
    devices_in_the_listed_order [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
    ] "read zero",
);

#[test]
fn devices_of_linux_devices_need_a_rule_too() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/tea", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]);
    bundle.config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]);
    limited(&mut bundle, &[]);
    let list = bundle.cgroup("devices", "devices.list");
    assert!(list.lines().any(|line| line == "c 10:229 rw" || line == "c 10:229 rwm"), "{list}");
}

#[test]
fn an_absolute_cgroups_path() {
    bundle_v1!(host, bundle);
    let path = format!("/parent-{0}/{0}", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = path.clone().into();
    bundle.script("exec sleep 600").create().ok();
    let pid = bundle.pid().to_string();
    for controller in ["memory", "cpu", "pids", "devices", "freezer", "cpuset", "blkio"] {
        let file = format!("/sys/fs/cgroup/{controller}{path}/cgroup.procs");
        assert_eq!(host.sh(&format!("cat {file}")).run().ok(), pid, "{controller}");
    }
    bundle.delete_force().ok();
    for controller in ["memory", "cpu", "pids", "devices", "freezer", "cpuset", "blkio"] {
        assert!(!host.path(&format!("/sys/fs/cgroup/{controller}{path}")).exists());
    }
    // Whether the parent is removed too is not specified.
    let rest =
        format!("for dir in /sys/fs/cgroup/*/parent-{0}; do rmdir $dir; done; true", bundle.id);
    host.sh(&rest).run();
}

/// `create` by a caller whose cgroups are on the test host, as everywhere else. Returns what the
/// kernel says about the memory cgroup of the container.
fn created_from_inside(bundle: &mut Bundle) -> String {
    bundle.script("exec sleep 600");
    let create = "for dir in /sys/fs/cgroup/*/; do
            mkdir -p $dir/caller
            for file in cpuset.cpus cpuset.mems; do cat $dir/$file >$dir/caller/$file; done
            echo $$ >$dir/caller/cgroup.procs
        done 2>/dev/null
        $R create --bundle $B $ID </dev/null >$B/out 2>&1
        code=$?
        for dir in /sys/fs/cgroup/*/; do echo $$ >$dir/cgroup.procs; done 2>/dev/null
        exit $code";
    bundle.sh(create).run().ok();
    let file = bundle.proc("cgroup");
    let line = file.lines().find(|line| line.contains(":memory:")).unwrap().to_owned();
    bundle.delete_force().ok();
    let rest = "find /sys/fs/cgroup -depth -type d -path '*/caller*' -exec rmdir '{}' ';'; true";
    bundle.host().sh(rest).run().ok();
    line
}

#[test]
fn a_relative_cgroups_path() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["cgroupsPath"] = format!("{}-relative", bundle.id).into();
    let first = created_from_inside(&mut bundle);
    assert!(first.ends_with("-relative"), "{first}");
    assert_eq!(created_from_inside(&mut bundle), first);
}

#[test]
fn no_cgroups_path() {
    bundle_v1!(host, bundle);
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    let line = created_from_inside(&mut bundle);
    assert!(line.contains(&bundle.id), "{line}");
}

#[test]
fn every_process_is_in_the_cgroup() {
    bundle_v1!(host, bundle);
    bundle.script("sleep 600 & sleep 600 & exec sleep 600").detach().ok();
    garth_tests::until("all are there", || {
        (bundle.cgroup("pids", "cgroup.procs").lines().count() == 3).then_some(())
    });
}

#[test]
fn a_process_of_exec_is_in_the_cgroup() {
    bundle_v1!(host, bundle);
    bundle.sleeping();
    let own = bundle.proc("cgroup");
    assert_eq!(bundle.exec("", "cat /proc/self/cgroup").ok(), own.trim());
}

#[test]
fn no_pids_but_the_first() {
    bundle_v1!(host, bundle);
    limited(&mut bundle, &[("pids", json!({"limit": 0}))]);
    assert_eq!(bundle.cgroup("pids", "pids.max"), "1");
}

#[test]
fn a_limit_without_its_controller_is_named() {
    bundle_v1!(host, bundle);
    bundle.config["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}});
    let words = refused(&mut bundle);
    assert!(words.contains("rdma mlx5_1") && words.contains("no rdma controller"), "{words}");
}
