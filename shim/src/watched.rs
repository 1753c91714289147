//! Descriptors that the runtime watches.

use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches an open file that is owned.
///
/// # Errors
/// It cannot be watched, or too many are.
#[expect(
    deprecated,
    reason = "what takes its place is unsafe, for types that do not own what they name"
)]
pub fn watched<T: AsFd + AsRawFd>(file: T, interest: Interest) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(file, interest)
}
