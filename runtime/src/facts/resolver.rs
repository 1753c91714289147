//! Name resolution in a view of the host's root: /etc/resolv.conf is often a link into /run, which
//! is separate in the sandbox, so its target is bound there.

use std::path::{Path, PathBuf};

use crate::config::{Access, Mount, MountKind, Network};

/// systemd-resolved's list of the real servers, next to the one with its stub on 127.0.0.53.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The mount that makes the host's name servers available inside, if one is needed.
pub fn mount(network: &Network) -> Option<Mount> {
    if *network == Network::None {
        return None;
    }
    let target = std::fs::canonicalize("/etc/resolv.conf").ok()?;
    let source = source(network, &target);
    if source == target && !target.starts_with("/run") {
        return None;
    }
    Some(Mount {
        target,
        kind: MountKind::Bind { source, recursive: false },
        access: Access { read_only: true, nosuid: true, nodev: true, noexec: true },
        optional: true,
        origin: "resolv.conf".into(),
    })
}

/// A server on the host's loopback cannot be reached from a private network.
fn source(network: &Network, target: &Path) -> PathBuf {
    let stub = |text: String| {
        let mut servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
        servers.all(|server| server.trim().starts_with("127."))
    };
    let only_stub = network.has_address()
        && std::fs::read_to_string(target).is_ok_and(stub)
        && Path::new(RESOLVED).exists();
    if only_stub { RESOLVED.into() } else { target.to_owned() }
}
