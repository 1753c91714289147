//! A process that starts children on behalf of its parent.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use crate::sys::process;

static STANDS_IN: AtomicBool = AtomicBool::new(false);
static CHILD: AtomicI32 = AtomicI32::new(0);

/// From now on, children started here become children of this process's parent.
pub fn begin() {
    STANDS_IN.store(true, Relaxed);
}

/// Whether [`begin`] has been called.
pub fn is_one() -> bool {
    STANDS_IN.load(Relaxed)
}

/// The process that becomes the parent of children started here.
pub fn parent_of_children() -> i32 {
    if is_one() { process::parent() } else { std::process::id() as i32 }
}

/// Remembers a child.
pub fn note(child: i32) {
    CHILD.store(child, Relaxed);
}

/// The most recently started child, dead or alive.
pub fn child() -> Option<i32> {
    Some(CHILD.load(Relaxed)).filter(|pid| *pid != 0)
}
