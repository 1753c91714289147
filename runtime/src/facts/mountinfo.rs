//! What is mounted where: /proc/PID/mountinfo (proc_pid_mountinfo(5)).
//!
//! Fields are bytes: a user who may mount a file system, as any user may with FUSE, chooses names
//! that need not be UTF-8.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::file::read_kernel_bytes;

/// The mounts that this process sees.
///
/// # Errors
/// /proc is not mounted.
pub fn read() -> Result<Vec<u8>> {
    let path = "/proc/self/mountinfo";
    read_kernel_bytes(path).map_err(|e| Error::io(format!("read {path}"), &e))
}

/// One mount; escapes are decoded in its paths only.
#[derive(Clone, Debug)]
pub struct MountLine<'a> {
    /// Its number.
    pub id: u64,
    /// The id of its parent mount.
    pub above: u64,
    /// `major:minor`.
    pub device: &'a [u8],
    /// The directory of the file system that is mounted.
    root: Cow<'a, [u8]>,
    /// The mount point.
    point: Cow<'a, [u8]>,
    /// Its own options, comma-separated.
    pub options: &'a [u8],
    /// The file system's type.
    pub kind: &'a [u8],
    /// The mount source.
    pub source: &'a [u8],
    /// The file system's options.
    pub super_options: &'a [u8],
}

impl<'a> MountLine<'a> {
    /// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn parse(line: &'a [u8]) -> Option<MountLine<'a>> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, above) = (number(fields.next()?)?, number(fields.next()?)?);
        let device = fields.next()?;
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let options = fields.next()?;
        // Optional fields end at a lone dash.
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = fields.next()?;
        let source = fields.next().unwrap_or_default();
        let super_options = fields.next().unwrap_or_default();
        Some(MountLine { id, above, device, root, point, options, kind, source, super_options })
    }

    /// The directory of the file system that is mounted.
    pub fn root(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.root))
    }

    /// The mount point.
    pub fn point(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.point))
    }
}

/// The mounts in a text, in order; lines that do not describe a mount are skipped.
pub fn lines(text: &[u8]) -> impl Iterator<Item = MountLine<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(MountLine::parse)
}

/// Decodes the kernel's `\040` for a space, and the like.
pub fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    Cow::Owned(bytes)
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes_and_optional_fields() {
        let text = b"22 27 0:21 / /proc rw,relatime shared:1 master:2 - proc proc rw\n\
            bad line\n\
            1 2 3:4 / /short rw\n\
            30 27 0:9 /a\\040b /mnt/\xff\\134c ro - fuse.\xfe /dev/b rw,x\n\
            31 27 0:9 / /m rw - none";
        let seen: Vec<MountLine> = lines(text).collect();
        let [proc, hostile, bare] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((proc.id, proc.above, proc.kind), (22, 27, b"proc".as_slice()));
        assert_eq!(hostile.root(), Path::new("/a b"));
        assert_eq!(hostile.point(), Path::new(OsStr::from_bytes(b"/mnt/\xff\\c")));
        assert_eq!((hostile.kind, hostile.device), (b"fuse.\xfe".as_slice(), b"0:9".as_slice()));
        assert_eq!(
            (hostile.options, hostile.super_options),
            (b"ro".as_slice(), b"rw,x".as_slice())
        );
        assert_eq!((bare.source, bare.super_options), (&b""[..], &b""[..]));
    }

    #[test]
    fn only_what_the_kernel_writes_is_undone() {
        for (text, undone) in
            [("a\\040b", "a b"), ("\\134", "\\"), ("\\0", "\\0"), ("\\400", "\\400"), ("x", "x")]
        {
            assert_eq!(&*unescape(text.as_bytes()), undone.as_bytes(), "{text}");
        }
    }
}
