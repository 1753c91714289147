//! A failed step in words. The child reports a number and an errno; the parent holds the same plan.

use crate::error::{Error, Kind};
use crate::plan::{self, MountStep, Plan, Planned, Source, Step};
use crate::sys::Errno;

/// The child could not be started at all.
pub fn clone(plan: &Plan, errno: Errno) -> Error {
    let error = Error::os(format!("clone3 with {}", plan::namespaces(plan.namespaces)), errno);
    match errno.0 {
        libc::EPERM => error.hint("creating namespaces is not allowed here: see garth doctor"),
        libc::ENOSPC => error.hint("the limits in /proc/sys/user/max_*_namespaces are reached"),
        libc::EAGAIN => error.hint("the limit of processes is reached"),
        _ => error,
    }
}

/// Step `number` failed.
pub fn step(plan: &Plan, number: usize, errno: Errno) -> Error {
    let Some(Planned { step, origin }) = plan.steps.get(number) else {
        return Error::os(format!("step {number}"), errno);
    };
    if let Step::Exec { paths, argv, .. } = step {
        let name = argv.iter().next().unwrap_or_default().to_string_lossy().into_owned();
        return exec(&name, paths.len() == 1, errno);
    }
    let error = match origin.as_str() {
        "always" | "default" => Error::os(step.to_string(), errno),
        origin => Error::os(format!("{step} ({origin})"), errno),
    };
    match hint(step, errno) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn exec(name: &str, is_path: bool, errno: Errno) -> Error {
    let error = Error::os(format!("execute {name}"), errno);
    match errno.0 {
        libc::ENOENT | libc::ENOTDIR if is_path => error
            .kind(Kind::NotFound)
            .hint("no such file in the sandbox, or its interpreter or loader is missing there"),
        libc::ENOENT | libc::ENOTDIR => {
            error.kind(Kind::NotFound).hint("not found in the sandbox's PATH")
        }
        libc::EACCES => error
            .kind(Kind::NotExecutable)
            .hint("it has no execute permission for this user, or its mount is noexec"),
        libc::ENOEXEC => {
            error.kind(Kind::NotExecutable).hint("not a program; a script needs a #! line")
        }
        _ => error.kind(Kind::NotExecutable),
    }
}

fn hint(step: &Step, errno: Errno) -> Option<&'static str> {
    Some(match (step, errno.0) {
        (Step::Mount(MountStep { source: Source::Bind { .. }, .. }), libc::ENOENT) => {
            "no such file or directory on the host"
        }
        (Step::Mount(_), libc::EROFS) => {
            "the mount point is missing in the sandbox's root, which is read-only: make it on the host, or choose one below /tmp or /run"
        }
        (Step::Mount(MountStep { source: Source::New { .. }, .. }), libc::EPERM) => {
            "a user namespace may mount this only where the host's own is not partly covered"
        }
        (Step::Mount(_), libc::ENOTDIR) => {
            "a file cannot be mounted on a directory, nor a directory on a file"
        }
        (Step::Enter { .. }, libc::ENOENT) => {
            "no such namespace; ip netns list shows those with a name"
        }
        (Step::Enter { .. }, libc::EINVAL) => "not a namespace of this kind",
        (Step::Unshare { .. }, libc::EINVAL) => {
            "this kernel lacks one of these kinds of namespaces: see garth doctor"
        }
        (_, libc::EMFILE) => "--ulimit nofile leaves no room for the start itself: 16 is enough",
        (_, libc::ENOSYS) => {
            "this kernel lacks the system call: KERNEL.md tells which version has it"
        }
        (Step::Root { .. }, libc::ENOENT) => "no such directory on the host",
        (Step::Root { .. }, libc::ENOTDIR) => "the root must be a directory",
        (Step::Directory(_), libc::ENOENT) => "no such directory in the sandbox: see -w",
        (Step::Directory(_), libc::EACCES) => "the sandbox's user may not enter it: see -u and -w",
        (Step::Rlimit { .. }, libc::EPERM) => {
            "a hard limit can be raised only with CAP_SYS_RESOURCE, which the caller lacks"
        }
        (Step::Groups(_) | Step::Ids { .. }, libc::EPERM) => "only root can become another user",
        (Step::Write { .. }, libc::ENOENT) => "the kernel has no such setting",
        (Step::Write { .. }, libc::EINVAL) => "the kernel refuses this value",
        (Step::Bounding { .. } | Step::Ambient(_), libc::EPERM) => {
            "the caller does not hold the capability itself"
        }
        (Step::Capabilities(_), libc::EPERM) => {
            "a capability cannot be given that the caller does not hold itself"
        }
        (Step::Seccomp { .. }, libc::EACCES) => "a filter without no_new_privs needs CAP_SYS_ADMIN",
        _ => return None,
    })
}
