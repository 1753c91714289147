//! update: limits of an existing container.

use garth_tests::Bundle;
use serde_json::json;

macro_rules! bundle_v1 {
    ($host:ident, $bundle:ident) => {
        garth_tests::needs!(v1);
        bundle!($host, $bundle);
        $bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        $bundle.config["linux"]["resources"]["cpu"] =
            json!({"shares": 512, "quota": 20_000, "period": 50_000});
        $bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
        $bundle.sleeping();
    };
}

fn update(bundle: &Bundle, options: &str) -> garth_tests::Ran {
    bundle.call(&format!("update {options} {}", bundle.id)).run()
}

#[test]
fn by_options() {
    bundle_v1!(host, bundle);
    update(&bundle, "--memory 33554432 --memory-reservation 16M --cpu-share 300 --pids-limit 30")
        .ok();
    assert_eq!(bundle.cgroup("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(bundle.cgroup("memory", "memory.soft_limit_in_bytes"), "16777216");
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "300");
    assert_eq!(bundle.cgroup("pids", "pids.max"), "30");
    // What was not named stays.
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "20000");
}

#[test]
fn of_cpu_quota_and_period() {
    bundle_v1!(host, bundle);
    update(&bundle, "--cpu-period 100000 --cpu-quota 70000").ok();
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_period_us"), "100000");
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "70000");
    update(&bundle, "--cpu-quota -1").ok();
    assert_eq!(bundle.cgroup("cpu", "cpu.cfs_quota_us"), "-1");
}

#[test]
fn of_the_cpuset() {
    bundle_v1!(host, bundle);
    update(&bundle, "--cpuset-cpus 1 --cpuset-mems 0").ok();
    assert_eq!(bundle.cgroup("cpuset", "cpuset.cpus"), "1");
}

#[test]
fn of_memory_and_swap_upward_and_downward() {
    bundle_v1!(host, bundle);
    for mib in [128, 32] {
        update(&bundle, &format!("--memory {mib}M --memory-swap {}M", mib + 16)).ok();
        let expected = |mib: u64| (mib << 20).to_string();
        assert_eq!(bundle.cgroup("memory", "memory.limit_in_bytes"), expected(mib));
        assert_eq!(bundle.cgroup("memory", "memory.memsw.limit_in_bytes"), expected(mib + 16));
    }
}

#[test]
fn by_resources_on_the_input() {
    bundle_v1!(host, bundle);
    let resources = json!({"memory": {"limit": 33_554_432}, "cpu": {"shares": 300},
        "pids": {"limit": 30}});
    let call = bundle.call(&format!("update --resources - {}", bundle.id));
    call.input(&resources.to_string()).run().ok();
    assert_eq!(bundle.cgroup("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "300");
    assert_eq!(bundle.cgroup("pids", "pids.max"), "30");
}

#[test]
fn by_resources_in_a_file() {
    bundle_v1!(host, bundle);
    host.write("/srv/resources.json", "{\"pids\": {\"limit\": 30}}");
    update(&bundle, "--resources=/srv/resources.json").ok();
    assert_eq!(bundle.cgroup("pids", "pids.max"), "30");
    assert_eq!(bundle.cgroup("cpu", "cpu.shares"), "512");
}

#[test]
fn of_a_created_container() {
    garth_tests::needs!(cgroups);
    bundle!(host, bundle);
    bundle.create().ok();
    update(&bundle, "--pids-limit 30").ok();
    assert_eq!(bundle.cgroup("pids", "pids.max"), "30");
}

#[test]
fn by_bad_resources_is_refused() {
    bundle_v1!(host, bundle);
    let call = bundle.call(&format!("update --resources - {}", bundle.id));
    assert_ne!(call.input("{\"memory\": ").run().code, 0);
    assert_eq!(bundle.cgroup("pids", "pids.max"), "20");
}

#[test]
fn that_the_kernel_rejects_is_refused() {
    bundle_v1!(host, bundle);
    assert_ne!(update(&bundle, "--cpuset-cpus 700").code, 0);
    assert_eq!(bundle.status(), "running");
}

#[test]
fn devices_stay_as_they_were() {
    bundle_v1!(host, bundle);
    let before = bundle.cgroup("devices", "devices.list");
    update(&bundle, "--pids-limit 30").ok();
    assert_eq!(bundle.cgroup("devices", "devices.list"), before);
}

#[test]
fn of_the_pids_to_none_but_the_first() {
    bundle_v1!(host, bundle);
    update(&bundle, "--pids-limit 0").ok();
    assert_eq!(bundle.cgroup("pids", "pids.max"), "1");
    let call = bundle.call(&format!("update --resources - {}", bundle.id));
    call.input("{\"pids\": {\"limit\": -1}}").run().ok();
    assert_eq!(bundle.cgroup("pids", "pids.max"), "max");
}
