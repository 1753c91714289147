//! The cgroup trees as a container sees them below its /sys/fs/cgroup, and as engines name them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hierarchy::{Controller, Hierarchy, MountedTree, Version};
use super::record::{Cgroup, Dir, Placement};
use crate::plan::CgroupMount;

impl Cgroup {
    /// The trees to mount in the container, in the host's order. In v1 and hybrid setups, each has
    /// a directory of its own below a tmpfs; a lone unified tree is mounted directly.
    pub fn inside(&self, host: &Hierarchy) -> Vec<CgroupMount> {
        let mut all = self.shown(self.unified_only() && host.unified_only());
        all.extend(self.others(host));
        all
    }

    /// A sandbox's own part of the trees in which it has limits.
    pub fn seen(&self) -> Vec<CgroupMount> {
        let hybrid = |dir: &Dir| dir.top.starts_with("/sys/fs/cgroup/unified");
        let unified_only = self.unified_only() && !self.dirs.iter().any(hybrid);
        self.shown(unified_only)
    }

    fn shown(&self, unified_only: bool) -> Vec<CgroupMount> {
        let mut all = Vec::new();
        for dir in &self.dirs {
            let own = self.path(dir);
            if dir.version == Version::V2 {
                let name = if unified_only { "" } else { "unified" };
                all.push(CgroupMount { name: name.into(), own, ..CgroupMount::default() });
                continue;
            }
            // The name of the tree on the host, which programs look for.
            let Some(name) = Path::new(&dir.top).file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if dir.controllers.is_empty() {
                continue;
            }
            let mut options: Vec<String> =
                dir.controllers.iter().map(|one| one.v1_name().to_owned()).collect();
            if dir.controllers.contains(&Controller::Systemd) {
                options.insert(0, "none".into());
            }
            // Also for those of its controllers that were not requested.
            let mut links: Vec<&str> = dir.controllers.iter().map(|c| plain(*c)).collect();
            links.extend(name.split(','));
            links.retain(|link| *link != name);
            links.sort_unstable();
            links.dedup();
            let links = links.into_iter().map(str::to_owned).collect();
            all.push(CgroupMount { name: name.to_owned(), links, own, options });
        }
        all
    }

    /// Trees in which no cgroup could be created for the container: it is in the caller's, and sees
    /// that one. In a hybrid setup the unified tree is left out, as runc does.
    fn others(&self, host: &Hierarchy) -> Vec<CgroupMount> {
        let unified_only = host.unified_only();
        let covered = |mount: &MountedTree| {
            self.dirs.iter().any(|dir| {
                dir.version == mount.version
                    && (dir.version == Version::V2 || dir.controllers == mount.controllers)
            })
        };
        let shown = |mount: &&MountedTree| unified_only || mount.version == Version::V1;
        let others = host.trees().filter(|mount| !covered(mount)).filter(shown);
        let own = others.filter_map(|mount| {
            let dir = Dir {
                version: mount.version,
                top: mount.point.clone(),
                controllers: mount.controllers.clone(),
            };
            let path = mount.own.as_deref()?.trim_start_matches('/');
            let (parent, id) = path.rsplit_once('/').unwrap_or(("", path));
            let (parent, id) = (parent.to_owned(), id.to_owned());
            let placement = Placement::Named;
            Some(Cgroup { id, parent, dirs: vec![dir], placement, ..Cgroup::default() })
        });
        own.flat_map(|cgroup| cgroup.shown(unified_only)).collect()
    }

    /// The container's directories by controller, as engines read them from a state file: `memory`,
    /// `name=systemd`, and `""` for the unified tree.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for dir in &self.dirs {
            let own = self.path(dir);
            if dir.version == Version::V2 {
                paths.insert(String::new(), own.clone());
            }
            for controller in dir.controllers.iter().filter(|_| dir.version == Version::V1) {
                paths.insert(controller.v1_name().to_owned(), own.clone());
            }
        }
        paths
    }
}

/// A controller as the name of a directory.
fn plain(controller: Controller) -> &'static str {
    controller.v1_name().trim_start_matches("name=")
}
