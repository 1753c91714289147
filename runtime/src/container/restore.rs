//! `restore`: starts a container from files.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::criu::{Criu, DESCRIPTORS, Images, external_mounts, external_namespaces};
use super::prepare;
use super::record::ContainerRecord;
use super::terminal::StandardFiles;
use super::{AfterEnd, CreateOptions, Detached, create, delete};
use crate::cgroup::{Hierarchy, Version};
use crate::container::parent::write_pid_file;
use crate::error::{Error, Result};
use crate::journal::resource::Held;
use crate::journal::{Entry, Journal, ProcessId};
use crate::start::Process;
use crate::sys::process::{Ended, Signals};
use crate::sys::{file, mntns};

/// How a container is restored.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// Options shared with `checkpoint`.
    pub images: Images,
    /// Same as for `run`: the bundle, and where to write the process id.
    pub options: CreateOptions,
    /// `TYPE:NAME`: a different LSM profile.
    pub lsm_profile: Option<String>,
    /// A different context for mounts.
    pub lsm_mount_context: Option<String>,
}

/// Makes a container from images, and waits for its end unless detached; then the result is `None`.
///
/// # Errors
/// criu is missing or failed; nothing is left behind.
pub fn restore(
    journal: &Journal,
    id: &str,
    how: &Restore,
    (detached, ending): (Detached, AfterEnd),
) -> Result<Option<Ended>> {
    let signals = match detached {
        Detached::Yes => None,
        Detached::No => Some(Signals::block().map_err(|errno| Error::os("block signals", errno))?),
    };
    let (record, process) = make(journal, id, how, &StandardFiles::Inherited)?;
    let Some(signals) = signals else { return Ok(None) };
    let warn = &how.options.warn;
    let foreground = create::Foreground { signals: &signals, terminal: None, ending, warn };
    create::wait(journal, record, &process, foreground).map(Some)
}

/// Same as [`restore`], for a caller that looks after the container and says what its standard files are: its process is a
/// child of this one, and runs when this returns.
///
/// # Errors
/// The same.
pub fn restore_child(
    journal: &Journal,
    id: &str,
    how: &Restore,
    files: &StandardFiles,
) -> Result<Process> {
    make(journal, id, how, files).map(|(_, process)| process)
}

fn make(
    journal: &Journal,
    id: &str,
    how: &Restore,
    files: &StandardFiles,
) -> Result<(ContainerRecord, Process)> {
    // Before anything is made.
    let mut criu = how.images.command("restore", "restore.log")?;
    let (entry, mut record) = prepare::place(journal, id, &how.options)?;
    let mut held = Held::new();
    let revived = prepare::provide(&entry, &mut record, &how.options.warn)
        .and_then(|()| revive(&entry, &record, how, (&mut criu, files), &mut held));
    match revived {
        Ok(process) => Ok((record, process)),
        Err(error) => {
            let _ = delete::release(entry, Some(record), &how.options.warn);
            Err(error)
        }
    }
}

fn revive(
    entry: &Entry,
    record: &ContainerRecord,
    how: &Restore,
    (criu, files): (&mut Criu, &StandardFiles),
    held: &mut Held,
) -> Result<Process> {
    let config = &record.asked.config;
    if let Some(hooks) = &config.hooks
        && !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty())
    {
        return Err(Error::new("restore: hooks prestart and createRuntime cannot be run")
            .hint("join an existing network namespace by path instead"));
    }
    let owner = record.owner(entry.journal());
    if record.resources.cgroup.is_scope() {
        return Err(Error::new(
            "restore: systemd scopes are not supported, as criu creates the processes",
        )
        .hint("leave out --systemd-cgroup"));
    }
    *held = record.resources.acquire(&owner)?;
    let command = &mut criu.command;
    // We must be its parent, not criu.
    command.args(["--restore-detached", "--restore-sibling"]);
    let pid_file = entry.file("restored");
    command.arg("--pidfile").arg(&pid_file);
    for (at, source) in external_mounts(record)? {
        command.arg("--external").arg(format!("mnt[{at}]:{source}"));
    }
    for (controllers, path) in cgroup_roots(record)? {
        command.arg("--cgroup-root").arg(format!("{controllers}:{path}"));
    }
    let mut passed = Vec::new();
    for (_, path, name) in external_namespaces(record) {
        let open = File::options().read(true).custom_flags(libc::O_CLOEXEC).open(&path);
        let open = open.map_err(|e| Error::io(format!("open namespace {}", path.display()), &e))?;
        file::inherit(&open).map_err(|errno| Error::os("pass a namespace to criu", errno))?;
        command.arg("--inherit-fd").arg(format!("fd[{}]:{name}", open.as_raw_fd()));
        passed.push(open);
    }
    for (index, name) in descriptors(&how.images.path()?)?.iter().enumerate() {
        if !(name.starts_with("pipe:") || name.starts_with("file[")) {
            continue;
        }
        let mut number = index as RawFd;
        if let StandardFiles::Given(files) = files
            && let Some(file) = files.get(index)
        {
            let copied = file.try_clone().map_err(|e| Error::io("copy a descriptor", &e))?;
            let copied = File::from(copied);
            file::inherit(&copied).map_err(|errno| Error::os("pass a file to criu", errno))?;
            number = copied.as_raw_fd();
            passed.push(copied);
        }
        command.arg("--inherit-fd").arg(format!("fd[{number}]:{name}"));
    }
    for (flag, value) in
        [("--lsm-profile", &how.lsm_profile), ("--lsm-mount-context", &how.lsm_mount_context)]
    {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    let root = PathBuf::from(config.root.as_ref().map_or("", |root| root.path.as_str()));
    command.arg("--root").arg(&root);
    // criu needs the root to be a mount of its own; the host does not need that mount.
    mntns::with_own_mount(&root, || criu.run())
        .map_err(|errno| Error::os(format!("mount {} for criu", root.display()), errno))??;
    let text = fs::read_to_string(&pid_file)
        .map_err(|e| Error::io(format!("read {}", pid_file.display()), &e))?;
    let _ = fs::remove_file(&pid_file);
    let pid = text.trim().parse();
    let pid =
        pid.map_err(|_| Error::new(format!("restore: invalid process id {text:?} from criu")))?;
    let process = Process::adopt(pid)?;
    let recorded = ProcessId::of(pid).and_then(|id| entry.write_process(&id));
    let admitted = recorded.and_then(|()| record.resources.admit(&owner, pid));
    let connected = admitted.and_then(|()| record.resources.connect(&owner, pid)).and_then(|()| {
        // criu does not know resctrl.
        if let Some(group) = &record.resources.rdt {
            let others = record.resources.cgroup.pids()?.into_iter().filter(|other| *other != pid);
            others.into_iter().try_for_each(|other| group.enter(other, &record.id))?;
        }
        match &how.options.pid_file {
            Some(path) => write_pid_file(path, pid),
            None => Ok(()),
        }
    });
    if let Err(error) = connected {
        process.kill();
        return Err(error);
    }
    Ok(process)
}

/// The container's cgroup in each tree, in criu's form: controllers, and the path from the root of
/// the tree.
fn cgroup_roots(record: &ContainerRecord) -> Result<Vec<(String, String)>> {
    let host = Hierarchy::read()?;
    let paths = record.resources.cgroup.paths();
    let mut roots = Vec::new();
    for mount in &host.mounts {
        let names: Vec<&str> = match mount.version {
            Version::V1 => mount.controllers.iter().map(|one| one.v1_name()).collect(),
            Version::V2 => vec![""],
        };
        let Some(own) = names.first().and_then(|name| paths.get(*name)) else { continue };
        let Ok(below) = own.strip_prefix(&mount.point) else { continue };
        let path = Path::new("/").join(mount.root.trim_start_matches('/')).join(below);
        roots.push((names.join(","), path.to_string_lossy().into_owned()));
    }
    Ok(roots)
}

/// The standard descriptors at the time of the checkpoint.
fn descriptors(images: &Path) -> Result<Vec<String>> {
    let file = images.join(DESCRIPTORS);
    let text = fs::read(&file).map_err(|e| {
        Error::io(format!("read {}", file.display()), &e).hint("there is no checkpoint there")
    })?;
    serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: {e}", file.display())))
}
