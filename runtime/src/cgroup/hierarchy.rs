//! Which cgroup trees this machine has, and where the caller may create directories.
//!
//! Controllers are found in mountinfo, never by a directory that happens to have the right name:
//! engines leave empty look-alikes behind, and a directory in a tmpfs silently accepts a limit and
//! enforces nothing.

use std::ffi::CString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::facts::mountinfo::{self, MountLine};
use crate::sys::file::read_kernel;
use crate::sys::{Errno, access, process};
use crate::{Error, Result};

/// The two generations of cgroups: one tree per controller, or one tree for all (cgroups(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// A tree of its own for each controller, or for a few together (`cpu,cpuacct`).
    V1,
    /// The unified tree.
    V2,
}

/// The controllers that Garth knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// Processor time.
    Cpu,
    /// Which processors.
    Cpuset,
    /// Processes and threads.
    Pids,
    /// Pausing; a controller only in v1, in v2 every cgroup can do it.
    Freezer,
    /// Processor time accounting; only in v1, in v2 the cpu controller includes it.
    Cpuacct,
    /// Device access; only in v1, in v2 a program attached to the cgroup decides.
    Devices,
    /// Block devices; `blkio` in v1.
    Io,
    /// Huge pages.
    Hugetlb,
    /// A mark on packets; only in v1.
    NetCls,
    /// The priority of packets; only in v1.
    NetPrio,
    /// Sampling by perf; in v2 every cgroup has it.
    PerfEvent,
    /// Remote direct memory access.
    Rdma,
    /// Countable resources of this processor, such as encrypted guests.
    Misc,
    /// The tree `name=systemd`, which controls nothing: systemd uses it to track its units.
    Systemd,
}

impl Controller {
    pub(super) const ALL: [Controller; 15] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Pids,
        Controller::Freezer,
        Controller::Cpuacct,
        Controller::Devices,
        Controller::Io,
        Controller::Hugetlb,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Rdma,
        Controller::Misc,
        Controller::Systemd,
    ];

    /// Its kernel name.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
            Controller::Cpuacct => "cpuacct",
            Controller::Devices => "devices",
            Controller::Io => "io",
            Controller::Hugetlb => "hugetlb",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
            Controller::Systemd => "name=systemd",
        }
    }

    /// Its kernel name in v1.
    pub fn v1_name(self) -> &'static str {
        if self == Controller::Io { "blkio" } else { self.name() }
    }

    /// The error for a controller that no tree has.
    pub(super) fn missing(self) -> Error {
        Error::new(format!("no {} controller in the cgroup hierarchies mounted here", self.name()))
            .hint("`grep cgroup /proc/self/mountinfo` lists them")
    }

    /// The error for a controller that `dir` does not have.
    pub(super) fn missing_in(self, dir: &Path) -> Error {
        Error::new(format!("no {} controller in {}", self.name(), dir.display())).hint(
            "it is not enabled for this cgroup: see cgroup.controllers and cgroup.subtree_control of \
             its parents",
        )
    }

    fn named(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|one| one.name() == name || one.v1_name() == name)
    }

    pub(super) fn listed(names: &str, separator: impl Fn(char) -> bool) -> Vec<Controller> {
        names.split(separator).filter_map(Controller::named).collect()
    }
}

/// One mounted and visible cgroup tree.
#[derive(Clone, Debug)]
pub struct MountedTree {
    /// Its generation.
    pub version: Version,
    /// What it controls; only for v1, as in v2 each directory lists its own.
    pub controllers: Vec<Controller>,
    /// The cgroup that is seen at `point`: `/`, or deeper where a container got only a part.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// The device number of the tree: the same for all its mounts.
    pub device: String,
    /// The caller's own cgroup in this tree, from `point`, such as `/a/b`; empty at `point` itself.
    /// `None` if the mounted part does not contain it.
    pub own: Option<String>,
    /// Nothing can be created here.
    pub read_only: bool,
}

/// The cgroup trees as the caller sees them.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Visible trees, those that show the most first.
    pub mounts: Vec<MountedTree>,
    /// The caller is root, and starts at the root of each tree; others start at `own`.
    pub privileged: bool,
    /// The directory that holds those of all sandboxes.
    pub parent: String,
    /// systemd manages the trees (sd_booted(3)).
    pub systemd: bool,
    /// A systemd scope is requested (`--systemd-cgroup`).
    pub scope: bool,
}

/// Why a directory of the unified tree cannot hold sandboxes; later variants came closer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Unfit {
    /// No unified tree, or the caller is not in the mounted part of it.
    NotMounted,
    /// The directory is not writable: not delegated to the caller, or mounted read-only.
    NotWritable(String, i32),
    /// Writable, but a controller has not been passed down to it.
    Lacks(String, &'static str),
    /// It has processes of its own, so it cannot pass controllers on.
    Busy(String),
}

impl Hierarchy {
    /// What this process sees.
    pub fn read() -> Result<Hierarchy> {
        let path = "/proc/self/cgroup";
        let own = read_kernel(path).map_err(|error| Error::io(format!("read {path}"), &error))?;
        let host = Hierarchy::parse(mountinfo::read()?, &own, process::effective_ids().0 == 0);
        let systemd = match std::fs::symlink_metadata("/run/systemd/system") {
            Ok(meta) => meta.is_dir(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("stat /run/systemd/system", &error)),
        };
        Ok(Hierarchy { systemd, ..host })
    }

    /// Parses the text of /proc/PID/mountinfo and /proc/PID/cgroup.
    pub fn parse(mountinfo: impl AsRef<[u8]>, cgroup: &str, privileged: bool) -> Hierarchy {
        let lines: Vec<MountLine> = mountinfo::lines(mountinfo.as_ref()).collect();
        let seen = |line: &MountLine| tree(line).filter(|_| visible(line, &lines));
        let mut mounts: Vec<MountedTree> = lines.iter().filter_map(seen).collect();
        // Where a tree is mounted twice, the mount that shows more of it is the tree itself, and
        // the other a part that was bind-mounted into some container.
        mounts.sort_by_key(|mount| mount.root.len());
        for mount in &mut mounts {
            mount.own = cgroup.lines().find_map(|line| mount.own(line));
        }
        Hierarchy { mounts, privileged, parent: "garth".into(), systemd: false, scope: false }
    }

    /// Each tree once: the mount that shows most of it.
    pub(super) fn trees(&self) -> impl Iterator<Item = &MountedTree> {
        self.mounts.iter().enumerate().filter_map(|(at, mount)| {
            (!self.mounts[..at].iter().any(|other| other.device == mount.device)).then_some(mount)
        })
    }

    /// The tree of a v1 controller.
    pub fn v1(&self, controller: Controller) -> Option<&MountedTree> {
        self.mounts.iter().find(|mount| mount.controllers.contains(&controller))
    }

    /// The unified tree.
    pub fn v2(&self) -> Option<&MountedTree> {
        self.mounts.iter().find(|mount| mount.version == Version::V2)
    }

    /// Whether the unified tree is the only one.
    pub fn unified_only(&self) -> bool {
        self.mounts.iter().all(|mount| mount.version == Version::V2)
    }

    /// Directories of the unified tree that may hold sandboxes, best first: for root the root of
    /// the tree; for everyone the caller's own cgroup and its visible ancestors.
    pub(super) fn v2_tops(&self) -> Vec<String> {
        let Some(mount) = self.v2() else { return Vec::new() };
        let mut tops = Vec::new();
        if self.privileged {
            tops.push(mount.point.clone());
        }
        let mut own = mount.own.as_deref();
        while let Some(path) = own {
            let top = format!("{}{path}", mount.point);
            if !tops.contains(&top) {
                tops.push(top);
            }
            own = path.rsplit_once('/').map(|(up, _)| up);
        }
        tops
    }

    /// The directory of the unified tree to create `<parent>/<id>` in, so that it has `needed`.
    ///
    /// A process moves into the sandbox from the caller's cgroup, and the kernel requires write
    /// access to cgroup.procs of the nearest common ancestor: that is the one chosen here, because
    /// all candidates but root's lie above the caller.
    pub(super) fn v2_top(&self, needed: &[Controller]) -> Result<String, Unfit> {
        let mut closest = Unfit::NotMounted;
        for top in self.v2_tops() {
            match fit(&top, needed, false) {
                Ok(()) => return Ok(top),
                Err(unfit) => closest = closest.max(unfit),
            }
        }
        Err(closest)
    }
}

impl MountedTree {
    /// The caller's cgroup from `point`, if this line of /proc/PID/cgroup, `4:cpu,cpuacct:/a/b` or
    /// `0::/a/b`, is about this tree.
    fn own(&self, line: &str) -> Option<String> {
        let (number, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let about = match self.version {
            Version::V1 => {
                Controller::listed(names, |c| c == ',').iter().any(|c| self.controllers.contains(c))
            }
            Version::V2 => number == "0" && names.is_empty(),
        };
        if !about || path.ends_with(" (deleted)") {
            return None;
        }
        // Both paths start at the root of the caller's cgroup namespace.
        let own = match self.root.as_str() {
            "/" => path,
            root => path.strip_prefix(root).filter(|r| r.is_empty() || r.starts_with('/'))?,
        };
        Some(own.trim_end_matches('/').to_owned())
    }
}

/// Whether `top` can pass `needed` on to a child; `vacated`: its processes will be moved.
pub(super) fn fit(top: &str, needed: &[Controller], vacated: bool) -> Result<(), Unfit> {
    for file in ["", "/cgroup.procs", "/cgroup.subtree_control"] {
        writable(&format!("{top}{file}"))
            .map_err(|errno| Unfit::NotWritable(top.to_owned(), errno.0))?;
    }
    let there = controllers(&format!("{top}/cgroup.controllers"));
    if let Some(missing) = needed.iter().find(|controller| !there.contains(controller)) {
        return Err(Unfit::Lacks(top.to_owned(), missing.name()));
    }
    let passed_on = controllers(&format!("{top}/cgroup.subtree_control"));
    // Only the root of the tree may have both processes and controllers below (cgroups(7), "no
    // internal processes"); it is the only directory without cgroup.type.
    if !vacated
        && !needed.iter().all(|controller| passed_on.contains(controller))
        && Path::new(&format!("{top}/cgroup.type")).exists()
        && read_kernel(format!("{top}/cgroup.procs")).is_ok_and(|text| !text.is_empty())
    {
        return Err(Unfit::Busy(top.to_owned()));
    }
    Ok(())
}

/// The controllers listed in a v2 file such as cgroup.controllers; none if it cannot be read.
pub(super) fn controllers(path: &str) -> Vec<Controller> {
    let text = read_kernel(path).unwrap_or_default();
    Controller::listed(&text, char::is_whitespace)
}

/// Whether the caller may write here.
pub(super) fn writable(path: &str) -> Result<(), Errno> {
    access::writable(&CString::new(path).map_err(|_| Errno(libc::EINVAL))?)
}

/// Whether the mount point leads to this mount, and not to something mounted over it or over one of
/// its ancestors.
fn visible(mount: &MountLine, lines: &[MountLine]) -> bool {
    let (mut below, mut id) = (None, mount.id);
    // The chain ends at a mount that is not listed; the count guards against a forged loop.
    for _ in 0..=lines.len() {
        let covers = |line: &&MountLine| {
            line.above == id
                && line.id != id
                && Some(line.id) != below
                && mount.point().starts_with(line.point())
        };
        if lines.iter().any(|line| covers(&line)) {
            return false;
        }
        let Some(line) = lines.iter().find(|line| line.id == id) else { break };
        (below, id) = (Some(line.id), line.above);
    }
    true
}

/// A tree. `None` if its path is not UTF-8: cgroup trees are not mounted at such paths.
fn tree(line: &MountLine) -> Option<MountedTree> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let read_only = |options| text(options).split(',').any(|option| option == "ro");
    let (version, controllers) = match line.kind {
        b"cgroup" => (Version::V1, Controller::listed(text(line.super_options), |c| c == ',')),
        b"cgroup2" => (Version::V2, Vec::new()),
        _ => return None,
    };
    Some(MountedTree {
        version,
        controllers,
        root: line.root().to_str()?.to_owned(),
        point: line.point().to_str()?.to_owned(),
        device: text(line.device).to_owned(),
        own: None,
        read_only: read_only(line.options) || read_only(line.super_options),
    })
}
