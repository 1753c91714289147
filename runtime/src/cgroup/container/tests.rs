//! Choosing is tested on text and on trees of plain files, everything else on this kernel, below a
//! directory that is named after the test and removed at its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use super::super::tests::{Reaped, unique, wait_for};
use super::super::{Claim, Oom, OomEvent};
use super::*;
use crate::config::oci::Resources;

const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
40 1 0:30 /docker/x /var/part rw - cgroup cgroup rw,memory
";
const HYBRID_OWN: &str = "3:cpu,cpuacct:/\n2:memory:/jobs/7\n1:name=systemd:/s\n0::/u/v\n";

fn hybrid() -> Hierarchy {
    Hierarchy::parse(HYBRID, HYBRID_OWN, true)
}

fn unified(own: &str) -> Hierarchy {
    let mounts = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    Hierarchy::parse(mounts, &format!("0::{own}\n"), true)
}

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(json).unwrap()
}

fn make(cgroup: &Cgroup, resources: &Resources, pid: Option<i32>) -> Result<Claim> {
    cgroup.make(LimitSource::Config(resources), pid)
}

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

fn wanted<'a>(path: &'a str, resources: &'a Resources) -> Wanted<'a> {
    Wanted {
        id: "web",
        cgroups_path: Some(path),
        driver: Driver::Cgroupfs,
        rootless: false,
        resources,
        annotations: &NO_ANNOTATIONS,
    }
}

fn paths(host: &Hierarchy, path: &str) -> Vec<String> {
    let none = Resources::default();
    let cgroup = choose_container(host, &wanted(path, &none)).unwrap();
    cgroup.dirs.iter().map(|dir| cgroup.path(dir).to_str().unwrap().to_owned()).collect()
}

#[test]
fn an_absolute_path_is_below_each_tree_and_a_relative_one_below_the_callers_cgroup() {
    assert_eq!(
        paths(&hybrid(), "/docker/abc"),
        [
            "/sys/fs/cgroup/cpu,cpuacct/docker/abc",
            "/sys/fs/cgroup/memory/docker/abc",
            "/sys/fs/cgroup/systemd/docker/abc",
            "/sys/fs/cgroup/unified/docker/abc",
        ]
    );
    let relative = [
        "/sys/fs/cgroup/cpu,cpuacct/a/b",
        "/sys/fs/cgroup/memory/jobs/7/a/b",
        "/sys/fs/cgroup/systemd/s/a/b",
        "/sys/fs/cgroup/unified/u/v/a/b",
    ];
    assert_eq!(paths(&hybrid(), "a/b"), relative);
    // With only the unified tree, nothing can be passed on from the caller's own cgroup.
    assert_eq!(paths(&unified("/user/shell"), "a/b"), ["/sys/fs/cgroup/user/a/b"]);
    assert_eq!(paths(&unified("/"), "a"), ["/sys/fs/cgroup/a"]);
    assert_eq!(paths(&unified("/user/shell"), "/a"), ["/sys/fs/cgroup/a"]);
    // The default is the id.
    assert_eq!(paths(&unified("/user/shell"), ""), ["/sys/fs/cgroup/user/web"]);
}

#[test]
fn a_part_of_a_tree_counts_from_where_it_is_mounted() {
    let mounts = "33 31 0:30 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let host = Hierarchy::parse(mounts, "2:memory:/docker/x/inner\n", true);
    assert_eq!(paths(&host, "/a"), ["/sys/fs/cgroup/memory/a"]);
    assert_eq!(paths(&host, "a"), ["/sys/fs/cgroup/memory/inner/a"]);
    let elsewhere = Hierarchy::parse(mounts, "2:memory:/docker/xy\n", true);
    assert_eq!(paths(&elsewhere, "a"), ["/sys/fs/cgroup/memory/a"]);
}

#[test]
fn no_path_leads_above_its_start() {
    let host = unified("/user/shell");
    assert_eq!(paths(&host, "/../../etc/x"), ["/sys/fs/cgroup/etc/x"]);
    assert_eq!(paths(&host, "../../../x"), ["/sys/fs/cgroup/user/x"]);
    assert_eq!(paths(&host, "a/../../b/./c//"), ["/sys/fs/cgroup/user/b/c"]);
    let none = Resources::default();
    for path in ["/", "..", "/a/..", "a\nb", "/a\0b/c"] {
        assert!(choose_container(&host, &wanted(path, &none)).is_err(), "{path:?}");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name_and_no_limit_is_not() {
    let refused = |json| {
        let resources = resources(json);
        choose_container(
            &Hierarchy::parse(
                "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup c rw,memory\n",
                "",
                true,
            ),
            &wanted("/a", &resources),
        )
        .map(drop)
        .map_err(|error| error.to_string())
    };
    let words = refused(serde_json::json!({ "pids": { "limit": 5 } })).unwrap_err();
    assert!(
        words.starts_with("pids.limit 5: no pids controller in the cgroup hierarchies"),
        "{words}"
    );
    let words = refused(serde_json::json!({ "pids": { "limit": 0 } })).unwrap_err();
    assert!(words.starts_with("pids.limit 0: no pids controller"), "{words}");
    let words = refused(serde_json::json!({ "cpu": { "cpus": "0-1" } })).unwrap_err();
    assert!(words.starts_with("cpu.cpus 0-1: no cpuset controller"), "{words}");
    // What engines fill in without meaning anything by it.
    refused(serde_json::json!({
        "memory": { "limit": 1 << 30, "disableOOMKiller": false },
        "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "" },
        "blockIO": { "weight": 0 },
    }))
    .unwrap();
    refused(serde_json::json!({ "pids": { "limit": -1 }, "cpu": { "quota": -1 } })).unwrap();
}

#[test]
fn without_permission_and_without_limits_there_is_no_cgroup() {
    if crate::sys::process::effective_ids().0 == 0 {
        // Root may write everywhere: only the mount options show that nothing can be created.
        let host = Hierarchy::parse("1 0 0:28 / /tmp ro - cgroup2 cgroup2 rw", "0::/\n", false);
        let none = Resources::default();
        let rootless = Wanted { rootless: true, ..wanted("/a", &none) };
        assert!(choose_container(&host, &rootless).unwrap().is_empty());
        let memory = resources(serde_json::json!({ "memory": { "limit": 1 << 30 } }));
        let words = choose_container(&host, &Wanted { resources: &memory, ..rootless })
            .unwrap_err()
            .to_string();
        assert!(words.starts_with("memory.limit 1073741824: create cgroup /tmp/a: "), "{words}");
        assert!(words.contains("EROFS"), "{words}");
    }
    let disabled =
        |resources| Wanted { driver: Driver::Disabled, resources, ..wanted("/a", resources) };
    let none = Resources::default();
    let without = choose_container(&hybrid(), &disabled(&none)).unwrap();
    assert!(without.is_empty() && without.join_paths().is_empty());
    let record = Cgroup::from_text(&without.to_text()).unwrap();
    drop(make(&record, &none, None).unwrap());
    record.update(&none).unwrap();
    record.remove().unwrap();
    record.release().unwrap();
    let memory = resources(serde_json::json!({ "memory": { "limit": 1 << 30 } }));
    let words = choose_container(&hybrid(), &disabled(&memory)).unwrap_err().to_string();
    assert!(words.contains("cgroups are disabled"), "{words}");
}

#[test]
fn the_record_fits_a_short_text() {
    for path in ["/docker/abc", "a", "/x"] {
        let none = Resources::default();
        let cgroup = choose_container(&hybrid(), &wanted(path, &none)).unwrap();
        let text = cgroup.to_text();
        assert!(text.len() < 300, "{text}");
        assert_eq!(Cgroup::from_text(&text).unwrap(), cgroup);
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }
    for text in ["", "1", "1 a", "1 /a\nx y z", "1 /a\n1", "2 /a"] {
        assert_eq!(Cgroup::from_text(text), None, "{text:?}");
    }
    // A damaged record names nothing outside.
    let damaged = Cgroup::from_text("1 ../..\n1 memory /sys/fs/cgroup/memory").unwrap();
    assert!(damaged.remove().is_err());
}

/// A container's cgroup on this machine, and a process in it; everything is removed at the end.
struct Real {
    cgroup: Cgroup,
    above: String,
}

impl Real {
    fn choose(resources: &Resources) -> Option<Real> {
        if crate::sys::process::effective_ids().0 != 0 {
            garth_needs::skip("root", "root");
            return None;
        }
        let above = unique("garth-test");
        let path = format!("/{above}/pod/box");
        let host = Hierarchy::read().unwrap();
        let cgroup = choose_container(&host, &wanted(&path, resources)).unwrap();
        if cgroup.is_empty() {
            garth_needs::skip("cgroups", "a cgroup tree");
            return None;
        }
        let limits = *resources != Resources::default();
        if limits && let Some(reason) = garth_needs::missing("cgroups") {
            garth_needs::skip("cgroups", &reason);
            return None;
        }
        Some(Real { cgroup, above })
    }

    fn make(json: serde_json::Value) -> Option<Real> {
        let resources = resources(json);
        let real = Real::choose(&resources)?;
        drop(make(&real.cgroup, &resources, None).unwrap());
        Some(real)
    }

    /// A process that has joined.
    fn child(&self) -> Reaped {
        let child = Reaped(Command::new("sleep").arg("60").spawn().unwrap());
        self.cgroup.enter(pid(&child.0)).unwrap();
        child
    }

    /// A shell that joins, then runs `script`.
    fn shell(&self, script: &str) -> Command {
        let paths = self.cgroup.join_paths();
        let join: String =
            paths.iter().map(|file| format!("echo 0 > {} && ", file.display())).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{join}{{ {script}\n}}")]).stderr(std::process::Stdio::null());
        command
    }

    fn read(&self, controller: Controller, file: &str) -> String {
        let dir = self.cgroup.deciding(controller).unwrap();
        fs::read_to_string(self.cgroup.path(dir).join(file)).unwrap().trim().to_owned()
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.cgroup.dirs.iter().map(|dir| self.cgroup.path(dir)).collect()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.cgroup.release();
        for dir in &self.cgroup.dirs {
            let above = PathBuf::from(&dir.top).join(&self.above);
            let _ = fs::remove_dir(above.join("pod"));
            let _ = fs::remove_dir(above);
        }
    }
}

fn pid(child: &Child) -> i32 {
    child.id() as i32
}

#[test]
fn a_container_is_in_every_tree_and_its_own_directory_goes_with_it() {
    let Some(real) = Real::make(serde_json::json!({})) else { return };
    let child = real.child();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", child.0.id())).unwrap();
    let inside = text.lines().filter(|line| line.ends_with(&format!("/{}/pod/box", real.above)));
    // Some trees may not be mounted here.
    assert_eq!(inside.count(), real.dirs().len(), "{text}");
    assert_eq!(real.cgroup.pids().unwrap(), [pid(&child.0)]);
    let words = real.cgroup.remove().unwrap_err().to_string();
    assert!(words.contains("EBUSY") && words.contains(&child.0.id().to_string()), "{words}");
    drop(child);
    // The container may have created cgroups inside.
    for dir in real.dirs() {
        fs::create_dir_all(dir.join("inner/most")).unwrap();
    }
    let record = Cgroup::from_text(&real.cgroup.to_text()).unwrap();
    record.remove().unwrap();
    record.remove().unwrap();
    for dir in real.dirs() {
        assert!(!dir.exists() && dir.parent().unwrap().exists(), "{}", dir.display());
    }
}

#[test]
fn an_empty_cgroup_is_taken_and_one_with_processes_is_not() {
    let Some(real) = Real::make(serde_json::json!({})) else { return };
    drop(make(&real.cgroup, &Resources::default(), None).unwrap());
    let _child = real.child();
    let words = make(&real.cgroup, &Resources::default(), None).unwrap_err().to_string();
    assert!(words.contains("container's cgroup is not empty: 1 process(es) found"), "{words}");
    assert!(real.dirs().iter().all(|dir| dir.exists()));
}

#[test]
fn a_cgroup_that_is_claimed_is_nobody_elses() {
    let Some(real) = Real::make(serde_json::json!({})) else { return };
    let claim = make(&real.cgroup, &Resources::default(), None).unwrap();
    let words = make(&real.cgroup, &Resources::default(), None).unwrap_err().to_string();
    assert!(words.contains("is being claimed by another container"), "{words}");
    real.cgroup.leave().unwrap();
    assert!(real.dirs().iter().all(|dir| dir.exists()));
    drop(claim);
    real.cgroup.leave().unwrap();
    assert!(real.dirs().iter().all(|dir| !dir.exists()));
    real.cgroup.leave().unwrap();
    // Nor is one that has a process in it.
    drop(make(&real.cgroup, &Resources::default(), None).unwrap());
    let child = real.child();
    real.cgroup.leave().unwrap();
    assert_eq!(real.cgroup.pids().unwrap(), [pid(&child.0)]);
}

#[test]
fn a_frozen_cgroup_is_not_taken() {
    let Some(real) = Real::make(serde_json::json!({})) else { return };
    real.cgroup.freeze().unwrap();
    assert!(real.cgroup.is_frozen());
    let words = make(&real.cgroup, &Resources::default(), None).unwrap_err().to_string();
    assert!(words.contains("container's cgroup unexpectedly frozen"), "{words}");
    real.cgroup.thaw().unwrap();
    assert!(!real.cgroup.is_frozen());
}

#[test]
fn what_was_made_for_a_container_is_removed_when_a_limit_is_refused() {
    let refused = resources(serde_json::json!({ "pids": { "limit": i64::MAX } }));
    let Some(real) = Real::choose(&refused) else { return };
    let words = make(&real.cgroup, &refused, None).unwrap_err().to_string();
    assert!(words.starts_with("pids.limit 9223372036854775807: write "), "{words}");
    for dir in &real.cgroup.dirs {
        assert!(!PathBuf::from(&dir.top).join(&real.above).exists());
    }
}

#[test]
fn limits_are_in_force_and_can_be_changed_in_any_order() {
    let Some(real) = Real::make(serde_json::json!({
        "memory": { "limit": 64 << 20, "swap": 128 << 20 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 50 },
    })) else {
        return;
    };
    if !real.cgroup.dirs.iter().any(|dir| dir.controllers.contains(&Controller::Memory)) {
        garth_needs::skip("v1", "the v1 trees");
        return;
    }
    let limits = || {
        ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
            .map(|file| real.read(Controller::Memory, file).parse::<u64>().unwrap() >> 20)
    };
    assert_eq!(limits(), [64, 128]);
    assert_eq!(real.read(Controller::Cpu, "cpu.shares"), "512");
    assert_eq!(real.read(Controller::Cpu, "cpu.cfs_quota_us"), "50000");
    assert_eq!(real.read(Controller::Pids, "pids.max"), "50");
    let update = |json| real.cgroup.update(&resources(json)).map_err(|error| error.to_string());
    // Both up, where the memory limit exceeds the old sum; both down; and no swap.
    for (memory, swap) in [(256, 512), (32, 48), (300, 300), (16, 16)] {
        update(serde_json::json!({ "memory": { "limit": memory << 20, "swap": swap << 20 } }))
            .unwrap();
        assert_eq!(limits(), [memory, swap]);
    }
    update(serde_json::json!({ "memory": { "limit": -1 } })).unwrap();
    assert!(limits()[1] > 1 << 40);
    // A quota above what the parent allows with the old period, together with the new period.
    update(serde_json::json!({ "cpu": { "quota": 2000, "period": 2000, "burst": 1000 } })).unwrap();
    assert_eq!(real.read(Controller::Cpu, "cpu.cfs_burst_us"), "1000");
    update(serde_json::json!({ "cpu": { "burst": 0 }, "pids": { "limit": -1 } })).unwrap();
    assert_eq!(real.read(Controller::Cpu, "cpu.cfs_burst_us"), "0");
    // What is not given stays unchanged.
    assert_eq!(real.read(Controller::Cpu, "cpu.shares"), "512");
    assert_eq!(real.read(Controller::Pids, "pids.max"), "max");
    let words = update(serde_json::json!({ "cpu": { "shares": 1 } })).unwrap_err();
    assert!(words.starts_with("cpu.shares 1: the kernel set 2 instead"), "{words}");
    update(serde_json::json!({ "cpu": { "shares": 99, "idle": 1 } })).unwrap();
    assert_eq!(real.read(Controller::Cpu, "cpu.idle"), "1");
    update(serde_json::json!({ "cpu": { "shares": 99, "idle": 0 } })).unwrap();
    assert_eq!(real.read(Controller::Cpu, "cpu.shares"), "99");
    let words = update(serde_json::json!({ "cpu": { "cpus": "9999" } })).unwrap_err();
    assert!(words.starts_with("cpu.cpus 9999: write \"9999\" to "), "{words}");
    let words = update(serde_json::json!({ "unified": { "memory.high": "1" } })).unwrap_err();
    assert!(words.starts_with("unified: requires cgroup v2 only"), "{words}");
}

#[test]
fn the_counters_have_the_shape_that_engines_read() {
    let Some(real) = Real::make(serde_json::json!({ "pids": { "limit": 9 } })) else { return };
    let mut shell = real.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 60");
    let _child = Reaped(shell.spawn().unwrap());
    wait_for(|| real.cgroup.stats().cpu.usage.total > 10_000_000);
    let stats = serde_json::to_value(real.cgroup.stats()).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        keys(&stats),
        ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"]
    );
    assert_eq!(stats["intel_rdt"], serde_json::json!({}));
    assert_eq!(stats["network_interfaces"], serde_json::Value::Null);
    assert_eq!(stats["pids"], serde_json::json!({ "current": 1, "limit": 9 }));
    assert!(stats["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["memory"]["raw"].as_object().unwrap().len() > 10, "{stats}");
    if !real.cgroup.unified_only() {
        let percpu = stats["cpu"]["usage"]["percpu"].as_array().unwrap();
        assert!(percpu.iter().any(|n| n.as_u64() > Some(0)), "{stats}");
        assert_eq!(keys(&stats["memory"]["kernelTCP"]), ["failcnt", "limit"]);
        assert_eq!(stats["cpuset"]["sched_load_balance"], 1);
    }
}

#[test]
fn a_signal_reaches_every_process_also_those_in_cgroups_inside() {
    let Some(real) = Real::make(serde_json::json!({})) else { return };
    // A new v1 cpuset accepts no process, which does not matter here.
    let inner: String = real
        .dirs()
        .iter()
        .map(|dir| format!("mkdir {0}/in; echo 0 > {0}/in/cgroup.procs; ", dir.display()))
        .collect();
    let script = format!("sleep 60 & sh -c '{inner} exec sleep 60' & wait; exit 7");
    let mut child = Reaped(real.shell(&script).spawn().unwrap());
    wait_for(|| {
        real.cgroup.pids().unwrap().len() == 3 && real.cgroup.own_pids().unwrap().len() == 2
    });
    let pids = real.cgroup.pids().unwrap();
    real.cgroup.kill_all(libc::SIGTERM).unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
    wait_for(|| real.cgroup.pids().unwrap().is_empty());
    assert!(!pids.is_empty() && !real.cgroup.is_frozen());
    real.cgroup.kill_all(libc::SIGKILL).unwrap();
    real.cgroup.remove().unwrap();
}

#[test]
fn running_out_of_memory_is_told_and_so_is_the_end() {
    use std::os::fd::AsFd;
    let Some(real) = Real::make(serde_json::json!({
        "memory": { "limit": 16 << 20, "swap": 16 << 20 },
    })) else {
        return;
    };
    let mut oom = real.cgroup.notify_oom().unwrap();
    assert_eq!(oom.news().unwrap(), OomEvent::Nothing);
    let ready = |oom: &Oom| {
        let wait = Some(std::time::Duration::from_secs(10));
        crate::sys::process::readable([oom.as_fd()], wait).unwrap()[0]
    };
    let script = "head -c 64000000 /dev/zero | tail > /dev/null; sleep 60";
    let child = Reaped(real.shell(script).spawn().unwrap());
    assert!(ready(&oom));
    wait_for(|| oom_or(&mut oom) == OomEvent::Oom);
    drop(child);
    real.cgroup.kill_all(libc::SIGKILL).unwrap();
    real.cgroup.remove().unwrap();
    assert!(ready(&oom));
    wait_for(|| oom_or(&mut oom) == OomEvent::Gone);
}

#[test]
fn the_trees_inside_have_the_names_of_those_outside() {
    let none = Resources::default();
    let cgroup = choose_container(&hybrid(), &wanted("/a", &none)).unwrap();
    let inside = cgroup.inside(&hybrid());
    let words: Vec<String> = inside
        .iter()
        .map(|tree| {
            let links = tree.links.join(" ");
            let (options, own) = (tree.options.join(","), tree.own.display());
            format!("{} [{links}] {options:?} {own}", tree.name)
        })
        .collect();
    assert_eq!(
        words,
        [
            "cpu,cpuacct [cpu cpuacct] \"cpu,cpuacct\" /sys/fs/cgroup/cpu,cpuacct/a",
            "memory [] \"memory\" /sys/fs/cgroup/memory/a",
            "systemd [] \"none,name=systemd\" /sys/fs/cgroup/systemd/a",
            "unified [] \"\" /sys/fs/cgroup/unified/a",
        ]
    );
    let paths = cgroup.paths();
    let keys: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(keys, ["", "cpu", "cpuacct", "memory", "name=systemd"]);
    let alone = choose_container(&unified("/"), &wanted("/a", &none)).unwrap();
    let [tree] = &alone.inside(&unified("/"))[..] else { panic!() };
    assert_eq!((tree.name.as_str(), tree.options.len()), ("", 0));
    assert_eq!(tree.own, PathBuf::from("/sys/fs/cgroup/a"));
}

#[test]
fn devices_are_denied_and_allowed_again() {
    let Some(real) = Real::make(serde_json::json!({
        "devices": [{ "allow": false, "access": "rwm" }],
    })) else {
        return;
    };
    // Everyone may open /dev/zero, but not /dev/kmsg (1:11).
    let open = |real: &Real, device: &str| {
        real.shell(&format!(": < {device}")).status().unwrap().success()
    };
    assert!(open(&real, "/dev/zero") && !open(&real, "/dev/kmsg"));
    let allowed = serde_json::json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ]});
    real.cgroup.update(&resources(allowed)).unwrap();
    assert!(open(&real, "/dev/zero") && open(&real, "/dev/kmsg"));
    let denied = serde_json::json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    real.cgroup.update(&resources(denied)).unwrap();
    assert!(open(&real, "/dev/zero") && !open(&real, "/dev/kmsg"));
    let all = serde_json::json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    real.cgroup.update(&resources(all)).unwrap();
    assert!(open(&real, "/dev/kmsg"));
}

#[test]
fn a_program_decides_about_devices_in_the_unified_tree() {
    let Some(mut real) = Real::make(serde_json::json!({})) else { return };
    // As if only the unified tree were mounted: the v1 rules are not involved.
    real.cgroup.update(&resources(serde_json::json!({ "devices": [{ "allow": true }] }))).unwrap();
    let all = real.cgroup.clone();
    real.cgroup.dirs.retain(|dir| dir.version == Version::V2);
    if real.cgroup.dirs.is_empty() {
        real.cgroup = all;
        garth_needs::skip("cgroups", "a unified tree");
        return;
    }
    let open = |device: &str| real.shell(&format!(": < {device}")).status().unwrap().success();
    assert!(open("/dev/kmsg"));
    for _ in 0..2 {
        let denied = serde_json::json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        match real.cgroup.update(&resources(denied)) {
            Err(error) if error.errno().is_some_and(|errno| errno.0 == libc::EPERM) => {
                garth_needs::skip("bpf", &error.to_string());
                break;
            }
            result => result.unwrap(),
        }
        assert!(open("/dev/zero") && !open("/dev/kmsg"));
        let all = serde_json::json!({ "devices": [{ "allow": true, "access": "rwm" }] });
        real.cgroup.update(&resources(all)).unwrap();
        assert!(open("/dev/kmsg"));
    }
    real.cgroup = all;
}

fn oom_or(oom: &mut Oom) -> OomEvent {
    oom.news().unwrap()
}

#[test]
fn limits_of_the_unified_tree_are_in_force_and_can_be_changed() {
    let host = Hierarchy::read().unwrap();
    if !host.unified_only() || host.v2_top(&[Controller::Memory, Controller::Cpu]).is_err() {
        garth_needs::skip("v2", "the unified tree alone, with memory and cpu");
        return;
    }
    let Some(real) = Real::make(serde_json::json!({
        "memory": { "limit": 64 << 20, "reservation": 1 << 20 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 50 },
        "unified": { "memory.high": "33554432" },
    })) else {
        return;
    };
    let memory = |file: &str| real.read(Controller::Memory, file);
    assert_eq!(memory("memory.max"), (64 << 20).to_string());
    assert_eq!(memory("memory.low"), (1 << 20).to_string());
    assert_eq!(memory("memory.high"), (32 << 20).to_string());
    assert_eq!(memory("cpu.weight"), "59");
    assert_eq!(memory("cpu.max"), "50000 100000");
    assert_eq!(memory("pids.max"), "50");
    let update = |json| real.cgroup.update(&resources(json)).map_err(|error| error.to_string());
    update(serde_json::json!({ "cpu": { "period": 50_000 }, "memory": { "limit": -1 } })).unwrap();
    assert_eq!(memory("cpu.max"), "50000 50000");
    assert_eq!(memory("memory.max"), "max");
    // What it allocated before it joined is counted elsewhere.
    let _child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
    wait_for(|| memory("memory.current").parse::<u64>().unwrap() > 4096);
    let words = update(serde_json::json!({
        "memory": { "limit": 4096, "checkBeforeUpdate": true },
    }))
    .unwrap_err();
    assert!(words.starts_with("memory.limit 4096: not above current usage"), "{words}");
    let words = update(serde_json::json!({ "unified": { "no.such": "1" } })).unwrap_err();
    assert!(words.contains("no is not available here"), "{words}");
}

#[test]
fn a_container_that_has_moved_inside_is_joined_where_it_is() {
    use std::os::fd::AsRawFd;
    let Some(mut real) = Real::make(serde_json::json!({})) else { return };
    let all = real.cgroup.clone();
    real.cgroup.dirs.retain(|dir| dir.version == Version::V2);
    let own = real.dirs().pop().filter(|own| {
        fs::read_to_string(own.join("cgroup.controllers")).is_ok_and(|text| text.contains("pids"))
    });
    if let Some(own) = own {
        let child = real.child();
        let init = pid(&child.0);
        let way_in = |cgroup: &Cgroup| {
            let fd = cgroup.entrance(Some(init)).unwrap().unified.unwrap();
            fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
        };
        assert_eq!(way_in(&real.cgroup), own);
        fs::create_dir_all(own.join("a/b")).unwrap();
        fs::write(own.join("a/b/cgroup.procs"), init.to_string()).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();
        let beside = way_in(&real.cgroup);
        assert_eq!(beside, own.join("a/b"));
        // So the container's own cgroup accepts no process, but this one does.
        let other = Reaped(Command::new("sleep").arg("60").spawn().unwrap());
        let number = other.0.id().to_string();
        assert!(fs::write(own.join("cgroup.procs"), &number).is_err());
        fs::write(beside.join("cgroup.procs"), &number).unwrap();
        assert_eq!(real.cgroup.pids().unwrap().len(), 2);
    } else {
        garth_needs::skip("v2", "a unified tree that passes controllers on");
    }
    real.cgroup = all;
}

#[test]
fn the_unified_tree_is_given_to_the_containers_root() {
    use std::os::unix::fs::MetadataExt;
    let Some(mut real) = Real::make(serde_json::json!({})) else { return };
    let all = real.cgroup.clone();
    real.cgroup.delegate(65534).unwrap();
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    let unified_only = real.cgroup.unified_only();
    for dir in real.dirs() {
        assert_eq!(owner(&dir), if unified_only { 65534 } else { 0 });
    }
    real.cgroup.dirs.retain(|dir| dir.version == Version::V2);
    if let Some(own) = real.dirs().pop() {
        real.cgroup.delegate(65534).unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            assert_eq!(owner(&own.join(file)), 65534, "{file}");
        }
        assert_eq!(owner(&own.join("cgroup.freeze")), 0);
    }
    real.cgroup = all;
}

#[test]
fn a_scope_has_its_process_in_every_tree() {
    let Some(mock) = crate::cgroup::systemd::tests::Mock::start() else { return };
    let Some(mut real) = Real::make(serde_json::json!({})) else { return };
    // As if systemd had chosen it.
    real.cgroup.placement = Placement::Unit(mock.unit("system.slice:garth:web"));
    let child = Reaped(Command::new("sleep").arg("60").spawn().unwrap());
    let none = Resources::default();
    let words = make(&real.cgroup, &none, None).unwrap_err().to_string();
    assert_eq!(words, "create scope garth-web.scope: no process to put in it");
    drop(make(&real.cgroup, &none, Some(pid(&child.0))).unwrap());
    assert_eq!(real.cgroup.pids().unwrap(), [pid(&child.0)]);
    // Another owner's unit of the same name is neither taken nor stopped.
    let words = make(&real.cgroup, &none, Some(1)).unwrap_err().to_string();
    assert!(words.contains("UnitExists"), "{words}");
    drop(child);
    real.cgroup.remove().unwrap();
    let said = mock_said(mock);
    let stops = said.iter().filter(|line| line.starts_with("stop")).count();
    assert_eq!(stops, 1, "{said:?}");
}

fn mock_said(mut mock: crate::cgroup::systemd::tests::Mock) -> Vec<String> {
    mock.said()
}

/// As runc shows it: the caller's own cgroup in each v1 tree, or in the unified tree alone.
#[test]
fn a_container_without_a_cgroup_sees_those_of_its_caller() {
    let none = Cgroup { placement: Placement::Named, ..Cgroup::default() };
    let shown = |host: &Hierarchy| -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        none.inside(host).iter().map(|one| (one.name.clone(), text(&one.own))).collect()
    };
    let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
    assert_eq!(
        shown(&hybrid()),
        [
            pair("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/"),
            pair("memory", "/sys/fs/cgroup/memory/jobs/7"),
            pair("systemd", "/sys/fs/cgroup/systemd/s"),
        ]
    );
    assert_eq!(shown(&unified("/a/b")), [pair("", "/sys/fs/cgroup/a/b")]);
    // What the caller cannot see of its own cgroup, it cannot show.
    let elsewhere = "31 23 0:28 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    assert_eq!(shown(&Hierarchy::parse(elsewhere, "0::/other\n", false)), []);
}
