//! Where units are: systemd's directories, with drop-ins; and this machine as an import sees it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::name::UnitName;
use super::reader::{MadeAtBoot, PathKind, UnitMachine};
use super::unit::UnitFile;
use crate::error::{Error, Result};
use crate::facts::users::{self, UserEntry};

/// systemd.unit(5), the first wins.
const DIRECTORIES: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// A unit that was found.
#[derive(Debug)]
pub struct FoundUnit {
    /// Its name.
    pub name: UnitName,
    /// The unit, with its drop-ins.
    pub unit: UnitFile,
    /// Where it was.
    pub path: PathBuf,
}

/// Finds a unit by its name, in systemd's directories below `root`, or by its path: a text with a
/// slash.
///
/// # Errors
/// It does not exist, is masked, or is not a unit.
pub fn find(what: &str, root: &Path) -> Result<FoundUnit> {
    let directories: Vec<PathBuf> = DIRECTORIES.iter().map(|dir| root.join(dir)).collect();
    if what.contains('/') {
        let path = PathBuf::from(what);
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = UnitName::parse(file)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        return load(name, path.clone(), &[parent.to_owned()]);
    }
    let name = UnitName::parse(what)?;
    for file in [Some(name.file()), name.template()].into_iter().flatten() {
        for dir in &directories {
            let path = dir.join(&file);
            if fs::symlink_metadata(&path).is_ok() {
                return load(name, path, &directories);
            }
        }
    }
    Err(Error::new(format!("{}: no such unit", name.file()))
        .hint("write the path of its file, or a name that systemctl list-unit-files shows"))
}

fn load(name: UnitName, path: PathBuf, directories: &[PathBuf]) -> Result<FoundUnit> {
    let real = fs::canonicalize(&path).map_err(|e| failed(&path, &e))?;
    if real == Path::new("/dev/null") {
        return Err(Error::new(format!("{}: masked: {}", name.file(), path.display())));
    }
    // An alias is a link: ssh.service is known as sshd.service.
    let target = real.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    let name = match name.template().is_some() || target.contains("@.") {
        true => name,
        false => UnitName::parse(target).unwrap_or(name),
    };
    let mut unit = read(&real)?;
    for drop_in in drop_ins(&name, directories)? {
        unit.add(read(&drop_in)?);
    }
    Ok(FoundUnit { name, unit, path })
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::io(format!("read {}", path.display()), error)
}

fn read(path: &Path) -> Result<UnitFile> {
    let text = fs::read_to_string(path).map_err(|e| failed(path, &e))?;
    UnitFile::parse(&text).map_err(|error| error.within(path.display()))
}

/// `NAME.service.d/*.conf`, also for its prefixes and its template; in the order of their names, of
/// which the first directory's counts.
fn drop_ins(name: &UnitName, directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut of = vec![name.file()];
    of.extend(name.template());
    // foo-bar.service also has what is in foo-.service.d.
    let prefix = name.prefix();
    let dashes = prefix.match_indices('-').filter(|(at, _)| at + 1 < prefix.len());
    of.extend(dashes.map(|(at, _)| format!("{}-.service", &prefix[..at])));
    of.push("service".into());
    let mut found: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for dir in directories {
        for file in &of {
            let dir = dir.join(format!("{file}.d"));
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&dir, &error)),
            };
            for entry in entries {
                let path = entry.map_err(|e| failed(&dir, &e))?.path();
                let named = path.file_name().filter(|_| path.extension() == Some("conf".as_ref()));
                if let Some(file) = named {
                    found.entry(file.to_owned()).or_insert(path);
                }
            }
        }
    }
    // A link to /dev/null hides one.
    found.retain(|_, path| fs::canonicalize(path).ok().as_deref() != Some(Path::new("/dev/null")));
    Ok(found.into_values().collect())
}

/// `d /run/mysqld 0755 mysql root -`.
fn directory(line: &str, file: &str) -> Option<MadeAtBoot> {
    let mut words = line.split_whitespace();
    let is_directory = words.next()?.starts_with(['d', 'D']);
    let path = words.next()?.to_owned();
    let owner = words.nth(1).filter(|owner| *owner != "-").unwrap_or("root");
    is_directory.then(|| MadeAtBoot { path, owner: owner.into(), file: file.into() })
}

/// This machine.
#[derive(Debug)]
pub struct ThisMachine;

impl UnitMachine for ThisMachine {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(PathKind::Directory),
            Ok(_) => Ok(PathKind::Other),
            Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {
                Ok(PathKind::Absent)
            }
            Err(error) => Err(Error::io(format!("stat {}", path.display()), &error)),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<(String, bool)>> {
        let failed = |e: &std::io::Error| failed(path, e);
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
        let readable = metadata.permissions().mode() & 0o004 != 0;
        Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), readable)))
    }

    fn made_at_boot(&self) -> Result<Vec<MadeAtBoot>> {
        let mut made = Vec::new();
        for dir in ["/usr/lib/tmpfiles.d", "/etc/tmpfiles.d"].map(Path::new) {
            let entries = match fs::read_dir(dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(dir, &error)),
            };
            for entry in entries {
                let path = entry.map_err(|e| failed(dir, &e))?.path();
                if path.extension() == Some("conf".as_ref())
                    && let Some((text, _)) = self.read(&path)?
                {
                    let file = path.file_stem().unwrap_or_default().to_string_lossy();
                    made.extend(text.lines().filter_map(|line| directory(line, &file)));
                }
            }
        }
        Ok(made)
    }

    fn user(&self, spec: &str) -> Option<UserEntry> {
        let entry = users::lookup(spec, None).ok()?;
        // A number needs no entry.
        Some(entry).filter(|entry| entry.name.parse::<u32>().is_err())
    }
}
