//! What a sandbox sees of the host, by name alone.

use std::path::Path;

use crate::config::{Mount, MountKind, Root, Sandbox};

/// Host names and their addresses (hosts(5)).
pub const HOSTS: &str = "/etc/hosts";
/// The sandbox's own devices.
pub const DEV: &str = "/dev";

/// The mounts in order: first those over the root itself, which would hide all others.
pub fn in_order(sandbox: &Sandbox) -> impl DoubleEndedIterator<Item = &Mount> {
    let is_root = |mount: &&Mount| mount.target == Path::new("/");
    let roots = sandbox.mounts.iter().filter(is_root);
    roots.chain(sandbox.mounts.iter().filter(move |mount| !is_root(mount)))
}

/// Is a directory of the host visible inside, under the same name? The last mount above it decides.
pub fn shows(sandbox: &Sandbox, dir: &Path) -> bool {
    let above = in_order(sandbox).rev().find(|mount| dir.starts_with(&mount.target));
    match above {
        Some(mount) => matches!(mount.kind, MountKind::Bind { .. }),
        None => !matches!(sandbox.root, Root::Dir { .. }),
    }
}

/// Is anything at or below this path that was asked for by name?
pub fn was_asked_for(sandbox: &Sandbox, path: &Path) -> bool {
    let asked = |origin: &str| !matches!(origin, "default" | "compat");
    sandbox.mounts.iter().any(|mount| asked(&mount.origin) && mount.target.starts_with(path))
}

/// Does it have a host name that its own /etc/hosts should know? Not without a view of the host's,
/// and not where something was requested in its place.
pub fn names_itself(sandbox: &Sandbox) -> bool {
    let namespaces = &sandbox.namespaces;
    let over =
        |path: &str| in_order(sandbox).rfind(|mount| Path::new(path).starts_with(&mount.target));
    let host_name = sandbox.hostname.as_ref().is_some_and(|name| name != "localhost");
    host_name
        && sandbox.root == Root::Host
        && namespaces.mount.is_new()
        && namespaces.uts.is_new()
        && over(HOSTS).is_none()
        && over(DEV).is_some_and(|mount| mount.kind == MountKind::Dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_seen_where_the_last_mount_above_it_is_the_hosts() {
        let mut sandbox = Sandbox::default();
        let sees = |sandbox: &Sandbox, dir: &str| shows(sandbox, Path::new(dir));
        for (dir, seen) in
            [("/", true), ("/home/a", true), ("/tmp", false), ("/tmp/a", false), ("/tmpx", true)]
        {
            assert_eq!(sees(&sandbox, dir), seen, "{dir}");
        }
        sandbox.mounts.push(Mount::writable("/tmp/a").unwrap());
        sandbox.mounts.push(Mount::tmpfs("/home").unwrap());
        for (dir, seen) in [("/tmp/a/b", true), ("/tmp/b", false), ("/home/a", false)] {
            assert_eq!(sees(&sandbox, dir), seen, "{dir}");
        }
        sandbox.mounts.push(Mount::writable("/").unwrap());
        assert!(!sees(&sandbox, "/tmp/b") && sees(&sandbox, "/usr"));
        sandbox.mounts.pop();
        sandbox.root = Root::Dir { path: "/srv".into(), read_only: false };
        assert!(!sees(&sandbox, "/usr"));
    }
}
