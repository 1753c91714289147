//! Describing a failed step. The child reports a step number and an errno; the parent has the same
//! plan.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::plan::{self, MountStep, Otherwise, Plan, Planned, Procfs, Source, Step};
use crate::sys::Errno;
use crate::sys::clone::NO_CGROUP;
use crate::sys::process;

/// In place of an errno: a hook exited with this code, was killed by this signal, or timed out.
pub const HOOK_CODE: i32 = 0x1_0000;
pub const HOOK_SIGNAL: i32 = 0x2_0000;
pub const HOOK_LATE: i32 = 0x4_0000;
/// In place of an errno: the program was found by a relative part of PATH.
pub const RELATIVE: i32 = 0x8_0000;

const FILTERED: &str = "a seccomp filter in force here forbids it: change that of the container \
                        (docker run --security-opt seccomp=FILE) or of the outer sandbox \
                        (garth wrap --seccomp FILE)";

/// The child could not be started at all.
pub fn clone(plan: &Plan, errno: Errno) -> Error {
    let error = Error::os(format!("clone3 with {}", plan::namespaces(plan.namespaces)), errno);
    match errno.0 {
        libc::EPERM | libc::ENOSYS if process::is_filtered() => error.hint(FILTERED),
        libc::EPERM if plan.namespaces & libc::CLONE_NEWUSER as u64 != 0 => error.hint(
            "user namespaces are not allowed here: see garth doctor; the kernel refuses them in a chroot",
        ),
        libc::EPERM => error.hint("creating namespaces is not allowed here: see garth doctor"),
        libc::ENOSPC => error.hint("a limit in /proc/sys/user/max_*_namespaces has been reached"),
        libc::EAGAIN => error.hint("the limit on processes has been reached"),
        _ => error,
    }
}

/// What the sandbox does without because step `number` was refused; `None` if it makes no
/// difference.
pub fn spared(plan: &Plan, number: usize, errno: Errno) -> Option<String> {
    let Planned { step, otherwise, .. } = plan.steps.get(number)?;
    let loss = match otherwise {
        Otherwise::Fail => None,
        Otherwise::Without(loss) | Otherwise::Instead(_, loss) => *loss,
    };
    loss.map(|loss| format!("{loss} ({step}: {})", errno.name()))
}

/// Step `number` failed.
pub fn step(plan: &Plan, number: usize, errno: Errno) -> Error {
    if number == NO_CGROUP {
        return Error::os("join the cgroup", errno);
    }
    match plan.steps.get(number) {
        Some(planned) => Account::of(planned).error(errno),
        None => Error::os(format!("step {number}"), errno),
    }
}

/// All that is needed to describe a step's failure, but the errno. Serialized, it reaches a process
/// that does not have the plan: the one that starts a container created by another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Account {
    /// The program could not be executed.
    Exec {
        /// As it was requested.
        name: String,
        /// It was not searched in PATH.
        is_path: bool,
        /// It is a container's, so an engine parses the message.
        for_engines: bool,
    },
    /// It does not exist.
    Find {
        /// As it was requested.
        name: String,
    },
    /// A hook failed.
    Hook {
        /// Its file.
        path: String,
        /// Its place in the configuration.
        origin: String,
    },
    /// Any other step.
    Step {
        /// What it does.
        words: String,
        /// What to do about it, for these errnos.
        hints: Vec<(i32, String)>,
    },
}

impl Account {
    /// Describes this step.
    pub fn of(planned: &Planned) -> Account {
        let Planned { step, origin, .. } = planned;
        match step {
            Step::Exec { argv, .. } => {
                let name: String =
                    argv.iter().next().unwrap_or_default().to_string_lossy().into_owned();
                let is_path = name.contains('/');
                let for_engines = origin == "process.args";
                Account::Exec { name, is_path, for_engines }
            }
            Step::Find { name, .. } => Account::Find { name: name.to_string_lossy().into_owned() },
            Step::Hook(hook) => {
                let path = hook.path.to_string_lossy().into_owned();
                Account::Hook { path, origin: origin.clone() }
            }
            _ => {
                let words = match origin.as_str() {
                    "always" | "default" => step.to_string(),
                    origin => format!("{step} ({origin})"),
                };
                let hints = (1..=Errno::HIGHEST)
                    .filter_map(|errno| Some((errno, hint(step, Errno(errno))?.to_owned())));
                Account::Step { words, hints: hints.collect() }
            }
        }
    }

    /// The error for this errno.
    pub fn error(&self, errno: Errno) -> Error {
        match self {
            Account::Exec { name, is_path, for_engines } => {
                let error = match for_engines {
                    true => Error::new(format!("exec {name}: {}", errno.words().to_lowercase())),
                    false => Error::os(format!("execute {name}"), errno),
                };
                exec(error, name, *is_path, errno)
            }
            // Engines match these words to tell a missing program from other failures.
            Account::Find { name } => {
                let error = match errno.0 {
                    libc::ENOENT if !name.contains('/') => {
                        Error::new(format!("exec: {name:?}: executable file not found in $PATH"))
                    }
                    libc::ENOENT => {
                        Error::new(format!("exec: {name:?}: no such file or directory"))
                    }
                    RELATIVE => Error::new(format!(
                        "exec: {name:?}: cannot run executable found relative to current directory"
                    ))
                    .hint("PATH has an empty or relative part; use absolute paths"),
                    _ => Error::new(format!("exec: {name:?}: permission denied")),
                };
                let missing = errno.0 == libc::ENOENT;
                error.kind(if missing { Kind::NotFound } else { Kind::NotExecutable })
            }
            Account::Hook { path, origin } => hook_failed(path, errno, origin),
            Account::Step { words, hints } => {
                let error = Error::os(words, errno);
                match hints.iter().find(|(of, _)| *of == errno.0) {
                    Some((_, hint)) => error.hint(hint),
                    None => error,
                }
            }
        }
    }

    /// The process was killed at this step; `how`, if known.
    pub fn died(&self, how: &str) -> Error {
        let what = match self {
            Account::Exec { name, .. } => format!("execute {name}"),
            Account::Find { name } => format!("look for {name}"),
            Account::Hook { path, origin } => format!("run hook {path} ({origin})"),
            Account::Step { words, .. } => words.clone(),
        };
        Error::new(format!("{what}: the process was killed{how}"))
    }
}

fn hook_failed(path: &str, errno: Errno, origin: &str) -> Error {
    let what = format!("hook {path} ({origin})");
    match errno.0 {
        HOOK_LATE => Error::new(format!("{what}: timed out and was killed")),
        code if code & HOOK_CODE != 0 => {
            Error::new(format!("{what}: exited with code {}", code & 0xff))
        }
        code if code & HOOK_SIGNAL != 0 => {
            Error::new(format!("{what}: killed by signal {}", code & 0xff))
        }
        _ => Error::os(format!("run {what}"), errno),
    }
}

fn exec(error: Error, name: &str, is_path: bool, errno: Errno) -> Error {
    match errno.0 {
        libc::ENOENT | libc::ENOTDIR => error.kind(Kind::NotFound).hint(match for_a_shell(name) {
            Some(hint) => hint,
            None if is_path => "no such file in the sandbox, or its interpreter or loader is missing there (also if its #! line ends in CR LF)".into(),
            None => "not found in the sandbox's PATH".into(),
        }),
        libc::EACCES => error
            .kind(Kind::NotExecutable)
            .hint("it is not executable by this user, its mount is noexec, or a parent directory is not accessible"),
        libc::ENOEXEC => {
            error.kind(Kind::NotExecutable).hint("not an executable for this machine; a script needs a #! line")
        }
        _ => error.kind(Kind::NotExecutable),
    }
}

/// A hint if the name of the program looks like shell syntax.
fn for_a_shell(name: &str) -> Option<String> {
    let quoted = name.replace('\'', "'\\''");
    let variable = name.split_once('=').filter(|(variable, _)| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !variable.is_empty() && variable.bytes().all(word)
    });
    if variable.is_some() {
        return Some(format!(
            "set variables with -e NAME=VALUE, or use a shell: sh -c '{quoted} COMMAND'"
        ));
    }
    let line = name.contains(|c: char| c.is_whitespace() || "|&;<>$`(){}*?".contains(c));
    line.then(|| format!("write the arguments as separate words, or use a shell: sh -c '{quoted}'"))
}

fn is_missing(path: &std::ffi::CStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn hint(step: &Step, errno: Errno) -> Option<&'static str> {
    Some(match (step, errno.0) {
        (Step::Mount(MountStep { procfs: Procfs::Off, .. }), libc::EXDEV) => {
            "the target is in a proc file system, where only a few files may be covered"
        }
        (Step::Mount(MountStep { procfs: Procfs::Only, .. }), libc::EXDEV) => {
            "only a proc file system may be mounted on /proc"
        }
        (
            Step::Mount(MountStep {
                source: Source::Bind { .. } | Source::Tree { .. }, attr, ..
            }),
            libc::EPERM,
        ) if attr.clear != 0 => {
            "locked flags cannot be cleared: in a user namespace a mount stays ro, nosuid, nodev or noexec; leave out rw, suid, dev and exec"
        }
        (Step::Mount(MountStep { source: Source::Bind { path, .. }, .. }), libc::ENOENT)
            if is_missing(path) =>
        {
            "no such file or directory on the host"
        }
        (Step::Mount(_), libc::ENOENT) => {
            "the mount point is missing in the sandbox's root and cannot be created there"
        }
        (Step::Mount(_), libc::EROFS) => {
            "the mount point is missing in the sandbox's root, which is read-only: create it beforehand, or choose another"
        }
        (Step::Mount(MountStep { source: Source::New { .. }, .. }), libc::EPERM) => {
            "in a user namespace this can be mounted only if no part of the host's is covered by other mounts"
        }
        (Step::Mount(_), libc::ENOTDIR) => {
            "a file cannot be mounted on a directory, a directory on a file, or anything below a file"
        }
        (Step::Enter { .. }, libc::ENOENT) => "no such namespace; `ip netns list` shows named ones",
        (Step::Enter { .. }, libc::EINVAL) => "not a namespace of this kind",
        (Step::Unshare { .. }, libc::EINVAL) => {
            "this kernel lacks a namespace of this type: see garth doctor"
        }
        (Step::Terminal { .. }, libc::ENOENT | libc::ENOTDIR | libc::ENOTTY) => {
            "/dev/pts in the sandbox is not a file system of terminals (devpts)"
        }
        (Step::Terminal { .. }, libc::ENOSPC) => "a limit in /proc/sys/kernel/pty has been reached",
        (Step::TerminalHeld, libc::EIO) => {
            "the receiver on --console-socket has closed it, and no other process has it open"
        }
        (_, libc::EMFILE) => "--ulimit nofile is too low for the start itself: use at least 16",
        (_, libc::ENOSYS) => {
            "this kernel lacks the system call: see KERNEL.md for the version that has it"
        }
        (Step::Root { .. }, libc::ENOENT) => "no such directory on the host",
        (Step::Root { .. }, libc::ENOTDIR) => "the root must be a directory",
        (Step::Directory(_), libc::ENOENT) => "no such directory in the sandbox: see -w",
        (Step::Directory(_), libc::EACCES) => "the sandbox's user may not enter it: see -u and -w",
        (Step::Rlimit { .. }, libc::EPERM) => {
            "a hard limit can be raised only with CAP_SYS_RESOURCE, which the caller lacks"
        }
        (Step::Groups(_) | Step::Ids { .. }, libc::EPERM) => "only root can become another user",
        (Step::Write { .. } | Step::WriteProc { .. }, libc::ENOENT) => {
            "the kernel has no such setting"
        }
        (Step::Write { .. } | Step::WriteProc { .. }, libc::EINVAL) => {
            "the kernel refuses this value"
        }
        (Step::WriteProc { .. }, libc::EXDEV) => {
            "something else is mounted there or on a parent directory"
        }
        (Step::Bounding { .. } | Step::Ambient(_), libc::EPERM) => {
            "the caller does not have the capability itself"
        }
        (Step::Capabilities(_), libc::EPERM) => {
            "the caller cannot grant a capability it does not have"
        }
        (Step::Pivot | Step::Root { .. } | Step::Propagation(_), libc::EPERM)
            if process::is_filtered() =>
        {
            FILTERED
        }
        (Step::Seccomp { .. }, libc::EACCES) => "a filter without no_new_privs needs CAP_SYS_ADMIN",
        _ => return None,
    })
}
