//! `garth-init`, `garth-keeper` and `garth-holder`: what stays behind once a sandbox has been
//! started.
//!
//! Nothing that stays inside a sandbox may share memory with, or be a copy of, a process outside.
//! So pid 1 is not a fork of Garth but this program: one page of code, no libc, no heap, no data,
//! embedded in the library (`sys/init.rs`) and executed from a sealed memory file. `argv[0]` says
//! which of the three it is:
//!
//! - `garth-init CHILD` is pid 1 of the sandbox; the command is its child. It reaps, forwards
//!   signals to the command, and ends as the command ended: if that was by a signal, with 128 + n
//!   and the process name `signal n`, as pid 1 cannot die by a signal of its own.
//! - `garth-keeper FIRST COMMAND OUTPUT FILE FILE PROGRAM ARGS...`, all six descriptor numbers or
//!   `-`, is the parent, outside, of a detached sandbox. It passes SIGTERM on to COMMAND, keeps the
//!   end of what comes from OUTPUT in the two files, and when FIRST has ended becomes PROGRAM,
//!   which reaps it and cleans up.
//! - `garth-holder LISTENING SOCKET NEWS PROGRAM ARGS...` exists once per network namespace,
//!   outside: it keeps the netlink socket that owns the firewall's table, and lends it to one
//!   process at a time.
//!
//! `garth-init` runs under a seccomp filter and makes no system calls other than close_range,
//! rt_sigprocmask, rt_sigaction, wait4, rt_sigtimedwait, kill, prctl for its name and exit_group.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

#[cfg_attr(target_arch = "x86_64", path = "../arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../arch/aarch64.rs")]
#[allow(dead_code, unused_imports, unused_macros, reason = "some is for the library")]
mod arch;

use arch::number::*;

arch::begin_without_libc!(start);

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `stack` is the initial stack pointer: argc, then argc pointers and a null.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast_mut().cast::<*const u8>()) };
    // SAFETY: `nth` is below argc, so the pointer is one of the kernel's strings.
    let arg = |nth: usize| if nth < argc { unsafe { *argv.add(nth) } } else { c"".as_ptr().cast() };

    block_signals();
    let name = base_name(arg(0));
    if equal(name, b"garth-holder\0") && argc > 5 {
        let [Some(listening), Some(socket), Some(news)] = [1, 2, 3].map(|nth| decimal(arg(nth)))
        else {
            exit(OURS)
        };
        let program = decimal(arg(4));
        // SAFETY: argc > 5, and the environment follows the null that ends argv.
        unsafe { holder(listening, socket, news, program, argv.add(5), argv.add(argc + 1)) }
    }
    match (equal(name, b"garth-init\0"), equal(name, b"garth-keeper\0"), decimal(arg(1))) {
        (true, _, Some(child)) if child > 0 => init(child),
        (_, true, Some(first)) if argc > 7 => {
            // The kernel ignores a descriptor of -1, or answers EBADF.
            let fd = |nth| decimal(arg(nth)).unwrap_or(-1);
            let kept = Kept { files: [fd(4), fd(5)], current: 0, written: 0 };
            keep(first, fd(2), fd(3), kept);
            // SAFETY: argc > 7, and the environment follows the null that ends argv.
            unsafe { become_program(fd(6), argv.add(7), argv.add(argc + 1)) }
        }
        _ => exit(OURS),
    }
}

/// Pid 1. How it handles signals:
///
/// - SIGCHLD means that some children ended; it coalesces, so everything is reaped each time round,
///   and once before the first wait, for children that were faster than our exec.
/// - A signal that the kernel generated (SI_KERNEL) is not forwarded. Those come from the terminal:
///   ^C, ^Z, a resize, SIGTTIN, a hang-up. The terminal sends them to the whole foreground process
///   group; if we are in it the command is too, or it has left for a group of its own and does not
///   want them. To many programs a second SIGINT means "now, without cleaning up".
/// - Every other signal is forwarded, SIGTSTP, SIGTTIN, SIGTTOU and SIGCONT too: sent by kill(2),
///   they are addressed to the sandbox, which the command represents; we ourselves have no state to
///   stop. When a shell continues a job it sends SIGCONT to the whole group, so the command gets it
///   twice: a running process does not mind. Nor can our copy, still pending, undo a later ^Z: a
///   stop signal discards pending SIGCONTs of each process it is sent to, ours included
///   (`prepare_signal()` in kernel/signal.c).
/// - SIGKILL and SIGSTOP cannot be waited for. From inside, the kernel drops them; from outside,
///   SIGKILL ends the sandbox, and SIGSTOP stops only us: to pause a sandbox, freeze its cgroup.
///
/// Only the signal number is forwarded; the value of sigqueue(3) is lost. A command that has
/// changed its user is reached thanks to CAP_KILL, which we keep where the sandbox has it. Garth's
/// own signals do not depend on that (start/deliver.rs).
fn init(child: i32) -> ! {
    // A reader of the sandbox's output waits for end of file, which must come when the command
    // closes it, not only when we do.
    close_everything();
    loop {
        loop {
            match reap(-1, WNOHANG) {
                Ok((0, _)) => break,
                Ok((pid, status)) if pid == child => end(status),
                Ok(_) => {}
                // No children at all: the command is gone and its status was lost.
                Err(_) => exit(OURS),
            }
        }
        // The pid is the command's, and not reused, until it is reaped above.
        match next_signal(None) {
            Some((SIGCHLD, _)) | Some((_, SI_KERNEL)) | None => {}
            Some((signal, _)) => kill(child, signal),
        }
    }
}

/// The parent of a detached sandbox. A terminal hang-up and ^C are not meant for it; SIGTERM it
/// passes on, since a supervisor that knows only its pid means the sandbox. Returns when the
/// process behind the descriptor `first` has ended, and leaves it to be reaped.
fn keep(first: i32, command: i32, output: i32, mut kept: Kept) {
    let term = 1u64 << (SIGTERM - 1);
    let flags = NONBLOCK | CLOEXEC;
    let args = [usize::MAX, &raw const term as usize, SET, flags, 0];
    let signals = syscall(SIGNALFD4, args) as i32;
    let mut polls = [first, signals, output].map(|fd| Poll { fd, wanted: POLLIN as i16, came: 0 });
    loop {
        syscall(PPOLL, [polls.as_mut_ptr() as usize, polls.len(), 0, 0, SET]);
        if polls[1].came != 0 {
            let mut info = MaybeUninit::<[u64; 16]>::uninit(); // struct signalfd_siginfo
            let size = size_of_val(&info);
            while read(signals, info.as_mut_ptr().cast(), size) == size as isize {
                syscall(PIDFD_SEND_SIGNAL, [command as usize, SIGTERM as usize, 0, 0, 0]);
            }
        }
        if polls[2].came != 0 && !kept.take(output) {
            polls[2].fd = -1;
        }
        if polls[0].came != 0 {
            break;
        }
    }
    // As much as a pipe holds; a process that goes on writing was not in the sandbox.
    for _ in 0..PIPE / PIECE {
        if !kept.take(output) {
            break;
        }
    }
}

/// Becomes the program open at `fd` with `argv`.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null.
unsafe fn become_program(fd: i32, argv: *const *const u8, envp: *const *const u8) -> ! {
    // Signals that came while we waited were meant for us and must not hit the program we become,
    // which starts with an empty mask and default actions like any other.
    while next_signal(Some(&[0, 0])).is_some() {}
    set_mask(0);
    syscall(
        EXECVEAT,
        [fd as usize, c"".as_ptr() as usize, argv as usize, envp as usize, AT_EMPTY_PATH],
    );
    exit(OURS)
}

/// The end of the output, in two files opened for appending: when one is full, the other is
/// restarted.
struct Kept {
    files: [i32; 2],
    current: usize,
    written: usize,
}

/// The size of one file, the capacity of a pipe (pipe(7), unless root has enlarged it), and the
/// size of one read.
const FULL: usize = 65536;
const PIPE: usize = 1 << 20;
const PIECE: usize = 4096;

impl Kept {
    /// Copies a piece of `output`; false: nothing is there.
    fn take(&mut self, output: i32) -> bool {
        let mut piece = MaybeUninit::<[u8; PIECE]>::uninit();
        let count = read(output, piece.as_mut_ptr().cast(), PIECE);
        if count <= 0 {
            return false;
        }
        if self.written + count as usize > FULL {
            // So that it is seen as the older one, however fast the other fills up.
            let long_ago = [[0usize; 2]; 2];
            let file = self.files[self.current] as usize;
            syscall(UTIMENSAT, [file, 0, long_ago.as_ptr() as usize, 0, 0]);
            self.current ^= 1;
            self.written = 0;
            syscall(FTRUNCATE, [self.files[self.current] as usize, 0, 0, 0, 0]);
        }
        let file = self.files[self.current] as usize;
        // On a full file system the output is lost, and the sandbox goes on.
        syscall(WRITE, [file, piece.as_ptr() as usize, count as usize, 0, 0]);
        self.written += count as usize;
        true
    }
}

/// Keeps `socket`, the netlink socket that owns the firewall's table (`network/table.rs`), and
/// lends it to processes of our own user that connect to `listening`: to the next one when the
/// previous connection has ended. A borrower may write a word: [`LEFT`], it took something out of
/// the table, and [`LAST`], it takes the table away and we must exit when its connection ends. When
/// something was taken out, and when `news` says that an interface got an address or the host a new
/// default route, `program` is run, after a while in which nothing else happens, and handles it.
///
/// SIGTERM ends us: a service manager that stops the unit we were started in must not have to wait.
/// The sandboxes' callers hold the socket too, so only our services are lost.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null.
unsafe fn holder(
    listening: i32,
    socket: i32,
    news: i32,
    program: Option<i32>,
    argv: *mut *const u8,
    envp: *const *const u8,
) -> ! {
    for fd in [Some(listening), Some(socket), Some(news), program].into_iter().flatten() {
        syscall(FCNTL, [fd as usize, F_SETFD, FD_CLOEXEC, 0, 0]);
    }
    // The programs that we run are not waited for.
    set_disposition(SIGCHLD, IGNORE);
    set_disposition(SIGTERM, DEFAULT);
    set_mask(!(1 << (SIGTERM - 1)));
    // Timeouts of ppoll(2) (seconds, nanoseconds), which the kernel counts down.
    let (mut pause, mut patience) = (LINGER, PATIENCE);
    let (mut borrower, mut last, mut waits) = (-1, false, true);
    loop {
        let turn = if borrower < 0 { listening } else { borrower };
        // struct pollfd: descriptor, events (2 bytes), returned events (2 bytes).
        let mut polled = [news, turn].map(|fd| fd as u32 as u64 | POLLIN << 32);
        let timeout = match borrower < 0 {
            true if waits => pause.as_mut_ptr() as usize,
            true => 0,
            false => patience.as_mut_ptr() as usize,
        };
        let ready = syscall(PPOLL, [polled.as_mut_ptr() as usize, 2, timeout, 0, SET]);
        match ready {
            // A borrower that is stopped or hangs has had its turn.
            0 if borrower >= 0 => {
                close(borrower);
                borrower = -1;
            }
            0 => {
                waits = false;
                if let Some(program) = program {
                    // SAFETY: the arrays are as the caller says.
                    unsafe { run(program, argv, envp) }
                }
            }
            _ if ready < 0 => {}
            _ => {
                let sooner = !waits || pause[0] > SOON[0];
                if polled[0] >> 48 != 0 && concerns_us(news) && sooner {
                    (pause, waits) = (SOON, true);
                }
                let mut word = 0u8;
                match (polled[1] >> 48 != 0, borrower < 0) {
                    (false, _) => {}
                    (true, true) => {
                        borrower = lend(listening, socket, program.is_some());
                        patience = PATIENCE;
                    }
                    (true, false) => {
                        match syscall(READ, [borrower as usize, &raw mut word as usize, 1, 0, 0]) {
                            1 if word == LAST => last = true,
                            1 => (pause, waits) = (LINGER, true),
                            _ => {
                                close(borrower);
                                borrower = -1;
                                if last {
                                    exit(0);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Accepts a connection and sends the descriptor `socket` over it (unix(7), SCM_RIGHTS), with a
/// byte that says whether anything is run once the last sandbox is gone. -1: the peer is not our
/// own user.
fn lend(listening: i32, socket: i32, tends: bool) -> i32 {
    let client = syscall(ACCEPT4, [listening as usize, 0, 0, CLOEXEC, 0]) as i32;
    if client < 0 {
        return -1;
    }
    let mut peer = [u32::MAX; 3]; // struct ucred: pid, uid, gid
    let mut length = 12u32;
    let (to, size) = (peer.as_mut_ptr() as usize, &raw mut length as usize);
    syscall(GETSOCKOPT, [client as usize, SOL_SOCKET, SO_PEERCRED, to, size]);
    let ours = peer[1] as usize == syscall(GETEUID, [0; 5]) as usize;
    let byte = [if tends { TENDED } else { UNTENDED }];
    let data = [byte.as_ptr() as usize, 1]; // struct iovec
    // struct cmsghdr: length, level and type (4 bytes each); the descriptor.
    let control = [20, SOL_SOCKET | SCM_RIGHTS << 32, socket as usize];
    // struct msghdr: name and its length, iovec and how many, control and its length, flags.
    let message = [0, 0, data.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
    let send = [client as usize, message.as_ptr() as usize, MSG_NOSIGNAL, 0, 0];
    if ours && syscall(SENDMSG, send) == 1 {
        return client;
    }
    close(client);
    -1
}

/// Has an interface that is not a sandbox's got an address, or the host a new default route? Reads
/// all the news.
fn concerns_us(news: i32) -> bool {
    let mut found = false;
    let mut buffer = MaybeUninit::<[u32; 1024]>::uninit();
    loop {
        let (to, size) = (buffer.as_mut_ptr() as usize, 4096);
        let read = syscall(RECVFROM, [news as usize, to, size, MSG_DONTWAIT, 0]);
        if read < 0 {
            // What did not fit into the queue may have been anything.
            return found || read == ENOBUFS;
        }
        // SAFETY: any bits are a valid u32; what the kernel did not fill is not looked at.
        let words = unsafe { buffer.assume_init_ref() };
        let (mut at, end) = (0, read as usize / 4);
        // struct nlmsghdr: length, type and flags (2 bytes each), sequence, port; then struct
        // ifaddrmsg (4 bytes, index) or rtmsg (family, prefix length, 2 bytes; 3 bytes, type).
        while let Some([length, kind, _, _, first, second]) = words.get(at..at + 6)
            && at + 6 <= end
            && *length >= 16
        {
            found |= match *kind as u16 {
                RTM_NEWADDR => *second < FIRST_INDEX,
                RTM_NEWROUTE => *first >> 8 & 0xff <= 1 && *second >> 24 == RTN_UNICAST,
                _ => false,
            };
            at += (*length as usize).div_ceil(4);
        }
    }
}

/// Runs a program that is not waited for.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings, each ended by a null.
unsafe fn run(program: i32, argv: *mut *const u8, envp: *const *const u8) {
    if syscall(CLONE, [SIGCHLD as usize, 0, 0, 0, 0]) == 0 {
        set_disposition(SIGCHLD, DEFAULT);
        set_mask(0);
        let empty = c"".as_ptr() as usize;
        let (argv, envp) = (argv as usize, envp as usize);
        syscall(EXECVEAT, [program as usize, empty, argv, envp, AT_EMPTY_PATH]);
        exit(OURS);
    }
}

/// From the last release until the table is removed if empty, so that successive starts find it.
/// Seconds and nanoseconds.
const LINGER: [u64; 2] = [2, 0];
/// From news until it is handled: news comes in bursts.
const SOON: [u64; 2] = [0, 200_000_000];
/// How long one borrower may keep the others waiting.
const PATIENCE: [u64; 2] = [5, 0];
/// The words a borrower sends, and ours to it; `network/table.rs` has the same.
const LAST: u8 = b'x';
const TENDED: u8 = b't';
const UNTENDED: u8 = b'u';
/// Interface indexes from here on belong to sandboxes (`network/link.rs`).
const FIRST_INDEX: u32 = 0x4000_0000;

/// Our exit code when we could not do our work.
const OURS: i32 = 125;

/// Ends as a command with this wait status did.
fn end(status: i32) -> ! {
    let signal = (status & 0x7f) as u8;
    if signal != 0 {
        let mut name = *b"signal \0\0\0";
        match signal / 10 {
            0 => name[7] = b'0' + signal,
            tens => [name[7], name[8]] = [b'0' + tens, b'0' + signal % 10],
        }
        syscall(PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0]);
    }
    exit(code(status))
}

/// A wait status as a shell reports it.
fn code(status: i32) -> i32 {
    if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) }
}

// ---- Strings -----------------------------------------------------------------------------------

/// The part of a C string after the last slash.
fn base_name(mut text: *const u8) -> *const u8 {
    let mut name = text;
    // SAFETY: a C string from the kernel, read up to its end.
    unsafe {
        while *text != 0 {
            text = text.add(1);
            if *text.sub(1) == b'/' {
                name = text;
            }
        }
    }
    name
}

/// Whether a C string equals `expected`, which includes the terminating NUL.
fn equal(text: *const u8, expected: &[u8]) -> bool {
    // SAFETY: `all` stops at the first difference, so no byte after the NUL of `text` is read.
    expected.iter().enumerate().all(|(i, byte)| unsafe { *text.add(i) == *byte })
}

/// An unsigned number that fits a pid or a descriptor.
fn decimal(mut text: *const u8) -> Option<i32> {
    let mut number = None;
    loop {
        // SAFETY: a C string, read up to its zero.
        let byte = unsafe { *text };
        if byte == 0 {
            return number;
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = Some(number.unwrap_or(0i32).checked_mul(10)?.checked_add(i32::from(digit))?);
        text = text.wrapping_add(1);
    }
}

// ---- System calls ------------------------------------------------------------------------------

// The same on every architecture.
const PIDFD_SEND_SIGNAL: usize = 424;
const CLOSE_RANGE: usize = 436;

const SIG_SETMASK: usize = 2;
const DEFAULT: u64 = 0;
const IGNORE: u64 = 1;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SI_KERNEL: i32 = 0x80;
const WNOHANG: usize = 1;
/// Wait for every kind of child, including one cloned without an exit signal.
const WALL: usize = 0x4000_0000;
const PR_SET_NAME: usize = 15;
const NONBLOCK: usize = 0o4000;
const CLOEXEC: usize = 0o2_000_000;
const AT_EMPTY_PATH: usize = 0x1000;
const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;
const POLLIN: u64 = 1;
const SOL_SOCKET: usize = 1;
const SO_PEERCRED: usize = 17;
const SCM_RIGHTS: usize = 1;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_DONTWAIT: usize = 0x40;
const ENOBUFS: isize = -105;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTN_UNICAST: u32 = 1;
/// The size of the kernel's signal set: 64 signals.
const SET: usize = 8;

/// Makes a system call; `-errno` on failure. What the calls below pass outlives them.
#[inline(always)]
fn syscall(number: usize, args: [usize; 5]) -> isize {
    let [a, b, c, d, e] = args;
    // SAFETY: the callers pass pointers to live objects of the right size.
    unsafe { arch::syscall(number, [a, b, c, d, e, 0]) }
}

fn exit(code: i32) -> ! {
    syscall(EXIT_GROUP, [code as usize, 0, 0, 0, 0]);
    loop {}
}

fn kill(pid: i32, signal: i32) {
    syscall(KILL, [pid as usize, signal as usize, 0, 0, 0]);
}

/// struct pollfd.
#[repr(C)]
struct Poll {
    fd: i32,
    wanted: i16,
    came: i16,
}

fn read(fd: i32, buffer: *mut u8, size: usize) -> isize {
    syscall(READ, [fd as usize, buffer as usize, size, 0, 0])
}

fn close_everything() {
    syscall(CLOSE_RANGE, [0, u32::MAX as usize, 0, 0, 0]);
}

/// The caller blocks all signals before the exec, so that none is lost; this makes sure, and undoes
/// an inherited `SIGCHLD: ignored`, with which the kernel would reap children without us.
fn block_signals() {
    set_mask(u64::MAX);
    set_disposition(SIGCHLD, DEFAULT);
}

fn set_disposition(signal: i32, handler: u64) {
    let action = [handler, 0, 0, 0]; // struct kernel_sigaction: handler, flags, restorer, mask
    syscall(RT_SIGACTION, [signal as usize, action.as_ptr() as usize, 0, SET, 0]);
}

fn close(fd: i32) {
    syscall(CLOSE, [fd as usize, 0, 0, 0, 0]);
}

fn set_mask(mask: u64) {
    syscall(RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, SET, 0]);
}

/// The pid and wait status of a child that ended; pid 0 if none has yet.
fn reap(pid: i32, flags: usize) -> Result<(i32, i32), ()> {
    let mut status = 0i32;
    let result = syscall(WAIT4, [pid as usize, &raw mut status as usize, flags | WALL, 0, 0]);
    if result < 0 { Err(()) } else { Ok((result as i32, status)) }
}

/// The number and si_code of the next signal; `None` after `timeout` (seconds, nanoseconds) or when
/// a stop interrupted the wait.
fn next_signal(timeout: Option<&[u64; 2]>) -> Option<(i32, i32)> {
    let all = u64::MAX;
    let mut info = MaybeUninit::<[i32; 32]>::uninit(); // siginfo_t: signo, errno, code, ...
    let timeout = timeout.map_or(0, |time| time.as_ptr() as usize);
    let args = [&raw const all as usize, info.as_mut_ptr() as usize, timeout, SET, 0];
    if syscall(RT_SIGTIMEDWAIT, args) < 0 {
        return None;
    }
    // SAFETY: the kernel fills all 128 bytes of siginfo_t on success.
    let info = unsafe { info.assume_init_ref() };
    Some((info[0], info[2]))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(OURS)
}
