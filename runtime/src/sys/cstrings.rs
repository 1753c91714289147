//! A null-terminated array of C strings, built before the clone, as execve(2) wants it.

use std::ffi::{CStr, CString, c_char};
use std::fmt;

/// Owned C strings and the pointer array over them.
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Takes the strings; the array ends with a null pointer.
    pub fn new(strings: Vec<CString>) -> CStrings {
        // A CString's bytes are on the heap and do not move when the Vec that holds it does.
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        CStrings { strings, pointers }
    }

    /// The array for the kernel.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }
}

// SAFETY: the pointers point into `strings`, which this value owns and never changes.
unsafe impl Send for CStrings {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for CStrings {}

impl fmt::Debug for CStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strings.fmt(f)
    }
}
