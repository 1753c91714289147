//! The program that waits beside a detached sandbox (`keeper/main.rs`), compiled by build.rs and
//! executed from a sealed memory file by the process that becomes it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::process::Signals;
use super::{CStrings, Errno, file, raw};

/// Its `argv[0]`.
pub const NAME: &CStr = c"garth-keeper";

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/garth-keeper"));

/// The program's file, sealed as that of the init is ([`super::init::sealed`]).
pub fn sealed() -> Result<OwnedFd, Errno> {
    file::sealed(NAME, PROGRAM, 0o111)
}

/// What a keeper does, as `keeper/main.rs` describes it.
#[derive(Debug)]
pub struct Keeping<'a> {
    /// A pidfd of the process, a child or not, whose end is waited for; `None`: only a pause.
    pub first: Option<BorrowedFd<'a>>,
    /// A pidfd of the process that gets SIGTERM.
    pub command: Option<BorrowedFd<'a>>,
    /// Where standard output and standard error can be read, without blocking.
    pub outputs: [Option<BorrowedFd<'a>>; 2],
    /// The directory of the log.
    pub dir: Option<BorrowedFd<'a>>,
    /// The size of one of its files, in bytes.
    pub size: u64,
    /// How many of them are kept.
    pub count: u32,
    /// The length of the pause; with `first`, the time between two checks.
    pub every: Option<Duration>,
    /// Where terminals are attached to the one behind the first of `outputs`.
    pub listening: Option<BorrowedFd<'a>>,
    /// A file of /proc; the program is run when it has something new to say.
    pub watched: Option<BorrowedFd<'a>>,
    /// The program it becomes, and runs for checks.
    pub program: BorrowedFd<'a>,
    /// Its arguments: the second is a word, which is `health` for a check, and `watch` for a look at what
    /// is watched.
    pub args: Vec<CString>,
    /// Its environment, and that of this program.
    pub env: Vec<CString>,
}

impl<'a> Keeping<'a> {
    /// Becomes the keeper, with only these descriptors and `held`.
    ///
    /// # Errors
    /// It was not possible.
    pub fn become_keeper(
        self,
        held: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Result<std::convert::Infallible, Errno> {
        let keeper = sealed()?;
        let [out, err] = self.outputs;
        let named = [self.first, self.command, out, err, self.dir, self.listening, self.watched];
        let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        let fd = |fd: &Option<BorrowedFd<'_>>| number(fd.map(|fd| fd.as_raw_fd() as u64));
        let every = self.every.map(|every| (every.as_millis() as u64).clamp(1, i32::MAX as u64));
        let mut words: Vec<String> = named[..5].iter().map(fd).collect();
        words.extend([
            self.size.min(i32::MAX as u64).to_string(),
            self.count.to_string(),
            number(every),
            fd(&self.listening),
            fd(&self.watched),
            self.program.as_raw_fd().to_string(),
        ]);
        let mut argv = vec![NAME.to_owned()];
        argv.extend(words.into_iter().map(|word| CString::new(word).unwrap_or_default()));
        argv.extend(self.args);
        for fd in held.chain(named.into_iter().flatten()).chain([self.program]) {
            raw::set_cloexec(fd.as_raw_fd(), false)?;
        }
        // One that arrives from here on must stay pending, not be lost.
        std::mem::forget(Signals::block()?);
        Err(file::exec_fd(&keeper, &CStrings::new(argv), &CStrings::new(self.env)))
    }
}
