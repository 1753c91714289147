//! `garth-init` and `garth-holder`: what stays behind once a sandbox has been started.
//!
//! Nothing that stays inside a sandbox may share memory with, or be a copy of, a process outside.
//! So pid 1 is not a fork of Garth but this program: one page of code, no libc, no heap, no data,
//! embedded in the library (`sys/init.rs`) and executed from a sealed memory file. `argv[0]` says
//! which of the two it is:
//!
//! - `garth-init CHILD` is pid 1 of the sandbox; the command is its child. It reaps, forwards
//!   signals to the command, and ends as the command ended: if that was by a signal, with 128 + n
//!   and the process name `signal n`, as pid 1 cannot die by a signal of its own.
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
#[allow(dead_code, reason = "some is for the keeper")]
mod calls;

use arch::number::*;
use calls::*;

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
    match decimal(arg(1)) {
        Some(child) if child > 0 && equal(name, b"garth-init\0") => init(child),
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
                    unsafe { run(program, argv, envp, None) };
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
                        let tends = if program.is_some() { TENDED } else { UNTENDED };
                        borrower = lend(listening, socket, tends, CLOEXEC);
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(OURS)
}
