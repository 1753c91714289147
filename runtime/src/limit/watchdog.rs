//! A small process next to the limiter that continues the target when the limiter cannot: when it
//! has ended, however it ended, and when it is itself stopped or hangs.
//!
//! It is out of reach of what can kill a limiter: a session of its own (no signals of a terminal or
//! of a group), every signal blocked, nothing open but what it needs, all its memory locked. It
//! trusts nothing but the record. If it is the one to die, the limiter sees that by its pidfd.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use super::record::{self, Limited, Stops};
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal, ProcessId};
use crate::sys::clone::Cloned;
use crate::sys::{fork, pidfd, process, raw, timer};

/// How often it checks that the limiter keeps its promise.
const TURN: Duration = Duration::from_millis(100);
/// How late the limiter may be, on a busy machine.
const GRACE: Duration = Duration::from_millis(250);

/// The watchdog, seen from the limiter.
#[derive(Debug)]
pub struct Watchdog {
    process: Cloned,
}

impl Watchdog {
    /// Starts one that watches `limiter`, whose record is `entry`; it is watching when this
    /// returns. Must be called by a single-threaded process.
    ///
    /// # Errors
    /// It cannot be started, or cannot read the record.
    pub fn start(entry: &Entry, limiter: &ProcessId) -> Result<Watchdog> {
        let failed = |e: &std::io::Error| Error::io("start the watchdog", e);
        let root = entry.journal().root();
        let journal = Journal::at(fs::canonicalize(root).map_err(|e| failed(&e))?).limits();
        let (reader, writer) = std::io::pipe().map_err(|e| failed(&e))?;
        let ready = writer.as_raw_fd();
        let process = fork::child(|| watch(&journal, entry.id(), limiter, ready))
            .map_err(|errno| Error::os("start the watchdog", errno))?;
        let watchdog = Watchdog { process };
        drop(writer);
        let mut word = [0];
        File::from(std::os::fd::OwnedFd::from(reader)).read_exact(&mut word).map_err(|_| {
            watchdog.end();
            Error::new(format!("the watchdog cannot read the record of limit {}", entry.id()))
        })?;
        Ok(watchdog)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    /// Ends it, when nothing is left to watch.
    pub fn end(&self) {
        let _ = pidfd::send_signal(self.pidfd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd(), true);
    }
}

/// The watchdog's whole life; its exit code.
fn watch(journal: &Journal, id: &str, ours: &ProcessId, ready: i32) -> i32 {
    const READY: i32 = 3;
    let _ = raw::set_signal_mask(u64::MAX);
    let _ = raw::setsid();
    let _ = raw::prctl(libc::PR_SET_NAME, c"garth-watchdog".as_ptr() as usize, 0);
    // Inherited descriptors must not keep a reader from seeing the end of its input.
    if ready != READY && raw::dup2(ready, READY).is_err() {
        return 1;
    }
    let _ = raw::close_range(READY as u32 + 1, 0);
    let _ = raw::close_fds(READY as u32 + 1, u32::MAX);
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for fd in 0..3 {
            let _ = raw::dup2(null.as_raw_fd(), fd);
        }
    }
    let _ = raw::chdir(c"/");
    // Where that is allowed. A machine out of memory kills the target before its watchdog.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = fork::lock_memory();
    let Ok(held) = Stops::open(journal, id) else { return 1 };
    // If it cannot be opened it is taken to have ended; the lock on the record still decides.
    let limiter = ours.open().ok().flatten();
    let _ = raw::write(READY, b"r");
    raw::close(READY);

    let mut broken_word = None;
    while let Some(limiter) = &limiter {
        match process::readable([limiter.as_fd()], Some(TURN)) {
            Ok([true]) => break,
            Ok([false]) => {}
            Err(_) => std::thread::sleep(TURN),
        }
        // Stopped by SIGSTOP, or stuck: the target was promised to be running already.
        let until = held.until();
        let late = until.is_some_and(|until| timer::monotonic() > until + GRACE);
        if late && until != broken_word {
            let _ = held.release();
            broken_word = until;
        }
    }
    let has_another = |now: Option<Limited>| now.is_some_and(|now| now.limiter != *ours);
    for _ in 0..100 {
        // Another limiter of the same target has continued first what this one had stopped.
        if record::read(journal, id).is_ok_and(has_another) {
            return 0;
        }
        // By the file that is open here: the directory may be lost.
        if held.release().is_ok() {
            match journal.lock(id) {
                Ok(Some(entry)) => return i32::from(entry.remove().is_err()),
                Ok(None) => {}
                Err(_) => return 0,
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    1
}
