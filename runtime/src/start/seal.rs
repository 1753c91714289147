//! Keeping this program's own file out of reach of sandboxed processes.
//!
//! A process that enters a sandbox is visible there, and for a moment it is still this program:
//! its /proc/PID/exe leads to the file it was started from. A process that opens that file for
//! writing, as root in a sandbox without a user namespace can, owns the host the next time the
//! program is started (CVE-2019-5736). So before entering, the program re-executes itself from a
//! read-only mount of its file or, without the privilege for that, from a sealed copy in memory.
//!
//! A library cannot re-execute its caller's program, so the caller calls [`own_program`] first
//! thing in `main`; code that executes untrusted programs calls [`demand`].

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::sys::{CStrings, file};

/// Once protected, a program stays protected.
static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether the file is already out of reach.
pub fn is_protected() -> bool {
    if !PROTECTED.load(Relaxed) {
        PROTECTED.store(file::own_program_is_protected(), Relaxed);
    }
    PROTECTED.load(Relaxed)
}

/// Refuses if this program's file could be written through a process that starts out as this
/// program.
///
/// # Errors
/// The file is not protected.
pub fn demand() -> Result<()> {
    if is_protected() {
        return Ok(());
    }
    Err(Error::new(
        "the executed program could overwrite this program's file through /proc/self/exe",
    )
    .hint("call garth::protect_own_program() first thing in main"))
}

/// This program's file, opened where it cannot be written.
pub(super) fn protected_program() -> Result<OwnedFd> {
    file::own_program_read_only().or_else(|_| {
        let path = "/proc/self/exe";
        let bytes = std::fs::read(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
        file::sealed(c"garth", &bytes, 0o555)
            .map_err(|errno| Error::os("make a sealed copy of this program", errno))
    })
}

/// Makes sure that this program's file cannot be written through this process. It may re-execute
/// the program, with the same arguments and environment, and then returns in that new image: so
/// call it first thing in `main`.
///
/// # Errors
/// Neither a read-only mount nor a sealed copy is possible.
pub fn own_program() -> Result<()> {
    if is_protected() {
        return Ok(());
    }
    let program = protected_program()?;
    let text = |word: std::ffi::OsString| std::ffi::CString::new(word.into_vec()).ok();
    let args = std::env::args_os().filter_map(text).collect();
    let env = std::env::vars_os().filter_map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    let errno = file::exec_fd(&program, &CStrings::new(args), &CStrings::new(env.collect()));
    Err(Error::os("start this program again from a protected file", errno))
}
