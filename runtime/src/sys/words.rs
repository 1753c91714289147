//! The handshake between parent and child in memory that both see, and that others can read later.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::clone::PAGE;
use super::{Errno, raw};

/// The child's state. The kernel itself writes [`GONE`] when the child leaves the shared memory.
pub const GONE: u32 = 0;
const WORKING: u32 = 1;

/// How many left-out steps a child can report.
const SPARED: usize = 16;

/// The handshake between parent and child: words in memory that both see.
///
/// `says` is the child's thread id word (CLONE_CHILD_CLEARTID): when the child executes or exits,
/// the kernel clears it and wakes the parent, so no pipe is needed to learn of either. `second` is
/// the same for a child of [`super::clone::nested`], and zero if there is none; for a
/// [`super::fork::sibling`] it keeps the process id.
#[repr(C)]
pub struct Words {
    pub(super) says: AtomicU32,
    second: AtomicU32,
    go: AtomicU32,
    at: AtomicU32,
    failed_step: AtomicU32,
    errno: AtomicU32,
    spared: [[AtomicU32; 2]; SPARED],
}

impl Words {
    /// Parent, before the clone.
    pub(super) fn reset(&self) {
        self.says.store(WORKING, SeqCst);
        for word in [&self.second, &self.go, &self.at, &self.failed_step, &self.errno] {
            word.store(0, SeqCst);
        }
        self.spared.iter().for_each(|[_, errno]| errno.store(0, SeqCst));
    }

    /// Child: step `step` begins.
    pub fn begin(&self, step: usize) {
        self.at.store(step as u32, SeqCst);
    }

    /// Child: step `step` failed. The first failure stands.
    pub fn fail(&self, step: usize, errno: Errno) {
        if self.errno.load(SeqCst) == 0 {
            self.failed_step.store(step as u32, SeqCst);
            self.errno.store(errno.0 as u32, SeqCst);
        }
    }

    /// Child: step `step` was refused, and the start continues without it.
    pub fn spare(&self, step: usize, errno: Errno) {
        if let Some([number, why]) = self.spared.iter().find(|[_, why]| why.load(SeqCst) == 0) {
            number.store(step as u32, SeqCst);
            why.store(errno.0 as u32, SeqCst);
        }
    }

    /// The steps that were refused without failing the start, and why.
    pub fn spared(&self) -> impl Iterator<Item = (usize, Errno)> {
        let told = self.spared.iter().map(|pair| pair.each_ref().map(|word| word.load(SeqCst)));
        let told = told.take_while(|[_, errno]| *errno != 0);
        told.map(|[step, errno]| (step as usize, Errno(errno as i32)))
    }

    /// Child: the reported failure did not stop the start after all.
    pub fn forget_failure(&self) {
        self.errno.store(0, SeqCst);
    }

    /// The step that failed, and why.
    pub fn failure(&self) -> Option<(usize, Errno)> {
        match self.errno.load(SeqCst) {
            0 => None,
            errno => Some((self.failed_step.load(SeqCst) as usize, Errno(errno as i32))),
        }
    }

    /// The process id of a second process that the child has started ([`super::fork::sibling`]), in
    /// the child's pid namespace, which is the caller's.
    pub fn second(&self) -> Option<i32> {
        Some(self.second.load(SeqCst) as i32).filter(|pid| *pid > 0)
    }

    /// Where the kernel writes it.
    pub(super) fn second_word(&self) -> u64 {
        self.second.as_ptr() as u64
    }

    /// The step the child last began.
    pub fn at(&self) -> usize {
        self.at.load(SeqCst) as usize
    }

    /// Parent: sends `Go`.
    pub(super) fn go(&self) {
        self.go.store(1, SeqCst);
        raw::futex_wake(&self.go);
    }

    /// Child: sleeps until the parent sends `Go`.
    pub fn await_go(&self) {
        while self.go.load(SeqCst) == 0 {
            raw::futex_wait(&self.go, 0);
        }
    }

    /// Parent: sleeps until the child, and then any second one it started, has left the shared
    /// memory.
    pub(super) fn await_gone(&self) {
        for word in [&self.says, &self.second] {
            loop {
                match word.load(SeqCst) {
                    GONE => break,
                    said => raw::futex_wait(word, said),
                }
            }
        }
    }
}

/// How far a child has come, for processes that do not share its words: a memory file
/// ([`super::clone::Ground::on`]) that begins with the words, followed by a text of the parent's.
#[derive(Debug)]
pub struct Progress {
    /// The step it last began.
    pub at: usize,
    /// The step that failed, and why.
    pub failure: Option<(usize, Errno)>,
    /// The text.
    pub text: Vec<u8>,
}

impl Progress {
    /// A new file; close-on-exec.
    pub fn file() -> Result<File, Errno> {
        raw::memory_file(c"progress").map(raw::own).map(File::from)
    }

    /// Writes the text, which also makes room for the words.
    pub fn describe(file: &File, text: &[u8]) -> Result<(), Errno> {
        Ok(file.write_all_at(text, PAGE as u64)?)
    }

    /// The current state.
    pub fn read(file: &File) -> Result<Progress, Errno> {
        let mut bytes = [0u8; size_of::<Words>()];
        file.read_exact_at(&mut bytes, 0)?;
        // SAFETY: Words is atomics, valid for every bit pattern, and of this size.
        let words: Words = unsafe { std::mem::transmute(bytes) };
        let length = (file.metadata()?.len() as usize).saturating_sub(PAGE);
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, PAGE as u64)?;
        Ok(Progress { at: words.at(), failure: words.failure(), text })
    }
}
