//! Choosing is tested on trees of plain files, everything else on this kernel, in directories that
//! are named after the test and removed at its end.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::record::Cgroup;
use super::*;
use crate::config::units::Size;
use crate::config::{LimitSource, Limits};

/// A name that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that is removed when the test ends, even if it fails.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let dir = std::env::temp_dir().join(unique("garth-test"));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    /// Creates files; a name that ends in `/` is a directory.
    pub(crate) fn with(self, files: &[(&str, &str)]) -> Scratch {
        for (name, text) in files {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::write(&path, text).unwrap();
            }
        }
        self
    }

    pub(crate) fn point(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The directories of this name in all trees.
fn find(host: &Hierarchy, id: &str) -> Cgroup {
    let all = leftovers(host, |other| Ok(other != id)).unwrap();
    all.into_iter().next().unwrap_or_default()
}

fn make(cgroup: &Cgroup, limits: &Limits) -> crate::Result<Claim> {
    cgroup.make(LimitSource::Flags(limits), None)
}

/// A cgroup on this machine, released when the test ends.
struct Real {
    host: Hierarchy,
    cgroup: Cgroup,
    claim: Option<Claim>,
}

impl Real {
    /// `None`, with the reason printed, if this machine does not support it.
    fn make(limits: &Limits, freezer: bool) -> Option<Real> {
        let mut host = Hierarchy::read().unwrap();
        host.parent = unique("garth-test");
        match choose(&host, "box", limits, freezer) {
            Ok(cgroup) if cgroup.is_empty() => {
                garth_needs::skip("v1", "a controller that this user may use");
                None
            }
            Ok(cgroup) => {
                let claim = make(&cgroup, limits).unwrap();
                Some(Real { host, cgroup, claim: Some(claim) })
            }
            Err(error) => {
                garth_needs::skip("v1", &error.to_string());
                None
            }
        }
    }

    /// A shell that joins the cgroup, then runs `script`.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let join: String = self
            .cgroup
            .join_paths()
            .iter()
            .map(|file| format!("echo 0 > {} && ", file.display()))
            .collect();
        command.args(["-c", &format!("{join}{{ {script}\n}}")]).stderr(Stdio::null());
        command
    }

    fn gone(&self) -> bool {
        find(&self.host, "box").is_empty()
            && places_left(&self.host).iter().all(|shared| !shared.exists())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.cgroup.release();
    }
}

fn places_left(host: &Hierarchy) -> Vec<PathBuf> {
    host.mounts.iter().map(|mount| Path::new(&mount.point).join(&host.parent)).collect()
}

/// Whether it has joined every tree and executed sleep(1).
fn is_sleeping(child: &Reaped) -> bool {
    let path = format!("/proc/{}/comm", child.0.id());
    fs::read_to_string(path).is_ok_and(|name| name == "sleep\n")
}

/// Kills the child when the test ends.
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HYBRID: &str = "\
23 1 0:20 / /sys rw - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
40 1 0:30 /docker/x /var/part\\040of/memory rw - cgroup cgroup rw,memory
a line that is not one
";

fn unified(point: &str, own: &str, privileged: bool) -> Hierarchy {
    let mounts = format!("31 23 0:28 / {point} rw - cgroup2 cgroup2 rw");
    Hierarchy::parse(&mounts, &format!("4:memory:/x\n0::{own}\n"), privileged)
}

fn all_limits() -> Limits {
    Limits {
        memory: Some(Size(256 << 20)),
        swap: Some(Size(384 << 20)),
        cpus: Some(1.5),
        cpuset: Some("0-1".into()),
        pids: Some(100),
        io: Vec::new(),
    }
}

fn refused(host: &Hierarchy, limits: &Limits) -> String {
    choose(host, "web", limits, false).unwrap_err().to_string()
}

#[test]
fn controllers_are_found_in_mountinfo() {
    let host = Hierarchy::parse(HYBRID, "4:memory:/a\n0::/b\n", true);
    assert_eq!(host.v1(Controller::Cpu).unwrap().point, "/sys/fs/cgroup/cpu,cpuacct");
    assert_eq!(host.v1(Controller::Memory).unwrap().point, "/sys/fs/cgroup/memory");
    assert!(host.v1(Controller::Pids).unwrap().read_only);
    assert!(host.v1(Controller::Freezer).is_none());
    assert_eq!(host.v2().unwrap().point, "/sys/fs/cgroup/unified");
    assert_eq!(host.v2().unwrap().own.as_deref(), Some("/b"));
    assert_eq!(host.v1(Controller::Memory).unwrap().own.as_deref(), Some("/a"));
    let part = host.mounts.iter().find(|mount| mount.root != "/").unwrap();
    assert_eq!(part.point, "/var/part of/memory");
}

#[test]
fn a_tree_that_is_mounted_over_does_not_count() {
    let over = |line: &str| Hierarchy::parse(format!("{HYBRID}{line}\n"), "", true);
    // On the tree itself, on its parent, and on a sibling.
    assert!(
        over("50 33 0:50 / /sys/fs/cgroup/memory rw - tmpfs tmpfs rw")
            .v1(Controller::Memory)
            .is_none_or(|mount| mount.root != "/")
    );
    let all = over("50 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw");
    assert!(all.v1(Controller::Cpu).is_none() && all.v2().is_none());
    // One that is not on its path.
    let beside = over("50 31 0:50 / /sys/fs/cgroup/mem rw - tmpfs tmpfs rw");
    assert_eq!(beside.v1(Controller::Memory).unwrap().root, "/");
}

#[test]
fn a_directory_with_the_name_of_a_controller_is_none() {
    let tree = Scratch::new().with(&[
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("pids/", ""),
        ("unified/cgroup.controllers", ""),
        ("unified/cgroup.procs", ""),
        ("unified/cgroup.subtree_control", ""),
    ]);
    let host = unified(&format!("{}/unified", tree.point()), "/", true);
    let limits = Limits { memory: Some(Size(256 << 20)), ..Default::default() };
    let words = refused(&host, &limits);
    assert!(
        words.starts_with("--memory 256m: no memory controller in this cgroup hierarchy; "),
        "{words}"
    );
    let none = Hierarchy::parse("", "", true);
    assert!(refused(&none, &limits).contains("no cgroup hierarchy is mounted"));
    assert!(choose(&host, "web", &Limits::default(), false).unwrap().is_empty());
}

#[test]
fn v1_files_get_the_limits_and_controllers_of_one_tree_share_a_directory() {
    let tree = Scratch::new().with(&[
        ("both/cpuset.cpus", "0-3\n"),
        ("both/memory.memsw.limit_in_bytes", "1"),
        ("pids/pids.max", "max"),
    ]);
    let t = tree.point();
    let mounts = format!(
        "1 0 0:1 / {t}/both rw - cgroup c rw,cpu,cpuset,memory\n\
         2 0 0:2 / {t}/pids rw - cgroup c rw,pids\n"
    );
    let host = Hierarchy::parse(&mounts, "", true);
    let cgroup = choose(&host, "web", &all_limits(), false).unwrap();
    let lines =
        cgroup.describe_making(LimitSource::Flags(&all_limits())).join("\n").replace(t, "T");
    assert_eq!(
        lines,
        "create T/both/garth/web
copy cpuset.cpus and cpuset.mems from T/both/garth
create T/pids/garth/web
write \"268435456\" to T/both/garth/web/memory.limit_in_bytes
write \"402653184\" to T/both/garth/web/memory.memsw.limit_in_bytes
write \"100000\" to T/both/garth/web/cpu.cfs_period_us
write \"150000\" to T/both/garth/web/cpu.cfs_quota_us
write \"0-1\" to T/both/garth/web/cpuset.cpus
write \"100\" to T/pids/garth/web/pids.max"
    );
    fs::remove_file(tree.0.join("both/memory.memsw.limit_in_bytes")).unwrap();
    let words = refused(&host, &all_limits());
    assert!(words.contains("--memory-swap 384m: this kernel has no swap accounting"), "{words}");
    let far = Limits { cpuset: Some("0,5-6".into()), ..Default::default() };
    assert_eq!(
        refused(&host, &far),
        "--cpuset-cpus 0,5-6: no CPU 5 here; the available CPUs are 0-3"
    );
}

#[test]
fn v2_files_get_the_limits_with_swap_counted_by_itself() {
    let tree = Scratch::new().with(&[
        ("cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("cgroup.subtree_control", "memory\n"),
        ("cgroup.procs", "1\n"),
        ("cpuset.cpus.effective", "0-3\n"),
    ]);
    // The root of the tree may have processes.
    let host = unified(tree.point(), "/", true);
    let cgroup = choose(&host, "web", &all_limits(), true).unwrap();
    let lines = cgroup
        .describe_making(LimitSource::Flags(&all_limits()))
        .join("\n")
        .replace(tree.point(), "T");
    assert_eq!(
        lines,
        "create T/garth/web
write \"+memory +cpu +cpuset +pids\" to T/cgroup.subtree_control
write \"+memory +cpu +cpuset +pids\" to T/garth/cgroup.subtree_control
write \"134217728\" to T/garth/web/memory.swap.max
write \"268435456\" to T/garth/web/memory.max
write \"150000 100000\" to T/garth/web/cpu.max
write \"0-1\" to T/garth/web/cpuset.cpus
write \"100\" to T/garth/web/pids.max"
    );
}

#[test]
fn others_than_root_start_at_the_closest_fit_above_their_own_cgroup() {
    let node = |name: &str, controllers: &'static str, procs: &'static str| {
        [
            (format!("{name}/cgroup.type"), "domain\n"),
            (format!("{name}/cgroup.controllers"), controllers),
            (format!("{name}/cgroup.subtree_control"), ""),
            (format!("{name}/cgroup.procs"), procs),
        ]
    };
    let mut files = Vec::new();
    files.extend(node("user", "memory pids\n", ""));
    files.extend(node("user/app", "memory pids\n", ""));
    files.extend(node("user/app/shell", "memory pids\n", "100\n"));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let tree = Scratch::new().with(&files);
    let host = unified(tree.point(), "/user/app/shell", false);
    let limits = Limits { pids: Some(9), ..Default::default() };
    let cgroup = choose(&host, "web", &limits, false).unwrap();
    assert_eq!(
        cgroup.directory(Controller::Pids).unwrap().1,
        tree.0.join("user/app/garth/web"),
        "the shell's own cgroup has a process, the one above has none"
    );
    fs::write(tree.0.join("user/app/cgroup.procs"), "99\n").unwrap();
    fs::write(tree.0.join("user/cgroup.procs"), "98\n").unwrap();
    assert!(refused(&host, &limits).contains("contains processes"), "{limits:?}");
    let cpus = Limits { cpus: Some(1.0), ..Default::default() };
    let words = refused(&host, &cpus);
    assert!(
        words.starts_with("--cpus 1: the cpu controller is not delegated to this user"),
        "{words}"
    );
}

#[test]
fn where_systemd_manages_the_tree_a_sandbox_is_in_a_scope_or_in_what_was_delegated() {
    let tree = Scratch::new().with(&[
        ("cgroup.controllers", "cpuset cpu memory pids\n"),
        ("a.slice/a-b.slice/web.service/cgroup.controllers", "memory pids\n"),
        ("a.slice/a-b.slice/web.service/cgroup.subtree_control", ""),
        ("a.slice/a-b.slice/web.service/cgroup.type", "domain\n"),
        ("a.slice/a-b.slice/web.service/cgroup.procs", "100\n"),
        ("a.slice/a-b.slice/web.service/inner/", ""),
    ]);
    let limits = Limits { pids: Some(9), ..Default::default() };
    let lines = |own: &str| {
        let host = Hierarchy { systemd: true, ..unified(tree.point(), own, true) };
        let cgroup = choose(&host, "web", &limits, false).unwrap();
        let number = std::process::id().to_string();
        cgroup
            .describe_making(LimitSource::Flags(&limits))
            .join("\n")
            .replace(tree.point(), "T")
            .replace(&number, "N")
    };
    let unit = "/a.slice/a-b.slice/web.service";
    let scope = lines(unit);
    assert!(scope.starts_with("ask systemd for garth-web-N.scope in a-b.slice\n"), "{scope}");
    let own = "T/a.slice/a-b.slice/garth-web-N.scope/garth/web";
    assert!(scope.contains(&format!("write \"9\" to {own}/pids.max")), "{scope}");
    // From the root of the tree, from a cgroup that is not a unit's, from a user's systemd.
    for (own, slice) in [
        ("/", "system.slice"),
        ("/stray", "system.slice"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/x.scope", "user-7.slice"),
    ] {
        let lines = lines(own);
        assert!(
            lines.starts_with(&format!("ask systemd for garth-web-N.scope in {slice}\n")),
            "{lines}"
        );
    }
    // As systemd marks what it has delegated.
    let mark = "import os, sys; os.setxattr(sys.argv[1], 'user.delegate', b'1')";
    let dir = format!("{}{unit}", tree.point());
    let marked = Command::new("python3").args(["-c", mark, &dir]).status();
    if !marked.is_ok_and(|status| status.success()) {
        return garth_needs::skip(
            "xattr",
            "python3, and a directory for temporary files that has user.*",
        );
    }
    for own in [unit.to_owned(), format!("{unit}/garth.launcher")] {
        let lines = lines(&own);
        assert!(lines.starts_with(&format!("create T{unit}/garth/web\n")), "{lines}");
    }
    let lacking = Limits { cpus: Some(1.0), ..Default::default() };
    let host = Hierarchy { systemd: true, ..unified(tree.point(), unit, true) };
    assert_eq!(
        refused(&host, &lacking).replace(tree.point(), "T"),
        format!(
            "--cpus 1: the cpu controller is not delegated: it is not in T{unit}; Delegate= of \
             web.service lacks cpu: use Delegate=yes"
        )
    );
}

#[test]
fn a_record_cannot_name_a_directory_outside() {
    let limits = Limits::default();
    let host = Hierarchy::parse(HYBRID, "", true);
    for id in ["", ".", "..", "a/b", "../x", "a\nb"] {
        assert!(choose(&host, id, &limits, false).is_err(), "{id:?}");
        let dirs = [serde_json::json!({ "version": "v1", "top": "/nowhere", "controllers": [] })];
        let record = serde_json::json!({
            "id": id, "parent": "garth", "dirs": dirs, "placement": "shared",
        });
        let cgroup: Cgroup = serde_json::from_value(record).unwrap();
        assert!(cgroup.release().is_err() && make(&cgroup, &limits).is_err());
    }
}

#[test]
fn release_never_removes_a_file() {
    let tree = Scratch::new().with(&[("garth/web/keep/file", "x"), ("garth/web/cgroup.procs", "")]);
    let top = tree.point();
    let record = serde_json::json!({
        "id": "web", "parent": "garth",
        "dirs": [{ "version": "v1", "top": top, "controllers": ["memory"] }],
        "placement": "shared",
    });
    let cgroup: Cgroup = serde_json::from_value(record).unwrap();
    assert!(cgroup.release().unwrap_err().to_string().contains("ENOTEMPTY"));
    assert!(tree.0.join("garth/web/keep/file").exists());
}

#[test]
fn limits_are_in_force_after_create_and_nothing_is_left_after_release() {
    let mut limits = all_limits_here();
    limits.swap = limits.memory;
    let Some(real) = Real::make(&limits, true) else { return };
    for (dir, _, settings) in real.cgroup.settings(LimitSource::Flags(&limits)).unwrap() {
        for item in settings {
            let text = fs::read_to_string(dir.join(&item.file)).unwrap();
            assert_eq!(text.trim(), item.value, "{}", item.file);
        }
    }
    let mut child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
    wait_for(|| is_sleeping(&child));
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    let text = serde_json::to_string(&real.cgroup).unwrap();
    let record: Cgroup = serde_json::from_str(&text).unwrap();
    record.release().unwrap();
    assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(real.gone());
    record.release().unwrap();
}

#[test]
fn a_join_file_moves_a_process() {
    let Some(real) = Real::make(&all_limits_here(), false) else { return };
    let child = Reaped(Command::new("sleep").arg("60").spawn().unwrap());
    for file in real.cgroup.join_paths() {
        assert!(file.ends_with("cgroup.procs"));
        fs::write(file, child.0.id().to_string()).unwrap();
    }
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
}

#[test]
fn a_process_above_its_memory_is_killed() {
    let memory = Some(Size(16 << 20));
    let limits = Limits { memory, swap: memory, ..Default::default() };
    let Some(real) = Real::make(&limits, false) else { return };
    // One process alone: another that runs while the first is being killed may be killed as well.
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; exit $?";
    assert_eq!(real.shell(script).status().unwrap().code(), Some(128 + libc::SIGKILL));
    let (version, dir) = real.cgroup.directory(Controller::Memory).unwrap();
    let events = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let events = fs::read_to_string(dir.join(events)).unwrap();
    assert!(events.contains("oom_kill 1\n"), "{events}");
}

#[test]
fn a_busy_process_is_held_to_its_share() {
    // A millisecond in every hundred: it has that on the busiest machine.
    let limits = Limits { cpus: Some(0.01), ..Default::default() };
    let Some(real) = Real::make(&limits, false) else { return };
    let _child = Reaped(real.shell("while :; do :; done").spawn().unwrap());
    let (_, dir) = real.cgroup.directory(Controller::Cpu).unwrap();
    wait_for(|| {
        let stat = fs::read_to_string(dir.join("cpu.stat")).unwrap();
        stat.lines().any(|line| line.starts_with("nr_throttled ") && line != "nr_throttled 0")
    });
}

#[test]
fn processes_are_bounded() {
    let limits = Limits { pids: Some(24), ..Default::default() };
    let Some(real) = Real::make(&limits, false) else { return };
    let forks = real.shell("while :; do sleep 60 & done").status().unwrap();
    assert!(!forks.success(), "a fork must fail");
    // The shell was the 24th.
    assert_eq!(real.cgroup.pids().unwrap().len(), 23);
    real.cgroup.release().unwrap();
    assert!(real.gone());
}

#[test]
fn release_ends_a_fork_bomb() {
    let limits = Limits { pids: Some(50), ..Default::default() };
    let Some(real) = Real::make(&limits, false) else { return };
    // A shell exits when it cannot fork, so each of these has one that forks for it, and another to
    // retry.
    let bomb =
        "b() { while :; do sh -c 'sleep 0.01 & sleep 0.01 & sleep 0.01'; done & }; b; b; b; b";
    let _ = real.shell(bomb).spawn().unwrap().wait();
    real.cgroup.release().unwrap();
    assert!(real.gone());
}

#[test]
fn a_frozen_process_stands_still_until_thawed_and_can_be_released() {
    for version in [Version::V1, Version::V2] {
        let mut host = Hierarchy::read().unwrap();
        host.parent = unique("garth-test");
        host.mounts.retain(|mount| mount.version == version);
        let limits = Limits::default();
        let cgroup = match choose(&host, "box", &limits, true) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                garth_needs::skip("freezer", &error.to_string());
                continue;
            }
        };
        let claim = Some(make(&cgroup, &limits).unwrap());
        let real = Real { host, cgroup, claim };
        let child = Reaped(real.shell("while :; do :; done").spawn().unwrap());
        let used = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.0.id())).unwrap();
            stat.split(' ').nth(13).unwrap().parse::<u64>().unwrap()
        };
        wait_for(|| used() > 2);
        real.cgroup.freeze().unwrap();
        let before = used();
        sleep(Duration::from_millis(100));
        assert_eq!(used(), before);
        real.cgroup.thaw().unwrap();
        wait_for(|| used() > before);
        real.cgroup.freeze().unwrap();
        real.cgroup.release().unwrap();
        assert!(real.gone());
    }
}

#[test]
fn cgroups_made_inside_go_too() {
    let Some(real) = Real::make(&all_limits_here(), false) else { return };
    for file in real.cgroup.join_paths() {
        let dir = file.parent().unwrap().join("inner/most");
        fs::create_dir_all(dir).unwrap();
    }
    real.cgroup.release().unwrap();
    assert!(real.gone());
}

#[test]
fn the_cgroup_of_another_is_neither_taken_nor_removed() {
    let limits = all_limits_here();
    let Some(mut real) = Real::make(&limits, false) else { return };
    let words = |real: &Real| make(&real.cgroup, &limits).unwrap_err().to_string();
    assert!(words(&real).contains("is being claimed by another sandbox"));
    assert!(!real.cgroup.leave().unwrap());
    assert_eq!(find(&real.host, "box").dirs.len(), real.cgroup.dirs.len());
    // Nor is one that is not held but has a process in it.
    drop(real.claim.take());
    let child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
    wait_for(|| is_sleeping(&child));
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    assert!(words(&real).contains("sandbox's cgroup is not empty: 1 process(es) found"));
    assert!(!real.cgroup.leave().unwrap());
    assert_eq!(find(&real.host, "box").dirs.len(), real.cgroup.dirs.len());
    drop(child);
    // One that is neither is recreated.
    let own = real.cgroup.path(&real.cgroup.dirs[0]);
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&own).unwrap());
    let before = inode();
    real.claim = Some(make(&real.cgroup, &limits).unwrap());
    assert_ne!(inode(), before);
}

#[test]
fn what_is_marked_and_nothing_else_is_released() {
    let limits = all_limits_here();
    let Some(mut real) = Real::make(&limits, false) else { return };
    let scratch = Scratch::new();
    let mark = scratch.0.join(MARK);
    let mut child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
    let mut spare = Reaped(Command::new("true").spawn().unwrap());
    wait_for(|| is_sleeping(&child));
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    // Never claimed: what is there belongs to another.
    real.cgroup.give_up(&mark, true).unwrap();
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    let claim = real.claim.take().unwrap();
    real.cgroup.mark(&claim, &mark).unwrap();
    drop(claim);
    assert_eq!(real.cgroup.owned(&mark).unwrap(), real.cgroup);
    assert_eq!(Cgroup::marked(&mark).unwrap().unwrap().dirs, real.cgroup.dirs);
    // Claimed, but no process may be killed.
    assert!(real.cgroup.give_up(&mark, false).unwrap_err().to_string().contains("EBUSY"));
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    // It has ended, and another has created a cgroup of this name.
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    real.claim = Some(make(&real.cgroup, &limits).unwrap());
    std::mem::swap(&mut child, &mut spare);
    child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
    wait_for(|| is_sleeping(&child));
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    assert!(real.cgroup.owned(&mark).unwrap().is_empty());
    real.cgroup.give_up(&mark, true).unwrap();
    assert_eq!(real.cgroup.pids().unwrap(), [child.0.id() as i32]);
    // A mark from another boot is void.
    fs::remove_file(&mark).unwrap();
    real.cgroup.mark(real.claim.as_ref().unwrap(), &mark).unwrap();
    let text = fs::read_link(&mark).unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&mark).unwrap();
    let boot = crate::journal::boot_id().unwrap();
    std::os::unix::fs::symlink(text.replace(boot, "another"), &mark).unwrap();
    assert!(real.cgroup.owned(&mark).unwrap().is_empty());
    fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink(text, &mark).unwrap();
    real.cgroup.give_up(&mark, true).unwrap();
    assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    drop(real.claim.take());
    assert!(real.gone());
    real.cgroup.give_up(&mark, true).unwrap();
}

#[test]
fn what_was_made_is_removed_when_a_write_fails() {
    let limits = all_limits_here();
    let Some(real) = Real::make(&limits, false) else { return };
    let other = Cgroup { id: "other".into(), ..real.cgroup.clone() };
    // More than any kernel accepts, past the check that would have refused it.
    let absurd = Limits { pids: Some(u64::MAX), ..limits };
    let words = make(&other, &absurd).unwrap_err().to_string();
    let flag = "--pids-limit 18446744073709551615: write \"9223372036854775807\" to ";
    assert!(words.starts_with(flag), "{words}");
    assert!(words.contains("other/pids.max: E"), "{words}");
    assert!(find(&real.host, "other").is_empty());
}

#[test]
fn leftovers_are_the_directories_without_a_living_sandbox() {
    let limits = all_limits_here();
    let Some(real) = Real::make(&limits, false) else { return };
    let other = Cgroup { id: "other".into(), ..real.cgroup.clone() };
    let claim = make(&other, &limits).unwrap();
    let dead = || leftovers(&real.host, |id| Ok(id == "box")).unwrap();
    assert_eq!(dead().iter().map(Cgroup::id).collect::<Vec<_>>(), ["other"]);
    // One that is about to be joined is held.
    assert!(!dead()[0].leave().unwrap());
    drop(claim);
    assert!(dead()[0].leave().unwrap());
    assert!(dead().is_empty());
    assert!(!find(&real.host, "box").is_empty());
}

#[test]
fn sandboxes_that_start_and_end_at_once_do_not_trip_over_the_shared_directory() {
    let limits = all_limits_here();
    let Some(real) = Real::make(&limits, false) else { return };
    real.cgroup.release().unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let cgroup = Cgroup { id: name.into(), ..real.cgroup.clone() };
            let limits = &limits;
            scope.spawn(move || {
                for _ in 0..100 {
                    let claim = make(&cgroup, limits).unwrap();
                    cgroup.release().unwrap();
                    drop(claim);
                }
            });
        }
    });
    assert!(real.gone());
}

#[test]
fn an_ordinary_user_is_told_how_to_get_limits() {
    if std::env::var_os("GARTH_TEST_INSIDE").is_some() {
        let host = Hierarchy::read().unwrap();
        let limits = Limits { memory: Some(Size(256 << 20)), ..Default::default() };
        match choose(&host, "box", &limits, false) {
            Err(error) => println!("{error}"),
            Ok(_) => println!("--memory 256m: delegated; run as root"),
        }
        return;
    }
    let Some(mut command) = again("an_ordinary_user_is_told_how_to_get_limits") else { return };
    let text = output(command.uid(65534).gid(65534));
    assert!(text.contains("--memory 256m: ") && text.contains("run as root"), "{text}");
}

#[test]
fn a_unified_tree_without_controllers_freezes_but_does_not_limit() {
    if std::env::var_os("GARTH_TEST_INSIDE").is_some() {
        let limits = Limits { memory: Some(Size(256 << 20)), ..Default::default() };
        println!("{}", refused(&Hierarchy::read().unwrap(), &limits));
        let real = Real::make(&Limits::default(), true).unwrap();
        let child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
        wait_for(|| real.cgroup.pids().unwrap() == [child.0.id() as i32]);
        real.cgroup.freeze().unwrap();
        real.cgroup.release().unwrap();
        assert!(real.gone());
        println!("released");
        return;
    }
    let name = "a_unified_tree_without_controllers_freezes_but_does_not_limit";
    let Some(inner) = again(name) else { return };
    if Hierarchy::read().unwrap().v2_top(&[Controller::Memory]).is_ok() {
        garth_needs::skip("bare-v2", "a unified tree without controllers");
        return;
    }
    let script = "umount -Rl /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "_"])
        .arg(std::env::current_exe().unwrap())
        .args(inner.get_args());
    let text = output(command.env("GARTH_TEST_INSIDE", "1"));
    assert!(text.contains("no memory controller in this cgroup hierarchy"), "{text}");
    assert!(text.contains("released"), "{text}");
}

#[test]
fn a_user_with_a_delegated_tree_has_limits_without_root() {
    if std::env::var_os("GARTH_TEST_INSIDE").is_some() {
        let limits = Limits { pids: Some(9), ..Default::default() };
        let real = Real::make(&limits, true).unwrap();
        let mut child = Reaped(real.shell("exec sleep 60").spawn().unwrap());
        wait_for(|| real.cgroup.pids().unwrap() == [child.0.id() as i32]);
        println!("uid {}", crate::sys::process::effective_ids().0);
        println!("limited in {}", real.cgroup.directory(Controller::Pids).unwrap().1.display());
        assert_eq!(leftovers(&real.host, |_| Ok(false)).unwrap(), [find(&real.host, "box")]);
        real.cgroup.release().unwrap();
        assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(find(&real.host, "box").is_empty());
        println!("released");
        return;
    }
    let Some(inner) = again("a_user_with_a_delegated_tree_has_limits_without_root") else { return };
    let host = Hierarchy::read().unwrap();
    if host.v2_top(&[Controller::Pids]).is_err() {
        garth_needs::skip("v2", "the pids controller of the unified tree");
        return;
    }
    // Same as systemd for Delegate=yes: a directory and three of its files change owner, and the
    // user's process is in a leaf.
    let top = Path::new(&host.v2().unwrap().point).join(unique("garth-test"));
    let leaf = top.join("leaf");
    subtree::pass_on(top.parent().unwrap(), &[Controller::Pids]).unwrap();
    fs::create_dir_all(&leaf).unwrap();
    for dir in [&top, &leaf] {
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            std::os::unix::fs::chown(dir.join(name), Some(65534), Some(65534)).unwrap();
        }
    }
    let join = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", leaf.display());
    let mut command = Command::new("sh");
    command.args(["-c", &join, "_", "setpriv", "--reuid=65534", "--regid=65534"]);
    command.arg("--clear-groups").arg(std::env::current_exe().unwrap()).args(inner.get_args());
    let text = output(command.env("GARTH_TEST_INSIDE", "1"));
    fs::remove_dir(&leaf).unwrap();
    fs::remove_dir(&top).unwrap();
    assert!(text.contains("uid 65534") && text.contains("released"), "{text}");
    assert!(text.contains(&format!("limited in {}/garth-test-", top.display())), "{text}");
}

/// The limits that this machine has controllers for.
fn all_limits_here() -> Limits {
    let host = Hierarchy::read().unwrap();
    let all = Limits { cpuset: Some("0".into()), swap: None, ..all_limits() };
    let mut here = Limits::default();
    for one in [
        Limits { memory: all.memory, ..Default::default() },
        Limits { cpus: all.cpus, ..Default::default() },
        Limits { cpuset: all.cpuset, ..Default::default() },
        Limits { pids: all.pids, ..Default::default() },
    ] {
        if choose(&host, "box", &one, false).is_ok() {
            here.memory = here.memory.or(one.memory);
            here.cpus = here.cpus.or(one.cpus);
            here.cpuset = here.cpuset.or(one.cpuset);
            here.pids = here.pids.or(one.pids);
        }
    }
    here
}

/// Re-executes this test program for one test, with GARTH_TEST_INSIDE set. Needs root.
fn again(test: &str) -> Option<Command> {
    if crate::sys::process::effective_ids().0 != 0 {
        garth_needs::skip("root", "root");
        return None;
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", &format!("cgroup::tests::{test}"), "--nocapture"]);
    command.env("GARTH_TEST_INSIDE", "1");
    Some(command)
}

fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(status.success(), "{text}");
    text
}

pub(crate) fn wait_for(mut what: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("waited for ten seconds");
}
