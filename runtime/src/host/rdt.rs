//! Intel Resource Director Technology by the files of resctrl (`linux.intelRdt` of config.json;
//! Documentation/filesystems/resctrl.rst of the kernel).

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::facts;
use crate::spec::oci::IntelRdt;

/// Where resctrl is mounted.
///
/// # Errors
/// When it is not.
pub fn mounted() -> Result<PathBuf> {
    let mounts = facts::mounts()?;
    let mount = mounts.into_iter().find(|mount| mount.kind == "resctrl");
    mount.map(|mount| mount.target).ok_or_else(|| {
        Error::new("linux.intelRdt: no resctrl file system is mounted")
            .hint("mount -t resctrl resctrl /sys/fs/resctrl, on a processor that has RDT")
    })
}

/// The group of a container, below `top`: the one that is named, or one of its own.
///
/// # Errors
/// A name that is no file name, or a named group without a schema that does not exist.
pub fn choose(top: &Path, wanted: &IntelRdt, id: &str) -> Result<PathBuf> {
    let name = wanted.clos_id.as_deref().unwrap_or(id);
    if matches!(name, "." | "..") || name.contains('/') {
        return Err(Error::new(format!("linux.intelRdt.closID {name:?}: not a file name")));
    }
    let group = top.join(name);
    if wanted.clos_id.is_some() && schema(wanted).is_empty() && !group.is_dir() {
        return Err(Error::new(format!("linux.intelRdt.closID {name:?}: no such group"))
            .hint("give a schema as well, and it is made"));
    }
    Ok(group)
}

/// Makes the group as far as it is missing, writes its schema, and puts process `pid` into it.
///
/// # Errors
/// What the kernel refuses, in the words of info/last_cmd_status where it has some.
pub fn join(top: &Path, group: &Path, wanted: &IntelRdt, pid: i32, id: &str) -> Result<()> {
    make(group)?;
    let schema = schema(wanted);
    if !schema.is_empty() {
        write(top, &group.join("schemata"), &format!("{schema}\n"))?;
    }
    write(top, &group.join("tasks"), &pid.to_string())?;
    if wanted.enable_monitoring {
        let monitoring = group.join("mon_groups").join(id);
        make(&monitoring)?;
        write(top, &monitoring.join("tasks"), &pid.to_string())?;
    }
    Ok(())
}

/// Takes away what [`join`] made: the monitoring group, and the group unless it was named.
///
/// # Errors
/// What could not be removed. What is gone already is fine.
pub fn release(group: &Path, wanted: &IntelRdt, id: &str) -> Result<()> {
    let remove = |path: &Path| match fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), &e))
        }
        _ => Ok(()),
    };
    if wanted.enable_monitoring {
        remove(&group.join("mon_groups").join(id))?;
    }
    if wanted.clos_id.is_none() { remove(group) } else { Ok(()) }
}

/// All lines for `schemata`. What is about cache in the line for bandwidth is left out, as the
/// specification demands of l3CacheSchema and memBwSchema.
fn schema(wanted: &IntelRdt) -> String {
    let no_mb = |line: &&str| !line.trim_start().starts_with("MB:");
    let cache = wanted.l3_cache_schema.as_deref().unwrap_or("").lines().filter(no_mb);
    let bandwidth = wanted.mem_bw_schema.as_deref().unwrap_or("").lines();
    let lines: Vec<&str> = cache
        .chain(bandwidth)
        .chain(wanted.schemata.iter().map(String::as_str))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.join("\n")
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io(format!("make resctrl group {}", group.display()), &e))
        }
        _ => Ok(()),
    }
}

fn write(top: &Path, file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|e| {
        let error = Error::io(format!("write {text:?} to {}", file.display()), &e);
        match fs::read_to_string(top.join("info/last_cmd_status")) {
            Ok(status) if !status.trim().is_empty() => error.hint(status.trim().to_owned()),
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("garth-rdt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
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
        let group = choose(&top, &wanted, "box").unwrap();
        fs::create_dir_all(group.join("mon_groups")).unwrap();
        join(&top, &group, &wanted, 42, "box").unwrap();
        let read = |path: &str| fs::read_to_string(group.join(path)).unwrap();
        assert_eq!(read("schemata"), "L3:0=f\nMB:0=20\nL2:0=3\n");
        assert_eq!((read("tasks"), read("mon_groups/box/tasks")), ("42".into(), "42".into()));
        // The real file system removes a group with all its files.
        for file in ["schemata", "tasks", "mon_groups/box/tasks"] {
            fs::remove_file(group.join(file)).unwrap();
        }
        fs::remove_dir(group.join("mon_groups/box")).unwrap();
        fs::remove_dir(group.join("mon_groups")).unwrap();
        release(&group, &wanted, "box").unwrap();
        assert!(!group.exists());
        release(&group, &wanted, "box").unwrap();
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_named_group_stays_and_must_be_there_or_have_a_schema() {
        let top = scratch("named");
        let mut wanted = IntelRdt { clos_id: Some("gold".into()), ..IntelRdt::default() };
        assert!(choose(&top, &wanted, "box").unwrap_err().to_string().contains("no such group"));
        wanted.schemata = vec!["L3:0=f".into()];
        let group = choose(&top, &wanted, "box").unwrap();
        join(&top, &group, &wanted, 42, "box").unwrap();
        release(&group, &wanted, "box").unwrap();
        assert!(group.exists());
        wanted.clos_id = Some("../out".into());
        assert!(choose(&top, &wanted, "box").is_err());
        fs::remove_dir_all(top).unwrap();
    }
}
