//! The options of a mount: one table, used by both the parser and `features` (config.md, "Linux
//! mount options").

use super::Mount;
use crate::error::{Error, Result};

/// What the options of a mount request, in the numbers of mount_setattr(2) and mount(2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// MOUNT_ATTR_* to set on the mount.
    pub set: u64,
    /// MOUNT_ATTR_* to clear on it. The access time is a field of several bits: setting it clears
    /// all of MOUNT_ATTR__ATIME, as mount_setattr(2) demands.
    pub clear: u64,
    /// MOUNT_ATTR_* to set on the mount and all below it.
    pub recursive_set: u64,
    /// MOUNT_ATTR_* to clear on the mount and all below it.
    pub recursive_clear: u64,
    /// A bind mount; true: with the mounts below the source.
    pub bind: Option<bool>,
    /// MS_SHARED and the like, to be applied in order; true: on all mounts below as well.
    pub propagation: Vec<(u64, bool)>,
    /// A tmpfs starts with a copy of what it covers.
    pub tmpcopyup: bool,
    /// An id-mapped mount; true: on all mounts below as well.
    pub idmap: Option<bool>,
    /// The mount exists and is changed.
    pub remount: bool,
    /// Flags of the superblock, as FSCONFIG_SET_FLAG takes them: `sync`, `lazytime`, or their
    /// opposites.
    pub superblock: Vec<&'static str>,
    /// The file system's own options.
    pub data: Vec<(String, Option<String>)>,
}

/// What one word does.
#[derive(Clone, Copy)]
enum Does {
    Nothing,
    One(Change),
    All(Change),
    Bind(bool),
    Propagation(u64, bool),
    Superblock { not: &'static str },
    ClearsOnly(&'static str),
    Remount,
    CopyUp,
    IdMap(bool),
}

/// A change of attributes.
#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    /// A value of the access time's field.
    Atime(u64),
    /// Not this value: the kernel's default instead.
    NotAtime(u64),
}

use Change::{Atime, Clear, NotAtime, Set};
use Does::{All, Bind, ClearsOnly, CopyUp, IdMap, Nothing, One, Propagation, Remount, Superblock};

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
/// Linux 5.14.
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// Every word that is not the file system's own, in alphabetical order.
const TABLE: &[(&str, Does)] = &[
    ("async", Superblock { not: "sync" }),
    ("atime", One(NotAtime(NOATIME))),
    ("bind", Bind(false)),
    ("defaults", Nothing),
    ("dev", One(Clear(NODEV))),
    ("diratime", One(Clear(NODIRATIME))),
    ("dirsync", Superblock { not: "" }),
    ("exec", One(Clear(NOEXEC))),
    ("idmap", IdMap(false)),
    ("iversion", Superblock { not: "" }),
    ("lazytime", Superblock { not: "nolazytime" }),
    // Whether the kernel logs errors of the mount; fsopen(2) has its own way to report them.
    ("loud", Nothing),
    ("mand", Superblock { not: "nomand" }),
    ("noatime", One(Atime(NOATIME))),
    ("nodev", One(Set(NODEV))),
    ("nodiratime", One(Set(NODIRATIME))),
    ("noexec", One(Set(NOEXEC))),
    ("noiversion", ClearsOnly("iversion")),
    ("nolazytime", Superblock { not: "lazytime" }),
    ("nomand", Superblock { not: "mand" }),
    ("norelatime", One(NotAtime(RELATIME))),
    ("nostrictatime", One(NotAtime(STRICTATIME))),
    ("nosuid", One(Set(NOSUID))),
    ("nosymfollow", One(Set(NOSYMFOLLOW))),
    ("private", Propagation(libc::MS_PRIVATE, false)),
    ("ratime", All(NotAtime(NOATIME))),
    ("rbind", Bind(true)),
    ("rdev", All(Clear(NODEV))),
    ("rdiratime", All(Clear(NODIRATIME))),
    ("relatime", One(Atime(RELATIME))),
    ("remount", Remount),
    ("rexec", All(Clear(NOEXEC))),
    ("ridmap", IdMap(true)),
    ("rnoatime", All(Atime(NOATIME))),
    ("rnodev", All(Set(NODEV))),
    ("rnodiratime", All(Set(NODIRATIME))),
    ("rnoexec", All(Set(NOEXEC))),
    ("rnorelatime", All(NotAtime(RELATIME))),
    ("rnostrictatime", All(NotAtime(STRICTATIME))),
    ("rnosuid", All(Set(NOSUID))),
    ("rnosymfollow", All(Set(NOSYMFOLLOW))),
    ("ro", One(Set(RDONLY))),
    ("rprivate", Propagation(libc::MS_PRIVATE, true)),
    ("rrelatime", All(Atime(RELATIME))),
    ("rro", All(Set(RDONLY))),
    ("rrw", All(Clear(RDONLY))),
    ("rshared", Propagation(libc::MS_SHARED, true)),
    ("rslave", Propagation(libc::MS_SLAVE, true)),
    ("rstrictatime", All(Atime(STRICTATIME))),
    ("rsuid", All(Clear(NOSUID))),
    ("rsymfollow", All(Clear(NOSYMFOLLOW))),
    ("runbindable", Propagation(libc::MS_UNBINDABLE, true)),
    ("rw", One(Clear(RDONLY))),
    ("shared", Propagation(libc::MS_SHARED, false)),
    ("silent", Nothing),
    ("slave", Propagation(libc::MS_SLAVE, false)),
    ("strictatime", One(Atime(STRICTATIME))),
    ("suid", One(Clear(NOSUID))),
    ("symfollow", One(Clear(NOSYMFOLLOW))),
    ("sync", Superblock { not: "async" }),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(libc::MS_UNBINDABLE, false)),
];

impl Change {
    fn apply(self, set: &mut u64, clear: &mut u64) {
        let (on, off) = match self {
            Set(bits) => (bits, 0),
            Clear(bits) => (0, bits),
            Atime(value) => (value, ATIME),
            NotAtime(value) if *clear & ATIME == 0 || *set & ATIME == value => (0, ATIME),
            NotAtime(_) => return,
        };
        *set = *set & !off | on;
        // A set bit appears in `clear` only where it is part of a field.
        *clear = *clear & !(on & !ATIME) | off;
    }
}

impl MountOptions {
    /// Every word that is not the file system's own, for `features`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(word, _)| *word)
    }

    /// Reads a list of options; of two that contradict each other the later one counts. Words that
    /// are not in the table are the file system's own, except those with the prefix `x-`, which are
    /// for programs that read fstab(5).
    ///
    /// # Errors
    /// An option has no name.
    pub fn parse<T: AsRef<str>>(words: &[T]) -> Result<MountOptions> {
        let mut options = MountOptions::default();
        for word in words.iter().map(AsRef::as_ref) {
            match TABLE.binary_search_by_key(&word, |(known, _)| known) {
                Ok(at) => options.apply(TABLE[at]),
                Err(_) => options.own(word)?,
            }
        }
        Ok(options)
    }

    /// Whether it is a bind mount, recursive or not.
    pub fn is_bind(&self) -> bool {
        self.bind.is_some()
    }

    fn apply(&mut self, (word, does): (&'static str, Does)) {
        match does {
            Nothing => {}
            One(change) => change.apply(&mut self.set, &mut self.clear),
            All(change) => change.apply(&mut self.recursive_set, &mut self.recursive_clear),
            Bind(recursive) => self.bind = Some(recursive || self.bind == Some(true)),
            Propagation(kind, recursive) => self.propagation.push((kind, recursive)),
            Superblock { not } => {
                self.superblock.retain(|other| *other != not && *other != word);
                self.superblock.push(word);
            }
            ClearsOnly(not) => self.superblock.retain(|other| *other != not),
            Remount => self.remount = true,
            CopyUp => self.tmpcopyup = true,
            IdMap(recursive) => self.idmap = Some(recursive),
        }
    }

    /// mount(2) takes the options as one string and splits it at commas; fsconfig(2) takes them one
    /// by one, so several in one word are split here.
    fn own(&mut self, word: &str) -> Result<()> {
        for option in split(word).filter(|option| !option.is_empty() && !option.starts_with("x-")) {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, None),
            };
            if key.is_empty() {
                return Err(Error::new(format!("option {word:?}: no name")));
            }
            // The quotes protect the commas of SELinux categories.
            let quoted = key.ends_with("context");
            let plain = |value: &str| match value.strip_prefix('"') {
                Some(rest) if quoted => rest.strip_suffix('"').unwrap_or(rest).to_owned(),
                _ => value.to_owned(),
            };
            self.data.push((key.to_owned(), value.map(plain)));
        }
        Ok(())
    }
}

/// Splits at commas, but not between quotes and not after a backslash (overlayfs' escape).
fn split(word: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    word.split(move |character| {
        let comma = character == ',' && !quoted && !escaped;
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        comma
    })
}

impl Mount {
    /// The options of a bind mount that belong to a file system: engines and tools write them, and
    /// mount(2) ignores them.
    pub fn without_effect(&self) -> Vec<String> {
        let Ok(options) = MountOptions::parse(&self.options) else { return Vec::new() };
        let bind = options.is_bind() || self.kind.as_deref() == Some("bind");
        if !bind || options.remount {
            return Vec::new();
        }
        let data = options.data.into_iter().map(|(key, _)| key);
        let set =
            |word: &&str| matches!(*word, "sync" | "dirsync" | "lazytime" | "mand" | "iversion");
        data.chain(options.superblock.into_iter().filter(set).map(str::to_owned)).collect()
    }

    /// What the options of this mount request; the type `bind` is as good as the option.
    ///
    /// # Errors
    /// This kind of mount cannot have an option.
    pub fn parse_options(&self) -> Result<MountOptions> {
        let mut options = MountOptions::parse(&self.options)?;
        if self.kind.as_deref() == Some("bind") && options.bind.is_none() {
            options.bind = Some(false);
        }
        if options.is_bind() && !options.remount {
            // The file system's own, which the host has mounted: [`Mount::without_effect`].
            options.data.clear();
            options.superblock.clear();
        }
        if options.remount {
            let word = options.data.first().map(|(key, _)| key.as_str());
            let word = word.or(options.superblock.first().copied());
            let word = word.or(options.idmap.is_some().then_some("idmap"));
            let word = word.or(options.tmpcopyup.then_some("tmpcopyup"));
            if let Some(word) = word {
                return Err(Error::new(format!("option {word:?} on a remount"))
                    .hint("a remount can change only attributes: put it on the mount itself"));
            }
        }
        if options.tmpcopyup && (options.is_bind() || self.kind.as_deref() != Some("tmpfs")) {
            return Err(Error::new("option tmpcopyup on a mount that is not a tmpfs"));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> MountOptions {
        let words: Vec<&str> = words.split(' ').collect();
        MountOptions::parse(&words).unwrap()
    }

    #[test]
    fn the_table_is_in_order_and_has_all_words_of_the_specification() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let specification = "async atime bind defaults dev diratime dirsync exec idmap iversion \
            lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand \
            norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime \
            remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime \
            rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup \
            unbindable";
        let expected: Vec<&str> = specification.split_whitespace().collect();
        assert_eq!(MountOptions::names().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn attributes_are_set_and_cleared_and_the_later_word_counts() {
        let options = parse("ro nosuid nodev noexec nodiratime nosymfollow");
        assert_eq!((options.set, options.clear), (0x20_008f, 0));
        let options = parse("rw suid dev exec diratime symfollow");
        assert_eq!((options.set, options.clear), (0, 0x20_008f));
        assert_eq!((parse("ro rw").set, parse("ro rw").clear), (0, 1));
        assert_eq!((parse("rw ro").set, parse("rw ro").clear), (1, 0));
        assert_eq!(parse("defaults silent loud"), MountOptions::default());
    }

    #[test]
    fn recursive_attributes_are_kept_apart() {
        let options = parse("rro rnosuid rnodev rnoexec rnodiratime rnosymfollow ro");
        assert_eq!((options.recursive_set, options.recursive_clear), (0x20_008f, 0));
        assert_eq!((options.set, options.clear), (1, 0));
        let options = parse("rrw rsuid rdev rexec rdiratime rsymfollow");
        assert_eq!((options.recursive_set, options.recursive_clear), (0, 0x20_008f));
    }

    #[test]
    fn the_access_time_is_a_field_that_is_cleared_as_a_whole() {
        let field = |words: &str| (parse(words).set, parse(words).clear);
        let recursive = |words: &str| (parse(words).recursive_set, parse(words).recursive_clear);
        assert_eq!(field("noatime"), (0x10, 0x70));
        assert_eq!(field("strictatime"), (0x20, 0x70));
        assert_eq!(field("relatime"), (0, 0x70));
        assert_eq!(field("noatime strictatime"), (0x20, 0x70));
        assert_eq!(field("strictatime relatime"), (0, 0x70));
        for not in ["atime", "norelatime", "nostrictatime", "noatime atime"] {
            assert_eq!(field(not), (0, 0x70), "{not}");
        }
        // Negating a value that is not set changes nothing.
        assert_eq!(field("noatime nostrictatime"), (0x10, 0x70));
        assert_eq!(field("strictatime norelatime"), (0x20, 0x70));
        assert_eq!(field("strictatime ro suid"), (0x21, 0x72));
        assert_eq!(recursive("rnoatime"), (0x10, 0x70));
        assert_eq!(recursive("rstrictatime"), (0x20, 0x70));
        for not in ["rrelatime", "ratime", "rnorelatime", "rnostrictatime"] {
            assert_eq!(recursive(not), (0, 0x70), "{not}");
        }
    }

    #[test]
    fn propagation_is_kept_in_order() {
        let options = parse("rslave shared");
        assert_eq!(options.propagation, [(libc::MS_SLAVE, true), (libc::MS_SHARED, false)]);
        let options = parse("private rprivate slave rshared unbindable runbindable");
        let kinds: Vec<u64> = options.propagation.iter().map(|(kind, _)| kind >> 17).collect();
        assert_eq!(kinds, [2, 2, 4, 8, 1, 1]);
        let recursive: Vec<bool> = options.propagation.iter().map(|(_, all)| *all).collect();
        assert_eq!(recursive, [false, true, false, true, false, true]);
    }

    #[test]
    fn bind_idmap_remount_and_tmpcopyup_are_told_apart() {
        assert_eq!(parse("bind").bind, Some(false));
        assert_eq!((parse("rbind bind").bind, parse("bind rbind").bind), (Some(true), Some(true)));
        assert_eq!((parse("idmap").idmap, parse("ridmap").idmap), (Some(false), Some(true)));
        assert!(parse("remount").remount && parse("tmpcopyup").tmpcopyup);
    }

    #[test]
    fn flags_of_the_superblock_are_words_for_fsconfig() {
        assert_eq!(parse("sync dirsync lazytime mand iversion").superblock.len(), 5);
        assert_eq!(parse("sync async lazytime nolazytime").superblock, ["async", "nolazytime"]);
        assert_eq!(parse("mand nomand mand sync sync").superblock, ["mand", "sync"]);
        assert_eq!(parse("iversion noiversion").superblock, Vec::<&str>::new());
    }

    #[test]
    fn what_is_not_known_is_the_file_systems_own() {
        let own = |words: &str| parse(words).data;
        let pair = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            own("mode=1777 newinstance size=65536k,nr_inodes=4,,inode64 x-systemd.automount"),
            [
                pair("mode", Some("1777")),
                pair("newinstance", None),
                pair("size", Some("65536k")),
                pair("nr_inodes", Some("4")),
                pair("inode64", None),
            ]
        );
        assert_eq!(
            own(r#"context="u:r:t:s0:c1,c2",uid=0"#)[0],
            pair("context", Some("u:r:t:s0:c1,c2"))
        );
        assert_eq!(
            own(r"lowerdir=/a\,b:/c=d,upperdir=/u")[0],
            pair("lowerdir", Some(r"/a\,b:/c=d"))
        );
        assert!(MountOptions::parse(&["=x"]).unwrap_err().to_string().contains("no name"));
    }

    #[test]
    fn a_mount_cannot_have_what_its_kind_has_not() {
        let mount = |kind: &str, options: &[&str]| Mount {
            kind: Some(kind.into()),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        };
        assert_eq!(mount("bind", &["ro"]).parse_options().unwrap().bind, Some(false));
        for (kind, options, says) in [
            ("proc", ["ro", "tmpcopyup"], "a mount that is not a tmpfs"),
            ("tmpfs", ["bind", "tmpcopyup"], "a mount that is not a tmpfs"),
            ("tmpfs", ["remount", "size=4k"], "\"size\" on a remount"),
            ("none", ["remount", "sync"], "\"sync\" on a remount"),
        ] {
            let error = mount(kind, &options).parse_options().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let bind = mount("none", &["rbind", "async", "size=4k", "lazytime", "z"]);
        let options = bind.parse_options().unwrap();
        assert!(options.data.is_empty() && options.superblock.is_empty());
        assert_eq!(bind.without_effect(), ["size", "z", "lazytime"]);
        assert!(mount("tmpfs", &["size=4k"]).without_effect().is_empty());
    }
}
