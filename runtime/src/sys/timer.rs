//! Time that only moves forward, the same for all processes (CLOCK_MONOTONIC), and a descriptor
//! that becomes readable at a given time (timerfd_create(2)): exact where poll(2) counts
//! milliseconds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
};

use super::Errno;
use super::raw::call;

/// Nanoseconds per clock tick, in which /proc and cgroups of version 1 count processor time: USER_HZ is 100 on all
/// supported architectures.
pub const CLOCK_TICK: u64 = 10_000_000;

/// The time since some moment in the past, excluding time spent suspended.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The processor time of all threads of a process, ended ones included; `None`: it is gone.
pub fn processor_time(pid: i32) -> Option<Duration> {
    // As clock_getcpuclockid(3) builds it: CPUCLOCK_SCHED of include/linux/posix-timers.h.
    let clock = !pid << 3 | 2;
    let mut time = [0i64; 2];
    call!(libc::SYS_clock_gettime, clock, time.as_mut_ptr()).ok()?;
    Some(Duration::new(time[0] as u64, time[1] as u32))
}

/// A timer that fires once each time it is set.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> Result<Timer, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer { fd: rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// Fires after `after`, immediately if that is zero; replaces any earlier setting.
    pub fn set(&self, after: Duration) -> Result<(), Errno> {
        // All zeros would disarm it.
        let after = after.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: after.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: after.subsec_nanos().into(),
        };
        let spec = Itimerspec { it_interval: Timespec::default(), it_value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
