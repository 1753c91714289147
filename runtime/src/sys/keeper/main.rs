//! `garth-keeper`: the parent, outside, of a detached sandbox, while nothing happens.
//!
//! A program without libc, like `garth-init` and executed in the same way, so that what stays
//! resident beside a sandbox is a few kilobytes. Its arguments are
//! `FIRST COMMAND OUT ERR DIR SIZE COUNT EVERY LISTENING WATCHED PROGRAM NAME WORD ARGS...`, numbers or
//! `-`:
//!
//! - It waits for the end of the process behind the descriptor FIRST and then becomes the program
//!   open at PROGRAM, with the arguments from NAME on, which reaps it and cleans up. Without a
//!   FIRST, it becomes that program after EVERY milliseconds, or as soon as SIGTERM or SIGURG comes:
//!   the pause before a service is started again.
//! - It passes SIGTERM on to the process behind COMMAND.
//! - What comes from OUT and ERR it appends to the file `log` in the directory DIR. When that has
//!   reached SIZE bytes it becomes `log.1`, and so on; COUNT files are kept. The format is that of
//!   Kubernetes' container logs: `TIME stdout|stderr F|P LINE`, where P is a part of a line that
//!   goes on in the next entry of the same stream. With a COUNT of 0, DIR is a file that gets
//!   everything as it is.
//! - Whoever connects to LISTENING gets OUT, which is then the master of a terminal, to write to it, and
//!   a copy of what comes from there; one at a time. It is read no faster than the copy is.
//! - With a FIRST, it runs PROGRAM with `health` in place of WORD at once, and again EVERY
//!   milliseconds after that has ended.
//! - Each time that WATCHED, which is /proc/mdstat, has something new to say (POLLPRI), it runs PROGRAM
//!   with `watch` in place of WORD; one at a time.
#![no_std]
#![no_main]

use core::ffi::CStr;
use core::mem::MaybeUninit;

#[cfg_attr(target_arch = "x86_64", path = "../arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../arch/aarch64.rs")]
#[allow(dead_code, unused_imports, unused_macros, reason = "some is for the library")]
mod arch;
#[path = "../init/calls.rs"]
#[allow(dead_code, reason = "some is for the init")]
mod calls;

use arch::number::*;
use calls::*;

arch::begin_without_libc!(start);

/// The number of arguments before those of the program, argv[0] included.
const OWN: usize = 12;

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `stack` is the initial stack pointer: argc, then argc pointers and a null.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast_mut().cast::<*const u8>()) };
    block_signals();
    if argc < OWN + 2 {
        exit(OURS)
    }
    // SAFETY: all are below argc, so each is one of the kernel's strings. The kernel ignores a
    // descriptor of -1, or answers EBADF.
    let number = |nth: usize| decimal(unsafe { *argv.add(nth) }).unwrap_or(-1);
    // SAFETY: the array has argc entries and a null; the environment follows.
    let (program, words, envp) = unsafe { (number(11), argv.add(OWN), argv.add(argc + 1)) };
    let mut log = Log {
        dir: number(5),
        file: -1,
        size: number(6).max(0) as usize,
        count: number(7).clamp(0, 99) as u8,
        written: 0,
        cut: [false; 2],
        attached: -1,
        buffer: [MaybeUninit::uninit(); BUFFER],
        used: 0,
    };
    log.open();
    // SAFETY: both are arrays of C strings with a null at their ends, as the kernel made them.
    unsafe {
        let waited = [number(1), number(2), number(9), number(10)];
        keep(waited, [number(3), number(4)], number(8), &mut log, &mut |with: &CStr| {
            let mut pidfd = -1;
            let word = *words.add(1);
            *words.add(1) = with.as_ptr().cast();
            let pid = run(program, words, envp, Some(&mut pidfd));
            *words.add(1) = word;
            (pid, pidfd)
        });
        // Signals that came while we waited were meant for us and must not hit the program we
        // become, which starts with an empty mask and default actions like any other.
        while next_signal(Some(&[0, 0])).is_some() {}
        set_mask(0);
        execute(program, words, envp)
    }
}

/// A terminal hang-up and ^C are not meant for us; SIGTERM is passed on, since a supervisor that
/// knows only our pid means the sandbox. Returns when the process behind `first` has ended, which is
/// left to be reaped; without one, after a pause.
fn keep(
    [first, command, listening, mut watched]: [i32; 4],
    mut outputs: [i32; 2],
    every: i32,
    log: &mut Log,
    check: &mut dyn FnMut(&CStr) -> (i32, i32),
) {
    let both = 1u64 << (SIGTERM - 1) | 1u64 << (SIGURG - 1);
    let flags = NONBLOCK | CLOEXEC;
    let args = [usize::MAX, &raw const both as usize, SET, flags, 0];
    let signals = syscall(SIGNALFD4, args) as i32;
    // Seconds and nanoseconds, which the kernel counts down.
    let period = [every.max(0) as u64 / 1000, every.max(0) as u64 % 1000 * 1_000_000];
    let mut left = if first < 0 { period } else { [0, 0] };
    let (mut checker, mut checking) = (0, -1);
    let (mut watcher, mut watching) = (0, -1);
    // What is attached takes no more.
    let mut full = false;
    loop {
        let out = if full { -1 } else { outputs[0] };
        // What is new meanwhile is new afterwards.
        let watch = if watching < 0 { watched } else { -1 };
        // Not by map(): that copies with memcpy, and there is no libc here.
        let poll = |fd| Poll { fd, wanted: POLLIN as i16, came: 0 };
        let mut polls = [
            poll(first),
            poll(signals),
            poll(out),
            poll(outputs[1]),
            poll(checking),
            poll(listening),
            poll(log.attached),
            poll(watching),
            poll(watch),
        ];
        polls[6].wanted = if full { POLLOUT } else { 0 };
        polls[8].wanted = POLLPRI;
        let timeout = match every >= 0 && checking < 0 {
            true => left.as_mut_ptr() as usize,
            false => 0,
        };
        let ready = syscall(PPOLL, [polls.as_mut_ptr() as usize, polls.len(), timeout, 0, SET]);
        let came = |nth: usize| ready > 0 && polls[nth].came != 0;
        let mut asked = false;
        if came(1) {
            let mut info = MaybeUninit::<[u64; 16]>::uninit(); // struct signalfd_siginfo
            let size = size_of_val(&info);
            while read(signals, info.as_mut_ptr().cast(), size) == size as isize {
                // SAFETY: the kernel has filled it; its first four bytes are the number.
                let signal = unsafe { info.assume_init_ref() }[0] as i32;
                if signal == SIGTERM {
                    syscall(PIDFD_SEND_SIGNAL, [command as usize, SIGTERM as usize, 0, 0, 0]);
                }
                asked = true;
            }
        }
        if came(5) {
            match log.attached {
                -1 => log.attached = lend(listening, outputs[0], b'm', NONBLOCK | CLOEXEC),
                _ => close(syscall(ACCEPT4, [listening as usize, 0, 0, CLOEXEC, 0]) as i32),
            }
        }
        if came(6) {
            full = false;
            if polls[6].came != POLLOUT {
                log.detach();
            }
        }
        full |= came(2) && log.is_full();
        for nth in 0..2 {
            if came(2 + nth) && !(nth == 0 && full) && log.take(outputs[nth], nth) == 0 {
                outputs[nth] = -1;
            }
        }
        if came(4) {
            let _ = reap(checker, 0);
            close(checking);
            (checking, left) = (-1, period);
        }
        if came(7) {
            let _ = reap(watcher, 0);
            close(watching);
            watching = -1;
        }
        if came(8) {
            match read_again(watched) {
                true => (watcher, watching) = check(c"watch"),
                false => watched = -1,
            }
            if watcher < 0 {
                watching = -1;
            }
        }
        if came(0) || (first < 0 && (asked || ready == 0)) {
            break;
        }
        if ready == 0 {
            (checker, checking) = check(c"health");
            if checker < 0 {
                (checking, left) = (-1, period);
            }
        }
    }
    // As much as a pipe holds; a process that goes on writing was not in the sandbox.
    for (nth, output) in outputs.into_iter().enumerate() {
        for _ in 0..PIPE / PIECE {
            if log.take(output, nth) <= 0 {
                break;
            }
        }
        log.finish(nth);
    }
}

/// Reads a file of /proc from its beginning, so that only what comes after that is new.
fn read_again(file: i32) -> bool {
    let mut piece = MaybeUninit::<[u8; PIECE]>::uninit();
    syscall(LSEEK, [file as usize, 0, SEEK_SET, 0, 0]);
    read(file, piece.as_mut_ptr().cast(), PIECE) > 0
}

/// The log of the output.
struct Log {
    dir: i32,
    file: i32,
    /// When a file has so many bytes, a new one is begun.
    size: usize,
    /// So many are kept; 0: everything is copied as it is.
    count: u8,
    /// The bytes in the current one.
    written: usize,
    /// Whether the last line of each stream goes on.
    cut: [bool; 2],
    /// The socket that gets a copy of the first stream, or -1.
    attached: i32,
    /// What is yet to be written.
    buffer: [MaybeUninit<u8>; BUFFER],
    used: usize,
}

/// The capacity of a pipe (pipe(7), unless root has enlarged it), and the size of one read.
const PIPE: usize = 1 << 20;
const PIECE: usize = 8192;
/// `2026-11-29T18:52:21.123456789Z`, and what stands between that and the line.
const TIME: usize = 30;
const HEAD: usize = TIME + " stdout F ".len();
const BUFFER: usize = PIECE + 1024;

impl Log {
    /// Opens the current file, and creates it.
    fn open(&mut self) {
        if self.count == 0 {
            self.file = self.dir;
            return;
        }
        let name = c"log".as_ptr() as usize;
        let flags = O_WRONLY | O_CREAT | O_APPEND | CLOEXEC;
        self.file = syscall(OPENAT, [self.dir as usize, name, flags, 0o600, 0]) as i32;
        self.written = syscall(LSEEK, [self.file as usize, 0, SEEK_END, 0, 0]).max(0) as usize;
    }

    /// Copies a piece of stream `nth` from `output`. Returns what read(2) did.
    fn take(&mut self, output: i32, nth: usize) -> isize {
        let mut piece = MaybeUninit::<[u8; PIECE]>::uninit();
        let count = read(output, piece.as_mut_ptr().cast(), PIECE);
        if count <= 0 {
            return count;
        }
        if nth == 0 && self.attached >= 0 {
            let copy = [self.attached as usize, piece.as_ptr() as usize, count as usize, 0, 0];
            if syscall(WRITE, copy) != count {
                self.detach();
            }
        }
        if self.count == 0 {
            let from = piece.as_ptr() as usize;
            syscall(WRITE, [self.file as usize, from, count as usize, 0, 0]);
            return count;
        }
        let time = time();
        let mut begin = 0;
        while begin < count as usize {
            if self.written + self.used >= self.size {
                self.flush();
            }
            // SAFETY: the kernel has filled `count` bytes.
            let byte = |at: usize| unsafe { *piece.as_ptr().cast::<u8>().add(at) };
            let end = (begin..count as usize).find(|at| byte(*at) == b'\n');
            self.head(&time, nth, end.is_some());
            for at in begin..end.unwrap_or(count as usize) {
                self.put(byte(at));
            }
            self.put(b'\n');
            self.cut[nth] = end.is_none();
            begin = end.map_or(count as usize, |end| end + 1);
        }
        self.flush();
        count
    }

    fn detach(&mut self) {
        close(self.attached);
        self.attached = -1;
    }

    /// Whether what is attached has taken little of what it was sent. A socket counts as writable while
    /// less than a quarter of its buffer is in use (unix_writable() in net/unix/af_unix.c), so there
    /// is always room for what a terminal still holds at the end.
    fn is_full(&self) -> bool {
        let mut poll = Poll { fd: self.attached, wanted: POLLOUT, came: 0 };
        let now = [0u64; 2];
        let poll = &raw mut poll as usize;
        self.attached >= 0 && syscall(PPOLL, [poll, 1, now.as_ptr() as usize, 0, SET]) == 0
    }

    /// Ends a line that would have gone on.
    fn finish(&mut self, nth: usize) {
        if self.cut[nth] {
            self.head(&time(), nth, true);
            self.put(b'\n');
            self.flush();
            self.cut[nth] = false;
        }
    }

    /// The beginning of an entry.
    fn head(&mut self, time: &[u8; TIME], nth: usize, whole: bool) {
        if self.used + HEAD > BUFFER {
            self.write();
        }
        time.iter().for_each(|byte| self.put(*byte));
        let stream = if nth == 0 { b" stdout " } else { b" stderr " };
        stream.iter().for_each(|byte| self.put(*byte));
        self.put(if whole { b'F' } else { b'P' });
        self.put(b' ');
    }

    fn put(&mut self, byte: u8) {
        if self.used == BUFFER {
            self.write();
        }
        if let Some(place) = self.buffer.get_mut(self.used) {
            place.write(byte);
            self.used += 1;
        }
    }

    /// Writes the entries, and begins a new file where this one is full.
    fn flush(&mut self) {
        self.write();
        if self.written < self.size {
            return;
        }
        close(self.file);
        for nth in (0..self.count - 1).rev() {
            let (from, to) = (name(nth), name(nth + 1));
            let dir = self.dir as usize;
            syscall(RENAMEAT2, [dir, from.as_ptr() as usize, dir, to.as_ptr() as usize, 0]);
        }
        if self.count == 1 {
            syscall(UNLINKAT, [self.dir as usize, c"log".as_ptr() as usize, 0, 0, 0]);
        }
        self.open();
    }

    /// On a full file system the output is lost, and the sandbox goes on.
    fn write(&mut self) {
        let mut done = 0;
        while done < self.used {
            let from = self.buffer.as_ptr() as usize + done;
            match syscall(WRITE, [self.file as usize, from, self.used - done, 0, 0]) {
                written if written > 0 => done += written as usize,
                _ => break,
            }
        }
        self.written += self.used;
        self.used = 0;
    }
}

/// `log`, `log.1`, ..., `log.98`, with a NUL.
fn name(nth: u8) -> [u8; 7] {
    let (tens, ones) = (b'0' + nth / 10, b'0' + nth % 10);
    match nth {
        0 => *b"log\0\0\0\0",
        1..10 => [b'l', b'o', b'g', b'.', ones, 0, 0],
        _ => [b'l', b'o', b'g', b'.', tens, ones, 0],
    }
}

/// The time as RFC 3339 writes it, in UTC with nanoseconds.
fn time() -> [u8; TIME] {
    let mut now = [0u64; 2]; // struct timespec
    syscall(CLOCK_GETTIME, [CLOCK_REALTIME, now.as_mut_ptr() as usize, 0, 0, 0]);
    let (days, second) = (now[0] / 86400, now[0] % 86400);
    // Years begin in March here, so that the leap day is the last; eras have 400 of them.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);

    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let mut write = |end: usize, digits: usize, mut number: u64| {
        for at in (end - digits..end).rev() {
            if let Some(digit) = text.get_mut(at) {
                *digit = b'0' + (number % 10) as u8;
            }
            number /= 10;
        }
    };
    write(4, 4, year);
    write(7, 2, month);
    write(10, 2, day);
    write(13, 2, second / 3600);
    write(16, 2, second / 60 % 60);
    write(19, 2, second % 60);
    write(29, 9, now[1]);
    text
}

// The same on every architecture.
const CLOCK_REALTIME: usize = 0;
const O_WRONLY: usize = 1;
const O_CREAT: usize = 0o100;
const O_APPEND: usize = 0o2000;
const SEEK_SET: usize = 0;
const SEEK_END: usize = 2;
const SIGURG: i32 = 23;
const POLLPRI: i16 = 2;
const POLLOUT: i16 = 4;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(OURS)
}
