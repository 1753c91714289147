//! The output of hooks: logged line by line; if a hook fails, the end of its standard error is
//! given as the reason.

use crate::error::Error;
use crate::sys::raw::RawFd;

/// The output of hooks, one hook after the other.
pub struct HookOutput<'a> {
    tell: &'a dyn Fn(&str),
    hook: String,
    /// The unfinished last line of its standard output and of its standard error.
    begun: [Vec<u8>; 2],
    reason: Vec<u8>,
}

/// The longest line, and the longest reason.
const LIMIT: usize = 1024;

impl<'a> HookOutput<'a> {
    /// Calls `tell` for each line.
    pub fn new(tell: &'a dyn Fn(&str)) -> HookOutput<'a> {
        HookOutput { tell, hook: String::new(), begun: Default::default(), reason: Vec::new() }
    }

    /// A hook begins to run.
    pub fn begin(&mut self, hook: &[u8]) {
        self.end();
        self.hook = String::from_utf8_lossy(hook).into_owned();
        self.reason.clear();
    }

    /// The hook has written `text` to descriptor 1 or 2.
    pub fn receive(&mut self, fd: RawFd, text: &[u8]) {
        if fd == libc::STDERR_FILENO {
            self.reason.extend_from_slice(text);
            let surplus = self.reason.len().saturating_sub(LIMIT);
            self.reason.drain(..surplus);
        }
        let which = usize::from(fd == libc::STDERR_FILENO);
        for byte in text {
            if *byte == b'\n' || self.begun[which].len() == LIMIT {
                self.tell(which);
            }
            if *byte != b'\n' {
                self.begun[which].push(*byte);
            }
        }
    }

    /// There is no more output.
    pub fn end(&mut self) {
        (0..2).for_each(|which| self.tell(which));
    }

    /// Adds the reason to the error.
    #[must_use]
    pub fn because(&self, error: Error) -> Error {
        let reason = String::from_utf8_lossy(&self.reason);
        let lines = reason.lines().map(str::trim).filter(|line| !line.is_empty());
        match lines.collect::<Vec<&str>>().join("; ") {
            reason if reason.is_empty() => error,
            reason => error.because(reason),
        }
    }

    fn tell(&mut self, which: usize) {
        let line = std::mem::take(&mut self.begun[which]);
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            (self.tell)(&format!("hook {}: {}", self.hook, line.trim_end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn each_line_is_told_and_the_end_of_the_errors_is_the_reason() {
        let lines = RefCell::new(Vec::new());
        let tell = |line: &str| lines.borrow_mut().push(line.to_owned());
        let mut output = HookOutput::new(&tell);
        output.begin(b"/first");
        output.receive(2, b"not this\n");
        output.begin(b"/second");
        output.receive(1, b"on");
        output.receive(2, b"no device\nno ");
        output.receive(1, b"e\n\ntwo");
        output.receive(2, b"driver\n");
        output.end();
        let expected = [
            "hook /first: not this",
            "hook /second: no device",
            "hook /second: one",
            "hook /second: no driver",
            "hook /second: two",
        ];
        assert_eq!(*lines.borrow(), expected);
        let error = output.because(Error::new("hook /second: exited with code 1"));
        assert_eq!(error.to_string(), "hook /second: exited with code 1: no device; no driver");
    }

    #[test]
    fn what_has_no_end_is_cut() {
        let count = RefCell::new(0);
        let tell = |line: &str| *count.borrow_mut() += usize::from(line.len() < LIMIT + 20);
        let mut output = HookOutput::new(&tell);
        output.begin(b"/hook");
        (0..100).for_each(|_| output.receive(2, &[b'x'; 1000]));
        output.end();
        assert_eq!(*count.borrow(), 98);
        assert!(output.because(Error::new("hook")).to_string().len() < LIMIT + 20);
    }
}
