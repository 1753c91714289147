//! openat2(2) where it is not available: systemd's filter for `RestrictSUIDSGID=` (and so for
//! `DynamicUser=`), and older filters of engines, answer ENOSYS, as a filter cannot see the flags
//! passed to it. Here the path is walked one name at a time, and links are only followed by their
//! text: what must stay below a directory stays there, however the tree is changed meanwhile.

use core::ffi::CStr;

use super::raw::{self, RawFd, call};
use super::{Errno, copy};

type Result<T> = core::result::Result<T, Errno>;

/// A path with its NUL (PATH_MAX).
const LONGEST: usize = 4096;

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Opens `path` below `dir` as openat2(2) does with `resolve`.
///
/// # Errors
/// ENOSYS for a flag that cannot be emulated; otherwise what the kernel would answer.
pub fn open(dir: RawFd, path: &CStr, flags: i32, resolve: u64) -> Result<RawFd> {
    const KNOWN: u64 = libc::RESOLVE_IN_ROOT
        | libc::RESOLVE_BENEATH
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_NO_MAGICLINKS;
    if resolve & !KNOWN != 0 {
        return Err(Errno(libc::ENOSYS));
    }
    if resolve & (libc::RESOLVE_IN_ROOT | libc::RESOLVE_BENEATH) == 0 {
        return match resolve {
            0 => openat(dir, path, flags),
            _ => Err(Errno(libc::ENOSYS)),
        };
    }
    let mut walk = Walk { top: dir, at: dir, above: Text::new(), resolve };
    let opened = walk.open(path, flags);
    walk.move_to(dir);
    opened
}

/// The state of a walk.
struct Walk {
    top: RawFd,
    at: RawFd,
    /// The names from `top` to `at`, each followed by a slash; none of them is a link.
    above: Text,
    resolve: u64,
}

impl Walk {
    fn open(&mut self, path: &CStr, flags: i32) -> Result<RawFd> {
        let (mut left, mut name, mut target) = (Text::new(), Text::new(), [0u8; LONGEST]);
        left.push(path.to_bytes())?;
        if path.is_empty() {
            return Err(Errno(libc::ENOENT));
        }
        self.begin(path.to_bytes())?;
        let mut links = 0;
        loop {
            let slash_behind = left.take_name(&mut name);
            let last = left.is_empty();
            match name.bytes() {
                // Only slashes, or slashes and dots, are left.
                b"" => return openat(self.at, c".", flags | libc::O_DIRECTORY),
                b"." => {}
                b".." => self.up()?,
                _ => {
                    let found = openat(self.at, name.c_str()?, libc::O_PATH | libc::O_NOFOLLOW)?;
                    let kind = raw::stat(found).map(|stat| stat.mode & libc::S_IFMT);
                    let stays = last && !slash_behind;
                    if kind == Ok(libc::S_IFLNK) && !(stays && flags & libc::O_NOFOLLOW != 0) {
                        let text = copy::link_text(found, c"", &mut target);
                        raw::close(found);
                        links += 1;
                        if links > MOST_LINKS || self.resolve & libc::RESOLVE_NO_SYMLINKS != 0 {
                            return Err(Errno(libc::ELOOP));
                        }
                        let text = text?.to_bytes();
                        left.put_before(text, !stays)?;
                        self.begin(text)?;
                        continue;
                    }
                    if last {
                        raw::close(found);
                        kind?;
                        // If it has become a link meanwhile, it is not followed.
                        let flags = flags | libc::O_NOFOLLOW;
                        let directory = if slash_behind { libc::O_DIRECTORY } else { 0 };
                        return openat(self.at, name.c_str()?, flags | directory);
                    }
                    self.move_to(found);
                    if kind? != libc::S_IFDIR {
                        return Err(Errno(libc::ENOTDIR));
                    }
                    self.above.push(name.bytes())?;
                    self.above.push(b"/")?;
                }
            }
        }
    }

    /// A path that begins with a slash starts at the top.
    fn begin(&mut self, path: &[u8]) -> Result<()> {
        if path.first() != Some(&b'/') {
            return Ok(());
        }
        if self.resolve & libc::RESOLVE_BENEATH != 0 {
            return Err(Errno(libc::EXDEV));
        }
        self.above.clear();
        self.move_to(self.top);
        Ok(())
    }

    /// One directory up: descends again from the top, as `..` of a directory that was moved
    /// meanwhile leads elsewhere.
    fn up(&mut self) -> Result<()> {
        if self.above.is_empty() {
            let beneath = self.resolve & libc::RESOLVE_BENEATH != 0;
            return if beneath { Err(Errno(libc::EXDEV)) } else { Ok(()) };
        }
        let mut names = Text::new();
        names.push(self.above.without_last_name())?;
        self.above.clear();
        self.move_to(self.top);
        let mut name = Text::new();
        while !names.is_empty() {
            names.take_name(&mut name);
            let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
            let next = openat(self.at, name.c_str()?, flags)?;
            self.move_to(next);
            self.above.push(name.bytes())?;
            self.above.push(b"/")?;
        }
        Ok(())
    }

    fn move_to(&mut self, next: RawFd) {
        if self.at != self.top {
            raw::close(self.at);
        }
        self.at = next;
    }
}

/// A text in a fixed buffer, NUL-terminated: nothing here allocates.
struct Text {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; LONGEST], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn c_str(&self) -> Result<&CStr> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.length]).map_err(|_| Errno(libc::EINVAL))
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn clear(&mut self) {
        self.cut(0);
    }

    fn cut(&mut self, length: usize) {
        self.length = length;
        self.bytes[length] = 0;
    }

    fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.length + more.len();
        if end >= LONGEST {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.bytes[self.length..end].copy_from_slice(more);
        self.cut(end);
        Ok(())
    }

    /// Prepends `first`, with a slash in between if the rest is to be looked up in it.
    fn put_before(&mut self, first: &[u8], slash: bool) -> Result<()> {
        let slash = usize::from(slash);
        let end = first.len() + slash + self.length;
        if end >= LONGEST {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.bytes.copy_within(..self.length, first.len() + slash);
        self.bytes[..first.len()].copy_from_slice(first);
        self.bytes[first.len()..first.len() + slash].fill(b'/');
        self.cut(end);
        Ok(())
    }

    /// Moves the first name to `name` and drops the slashes around it; was it followed by a slash?
    fn take_name(&mut self, name: &mut Text) -> bool {
        let is_slash = |byte: &&u8| **byte == b'/';
        let start = self.bytes().iter().take_while(is_slash).count();
        let end = start + self.bytes()[start..].iter().take_while(|byte| !is_slash(byte)).count();
        let next = end + self.bytes()[end..].iter().take_while(is_slash).count();
        name.clear();
        // It is no longer than the text it comes from.
        let _ = name.push(&self.bytes[start..end]);
        self.bytes.copy_within(next..self.length, 0);
        self.cut(self.length - next);
        next > end
    }

    fn without_last_name(&self) -> &[u8] {
        let text = &self.bytes()[..self.length.saturating_sub(1)];
        let end = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        &text[..end]
    }
}

fn openat(dir: RawFd, path: &CStr, flags: i32) -> Result<RawFd> {
    let flags = flags | libc::O_CLOEXEC;
    call!(libc::SYS_openat, dir, path.as_ptr(), flags, 0).map(|fd| fd as RawFd)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::super::openat2;
    use super::*;

    const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    const BENEATH: u64 = libc::RESOLVE_BENEATH;

    #[test]
    fn a_path_leads_where_the_kernel_says_and_fails_as_it_does() {
        let top = std::env::temp_dir().join(format!("garth-resolve-{}", std::process::id()));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::write(top.join("a/file"), "").unwrap();
        for (text, link) in [
            ("/a", "abs"),
            ("../../../..", "a/b/out"),
            ("b/c", "a/down"),
            ("c/../../file", "a/b/crooked"),
            ("loop", "loop"),
            ("/nowhere", "dangling"),
            ("abs/", "slash"),
            ("/a/file/", "file-slash"),
        ] {
            symlink(text, top.join(link)).unwrap();
        }
        let dir = fs::File::open(&top).unwrap();
        let paths = [
            c"/",
            c".",
            c"..",
            c"",
            c"a",
            c"/a/",
            c"a/b/c",
            c"a//b/./c/../c",
            c"a/file",
            c"a/file/",
            c"a/file/x",
            c"none",
            c"a/none/x",
            c"abs",
            c"abs/b",
            c"abs/",
            c"a/b/out",
            c"a/b/out/a",
            c"a/down",
            c"a/down/..",
            c"a/b/crooked",
            c"loop",
            c"dangling",
            c"slash",
            c"slash/b",
            c"file-slash",
            c"../../a",
            c"a/../../a/b",
            c"//a//",
            c"a/..",
        ];
        let mut tried = 0;
        for resolve in [IN_ROOT, BENEATH, BENEATH | libc::RESOLVE_NO_SYMLINKS] {
            for flags in [
                libc::O_PATH,
                libc::O_PATH | libc::O_NOFOLLOW,
                libc::O_RDONLY,
                libc::O_RDONLY | libc::O_NOFOLLOW,
                libc::O_PATH | libc::O_DIRECTORY,
            ] {
                for path in paths {
                    let found = |opened: Result<RawFd>| {
                        let fd = opened?;
                        let stat = raw::stat(fd).map(|stat| (stat.inode, stat.mode));
                        raw::close(fd);
                        stat
                    };
                    let kernel = found(openat2::open(dir.as_raw_fd(), path, flags, resolve));
                    let own = found(open(dir.as_raw_fd(), path, flags, resolve));
                    assert_eq!(own, kernel, "{path:?} {flags:o} {resolve:x}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 15 * paths.len());
        fs::remove_dir_all(&top).unwrap();
    }
}
