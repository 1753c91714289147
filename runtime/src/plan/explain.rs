//! How a step describes itself: the text of `explain`, and the first half of every error.

use std::ffi::CStr;
use std::fmt;

use super::Plan;
use super::step::{MountStep, Otherwise, Path, Planned, Source, Step};
use crate::config::CapabilitySet;
use crate::sys::raw::MountAttr;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cgroup = if self.cgroup.is_some() { ", into its cgroup" } else { "" };
        writeln!(f, "clone3 {}{cgroup}", namespaces(self.namespaces))?;
        for (number, planned) in self.steps.iter().enumerate() {
            writeln!(f, "{number:>3}  {planned}  [{}]", planned.origin)?;
        }
        Ok(())
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.step.fmt(f)?;
        match &self.otherwise {
            Otherwise::Fail => Ok(()),
            Otherwise::Without(_) => write!(f, ", or continue without"),
            Otherwise::Instead(step, _) => write!(f, ", or else {step}"),
        }
    }
}

/// `mount,pid,net`, or `no new namespaces`.
pub fn namespaces(flags: u64) -> String {
    const NAMES: [(i32, &str); 8] = [
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWNS, "mount"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
        (libc::CLONE_NEWTIME, "time"),
    ];
    let names: Vec<&str> =
        NAMES.iter().filter(|(flag, _)| flags & *flag as u64 != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "no namespaces".into() } else { names.join(",") }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::DieWithParent => write!(f, "die when the caller dies"),
            Step::Survive => write!(f, "survive the caller"),
            Step::NotDumpable => write!(f, "clear the dumpable flag until execve"),
            Step::CloseOnExec { from } => {
                write!(f, "close descriptors from {from} up at execve")
            }
            Step::CloseAllBut { from, keep } => {
                write!(f, "close descriptors from {from} up")?;
                match keep.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", except {keep:?}"),
                }
            }
            Step::Descriptor { to, from: Some(from) } => {
                write!(f, "copy descriptor {from} to {to}")
            }
            Step::Descriptor { to, from: None } => write!(f, "close descriptor {to}"),
            Step::Write { path, data } => {
                write!(f, "write {} to {}", data.escape_ascii(), text(path))
            }
            Step::WriteProc { file, data } => {
                write!(f, "write {} to /proc/{}", data.escape_ascii(), text(file))
            }
            Step::Begun => write!(f, "let the parent do its part"),
            Step::AwaitGo => write!(f, "wait for the parent's part"),
            Step::AwaitMaps => write!(f, "wait for the id maps"),
            Step::Sibling => write!(f, "continue in a second process"),
            Step::Mounted => write!(f, "wait for the parent's hooks"),
            Step::Ready { listener: None } => write!(f, "get ready"),
            Step::Ready { listener: Some(_) } => write!(f, "get ready, and wait to be started"),
            Step::Unshare { flags } => write!(f, "unshare {}", namespaces(*flags as u64)),
            Step::Enter { path, flags } => {
                write!(f, "join {} of {}", namespaces(*flags as u64), text(path))
            }
            Step::Join { flags, .. } => write!(f, "join {}", namespaces(*flags as u64)),
            Step::Hostname(name) => write!(f, "set the host name to {}", name.escape_ascii()),
            Step::Domainname(name) => write!(f, "set the domain name to {}", name.escape_ascii()),
            Step::LoopbackUp => write!(f, "bring lo up"),
            Step::Propagation(kind) => write!(f, "make all mounts {}", propagation(*kind)),
            Step::Root { source, recursive, attr, .. } => {
                write!(f, "root from {}", text(source))?;
                attributes(f, *recursive, attr)
            }
            Step::Mount(mount) => mount.fmt(f),
            Step::Device { path, device, mode, .. } => {
                let (major, minor) = (libc::major(*device), libc::minor(*device));
                match mode & libc::S_IFMT {
                    libc::S_IFIFO => write!(f, "create fifo {}", inside(path)),
                    _ => write!(f, "create device {} ({major}:{minor})", inside(path)),
                }
            }
            Step::MakeDirectory { path, owner, .. } => {
                write!(f, "create directory {}", inside(path))?;
                owner.map_or(Ok(()), |(uid, gid)| write!(f, " for {uid}:{gid}"))
            }
            Step::Attributes { path, attr, recursive } => {
                write!(f, "change mount {}", inside(path))?;
                attributes(f, *recursive, attr)?;
                match attr.propagation {
                    0 => Ok(()),
                    kind => write!(f, " to {}", propagation(kind)),
                }
            }
            Step::Chroot { without, .. } => {
                write!(f, "chroot into the root")?;
                without.iter().try_for_each(|path| write!(f, ", without {}", text(path)))
            }
            Step::Terminal { .. } => write!(f, "allocate a terminal and send its master"),
            Step::TerminalHeld => write!(f, "check that the terminal's master is still open"),
            Step::StandardFiles { uid, pipes } => {
                let which = if *pipes { "that are pipes " } else { "" };
                write!(f, "change the owner of the standard files {which}to uid {uid}")
            }
            Step::Personality(domain) => write!(f, "set personality {domain:#x}"),
            Step::IoPriority(packed) => write!(f, "set I/O priority {packed:#x}"),
            Step::Scheduler(attr) => write!(f, "set scheduler policy {}", attr.policy),
            Step::Affinity(_) => write!(f, "set CPU affinity"),
            Step::AllProcessors => write!(f, "use all CPUs that the cgroup allows"),
            Step::MemoryPolicy { mode, .. } => write!(f, "set memory policy {mode:#x}"),
            Step::WriteOwn { file, data } => {
                write!(f, "write {} to own {}", data.escape_ascii(), text(file))
            }
            Step::Hook(hook) => write!(f, "run hook {}", text(&hook.path)),
            Step::Find { paths, .. } => match paths.as_slice() {
                [path] => write!(f, "look for {}", text(path)),
                paths => write!(f, "look for the program (PATH: {} candidates)", paths.len()),
            },
            Step::Link { path, text: to } => {
                write!(f, "link {} to {}", inside(path), text(to))
            }
            Step::File { path, text, mode, owner: (uid, gid) } => {
                let size = text.len();
                write!(f, "write {} ({size} bytes, mode {mode:04o}, {uid}:{gid})", inside(path))
            }
            Step::Cover { path, text, .. } => {
                let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let first = String::from_utf8_lossy(first);
                write!(f, "cover {} with a file that begins with {first:?}", inside(path))
            }
            Step::Mask(path) => write!(f, "mask {}", inside(path)),
            Step::ReadOnly(path) => write!(f, "make {} read-only", inside(path)),
            Step::Pivot => write!(f, "pivot into the root, detach the old one"),
            Step::Directory(path) => write!(f, "change directory to {}", text(path)),
            Step::Rlimit { resource, soft, hard } => {
                let limit = crate::config::Rlimit { resource: *resource, soft: *soft, hard: *hard };
                write!(f, "limit {} to {}:{}", limit.name(), bound(*soft), bound(*hard))
            }
            Step::Umask(mask) => write!(f, "set umask {mask:03o}"),
            Step::Securebits(bits) => write!(f, "set securebits {bits:#x}"),
            Step::Bounding { keep, .. } => {
                write!(f, "set bounding capabilities to {}", CapabilitySet(*keep).names())
            }
            Step::Groups(groups) => write!(f, "set groups {groups:?}"),
            Step::Ids { uid, gid, .. } => write!(f, "become uid {uid}, gid {gid}"),
            Step::Capabilities(sets) => {
                write!(f, "set capabilities to {}", CapabilitySet(sets.permitted).names())
            }
            Step::Ambient(set) => {
                write!(f, "set ambient capabilities to {}", CapabilitySet(*set).names())
            }
            Step::NoNewPrivileges => write!(f, "set no_new_privs"),
            Step::Keyring => write!(f, "join a new session keyring"),
            Step::Landlock { rules, .. } => {
                write!(f, "landlock: write only below")?;
                for (path, _) in rules {
                    write!(f, " {}", text(path))?;
                }
                Ok(())
            }
            Step::AwaitInit => write!(f, "wait until the init has been executed"),
            Step::Fork { .. } => write!(f, "fork; this process becomes the init"),
            Step::Session => write!(f, "start a new session"),
            Step::ProcessGroup(group) => write!(f, "join process group {group}"),
            Step::Signals { .. } => write!(f, "reset signals"),
            Step::Seccomp(filter) => {
                let count = filter.instructions.len();
                write!(f, "load the seccomp filter ({count} instructions)")
            }
            Step::Exec { paths, argv, .. } => {
                write!(f, "execute")?;
                match paths.as_slice() {
                    [path] => write!(f, " {}", text(path))?,
                    paths => {
                        let name = argv.iter().next().unwrap_or_default();
                        write!(f, " {} (PATH: {} candidates)", text(name), paths.len())?;
                    }
                }
                for arg in argv.iter().skip(1) {
                    write!(f, " {}", text(arg))?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for MountStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Bind { path, recursive } => {
                write!(f, "bind {} on {}", text(path), inside(&self.target))?;
                if *recursive && self.attr == MountAttr::default() {
                    attributes(f, true, &self.recursive)?;
                    return self.ending(f);
                }
                if *recursive {
                    write!(f, " (rec) itself")?;
                }
                attributes(f, false, &self.attr)?;
            }
            Source::Tree { name, .. } => {
                write!(f, "attach {} to {}", text(name), inside(&self.target))?;
                attributes(f, false, &self.attr)?;
            }
            Source::New { kind, options } => {
                write!(f, "mount {} on {}", text(kind), inside(&self.target))?;
                attributes(f, false, &self.attr)?;
                for (key, value) in options {
                    match value {
                        Some(value) => write!(f, " {}={}", text(key), text(value))?,
                        None => write!(f, " {}", text(key))?,
                    }
                }
            }
            Source::Long { .. } => {}
        }
        if let Source::Long { kind, options, .. } = &self.source {
            write!(f, "mount {} on {}", text(kind), inside(&self.target))?;
            attributes(f, false, &self.attr)?;
            write!(f, " {}", text(options))?;
        }
        if self.recursive != MountAttr::default() {
            write!(f, " and all below")?;
            attributes(f, true, &self.recursive)?;
        }
        self.ending(f)
    }
}

impl MountStep {
    fn ending(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.copy_up.is_some() {
            write!(f, " with a copy of what it covers")?;
        }
        for (attr, recursive) in &self.finally {
            write!(f, ", then")?;
            attributes(f, *recursive, attr)?;
            if attr.propagation != 0 {
                write!(f, " {}", propagation(attr.propagation))?;
            }
        }
        if self.optional { write!(f, " if it exists") } else { Ok(()) }
    }
}

fn attributes(f: &mut fmt::Formatter<'_>, recursive: bool, attr: &MountAttr) -> fmt::Result {
    const NAMES: [(u64, &str); 7] = [
        (libc::MOUNT_ATTR_RDONLY, "ro"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid"),
        (libc::MOUNT_ATTR_NODEV, "nodev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec"),
        (libc::MOUNT_ATTR_NOATIME, "noatime"),
        (libc::MOUNT_ATTR_STRICTATIME, "strictatime"),
        (0x20_0000, "nosymfollow"),
    ];
    let names = |bits: u64| NAMES.iter().filter(move |(bit, _)| bits & bit != 0);
    let on = names(attr.set).map(|(_, name)| (*name).to_owned());
    // The whole field is cleared in order to set it.
    let off = names(attr.clear & !libc::MOUNT_ATTR__ATIME).map(|(_, name)| format!("not {name}"));
    let rec = recursive.then(|| "rec".to_owned());
    let words: Vec<String> = rec.into_iter().chain(on).chain(off).collect();
    if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(",")) }
}

fn propagation(kind: u64) -> &'static str {
    match kind {
        libc::MS_SLAVE => "slave",
        libc::MS_SHARED => "shared",
        libc::MS_UNBINDABLE => "unbindable",
        _ => "private",
    }
}

fn bound(value: u64) -> String {
    if value == u64::MAX { "unlimited".into() } else { value.to_string() }
}

fn inside(path: &Path) -> String {
    match path.whole.to_str() {
        Ok(".") => "/".into(),
        _ => format!("/{}", text(&path.whole)),
    }
}

fn text(string: &CStr) -> String {
    string.to_bytes().escape_ascii().to_string()
}
