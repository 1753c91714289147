//! What the processes of each sandbox have used, for those without a cgroup: one look at /proc for all.

use std::collections::{HashMap, HashSet};

use crate::limit::tree::ProcessStat;
use crate::sys::process;
use crate::sys::timer::CLOCK_TICK;

/// What the living processes of a tree have used, with those that they have waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUse {
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// How many there are.
    pub processes: u64,
}

/// All processes of this machine, as far as they can be seen.
#[derive(Debug, Default)]
pub struct ProcessTable {
    stats: HashMap<i32, ProcessStat>,
}

impl ProcessTable {
    /// Those that there are now.
    pub fn read() -> ProcessTable {
        let stats = process::all().filter_map(|pid| Some((pid, ProcessStat::of(pid)?)));
        ProcessTable { stats: stats.collect() }
    }

    /// When a process began, in clock ticks since boot; `None`: it is not there.
    pub fn start_time(&self, pid: i32) -> Option<u64> {
        self.stats.get(&pid).filter(|stat| stat.state != 'Z').map(|stat| stat.start_time)
    }

    /// What the tree of each of these first processes has used; trees within a tree count for themselves.
    pub fn trees(&self, roots: &HashSet<i32>) -> HashMap<i32, TreeUse> {
        let page = rustix::param::page_size() as u64;
        let mut trees: HashMap<i32, TreeUse> =
            roots.iter().map(|root| (*root, TreeUse::default())).collect();
        let mut known = HashMap::new();
        for (pid, stat) in &self.stats {
            let Some(tree) =
                self.root_of(*pid, roots, &mut known).and_then(|it| trees.get_mut(&it))
            else {
                continue;
            };
            tree.cpu += stat.ticks * CLOCK_TICK;
            tree.resident += stat.resident_pages * page;
            tree.processes += u64::from(stat.state != 'Z');
        }
        trees
    }

    /// The first of these processes that is this one or an ancestor of it.
    pub fn root_of(
        &self,
        pid: i32,
        roots: &HashSet<i32>,
        known: &mut HashMap<i32, Option<i32>>,
    ) -> Option<i32> {
        let (mut at, mut path) = (pid, Vec::new());
        let root = loop {
            if let Some(root) = known.get(&at) {
                break *root;
            }
            path.push(at);
            if roots.contains(&at) {
                break Some(at);
            }
            // What is read one after the other may make a circle, of pids that were reused.
            match self.stats.get(&at).filter(|_| path.len() < self.stats.len() + 1) {
                Some(stat) if stat.parent > 0 => at = stat.parent,
                _ => break None,
            }
        };
        known.extend(path.into_iter().map(|pid| (pid, root)));
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(parent: i32, ticks: u64) -> ProcessStat {
        let text = format!("7 (a b) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 3 0");
        ProcessStat::parse(&text).unwrap()
    }

    #[test]
    fn a_tree_has_what_its_processes_have_and_a_tree_within_it_counts_for_itself() {
        let stats = [(10, stat(1, 1)), (11, stat(10, 2)), (12, stat(11, 4)), (20, stat(11, 8))];
        // A circle, of pids that were reused meanwhile.
        let circle = [(30, stat(31, 16)), (31, stat(30, 32))];
        let table = ProcessTable { stats: stats.into_iter().chain(circle).collect() };
        let trees = table.trees(&[10, 20].into());
        assert_eq!((trees[&10].cpu, trees[&10].processes), (7 * CLOCK_TICK, 3));
        assert_eq!((trees[&20].cpu, trees[&20].processes), (8 * CLOCK_TICK, 1));
        let own = ProcessTable::read().trees(&[std::process::id() as i32].into());
        assert!(own.values().all(|own| own.resident > 100_000 && own.processes >= 1));
    }
}
