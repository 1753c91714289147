//! Mounts as asked for: `-v`, `--rw`, `--tmpfs` and the private ones every sandbox has.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::units::Size;
use crate::error::{Error, Result};

/// One mount inside the sandbox. Later mounts lie over earlier ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// What may be done with it.
    pub access: Access,
    /// Leave it out when the target is missing (the private directories that a host may not have).
    pub optional: bool,
    /// Where the wish came from, for `explain` and for errors: `-v /a:/b`, `default`.
    pub origin: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path outside.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new tmpfs(5).
    Tmpfs {
        /// Upper bound of its contents.
        size: Option<Size>,
        /// Mode of its root directory.
        mode: u32,
        /// Who owns its root directory.
        owner: Owner,
    },
    /// A new proc(5) of the sandbox's own pid namespace.
    Proc {
        /// `hidepid=invisible`: processes of other users are not shown (Linux 5.8 for the word).
        hidepid: bool,
    },
    /// A new sysfs(5), which shows the sandbox's own network namespace.
    Sysfs,
    /// A new instance of devpts.
    Devpts,
    /// A small tmpfs with null, zero, full, random, urandom, tty and the usual links.
    Dev,
}

/// The owner of a new file system's root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// Root, as the sandbox sees it.
    Root,
    /// The user that the command runs as.
    User,
}

/// Mount attributes; the default allows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device files cannot be opened.
    pub nodev: bool,
    /// Files cannot be executed.
    pub noexec: bool,
}

impl Access {
    /// `ro,nosuid,nodev,noexec`, as mount(8) spells them.
    pub fn words(self) -> String {
        let mut words = vec![if self.read_only { "ro" } else { "rw" }];
        for (on, word) in [(self.nosuid, "nosuid"), (self.nodev, "nodev"), (self.noexec, "noexec")]
        {
            if on {
                words.push(word);
            }
        }
        words.join(",")
    }

    fn set(&mut self, word: &str) -> bool {
        match word {
            "ro" | "readonly" => self.read_only = true,
            "rw" => self.read_only = false,
            "nosuid" => self.nosuid = true,
            "suid" => self.nosuid = false,
            "nodev" => self.nodev = true,
            "dev" => self.nodev = false,
            "noexec" => self.noexec = true,
            "exec" => self.noexec = false,
            _ => return false,
        }
        true
    }
}

impl Mount {
    /// A private tmpfs: noexec, nosuid, nodev, and gone when the sandbox ends.
    pub fn private(target: &str, size: u64, mode: u32, owner: Owner) -> Mount {
        Mount {
            target: target.into(),
            kind: MountKind::Tmpfs { size: Some(Size(size)), mode, owner },
            access: Access { nosuid: true, nodev: true, noexec: true, read_only: false },
            optional: true,
            origin: "default".into(),
        }
    }

    /// `--rw PATH`: the host's path, writable in place.
    pub fn writable(path: &str) -> Result<Mount> {
        let origin = format!("--rw {path}");
        let path = absolute(path, &origin)?;
        Ok(Mount {
            target: path.clone(),
            kind: MountKind::Bind { source: path, recursive: true },
            access: Access { nosuid: true, nodev: true, ..Access::default() },
            optional: false,
            origin,
        })
    }

    /// `-v SOURCE:TARGET[:OPTION,...]`, the options of mount(8): ro, rw, noexec, nodev, nosuid and
    /// their opposites; `rec` and `norec` for the mounts below.
    pub fn volume(text: &str) -> Result<Mount> {
        let origin = format!("-v {text}");
        let mut parts = text.splitn(3, ':');
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) => (source, target),
            _ => {
                return Err(Error::new(format!("{origin}: no target in the sandbox"))
                    .hint("write -v SOURCE:TARGET[:ro]"));
            }
        };
        let mut access = Access { nosuid: true, nodev: true, ..Access::default() };
        let mut recursive = true;
        for word in parts.next().into_iter().flat_map(|options| options.split(',')) {
            match word {
                "rec" | "rbind" => recursive = true,
                "norec" | "bind" => recursive = false,
                _ if access.set(word) => {}
                _ => {
                    return Err(Error::new(format!("{origin}: unknown option {word:?}")).hint(
                        "known are ro, rw, noexec, exec, nodev, dev, nosuid, suid, rec, norec",
                    ));
                }
            }
        }
        Ok(Mount {
            target: absolute(target, &origin)?,
            kind: MountKind::Bind { source: absolute(source, &origin)?, recursive },
            access,
            optional: false,
            origin,
        })
    }

    /// `--tmpfs TARGET[:OPTION,...]`: `size=64m`, `mode=1777`, `uid=root`, and as for `-v`.
    pub fn tmpfs(text: &str) -> Result<Mount> {
        let origin = format!("--tmpfs {text}");
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut access = Access { nosuid: true, nodev: true, noexec: true, read_only: false };
        let (mut size, mut mode, mut owner) = (None, 0o770, Owner::User);
        for word in options.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("size", value)) => {
                    size = Some(value.parse().map_err(|e: Error| e.within(&origin))?);
                }
                Some(("mode", value)) => {
                    mode = parse_mode(value).ok_or_else(|| {
                        Error::new(format!("{origin}: {value:?} is not an octal mode"))
                            .hint("as in mode=1777")
                    })?;
                }
                Some(("owner", "root")) => owner = Owner::Root,
                Some(("owner", "user")) => owner = Owner::User,
                None if access.set(word) => {}
                _ => {
                    return Err(Error::new(format!("{origin}: unknown option {word:?}")).hint(
                        "known are size=, mode=, owner=root|user, ro, rw, noexec, exec, nodev, dev, nosuid, suid",
                    ));
                }
            }
        }
        Ok(Mount {
            target: absolute(target, &origin)?,
            kind: MountKind::Tmpfs { size, mode, owner },
            access,
            optional: false,
            origin,
        })
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// `path`, absolute, without `.` and `..` and doubled slashes.
fn absolute(path: &str, origin: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(Error::new(format!("{origin}: {path:?} is not an absolute path")));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::new(format!("{origin}: {path:?} has a .. in it")));
            }
            _ => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_as_docker_spells_it() {
        let mount = Mount::volume("/srv//www/:/var/www:ro,noexec").unwrap();
        assert_eq!(mount.target, Path::new("/var/www"));
        let source = MountKind::Bind { source: "/srv/www".into(), recursive: true };
        assert_eq!(mount.kind, source);
        assert_eq!(mount.access.words(), "ro,nosuid,nodev,noexec");
    }

    #[test]
    fn odd_volumes_are_refused_by_name() {
        for (text, says) in [
            ("/srv", "no target"),
            ("srv:/x", "not an absolute path"),
            ("/srv:x", "not an absolute path"),
            ("/srv:/a/../b", "has a .."),
            ("/srv:/x:rox", "unknown option \"rox\""),
        ] {
            let error = Mount::volume(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_tmpfs_takes_size_and_mode() {
        let mount = Mount::tmpfs("/cache:size=64m,mode=1777,exec").unwrap();
        let kind =
            MountKind::Tmpfs { size: Some(Size(64 << 20)), mode: 0o1777, owner: Owner::User };
        assert_eq!(mount.kind, kind);
        assert_eq!(mount.access.words(), "rw,nosuid,nodev");
        assert!(Mount::tmpfs("/cache:mode=9").is_err());
        assert!(Mount::tmpfs("/cache:size=lots").unwrap_err().to_string().contains("lots"));
    }
}
