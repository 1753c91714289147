//! Processes as the parent sees them: by descriptor, never by pid alone, as pids are reused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, Timespec};
use rustix::fs::FlockOperation;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Errno;
use super::raw::call;

pub use rustix::event::PollFlags;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ended {
    /// The code a shell would show: the exit code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
        }
    }
}

/// waitid(P_PIDFD), Linux 5.4: waits until the child ends, and reaps it. `None`: it is still
/// running (only with `block` false).
pub fn wait(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Ended>, Errno> {
    wait_id(pidfd, if block { WaitIdOptions::empty() } else { WaitIdOptions::NOHANG })
}

/// Same as [`wait`], but does not reap the child: it keeps its pid and its /proc directory.
pub fn wait_and_leave(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, Errno> {
    wait_id(pidfd, WaitIdOptions::NOWAIT)
}

fn wait_id(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Ended>, Errno> {
    let options = WaitIdOptions::EXITED | options;
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options))?;
    Ok(ended.map(|ended| match ended.exit_status() {
        Some(code) => Ended::Exited(code),
        None => Ended::Killed(ended.terminating_signal().unwrap_or_default()),
    }))
}

/// poll(2): waits until one of `fds` is readable or `timeout` has passed; returns which are.
pub fn readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> Result<[bool; N], Errno> {
    let there = ready(fds.map(|fd| Some((fd, PollFlags::IN))), timeout)?;
    Ok(there.map(|there| !there.is_empty()))
}

/// poll(2): waits until something is ready or `timeout` has passed. Each entry is a descriptor and
/// the events to wait for (IN, OUT); the result has the events that occurred, HUP and ERR included.
pub fn ready<const N: usize>(
    wanted: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    timeout: Option<Duration>,
) -> Result<[PollFlags; N], Errno> {
    let asked = wanted.iter().flatten();
    let mut polls: Vec<PollFd<'_>> =
        asked.map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events)).collect();
    // A duration that does not fit a timespec means forever.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(&mut polls, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => return Ok([PollFlags::empty(); N]),
        result => result?,
    };
    let mut polled = polls.iter().map(PollFd::revents);
    Ok(wanted.map(|entry| entry.and_then(|_| polled.next()).unwrap_or(PollFlags::empty())))
}

/// A signalfd(2) that receives every signal that can be blocked, from now on, and nothing else
/// does.
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

/// One signal that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// The kernel generated it, for example a terminal for its whole foreground process group.
    pub from_kernel: bool,
}

impl Arrived {
    /// Did only this process get it? A signal from another process is meant for one; one generated
    /// by the kernel goes to the whole foreground process group, except the hang-up of a terminal:
    /// that is sent only to the leader of the terminal's session (`tty_signal_session_leader()` in
    /// drivers/tty/tty_jobctrl.c), from which the others expect it.
    pub fn is_for_us_alone(self) -> bool {
        let leads = || rustix::process::getsid(None) == Ok(rustix::process::getpid());
        !self.from_kernel || self.signal == libc::SIGHUP && leads()
    }

    /// Does it ask this process to end?
    pub fn asks_to_end(self) -> bool {
        ENDS.iter().any(|end| *end as i32 == self.signal)
    }
}

/// By which a program is asked to end.
const ENDS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

impl Signals {
    /// Blocks all signals of this thread, except those that report its own faults and those with
    /// which a shell stops and continues a job.
    pub fn block() -> Result<Signals, Errno> {
        Signals::block_but(&[Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCONT])
    }

    /// Same as [`Signals::block`], but SIGTSTP arrives too, for a process with work to do before it
    /// stops.
    pub fn block_and_stop_later() -> Result<Signals, Errno> {
        Signals::block_but(&[Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCONT])
    }

    /// Blocks and receives SIGTSTP and SIGCONT alone, in addition to what is blocked already: for a
    /// process that gives its terminal back before it stops, and takes it again afterwards.
    pub fn block_stops() -> Result<Signals, Errno> {
        Signals::block_these(&[Signal::SIGTSTP, Signal::SIGCONT].into_iter().collect())
    }

    /// Blocks and receives those by which a program is asked to end, and SIGWINCH, for one that shows
    /// something until then.
    pub fn block_ends() -> Result<Signals, Errno> {
        Signals::block_these(&ENDS.into_iter().chain([Signal::SIGWINCH]).collect())
    }

    /// Whether one by which a program is asked to end has arrived. Others that have are forgotten.
    pub fn ask_to_end(&self) -> bool {
        std::iter::from_fn(|| self.next()).fold(false, |asked, it| asked | it.asks_to_end())
    }

    fn block_but(also_open: &[Signal]) -> Result<Signals, Errno> {
        use Signal::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
        let mut set = SigSet::all();
        for signal in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP].iter().chain(also_open) {
            set.remove(*signal);
        }
        Signals::block_these(&set)
    }

    fn block_these(set: &SigSet) -> Result<Signals, Errno> {
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let fd = SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, before })
    }

    /// The next signal, if one has arrived.
    pub fn next(&self) -> Option<Arrived> {
        let info = self.fd.read_signal().ok()??;
        Some(Arrived {
            signal: info.ssi_signo as i32,
            from_kernel: info.ssi_code == libc::SI_KERNEL,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Ends this process by `signal`, without a core file: the dump would be that of another process.
/// Returns if the signal does not end it, as for pid 1 of a namespace.
pub fn die_by(signal: i32) {
    // RLIMIT_CORE would not stop the handler behind a core_pattern pipe from being called.
    let _ = super::raw::prctl(libc::PR_SET_DUMPABLE, 0, 0);
    let _ = super::raw::set_disposition(signal, false);
    let _ = super::raw::set_signal_mask(0);
    let _ = call!(libc::SYS_kill, std::process::id(), signal);
}

/// Stops this process; returns when it is continued.
pub fn stop() {
    let _ = call!(libc::SYS_kill, std::process::id(), libc::SIGSTOP);
}

/// The pids of all processes in /proc; any of them may have ended meanwhile.
pub fn all() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The effective user and group id of the caller.
pub fn effective_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The permitted capabilities of the calling thread (capget(2)), one bit each.
pub fn capabilities() -> u64 {
    rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits())
}

/// The ABI version of Landlock (landlock_create_ruleset(2)), 0 without Landlock.
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let flag = LANDLOCK_CREATE_RULESET_VERSION;
    call!(libc::SYS_landlock_create_ruleset, 0, 0, flag).map_or(0, |version| version as u32)
}

/// Is this process subject to a seccomp filter?
pub fn is_filtered() -> bool {
    const SECCOMP_MODE_FILTER: &str = "2";
    let status = super::file::read_kernel("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == SECCOMP_MODE_FILTER)
}

/// Is this process in a user namespace other than the initial one, which has a fixed inode number
/// (PROC_USER_INIT_INO of linux/proc_ns.h)?
pub fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xEFFF_FFFD;
    let own = std::fs::metadata("/proc/self/ns/user");
    own.is_ok_and(|own| std::os::unix::fs::MetadataExt::ino(&own) != FIRST)
}

/// flock(2): takes the exclusive lock of an open file or directory, if it is free.
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// flock(2): waits for a shared lock of an open file or directory.
pub fn lock_shared(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(fd, FlockOperation::LockShared) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(Errno::from),
        }
    }
}

/// The pid of this process's parent.
pub fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// Continues in a process that is not its caller's child, so that the caller need not reap it: a
/// copy of this one, which exits. For single-threaded processes.
pub fn leave_parent() -> Result<(), Errno> {
    // SAFETY: there is no other thread, so nothing in the copy is locked.
    match unsafe { libc::fork() } {
        ..0 => Err(std::io::Error::last_os_error().into()),
        0 => Ok(()),
        _ => super::raw::exit(0),
    }
}

/// What a program does first. SIGCHLD gets its default action: if a caller left it ignored, ended
/// children leave no status (wait(2)). SIGPIPE is ignored: a writer gets EPIPE instead. And a
/// closed descriptor 0, 1 or 2 becomes /dev/null, or the next file opened would take its place.
pub fn begin() {
    let _ = super::raw::set_disposition(libc::SIGCHLD, false);
    let _ = super::raw::set_disposition(libc::SIGPIPE, true);
    for fd in 0..3 {
        if call!(libc::SYS_fcntl, fd, libc::F_GETFD).is_err() {
            // open(2) takes the lowest free number: this one.
            let null = c"/dev/null".as_ptr();
            let _ = call!(libc::SYS_openat, libc::AT_FDCWD, null, libc::O_RDWR, 0);
        }
    }
}

/// Takes ownership of these, and closes every other descriptor from 3 on that this program
/// inherited and did not open itself. Call this before opening anything.
///
/// # Errors
/// EBADF: one was not inherited, or is named twice.
pub fn keep_inherited<const N: usize>(
    mut fds: [super::raw::RawFd; N],
) -> Result<[OwnedFd; N], Errno> {
    let order = fds;
    fds.sort_unstable();
    let twice = fds.windows(2).any(|pair| pair[0] == pair[1]);
    if twice || fds.iter().any(|fd| *fd < 3 || !super::file::is_inherited(*fd)) {
        return Err(Errno(libc::EBADF));
    }
    let mut from = 3;
    for fd in fds {
        super::raw::set_cloexec(fd, true)?;
        if fd as u32 > from {
            let _ = super::raw::close_fds(from, fd as u32 - 1);
        }
        from = fd as u32 + 1;
    }
    let _ = super::raw::close_range(from, 0);
    Ok(order.map(super::raw::own))
}

/// The name of a signal: `TERM`, or its number if it has none.
pub fn signal_name(number: i32) -> String {
    let known = Signal::try_from(number).map(Signal::as_str);
    known.map_or_else(|_| number.to_string(), |name| name.trim_start_matches("SIG").to_owned())
}

/// The number of a signal given as `TERM`, `SIGTERM`, `rtmin+1` or `15`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(more) = name.strip_prefix("RTMIN") {
        let more = if more.is_empty() { 0 } else { more.strip_prefix('+')?.parse::<i32>().ok()? };
        let number = libc::SIGRTMIN().checked_add(more)?;
        return (number <= libc::SIGRTMAX()).then_some(number);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        for (text, number) in [
            ("TERM", libc::SIGTERM),
            ("sigterm", libc::SIGTERM),
            ("STKFLT", libc::SIGSTKFLT),
            ("15", 15),
            ("rtmin+1", libc::SIGRTMIN() + 1),
            ("64", 64),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for text in ["0", "65", "SIGSIGTERM", "RTMIN+40", "term ", ""] {
            assert_eq!(signal_number(text), None, "{text}");
        }
        assert_eq!(signal_name(libc::SIGTERM), "TERM");
        assert_eq!(signal_name(libc::SIGSYS), "SYS");
        assert_eq!(signal_name(40), "40");
        assert_eq!(signal_name(0), "0");
    }
}
