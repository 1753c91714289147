//! Time that only goes forward, the same for all processes (CLOCK_MONOTONIC), and a descriptor that
//! becomes readable at a moment of it (timerfd_create(2)): exact where poll(2) counts milliseconds.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::Errno;
use super::errno::check;

/// The time since some moment in the past, without that spent suspended.
pub fn monotonic() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the live timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// How long all threads of a process have run, those that have ended included; none: it is gone.
pub fn processor_time(pid: i32) -> Option<Duration> {
    // As clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of include/linux/posix-timers.h.
    let clock = !pid << 3 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the live timespec, or refuses a clock that does not exist.
    let told = check(unsafe { libc::clock_gettime(clock, &raw mut time) });
    told.ok().map(|_| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// A timer that goes off once for each time it is set.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> Result<Timer, Errno> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: plain numbers; the descriptor is new.
        unsafe {
            let fd = check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))?;
            Ok(Timer { fd: OwnedFd::from_raw_fd(fd) })
        }
    }

    /// Goes off when `after` has passed, at once if that is nothing; what was set before is forgotten.
    pub fn set(&self, after: Duration) -> Result<(), Errno> {
        // All zeros would mean never.
        let after = after.max(Duration::from_nanos(1));
        let value = libc::timespec {
            tv_sec: after.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: after.subsec_nanos().into(),
        };
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: never, it_value: value };
        // SAFETY: a live itimerspec; the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut())
        };
        check(result).map(drop)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
