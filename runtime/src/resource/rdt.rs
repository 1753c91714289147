//! Intel Resource Director Technology through the files of resctrl (`linux.intelRdt` of
//! config.json; Documentation/filesystems/resctrl.rst of the kernel).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::oci::IntelRdt;
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::is_there;
use crate::journal::resource::{Owner, Resource};

/// A container's group in resctrl: the record from which it is created and removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RdtGroup {
    /// Its directory, directly below the mount point of resctrl.
    directory: PathBuf,
    asked: IntelRdt,
}

/// Where resctrl is mounted.
///
/// # Errors
/// It is not mounted.
pub fn mounted() -> Result<PathBuf> {
    let mounts = facts::mounts()?;
    let mount = mounts.into_iter().find(|mount| mount.kind == "resctrl");
    mount.map(|mount| mount.target).ok_or_else(|| {
        Error::new("linux.intelRdt: no resctrl file system is mounted")
            .hint("mount -t resctrl resctrl /sys/fs/resctrl, on a processor that has RDT")
    })
}

impl RdtGroup {
    /// The group of a container, below `top`: the named one, or one of its own.
    ///
    /// # Errors
    /// A name is not a file name, a group is named without a schema and does not exist, or it
    /// exists with another schema.
    pub fn choose(top: &Path, asked: &IntelRdt, id: &str) -> Result<RdtGroup> {
        let name = asked.clos_id.as_deref().unwrap_or(id);
        if matches!(name, "." | "..") || name.contains('/') {
            return Err(Error::new(format!("linux.intelRdt.closID {name:?}: not a file name")));
        }
        let directory = top.join(name);
        let named = asked.clos_id.is_some();
        if named && directory.is_dir() {
            compare(&directory, asked)?;
        } else if named && first_lines(asked).is_empty() && asked.schemata.is_empty() {
            return Err(Error::new(format!("linux.intelRdt.closID {name:?}: no such group"))
                .hint("set a schema too, and it is created"));
        }
        Ok(RdtGroup { directory, asked: asked.clone() })
    }

    /// Creates the group if it is missing, writes its schema, and puts process `pid` into it. An
    /// existing group already has what l3CacheSchema and memBwSchema say, as [`RdtGroup::choose`]
    /// has checked; `schemata` is still written.
    fn join(&self, pid: i32, id: &str) -> Result<()> {
        let made = make(&self.directory)?;
        let own = made || self.asked.clos_id.is_none();
        let mut lines = if own { first_lines(&self.asked) } else { Vec::new() };
        lines.extend(self.asked.schemata.iter().map(String::as_str));
        if !lines.is_empty() {
            self.write(&self.directory.join("schemata"), &(lines.join("\n") + "\n"))?;
        }
        if self.asked.enable_monitoring {
            make(&self.monitoring(id))?;
        }
        self.enter(pid, id)
    }

    /// Puts one more process of container `id` into its group, and into its monitoring group.
    ///
    /// # Errors
    /// The kernel refuses; the message quotes info/last_cmd_status if it is not empty.
    pub fn enter(&self, pid: i32, id: &str) -> Result<()> {
        self.write(&self.directory.join("tasks"), &pid.to_string())?;
        match self.asked.enable_monitoring {
            true => self.write(&self.monitoring(id).join("tasks"), &pid.to_string()),
            false => Ok(()),
        }
    }

    /// Changes its schema by one line.
    ///
    /// # Errors
    /// Same as [`RdtGroup::enter`].
    pub fn change(&self, line: &str) -> Result<()> {
        self.write(&self.directory.join("schemata"), &format!("{line}\n"))
    }

    fn monitoring(&self, id: &str) -> PathBuf {
        self.directory.join("mon_groups").join(id)
    }

    /// What is the container's own: the monitoring group, and the group unless it was named.
    fn own(&self, id: &str) -> Vec<PathBuf> {
        let monitoring = self.asked.enable_monitoring.then(|| self.monitoring(id));
        let group = self.asked.clos_id.is_none().then(|| self.directory.clone());
        monitoring.into_iter().chain(group).collect()
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        fs::write(file, text).map_err(|e| {
            let error = Error::io(format!("write {text:?} to {}", file.display()), &e);
            let top = self.directory.parent().unwrap_or(&self.directory);
            match fs::read_to_string(top.join("info/last_cmd_status")) {
                Ok(status) if !status.trim().is_empty() => error.hint(status.trim().to_owned()),
                _ => error,
            }
        })
    }
}

impl Resource for RdtGroup {
    fn admit(&self, owner: &Owner, pid: i32) -> Result<()> {
        self.join(pid, owner.id)
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        self.own(owner.id).iter().try_for_each(|path| match fs::remove_dir(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", path.display()), &e))
            }
            _ => Ok(()),
        })
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for path in self.own(owner.id) {
            if is_there(&path)? {
                there.push(format!("resctrl group {}", path.display()));
            }
        }
        Ok(there)
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        vec![format!("create {}", self.directory.display())]
    }
}

/// The lines of l3CacheSchema and memBwSchema. If both are set, bandwidth lines in the cache schema
/// are left out, as the specification requires.
fn first_lines(wanted: &IntelRdt) -> Vec<&str> {
    let bandwidth = wanted.mem_bw_schema.as_deref();
    let counts = |line: &&str| bandwidth.is_none() || !line.trim_start().starts_with("MB:");
    let cache = wanted.l3_cache_schema.as_deref().unwrap_or("").lines().filter(counts);
    let lines = cache.chain(bandwidth.unwrap_or("").lines());
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// A group that others created must have the requested schema.
fn compare(group: &Path, wanted: &IntelRdt) -> Result<()> {
    let lines = first_lines(wanted);
    if lines.is_empty() {
        return Ok(());
    }
    let file = group.join("schemata");
    let text =
        fs::read_to_string(&file).map_err(|e| Error::io(format!("read {}", file.display()), &e))?;
    let there: Vec<Share<'_>> = text.lines().flat_map(shares).collect();
    let differs = |line: &&&str| shares(line).any(|share| !there.contains(&share));
    match lines.iter().find(differs) {
        None => Ok(()),
        Some(line) => Err(Error::new(format!(
            "linux.intelRdt: {line}: conflicts with {}: {}",
            file.display(),
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        ))
        .hint("use the same schema, or another closID")),
    }
}

/// The share of one cache or memory controller: its kind, its number, and the amount.
#[derive(PartialEq)]
struct Share<'a>(&'a str, &'a str, Amount<'a>);

#[derive(PartialEq)]
enum Amount<'a> {
    Number(u64),
    Odd(&'a str),
}

/// A line like `L3:0=00ff;1=f` (hexadecimal masks) or `MB:0=20` (decimal); the kernel pads them.
fn shares(line: &str) -> impl Iterator<Item = Share<'_>> {
    let (kind, list) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
    let radix = if kind == "MB" { 10 } else { 16 };
    list.split(';').map(str::trim).filter(|part| !part.is_empty()).map(move |part| {
        let (number, amount) = part.split_once('=').unwrap_or((part, ""));
        let amount = amount.trim();
        let parsed = u64::from_str_radix(amount, radix);
        Share(kind, number.trim(), parsed.map_or(Amount::Odd(amount), Amount::Number))
    })
}

/// Returns whether it is new.
fn make(group: &Path) -> Result<bool> {
    match fs::create_dir(group) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(format!("create resctrl group {}", group.display()), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LimitSource;
    use crate::journal::Journal;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("garth-rdt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn release(group: &RdtGroup) {
        let journal = Journal::at("/nowhere");
        let limits = LimitSource::NONE;
        let owner = Owner { journal: &journal, id: "box", limits, may_kill: true };
        group.release(&owner).unwrap();
        assert!(group.inspect(&owner).unwrap().is_empty());
    }

    #[test]
    fn a_group_of_its_own_has_the_schema_and_the_process() {
        let top = scratch("own");
        let wanted = IntelRdt {
            l3_cache_schema: Some("L3:0=f\nMB:0=10".into()),
            mem_bw_schema: Some("MB:0=20".into()),
            schemata: vec!["L2:0=3".into()],
            enable_monitoring: true,
            ..IntelRdt::default()
        };
        let group = RdtGroup::choose(&top, &wanted, "box").unwrap();
        fs::create_dir_all(group.directory.join("mon_groups")).unwrap();
        group.join(42, "box").unwrap();
        let read = |path: &str| fs::read_to_string(group.directory.join(path)).unwrap();
        assert_eq!(read("schemata"), "L3:0=f\nMB:0=20\nL2:0=3\n");
        assert_eq!((read("tasks"), read("mon_groups/box/tasks")), ("42".into(), "42".into()));
        group.enter(43, "box").unwrap();
        assert_eq!((read("tasks"), read("mon_groups/box/tasks")), ("43".into(), "43".into()));
        // The real file system removes a group together with all its files.
        for file in ["schemata", "tasks", "mon_groups/box/tasks"] {
            fs::remove_file(group.directory.join(file)).unwrap();
        }
        fs::remove_dir(group.directory.join("mon_groups/box")).unwrap();
        fs::remove_dir(group.directory.join("mon_groups")).unwrap();
        release(&group);
        assert!(!group.directory.exists());
        release(&group);
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_named_group_stays_and_must_be_there_or_have_a_schema() {
        let top = scratch("named");
        let mut wanted = IntelRdt { clos_id: Some("gold".into()), ..IntelRdt::default() };
        assert!(
            RdtGroup::choose(&top, &wanted, "box")
                .unwrap_err()
                .to_string()
                .contains("no such group")
        );
        wanted.schemata = vec!["L3:0=f".into()];
        let group = RdtGroup::choose(&top, &wanted, "box").unwrap();
        group.join(42, "box").unwrap();
        release(&group);
        assert!(group.directory.exists());
        wanted.clos_id = Some("../out".into());
        assert!(RdtGroup::choose(&top, &wanted, "box").is_err());
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_group_that_is_there_must_have_the_schema_and_is_not_written_to() {
        let top = scratch("there");
        let there = "    MB:0=100;1= 70\n    L3:0=00ff;1=00f0\n";
        fs::create_dir(top.join("gold")).unwrap();
        let file = top.join("gold/schemata");
        fs::write(&file, there).unwrap();
        let mut wanted = IntelRdt {
            clos_id: Some("gold".into()),
            l3_cache_schema: Some("L3:0=ff;1=f0\nMB:0=5".into()),
            mem_bw_schema: Some("MB:1=70".into()),
            ..IntelRdt::default()
        };
        let group = RdtGroup::choose(&top, &wanted, "box").unwrap();
        group.join(42, "box").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), there);
        for (cache, bandwidth) in [("L3:0=fe", "MB:0=100"), ("L3:0=ff", "MB:0=64"), ("L3:2=f", "")]
        {
            wanted.l3_cache_schema = Some(cache.into());
            wanted.mem_bw_schema = Some(bandwidth.into()).filter(|_| !bandwidth.is_empty());
            let error = RdtGroup::choose(&top, &wanted, "box").unwrap_err().to_string();
            assert!(error.contains("conflicts with"), "{cache} {bandwidth}: {error}");
        }
        wanted = IntelRdt { schemata: vec!["L3:0=7".into()], ..wanted };
        wanted.l3_cache_schema = None;
        RdtGroup::choose(&top, &wanted, "box").unwrap().join(42, "box").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "L3:0=7\n");
        wanted.mem_bw_schema = Some("MB:0=1".into());
        assert!(RdtGroup::choose(&top, &wanted, "box").is_err());
        fs::remove_dir_all(top).unwrap();
    }
}
