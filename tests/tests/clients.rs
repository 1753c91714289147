//! Real engines with Garth as their runtime: podman, docker, containerd, its CRI plugin as kubelet
//! uses it, rootless podman, and two that schedule, Docker Swarm and Slurm.
//!
//! Each script of tests/clients runs with runc, with Garth, and where containerd is below with Garth's shim:
//! where runc fails too, the machine or the engine is to blame.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use garth_tests::{binary, needs, shim_binary, which};

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// The output of a script: its checks by name, each with the reason if it did not pass.
type Outcomes = BTreeMap<String, (Outcome, String)>;

/// The lines `ok NAME`, `skip NAME: why` and `not ok NAME: why`.
fn outcomes(text: &str) -> Outcomes {
    let mut all = Outcomes::new();
    for line in text.lines() {
        let kinds =
            [("ok ", Outcome::Passed), ("skip ", Outcome::Skipped), ("not ok ", Outcome::Failed)];
        for (word, outcome) in kinds {
            if let Some(rest) = line.strip_prefix(word) {
                let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
                // A check that passed but could not be cleaned up after appears twice.
                all.insert(name.to_owned(), (outcome, why.to_owned()));
            }
        }
    }
    all
}

/// The checks that count against the runtime: those where the control does better.
fn worse(control: &Outcomes, tested: &Outcomes) -> Vec<String> {
    let mut found = Vec::new();
    for (name, (there, _)) in control {
        match (there, tested.get(name)) {
            (Outcome::Failed, _) | (_, Some((Outcome::Passed, _))) => {}
            (Outcome::Skipped, Some((Outcome::Skipped, _))) => {}
            (_, Some((outcome, why))) => found.push(format!("{name}: {outcome:?}: {why}")),
            (_, None) => found.push(format!("{name}: not even tried")),
        }
    }
    found
}

fn table(control: &Outcomes, tested: &Outcomes) -> String {
    let mut text = format!("{:36} {:8} garth\n", "", "runc");
    for (name, (there, reason)) in control {
        let (here, why) = match tested.get(name) {
            Some((outcome, why)) => (format!("{outcome:?}"), why.as_str()),
            None => ("-".to_owned(), ""),
        };
        let why = if why.is_empty() { reason } else { why };
        let there = format!("{there:?}");
        writeln!(text, "{name:36} {there:8} {here:8} {why}").unwrap_or_default();
    }
    text
}

/// Runs a script with a runtime, all its checks or the named ones. Nothing of it is left on this
/// host.
fn run(client: &str, runtime: &Path, checks: &[&str], shim: bool) -> Outcomes {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("clients/{client}.sh"));
    let mut command = Command::new(script);
    command
        .arg(runtime)
        .args(checks)
        .env("GARTH", binary())
        .env("VERBOSE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if shim {
        command.env("SHIM", shim_binary());
    }
    let child = command.spawn().expect("the script starts");
    let mark = format!("garth-clients-{}", child.id());
    let ran = child.wait_with_output().expect("the script ends");
    let [text, errors] =
        [ran.stdout, ran.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
    let all = outcomes(&text);
    let failed = all.values().any(|(outcome, _)| *outcome == Outcome::Failed);
    let code = ran.status.code();
    assert_eq!(
        code,
        Some(i32::from(failed)),
        "{client} with {}: {text}{errors}",
        runtime.display()
    );
    if failed {
        println!("{text}");
    }
    let left: Vec<PathBuf> = ["/sys/fs/cgroup".as_ref(), "/tmp".as_ref()]
        .into_iter()
        .flat_map(|dir| named(dir, &mark, 4))
        .collect();
    assert!(left.is_empty(), "{client} has left {left:?}: {errors}");
    all
}

/// The directories whose names begin with `mark`, not deeper than that.
fn named(dir: &Path, mark: &str, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(mark) {
            found.push(entry.path());
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(named(&entry.path(), mark, depth - 1));
        }
    }
    found
}

/// Whether it is containerd's own shim, which calls Garth as its runtime, or Garth's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shim {
    Containerds,
    Garths,
}

const BOTH: &[Shim] = &[Shim::Containerds, Shim::Garths];

fn garth_does_as_well_as_runc(client: &str, shims: &[Shim]) {
    let control = run(client, &which("runc").expect("runc"), &[], false);
    let passed = control.values().filter(|(outcome, _)| *outcome == Outcome::Passed).count();
    assert!(
        passed * 10 >= control.len() * 9,
        "{client} does not work here with runc: {control:#?}"
    );
    for shim in shims {
        let own = *shim == Shim::Garths;
        let mut tested = run(client, &binary(), &[], own);
        println!("{client}, {shim:?} shim\n{}", table(&control, &tested));
        let mut worse = worse(&control, &tested);
        if client == "containerd" && !own && !worse.is_empty() {
            // About one `ctr run` in two thousand shows no output from a program that wrote it and
            // exited successfully; with runc none in three thousand. The reason is not known:
            // containerd has reports of such a race. A check that fails twice is not that.
            println!("unsteady, asked again: {worse:#?}");
            let again: Vec<&str> =
                worse.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
            tested.extend(run(client, &binary(), &again, false));
            worse = self::worse(&control, &tested);
        }
        let count = control.len();
        assert!(
            worse.is_empty(),
            "{client}, {shim:?} shim: {} of {count}: {worse:#?}",
            worse.len()
        );
    }
}

#[test]
fn podman() {
    needs!(root, netns, "runc", "podman", "script", "curl", "busybox", cgroups);
    garth_does_as_well_as_runc("podman", &[Shim::Containerds]);
}

#[test]
fn podman_without_root() {
    needs!(
        root,
        netns,
        "runc",
        "podman",
        "newuidmap",
        "slirp4netns",
        "script",
        "curl",
        "busybox",
        userns
    );
    garth_does_as_well_as_runc("podman-rootless", &[Shim::Containerds]);
}

#[test]
fn docker() {
    needs!(root, netns, "runc", "dockerd", "script", "curl", "busybox");
    garth_does_as_well_as_runc("docker", BOTH);
}

#[test]
fn containerd() {
    needs!(root, netns, "runc", "containerd", "ctr", "script", "busybox", cgroups);
    garth_does_as_well_as_runc("containerd", BOTH);
}

#[test]
fn cri() {
    needs!(root, netns, "runc", "containerd", "ctr", "busybox", cgroups);
    if without_cri() {
        return;
    }
    garth_does_as_well_as_runc("cri", BOTH);
}

/// Skips the test where the script's client cannot run, or pods have no network.
fn without_cri() -> bool {
    // The script needs the system's python, whichever others there are.
    let grpc = Command::new("/usr/bin/python3").args(["-c", "import grpc"]).output();
    if !grpc.is_ok_and(|ran| ran.status.success()) {
        garth_tests::skip("program", "the package python3-grpcio");
        return true;
    }
    if !Path::new("/usr/lib/cni/bridge").exists() {
        garth_tests::skip("program", "the package containernetworking-plugins");
        return true;
    }
    false
}

/// Three dockerd, one service, a node that dies.
#[test]
fn swarm() {
    needs!(root, netns, "runc", "dockerd", "curl", "busybox", cgroups);
    garth_does_as_well_as_runc("swarm", BOTH);
}

/// A controller and two nodes, whose steps run in containers.
#[test]
fn slurm() {
    needs!(root, netns, "runc", "slurmctld", "slurmd", "srun", "munged", "busybox");
    garth_does_as_well_as_runc("slurm", &[Shim::Containerds]);
}

/// What has no counterpart in runc: load, kills, output that ends with its program, loggers.
#[test]
fn the_shim_under_load_and_kills() {
    needs!(root, netns, "containerd", "ctr", "busybox", cgroups);
    let all = run("shim", &binary(), &[], true);
    let failed: Vec<_> =
        all.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Failed).collect();
    assert!(failed.is_empty() && all.len() > 5, "{failed:#?}");
}

#[test]
fn where_runc_does_better_it_counts() {
    let control =
        outcomes("ok a\nok b\nok c\nskip d: old\nnot ok e: sick\nok f\nskip g: new\n# end");
    let tested = outcomes("ok a\nnot ok b: why\nskip c: no\nskip d: no\nnot ok e: no\nok g");
    assert_eq!(worse(&control, &tested), ["b: Failed: why", "c: Skipped: no", "f: not even tried"]);
}
