//! A process that starts children for its parent.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use crate::sys::process;

static STANDS_IN: AtomicBool = AtomicBool::new(false);
static CHILD: AtomicI32 = AtomicI32::new(0);

/// From now on the children of this process are its parent's.
pub fn begin() {
    STANDS_IN.store(true, Relaxed);
}

/// Are they?
pub fn is_one() -> bool {
    STANDS_IN.load(Relaxed)
}

/// The process that has the children that are started here.
pub fn parent_of_children() -> i32 {
    if is_one() { process::parent() } else { std::process::id() as i32 }
}

/// There is this child.
pub fn note(child: i32) {
    CHILD.store(child, Relaxed);
}

/// The child that was started last, dead or alive.
pub fn child() -> Option<i32> {
    Some(CHILD.load(Relaxed)).filter(|pid| *pid != 0)
}
