//! Plans as data: golden texts, and the rules of order over every combination of settings.
//!
//! `UPDATE=1 cargo test --test plans` rewrites the golden texts; read the diff.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

use garth::config::oci::{Config, IdMapping};
use garth::config::{CapabilitySet, Mount, Namespace, Network, Publish, Root, Sandbox, Secret};
use garth::plan::CgroupMount;
use garth::plan::container::{self, Kernel, Surroundings};
use garth::plan::seccomp::Filter;
use garth::plan::{Facts, HostMount, IdMaps, Plan, Step, User, compile};

fn given(uid: u32, privileged: bool) -> Facts {
    Facts {
        user: User { uid, gid: uid, groups: vec![uid] },
        privileged,
        confined: false,
        caller: if privileged { (0, 0) } else { (1000, 1000) },
        user_ids: Some(IdMaps {
            uids: vec![IdMapping { container_id: 0, host_id: 100_000, size: 65536 }],
            gids: vec![IdMapping { container_id: 0, host_id: 200_000, size: 65536 }],
        }),
        mounts: vec![
            HostMount { target: "/".into(), kind: "ext4".into() },
            HostMount { target: "/proc".into(), kind: "proc".into() },
            HostMount { target: "/home".into(), kind: "xfs".into() },
            HostMount { target: "/run/user/1000".into(), kind: "tmpfs".into() },
            HostMount { target: "/var/lib/docker/overlay2/x".into(), kind: "overlay".into() },
        ],
        landlock: 6,
        held_capabilities: (1 << 41) - 1,
        last_capability: 40,
        cgroup_files: Vec::new(),
        cgroups: Vec::new(),
        hosts: b"127.0.0.1 localhost\n".to_vec(),
        addresses: Vec::new(),
        volumes: Vec::new(),
        seccomp: Some(Filter::default_profile()),
        init_seccomp: Filter::init(),
        secrets: Vec::new(),
        recorded: false,
    }
}

fn sandbox() -> Sandbox {
    Sandbox {
        command: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin".into())],
        ..Sandbox::default()
    }
}

fn golden(name: &str, plan: &Plan) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = plan.to_string();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE=1 writes it anew");
}

#[test]
fn root_in_a_user_namespace_has_ids_of_its_own_and_is_one_of_them() {
    let mut sandbox = sandbox();
    sandbox.namespaces.user = Namespace::New;
    let plan = compile(&sandbox, &given(33, true)).unwrap();
    let maps = plan.id_maps.as_ref().unwrap();
    assert_eq!((maps.uids[0].host_id, maps.gids[0].host_id), (100_000, 200_000));
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(|one| wanted(&one.step));
    let root = at(|step| matches!(step, Step::Ids { uid: 0, gid: 0, .. })).unwrap();
    assert!(at(|step| matches!(step, Step::AwaitGo)).unwrap() < root);
    assert!(root < at(|step| matches!(step, Step::Mount(_))).unwrap());
    // An id outside the range, and no range at all.
    assert!(
        compile(&sandbox, &given(70_000, true))
            .unwrap_err()
            .to_string()
            .contains("id 70000 is not mapped")
    );
    assert!(compile(&sandbox, &Facts { user_ids: None, ..given(0, true) }).is_err());
}

#[test]
fn the_default_profile_for_a_daemon_with_a_port() {
    let mut sandbox = sandbox();
    sandbox.network = Network::Private;
    sandbox.publish = Publish::parse("8080:80").unwrap();
    sandbox.mounts.push(Mount::writable("/var/log/nginx").unwrap());
    let mut given = given(33, true);
    given.recorded = true;
    given.cgroup_files = vec!["/sys/fs/cgroup/memory/garth/web/cgroup.procs".into()];
    let own = "/sys/fs/cgroup/memory/garth/web".into();
    given.cgroups = vec![CgroupMount { name: "memory".into(), own, ..CgroupMount::default() }];
    sandbox.mounts.push(Secret::mount());
    given.secrets = vec![("tls".into(), b"hunter2".to_vec())];
    golden("daemon.txt", &compile(&sandbox, &given).unwrap());
}

#[test]
fn a_mount_of_the_host_that_is_hidden_is_not_held() {
    let home = |masked: &[&str], asked: Option<&str>| {
        let mut sandbox = sandbox();
        sandbox.masked.extend(masked.iter().map(PathBuf::from));
        sandbox.mounts.extend(asked.map(|path| Mount::writable(path).unwrap()));
        let plan = compile(&sandbox, &given(0, true)).unwrap();
        plan.to_string().lines().filter(|line| line.contains("bind /home on /home")).count()
    };
    assert_eq!(home(&[], None), 1);
    assert_eq!(home(&["/home/me"], None), 1);
    assert_eq!(home(&["/home"], None), 0);
    // What is asked for is not masked.
    assert_eq!(home(&["/home"], Some("/home/me")), 1);
}

#[test]
fn a_command_without_root() {
    golden("rootless.txt", &compile(&sandbox(), &given(1000, false)).unwrap());
}

#[test]
fn a_root_of_its_own() {
    let root = Root::Dir { path: "/srv/root".into(), read_only: false };
    let sandbox = Sandbox { root, init: false, ..sandbox() };
    golden("rootfs.txt", &compile(&sandbox, &given(0, true)).unwrap());
}

#[test]
fn compat_changes_only_tmp() {
    let sandbox = Sandbox { command: sandbox().command, ..Sandbox::compat() };
    let plan = compile(&sandbox, &Facts { seccomp: None, ..given(33, true) }).unwrap();
    golden("compat.txt", &plan);
}

/// Every combination of the settings that change the list of steps.
fn all_plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for wish in 0..1u32 << 10 {
        let on = |bit: u32| wish >> bit & 1 == 1;
        let mut sandbox = if on(0) { Sandbox::compat() } else { Sandbox::default() };
        sandbox.command = vec!["true".into()];
        let privileged = on(1);
        let mut given = given(if on(2) { 0 } else { 33 }, privileged);
        if on(3) {
            sandbox.network = Network::Private;
            given.recorded = true;
        }
        if on(4) {
            sandbox.cap_add = CapabilitySet::parse("net_admin").unwrap();
        }
        if on(5) {
            sandbox.namespaces.user = Namespace::New;
            sandbox.namespaces.time = Namespace::New;
        }
        if on(6) {
            given.cgroup_files = vec!["/sys/fs/cgroup/x/cgroup.procs".into()];
        }
        sandbox.init = on(7);
        sandbox.die_with_parent = on(8);
        sandbox.terminal = on(9);
        plans.push((format!("{wish:#b}"), compile(&sandbox, &given).unwrap()));
    }
    plans
}

/// The positions of the steps that `is` accepts.
fn places(plan: &Plan, is: impl Fn(&Step) -> bool) -> Vec<usize> {
    let numbered = plan.steps.iter().enumerate();
    numbered.filter(|(_, planned)| is(&planned.step)).map(|(at, _)| at).collect()
}

/// Every step that `first` accepts comes before every one that `then` accepts.
fn assert_order(
    name: &str,
    plan: &Plan,
    first: impl Fn(&Step) -> bool,
    then: impl Fn(&Step) -> bool,
) {
    let (first, then) = (places(plan, first), places(plan, then));
    if let (Some(last), Some(next)) = (first.last(), then.first()) {
        assert!(last < next, "{name}: step {last} must come before step {next}:\n{plan}");
    }
}

#[test]
fn the_steps_are_in_an_order_that_holds() {
    let is_mount = |step: &Step| {
        matches!(
            step,
            Step::Root { .. }
                | Step::Mount(_)
                | Step::Device { .. }
                | Step::Link { .. }
                | Step::Mask(_)
                | Step::ReadOnly(_)
        )
    };
    let joins_cgroup = |step: &Step| matches!(step, Step::Write { path, .. } if path.to_bytes().ends_with(b"cgroup.procs"));
    for (name, mut plan) in all_plans() {
        let (name, plan) = (&name, &mut plan);
        // In root's user namespace the process first becomes its root, which needs no privilege
        // outside; the rules are about the change to the command's user.
        if let Some(at) = plan.steps.iter().position(|one| one.origin == "--userns") {
            assert!(matches!(plan.steps[at - 1].step, Step::AwaitGo), "{name}");
            assert!(matches!(plan.steps[at].step, Step::Ids { uid: 0, gid: 0, .. }), "{name}");
            assert!(matches!(plan.steps[at + 1].step, Step::DieWithParent), "{name}");
            plan.steps.drain(at..at + 2);
        }
        let order = |first: &dyn Fn(&Step) -> bool, then: &dyn Fn(&Step) -> bool| {
            assert_order(name, plan, first, then);
        };
        // No process outlives a parent that died, and nothing stays open across execve.
        assert!(matches!(plan.steps[0].step, Step::DieWithParent), "{name}");
        assert!(matches!(plan.steps[1].step, Step::CloseOnExec { .. }), "{name}");
        // A cgroup namespace is rooted at the cgroup of the process that makes it.
        order(&joins_cgroup, &|s| matches!(s, Step::Unshare { .. }));
        // Id maps must exist before anything that needs an id or a capability.
        let needs_ids = |s: &Step| {
            is_mount(s) || matches!(s, Step::Unshare { .. } | Step::Hostname(_) | Step::Ids { .. })
        };
        if plan.id_maps.is_some() {
            order(&|s| matches!(s, Step::AwaitGo), &needs_ids);
        }
        // And the parent's part is done before the command could do anything.
        order(&|s| matches!(s, Step::AwaitGo), &|s| {
            matches!(s, Step::Ids { .. } | Step::Fork { .. } | Step::Exec { .. })
        });
        // The host must not see a mount.
        order(&|s| matches!(s, Step::Propagation(_)), &is_mount);
        order(&is_mount, &|s| matches!(s, Step::Pivot));
        // Paths on the host, /proc/sys among them, are no longer visible then.
        order(&|s| matches!(s, Step::Write { .. }), &|s| matches!(s, Step::Pivot));
        // Landlock names paths inside, and forbids mounting.
        order(&|s| matches!(s, Step::Pivot) || is_mount(s), &|s| {
            matches!(s, Step::Landlock { .. })
        });
        order(&|s| matches!(s, Step::NoNewPrivileges), &|s| {
            matches!(s, Step::Landlock { .. } | Step::Seccomp { .. })
        });
        // Each needs a capability that the next one drops.
        order(&|s| matches!(s, Step::Securebits(_)), &|s| matches!(s, Step::Bounding { .. }));
        order(&|s| matches!(s, Step::Bounding { .. } | Step::Groups(_)), &|s| {
            matches!(s, Step::Ids { .. } | Step::Capabilities(_))
        });
        order(&|s| matches!(s, Step::Ids { .. }), &|s| matches!(s, Step::Capabilities(_)));
        order(&|s| matches!(s, Step::Capabilities(_)), &|s| matches!(s, Step::Ambient(_)));
        // A change of ids clears the parent-death signal.
        let dies = places(plan, |s| matches!(s, Step::DieWithParent | Step::Survive));
        let ids = places(plan, |s| matches!(s, Step::Ids { .. } | Step::Capabilities(_)));
        assert!(dies.last() > ids.last(), "{name}");
        // The filter is for the command, not for us; after it only execve is needed.
        let last = plan.steps.len() - 1;
        assert_eq!(places(plan, |s| matches!(s, Step::Exec { .. })), [last], "{name}");
        if let [filter] = places(plan, |s| matches!(s, Step::Seccomp { .. }))[..] {
            assert_eq!(filter, last - 1, "{name}");
        }
        // Privileges are dropped before there is a second process.
        order(
            &|s| matches!(s, Step::Ids { .. } | Step::Capabilities(_) | Step::Landlock { .. }),
            &|s| matches!(s, Step::Fork { .. }),
        );
        // The terminal is made by the command's user, and controls the session of the command alone.
        let ids_or_fork =
            |s: &Step| matches!(s, Step::Ids { .. } | Step::Capabilities(_) | Step::Fork { .. });
        order(&ids_or_fork, &|s| matches!(s, Step::Terminal { .. }));
        if let [terminal] = places(plan, |s| matches!(s, Step::Terminal { .. }))[..] {
            assert!(matches!(plan.steps[terminal - 1].step, Step::Session), "{name}");
        }
        // The command waits for an init that is no longer part of the caller.
        let awaits = places(plan, |s| matches!(s, Step::AwaitInit));
        assert_eq!(awaits.len(), places(plan, |s| matches!(s, Step::Fork { .. })).len(), "{name}");
        order(&|s| matches!(s, Step::Fork { .. }), &|s| matches!(s, Step::AwaitInit));
        order(&|s| matches!(s, Step::AwaitInit), &|s| matches!(s, Step::Seccomp { .. }));
    }
}

#[test]
fn a_rule_of_order_notices_a_wrong_order() {
    let mut plan = compile(&sandbox(), &given(33, true)).unwrap();
    plan.steps.reverse();
    let wrong = std::panic::catch_unwind(|| {
        let pivot = |s: &Step| matches!(s, Step::Pivot);
        assert_order("reversed", &plan, |s| matches!(s, Step::Mount(_)), pivot);
    });
    assert!(wrong.is_err());
}

/// The plan of a container with these mounts and this label for them, line by line.
fn container(mounts: serde_json::Value, label: Option<&str>) -> Vec<String> {
    let mut config = serde_json::json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["true"], "cwd": "/"},
        "root": {"path": "/srv/rootfs"},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    if let Some(label) = label {
        config["linux"]["mountLabel"] = label.into();
    }
    let config = Config::parse(config.to_string().as_bytes()).unwrap();
    config.validate().unwrap();
    let kernel = Kernel { apparmor: false, selinux: true };
    let given = Surroundings { kernel, ..Surroundings::default() };
    let plan = container::compile(&config, &given).unwrap();
    plan.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn mount_label_is_the_context_of_what_has_no_label_by_the_policy() {
    let mounts = serde_json::json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        {"destination": "/own", "type": "tmpfs", "source": "tmpfs", "options": ["context=own"]},
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["bind"]},
    ]);
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let plan = container(mounts, Some(label));
    let labelled: Vec<&String> = plan.iter().filter(|line| line.contains("context=")).collect();
    let [dev, own] = labelled[..] else { panic!("{labelled:?}") };
    assert!(dev.contains("mount tmpfs on /dev") && dev.contains(label), "{dev}");
    assert!(own.contains("on /own") && own.contains("context=own"), "{own}");
}

#[test]
fn a_mount_of_cgroups_has_all_that_its_options_say_or_is_refused() {
    let cgroups = |options: &[&str]| {
        let mounts = serde_json::json!([{"destination": "/sys/fs/cgroup", "type": "cgroup",
            "options": options}]);
        let config = serde_json::json!({
            "ociVersion": "1.3.0", "process": {"args": ["true"], "cwd": "/"},
            "root": {"path": "/srv/rootfs"}, "mounts": mounts,
            "linux": {"namespaces": [{"type": "mount"}]},
        });
        let config = Config::parse(config.to_string().as_bytes()).unwrap();
        let unified = CgroupMount { own: "/sys/fs/cgroup/box".into(), ..CgroupMount::default() };
        let given = Surroundings { cgroups: vec![unified], ..Surroundings::default() };
        container::compile(&config, &given).map(|plan| plan.to_string())
    };
    let plan = cgroups(&["nosuid", "rro", "rslave"]).unwrap();
    let of_it: Vec<&str> = plan.lines().filter(|line| line.contains("mounts[0]")).collect();
    let [bind, below, propagation] = of_it[..] else { panic!("{of_it:?}") };
    assert!(bind.contains("nosuid") && below.contains("ro") && propagation.contains("slave"));
    let error = cgroups(&["memory_recursiveprot"]).unwrap_err().to_string();
    assert!(error.contains("mounts[0]") && error.contains("memory_recursiveprot"), "{error}");
}

#[test]
fn a_remount_changes_attributes_and_mounts_nothing() {
    let mounts = serde_json::json!([
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["bind"]},
        {"destination": "/data", "options": ["remount", "bind", "ro", "rnosuid", "rslave"]},
    ]);
    let plan = container(mounts, None);
    let of_it: Vec<&String> = plan.iter().filter(|line| line.contains("mounts[1]")).collect();
    assert_eq!(of_it.len(), 3, "{of_it:?}");
    for (line, word) in of_it.iter().zip(["ro", "nosuid", "slave"]) {
        assert!(line.contains("/data") && line.contains(word), "{line}");
        assert!(line.contains("change mount"), "{line}");
    }
}
