//! The interpreter: walks the steps and does each. It runs in a child that may share the caller's
//! memory, so it does not allocate, lock, log, read the environment or panic.

use std::convert::Infallible;
use std::ffi::CStr;

use super::mounts::Tree;
use crate::plan::seccomp::Filter;
use crate::plan::{Plan, Planned, Step};
use crate::sys::clone::{self, Ground, Memory};
use crate::sys::raw::{self, RawFd};
use crate::sys::{CStrings, Errno};

/// What the child has at hand: the steps, and descriptors that the parent has opened for it.
pub struct Script<'a> {
    /// The steps, in order.
    pub steps: &'a [Planned],
    /// Stacks, and the words between parent and child.
    pub ground: &'a Ground,
    /// A pidfd of the parent.
    pub parent: RawFd,
    /// The sealed program of the init, or -1.
    pub init: RawFd,
    memory: Memory,
    /// Where [`Step::Fork`] continues.
    from: usize,
    /// A pipe that has a writer until pid 1 has executed the init; -1 when there is none.
    init_works: [RawFd; 2],
}

impl<'a> Script<'a> {
    /// The script from its first step on.
    pub fn new(plan: &'a Plan, ground: &'a Ground, parent: RawFd, init: RawFd) -> Script<'a> {
        let (steps, memory) = (&plan.steps, plan.memory());
        Script { steps, ground, parent, init, memory, from: 0, init_works: [-1; 2] }
    }
}

type Result<T = ()> = std::result::Result<T, Errno>;

/// The exit code of a child that could not execute its program. The parent reads the reason in the
/// shared words; nobody else sees the code.
const FAILED: i32 = 125;

/// Walks the steps; ends in execve or exit.
pub fn run(script: &Script<'_>) -> ! {
    let words = script.ground.words();
    let mut tree = Tree::default();
    for (number, planned) in script.steps.iter().enumerate().skip(script.from) {
        words.begin(number);
        if let Err(errno) = take(&planned.step, script, number, &mut tree) {
            words.fail(number, errno);
            break;
        }
    }
    raw::exit(FAILED)
}

/// Takes one step.
fn take(step: &Step, script: &Script<'_>, number: usize, tree: &mut Tree) -> Result {
    match step {
        Step::DieWithParent => die_with_parent(script.parent),
        Step::Survive => raw::prctl(libc::PR_SET_PDEATHSIG, 0, 0).map(drop),
        Step::NotDumpable => raw::prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop),
        Step::CloseOnExec => raw::close_range(3, libc::CLOSE_RANGE_CLOEXEC),
        Step::Descriptor { to, from } => descriptor(*to, *from),
        Step::Write { path, data } => write(path, data),
        Step::AwaitGo => {
            script.ground.words().await_go();
            Ok(())
        }
        Step::Unshare { flags } => raw::unshare(*flags),
        Step::Enter { path, flags } => enter(path, *flags),
        Step::Join { fd, flags } => raw::setns(*fd, *flags),
        Step::Hostname(name) => raw::sethostname(name),
        Step::LoopbackUp => raw::loopback_up(),
        Step::Propagation(kind) => tree.propagation(*kind),
        Step::Root { source, recursive, attr } => tree.lay_root(source, *recursive, attr),
        Step::Mount(mount) => tree.mount(mount),
        Step::Device { path, device } => tree.device(path, *device),
        Step::Link { path, text } => tree.link(path, text),
        Step::Mask(path) => tree.mask(path),
        Step::ReadOnly(path) => tree.read_only(path),
        Step::Pivot => tree.pivot(),
        Step::Directory(path) => raw::chdir(path),
        Step::Rlimit { resource, soft, hard } => raw::set_rlimit(*resource, *soft, *hard),
        Step::Umask(mask) => {
            raw::umask(*mask);
            Ok(())
        }
        Step::Securebits(bits) => raw::prctl(libc::PR_SET_SECUREBITS, *bits as usize, 0).map(drop),
        Step::Bounding { keep, last } => bounding(*keep, *last),
        Step::Groups(groups) => raw::setgroups(groups),
        Step::Ids { uid, gid, keep_capabilities } => ids(*uid, *gid, *keep_capabilities),
        Step::Capabilities(sets) => raw::capset(*sets),
        Step::Ambient(set) => ambient(*set),
        Step::NoNewPrivileges => raw::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop),
        Step::Keyring => keyring(),
        Step::Landlock { handled, scoped, rules } => landlock(*handled, *scoped, rules),
        Step::Fork { filter } => fork(script, number, filter),
        Step::AwaitInit => await_init(script),
        Step::Session => raw::setsid(),
        Step::ProcessGroup(group) => raw::setpgid(*group),
        Step::Signals { ignored, blocked } => signals(*ignored, *blocked),
        Step::Seccomp(filter) => raw::seccomp_filter(&filter.instructions, filter.flags),
        Step::Exec { paths, argv, envp } => Err(execute(paths, argv, envp)),
    }
}

fn die_with_parent(parent: RawFd) -> Result {
    raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
    // It may have died before the line above; then the signal never comes.
    if raw::has_exited(parent) { raw::exit(FAILED) } else { Ok(()) }
}

fn descriptor(to: RawFd, from: Option<RawFd>) -> Result {
    match from {
        None => {
            raw::close(to);
            Ok(())
        }
        // dup3(2) refuses equal numbers; what is wanted is that it stays open.
        Some(from) if from == to => raw::set_cloexec(to, false),
        Some(from) => raw::dup2(from, to),
    }
}

fn write(path: &CStr, data: &[u8]) -> Result {
    let file = raw::openat2(raw::AT_FDCWD, path, libc::O_WRONLY, 0)?;
    let written = raw::write(file, data);
    raw::close(file);
    written
}

fn enter(path: &CStr, flags: i32) -> Result {
    let namespace = raw::openat2(raw::AT_FDCWD, path, libc::O_RDONLY, 0)?;
    let entered = raw::setns(namespace, flags);
    raw::close(namespace);
    entered
}

fn bounding(keep: u64, last: u8) -> Result {
    for number in (0..=last).filter(|number| keep >> number & 1 == 0) {
        raw::prctl(libc::PR_CAPBSET_DROP, number as usize, 0)?;
    }
    Ok(())
}

fn ids(uid: u32, gid: u32, keep_capabilities: bool) -> Result {
    if keep_capabilities {
        raw::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    }
    raw::setgid(gid)?;
    raw::setuid(uid)
}

fn ambient(set: u64) -> Result {
    for number in (0..64).filter(|number| set >> number & 1 == 1) {
        raw::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, number)?;
    }
    Ok(())
}

fn keyring() -> Result {
    match raw::new_session_keyring() {
        // A kernel without keys has none to hide; a full quota (EDQUOT) is an error.
        Err(Errno(libc::ENOSYS)) => Ok(()),
        result => result,
    }
}

fn landlock(handled: u64, scoped: u64, rules: &[(std::ffi::CString, u64)]) -> Result {
    const OF_FILES: u64 = 1 << 1 | 1 << 14; // WRITE_FILE, TRUNCATE
    let ruleset = raw::landlock_create(handled, scoped)?;
    for (path, access) in rules {
        let below = match raw::openat2(raw::AT_FDCWD, path, libc::O_PATH, 0) {
            Err(Errno(libc::ENOENT)) => continue,
            below => below?,
        };
        let directory = raw::stat(below)?.mode & libc::S_IFMT == libc::S_IFDIR;
        let access = if directory { *access } else { access & OF_FILES };
        raw::landlock_allow(ruleset, below, access)?;
        raw::close(below);
    }
    raw::landlock_restrict(ruleset)?;
    raw::close(ruleset);
    Ok(())
}

/// The rest of the steps in a second process; this one becomes the init.
fn fork(script: &Script<'_>, number: usize, filter: &Filter) -> Result {
    let init_works = match script.memory {
        Memory::Copied => [-1; 2],
        Memory::Borrowed | Memory::Beside => raw::pipe()?,
    };
    let rest = Script { from: number + 1, init_works, ..*script };
    let become_init = |child| -> Infallible {
        if script.ground.words().failure().is_none() {
            script.ground.words().fail(number, execute_init(script, filter, child));
        }
        raw::exit(FAILED)
    };
    Err(clone::nested(script.ground, script.memory, &rest, run, become_init))
}

fn execute_init(script: &Script<'_>, filter: &Filter, child: i32) -> Errno {
    // The init's file has no read permission, so that execve makes it out of reach of ptrace and
    // /proc/1/mem. CAP_DAC_OVERRIDE would be permission enough; root has it back after execve.
    let confined = raw::capset(raw::CapSets::default())
        .and_then(|()| raw::seccomp_filter(&filter.instructions, filter.flags));
    match confined {
        Ok(()) => raw::exec_with_number(script.init, c"garth-init", child as u32),
        Err(errno) => errno,
    }
}

/// Until pid 1 has executed the init, /proc/1/mem, /proc/1/fd and /proc/1/exe are the caller's: the
/// command must not run before. The kernel closes what is close-on-exec when the old memory is gone;
/// the words, which it clears a little earlier, would not do.
fn await_init(script: &Script<'_>) -> Result {
    let [reader, writer] = script.init_works;
    raw::close(writer);
    raw::await_end(reader)?;
    raw::close(reader);
    // The end of file may also mean that there will be no init.
    if script.ground.words().failure().is_some() { raw::exit(FAILED) } else { Ok(()) }
}

fn signals(ignored: u64, blocked: u64) -> Result {
    const HIGHEST: i32 = 64;
    for signal in 1..=HIGHEST {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            raw::set_disposition(signal, ignored >> (signal - 1) & 1 == 1)?;
        }
    }
    raw::set_signal_mask(blocked)
}

/// As execvp(3): the first candidate that can be executed; if none can, "permission denied" tells
/// more than "not found".
fn execute(paths: &[std::ffi::CString], argv: &CStrings, envp: &CStrings) -> Errno {
    let mut reason = Errno(libc::ENOENT);
    for path in paths {
        match raw::execve(path, argv, envp) {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            // In a directory that may not be searched, there is no such program for this user.
            denied @ Errno(libc::EACCES) => {
                if raw::openat2(raw::AT_FDCWD, path, libc::O_PATH, 0).is_ok() {
                    reason = denied;
                }
            }
            other => return other,
        }
    }
    reason
}
