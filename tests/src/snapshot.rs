//! What could be left behind, as a list of lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The state of a test host: what exists now and did not exist before has been left behind.
///
/// The directories of Garth's state root and the parent directory of its cgroups are the host's and
/// may stay; what a sandbox has in them may not.
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Examines the test host whose first process is `init`, and these cgroup trees.
    pub fn take<'a>(init: u32, cgroup_trees: impl Iterator<Item = &'a Path>) -> Snapshot {
        let mut lines = BTreeSet::new();
        processes(init, &mut lines);
        mounts(init, &mut lines);
        network(init, &mut lines);
        let root = format!("/proc/{init}/root");
        for tree in cgroup_trees {
            cgroups(&root, &tree.join("garth"), &mut lines);
        }
        files(&root, Path::new("/run/garth"), 0, &mut lines);
        files(&root, Path::new("/var/lib/garth"), 0, &mut lines);
        Snapshot(lines)
    }

    /// What is here and not in `before`.
    pub fn since(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Everything in the test host's pid namespace and those below it. Its /proc has exactly these.
fn processes(init: u32, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(format!("/proc/{init}/root/proc")).unwrap().map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let (comm, words) = (read("comm"), read("cmdline").replace('\0', " "));
            if !comm.is_empty() {
                lines.insert(format!("process {name} {} {words}", comm.trim()));
            }
        }
    }
}

fn mounts(init: u32, lines: &mut BTreeSet<String>) {
    let table = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
    lines.extend(table.lines().map(|line| format!("mount {line}")));
}

/// Where the host forwards.
const FORWARDING: &str = "grep -Hs 1 /proc/sys/net/ipv[46]/conf/*/*forwarding";

fn network(init: u32, lines: &mut BTreeSet<String>) {
    let ask = |words: &str| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{init}/ns/net")).args(words.split(' '));
        let output = command.output().unwrap();
        // No table at all is an answer too.
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let name = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    for link in ask("ip -j link").as_array().into_iter().flatten() {
        lines.insert(format!("link {}", name(link, "ifname")));
    }
    for words in ["ip -j -4 route show table all", "ip -j -6 route show table all"] {
        for route in ask(words).as_array().into_iter().flatten() {
            lines.insert(format!("route {} dev {}", name(route, "dst"), name(route, "dev")));
        }
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{init}/ns/net")).args(["sh", "-c", FORWARDING]);
    let switches = command.output().unwrap().stdout;
    lines.extend(String::from_utf8_lossy(&switches).lines().map(|line| format!("switch {line}")));
    let ruleset = ask("nft -j list table inet garth");
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        if !object["table"].is_null() {
            lines.insert("table inet garth".to_owned());
        }
        for kind in ["set", "map"] {
            for element in object[kind]["elem"].as_array().into_iter().flatten() {
                lines.insert(format!("element of {}: {element}", name(&object[kind], "name")));
            }
        }
    }
}

/// All directories below `dir`.
fn cgroups(root: &str, dir: &Path, lines: &mut BTreeSet<String>) {
    for (path, is_dir) in list(root, dir) {
        if is_dir {
            lines.insert(format!("cgroup {}", path.display()));
            cgroups(root, &path, lines);
        }
    }
}

/// Everything below the state root, except that the directories directly in it may stay.
fn files(root: &str, dir: &Path, depth: u32, lines: &mut BTreeSet<String>) {
    for (path, is_dir) in list(root, dir) {
        // The memory of a detached sandbox that has ended.
        if path.ends_with("garth/ended") {
            continue;
        }
        if !is_dir || depth > 0 {
            lines.insert(format!("file {}", path.display()));
        }
        if is_dir {
            files(root, &path, depth + 1, lines);
        }
    }
}

/// The entries of a directory of the test host, and whether they are directories. What vanishes
/// while we look is not left behind.
fn list(root: &str, dir: &Path) -> Vec<(PathBuf, bool)> {
    let entries = fs::read_dir(format!("{root}{}", dir.display())).into_iter().flatten();
    entries
        .map_while(Result::ok)
        .filter_map(|entry| Some((dir.join(entry.file_name()), entry.file_type().ok()?.is_dir())))
        .collect()
}
