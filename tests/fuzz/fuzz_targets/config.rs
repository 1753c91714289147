//! A `config.json` of anybody's, as far as it goes without a machine: parsed, checked, its filters
//! and the values of its cgroup computed, its place in the cgroup trees chosen, compiled to plans.
//! An answer or an error in one line, never a panic; what is taken is written as it was read; and
//! the plans keep the rules that must hold for any of them.
#![no_main]

mod json;

use std::path::PathBuf;
use std::sync::LazyLock;

use garth::cgroup::{self, Driver, Hierarchy, Wanted};
use garth::config::oci::{
    Config, MountOptions, NamespaceType, Process, Resources, parse_list, sysctl_path,
};
use garth::plan::CgroupMount;
use garth::plan::container::{Kernel, Surroundings, compile, compile_exec, compile_mounts};
use garth::plan::seccomp::{self, Filter};
use garth::plan::{Path, Plan, Source, Step};
use json::Seeds;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// The examples of the specification's parts and of engines' files, and the default filter.
static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    Seeds::new(&[
        include_str!("../../../specs/oci/minimal.json"),
        include_str!("../../../specs/oci/rootless.json"),
        include_str!("../../../specs/oci/engine.json"),
        include_str!("../../../specs/oci/everything.json"),
        include_str!("../seeds/config/spec.json"),
        include_str!("../seeds/config/podman.json"),
        include_str!("../seeds/config/docker.json"),
        include_str!("../seeds/config/containerd.json"),
    ])
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    SEEDS.mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    match Config::parse(data) {
        Err(error) => one_line(error),
        Ok(config) => {
            let json = serde_json::to_vec(&config).unwrap();
            assert_eq!(Config::parse(&json).unwrap(), config);
            let valid = config.validate().map_err(one_line).is_ok();
            config.warnings().iter().for_each(|warning| is_one_line(warning));
            for mount in &config.mounts {
                let _ = mount.parse_options().map_err(one_line);
            }
            if valid {
                create(&config, &mut Choices::new(data));
            }
        }
    }
    if let Ok(process) = Process::parse(data).map_err(one_line) {
        let _ = process.validate().map_err(one_line);
    }
    if let Ok(resources) = Resources::parse(data).map_err(one_line) {
        if resources.validate().map_err(one_line).is_ok() {
            values(&resources);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<&str> = text.split(' ').collect();
    if let Ok(options) = MountOptions::parse(&words).map_err(one_line) {
        check_options(&options);
    }
    let _ = parse_list(text).map_err(one_line);
    if let Ok(path) = sysctl_path(text) {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path:?}");
    }
});

#[track_caller]
fn one_line(error: garth::Error) {
    is_one_line(&error.to_string());
}

#[track_caller]
fn is_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// The access time is changed as a whole or not at all, and no bit is both set and cleared.
fn check_options(options: &MountOptions) {
    for (set, clear) in
        [(options.set, options.clear), (options.recursive_set, options.recursive_clear)]
    {
        assert!(clear & 0x70 == 0x70 || (clear | set) & 0x70 == 0, "{options:?}");
        assert_eq!(set & clear & !0x70, 0, "{options:?}");
    }
}

/// What `create`, `exec` and `mounts add` do with a config that is in order, up to the plan.
fn create(config: &Config, choices: &mut Choices) {
    let linux = config.linux.clone().unwrap_or_default();
    for mount in &config.mounts {
        check_options(&mount.parse_options().expect("it was checked"));
    }
    values(&linux.resources.clone().unwrap_or_default());
    choose_cgroup(config, choices);
    let filter = linux.seccomp.as_ref().map(seccomp::compile);
    let filter = match filter {
        None => None,
        Some(Err(error)) => return one_line(error),
        Some(Ok(program)) => {
            assert!((1..=4096).contains(&program.insns.len()));
            Some(Filter::from(&program))
        }
    };
    let given = surroundings(config, filter, choices);
    if let Ok(plan) = compile(config, &given).map_err(one_line) {
        // A root is entered in a mount namespace that is joined, too.
        let has_root = linux.namespace(NamespaceType::Mount).is_some();
        check_plan(&plan, &given, has_root);
    }
    if let Some(process) = &config.process {
        let flags = [0, 0x7e02_0000, 0x0002_0000, 0x1000_0000][choices.below(4)];
        if let Ok(plan) = compile_exec(config, process, &given, 12, flags).map_err(one_line) {
            check_plan(&plan, &given, false);
        }
    }
    if let Ok(plan) = compile_mounts(config, &given).map_err(one_line) {
        plan.steps.iter().for_each(|planned| check_step(&planned.step));
    }
}

fn values(resources: &Resources) {
    for result in cgroup::compute(resources) {
        let _ = result.map_err(one_line);
    }
}

/// Wherever the path leads, it is below a tree.
fn choose_cgroup(config: &Config, choices: &mut Choices) {
    const V2: &str = "1 2 0:3 / /nowhere/cgroup rw - cgroup2 none rw\n";
    const V1: &str = "4 2 0:5 / /nowhere/memory rw - cgroup none rw,memory\n\
                      6 2 0:7 / /nowhere/devices rw - cgroup none rw,devices\n";
    let mountinfo = [V2.to_owned(), V1.to_owned(), format!("{V2}{V1}")][choices.below(3)].clone();
    let host = Hierarchy::parse(&mountinfo, "4:memory:/a/b\n6:devices:/\n0::/c\n", true);
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone());
    let wanted = Wanted {
        id: "box",
        cgroups_path: config.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()),
        driver: [Driver::Cgroupfs, Driver::Systemd, Driver::Disabled][choices.below(3)],
        rootless: choices.below(2) == 1,
        resources: &resources.unwrap_or_default(),
        annotations: &config.annotations,
    };
    let Ok(chosen) = cgroup::choose_container(&host, &wanted).map_err(one_line) else { return };
    for path in chosen.own_join_paths() {
        assert!(path.starts_with("/nowhere") && !path.iter().any(|part| part == ".."), "{path:?}");
    }
    let again = cgroup::Cgroup::from_text(&chosen.to_text());
    assert_eq!(again.as_ref(), Some(&chosen), "{:?}", chosen.to_text());
}

/// Choices that belong to the input: the same input, the same choices.
struct Choices(u64);

impl Choices {
    fn new(data: &[u8]) -> Choices {
        let fnv = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Choices(data.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
    }

    fn below(&mut self, end: u64) -> usize {
        let chosen = self.0 % end;
        self.0 = self.0 / end ^ self.0 << 29;
        chosen as usize
    }
}

fn surroundings(config: &Config, seccomp: Option<Filter>, choices: &mut Choices) -> Surroundings {
    let tree = |name: &str, links: &[&str], options: &[&str]| CgroupMount {
        name: name.into(),
        links: links.iter().map(|link| (*link).to_owned()).collect(),
        own: PathBuf::from("/nowhere/own"),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    let cgroups = match choices.below(3) {
        0 => Vec::new(),
        1 => vec![tree("", &[], &[])],
        _ => vec![tree("cpu,cpuacct", &["cpu"], &["cpu"]), tree("systemd", &[], &["name=systemd"])],
    };
    let some = |yes: usize, number: i32| (yes == 1).then_some(number);
    Surroundings {
        last_capability: 40,
        held_capabilities: [u64::MAX, 0, 0x1ff_feff_ffff][choices.below(3)],
        oom_score_adj: [0, -100][choices.below(2)],
        confined: choices.below(2) == 1,
        cgroup: some(choices.below(2), 7),
        cgroup_files: vec!["/nowhere/cgroup.procs".into(); choices.below(3)],
        cgroups,
        seccomp,
        trees: (0..config.mounts.len()).filter(|at| at % 3 == 2).map(|at| (at, 20)).collect(),
        preserve: [0, 1, 1 << 20][choices.below(3)],
        channel: 8,
        listener: some(choices.below(2), 9),
        console: some(choices.below(4).min(1), 11),
        connects: choices.below(2) == 1,
        no_pivot: choices.below(2) == 1,
        no_keyring: choices.below(2) == 1,
        states: Default::default(),
        setgroups_denied: choices.below(2) == 1,
        kernel: Kernel { apparmor: choices.below(2) == 1, selinux: choices.below(2) == 1 },
        ..Surroundings::default()
    }
}

/// What holds for every plan that ends in a program.
fn check_plan(plan: &Plan, given: &Surroundings, has_root: bool) {
    let text = plan.to_string();
    assert_eq!(text.lines().count(), plan.steps.len() + 1, "{text}");
    text.lines().for_each(is_one_line);
    plan.steps.iter().for_each(|planned| check_step(&planned.step));
    let places = |is: fn(&Step) -> bool| -> Vec<usize> {
        let found = plan.steps.iter().enumerate().filter(|(_, planned)| is(&planned.step));
        found.map(|(at, _)| at).collect()
    };
    let last = plan.steps.len() - 1;
    assert_eq!(places(|step| matches!(step, Step::Exec { .. })), [last], "{text}");
    assert_eq!(places(|step| matches!(step, Step::Ready { .. })).len(), 1, "{text}");
    // Paths of the image are walked while there is a root to hold them to.
    let enters = places(|step| matches!(step, Step::Pivot | Step::Chroot { .. }));
    assert_eq!(enters.len(), usize::from(has_root), "{text}");
    let walks = places(|step| {
        matches!(
            step,
            Step::Mount(_)
                | Step::Device { .. }
                | Step::Link { .. }
                | Step::Mask(_)
                | Step::ReadOnly(_)
                | Step::MakeDirectory { .. }
        )
    });
    match enters.first() {
        Some(enter) => assert!(walks.iter().all(|walk| walk < enter), "{text}"),
        None => assert!(walks.is_empty(), "{text}"),
    }
    // The filter is loaded if there is one, once, and after it no privilege is asked for but those
    // that it must not take from the runtime itself.
    let filters = places(|step| matches!(step, Step::Seccomp(_)));
    assert_eq!(filters.len(), usize::from(given.seccomp.is_some()), "{text}");
    // Who the program is comes before what it may, and after every mount.
    let ids = places(|step| matches!(step, Step::Ids { keep_capabilities: true, .. }));
    let sets = places(|step| matches!(step, Step::Capabilities(_)));
    for set in &sets {
        assert!(ids.iter().all(|id| id < set), "{text}");
        assert!(walks.iter().all(|walk| walk < set), "{text}");
    }
}

fn check_step(step: &Step) {
    match step {
        Step::Mount(mount) => {
            check_path(&mount.target);
            if let Source::Bind { path, .. } = &mount.source {
                assert!(!path.is_empty());
            }
        }
        Step::Device { path, .. }
        | Step::Link { path, .. }
        | Step::Attributes { path, .. }
        | Step::MakeDirectory { path, .. }
        | Step::Mask(path)
        | Step::ReadOnly(path) => check_path(path),
        Step::WriteProc { file, .. } => {
            let file = file.to_str().expect("it was text");
            assert!(!file.starts_with('/') && !file.split('/').any(|part| part == ".."), "{file}");
        }
        _ => {}
    }
}

/// Names of one part each, none of which leads upward.
fn check_path(path: &Path) {
    let mut whole = Vec::new();
    for (above, name) in &path.parts {
        let name = name.as_bytes();
        assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
        let expected: &[u8] = if whole.is_empty() { b"." } else { &whole };
        assert_eq!(above.as_bytes(), expected, "{path:?}");
        if !whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(name);
    }
    let expected: &[u8] = if whole.is_empty() { b"." } else { &whole };
    assert_eq!(path.whole.as_bytes(), expected, "{path:?}");
}
