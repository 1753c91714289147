//! The child shares the caller's memory: if it allocated, it could find the allocator locked by a
//! thread that does not exist for it, and hang. Here the allocator itself counts its callers.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use garth::config::{Sandbox, Secret};
use garth::sys::clone::{Ground, Memory, Request, scope};
use garth::sys::raw;
use garth::{Options, Spawn};

struct Counting;

static PARENT: AtomicI32 = AtomicI32::new(0);
static BY_OTHERS: AtomicUsize = AtomicUsize::new(0);

fn count() {
    // SAFETY: getpid(2) cannot fail. Not libc's: the child must not run libc.
    let pid = unsafe { raw::syscall(libc::SYS_getpid, [0; 6]) }.unwrap() as i32;
    let parent = PARENT.load(SeqCst);
    if parent != 0 && pid != parent {
        BY_OTHERS.fetch_add(1, SeqCst);
    }
}

// SAFETY: passes every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: as promised to us.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the children of `run` have allocated or freed.
fn by_children(run: impl FnOnce()) -> usize {
    PARENT.store(std::process::id() as i32, SeqCst);
    BY_OTHERS.store(0, SeqCst);
    run();
    BY_OTHERS.load(SeqCst)
}

#[test]
fn the_child_does_not_allocate() {
    let sandbox = |program: &str| Sandbox {
        command: vec![program.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        ..Sandbox::default()
    };
    // The whole default profile, as init and as pid 1, with a terminal, with a secret; a step that fails; a plain spawn.
    let children = by_children(|| {
        let started = sandbox("true").spawn(&Options::default()).unwrap();
        assert_eq!(started.wait().unwrap().code(), 0);
        let pid_1 = Sandbox { init: false, ..sandbox("true") };
        assert_eq!(pid_1.spawn(&Options::default()).unwrap().wait().unwrap().code(), 0);
        let on_terminal = Sandbox { terminal: true, ..sandbox("true") };
        assert_eq!(on_terminal.spawn(&Options::default()).unwrap().wait().unwrap().code(), 0);
        let secret = Secret { file: "/etc/hostname".into(), name: "key".into() };
        let with_secret = Sandbox { secrets: vec![secret], ..sandbox("true") };
        assert_eq!(with_secret.spawn(&Options::default()).unwrap().wait().unwrap().code(), 0);
        assert!(sandbox("no-such-program").spawn(&Options::default()).is_err());
        assert_eq!(Spawn::new(["true"]).spawn().unwrap().process.wait().unwrap().code(), 0);
    });
    assert_eq!(children, 0, "allocations in a child");

    // And the count would have noticed one.
    fn allocates(_: &()) -> ! {
        drop(std::hint::black_box(Box::new(1)));
        raw::exit(0)
    }
    let children = by_children(|| {
        let ground = Ground::new(Memory::Borrowed).unwrap();
        let request =
            Request { namespaces: 0, memory: Memory::Borrowed, cgroup: None, for_parent: false };
        let ok = |_: &_| Ok::<(), ()>(());
        scope(&ground, request, &(), allocates, ok).unwrap().1.unwrap();
    });
    assert_eq!(children, 2);
}
