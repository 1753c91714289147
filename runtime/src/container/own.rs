//! Namespaces that config.json gives by path and that are the caller's own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::config::oci::{Config, NamespaceType};
use crate::error::{Error, Result};

/// Checks a configuration as if the namespaces that are the caller's own were not listed: what may
/// not be changed in the host's must not be changed through another name for it (docker's
/// `--network host` is a path).
///
/// # Errors
/// A setting would change one of the caller's own namespaces.
pub fn check(config: &Config) -> Result<()> {
    let Some(linux) = &config.linux else { return Ok(()) };
    let own = linux.namespaces.iter().filter(|namespace| {
        namespace.path.as_deref().is_some_and(|path| is_own(namespace.kind, path))
    });
    let own: Vec<NamespaceType> = own.map(|namespace| namespace.kind).collect();
    if own.is_empty() {
        return Ok(());
    }
    if own.contains(&NamespaceType::Mount) {
        return Err(Error::new("linux.namespaces: the mount namespace is the caller's own")
            .hint("the container's mounts would change the host: leave out the path"));
    }
    let mut without = config.clone();
    if let Some(linux) = &mut without.linux {
        linux.namespaces.retain(|namespace| !own.contains(&namespace.kind));
    }
    let kinds: Vec<String> = own.iter().map(ToString::to_string).collect();
    without.validate().map_err(|error| {
        error.hint(format!(
            "the path in linux.namespaces for {} is the caller's own namespace",
            kinds.join(", ")
        ))
    })
}

fn is_own(kind: NamespaceType, path: &str) -> bool {
    let name = match kind {
        NamespaceType::Network => "net",
        NamespaceType::Ipc => "ipc",
        NamespaceType::Uts => "uts",
        NamespaceType::Mount => "mnt",
        // Nothing of these types is changed from inside.
        _ => return false,
    };
    // A path that leads nowhere is reported by the step that joins it.
    match (fs::metadata(path), fs::metadata(format!("/proc/self/ns/{name}"))) {
        (Ok(given), Ok(own)) => (given.dev(), given.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}
