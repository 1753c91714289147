//! What could be left behind, as a list of lines.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use serde_json::Value;

/// The state of a yard: what is there now and was not there before has been left behind.
///
/// Garth's firewall table, the directories of its state root and the parent directory of its
/// cgroups are the host's and may stay; what a sandbox has in them may not.
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at the yard whose first process is `init`.
    pub fn take(init: u32) -> Snapshot {
        let mut lines = BTreeSet::new();
        processes(init, &mut lines);
        mounts(init, &mut lines);
        network(init, &mut lines);
        cgroups(Path::new("/sys/fs/cgroup"), &mut lines).unwrap();
        files(&format!("/proc/{init}/root"), "/run/garth", &mut lines);
        Snapshot(lines)
    }

    /// What is here and not in `before`.
    pub fn since(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Everything in the yard's pid namespace and those below it. The yard's /proc has exactly these.
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
    let ruleset = ask("nft -j list table inet garth");
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        for kind in ["set", "map"] {
            for element in object[kind]["elem"].as_array().into_iter().flatten() {
                lines.insert(format!("element of {}: {element}", name(&object[kind], "name")));
            }
        }
    }
}

/// Directories below one that is named `garth`, wherever in the trees, without processes in or
/// below them. Those with processes belong to tests that run beside this one: ours would be in the
/// list of processes.
fn cgroups(dir: &Path, lines: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.map_while(Result::ok) {
        // What vanishes while we look is not left behind.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let below = dir.components().any(|part| part.as_os_str() == "garth");
        if below && !is_populated(&entry.path()) {
            lines.insert(format!("cgroup {}", entry.path().display()));
        }
        let _ = cgroups(&entry.path(), lines);
    }
    Ok(())
}

fn is_populated(dir: &Path) -> bool {
    // A directory that has just gone has no leak in it either.
    let Ok(processes) = fs::read_to_string(dir.join("cgroup.procs")) else { return true };
    !processes.is_empty()
        || fs::read_dir(dir).is_ok_and(|entries| {
            entries.map_while(Result::ok).any(|entry| {
                entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_populated(&entry.path())
            })
        })
}

/// Everything that is not a directory below the state root, and the directories of sandboxes.
fn files(root: &str, dir: &str, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(format!("{root}{dir}")) else { return };
    for entry in entries.map_while(Result::ok) {
        let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || dir != "/run/garth" {
            lines.insert(format!("file {path}"));
        }
        if is_dir {
            files(root, &path, lines);
        }
    }
}
