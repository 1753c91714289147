//! clone3(2) as a scope: a child runs one function on its own stack and ends in execve or exit.
//!
//! The child usually shares the caller's memory (CLONE_VM), so that starting it costs the same
//! whether the caller has one megabyte resident or four gigabytes; the scope does not return before
//! the child has left that memory. Meanwhile the two communicate through [`Words`].

use std::cell::Cell;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use super::raw::call;
pub use super::words::{Progress, Words};
use super::{Errno, arch, openat2, raw};

/// How the child relates to the caller's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Shared, and the calling thread sleeps until the child has left (CLONE_VM | CLONE_VFORK).
    Borrowed,
    /// Shared, and the calling thread runs alongside the child until it waits for it (CLONE_VM).
    Beside,
    /// A copy, as after fork(2); the calling thread sleeps until the child executes or exits.
    Copied,
    /// A copy, and the calling thread keeps running; the two communicate over a channel
    /// ([`crate::sys::channel`]). The only kind of child that may outlive the scope without an
    /// execve.
    Forked,
}

/// Two stacks for children, with a guard page below each, and [`Words`]: one mapping.
pub struct Ground {
    base: *mut libc::c_void,
    kept: bool,
}

pub(super) const PAGE: usize = 4096;
const STACK: usize = 64 * 1024;
/// words | guard | first stack | guard | second stack
const GROUND: usize = PAGE + 2 * (PAGE + STACK);

/// What of a ground stays shared between the caller and a child with a copy of its memory. Never
/// the stacks: such a child may fork, and then two processes would use one stack.
enum Shared {
    Words,
    /// The words, also shared with every holder of this file.
    File(raw::RawFd),
    Nothing,
}

thread_local! {
    static SPARE: Spare = const { Spare(Cell::new(ptr::null_mut())) };
}

/// The ground that this thread used last, or null.
struct Spare(Cell<*mut libc::c_void>);

impl Drop for Spare {
    fn drop(&mut self) {
        unmap(self.0.get());
    }
}

/// Unmaps a ground that is no longer used; null is ignored.
fn unmap(base: *mut libc::c_void) {
    if !base.is_null() {
        // SAFETY: a mapping of this size, made by `Ground::map`, which its owner has given up.
        unsafe { libc::munmap(base, GROUND) };
    }
}

impl Ground {
    /// The memory for a child of this kind, and for one that it may start itself.
    ///
    /// A thread keeps one for its next child: mapping and unmapping cost as much as everything else
    /// the parent does, half of that for TLB shootdowns on the other processors.
    pub fn new(memory: Memory) -> Result<Ground, Errno> {
        let ground = match memory {
            // A child with a copy of memory must still share the words.
            Memory::Copied | Memory::Forked => {
                Ground { base: Ground::map(Shared::Words)?, kept: false }
            }
            Memory::Borrowed | Memory::Beside => {
                let spare = SPARE.try_with(|spare| spare.0.replace(ptr::null_mut()));
                let base = match spare {
                    Ok(base) if !base.is_null() => base,
                    // Private: after a fork(2) of the caller, each process has its own.
                    _ => Ground::map(Shared::Nothing)?,
                };
                Ground { base, kept: true }
            }
        };
        ground.words().reset();
        Ok(ground)
    }

    /// The memory for a child that may outlive its parent: its words are the first page of this
    /// memory file, where other processes read them with [`Progress::read`].
    pub fn on(file: BorrowedFd<'_>) -> Result<Ground, Errno> {
        let ground = Ground { base: Ground::map(Shared::File(file.as_raw_fd()))?, kept: false };
        ground.words().reset();
        Ok(ground)
    }

    fn map(shared: Shared) -> Result<*mut libc::c_void, Errno> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, placed by the kernel.
        let base = unsafe { libc::mmap(ptr::null_mut(), GROUND, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        let words = match shared {
            Shared::Words => Some((libc::MAP_ANONYMOUS, -1)),
            Shared::File(file) => Some((0, file)),
            Shared::Nothing => None,
        };
        if let Some((kind, file)) = words {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED | kind;
            // SAFETY: replaces the first page of the mapping just made, which is not in use yet.
            let words = unsafe { libc::mmap(base, PAGE, protection, flags, file, 0) };
            if words == libc::MAP_FAILED {
                let errno = std::io::Error::last_os_error().into();
                unmap(base);
                return Err(errno);
            }
        }
        for guard in [PAGE, PAGE + PAGE + STACK] {
            // SAFETY: a whole page inside the mapping just made.
            if unsafe { libc::mprotect(base.byte_add(guard), PAGE, libc::PROT_NONE) } != 0 {
                let errno = std::io::Error::last_os_error().into();
                unmap(base);
                return Err(errno);
            }
        }
        Ok(base)
    }

    /// The words.
    pub fn words(&self) -> &Words {
        // SAFETY: the first page of the mapping is zeroed memory of our own, and Words is atomics,
        // valid for every bit pattern, sound to share.
        unsafe { &*self.base.cast::<Words>() }
    }

    /// The lowest address and the size of stack 0 or 1.
    fn stack(&self, which: usize) -> (usize, usize) {
        (self.base as usize + PAGE + PAGE + which * (PAGE + STACK), STACK)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // The scope has seen every child leave it, so it can be reused.
        let kept = self.kept && SPARE.try_with(|spare| unmap(spare.0.replace(self.base))).is_ok();
        if !kept {
            unmap(self.base);
        }
    }
}

// SAFETY: the mapping is accessed only through atomics, and as stacks by the children, each of
// which has its own.
unsafe impl Sync for Ground {}

/// struct clone_args of clone3(2), to its size in Linux 5.7.
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
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

// linux/sched.h, Linux 5.5 and 5.7; for clone3(2) only.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What to clone with.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// CLONE_NEW* of the namespaces the child starts in.
    pub namespaces: u64,
    /// How it relates to the caller's memory.
    pub memory: Memory,
    /// An open cgroup v2 directory to start in (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<raw::RawFd>,
    /// Make it a child of the caller's parent, which waits for it (CLONE_PARENT).
    pub for_parent: bool,
}

/// A child process: its id in the caller's pid namespace and a descriptor for it.
#[derive(Debug)]
pub struct Cloned {
    /// Process id.
    pub pid: i32,
    /// Process descriptor (pidfd_open(2)), close-on-exec.
    pub pidfd: OwnedFd,
}

/// Starts a child that runs `body(data)`, which ends in execve or exit; runs `beside` in the
/// caller; sends `Go` to the child; and returns when the child has left the caller's memory.
///
/// With [`Memory::Beside`], `beside` runs while the child works, and the child's
/// [`Words::await_go`] returns when it is done; if it fails, the child is killed. With the other
/// kinds it runs after the child has left.
pub fn scope<T: Sync, R, E>(
    ground: &Ground,
    request: Request,
    data: &T,
    body: fn(&T) -> !,
    beside: impl FnOnce(&Cloned) -> Result<R, E>,
) -> Result<(Cloned, Result<R, E>), Errno> {
    let mut pidfd: i32 = -1;
    // A signal handler of the caller must not run in its memory on our stack.
    let mut flags = request.namespaces
        | CLONE_CLEAR_SIGHAND
        | (libc::CLONE_PIDFD | libc::CLONE_CHILD_CLEARTID) as u64;
    flags |= match request.memory {
        Memory::Borrowed => (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        Memory::Beside => libc::CLONE_VM as u64,
        Memory::Copied => libc::CLONE_VFORK as u64,
        Memory::Forked => 0,
    };
    if request.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    if request.for_parent {
        flags |= libc::CLONE_PARENT as u64;
    }
    let (stack, stack_size) = ground.stack(0);
    let args = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        child_tid: ground.words().says.as_ptr() as u64,
        // With CLONE_PARENT, the signal is that of the caller's own end.
        exit_signal: if request.for_parent { 0 } else { libc::SIGCHLD as u64 },
        stack: stack as u64,
        stack_size: stack_size as u64,
        cgroup: request.cgroup.unwrap_or(0) as u64,
        ..CloneArgs::default()
    };
    // With all signals blocked, the child cannot be interrupted between clone and execve; it
    // unblocks what the program needs unblocked.
    let mask = SignalMask::block_all();
    // A change of ids in the child would leave the memory, which is also ours, undumpable.
    let dumpable = raw::prctl(libc::PR_GET_DUMPABLE, 0, 0);
    // A copy must be untraceable from its birth on: see `Undumpable`.
    let undumpable = match request.memory {
        Memory::Copied | Memory::Forked => Some(Undumpable::now()),
        Memory::Borrowed | Memory::Beside => None,
    };
    let entry = Entry { body, data, words: ground.words(), cgroup: AtomicI32::new(-1) };
    // SAFETY: `entry`, `data` and the ground outlive the child's use of them: for Copied the kernel
    // returns here only when the child has executed or exited, for the others `await_gone` below
    // waits for the same, and for a nested child. `T: Sync` allows use from both sides. The stack
    // is used by this child alone.
    let pid = unsafe { start(&args, &entry) }?;
    drop(undumpable);
    let cloned = Cloned { pid, pidfd: raw::own(pidfd) };
    let result = match request.memory {
        Memory::Beside => {
            // If `beside` unwinds, the child must not be left with freed memory.
            let guard = KillAndWait { words: ground.words(), pid };
            let result = beside(&cloned);
            std::mem::forget(guard);
            match result {
                Ok(_) => ground.words().go(),
                Err(_) => kill(pid),
            }
            ground.words().await_gone();
            result
        }
        Memory::Borrowed => {
            // The kernel does not wait for nested children.
            ground.words().await_gone();
            beside(&cloned)
        }
        Memory::Copied => beside(&cloned),
        Memory::Forked => {
            // Nothing is shared, so signals may come. What `beside` starts must not inherit the
            // mask.
            drop(mask);
            let result = beside(&cloned);
            if result.is_err() {
                kill(pid);
            }
            return Ok((cloned, result));
        }
    };
    let shared = matches!(request.memory, Memory::Borrowed | Memory::Beside);
    if shared && dumpable == Ok(1) {
        raw::prctl(libc::PR_SET_DUMPABLE, 1, 0)?;
    }
    drop(mask);
    Ok((cloned, result))
}

/// Inside a child of [`scope`]: starts a second child on the second stack, with the same memory,
/// and continues with `beside`, passing it the process id; both end in execve or exit. Returns only
/// if the second child could not be started. Nothing here allocates.
///
/// In memory shared with the caller the two run side by side, and `scope` waits for both. In a copy
/// ([`Memory::Copied`]) the kernel clears no word when the last one leaves, so the first sleeps
/// until the second has executed or exited.
pub fn nested<T: Sync>(
    ground: &Ground,
    memory: Memory,
    data: &T,
    body: fn(&T) -> !,
    beside: impl FnOnce(i32) -> Infallible,
) -> Errno {
    let (stack, stack_size) = ground.stack(1);
    let flags = match memory {
        Memory::Copied | Memory::Forked => libc::CLONE_VM | libc::CLONE_VFORK,
        // The kernel writes the word before the child runs: whichever process is killed, and
        // whenever, there is never a child that the word does not name.
        Memory::Borrowed | Memory::Beside => {
            libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID
        }
    };
    let word = ground.words().second_word();
    let args = CloneArgs {
        flags: flags as u64,
        child_tid: word,
        parent_tid: word,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack as u64,
        stack_size: stack_size as u64,
        ..CloneArgs::default()
    };
    let entry = Entry { body, data, words: ground.words(), cgroup: AtomicI32::new(-1) };
    // SAFETY: `entry` is on this stack, and `data` outlives it: neither goes away, since `beside`
    // does not return. Everything else is the caller's, and `scope` waits for the child. The second
    // stack is used by this child alone.
    let Err(errno) = unsafe { start(&args, &entry) }.map(beside);
    errno
}

struct Entry<'a, T> {
    body: fn(&T) -> !,
    data: &'a T,
    words: &'a Words,
    /// To join first, if clone could not start the child in it; otherwise -1.
    cgroup: AtomicI32,
}

extern "C" fn enter<T>(entry: *const Entry<'_, T>) -> ! {
    // SAFETY: `on_stack` passes the pointer it was given, valid for as long as the child runs.
    let entry = unsafe { &*entry };
    let cgroup = entry.cgroup.load(SeqCst);
    if cgroup >= 0
        && let Err(errno) = join_cgroup(cgroup)
    {
        entry.words.fail(NO_CGROUP, errno);
        raw::exit(125);
    }
    (entry.body)(entry.data)
}

/// Takes the place of a failed step: the child could not join its cgroup.
pub const NO_CGROUP: usize = u32::MAX as usize;

fn join_cgroup(dir: raw::RawFd) -> Result<(), Errno> {
    let file = openat2::open(dir, c"cgroup.procs", libc::O_WRONLY, 0)?;
    let written = raw::write(file, b"0");
    raw::close(file);
    written
}

/// clone3(2), or clone(2) where a seccomp filter refuses clone3.
///
/// Filters that inspect flags refuse clone3, whose flags are in memory, with ENOSYS, so that libcs
/// fall back to clone (docker's filter and our own do this); older filters that do not know clone3
/// refuse it with EPERM. What clone cannot do is done differently: the child joins its cgroup
/// itself, and signal handlers never run in our children, which have all signals blocked until they
/// have reset them.
///
/// # Safety
/// `args.stack` must be a free stack; with CLONE_VM, everything reachable from `entry` must live
/// until the child has executed or exited.
unsafe fn start<T>(args: &CloneArgs, entry: &Entry<'_, T>) -> Result<i32, Errno> {
    let call = [&raw const *args as usize, size_of::<CloneArgs>(), 0, 0, 0];
    // SAFETY: guaranteed by the caller.
    match unsafe { on_stack(libc::SYS_clone3, call, entry) } {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => {}
        result => return result,
    }
    if args.flags & CLONE_INTO_CGROUP != 0 {
        entry.cgroup.store(args.cgroup as raw::RawFd, SeqCst);
    }
    let flags = args.flags & !(CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND);
    // clone(2) has one argument for both; our children use at most one of them.
    let word = if flags & libc::CLONE_PIDFD as u64 != 0 { args.pidfd } else { args.parent_tid };
    let top = args.stack + args.stack_size;
    let flags = flags | args.exit_signal;
    let call = arch::clone_arguments(flags, top, word, args.child_tid, args.tls);
    // SAFETY: guaranteed by the caller.
    unsafe { on_stack(libc::SYS_clone, call, entry) }
}

/// Makes the system call `number`, which starts a child on the stack that its arguments name; the
/// child runs `enter(entry)`.
///
/// # Safety
/// Same as [`start`].
unsafe fn on_stack<T>(
    number: libc::c_long,
    args: [usize; 5],
    entry: &Entry<'_, T>,
) -> Result<i32, Errno> {
    let (data, enter) = (&raw const *entry, enter::<T> as *const ());
    // SAFETY: guaranteed by the caller; `enter` never returns.
    let result = unsafe { arch::on_stack(number as usize, args, data.cast(), enter) };
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as i32) }
}

fn kill(pid: i32) {
    // It has not been reaped, so the pid is still its own.
    let _ = call!(libc::SYS_kill, pid, libc::SIGKILL);
}

struct KillAndWait<'a> {
    words: &'a Words,
    pid: i32,
}

impl Drop for KillAndWait<'_> {
    fn drop(&mut self) {
        kill(self.pid);
        self.words.await_gone();
    }
}

/// While this lives, this process is not dumpable (PR_SET_DUMPABLE), and neither is a child started
/// meanwhile, from its first instruction on.
///
/// Such a child may be in a new user namespace, in which every process with the caller's user id
/// has all capabilities, as its owner (user_namespaces(7)), including a container without any
/// capability that can see the host's processes. The child still has the caller's root and
/// descriptors.
pub(super) struct Undumpable {
    before: bool,
}

impl Undumpable {
    pub(super) fn now() -> Undumpable {
        let before = raw::prctl(libc::PR_GET_DUMPABLE, 0, 0) == Ok(1);
        if before {
            let _ = raw::prctl(libc::PR_SET_DUMPABLE, 0, 0);
        }
        Undumpable { before }
    }
}

impl Drop for Undumpable {
    fn drop(&mut self) {
        if self.before {
            let _ = raw::prctl(libc::PR_SET_DUMPABLE, 1, 0);
        }
    }
}

/// Blocks all signals for the calling thread until dropped.
struct SignalMask {
    before: u64,
}

impl SignalMask {
    fn block_all() -> SignalMask {
        let all = u64::MAX;
        let mut before = 0u64;
        let (how, size) = (libc::SIG_SETMASK, size_of::<u64>());
        // The raw call also blocks the two signals that glibc reserves for its threads (setxid,
        // cancellation), which its wrapper would leave unblocked.
        let _ = call!(libc::SYS_rt_sigprocmask, how, &raw const all, &raw mut before, size);
        SignalMask { before }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        let _ = raw::set_signal_mask(self.before);
    }
}
