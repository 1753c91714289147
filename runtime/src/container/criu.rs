//! Shared by `checkpoint` and `restore`: criu(8), which does both, and what it must be told about a
//! container. It is driven by its command line; its own messages are in the log it writes.
//!
//! External resources are named on both sides: mounts whose source is on the host, namespaces that
//! were joined, and the files given to the container as its standard descriptors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::record::ContainerRecord;
use super::{linux, mounts};
use crate::cgroup::Hierarchy;
use crate::config::oci::NamespaceType;
use crate::error::{Error, Result};
use crate::sys::program;

/// Options of both verbs.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// The criu binary; `None`: `criu`, looked up in PATH.
    pub criu: Option<PathBuf>,
    /// Where the images are; `None`: `checkpoint` in the current directory.
    pub image_path: Option<PathBuf>,
    /// Where the logs go; `None`: next to the images.
    pub work_path: Option<PathBuf>,
    /// Keep established TCP connections.
    pub tcp_established: bool,
    /// Allow Unix sockets whose other end is outside.
    pub ext_unix_sk: bool,
    /// The session and the terminal are the caller's.
    pub shell_job: bool,
    /// Keep file locks.
    pub file_locks: bool,
    /// Fetch memory on demand.
    pub lazy_pages: bool,
    /// Punch pages that were fetched out of the images.
    pub auto_dedup: bool,
    /// `soft`, `full`, `strict` or `ignore`.
    pub manage_cgroups: Option<String>,
    /// Namespaces whose contents are left out: `network`.
    pub empty_ns: Vec<String>,
}

/// The descriptors the container was started with, in a file named as runc names it.
pub const DESCRIPTORS: &str = "descriptors.json";

/// Names for namespaces that were joined.
const EXTERNAL: [(NamespaceType, &str, &str); 2] =
    [(NamespaceType::Network, "net", "extRootNetNS"), (NamespaceType::Pid, "pid", "extRootPidNS")];

impl Images {
    /// The absolute path of the image directory.
    pub fn path(&self) -> Result<PathBuf> {
        absolute(self.image_path.as_deref().unwrap_or(Path::new("checkpoint")))
    }

    fn work(&self) -> Result<PathBuf> {
        match &self.work_path {
            Some(path) => absolute(path),
            None => self.path(),
        }
    }

    /// criu with the verb and the options both verbs share.
    pub fn command(&self, verb: &str, log: &str) -> Result<Criu> {
        let criu = self.criu.clone().unwrap_or("criu".into());
        if !program::is_there(&criu) {
            return Err(Error::new(format!("{verb}: criu is not installed"))
                .hint("install the package criu"));
        }
        let (images, work) = (self.path()?, self.work()?);
        fs::create_dir_all(&work)
            .map_err(|e| Error::io(format!("create --work-path {}", work.display()), &e))?;
        let mut command = program::with_descriptors(criu);
        command.arg(verb).arg("--images-dir").arg(&images).arg("--work-dir").arg(&work);
        command.args(["--log-file", log, "-v4"]);
        let mode = self.manage_cgroups.as_deref().unwrap_or("soft");
        if !["soft", "full", "strict", "ignore"].contains(&mode) {
            return Err(Error::new(format!("--manage-cgroups-mode {mode}: unknown mode"))
                .hint("use soft, full, strict or ignore"));
        }
        command.arg(format!("--manage-cgroups={mode}"));
        for (asked, flag) in [
            (self.tcp_established, "--tcp-established"),
            (self.ext_unix_sk, "--ext-unix-sk"),
            (self.shell_job, "--shell-job"),
            (self.file_locks, "--file-locks"),
            (self.lazy_pages, "--lazy-pages"),
            (self.auto_dedup, "--auto-dedup"),
        ] {
            if asked {
                command.arg(flag);
            }
        }
        for namespace in &self.empty_ns {
            if namespace != "network" {
                return Err(Error::new(format!(
                    "--empty-ns {namespace}: namespace is not supported"
                ))
                .hint("only network is supported"));
            }
            command.args(["--empty-ns", "net"]);
        }
        Ok(Criu { command, verb: verb.to_owned(), log: work.join(log) })
    }
}

/// One run of criu.
pub struct Criu {
    /// The command line so far.
    pub command: Command,
    verb: String,
    log: PathBuf,
}

impl Criu {
    /// # Errors
    /// criu failed; with the first error in its log.
    pub fn run(&mut self) -> Result<()> {
        let verb = &self.verb;
        let status =
            self.command.status().map_err(|e| Error::io(format!("{verb}: run criu"), &e))?;
        if status.success() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        // `(00.012345) Error (criu/file.c:12): words`; the first error is the cause.
        let first = log.lines().find_map(|line| line.split_once("Error (")?.1.split_once("): "));
        let words =
            first.map_or("no reason given".to_owned(), |(_, words)| words.trim().to_owned());
        Err(Error::new(format!("{verb}: criu failed: {words}")).hint(format!(
            "see its log {}; criu check shows what this kernel lacks",
            self.log.display()
        )))
    }
}

/// The mounts of a container whose source is outside: the path inside, and the source.
pub fn external_mounts(record: &ContainerRecord) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for mount in &record.asked.config.mounts {
        if mounts::bind(mount).is_some() {
            let source = mount.source.clone().unwrap_or_default();
            all.push((mount.destination.clone(), source));
        } else if mount.kind.as_deref() == Some("cgroup") && !record.resources.cgroup.unified_only()
        {
            for inside in record.resources.cgroup.inside(&Hierarchy::read()?) {
                let at = Path::new(&mount.destination).join(&inside.name);
                let source = inside.own.to_string_lossy().into_owned();
                all.push((at.to_string_lossy().into_owned(), source));
            }
        }
    }
    // Masked files have /dev/null over them; masked directories have a file system of their own.
    let root = record.rootfs();
    for path in linux(&record.asked.config).masked_paths {
        let in_proc = path.starts_with("/proc/") || path.starts_with("/sys/");
        let there = match in_proc {
            true => PathBuf::from(&path),
            false => root.join(path.trim_start_matches('/')),
        };
        if fs::symlink_metadata(&there).is_ok_and(|file| !file.is_dir()) {
            all.push((path, "/dev/null".into()));
        }
    }
    Ok(all)
}

/// The namespaces that were joined: criu's name for the type, the file, and the name both verbs
/// use.
pub fn external_namespaces(record: &ContainerRecord) -> Vec<(&'static str, PathBuf, &'static str)> {
    let linux = linux(&record.asked.config);
    let path = |kind| linux.namespace(kind).and_then(|namespace| namespace.path.clone());
    let joined = EXTERNAL.iter().filter_map(|(kind, word, name)| {
        path(*kind).map(|path| (*word, PathBuf::from(path), *name))
    });
    joined.collect()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(format!("{}", path.display()), &e))
}
