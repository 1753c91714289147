//! The user that a command runs as: `-u www-data`, `-u 1000:1000`, `-u www-data:adm`.
//!
//! The syntax is that of docker and podman. Names come from passwd(5) and group(5), of the host or
//! of an untrusted root file system: there the files are opened without leaving the tree, must be
//! regular, and are read up to a size limit. A static program has no NSS, so on the host, names
//! that are not in the files (LDAP, systemd-userdbd) are looked up with getent(1).
//!
//! - An entry gives the user its group, its supplementary groups, home and shell.
//! - An explicit group replaces the user's group **and** its supplementary ones, so that `-u
//!   www-data:nogroup` leaves none of the groups that www-data belongs to.
//! - A number needs no entry. It then has no supplementary groups and the home `/`; its group is 0
//!   in a root file system, as images expect from docker, and the same number on the host, where
//!   group 0 would open the files of root's group.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::config::Root;
use crate::sys::{Errno, openat2, program};
use crate::{Error, Result};

/// Everything that comes with a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserEntry {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, ascending; without `gid`.
    pub groups: Vec<u32>,
    /// The name, or the number as text if there is no entry.
    pub name: String,
    /// For HOME; absolute.
    pub home: String,
    /// For SHELL; never empty.
    pub shell: String,
}

/// A directory service is queried through getent; on most hosts these files are complete.
const PASSWD: &CStr = c"etc/passwd";
const GROUP: &CStr = c"etc/group";

/// Ten times the likely maximum (a hundred thousand users); more is an attack on memory.
const MOST: u64 = 64 << 20;

/// The id that means "unchanged" to the kernel, and belongs to no user or group.
const NO_ID: u32 = u32::MAX;

/// [`lookup`] in the files that a sandbox with this root sees.
///
/// # Errors
/// Same as `lookup`.
pub fn inside(spec: &str, root: &Root) -> Result<UserEntry> {
    match root {
        Root::Host | Root::Untouched => lookup(spec, None),
        Root::Dir { path, .. } => {
            let what = || format!("--rootfs {}", path.display());
            let dir = File::open(path).map_err(|e| Error::io(what(), &e))?;
            lookup(spec, Some(dir.as_fd()))
        }
    }
}

/// Finds the user that `spec` means in the root file system `root`, or on the host.
///
/// # Errors
/// There is no such user or group, a number is out of range, or a file that is needed cannot be
/// read: one line that starts with `-u SPEC`.
pub fn lookup(spec: &str, root: Option<BorrowedFd<'_>>) -> Result<UserEntry> {
    let source = Source { root, getent: root.is_none() };
    source.lookup(spec).map_err(|error| {
        let shown: String = spec.chars().take(64).flat_map(char::escape_debug).collect();
        error.within(format_args!("-u {shown}"))
    })
}

/// The home of user `uid` in a passwd(5) file of the untrusted tree `root`; `None` if there is no
/// such file, or no such user in it.
pub fn home(uid: u32, root: BorrowedFd<'_>, passwd: &Path) -> Option<String> {
    let source = Source { root: Some(root), getent: false };
    let path = std::ffi::CString::new(passwd.as_os_str().as_bytes()).ok()?;
    let text = source.read(&path).ok()?;
    text.lines().filter_map(entry).find(|entry| entry.uid == uid).map(|entry| entry.home)
}

/// Where names come from.
struct Source<'a> {
    root: Option<BorrowedFd<'a>>,
    getent: bool,
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Source<'_> {
    fn lookup(&self, spec: &str) -> Result<UserEntry> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        if user.is_empty() || group == Some("") || spec.contains(['\0', '\n']) {
            return Err(Error::new("invalid user")
                .hint("write a name or a number, optionally followed by a colon and a group: www-data, 1000:1000"));
        }
        let (entry, foreign) = self.entry(user)?;
        let mut found = match entry {
            Some(entry) => UserEntry {
                uid: entry.uid,
                gid: entry.gid,
                groups: Vec::new(),
                name: entry.name,
                home: entry.home,
                shell: entry.shell,
            },
            None => {
                let uid = number(user)?.ok_or_else(|| self.unknown("user", user, "passwd"))?;
                UserEntry {
                    uid,
                    gid: if self.root.is_some() { 0 } else { uid },
                    groups: Vec::new(),
                    name: user.to_owned(),
                    home: "/".into(),
                    shell: "/bin/sh".into(),
                }
            }
        };
        match group {
            Some(group) => found.gid = self.group(group)?,
            None => {
                found.groups = self.supplementary(&found.name, foreign)?;
                found.groups.retain(|gid| *gid != found.gid);
                found.groups.sort_unstable();
                found.groups.dedup();
            }
        }
        Ok(found)
    }

    /// The entry of a user by name, then by number; and whether it came from getent.
    fn entry(&self, user: &str) -> Result<(Option<Entry>, bool)> {
        let uid = number(user)?;
        let text = match self.read(PASSWD) {
            // Without the file, a number is treated as one without an entry.
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) && uid.is_some() => {
                String::new()
            }
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) && self.getent => {
                String::new()
            }
            result => result?,
        };
        let mut entries: Vec<Entry> = text.lines().filter_map(entry).collect();
        let at = entries
            .iter()
            .position(|entry| entry.name == user)
            .or_else(|| entries.iter().position(|entry| Some(entry.uid) == uid));
        if let Some(at) = at {
            return Ok((Some(entries.swap_remove(at)), false));
        }
        let foreign = self.getent(&["passwd", user]);
        Ok((foreign.lines().find_map(entry), true))
    }

    fn group(&self, group: &str) -> Result<u32> {
        let gid = number(group)?;
        let text = match self.read(GROUP) {
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => String::new(),
            result => result?,
        };
        let named = |text: &str| {
            text.lines().filter_map(parse_group).find(|entry| entry.name == group).map(|it| it.gid)
        };
        named(&text)
            .or(gid)
            .or_else(|| named(&self.getent(&["group", group])))
            .ok_or_else(|| self.unknown("group", group, "group"))
    }

    fn supplementary(&self, name: &str, foreign: bool) -> Result<Vec<u32>> {
        if foreign {
            // `name    4 24 27`
            let text = self.getent(&["initgroups", name]);
            let numbers = text.split_ascii_whitespace().skip(1);
            return Ok(numbers.filter_map(|gid| gid.parse().ok()).collect());
        }
        let text = match self.read(GROUP) {
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => String::new(),
            result => result?,
        };
        let member = |group: &Group| group.members.iter().any(|member| member == name);
        Ok(text.lines().filter_map(parse_group).filter(member).map(|group| group.gid).collect())
    }

    fn unknown(&self, what: &str, name: &str, file: &str) -> Error {
        let place = if self.root.is_some() { " in the root file system" } else { "" };
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let hint = if self.root.is_some() {
            "a number needs no entry: 1000:1000".to_owned()
        } else {
            format!("`getent {file}` lists them; a number needs no entry")
        };
        let subject = if what == "group" { format!(" {shown}") } else { String::new() };
        Error::new(format!("no such {what}{subject} in /etc/{file}{place}")).hint(hint)
    }

    fn read(&self, path: &CStr) -> Result<String> {
        let shown = format!("/{}", path.to_string_lossy());
        let failed = |errno: Errno| match self.root {
            Some(_) => Error::os(format!("read {shown} in the root file system"), errno),
            None => Error::os(format!("read {shown}"), errno),
        };
        // A fifo would block, and a terminal would become our controlling one: the flags prevent
        // both at open, and then only a regular file is read.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match self.root {
            Some(root) => openat2::in_root(root, path, libc::O_RDONLY | flags).map_err(failed)?,
            None => {
                let mut options = File::options();
                let open = options.read(true).custom_flags(flags).open(&shown);
                OwnedFd::from(open.map_err(|error| failed(error.into()))?)
            }
        };
        let file = File::from(file);
        let kind = file.metadata().map_err(|error| failed(error.into()))?;
        if !kind.is_file() {
            return Err(Error::new(format!("{shown} is not a regular file")));
        }
        let mut bytes = Vec::new();
        let read = file.take(MOST + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(error.into()))?;
        if bytes.len() as u64 > MOST {
            return Err(Error::new(format!("{shown} is larger than {} MiB", MOST >> 20)));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The output of getent, empty if it is not installed or finds nothing.
    fn getent(&self, args: &[&str]) -> String {
        // Not through PATH, which the caller controls.
        let getent = ["/usr/bin/getent", "/bin/getent"].into_iter().find(|p| Path::new(p).exists());
        let (true, Some(getent)) = (self.getent, getent) else { return String::new() };
        // "--": a name may start with a dash.
        let mut command = program::new(getent);
        command.arg("--").args(args).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output();
        output.map_or(String::new(), |it| String::from_utf8_lossy(&it.stdout).into_owned())
    }
}

/// `name:password:uid:gid:comment:home:shell`; `None` for a malformed line or a comment.
fn entry(line: &str) -> Option<Entry> {
    let field: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, ..] = field[..] else { return None };
    if !is_name(name) {
        return None;
    }
    let text = |at: usize, otherwise: &str| {
        let text = field.get(at).copied().unwrap_or_default().trim();
        let sound = text.starts_with('/') && !text.contains('\0');
        if sound { text.to_owned() } else { otherwise.to_owned() }
    };
    Some(Entry {
        name: name.to_owned(),
        uid: number(uid).ok()??,
        gid: number(gid).ok()??,
        home: text(5, "/"),
        // passwd(5): an empty shell is /bin/sh.
        shell: text(6, "/bin/sh"),
    })
}

/// `name:password:gid:member,member`
fn parse_group(line: &str) -> Option<Group> {
    let field: Vec<&str> = line.split(':').collect();
    let [name, _, gid, ..] = field[..] else { return None };
    if !is_name(name) {
        return None;
    }
    let members = field.get(3).copied().unwrap_or_default().split(',');
    Some(Group {
        name: name.to_owned(),
        gid: number(gid).ok()??,
        members: members.map(|name| name.trim().to_owned()).collect(),
    })
}

/// A plus or minus refers to NIS (nsswitch.conf(5), "compat"), a hash starts a comment.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['+', '-', '#']) && !name.contains('\0')
}

/// `None` if it is not a number at all; an error if it is one that no user or group can have.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != NO_ID => Ok(Some(id)),
        _ => Err(Error::new("the id is too large").hint("ids go from 0 to 4294967294")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A root file system with only /etc.
    struct Root(PathBuf, File);

    impl Root {
        fn new() -> Root {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("garth-test-users-{}-{number}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir_all(dir.join("etc")).unwrap();
            let open = File::open(&dir).unwrap();
            Root(dir, open)
        }

        fn with(passwd: &str, group: &str) -> Root {
            let root = Root::new();
            fs::write(root.0.join("etc/passwd"), passwd).unwrap();
            fs::write(root.0.join("etc/group"), group).unwrap();
            root
        }

        fn find(&self, spec: &str) -> UserEntry {
            lookup(spec, Some(self.1.as_fd())).unwrap()
        }

        fn refuse(&self, spec: &str) -> String {
            lookup(spec, Some(self.1.as_fd())).unwrap_err().to_string()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const PASSWD: &str = "\
# a remark
+::::::
:x:5:5::/:
short:x:7
big:x:4294967295:1::/:
huge:x:99999999999:1::/:
minus:x:-1:1::/:
root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
bare:x:40:41
odd:x:50:50::relative:
1000:x:2000:2000::/home/number:/bin/sh
ann:x:1000:100:Ann,,,:/home/ann:
twin:x:33:34::/home/twin:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
adm:x:4:ann,www-data
broken:x:no:ann
www-data:x:33:www-data
tape:x:26:www-data, ann
adm:x:4:ann
";

    fn root() -> Root {
        Root::with(PASSWD, GROUP)
    }

    #[test]
    fn a_name_brings_its_group_its_groups_home_and_shell() {
        let user = root().find("www-data");
        let expected = UserEntry {
            uid: 33,
            gid: 33,
            groups: vec![4, 26],
            name: "www-data".into(),
            home: "/var/www".into(),
            shell: "/usr/sbin/nologin".into(),
        };
        assert_eq!(user, expected);
    }

    #[test]
    fn a_number_is_the_entry_with_it_and_needs_none() {
        let root = root();
        assert_eq!(root.find("33"), root.find("www-data"));
        let user = root.find("4294967294");
        assert_eq!((user.uid, user.gid, user.groups), (4_294_967_294, 0, vec![]));
        assert_eq!((user.name, user.home), ("4294967294".into(), "/".into()));
        // A name made of digits is looked up as a name first.
        assert_eq!(root.find("1000").uid, 2000);
        let host = lookup("4123456789", None).unwrap();
        assert_eq!((host.gid, host.groups), (4_123_456_789, vec![]));
    }

    #[test]
    fn a_written_group_replaces_all_groups() {
        let root = root();
        for (spec, gid) in [("www-data:adm", 4), ("33:77", 77), ("9:tape", 26)] {
            let user = root.find(spec);
            assert_eq!((user.gid, user.groups), (gid, vec![]), "{spec}");
        }
    }

    #[test]
    fn who_is_not_there_is_refused_with_a_hint() {
        let root = root();
        assert_eq!(
            root.refuse("nosuch"),
            "-u nosuch: no such user in /etc/passwd in the root file system; \
             a number needs no entry: 1000:1000"
        );
        assert!(root.refuse("ann:nosuch").contains("-u ann:nosuch: no such group nosuch in"));
        let host = lookup("no-such-user-here", None).unwrap_err().to_string();
        assert!(host.starts_with("-u no-such-user-here: no such user in /etc/passwd; "), "{host}");
        for spec in ["", ":", ":adm", "ann:", "ann:a:b", "-1", "+0", "short", "minus", "a\nb"] {
            root.refuse(spec);
        }
    }

    #[test]
    fn ids_that_the_kernel_cannot_hold_are_refused() {
        let root = root();
        for spec in ["4294967295", "4294967296", "99999999999999999999", "0:4294967295"] {
            let words = root.refuse(spec);
            assert!(words.contains("ids go from 0 to 4294967294"), "{words}");
        }
        // In the files, such ids make the line malformed.
        root.refuse("big");
        root.refuse("huge");
    }

    #[test]
    fn what_a_line_leaves_out_has_a_default() {
        let root = root();
        let bare = root.find("bare");
        assert_eq!((bare.gid, bare.home.as_str(), bare.shell.as_str()), (41, "/", "/bin/sh"));
        assert_eq!(root.find("odd").home, "/");
        assert_eq!(root.find("ann").shell, "/bin/sh");
    }

    #[test]
    fn without_the_files_numbers_still_work() {
        let root = Root::new();
        assert_eq!(root.find("7:8").gid, 8);
        assert!(root.find("7").groups.is_empty());
        assert!(root.refuse("ann").contains("read /etc/passwd in the root file system: ENOENT"));
    }

    #[test]
    fn links_stay_in_the_root_file_system() {
        let root = Root::new();
        fs::write(root.0.join("etc/real"), "ann:x:1:1::/:\n").unwrap();
        symlink("/../../etc/real", root.0.join("etc/passwd")).unwrap();
        assert_eq!(root.find("ann").uid, 1);
        fs::remove_file(root.0.join("etc/passwd")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.0.join("etc/passwd")).unwrap();
        assert!(root.refuse("root").contains("ENOENT"));
    }

    #[test]
    fn only_a_regular_file_is_read_and_not_without_end() {
        let root = Root::new();
        let passwd = root.0.join("etc/passwd");
        let status = Command::new("mkfifo").arg(&passwd).status().unwrap();
        assert!(status.success());
        assert!(root.refuse("ann").contains("/etc/passwd is not a regular file"));
        assert!(root.refuse("1").contains("/etc/passwd is not a regular file"));
        fs::remove_file(&passwd).unwrap();
        File::create(&passwd).unwrap().set_len(MOST + 1).unwrap();
        assert!(root.refuse("ann").contains("larger than 64 MiB"));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_the_other_lines() {
        let root = Root::new();
        let bytes = b"\xff\xfe:x:1:1::/:\nzero\0:x:1:1::/:\nann:x:3:3::/\xff:\n";
        fs::write(root.0.join("etc/passwd"), bytes).unwrap();
        assert_eq!(root.find("ann").uid, 3);
    }

    #[test]
    fn the_host_knows_root() {
        let user = lookup("root", None).unwrap();
        assert_eq!((user.uid, user.gid), (0, 0));
        assert!(lookup("root:root", None).unwrap().groups.is_empty());
    }
}
