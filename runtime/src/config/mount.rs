//! Mounts as requested: `-v`, `--rw`, `--tmpfs` and the private ones every sandbox has.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::name::{NAMES, is_name};
use super::units::Size;
use crate::error::{Error, Result};

/// One mount inside the sandbox. Later mounts cover earlier ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Path inside; a relative one is resolved from the caller's directory, like its source.
    #[serde(with = "super::os_path")]
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// What is allowed on it.
    pub access: Access,
    /// Skip it if the target is missing (private directories that a host may not have).
    pub optional: bool,
    /// Where the request came from, for `explain` and for errors: `-v /a:/b`, `default`.
    pub origin: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Path outside; a relative one is resolved from the caller's directory.
        #[serde(with = "super::os_path")]
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A directory that Garth makes for the command's user when it is first used, and never removes.
    Volume {
        /// Its name.
        name: String,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new tmpfs(5).
    Tmpfs {
        /// Upper bound of its contents.
        size: Option<Size>,
        /// Mode of its root directory; `None`: 0770 for the user given for the command, and 1777 if
        /// none was given, as a daemon that starts as root shares the directory with the users it
        /// switches to.
        mode: Option<u32>,
        /// The owner of its root directory.
        owner: MountOwner,
    },
    /// A new proc(5) of the sandbox's own pid namespace.
    Proc {
        /// `hidepid=invisible`: processes of other users are not shown (the word needs Linux 5.8).
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
pub enum MountOwner {
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
    pub fn private(target: &str, size: u64, mode: Option<u32>) -> Mount {
        Mount {
            target: target.into(),
            kind: MountKind::Tmpfs { size: Some(Size(size)), mode, owner: MountOwner::User },
            access: Access { nosuid: true, nodev: true, noexec: true, read_only: false },
            optional: true,
            origin: "default".into(),
        }
    }

    /// `--rw PATH`: the host's path, writable in place.
    pub fn writable(path: impl AsRef<OsStr>) -> Result<Mount> {
        let path = path.as_ref();
        let origin = format!("--rw {}", path.display());
        if path.is_empty() {
            return Err(Error::new(format!("{origin}: no path")));
        }
        Ok(Mount {
            target: path.into(),
            kind: MountKind::Bind { source: path.into(), recursive: true },
            access: Access { nosuid: true, nodev: true, ..Access::default() },
            optional: false,
            origin,
        })
    }

    /// `-v SOURCE:TARGET[:OPTION,...]`, the options of mount(8): ro, rw, noexec, nodev, nosuid and
    /// their opposites; `rec` and `norec` for the mounts below. A colon in a path is written `\:`. A
    /// source without a slash is the name of a volume.
    pub fn volume(text: impl AsRef<OsStr>) -> Result<Mount> {
        let text = text.as_ref();
        let origin = format!("-v {}", text.display());
        let mut parts = split(text);
        if parts.len() < 2 {
            return Err(Error::new(format!("{origin}: no target in the sandbox"))
                .hint("write -v SOURCE:TARGET[:ro]"));
        }
        if parts.len() > 3 {
            return Err(Error::new(format!("{origin}: more than SOURCE:TARGET:OPTIONS"))
                .hint("a colon in a path is written \\:"));
        }
        let options = options(parts.get(2), &origin)?;
        let (target, source) = (parts.swap_remove(1), parts.swap_remove(0));
        if source.is_empty() {
            return Err(Error::new(format!("{origin}: no source on the host"))
                .hint("for an empty directory in memory, use --tmpfs TARGET"));
        }
        let words = options.split(',').filter(|word| !word.is_empty());
        let mount = Mount::bind(&source, &target, words, origin)?;
        match source.as_bytes().contains(&b'/') {
            true => Ok(mount),
            false => mount.of_volume(&source),
        }
    }

    /// The same mount, of a volume.
    fn of_volume(self, name: &OsStr) -> Result<Mount> {
        let recursive = matches!(self.kind, MountKind::Bind { recursive: true, .. });
        let name = name.to_string_lossy().into_owned();
        let mount = Mount { kind: MountKind::Volume { name, recursive }, ..self };
        mount.check().map(|()| mount)
    }

    /// Checks the name of a volume.
    pub(super) fn check(&self) -> Result<()> {
        let MountKind::Volume { name, .. } = &self.kind else { return Ok(()) };
        if is_name(name) {
            return Ok(());
        }
        let shown = name.escape_debug();
        let path = match name.as_str() {
            "." | ".." => format!("{shown}/"),
            _ => format!("./{shown}"),
        };
        Err(Error::new(format!("{}: \"{shown}\" is not a valid volume name", self.origin))
            .hint(format!("{NAMES}; the path of a file or directory has a slash: {path}")))
    }

    /// Whether the source of `-v` with this value is a path; otherwise it is the name of a volume.
    pub(crate) fn is_of_path(volume: &OsStr) -> bool {
        split(volume).first().is_some_and(|source| source.as_bytes().contains(&b'/'))
    }

    /// A bind mount with the options of `-v`.
    pub(super) fn bind<'a>(
        source: &OsStr,
        target: &OsStr,
        words: impl Iterator<Item = &'a str>,
        origin: String,
    ) -> Result<Mount> {
        let mut access = Access { nosuid: true, nodev: true, ..Access::default() };
        let mut recursive = true;
        for word in words {
            match word {
                "rec" | "rbind" => recursive = true,
                "norec" | "bind" => recursive = false,
                _ if access.set(word) => {}
                _ => {
                    return Err(Error::new(format!("{origin}: unknown option {word:?}")).hint(
                        "valid options: ro, rw, noexec, exec, nodev, dev, nosuid, suid, rec, norec",
                    ));
                }
            }
        }
        Ok(Mount {
            target: absolute(target, &origin)?,
            kind: MountKind::Bind { source: source.into(), recursive },
            access,
            optional: false,
            origin,
        })
    }

    /// `--tmpfs TARGET[:OPTION,...]`: `size=64m`, `mode=1777`, `uid=root`, and those of `-v`.
    pub fn tmpfs(text: impl AsRef<OsStr>) -> Result<Mount> {
        let text = text.as_ref();
        let origin = format!("--tmpfs {}", text.display());
        let parts = split(text);
        let (target, options) = match parts.as_slice() {
            [target] => (target, String::new()),
            [target, words] => (target, options(Some(words), &origin)?),
            _ => {
                return Err(Error::new(format!("{origin}: more than TARGET:OPTIONS"))
                    .hint("a colon in a path is written \\:"));
            }
        };
        let mut access = Access { nosuid: true, nodev: true, noexec: true, read_only: false };
        let (mut size, mut mode, mut owner) = (None, None, MountOwner::User);
        for word in options.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("size", value)) => {
                    size = Some(value.parse().map_err(|e: Error| e.within(&origin))?);
                }
                Some(("mode", value)) => {
                    mode = Some(parse_mode(value).ok_or_else(|| {
                        Error::new(format!("{origin}: {value:?} is not an octal mode"))
                            .hint("e.g. mode=1777")
                    })?);
                }
                Some(("owner", "root")) => owner = MountOwner::Root,
                Some(("owner", "user")) => owner = MountOwner::User,
                None if access.set(word) => {}
                _ => {
                    return Err(Error::new(format!("{origin}: unknown option {word:?}")).hint(
                        "valid options: size=, mode=, owner=root|user, ro, rw, noexec, exec, nodev, dev, nosuid, suid",
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

/// The parts between colons; `\:` is a colon in a path, and `\\` a backslash.
fn split(text: &OsStr) -> Vec<OsString> {
    let mut parts = vec![Vec::new()];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let last = parts.len() - 1;
        rest = tail;
        match (first, tail) {
            (b'\\', [escaped @ (b':' | b'\\'), after @ ..]) => {
                parts[last].push(*escaped);
                rest = after;
            }
            (b':', _) => parts.push(Vec::new()),
            _ => parts[last].push(*first),
        }
    }
    parts.into_iter().map(OsString::from_vec).collect()
}

fn options(part: Option<&OsString>, origin: &str) -> Result<String> {
    let Some(words) = part else { return Ok(String::new()) };
    let words = words.to_str().map(str::to_owned);
    words.ok_or_else(|| Error::new(format!("{origin}: the options are not UTF-8")))
}

/// The path of a target, normalized lexically: without `.`, `..` and doubled slashes.
fn absolute(path: &OsStr, origin: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(Error::new(format!("{origin}: {path:?} is not an absolute path")));
    }
    Ok(clean(path))
}

/// Lexically, without `.`, `..` and doubled slashes; above the root is the root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_as_docker_spells_it() {
        let mount = Mount::volume("/srv/www:/var//x/../www/:ro,noexec").unwrap();
        assert_eq!(mount.target, Path::new("/var/www"));
        let source = MountKind::Bind { source: "/srv/www".into(), recursive: true };
        assert_eq!(mount.kind, source);
        assert_eq!(mount.access.words(), "ro,nosuid,nodev,noexec");
    }

    #[test]
    fn odd_volumes_are_refused_by_name() {
        for (text, says) in [
            ("/srv", "no target"),
            ("/srv:x", "not an absolute path"),
            (":/x", "no source"),
            ("/srv:/x:ro:/y", "more than"),
            ("/srv:/x:rox", "unknown option \"rox\""),
            ("..:/x", "\"..\" is not a valid volume name"),
            ("a b:/x", "\"a b\" is not a valid volume name"),
            ("-x:/x", "\"-x\" is not a valid volume name"),
        ] {
            let error = Mount::volume(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_source_without_a_slash_is_a_volume() {
        let mount = Mount::volume("data:/var/lib/db:ro,norec").unwrap();
        assert_eq!(mount.kind, MountKind::Volume { name: "data".into(), recursive: false });
        assert_eq!(mount.access.words(), "ro,nosuid,nodev");
        for (text, is_path) in [("data:/x", false), ("./data:/x", true), (r"a\:b/c:/x", true)] {
            assert_eq!(Mount::is_of_path(OsStr::new(text)), is_path, "{text}");
        }
        let error = Mount::volume("..:/x").unwrap_err().to_string();
        assert!(error.ends_with(" ../"), "{error}");
    }

    #[test]
    fn a_colon_in_a_path_is_escaped_and_paths_need_be_no_text() {
        let of = |text: &[u8]| {
            let mount = Mount::volume(OsStr::from_bytes(text)).unwrap();
            let MountKind::Bind { source, .. } = &mount.kind else { panic!("{mount:?}") };
            (source.as_os_str().as_bytes().to_vec(), mount.target.as_os_str().as_bytes().to_vec())
        };
        assert_eq!(of(br"/a\:b:/c\\d\e:ro"), (b"/a:b".to_vec(), br"/c\d\e".to_vec()));
        assert_eq!(of(b"./x\xff:/y\xfe"), (b"./x\xff".to_vec(), b"/y\xfe".to_vec()));
        let mount = Mount::writable(OsStr::from_bytes(b"/z\xff")).unwrap();
        let record = serde_json::to_string(&mount).unwrap();
        assert_eq!(serde_json::from_str::<Mount>(&record).unwrap(), mount);
    }

    #[test]
    fn a_tmpfs_takes_size_and_mode() {
        let mount = Mount::tmpfs("/cache:size=64m,mode=1777,exec").unwrap();
        let kind = MountKind::Tmpfs {
            size: Some(Size(64 << 20)),
            mode: Some(0o1777),
            owner: MountOwner::User,
        };
        assert_eq!(mount.kind, kind);
        assert_eq!(mount.access.words(), "rw,nosuid,nodev");
        assert!(Mount::tmpfs("/cache:mode=9").is_err());
        assert!(Mount::tmpfs("/cache:size=lots").unwrap_err().to_string().contains("lots"));
    }
}
