//! A volume as a resource of a sandbox or container: it is assembled if need be, its user is on
//! record, and it is mounted for that user alone (`mount.rs`). A release ends the use; the volume
//! stays as it is, assembled or not, and nothing of its content or superblocks is touched.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::mount;
use super::program::Assembly;
use super::record::{FileSystem, VolumePhase, VolumeRecord, check_volume_name};
use super::status::{VolumeHealth, VolumeStatus};
use super::users::VolumeUser;
use super::verbs;
use crate::config::{MountKind, Provided, ProvidedMount, Sandbox, annotation};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::resource::{Owner, Resource};
use crate::journal::{Entry, Journal};

/// How long another process may work on the volume: it may be assembling it too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A volume that is mounted for a sandbox or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUse {
    /// The volume.
    pub name: String,
    /// The state directory in which it is on record.
    pub root: PathBuf,
    /// Where it appears inside.
    pub targets: Vec<PathBuf>,
    /// The mounts that a container gets; those of a sandbox are among what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provides: Vec<ProvidedMount>,
}

impl VolumeUse {
    /// Whether there is a RAID volume of this name.
    ///
    /// # Errors
    /// It cannot be determined; or a directory has the name too (`journal/volumes.rs`), so that it
    /// is not certain what is meant.
    pub fn is_of(journal: &Journal, name: &str) -> Result<bool> {
        if check_volume_name(name).is_err() || !journal.raid().has(name)? {
            return Ok(false);
        }
        match journal.volume(name)? {
            None => Ok(true),
            Some(_) => Err(both(journal, name)),
        }
    }

    /// The state directories in which the volumes of an owner may be on record: its own; and, as
    /// engines have one of theirs for their containers, that of the user.
    pub fn roots(journal: &Journal) -> Vec<PathBuf> {
        let mut roots = vec![journal.root().to_owned()];
        if !roots.contains(&Journal::default_root()) {
            roots.push(Journal::default_root());
        }
        roots
    }

    /// The RAID volumes among what is mounted in a sandbox.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn of_sandbox(sandbox: &Sandbox, journal: &Journal) -> Result<Vec<VolumeUse>> {
        let mut found: Vec<VolumeUse> = Vec::new();
        for mount in &sandbox.mounts {
            let MountKind::Volume { name, .. } = &mount.kind else { continue };
            match found.iter_mut().find(|one| one.name == *name) {
                Some(one) => one.targets.push(mount.target.clone()),
                None if VolumeUse::is_of(journal, name).map_err(|e| e.within(&mount.origin))? => {
                    let (name, root) = (name.clone(), journal.root().to_owned());
                    let targets = vec![mount.target.clone()];
                    found.push(VolumeUse { name, root, targets, provides: Vec::new() });
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// Those that the annotations of a container ask for.
    ///
    /// # Errors
    /// A value is invalid, or there is no such volume.
    pub fn of_container(
        annotations: &BTreeMap<String, String>,
        journal: &Journal,
    ) -> Result<Vec<VolumeUse>> {
        let mut found: Vec<VolumeUse> = Vec::new();
        for (name, mount) in annotation::volumes(annotations)? {
            if !found.iter().any(|one| one.name == name) {
                let (targets, provides) = (Vec::new(), Vec::new());
                let root = VolumeUse::root_of(journal, &name)?;
                found.push(VolumeUse { name: name.clone(), root, targets, provides });
            }
            let Some(one) = found.iter_mut().find(|one| one.name == name) else { continue };
            let words = mount.access.words();
            one.provides.push(ProvidedMount {
                destination: mount.target.clone(),
                source: one.path(),
                options: words.split(',').chain(["norec"]).map(str::to_owned).collect(),
            });
            one.targets.push(mount.target);
        }
        Ok(found)
    }

    fn root_of(journal: &Journal, name: &str) -> Result<PathBuf> {
        check_volume_name(name)?;
        for root in VolumeUse::roots(journal) {
            if Journal::at(&root).raid().has(name)? {
                return Ok(root);
            }
        }
        Err(Error::new(format!("no RAID volume named {name}")).hint("garth volume ls lists them"))
    }

    /// What it is called where a path is expected.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/md").join(format!("garth-{}", self.name))
    }

    /// Mounts it, attached nowhere; an empty one is first given to `owner`, a user and group of this
    /// machine, if there is one.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(&self, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
        let status = self.status()?;
        let device = status.device.as_ref().ok_or_else(|| Error::new("it was stopped"));
        let mounted = device
            .and_then(|device| mount::detached(Path::new(device), status.file_system))
            .and_then(|mount| {
                owner.map_or(Ok(()), |owner| mount::give_if_empty(&mount, owner))?;
                Ok(mount)
            });
        mounted.map_err(|error| self.within(error))
    }

    /// How it is.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn status(&self) -> Result<VolumeStatus> {
        verbs::status(&Journal::at(&self.root), &self.name)
    }

    fn raid(&self) -> Journal {
        Journal::at(&self.root).raid()
    }

    fn within(&self, error: Error) -> Error {
        error.within(format_args!("RAID volume {}", self.name))
    }

    /// Puts the user on record and assembles the volume; what the user should know.
    fn prepare(&self, owner: &Owner) -> Result<Vec<String>> {
        if facts::confined() || !facts::privileged() {
            return Err(Error::new("only root can mount it")
                .hint("the kernel mounts disks for root of the machine only"));
        }
        let raid = self.raid();
        let entry = self.hold(&raid)?;
        let volume: VolumeRecord = VolumeRecord::read(&raid, &self.name)?;
        if volume.file_system == FileSystem::None {
            return Err(Error::new("it was made without a file system")
                .hint("it can be used as a block device only: garth volume status shows which"));
        }
        VolumeUser::of(owner).add(&raid, &self.name)?;
        let mut remarks = Vec::new();
        let ready = volume.phase == VolumePhase::Ready;
        // It stays held.
        let (_entry, status) = match ready.then(|| self.status()).transpose()? {
            Some(status) if status.device.is_some() => (Some(entry), status),
            _ => {
                let lines = std::cell::RefCell::new(Vec::new());
                let tell = |line: &str| lines.borrow_mut().push(line.to_owned());
                let assembled = verbs::assemble_held(entry, volume, Assembly::default(), &tell);
                let entry = assembled.map_err(|error| match ready {
                    true => error.hint(format!(
                        "garth volume assemble --degraded {} goes on without what is lost",
                        self.name
                    )),
                    false => error,
                })?;
                remarks.push(format!("RAID volume {} was stopped: it is assembled", self.name));
                remarks.extend(lines.into_inner());
                (entry, self.status()?)
            }
        };
        match status.health {
            VolumeHealth::Healthy => {}
            VolumeHealth::Degraded => remarks.push(self.words(&status)),
            VolumeHealth::Stopped | VolumeHealth::Failed => {
                return Err(Error::new("some of its data cannot be reached")
                    .hint(format!("garth volume status {} shows what is missing", self.name)));
            }
        }
        Ok(remarks)
    }

    fn hold(&self, raid: &Journal) -> Result<Entry> {
        let end = Instant::now() + PATIENCE;
        loop {
            match raid.lock(&self.name)? {
                Some(entry) => return Ok(entry),
                None if Instant::now() > end => {
                    return Err(Error::new("another process is working on it"));
                }
                None => sleep(Duration::from_millis(10)),
            }
        }
    }

    /// How it is, in a line: `RAID volume data is degraded, may still lose any 1 device`.
    pub fn words(&self, status: &VolumeStatus) -> String {
        format!("RAID volume {} {}", self.name, status.in_words())
    }

    fn places(&self) -> String {
        let places: Vec<String> = self.targets.iter().map(|at| at.display().to_string()).collect();
        places.join(", ")
    }
}

/// A RAID volume and a directory have one name.
fn both(journal: &Journal, name: &str) -> Error {
    let dir = journal.volume_path(name).unwrap_or_default();
    Error::new(format!("{name} is a RAID volume, and the directory {}", dir.display()))
        .hint("rename the directory, or mount it by its path")
}

impl Resource for VolumeUse {
    fn provide(&self, owner: &Owner) -> Result<Option<Provided>> {
        let remarks = self.prepare(owner).map_err(|error| self.within(error))?;
        let origin = format!("RAID volume {}", self.name);
        let mounts = self.provides.clone();
        Ok(Some(Provided { origin, mounts, remarks, ..Provided::default() }))
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        VolumeUser::of(owner).remove(&self.raid(), &self.name)
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let raid = self.raid();
        let user = VolumeUser::of(owner);
        if !VolumeUser::all(&raid, &self.name)?.iter().any(|(_, one)| *one == user) {
            return Ok(Vec::new());
        }
        let status = self.status()?;
        let device = status.device.as_deref().unwrap_or("no device");
        Ok(vec![format!("{}: {device} at {}", self.words(&status), self.places())])
    }

    fn lacks(&self, _: &Owner) -> Result<Vec<String>> {
        let status = self.status()?;
        Ok(match status.health {
            VolumeHealth::Healthy => Vec::new(),
            _ => vec![self.words(&status)],
        })
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        let how = match self.status() {
            Ok(status) if status.device.is_none() && status.phase == VolumePhase::Ready => {
                format!("assemble RAID volume {} (garth volume assemble)", self.name)
            }
            Ok(status) => self.words(&status),
            Err(error) => format!("RAID volume {}: {error}", self.name),
        };
        vec![format!("{how}, mount it for {}, attached nowhere else", self.places())]
    }
}
