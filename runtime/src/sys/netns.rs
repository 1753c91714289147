//! Visiting another network namespace (network_namespaces(7), setns(2)).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Errno;

/// Runs `visit` with this thread in the network namespace of process `pid`, then returns to the old
/// one. Other threads are not affected. A socket opened inside stays in that namespace.
///
/// A thread that cannot return would act on the wrong network from then on, with all its rights:
/// the process aborts instead.
pub fn in_netns_of<T>(pid: i32, visit: impl FnOnce() -> T) -> Result<T, Errno> {
    let there = File::open(format!("/proc/{pid}/ns/net"))?;
    in_netns(there.as_fd(), visit)
}

/// Same as [`in_netns_of`], for an open namespace file.
pub fn in_netns<T>(there: BorrowedFd<'_>, visit: impl FnOnce() -> T) -> Result<T, Errno> {
    /// Also returns when `visit` panics.
    struct Return(File);
    impl Drop for Return {
        fn drop(&mut self) {
            if enter(self.0.as_fd()).is_err() {
                std::process::abort();
            }
        }
    }
    // Open the way back before leaving.
    let back = Return(File::open("/proc/thread-self/ns/net")?);
    enter(there)?;
    let result = visit();
    drop(back);
    Ok(result)
}

fn enter(netns: BorrowedFd<'_>) -> Result<(), Errno> {
    super::raw::setns(netns.as_raw_fd(), libc::CLONE_NEWNET)
}

/// Runs `visit` on a separate thread in a new network namespace, which ends with it. Needs
/// CAP_SYS_ADMIN.
pub fn in_new_netns<T: Send>(visit: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            super::raw::unshare(libc::CLONE_NEWNET)?;
            Ok(visit())
        });
        thread.join().unwrap_or(Err(Errno(libc::EFAULT)))
    })
}
