//! Trees on disk, copied by the same calls as in the child. Run as root, for owners and devices.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;

struct Dirs(PathBuf);

impl Dirs {
    fn new(name: &str) -> Dirs {
        let path = std::env::temp_dir().join(format!("garth-copy-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("from")).unwrap();
        fs::create_dir_all(path.join("to")).unwrap();
        Dirs(path)
    }

    fn from(&self, path: &str) -> PathBuf {
        self.0.join("from").join(path)
    }

    fn to(&self, path: &str) -> PathBuf {
        self.0.join("to").join(path)
    }

    fn copy(&self) -> SysResult {
        let open = |path: &Path| File::open(path).unwrap();
        let (from, to) = (open(&self.from("")), open(&self.to("")));
        copy_up(from.as_raw_fd(), to.as_raw_fd())
    }
}

impl Drop for Dirs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[test]
fn files_keep_what_they_are() {
    let dirs = Dirs::new("files");
    fs::create_dir(dirs.from("sub")).unwrap();
    let big: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    fs::write(dirs.from("sub/big"), &big).unwrap();
    fs::write(dirs.from("empty"), "").unwrap();
    fs::set_permissions(dirs.from("sub/big"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(dirs.from("sub"), fs::Permissions::from_mode(0o1510)).unwrap();
    fs::set_permissions(dirs.from(""), fs::Permissions::from_mode(0o2750)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 7);
    for path in ["sub/big", "sub", ""] {
        File::open(dirs.from(path)).unwrap().set_modified(old).unwrap();
    }
    dirs.copy().unwrap();
    assert_eq!(fs::read(dirs.to("sub/big")).unwrap(), big);
    for (path, mode) in [("sub/big", 0o4751), ("sub", 0o1510), ("", 0o2750)] {
        let made = fs::metadata(dirs.to(path)).unwrap();
        assert_eq!(made.mode() & 0o7777, mode, "{path}");
        assert_eq!(made.modified().unwrap(), old, "{path}");
    }
    assert_eq!(fs::metadata(dirs.to("empty")).unwrap().len(), 0);
}

#[test]
fn links_are_copied_and_lead_nowhere() {
    let dirs = Dirs::new("links");
    symlink("/etc/passwd", dirs.from("file")).unwrap();
    symlink("/etc", dirs.from("directory")).unwrap();
    symlink("nothing", dirs.from("broken")).unwrap();
    dirs.copy().unwrap();
    for (name, text) in [("file", "/etc/passwd"), ("directory", "/etc"), ("broken", "nothing")] {
        assert_eq!(fs::read_link(dirs.to(name)).unwrap(), Path::new(text));
    }
}

#[test]
fn more_entries_than_the_buffer_holds_and_directories_among_them() {
    let dirs = Dirs::new("many");
    for number in 0..500 {
        let path = dirs.from(&format!("a-rather-long-name-for-a-file-{number}"));
        match number % 3 {
            0 => fs::create_dir(&path).and_then(|()| fs::write(path.join("in"), "x")).unwrap(),
            _ => fs::write(path, number.to_string()).unwrap(),
        }
    }
    dirs.copy().unwrap();
    let count = |path: PathBuf| fs::read_dir(path).unwrap().count();
    assert_eq!(count(dirs.to("")), 500);
    for number in (0..500).step_by(3) {
        assert_eq!(count(dirs.to(&format!("a-rather-long-name-for-a-file-{number}"))), 1);
    }
}

#[test]
fn fifos_and_sockets() {
    let dirs = Dirs::new("odd");
    let dir = File::open(dirs.from("")).unwrap();
    raw::mknodat(dir.as_raw_fd(), c"fifo", libc::S_IFIFO | 0o640, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dirs.from("socket")).unwrap();
    dirs.copy().unwrap();
    let fifo = fs::metadata(dirs.to("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o777 == 0o640);
    assert!(!dirs.to("socket").exists());
}

#[test]
fn owners_and_devices() {
    if !is_root() {
        return;
    }
    let dirs = Dirs::new("owners");
    fs::write(dirs.from("file"), "").unwrap();
    symlink("file", dirs.from("link")).unwrap();
    chown(dirs.from(""), Some(1), Some(2)).unwrap();
    chown(dirs.from("file"), Some(7), Some(8)).unwrap();
    lchown(dirs.from("link"), Some(9), Some(10)).unwrap();
    let dir = File::open(dirs.from("")).unwrap();
    let null = libc::makedev(1, 3);
    raw::mknodat(dir.as_raw_fd(), c"null", libc::S_IFCHR | 0o600, null).unwrap();
    dirs.copy().unwrap();
    let owner = |path: &str| {
        let made = fs::symlink_metadata(dirs.to(path)).unwrap();
        (made.uid(), made.gid())
    };
    assert_eq!([owner(""), owner("file"), owner("link")], [(1, 2), (7, 8), (9, 10)]);
    assert_eq!(fs::metadata(dirs.to("null")).unwrap().rdev(), null);
}

#[test]
fn what_is_too_deep_is_an_error() {
    let dirs = Dirs::new("deep");
    let path = |depth: usize| "d/".repeat(depth);
    fs::create_dir_all(dirs.from(&path(DEEPEST - 1))).unwrap();
    dirs.copy().unwrap();
    assert!(dirs.to(&path(DEEPEST - 1)).is_dir());
    fs::create_dir_all(dirs.from(&path(DEEPEST))).unwrap();
    assert_eq!(dirs.copy(), Err(Errno(libc::ELOOP)));
}
