//! The facts of the machine that a plan depends on, and nothing that it does not.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::plan::HostMount;
use crate::sys::{file, process};

/// CAP_SYS_ADMIN: without it, namespaces need a user namespace first.
const CAP_SYS_ADMIN: u8 = 21;

/// May the caller make namespaces without a user namespace?
pub fn privileged() -> bool {
    process::capabilities() >> CAP_SYS_ADMIN & 1 == 1
}

/// Is the caller in a user namespace other than the first? There, whoever is root is root of a part
/// only. The first has all ids mapped to themselves.
pub fn confined() -> bool {
    static CONFINED: OnceLock<bool> = OnceLock::new();
    *CONFINED.get_or_init(|| {
        let text = file::read_kernel("/proc/self/uid_map").unwrap_or_default();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        words != ["0", "0", "4294967295"]
    })
}

/// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap, Linux 3.2).
pub fn last_capability() -> Result<u8> {
    static LAST: OnceLock<u8> = OnceLock::new();
    if let Some(last) = LAST.get() {
        return Ok(*last);
    }
    let path = "/proc/sys/kernel/cap_last_cap";
    let text = file::read_kernel(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let last = text.trim().parse();
    let last = last.map_err(|_| Error::new(format!("{path}: {text:?} is not a number")))?;
    Ok(*LAST.get_or_init(|| last))
}

/// The mounts of this mount namespace.
pub fn mounts() -> Result<Vec<HostMount>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    Ok(parse_mountinfo(&text))
}

/// Mount points and types of a mountinfo text (proc_pid_mountinfo(5)); a mount that a later one
/// hides is left out.
pub fn parse_mountinfo(text: &[u8]) -> Vec<HostMount> {
    let mut mounts: Vec<HostMount> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(target) = fields.nth(4) else { continue };
        // Optional fields end at a lone dash; the type is behind it.
        let Some(kind) = fields.skip_while(|field| *field != b"-").nth(1) else { continue };
        let target = PathBuf::from(OsString::from_vec(unescape(target)));
        mounts.retain(|earlier| !earlier.target.starts_with(&target));
        mounts.push(HostMount { target, kind: String::from_utf8_lossy(kind).into_owned() });
    }
    mounts
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if byte == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_its_escapes_and_optional_fields() {
        let text = br"22 27 0:21 / /proc rw,relatime shared:1 master:2 - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:9 /a\040b /mnt/a\040b\134c rw - xfs /dev/b rw
bad line
";
        let mounts = parse_mountinfo(text);
        let seen: Vec<_> = mounts.iter().map(|m| (m.target.to_str().unwrap(), &*m.kind)).collect();
        assert_eq!(seen, [("/", "ext4"), (r"/mnt/a b\c", "xfs")]);
    }
}
