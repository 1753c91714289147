//! Can the caller write to a path (faccessat2(2), Linux 5.8)?

use std::ffi::CStr;

use rustix::fs::{Access, AtFlags, CWD};

use super::Errno;

/// Can the effective ids write to `path`? EROFS for a read-only mount, EACCES for the mode. For
/// messages only: what counts is the write itself.
pub fn writable(path: &CStr) -> Result<(), Errno> {
    Ok(rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}
