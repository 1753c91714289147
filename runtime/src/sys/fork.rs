//! Processes that a child starts by itself, like fork(2): both continue after the call, each with
//! its own copy of memory. For children that do not share their parent's
//! ([`super::clone::Memory`]).

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::clone::Words;
use super::raw::{self, BpfInstruction, RawFd, call};
use super::{CStrings, Errno, arch};

/// struct clone_args of clone3(2), to its first size.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// clone3(2) used like fork(2), or clone(2) where a seccomp filter refuses clone3 (see
/// [`super::clone`]).
fn clone(args: &CloneArgs) -> Result<usize, Errno> {
    let refused = match call!(libc::SYS_clone3, &raw const *args, size_of::<CloneArgs>()) {
        Err(refused @ Errno(libc::ENOSYS | libc::EPERM)) => refused,
        result => return result,
    };
    // What clone(2) cannot express: its lowest byte is the signal.
    if args.flags >> 32 != 0 || args.flags & 0xff != 0 {
        return Err(refused);
    }
    // It has one argument for both.
    let word =
        if args.flags & libc::CLONE_PIDFD as u64 != 0 { args.pidfd } else { args.parent_tid };
    let flags = args.flags | args.exit_signal;
    let [flags, stack, word, fourth, fifth] =
        arch::clone_arguments(flags, 0, word, args.child_tid, args.tls);
    call!(libc::SYS_clone, flags, stack, word, fourth, fifth)
}

/// A second process alongside this one, a child of the same parent (CLONE_PARENT): it starts in the
/// pid namespace that was joined, or made for children. Returns 0 in the second, its process id in
/// the first. The kernel writes that id to [`Words::second`] before the second runs: whichever
/// process is killed, and whenever, the parent, which shares the words, knows of it.
pub fn sibling(words: &Words) -> Result<i32, Errno> {
    let args = CloneArgs {
        flags: (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as u64,
        parent_tid: words.second_word(),
        ..CloneArgs::default()
    };
    clone(&args).map(|pid| pid as i32)
}

/// How a program of [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with 0.
    Success,
    /// It exited with another code.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// It did not end in time, and was killed.
    Late,
    /// It could not be executed.
    NotExecuted(Errno),
}

/// A program for [`run`].
#[derive(Debug)]
pub struct Program<'a> {
    /// Its file.
    pub path: &'a CStr,
    /// Its arguments, its name first.
    pub argv: &'a CStrings,
    /// Its environment.
    pub envp: &'a CStrings,
    /// Its working directory; without one, or if it cannot be entered: the caller's.
    pub directory: Option<&'a CStr>,
    /// A seccomp filter that it runs under, and the flags for seccomp(2).
    pub filter: Option<(&'a [BpfInstruction], u32)>,
    /// Milliseconds; negative: no limit.
    pub timeout: i32,
}

/// Runs a program with `input` as its standard input, and waits for it to end. Its output
/// meanwhile, standard output and error, is passed to `said` with the number of the descriptor; the
/// output of processes it leaves running is no longer read.
pub fn run(
    program: &Program<'_>,
    input: &[&[u8]],
    said: &mut dyn FnMut(RawFd, &[u8]),
) -> Result<Outcome, Errno> {
    let stdin = memory_file(input)?;
    let [output, error, reason] = [raw::pipe()?, raw::pipe()?, raw::pipe()?];
    let (pid, pidfd) = fork()?;
    if pid == 0 {
        let errno = execute(program, [stdin, output[1], error[1]]);
        let _ = raw::write(reason[1], &errno.0.to_ne_bytes());
        raw::exit(127);
    }
    [stdin, output[1], error[1], reason[1]].into_iter().for_each(raw::close);
    let outcome = attend(pidfd, [output[0], error[0]], program.timeout, said);
    // The pipe carries only its errno; end of file means that it was executed.
    let mut errno = [0; 4];
    let executed = raw::read(reason[0], &mut errno) != Ok(errno.len());
    [pidfd, output[0], error[0], reason[0]].into_iter().for_each(raw::close);
    if executed { outcome } else { Ok(Outcome::NotExecuted(Errno(i32::from_ne_bytes(errno)))) }
}

/// In the child.
fn execute(program: &Program<'_>, standard: [RawFd; 3]) -> Errno {
    // If it already had this number, close-on-exec would stay set.
    for (number, fd) in (0..).zip(standard) {
        let copied = if fd == number { raw::set_cloexec(fd, false) } else { raw::dup2(fd, number) };
        if let Err(errno) = copied {
            return errno;
        }
    }
    if let Some(directory) = program.directory {
        let _ = raw::chdir(directory);
    }
    let _ = raw::set_signal_mask(0);
    // Ignored signals stay ignored across execve: SIGPIPE by the standard library, others by the
    // caller.
    for signal in 1..=64 {
        let _ = raw::set_disposition(signal, false);
    }
    let filtered =
        program.filter.map(|(instructions, flags)| raw::seccomp_filter(instructions, flags));
    match filtered {
        Some(Err(errno)) => errno,
        _ => raw::execve(program.path, program.argv, program.envp),
    }
}

/// fork(2), with a pidfd of the child; in the child, 0 and no pidfd.
fn fork() -> Result<(usize, RawFd), Errno> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let pid = clone(&args)?;
    Ok((pid, pidfd))
}

/// A memory file with these contents, positioned at its start.
fn memory_file(contents: &[&[u8]]) -> Result<RawFd, Errno> {
    let file = raw::memory_file(c"state")?;
    for part in contents {
        raw::write(file, part)?;
    }
    call!(libc::SYS_lseek, file, 0, libc::SEEK_SET)?;
    Ok(file)
}

/// Waits until the process has ended.
fn attend(
    pidfd: RawFd,
    outputs: [RawFd; 2],
    timeout: i32,
    said: &mut dyn FnMut(RawFd, &[u8]),
) -> Result<Outcome, Errno> {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polls = [poll(pidfd), poll(outputs[0]), poll(outputs[1])];
    let end = milliseconds().saturating_add(i64::from(timeout));
    let mut late = false;
    loop {
        let rest = match timeout {
            ..0 => None,
            _ if late => None,
            _ => Some(u32::try_from(end - milliseconds()).unwrap_or(0)),
        };
        match raw::poll(&mut polls, rest) {
            Err(Errno(libc::EINTR)) => continue,
            ready => late |= ready? == 0,
        }
        if late {
            call!(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0, 0)?;
        }
        let ended = polls[0].revents != 0;
        hear(&mut polls[1..], said);
        if ended {
            break;
        }
    }
    // Read what is there already: at most what the two pipes hold, as another process may go on
    // writing.
    for _ in 0..32 {
        if raw::poll(&mut polls[1..], Some(0)) == Ok(0) {
            break;
        }
        hear(&mut polls[1..], said);
    }
    // SAFETY: siginfo_t is plain memory, for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    call!(libc::SYS_waitid, libc::P_PIDFD, pidfd, &raw mut info, libc::WEXITED, 0)?;
    // SAFETY: waitid has filled in the fields of a SIGCHLD siginfo.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        _ if late => Outcome::Late,
        libc::CLD_EXITED if status == 0 => Outcome::Success,
        libc::CLD_EXITED => Outcome::Code(status),
        _ => Outcome::Signal(status),
    })
}

/// Reads one piece from each output that is ready; stops polling one at its end of file.
fn hear(outputs: &mut [libc::pollfd], said: &mut dyn FnMut(RawFd, &[u8])) {
    let mut piece = [0; crate::sys::channel::TEXT];
    for (number, output) in (1..).zip(outputs) {
        if output.revents == 0 {
            continue;
        }
        match raw::read(output.fd, &mut piece) {
            Ok(read @ 1..) => said(number, &piece[..read]),
            _ => output.fd = -1,
        }
        output.revents = 0;
    }
}

/// Monotonic time.
fn milliseconds() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = call!(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Runs `action` in a process that no other waits for: a copy of this one, with only the
/// descriptors in `keep`, in a session of its own. It may only make system calls: our other threads
/// do not exist in the copy, and the locks they held stay locked.
pub fn aside(keep: &mut [RawFd], action: impl FnOnce()) -> Result<(), Errno> {
    keep.sort_unstable();
    // Without an exit signal, a caller that waits for any child does not get this one.
    let args = CloneArgs::default();
    let pid = clone(&args)?;
    if pid != 0 {
        let mut status = 0;
        call!(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, 0)?;
        return if status == 0 { Ok(()) } else { Err(Errno(libc::EAGAIN)) };
    }
    // Fork again, so that none of our processes has to reap it.
    match clone(&args) {
        Ok(0) => {}
        again => raw::exit(i32::from(again.is_err())),
    }
    // Otherwise a reader of our output, or a waiter for our lock, would wait for it.
    let mut next = 0;
    for number in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
        if number > next {
            let _ = raw::close_fds(next, number - 1);
        }
        next = number + 1;
    }
    let _ = raw::close_fds(next, u32::MAX);
    let _ = raw::setsid();
    action();
    raw::exit(0);
}

/// A child with a copy of this process's memory that runs `work` and exits with its result. For
/// single-threaded processes: the child has only the calling thread, and locks held by others stay
/// locked.
pub fn child(work: impl FnOnce() -> i32) -> Result<super::clone::Cloned, Errno> {
    let (pid, pidfd) = fork()?;
    if pid == 0 {
        raw::exit(work());
    }
    Ok(super::clone::Cloned { pid: pid as i32, pidfd: raw::own(pidfd) })
}

/// Keeps all memory of this process resident (mlockall(2)), so that no page has to be read back.
pub fn lock_memory() -> Result<(), Errno> {
    call!(libc::SYS_mlockall, libc::MCL_CURRENT).map(drop)
}

/// This process's id, in its own pid namespace.
pub fn own_pid() -> i32 {
    call!(libc::SYS_getpid).map_or(0, |pid| pid as i32)
}

/// A process that does nothing, in new namespaces of these kinds (CLONE_NEW*), until it is killed:
/// for operations on a namespace that need a process in it.
pub fn idle(namespaces: u64) -> Result<super::clone::Cloned, Errno> {
    idle_as(namespaces, || {
        loop {
            let _ = raw::poll(&mut [], None);
        }
    })
}

/// Same as [`idle`], but other processes of the caller's user may trace it, as they may trace the
/// caller: only root may write the id maps of a process that is not dumpable.
///
/// It becomes dumpable only when it holds nothing of use to them: no descriptor of the caller's
/// and, even when another process controls it, no system call that opens one. Returns once that is
/// so. It ends when the returned descriptor is closed, at the latest.
pub fn idle_within_reach(namespaces: u64) -> Result<(super::clone::Cloned, OwnedFd), Errno> {
    let (here, there) = crate::sys::channel::pair()?;
    let channel = there.as_raw_fd();
    let idle = idle_as(namespaces, || {
        let number = channel as u32;
        let below = if number > 0 { raw::close_fds(0, number - 1) } else { Ok(()) };
        let alone = below
            .and_then(|()| raw::close_fds(number + 1, u32::MAX))
            .and_then(|()| raw::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0))
            .and_then(|_| raw::seccomp_filter(WAITER.as_chunks().0, 0))
            .and_then(|_| raw::prctl(libc::PR_SET_DUMPABLE, 1, 0))
            .and_then(|_| {
                crate::sys::channel::tell(
                    channel,
                    crate::sys::channel::Message { kind: 0, value: 0 },
                )
            });
        if alone.is_ok() {
            let _ = crate::sys::channel::hear(channel);
        }
    })?;
    drop(there);
    match crate::sys::channel::receive(here.as_fd())? {
        Some(_) => Ok((idle, here)),
        None => {
            let _ = super::process::wait(idle.pidfd.as_fd(), true);
            Err(Errno(libc::EPERM))
        }
    }
}

/// A seccomp filter under which a process can only wait on its channel and exit: `waiter` of
/// `specs/seccomp/own.json`, compiled by seccompiler.
const WAITER: &[u8] = crate::sys::embedded_filter!("waiter");

/// An untraceable child without shared memory, in new namespaces, that runs `what`.
fn idle_as(namespaces: u64, what: impl FnOnce()) -> Result<super::clone::Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let undumpable = super::clone::Undumpable::now();
    let pid = clone(&args)?;
    if pid == 0 {
        // If the parent is killed, this process is too.
        let _ = raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0);
        what();
        raw::exit(1);
    }
    drop(undumpable);
    Ok(super::clone::Cloned { pid: pid as i32, pidfd: raw::own(pidfd) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_is_within_reach_has_nothing_and_can_do_nothing() {
        let (idle, channel) = idle_within_reach(0).unwrap();
        let of =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", idle.pid)).unwrap();
        let open = std::fs::read_dir(format!("/proc/{}/fd", idle.pid)).unwrap().count();
        assert_eq!(open, 1, "more than its line is open");
        let status = of("status");
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        // It ends when its channel is closed.
        drop(channel);
        let ended = super::super::process::wait(idle.pidfd.as_fd(), true).unwrap();
        assert_eq!(ended, Some(super::super::process::Ended::Exited(1)));
    }

    #[test]
    fn what_is_done_aside_is_not_waited_for_and_holds_nothing_else() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (mut other, open) = std::io::pipe().unwrap();
        let begin = std::time::Instant::now();
        let fd = writer.as_raw_fd();
        aside(&mut [fd], || {
            let mut pause = libc::timespec { tv_sec: 2, tv_nsec: 0 };
            let _ = raw::write(fd, b"begun");
            let _ = call!(libc::SYS_nanosleep, &raw mut pause, 0);
        })
        .unwrap();
        let mut word = [0; 5];
        reader.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"begun");
        // End of file comes once the other end is closed everywhere, while the process aside still
        // sleeps.
        drop(open);
        assert_eq!(other.read(&mut word).unwrap(), 0);
        assert!(begin.elapsed().as_secs() < 2, "it was waited for");
        // Nor do we have a child.
        drop(writer);
        assert_eq!(reader.read(&mut word).unwrap(), 0);
    }
}
