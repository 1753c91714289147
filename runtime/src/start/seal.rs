//! This program's own file, out of reach of what runs inside.
//!
//! A process that enters a sandbox is visible there, and for a moment it still is this program:
//! /proc/PID/exe leads from it to the file that it was started from. Whoever opens that file for
//! writing, as root of a sandbox without a user namespace may, owns the host with its next start
//! (CVE-2019-5736). So before entering, the program starts itself once more from a read-only mount
//! of its file, or, without the privilege for that, from a sealed copy in memory.
//!
//! A library cannot start its caller's program again, so that calls [`own_program`] itself, first thing
//! in `main`; whatever executes what is not trusted asks [`demand`].

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::sys::{CStrings, file};

/// It does not change while a program runs.
static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Is it out of reach already?
pub fn is_protected() -> bool {
    if !PROTECTED.load(Relaxed) {
        PROTECTED.store(file::own_program_is_protected(), Relaxed);
    }
    PROTECTED.load(Relaxed)
}

/// Refuses where this program's file could be written through a process that begins as this program.
///
/// # Errors
/// Where it is not protected.
pub fn demand() -> Result<()> {
    if is_protected() {
        return Ok(());
    }
    Err(Error::new("what is executed here may write the file of this program, by /proc/self/exe")
        .hint("call garth::protect_own_program() first thing in main"))
}

/// This program's file where it cannot be written.
pub(super) fn protected_program() -> Result<OwnedFd> {
    file::own_program_read_only().or_else(|_| {
        let path = "/proc/self/exe";
        let bytes = std::fs::read(path).map_err(|e| Error::io(format!("read {path}"), &e))?;
        file::sealed(c"garth", &bytes, 0o555)
            .map_err(|errno| Error::os("make a sealed copy of this program", errno))
    })
}

/// Makes sure that this program's file cannot be written through this process. Returns in the
/// process that is protected, which may be a new start of this program, with the same arguments and
/// environment: so it is to be called first thing in `main`.
///
/// # Errors
/// When neither way is possible.
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
