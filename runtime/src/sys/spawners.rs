//! The ways of libc to start a process and wait for it, one function each: for `garth bench spawn`, which
//! measures them. Nothing else uses them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use super::Errno;
use super::clone::{self, Ground, Memory, Request};

/// The program that all start: `true`, without arguments or environment.
const TRUE: &CStr = c"/bin/true";

/// What one start took.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpawnTimes {
    /// Until the caller could go on.
    pub blocked: Duration,
    /// Until the child was reaped.
    pub total: Duration,
    /// The child's processor time.
    pub child: Duration,
}

/// Processor time of this process so far.
pub fn own_time() -> Duration {
    let mut usage = zeroed();
    // SAFETY: `usage` is ours and as large as the kernel writes.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    time_of(&usage)
}

/// Processor time of all children that have been waited for so far.
pub fn children_time() -> Duration {
    let mut usage = zeroed();
    // SAFETY: `usage` is ours and as large as the kernel writes.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    time_of(&usage)
}

fn zeroed() -> libc::rusage {
    // SAFETY: numbers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn time_of(usage: &libc::rusage) -> Duration {
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec as u64) + Duration::from_micros(value.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn arguments() -> ([*const c_char; 2], [*const c_char; 1]) {
    ([TRUE.as_ptr(), null()], [null()])
}

/// Executes the program in a child; returns only if that fails.
fn execute() -> ! {
    let (argv, envp) = arguments();
    // SAFETY: null-terminated arrays of C strings; nothing of the child is used afterwards.
    unsafe {
        libc::execve(TRUE.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

fn reaped(begun: Instant, pid: c_int) -> Result<SpawnTimes, Errno> {
    if pid < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let blocked = begun.elapsed();
    let (mut status, mut usage) = (0, zeroed());
    // SAFETY: both are ours; the child is ours and not yet waited for.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    let total = begun.elapsed();
    match waited == pid && status == 0 {
        true => Ok(SpawnTimes { blocked, total, child: time_of(&usage) }),
        false => Err(Errno(libc::ECHILD)),
    }
}

/// fork(2) and execve(2).
pub fn fork() -> Result<SpawnTimes, Errno> {
    let begun = Instant::now();
    // SAFETY: the child calls nothing but execve and _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        execute();
    }
    reaped(begun, pid)
}

extern "C" fn in_child(_: *mut c_void) -> c_int {
    execute()
}

/// vfork(2) and execve(2): by clone(2) with its flags, on a stack of its own, as vfork itself returns twice.
pub fn vfork(stack: &mut [u128]) -> Result<SpawnTimes, Errno> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let begun = Instant::now();
    // SAFETY: the caller sleeps until the child has left its memory and this stack.
    let pid =
        unsafe { libc::clone(in_child, stack.as_mut_ptr_range().end.cast(), flags, null_mut()) };
    reaped(begun, pid)
}

/// clone3(2) with CLONE_VM and CLONE_VFORK, as Garth's own starts do, without any step.
pub fn clone3() -> Result<SpawnTimes, Errno> {
    let begun = Instant::now();
    let ground = Ground::new(Memory::Borrowed)?;
    let request =
        Request { namespaces: 0, memory: Memory::Borrowed, cgroup: None, for_parent: false };
    let (cloned, _) = clone::scope(&ground, request, &(), |()| execute(), |_| Ok::<_, ()>(()))?;
    reaped(begun, cloned.pid)
}

/// posix_spawn(3), without attributes or actions.
pub fn posix_spawn() -> Result<SpawnTimes, Errno> {
    let (argv, envp) = arguments();
    let mut pid = 0;
    let begun = Instant::now();
    // SAFETY: null-terminated arrays of C strings.
    let failed = unsafe {
        let (argv, envp) = (argv.as_ptr().cast(), envp.as_ptr().cast());
        libc::posix_spawn(&mut pid, TRUE.as_ptr(), null(), null(), argv, envp)
    };
    match failed {
        0 => reaped(begun, pid),
        errno => Err(Errno(errno)),
    }
}

/// system(3): a shell that starts it.
pub fn system() -> Result<SpawnTimes, Errno> {
    let (begun, before) = (Instant::now(), children_time());
    // SAFETY: a C string.
    let status = unsafe { libc::system(TRUE.as_ptr()) };
    let total = begun.elapsed();
    match status {
        0 => {
            Ok(SpawnTimes { blocked: total, total, child: children_time().saturating_sub(before) })
        }
        _ => Err(Errno(libc::ECHILD)),
    }
}

/// popen(3), reading to the end, and pclose(3).
pub fn popen() -> Result<SpawnTimes, Errno> {
    let (begun, before) = (Instant::now(), children_time());
    // SAFETY: C strings; the stream is ours, and closed once.
    unsafe {
        let stream = libc::popen(TRUE.as_ptr(), c"r".as_ptr());
        if stream.is_null() {
            return Err(std::io::Error::last_os_error().into());
        }
        let blocked = begun.elapsed();
        let mut byte = 0u8;
        while libc::fread((&raw mut byte).cast(), 1, 1, stream) == 1 {}
        let status = libc::pclose(stream);
        let total = begun.elapsed();
        match status {
            0 => Ok(SpawnTimes { blocked, total, child: children_time().saturating_sub(before) }),
            _ => Err(Errno(libc::ECHILD)),
        }
    }
}

/// std::process::Command, as programs use it: not by [`super::program`], whose children are clean. With something to do in
/// the child, be it nothing, it forks.
pub fn command(pre_exec: bool) -> Result<SpawnTimes, Errno> {
    let mut command = Command::new("/bin/true");
    command.env_clear();
    if pre_exec {
        // SAFETY: it does nothing in the child.
        unsafe { command.pre_exec(|| Ok(())) };
    }
    let (begun, before) = (Instant::now(), children_time());
    let mut child = command.spawn()?;
    let blocked = begun.elapsed();
    let status = child.wait()?;
    let total = begun.elapsed();
    match status.success() {
        true => Ok(SpawnTimes { blocked, total, child: children_time().saturating_sub(before) }),
        false => Err(Errno(libc::ECHILD)),
    }
}

/// Memory that is resident, in pages of 4 kB or in huge ones: as the heap of a program that is large.
#[derive(Debug)]
pub struct Resident {
    base: *mut c_void,
    bytes: usize,
}

impl Resident {
    /// So many bytes. Huge pages are asked for; where the kernel has none, they are small.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(bytes: usize, huge: bool) -> Result<Resident, Errno> {
        if bytes == 0 {
            return Ok(Resident { base: null_mut(), bytes });
        }
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: a new mapping, which is ours until it is dropped; its advice changes no contents.
        unsafe {
            let base = libc::mmap(null_mut(), bytes, protection, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error().into());
            }
            libc::madvise(base, bytes, advice);
            for at in (0..bytes).step_by(4096) {
                base.cast::<u8>().add(at).write_volatile(1);
            }
            Ok(Resident { base, bytes })
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the mapping made above; nothing refers to it any more.
            unsafe { libc::munmap(self.base, self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_starts_a_program_and_waits_for_it() {
        let mut stack = vec![0; 4096];
        let memory = Resident::new(1 << 20, true).unwrap();
        for start in [vfork(&mut stack), clone3(), posix_spawn(), system(), popen(), command(false)]
            .map(Result::unwrap)
        {
            assert!(start.blocked <= start.total && !start.total.is_zero());
        }
        drop(memory);
        assert!(children_time() + own_time() > Duration::ZERO);
    }
}
