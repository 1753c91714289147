//! Whether the caller could write to a path (faccessat2(2), Linux 5.8).

use std::ffi::CStr;

use super::{Errno, raw};

/// Whether the effective ids may write to `path`. EROFS for a read-only mount, EACCES for the
/// mode. An answer for messages only: what counts is the write itself.
pub fn writable(path: &CStr) -> Result<(), Errno> {
    let args = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        libc::W_OK as usize,
        libc::AT_EACCESS as usize,
        0,
        0,
    ];
    // SAFETY: `path` is a C string that outlives the call; the kernel only reads it.
    unsafe { raw::syscall(libc::SYS_faccessat2, args) }.map(drop)
}
