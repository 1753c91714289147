//! The mounts of a bundle, its devices, and the way into its root.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use super::Compiler;
use crate::config::oci::{Mount, MountOptions, NamespaceType};
use crate::error::{Error, Result};
use crate::plan::facts::CgroupMount;
use crate::plan::populate::{DEVICES, LINKS};
use crate::plan::program::{c_path, c_string};
use crate::plan::step::{MountStep, Named, Path, Procfs, Source, Step};
use crate::sys::raw::MountAttr;

/// What lxcfs(1) and the like cover in a proc file system; nothing else may be covered.
const MAY_BE_COVERED: [&CStr; 10] = [
    c"proc/cpuinfo",
    c"proc/diskstats",
    c"proc/meminfo",
    c"proc/stat",
    c"proc/swaps",
    c"proc/uptime",
    c"proc/loadavg",
    c"proc/slabinfo",
    c"proc/sys/kernel/ns_last_pid",
    c"proc/sys/crypto/fips_enabled",
];

/// File systems that get their labels from SELinux's policy: they take no `context` option.
const LABELLED_BY_THE_POLICY: [&str; 4] = ["proc", "sysfs", "mqueue", "cgroup2"];

impl Compiler<'_> {
    pub(super) fn mounts(&mut self) -> Result<()> {
        // Whatever the root's own propagation will be: what is mounted over `/` must not reach the
        // host, and what the host mounts later may still come in.
        let kind = match self.linux.rootfs_propagation.as_deref() {
            Some("private" | "rprivate" | "unbindable" | "runbindable") => libc::MS_PRIVATE,
            _ => libc::MS_SLAVE,
        };
        // An existing namespace keeps the propagation of its mounts.
        if self.is_new(NamespaceType::Mount) {
            self.push(Step::Propagation(kind), "linux.rootfsPropagation");
        }
        let Some(root) = &self.config.root else {
            return Err(Error::new("config.json: no root").hint("root.path is required on Linux"));
        };
        if let Some(label) = &self.linux.mount_label
            && !self.surroundings.kernel.selinux
        {
            return Err(Error::new(format!("linux.mountLabel {label:?}: no SELinux"))
                .hint("it is not enabled in this kernel: leave out the label"));
        }
        // Over itself: hooks look for the container's root there.
        let (source, over) = (c_string(&root.path)?, c_string(&root.path)?);
        let attr = MountAttr::default();
        self.push(Step::Root { source, over, recursive: true, attr }, "root.path");
        self.mount_each()?;
        self.devices()
    }

    pub(super) fn mount_each(&mut self) -> Result<()> {
        let config = self.config;
        for (index, mount) in config.mounts.iter().enumerate() {
            self.mount(index, mount).map_err(|error| error.within(origin(index)))?;
        }
        Ok(())
    }

    fn mount(&mut self, index: usize, mount: &Mount) -> Result<()> {
        let options = mount.parse_options()?;
        let kind = mount.kind.as_deref().unwrap_or("");
        if options.remount {
            self.change(index, mount, attributes(&options), &options);
            return Ok(());
        }
        if kind == "cgroup" && !options.is_bind() {
            return self.cgroup(index, mount, &options);
        }
        let origin = origin(index);
        let opened = self.surroundings.trees.iter().find(|(of, _)| *of == index);
        let source = match (opened, options.bind) {
            (Some((_, fd)), _) => {
                let name = mount.source.clone().unwrap_or_default();
                let keeps = self.linux.namespace(NamespaceType::User).is_some();
                Source::Tree { fd: *fd, name: c_string(&name)?, keeps }
            }
            (None, Some(recursive)) => {
                let source = mount.source.as_deref().unwrap_or("");
                Source::Bind { path: c_string(source)?, recursive }
            }
            (None, None) => self.file_system_of(kind, mount, &options)?,
        };
        let target = Path::new(std::path::Path::new(&mount.destination));
        let mut attr = attributes(&options);
        if options.bind.is_none() {
            // A new mount has no attributes to clear.
            attr.clear = 0;
        }
        // Copying or creating files in it, and setting its mode, need it writable for a while.
        let read_only = attr.set & libc::MOUNT_ATTR_RDONLY;
        let late = options.bind.is_none()
            && read_only != 0
            && (options.tmpcopyup || kind == "tmpfs" || target.whole.as_c_str() == c"dev");
        if late {
            attr.set &= !read_only;
        }
        let mut finally: Vec<(MountAttr, bool)> = Vec::new();
        for (propagation, recursive) in options.propagation.clone() {
            finally.push((MountAttr { propagation, ..MountAttr::default() }, recursive));
        }
        if late {
            let attr = MountAttr { set: read_only, ..MountAttr::default() };
            if target.whole.as_c_str() == c"dev" {
                self.late.push((target.clone(), attr, origin.clone()));
            } else {
                finally.push((attr, false));
            }
        }
        let named = |wanted: &str| options.data.iter().any(|(key, _)| key == wanted);
        let step = MountStep {
            recursive: MountAttr {
                set: options.recursive_set,
                clear: options.recursive_clear,
                ..MountAttr::default()
            },
            finally,
            copy_up: options.tmpcopyup.then(|| Named {
                mode: named("mode"),
                uid: named("uid"),
                gid: named("gid"),
            }),
            mode_of_target: kind == "tmpfs" && options.bind.is_none() && !named("mode"),
            // Programs rely on what is mounted there and look for it by this path.
            no_links: matches!(kind, "proc" | "sysfs")
                || [c"proc", c"sys"].contains(&target.whole.as_c_str())
                || MAY_BE_COVERED.contains(&target.whole.as_c_str()),
            procfs: procfs(kind, &target),
            ..MountStep::new(source, target, attr)
        };
        self.push(Step::Mount(step), origin);
        Ok(())
    }

    /// Changes what is already mounted there: these attributes, and what the options say about the
    /// mounts below and about propagation.
    fn change(&mut self, index: usize, mount: &Mount, attr: MountAttr, options: &MountOptions) {
        if attr != MountAttr::default() {
            self.attributes(&mount.destination, attr, false, &origin(index));
        }
        let (set, clear) = (options.recursive_set, options.recursive_clear);
        if set | clear != 0 {
            let attr = MountAttr { set, clear, ..MountAttr::default() };
            self.attributes(&mount.destination, attr, true, &origin(index));
        }
        for (propagation, recursive) in options.propagation.clone() {
            let attr = MountAttr { propagation, ..MountAttr::default() };
            self.attributes(&mount.destination, attr, recursive, &origin(index));
        }
    }

    fn file_system_of(&self, kind: &str, mount: &Mount, options: &MountOptions) -> Result<Source> {
        if kind.is_empty() {
            return Err(Error::new(format!("mount on {}: no type", mount.destination))
                .hint("set a type, or the option bind or rbind"));
        }
        let pair = |(key, value): &(String, Option<String>)| {
            Ok((c_string(key)?, value.as_deref().map(c_string).transpose()?))
        };
        let mut list: Vec<(CString, Option<CString>)> =
            options.data.iter().map(pair).collect::<Result<_>>()?;
        for flag in &options.superblock {
            list.push((c_string(flag)?, None));
        }
        if let Some(label) = &self.linux.mount_label
            && !LABELLED_BY_THE_POLICY.contains(&kind)
            && !options.data.iter().any(|(key, _)| key == "context")
        {
            list.push((c"context".into(), Some(c_string(label)?)));
        }
        let source = mount.source.as_deref().filter(|source| !source.is_empty());
        // fsconfig(2) does not take a longer value.
        const MOST: usize = 255;
        if list.iter().any(|(_, value)| value.as_ref().is_some_and(|it| it.count_bytes() > MOST)) {
            return long(kind, mount, &list);
        }
        if let Some(source) = source {
            list.insert(0, (c"source".into(), Some(c_string(source)?)));
        }
        Ok(Source::New { kind: c_string(kind)?, options: list })
    }

    /// One directory for each hierarchy, each showing the container's own part; or the unified one.
    fn cgroup(&mut self, index: usize, mount: &Mount, options: &MountOptions) -> Result<()> {
        let origin = origin(index);
        let attr = attributes(options);
        let target = std::path::Path::new(&mount.destination);
        let fresh = self.is_new(NamespaceType::Cgroup);
        let surroundings = self.surroundings;
        if let Some((key, _)) = options.data.first() {
            return Err(Error::new(format!("option {key:?} on a mount of type cgroup"))
                .hint("it shows the hierarchies as mounted on the host"));
        }
        if let [unified] = surroundings.cgroups.as_slice()
            && unified.name.is_empty()
        {
            self.push(step(hierarchy(unified, fresh)?, Path::new(target), attr), origin);
            self.change(index, mount, MountAttr::default(), options);
            return Ok(());
        }
        let tmpfs = Source::New {
            kind: c"tmpfs".into(),
            options: vec![(c"mode".into(), Some(c"755".into()))],
        };
        let open = MountAttr { set: attr.set & !libc::MOUNT_ATTR_RDONLY, ..attr };
        self.push(step(tmpfs, Path::new(target), open), origin.clone());
        for cgroup in &surroundings.cgroups {
            let path = Path::new(&target.join(&cgroup.name));
            self.push(step(hierarchy(cgroup, fresh)?, path, attr), origin.clone());
            for link in &cgroup.links {
                let path = Path::new(&target.join(link));
                self.push(Step::Link { path, text: c_string(&cgroup.name)? }, origin.clone());
            }
        }
        if attr.set & libc::MOUNT_ATTR_RDONLY != 0 {
            let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            self.push(Step::Attributes { path: Path::new(target), attr, recursive: false }, origin);
        }
        self.change(index, mount, MountAttr::default(), options);
        Ok(())
    }

    /// Device files and the links that programs take for granted; not where the host's own /dev is
    /// mounted, which has them.
    fn devices(&mut self) -> Result<()> {
        let bound = self.config.mounts.iter().any(|mount| {
            mount.destination.trim_end_matches('/') == "/dev"
                && mount.parse_options().is_ok_and(|options| options.is_bind())
        });
        if bound {
            return Ok(());
        }
        for (name, major, minor) in DEVICES {
            let path = format!("/dev/{name}");
            if !self.linux.devices.iter().any(|device| device.path == path) {
                let device = libc::makedev(major, minor);
                self.device(&path, libc::S_IFCHR | 0o666, device, None, "default")?;
            }
        }
        for device in &self.linux.devices {
            let mode = device.kind.number() | device.file_mode.unwrap_or(0o666) & 0o7777;
            let number = libc::makedev(device.major as u32, device.minor as u32);
            let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
            self.device(&device.path, mode, number, Some(owner), "linux.devices")?;
        }
        for (name, text) in LINKS {
            let path = Path::new(std::path::Path::new(&format!("/dev/{name}")));
            self.push(Step::Link { path, text: c_string(text)? }, "default");
        }
        Ok(())
    }

    fn device(
        &mut self,
        path: &str,
        mode: u32,
        device: u64,
        owner: Option<(u32, u32)>,
        origin: &str,
    ) -> Result<()> {
        let target = Path::new(std::path::Path::new(path));
        let file = mode & libc::S_IFMT;
        // mknod(2) of devices works in the initial user namespace only.
        let confined =
            self.surroundings.confined || self.linux.namespace(NamespaceType::User).is_some();
        let step = if confined && file != libc::S_IFIFO {
            let there = self.surroundings.devices.get(path).map_or(path.as_ref(), PathBuf::as_path);
            let source = Source::Bind { path: c_path(there)?, recursive: false };
            // It is nothing but a device.
            let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
            step(source, target, MountAttr { set, ..MountAttr::default() })
        } else {
            Step::Device { path: target, mode, device, owner }
        };
        self.push(step, origin);
        Ok(())
    }

    /// The last steps, when everything is in place, and the way in.
    pub(super) fn enter_root(&mut self) -> Result<()> {
        if let Some(process) = &self.config.process {
            // A directory of the image, or made as needed (runc's rule).
            let path = Path::new(std::path::Path::new(&process.cwd));
            if !path.parts.is_empty() {
                let step = Step::MakeDirectory { path, owner: None };
                self.push(step, "process.cwd");
            }
            self.terminal(process, true)?;
        }
        for path in &self.linux.masked_paths {
            self.push(Step::Mask(Path::new(std::path::Path::new(path))), "linux.maskedPaths");
        }
        for path in &self.linux.readonly_paths {
            let path = Path::new(std::path::Path::new(path));
            self.push(Step::ReadOnly(path), "linux.readonlyPaths");
        }
        for (path, attr, origin) in std::mem::take(&mut self.late) {
            self.push(Step::Attributes { path, attr, recursive: false }, origin);
        }
        if self.config.root.as_ref().is_some_and(|root| root.readonly) {
            let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            self.attributes("/", attr, false, "root.readonly");
        }
        if !self.is_new(NamespaceType::Mount) {
            // pivot_root(2) would take the root away from the processes already in the namespace.
            let step = Step::Chroot { in_place: true, without: Vec::new() };
            self.push(step, "linux.namespaces");
        } else if self.surroundings.no_pivot {
            let paths = self.surroundings.uncovered.iter();
            let without = paths.map(|path| c_path(path)).collect::<Result<_>>()?;
            self.push(Step::Chroot { in_place: false, without }, "--no-pivot");
        } else {
            self.push(Step::Pivot, "always");
        }
        if let Some(kind) = self.linux.rootfs_propagation.as_deref() {
            let (name, recursive) = match kind.strip_prefix('r') {
                Some(name) => (name, true),
                None => (kind, false),
            };
            let propagation = match name {
                "private" => libc::MS_PRIVATE,
                "slave" => libc::MS_SLAVE,
                "shared" => libc::MS_SHARED,
                "unbindable" => libc::MS_UNBINDABLE,
                _ => {
                    return Err(Error::new(format!("linux.rootfsPropagation {kind:?}")).hint(
                        "use shared, slave, private or unbindable, optionally prefixed with r",
                    ));
                }
            };
            let attr = MountAttr { propagation, ..MountAttr::default() };
            self.attributes("/", attr, recursive, "linux.rootfsPropagation");
        }
        Ok(())
    }
}

/// For mount(2), which takes all options as one string of at most a page.
fn long(kind: &str, mount: &Mount, list: &[(CString, Option<CString>)]) -> Result<Source> {
    const PAGE: usize = 4096;
    let mut text = Vec::new();
    for (key, value) in list {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(key.as_bytes());
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
        }
    }
    if text.len() >= PAGE {
        return Err(Error::new(format!("its options are {} bytes long", text.len()))
            .hint("mount(2) takes at most 4095: use shorter paths, e.g. through symlinks"));
    }
    if Path::new(std::path::Path::new(&mount.destination)).parts.is_empty() {
        return Err(Error::new("options too long for a mount on /")
            .hint("mount it on a directory, and use that as root.path"));
    }
    Ok(Source::Long {
        kind: c_string(kind)?,
        source: c_string(mount.source.as_deref().unwrap_or(kind))?,
        options: CString::new(text).map_err(|_| Error::new("an option contains a NUL byte"))?,
    })
}

fn procfs(kind: &str, target: &Path) -> Procfs {
    match target.whole.as_c_str() {
        path if path == c"proc" => Procfs::Only,
        path if MAY_BE_COVERED.contains(&path) => Procfs::Free,
        _ if kind == "proc" => Procfs::Free,
        _ => Procfs::Off,
    }
}

/// A mount that was not asked for at this very place.
fn step(source: Source, target: Path, attr: MountAttr) -> Step {
    Step::Mount(MountStep { procfs: Procfs::Off, ..MountStep::new(source, target, attr) })
}

fn origin(index: usize) -> String {
    format!("mounts[{index}]")
}

/// In a cgroup namespace of its own a new mount shows the container's part; elsewhere it is bound.
fn hierarchy(cgroup: &CgroupMount, fresh: bool) -> Result<Source> {
    if !fresh {
        return Ok(Source::Bind { path: c_path(&cgroup.own)?, recursive: false });
    }
    let option = |text: &String| {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(c_string(value)?)),
            None => (text.as_str(), None),
        };
        Ok((c_string(key)?, value))
    };
    let kind = if cgroup.options.is_empty() { c"cgroup2" } else { c"cgroup" };
    let options = cgroup.options.iter().map(option).collect::<Result<_>>()?;
    Ok(Source::New { kind: kind.into(), options })
}

fn attributes(options: &MountOptions) -> MountAttr {
    MountAttr { set: options.set, clear: options.clear, ..MountAttr::default() }
}
