//! clone3(2) as a scope: a child runs one function on a stack of its own and ends in execve or exit.
//!
//! The child usually shares the caller's memory (CLONE_VM), so that starting it costs the same
//! whether the caller has one megabyte resident or four gigabytes; the scope does not return
//! before the child has left that memory. How the two talk meanwhile is in [`Words`].

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
    /// Shared, and the calling thread goes on beside the child until it waits for it (CLONE_VM).
    Beside,
    /// A copy, as after fork(2); the calling thread sleeps until the child executes or exits.
    Copied,
    /// A copy, and the calling thread goes on; the two talk over a line of their own
    /// ([`crate::sys::channel`]). The only kind of child that may outlive the scope without an execve.
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

/// What of a ground stays common to a caller and a child that has a copy of memory. Never the
/// stacks: such a child may fork, and then there would be two on one.
enum Shared {
    Words,
    /// The words, and with whoever has this file.
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

/// Unmaps a ground that nobody uses; nothing, if there is none.
fn unmap(base: *mut libc::c_void) {
    if !base.is_null() {
        // SAFETY: a mapping of this size, made by `Ground::map`; its owner has let go of it.
        unsafe { libc::munmap(base, GROUND) };
    }
}

impl Ground {
    /// The memory for a child of this kind, and one that it may start itself.
    ///
    /// A thread keeps one for its next child: making and ending a mapping costs as much as all else
    /// that the parent does, half of it for the other processors' address translations.
    pub fn new(memory: Memory) -> Result<Ground, Errno> {
        let ground = match memory {
            // With a child that has a copy of memory the words must be common all the same.
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

    /// The memory for a child that may outlive its parent: its words are the first page of this file
    /// in memory, where others read them by [`Progress::read`].
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
            // SAFETY: replaces the first page of the mapping just made, which nobody uses yet.
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
        // The scope has seen every child leave it, so it can be another's next.
        let kept = self.kept && SPARE.try_with(|spare| unmap(spare.0.replace(self.base))).is_ok();
        if !kept {
            unmap(self.base);
        }
    }
}

// SAFETY: the mapping is reached only through atomics, and through the stacks by the children, each
// of which has its own.
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
    /// CLONE_NEW* of the namespaces that the child begins in.
    pub namespaces: u64,
    /// How it relates to the caller's memory.
    pub memory: Memory,
    /// An open cgroup v2 directory to begin in (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<raw::RawFd>,
    /// It is a child of the caller's parent, which waits for it (CLONE_PARENT).
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
/// caller; lets the child go on; and returns when it has left the caller's memory.
///
/// With [`Memory::Beside`], `beside` runs while the child works, and the child's
/// [`Words::await_go`] returns when it is done; if it fails, the child is killed. With the other
/// kinds it runs when the child has already left.
pub fn scope<T: Sync, R, E>(
    ground: &Ground,
    request: Request,
    data: &T,
    body: fn(&T) -> !,
    beside: impl FnOnce(&Cloned) -> Result<R, E>,
) -> Result<(Cloned, Result<R, E>), Errno> {
    let mut pidfd: i32 = -1;
    // A handler of the caller must not run in its memory on our stack.
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
        // With CLONE_PARENT it is that of the caller's own end.
        exit_signal: if request.for_parent { 0 } else { libc::SIGCHLD as u64 },
        stack: stack as u64,
        stack_size: stack_size as u64,
        cgroup: request.cgroup.unwrap_or(0) as u64,
        ..CloneArgs::default()
    };
    // With all signals blocked, the child cannot be interrupted between clone and execve; it
    // unblocks what the program shall have unblocked.
    let mask = SignalMask::block_all();
    // A change of ids in the child would leave the memory, which is also ours, not dumpable.
    let dumpable = raw::prctl(libc::PR_GET_DUMPABLE, 0, 0);
    // A copy is out of reach of debuggers from its birth on: see `Undumpable`.
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
            // Should `beside` unwind, the child must not be left with freed memory.
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
            // Nested children are not waited for by the kernel.
            ground.words().await_gone();
            beside(&cloned)
        }
        Memory::Copied => beside(&cloned),
        Memory::Forked => {
            // Nothing is shared: a signal may come. What `beside` starts shall not inherit the mask.
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

/// Inside a child of [`scope`]: starts a second one on the second stack, with the same memory, and
/// goes on with `beside`, given its process id; both end in execve or exit. Returns only if there
/// can be no second one. Nothing here allocates.
///
/// In memory shared with the caller the two run side by side, and `scope` waits for both. In a copy
/// ([`Memory::Copied`]) the kernel clears no word when the last one leaves: so there the first
/// sleeps until the second has executed or exited.
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
        // The kernel writes the word before the child runs: there is no moment at which there is a
        // child and the word does not say so, whoever is killed when.
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
    // does not return. All the rest is the caller's, for which `scope` waits. The second stack is
    // used by this child alone.
    let Err(errno) = unsafe { start(&args, &entry) }.map(beside);
    errno
}

struct Entry<'a, T> {
    body: fn(&T) -> !,
    data: &'a T,
    words: &'a Words,
    /// To be joined first, where the kernel was not asked to begin in it; otherwise -1.
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

/// In the place of a failed step: the child could not join its cgroup.
pub const NO_CGROUP: usize = u32::MAX as usize;

fn join_cgroup(dir: raw::RawFd) -> Result<(), Errno> {
    let file = openat2::open(dir, c"cgroup.procs", libc::O_WRONLY, 0)?;
    let written = raw::write(file, b"0");
    raw::close(file);
    written
}

/// clone3(2); or, where a filter does not let it through, clone(2).
///
/// Filters that look at flags refuse clone3, whose flags are in memory, with ENOSYS, so that libcs
/// use clone (docker's and our own do); older ones that do not know it refuse it with EPERM. What
/// clone cannot do is done otherwise: a cgroup is joined by the child, and handlers of signals never
/// run in a child of ours, which has all signals blocked until it has reset them.
///
/// # Safety
/// `args.stack` must be a free stack; with CLONE_VM, everything reachable from `entry` must live
/// until the child has executed or exited.
unsafe fn start<T>(args: &CloneArgs, entry: &Entry<'_, T>) -> Result<i32, Errno> {
    let call = [&raw const *args as usize, size_of::<CloneArgs>(), 0, 0, 0];
    // SAFETY: as the caller says.
    match unsafe { on_stack(libc::SYS_clone3, call, entry) } {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => {}
        result => return result,
    }
    if args.flags & CLONE_INTO_CGROUP != 0 {
        entry.cgroup.store(args.cgroup as raw::RawFd, SeqCst);
    }
    let flags = args.flags & !(CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND);
    // clone(2) has one place for both, of which a child of ours has one at most.
    let word = if flags & libc::CLONE_PIDFD as u64 != 0 { args.pidfd } else { args.parent_tid };
    let top = args.stack + args.stack_size;
    let flags = flags | args.exit_signal;
    let call = arch::clone_arguments(flags, top, word, args.child_tid, args.tls);
    // SAFETY: as the caller says.
    unsafe { on_stack(libc::SYS_clone, call, entry) }
}

/// A system call of this number that begins a child, on the stack that its arguments name, with
/// `enter(entry)`.
///
/// # Safety
/// As for [`start`].
unsafe fn on_stack<T>(
    number: libc::c_long,
    args: [usize; 5],
    entry: &Entry<'_, T>,
) -> Result<i32, Errno> {
    let (data, enter) = (&raw const *entry, enter::<T> as *const ());
    // SAFETY: as the caller says; `enter` never returns.
    let result = unsafe { arch::on_stack(number as usize, args, data.cast(), enter) };
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as i32) }
}

fn kill(pid: i32) {
    // It is not reaped yet, so the id is still its own.
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

/// Until dropped, this process is not dumpable (PR_SET_DUMPABLE), and neither is a child that it gets
/// meanwhile, from its first instruction on.
///
/// Such a child may be in a new user namespace, in which every process with the caller's user id has
/// all capabilities, as its owner (user_namespaces(7)), a container without any capability included
/// that sees the host's processes. The child still has the caller's root and descriptors.
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
        // The raw call also blocks the two signals that glibc keeps for its threads (setxid,
        // cancellation), which its wrapper would leave open.
        let _ = call!(libc::SYS_rt_sigprocmask, how, &raw const all, &raw mut before, size);
        SignalMask { before }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        let _ = raw::set_signal_mask(self.before);
    }
}
