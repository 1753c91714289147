//! A part of each cgroup tree for one test host, so that its sandboxes are not strays of another's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "garth-suite-";

/// A directory in each mounted tree, which the test host sees as the whole tree; removed when
/// dropped.
pub struct Cgroups {
    /// Where a tree is mounted, and our directory in it.
    trees: Vec<(PathBuf, PathBuf)>,
}

impl Cgroups {
    /// Makes the directories, where the trees are writable, and removes those of tests that died.
    pub fn new() -> Cgroups {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let mut trees = Vec::new();
        for point in points() {
            remove_stale(&point);
            pass_on(&point);
            let dir = point.join(&name);
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            // A v1 cpuset is empty at first, and no process can be put in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(point.join(file)) {
                    let _ = fs::write(dir.join(file), value);
                }
            }
            trees.push((point, dir));
        }
        Cgroups { trees }
    }

    /// Shell commands that put our directories in place of the trees. Not mounted over them: a
    /// program that looks for a tree in the mount table may take the first entry.
    pub fn script(&self) -> String {
        let bind = |(point, dir): &(PathBuf, PathBuf)| {
            let (point, dir) = (point.display(), dir.display());
            format!("mount --bind {dir} /mnt; umount -l {point}; mount --move /mnt {point}\n")
        };
        self.trees.iter().map(bind).collect()
    }

    /// The paths of a test host's cgroups, as seen from it.
    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.trees.iter().map(|(point, _)| point.as_path())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (_, dir) in &self.trees {
            remove(dir);
        }
    }
}

/// Where cgroup trees are mounted.
fn points() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).unwrap().into())
    };
    table.lines().filter_map(point).collect()
}

/// In a unified tree a directory has the controllers that its parent passes on.
fn pass_on(point: &Path) {
    let read = |file: &str| fs::read_to_string(point.join(file)).unwrap_or_default();
    let (has, passed) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    for name in ["cpu", "cpuset", "io", "memory", "pids"] {
        let is_in = |list: &str| list.split_whitespace().any(|word| word == name);
        if is_in(&has) && !is_in(&passed) {
            let _ = fs::write(point.join("cgroup.subtree_control"), format!("+{name}"));
        }
    }
}

fn remove_stale(point: &Path) {
    for entry in fs::read_dir(point).into_iter().flatten().map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}

/// Removes the directory and those below it. The files in a cgroup go with it.
fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
