//! What a sandbox finds below its own file systems: devices in /dev, and its cgroups in /sys.

use std::path::Path as FsPath;

use super::Plan;
use super::compile::{Compiler, attributes};
use super::facts::CgroupMount;
use super::program::{c_path, c_string};
use super::step::{MountStep, Otherwise, Path, Source, Step};
use crate::config::{Access, Mount};
use crate::error::Result;
use crate::sys::raw::MountAttr;

/// The device files in /dev, for sandboxes as for containers (config-linux.md, "Default Devices").
pub(super) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The links in /dev that programs, POSIX shells and libcs take for granted.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

impl Compiler<'_> {
    /// The sandbox's own cgroups, read-only, where programs look for their limits: Java and Node
    /// size themselves by them.
    pub(super) fn cgroups(&self, plan: &mut Plan, sys: &Mount) -> Result<()> {
        let top = sys.target.join("fs/cgroup");
        let attr = attributes(Access { read_only: true, nosuid: true, nodev: true, noexec: true });
        let mut push = |source, path: &FsPath, attr| {
            let step = Step::Mount(MountStep::new(source, Path::new(path), attr));
            plan.push_or(step, "limits", Otherwise::Without(None));
        };
        if self.facts.cgroups.iter().any(|cgroup| !cgroup.name.is_empty()) {
            let options = [(c"mode", c"0755"), (c"size", c"64k")];
            let options = options.map(|(key, value)| (key.into(), Some(value.into()))).to_vec();
            let tmpfs = Source::New { kind: c"tmpfs".into(), options };
            push(tmpfs, &top, MountAttr { set: attr.set & !libc::MOUNT_ATTR_RDONLY, ..attr });
        }
        for CgroupMount { name, own, .. } in &self.facts.cgroups {
            let source = Source::Bind { path: c_path(own)?, recursive: false };
            push(source, &top.join(name), attr);
        }
        for CgroupMount { name, links, .. } in &self.facts.cgroups {
            for link in links {
                let step = Step::Link { path: Path::new(&top.join(link)), text: c_string(name)? };
                plan.push_or(step, "limits", Otherwise::Without(None));
            }
        }
        Ok(())
    }

    /// The devices that programs take for granted, and the links that POSIX shells and libcs use.
    pub(super) fn devices(&self, plan: &mut Plan, dev: &Mount) -> Result<()> {
        for (name, major, minor) in DEVICES {
            let path = dev.target.join(name);
            let host = c_path(&FsPath::new("/dev").join(name))?;
            let source = Source::Bind { path: host, recursive: false };
            let attr = attributes(Access { nosuid: true, noexec: true, ..Access::default() });
            let bind = Step::Mount(MountStep::new(source, Path::new(&path), attr));
            if self.confined {
                // mknod(2) works in the initial user namespace only.
                plan.push(bind, &dev.origin);
                continue;
            }
            let (mode, device) = (libc::S_IFCHR | 0o666, libc::makedev(major, minor));
            let make = Step::Device { path: Path::new(&path), mode, device, owner: None };
            // Without CAP_MKNOD, or below a device filter, the host's device file is as good.
            plan.push_or(make, &dev.origin, Otherwise::Instead(Box::new(bind), None));
        }
        for (name, text) in LINKS {
            let path = Path::new(&dev.target.join(name));
            plan.push(Step::Link { path, text: c_string(text)? }, &dev.origin);
        }
        Ok(())
    }
}
