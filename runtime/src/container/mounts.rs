//! `mounts add` and `mounts remove`: mounts in a running container.
//!
//! A source is opened here as a detached mount (open_tree(2)); in the container's namespace it is
//! only attached. So nothing of the container's is run or trusted.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as StdPath;

use super::Container;
use crate::config::oci::Mount;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::plan::Path;
use crate::plan::container::{Surroundings, compile_mounts};
use crate::start::LiveRoot;
use crate::sys::file;

/// Mounts these in a running container, in order.
///
/// # Errors
/// The first mount that failed; those before it stay.
pub fn add_mounts(journal: &Journal, id: &str, mounts: &[Mount]) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let doors = Doors::open(&container)?;
    let mut config = container.record.asked.config.clone();
    config.mounts = mounts.to_vec();
    let mut trees: Vec<(usize, OwnedFd)> = Vec::new();
    for (index, mount) in config.mounts.iter_mut().enumerate() {
        check(mount).map_err(|error| error.within(format_args!("mounts[{index}]")))?;
        if let Some(recursive) = bind(mount) {
            trees.push((index, open_source(mount, &container.record.asked.bundle, recursive)?));
        }
    }
    let given = Surroundings {
        trees: trees.iter().map(|(index, fd)| (*index, fd.as_raw_fd())).collect(),
        ..Surroundings::default()
    };
    let plan = compile_mounts(&config, &given)?;
    // The step that attaches a tree closes it.
    for (_, tree) in trees {
        let _ = tree.into_raw_fd();
    }
    doors.inside().mount(&plan.steps)?;
    drop(entry);
    Ok(())
}

/// Unmounts what is mounted in a running container at these destinations.
///
/// # Errors
/// The first that could not be unmounted; those before it are gone.
pub fn remove_mounts(journal: &Journal, id: &str, mounts: &[Mount]) -> Result<()> {
    let container = Container::open(journal, id)?;
    let entry = container.lock()?;
    let doors = Doors::open(&container)?;
    let path = |mount: &Mount| Path::new(StdPath::new(&mount.destination));
    let paths: Vec<Path> = mounts.iter().map(path).collect();
    if let Some(at) = paths.iter().position(|path| path.parts.is_empty()) {
        return Err(Error::new(format!("mounts[{at}]: the root cannot be unmounted")));
    }
    doors.inside().unmount(&paths)?;
    drop(entry);
    Ok(())
}

/// The container's mount namespace and root, open.
struct Doors {
    namespace: File,
    root: File,
}

impl Doors {
    fn open(container: &Container) -> Result<Doors> {
        let (pid, _process) = container.expect_running("mounts")?;
        let namespace = format!("/proc/{pid}/ns/mnt");
        if std::fs::read_link(&namespace).ok() == std::fs::read_link("/proc/self/ns/mnt").ok() {
            return Err(Error::new(format!(
                "container {} shares the host's mount namespace",
                container.id()
            )));
        }
        let open = |path: &str, flags: i32| {
            let file = File::options().read(true).custom_flags(flags).open(path);
            file.map_err(|e| Error::io(format!("open {path}"), &e))
        };
        let doors = Doors {
            namespace: open(&namespace, 0)?,
            root: open(&format!("/proc/{pid}/root"), libc::O_PATH | libc::O_DIRECTORY)?,
        };
        // The pid may have been reused by another process, unless the process is still alive now.
        container.expect_running("mounts")?;
        Ok(doors)
    }

    fn inside(&self) -> LiveRoot<'_> {
        LiveRoot { namespace: self.namespace.as_fd(), root: self.root.as_fd() }
    }
}

fn check(mount: &Mount) -> Result<()> {
    if !mount.destination.starts_with('/') {
        return Err(Error::new(format!(
            "destination {:?}: not an absolute path",
            mount.destination
        )));
    }
    // These show the namespaces of the process that mounts them: here, the host's.
    let of_namespaces = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];
    match mount.kind.as_deref().filter(|kind| of_namespaces.contains(kind)) {
        Some(kind) if bind(mount).is_none() => Err(Error::new(format!(
            "type {kind}: can only be mounted when the container is created"
        ))),
        _ => Ok(()),
    }
}

/// Is it a bind mount, and is it recursive?
pub(super) fn bind(mount: &Mount) -> Option<bool> {
    let has = |word: &str| mount.options.iter().any(|option| option == word);
    let bind = mount.kind.as_deref() == Some("bind") || has("bind") || has("rbind");
    // A remount changes an existing mount.
    (bind && !has("remount")).then(|| has("rbind"))
}

/// A detached mount of the source. Relative sources start at the bundle.
fn open_source(mount: &mut Mount, bundle: &StdPath, recursive: bool) -> Result<OwnedFd> {
    let source = bundle.join(mount.source.as_deref().unwrap_or_default());
    let source = source.to_string_lossy().into_owned();
    let path = CString::new(source.as_str())
        .map_err(|_| Error::new(format!("{source:?} contains a NUL byte")))?;
    let tree = file::detached_copy(&path, recursive)
        .map_err(|errno| Error::os(format!("mount {source} on {}", mount.destination), errno))?;
    mount.source = Some(source);
    Ok(tree)
}
