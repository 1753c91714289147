//! The interpreter: executes the steps one by one. It runs in a child that may share the caller's
//! memory, so it does not allocate, lock, log, read the environment or panic.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::failure;
use super::mounts::MountTree;
use crate::plan::seccomp::Filter;
use crate::plan::{self, Hook, Otherwise, Plan, Planned, Step};
use crate::sys::channel::{self, Message};
use crate::sys::clone::{self, Ground, Memory};
use crate::sys::fork::{self, Outcome};
use crate::sys::raw::{self, RawFd};
use crate::sys::{CStrings, Errno, openat2, task, terminal};

/// What the child works with: the steps, and descriptors that the parent has opened for it.
pub struct Script<'a> {
    /// The steps, in order.
    pub steps: &'a [Planned],
    /// Stacks, and the words shared between parent and child.
    pub ground: &'a Ground,
    /// A pidfd of the parent.
    pub parent: RawFd,
    /// The sealed program of the init, or -1.
    pub init: RawFd,
    /// The child's end of the channel, or -1.
    pub channel: RawFd,
    /// The child's copy of the parent's end, or -1.
    other_end: RawFd,
    /// The file that tells the process starting a waiting program how far that got, or -1.
    progress: RawFd,
    /// The connection of the process that started the waiting program, or -1.
    started: &'a AtomicI32,
    memory: Memory,
    /// Where [`Step::Fork`] continues.
    from: usize,
    /// A pipe that has a writer until pid 1 has executed the init; -1 when there is none.
    init_works: [RawFd; 2],
}

/// Descriptors that the parent has opened for the child; -1 where there is none.
pub struct Open<'a> {
    pub parent: RawFd,
    pub init: RawFd,
    pub channel: RawFd,
    pub other_end: RawFd,
    pub progress: RawFd,
    pub started: &'a AtomicI32,
}

/// The messages on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Word {
    /// Parent to child: continue.
    Go = 1,
    /// Asks for the id maps.
    Maps,
    /// This process, the one in the second of the shared words, continues in place of the first.
    Sibling,
    /// This is the process that will stay: it can be recorded.
    Begun,
    /// The root is complete: asks for the hooks.
    Mounted,
    /// The value is a descriptor for the supervisor of the filter.
    Listener,
    /// Waiting to be started.
    Ready,
    /// To the process that started it: a descriptor that tells how far this process got. It is read
    /// once the channel is closed, so reporting a failure needs no system call.
    Progress,
    /// A hook begins to run; the text is its path.
    Hook,
    /// A hook has written this text to the descriptor in the message's value.
    HookOutput,
}

impl<'a> Script<'a> {
    /// The whole script.
    pub fn new(plan: &'a Plan, ground: &'a Ground, open: Open<'a>) -> Script<'a> {
        let (steps, memory) = (&plan.steps, plan.memory());
        let Open { parent, init, channel, other_end, progress, started } = open;
        let (from, init_works) = (0, [-1; 2]);
        Script {
            steps,
            ground,
            parent,
            init,
            channel,
            other_end,
            progress,
            started,
            memory,
            from,
            init_works,
        }
    }
}

type Result<T = ()> = std::result::Result<T, Errno>;

/// The exit code of a child that could not execute its program. Only the parent sees it, and it
/// reads the reason in the shared words.
const FAILED: i32 = 125;

/// Executes the steps; ends in execve or exit.
pub fn run(script: &Script<'_>) -> ! {
    let words = script.ground.words();
    let mut tree = MountTree::default();
    if script.other_end >= 0 {
        // With this copy open, the channel would not close when the parent ends.
        raw::close(script.other_end);
    }
    for (number, planned) in script.steps.iter().enumerate().skip(script.from) {
        words.begin(number);
        let Err(errno) = take(&planned.step, script, number, &mut tree) else { continue };
        let spared = match &planned.otherwise {
            Otherwise::Fail => false,
            Otherwise::Without(_) => true,
            Otherwise::Instead(step, _) => take(step, script, number, &mut tree).is_ok(),
        };
        if spared {
            words.spare(number, errno);
        } else {
            words.fail(number, errno);
            break;
        }
    }
    raw::exit(FAILED)
}

/// Executes one step.
fn take(step: &Step, script: &Script<'_>, number: usize, tree: &mut MountTree) -> Result {
    match step {
        Step::DieWithParent => die_with_parent(script.parent),
        Step::Survive => raw::prctl(libc::PR_SET_PDEATHSIG, 0, 0).map(drop),
        Step::NotDumpable => raw::prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop),
        Step::CloseOnExec { from } => raw::close_range(*from, libc::CLOSE_RANGE_CLOEXEC),
        Step::CloseAllBut { from, keep } => close_all_but(*from, keep),
        Step::Descriptor { to, from } => descriptor(*to, *from),
        Step::Write { path, data } => write(path, data),
        Step::WriteProc { file, data } => write_proc(file, data),
        Step::Begun => tell(script, Word::Begun, 0),
        Step::AwaitGo => await_go(script),
        Step::AwaitMaps => ask(script, Word::Maps, 0),
        Step::Sibling => sibling(script),
        Step::Mounted => ask(script, Word::Mounted, 0),
        Step::Ready { listener } => ready(script, *listener),
        Step::Unshare { flags } => raw::unshare(*flags),
        Step::Enter { path, flags } => enter(path, *flags),
        Step::Join { fd, flags } => raw::setns(*fd, *flags),
        Step::Hostname(name) => raw::sethostname(name),
        Step::Domainname(name) => raw::setdomainname(name),
        Step::LoopbackUp => raw::loopback_up(),
        Step::Propagation(kind) => tree.propagation(*kind),
        Step::Root { source, over, recursive, attr } => {
            tree.lay_root(source, over, *recursive, attr)
        }
        Step::Mount(mount) => tree.mount(mount),
        Step::Device { path, mode, device, owner } => tree.device(path, *mode, *device, *owner),
        Step::MakeDirectory { path, owner } => tree.directory(path, *owner),
        Step::Attributes { path, attr, recursive } => tree.attributes(path, attr, *recursive),
        Step::Chroot { in_place, without } => tree.chroot(*in_place, without),
        Step::Terminal { socket, size, console, plain } => {
            terminal(tree, *socket, *size, (*console, *plain))
        }
        Step::TerminalHeld => terminal_held(),
        Step::StandardFiles { uid, pipes } => standard_files(*uid, *pipes),
        Step::Personality(domain) => task::personality(*domain),
        Step::IoPriority(packed) => task::io_priority(*packed),
        Step::Scheduler(attr) => task::scheduler(attr),
        Step::Affinity(mask) => task::affinity(mask),
        Step::AllProcessors => {
            let _ = task::affinity(&[u64::MAX; 128]);
            Ok(())
        }
        Step::MemoryPolicy { mode, nodes } => task::memory_policy(*mode, nodes),
        Step::WriteOwn { file, data } => write_own(file, data),
        Step::File { path, text, mode, owner } => tree.file(path, text, *mode, *owner),
        Step::Link { path, text } => tree.link(path, text),
        Step::Mask(path) => tree.mask(path),
        Step::Cover { path, text, beside } => tree.cover(path, text, beside),
        Step::ReadOnly(path) => tree.read_only(path),
        Step::Pivot => tree.pivot(),
        Step::Directory(path) => directory(path),
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
        Step::Fork { filter, keep } => fork(script, number, filter, *keep),
        Step::AwaitInit => await_init(script),
        Step::Session => raw::setsid(),
        Step::ProcessGroup(group) => raw::setpgid(*group),
        Step::Signals { ignored, blocked } => signals(*ignored, *blocked),
        Step::Seccomp(filter) => seccomp(script, filter),
        Step::Hook(hook) => run_hook(script, hook),
        Step::Find { name, paths } => find(name, paths),
        Step::Exec { paths, argv, envp } => Err(execute(script, number, paths, (argv, envp))),
    }
}

fn die_with_parent(parent: RawFd) -> Result {
    raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
    // The parent may have died before the prctl; then the signal never comes.
    if raw::has_exited(parent) { raw::exit(FAILED) } else { Ok(()) }
}

fn descriptor(to: RawFd, from: Option<RawFd>) -> Result {
    match from {
        None => {
            raw::close(to);
            Ok(())
        }
        // dup3(2) refuses equal numbers; the descriptor just has to stay open.
        Some(from) if from == to => raw::set_cloexec(to, false),
        Some(from) => raw::dup2(from, to),
    }
}

/// `keep` is in ascending order.
fn close_all_but(from: u32, keep: &[RawFd]) -> Result {
    let mut first = from;
    for fd in keep.iter().map(|fd| *fd as u32).filter(|fd| *fd >= from) {
        if fd > first {
            raw::close_fds(first, fd - 1)?;
        }
        first = fd + 1;
    }
    raw::close_fds(first, u32::MAX)
}

fn await_go(script: &Script<'_>) -> Result {
    match script.memory {
        Memory::Forked => hear_go(script),
        _ => {
            script.ground.words().await_go();
            Ok(())
        }
    }
}

fn tell(script: &Script<'_>, record: Word, value: u32) -> Result {
    channel::tell(script.channel, Message { kind: record as u32, value })
}

fn ask(script: &Script<'_>, record: Word, value: u32) -> Result {
    tell(script, record, value)?;
    hear_go(script)
}

fn hear_go(script: &Script<'_>) -> Result {
    match channel::hear(script.channel)? {
        Some(Message { kind, .. }) if kind == Word::Go as u32 => Ok(()),
        // The parent is gone or has given up.
        _ => raw::exit(FAILED),
    }
}

fn sibling(script: &Script<'_>) -> Result {
    match fork::sibling(script.ground.words())? {
        // The second process reports itself: the first may be killed at any moment, and would leave
        // it unknown, with the channel open.
        0 => ask(script, Word::Sibling, 0),
        _ => raw::exit(0),
    }
}

/// From here on the process can be found in the record, and the parent may end.
fn ready(script: &Script<'_>, listener: Option<RawFd>) -> Result {
    raw::prctl(libc::PR_SET_PDEATHSIG, 0, 0)?;
    let Some(listener) = listener else { return Ok(()) };
    channel::tell(script.channel, Message { kind: Word::Ready as u32, value: 0 })?;
    raw::close(script.channel);
    loop {
        let connection = channel::accept(listener)?;
        match channel::hear(connection)? {
            Some(Message { kind, .. }) if kind == Word::Go as u32 => {
                // From here on it reads failures there; it may already be gone.
                let progress = Message { kind: Word::Progress as u32, value: 0 };
                let _ = channel::tell_descriptor(connection, progress, script.progress);
                raw::close(script.progress);
                script.started.store(connection, Ordering::Relaxed);
                raw::close(listener);
                return Ok(());
            }
            _ => raw::close(connection),
        }
    }
}

fn seccomp(script: &Script<'_>, filter: &Filter) -> Result {
    let listener = raw::seccomp_filter(&filter.instructions, filter.flags)?;
    if filter.flags & plan::seccomp::NEW_LISTENER != 0 {
        ask(script, Word::Listener, listener as u32)?;
        raw::close(listener);
    }
    Ok(())
}

/// How a hook failed is reported in place of an errno; see `failure.rs`.
fn run_hook(script: &Script<'_>, hook: &Hook) -> Result {
    let mut digits = [0u8; 10];
    let pid = decimal(fork::own_pid() as u32, &mut digits);
    let [before, behind] = &hook.state;
    let input: [&[u8]; 3] = [before, pid, behind];
    let channel = match script.started.load(Ordering::Relaxed) {
        ..0 => script.channel,
        started => started,
    };
    let tell = |kind: Word, value: RawFd, text: &[u8]| {
        // It is not an error if the other end is closed.
        let _ =
            channel::tell_text(channel, Message { kind: kind as u32, value: value as u32 }, text);
    };
    tell(Word::Hook, 0, hook.path.to_bytes());
    let program = fork::Program {
        path: &hook.path,
        argv: &hook.argv,
        envp: &hook.envp,
        directory: hook.directory.as_deref(),
        filter: hook.filter.as_ref().map(|filter| (&*filter.instructions, filter.flags)),
        timeout: hook.timeout,
    };
    match fork::run(&program, &input, &mut |fd, text| tell(Word::HookOutput, fd, text))? {
        Outcome::Success => Ok(()),
        Outcome::Code(code) => Err(Errno(failure::HOOK_CODE | code)),
        Outcome::Signal(signal) => Err(Errno(failure::HOOK_SIGNAL | signal)),
        Outcome::Late => Err(Errno(failure::HOOK_LATE)),
        Outcome::NotExecuted(errno) => Err(errno),
    }
}

fn decimal(number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

/// A directory that can be entered but is not below the root would be a way out (CVE-2024-21626);
/// the kernel reports a path without a leading slash for it.
fn directory(path: &CStr) -> Result {
    raw::chdir(path)?;
    if raw::is_below_root()? { Ok(()) } else { Err(Errno(libc::EXDEV)) }
}

fn terminal(
    tree: &mut MountTree,
    socket: RawFd,
    size: Option<(u16, u16)>,
    (console, plain): (bool, bool),
) -> Result {
    let (master, peer) = tree.terminal()?;
    if plain {
        terminal::plain_lines(peer)?;
    }
    if let Some((width, height)) = size {
        terminal::set_size(peer, width, height)?;
    }
    if console {
        tree.console(peer)?;
    }
    terminal::take_control(peer)?;
    for fd in 0..3 {
        raw::dup2(peer, fd)?;
    }
    raw::close(peer);
    // Last: the receiver may close it immediately, and then the terminal no longer has a name.
    channel::send_descriptor(socket, b"/dev/ptmx", master)?;
    raw::close(master);
    raw::close(socket);
    Ok(())
}

fn terminal_held() -> Result {
    if terminal::is_hung_up(0)? { Err(Errno(libc::EIO)) } else { Ok(()) }
}

fn standard_files(uid: u32, pipes: bool) -> Result {
    for fd in 0..3 {
        // A closed descriptor has no owner.
        let Ok(stat) = raw::stat(fd) else { continue };
        let null = stat.mode & libc::S_IFMT == libc::S_IFCHR && stat.rdev == libc::makedev(1, 3);
        let pipe = stat.mode & libc::S_IFMT == libc::S_IFIFO;
        if stat.owner.0 == uid || null || pipes && !pipe {
            continue;
        }
        match raw::fchown(fd, uid) {
            // Not ours to change, not mapped, or on a read-only file system.
            Err(Errno(libc::EPERM | libc::EINVAL | libc::EROFS)) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_own(file: &CStr, data: &[u8]) -> Result {
    let context = raw::fsopen(c"proc")?;
    let proc = raw::fsmount(context, 0)?;
    raw::close(context);
    let own = openat2::open(proc, c"thread-self", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    raw::close(proc);
    let file = openat2::open(own, file, libc::O_WRONLY, 0)?;
    raw::close(own);
    let written = raw::write(file, data);
    raw::close(file);
    written
}

/// Checks that one of the candidates is an executable file.
fn find(name: &CStr, paths: &[std::ffi::CString]) -> Result {
    let searched = !name.to_bytes().contains(&b'/');
    let mut reason = Errno(libc::ENOENT);
    for path in paths {
        match openat2::may_execute(path) {
            // Which program runs must not depend on the working directory.
            Ok(()) if searched && !path.to_bytes().starts_with(b"/") => {
                return Err(Errno(failure::RELATIVE));
            }
            Ok(()) => return Ok(()),
            Err(Errno(libc::EACCES)) => reason = Errno(libc::EACCES),
            Err(_) => {}
        }
    }
    Err(reason)
}

fn write(path: &CStr, data: &[u8]) -> Result {
    let file = openat2::open(raw::AT_FDCWD, path, libc::O_WRONLY, 0)?;
    let written = raw::write(file, data);
    raw::close(file);
    written
}

fn write_proc(file: &CStr, data: &[u8]) -> Result {
    use libc::{RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV};
    let proc = openat2::open(raw::AT_FDCWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    if !raw::is_procfs_root(proc)? {
        return Err(Errno(libc::EXDEV));
    }
    // Do not enter anything mounted over a part of it.
    let resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    let file = openat2::open(proc, file, libc::O_WRONLY, resolve)?;
    raw::close(proc);
    let written = raw::write(file, data);
    raw::close(file);
    written
}

fn enter(path: &CStr, flags: i32) -> Result {
    let namespace = openat2::open(raw::AT_FDCWD, path, libc::O_RDONLY, 0)?;
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
        // A kernel without keyrings has none to hide, and a filter that refuses this (EPERM, like
        // docker's default) refuses it to the command as well; a full quota (EDQUOT) is an error.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => Ok(()),
        result => result,
    }
}

fn landlock(handled: u64, scoped: u64, rules: &[(std::ffi::CString, u64)]) -> Result {
    const OF_FILES: u64 = 1 << 1 | 1 << 14; // WRITE_FILE, TRUNCATE
    let ruleset = raw::landlock_create(handled, scoped)?;
    for (path, access) in rules {
        let below = match openat2::open(raw::AT_FDCWD, path, libc::O_PATH, 0) {
            Err(Errno(libc::ENOENT)) => continue,
            below => below?,
        };
        let directory = raw::stat(below)?.mode & libc::S_IFMT == libc::S_IFDIR;
        let access = if directory { *access } else { access & OF_FILES };
        raw::landlock_allow(ruleset, below, access)?;
        raw::close(below);
    }
    for fd in 0..3 {
        // /dev/stdout leads to it, bypassing the sandbox's mounts. A file open only for reading may
        // be on a writable mount of the host, and gets no rule.
        if !raw::is_open_for_writing(fd) {
            continue;
        }
        match raw::landlock_allow(ruleset, fd, handled & OF_FILES) {
            // Landlock has no rules for pipes and sockets.
            Err(Errno(libc::EBADFD)) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    raw::landlock_restrict(ruleset)?;
    raw::close(ruleset);
    Ok(())
}

/// Executes the remaining steps in a second process; this one becomes the init.
fn fork(script: &Script<'_>, number: usize, filter: &Filter, keep: u64) -> Result {
    let init_works = match script.memory {
        Memory::Copied | Memory::Forked => [-1; 2],
        Memory::Borrowed | Memory::Beside => raw::pipe()?,
    };
    let rest = Script { from: number + 1, init_works, ..*script };
    let become_init = |child| -> Infallible {
        if script.ground.words().failure().is_none() {
            script.ground.words().fail(number, execute_init(script, filter, keep, child));
        }
        raw::exit(FAILED)
    };
    Err(clone::nested(script.ground, script.memory, &rest, run, become_init))
}

fn execute_init(script: &Script<'_>, filter: &Filter, keep: u64, child: i32) -> Errno {
    // The init's file has no read permission, so execve makes the process inaccessible to ptrace
    // and /proc/1/mem; with CAP_DAC_OVERRIDE it would count as readable. For a user other than
    // root, ambient capabilities persist if they are inheritable (capabilities(7)).
    let sets = raw::CapSets { effective: keep, permitted: keep, inheritable: keep };
    let confined = raw::capset(sets)
        .and_then(|()| raw::seccomp_filter(&filter.instructions, filter.flags).map(drop));
    match confined {
        Ok(()) => raw::exec_with_number(script.init, c"garth-init", child as u32),
        Err(errno) => errno,
    }
}

/// Until pid 1 has executed the init, /proc/1/mem, /proc/1/fd and /proc/1/exe are the caller's, so
/// the command must not run before that. The kernel closes close-on-exec descriptors only once the
/// old memory is gone; the shared words, which it clears a little earlier, would not do.
fn await_init(script: &Script<'_>) -> Result {
    let [reader, writer] = script.init_works;
    raw::close(writer);
    raw::await_end(reader)?;
    raw::close(reader);
    // End of file may also mean that the init could not be executed.
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

/// Like execvp(3): executes the first candidate that can be executed; if none can, EACCES is
/// preferred to ENOENT as the reason.
fn execute(
    script: &Script<'_>,
    number: usize,
    paths: &[std::ffi::CString],
    (argv, envp): (&CStrings, &CStrings),
) -> Errno {
    let words = script.ground.words();
    let given = argv.iter().next().is_some_and(|name| name.to_bytes().contains(&b'/'));
    envp.tell_pid(fork::own_pid);
    let mut reason = Errno(libc::ENOENT);
    for path in paths {
        match raw::execve(path, argv, envp) {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            // A path is taken literally. A candidate from PATH in a directory that this user may
            // not search does not exist for this user.
            denied @ Errno(libc::EACCES) if given => return denied,
            denied @ Errno(libc::EACCES) => {
                // The filter may kill the process for checking.
                words.fail(number, denied);
                if raw::is_there(path) {
                    reason = denied;
                }
                words.forget_failure();
            }
            other => return other,
        }
    }
    reason
}
