//! A null-terminated array of C strings, built before the clone, as execve(2) wants it.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Owned C strings and the pointer array over them.
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    pid_text: Option<PidText>,
}

/// `NAME=0000000000`, whose digits are written later.
struct PidText {
    text: Box<[AtomicU8]>,
    /// Where the digits begin.
    digits: usize,
}

impl CStrings {
    /// Takes the strings; the array ends with a null pointer.
    pub fn new(strings: Vec<CString>) -> CStrings {
        // A CString's bytes are on the heap and do not move when the Vec that holds it does.
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        CStrings { strings, pointers, pid_text: None }
    }

    /// The same, followed by `name` with a process id, which [`CStrings::tell_pid`] writes.
    pub fn with_pid(strings: Vec<CString>, name: &str) -> CStrings {
        let text = name.bytes().chain(*b"=0000000000\0").map(AtomicU8::new).collect();
        let pid_text = PidText { text, digits: name.len() + 1 };
        let mut all = CStrings::new(strings);
        let end = all.pointers.len() - 1;
        all.pointers.insert(end, pid_text.text.as_ptr().cast());
        all.pid_text = Some(pid_text);
        all
    }

    /// Writes the process id, if there is room for one. Allocates nothing.
    pub fn tell_pid(&self, pid: impl FnOnce() -> i32) {
        let Some(PidText { text, digits }) = &self.pid_text else { return };
        let pid = pid();
        let (mut rest, mut length) = (pid, 1);
        while rest >= 10 {
            (rest, length) = (rest / 10, length + 1);
        }
        rest = pid;
        for digit in text[*digits..*digits + length].iter().rev() {
            digit.store(b'0' + (rest % 10) as u8, Relaxed);
            rest /= 10;
        }
        text[*digits + length].store(0, Relaxed);
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

// SAFETY: the pointers point into `strings`, which this value owns and never changes, and into
// `told`, which it also owns and changes only by atomics.
unsafe impl Send for CStrings {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for CStrings {}

impl fmt::Debug for CStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strings.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_told_without_zeros_in_front() {
        let strings = CStrings::with_pid(vec![c"A=b".into()], "LISTEN_PID");
        for pid in [2, 10, 4194304, 1] {
            strings.tell_pid(|| pid);
            assert_eq!(strings.pointers.len(), 3);
            // SAFETY: the second pointer, to a C string that `strings` owns.
            let pid_text = unsafe { CStr::from_ptr(strings.pointers[1]) };
            assert_eq!(pid_text.to_str().unwrap(), format!("LISTEN_PID={pid}"));
        }
    }
}
