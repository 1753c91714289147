//! From an OCI seccomp profile to a program for the kernel; pure.
//!
//! Three steps, one file each: `rules` resolves names and rules to an outcome for every call
//! number of every ABI; `tree` turns that into a decision graph, a bisection over ranges of
//! numbers with equal outcome; [`bpf`] assembles the graph.
//!
//! # What a profile means
//!
//! The same as to runc with libseccomp, with which the tests compare it, number by number:
//!
//! - The native architecture is always included, whatever `architectures` says. Calls of another
//!   one get libseccomp's bad architecture action, KILL_THREAD. That includes calls with x32's bit
//!   30 set, unless x32 is listed; only number -1, by which a tracer skips a call, is left to the
//!   rules. Architectures that the kernel cannot run are accepted and ignored. An aarch64 kernel
//!   has only its own calls: those of 32-bit ARM programs are of a bad architecture.
//! - Several rules for a call are alternatives. The first one without conditions wins and hides all
//!   conditional ones. All conditions of a rule must hold, unless it names an argument twice: then
//!   each condition is a rule of its own.
//! - Comparisons are unsigned on 64 bits; on x32 and i386 only on the low halves.
//! - A rule whose action is the default action is skipped. (It still says that the profile's author
//!   knew the call, see below, and its comment may say why the call is allowed.)
//! - Unknown names are skipped with a warning: profiles name calls of other architectures and of
//!   future kernels.
//! - **Calls newer than the profile return ENOSYS**, not the default action: a C library that tries
//!   a new call falls back on ENOSYS and gives up on EPERM. Newer means a higher number than any
//!   call the profile names, on that ABI. Not if the default is ALLOW, LOG or TRACE. (runc's rule;
//!   unlike runc we apply it to the native ABI also when `architectures` is absent.)
//! - i386's socketcall(2) and ipc(2) get the rules of the calls they multiplex. The first argument
//!   is then the selector, so a condition on argument 0 is lost there; the same as with libseccomp.
//!
//! Two differences. When several *conditional* rules with different actions match the same call,
//! libseccomp's answer depends on how it sorts its tree (or it refuses the profile). Here the
//! strictest wins, as between several filters in the kernel: KILL_PROCESS, KILL_THREAD, TRAP,
//! ERRNO, NOTIFY, TRACE, LOG, ALLOW; among equals the first in the profile. And where libseccomp
//! 2.5.4 merges alternatives on several arguments, or by order, it can lose branches and then allow
//! what no rule allows; here a rule means what it says. The tests know both cases.
//!
//! # What a program costs
//!
//! Since Linux 5.11 the kernel runs a new filter once for every call number and remembers which are
//! always allowed: these never run the filter again (`seccomp_cache_prepare`). So the instructions
//! for *every* call are executed when the filter is loaded, which is why a linear chain of 300
//! comparisons takes so long to load, and why a bisection helps even where everything is allowed.

pub mod bpf;
mod rules;
pub mod syscalls;
mod tree;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify;

pub use bpf::Insn;

use seccompiler::TargetArch;

use crate::config::seccomp::{Action, Flag, Profile, Rule};
use crate::sys::arch;
use crate::sys::raw::BpfInstruction;
use crate::{Error, Result};

/// `AUDIT_ARCH_X86_64` of <linux/audit.h>.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`.
pub const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// `AUDIT_ARCH_I386`.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: seccomp(2) returns the supervisor's descriptor.
pub const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;

/// The filter of `wrap`: `specs/seccomp/default.json`, which states its reasons, compiled.
///
/// `UPDATE=1 cargo test -p garth embedded` regenerates it; the same test fails if it is stale.
pub const DEFAULT: &[u8] = crate::sys::embedded_filter!("default");

/// The filter of the small init of a wrapped command: `init` of `specs/seccomp/own.json`, compiled
/// by seccompiler, and made in the same way as [`DEFAULT`]. What is not listed kills the process.
pub const INIT: &[u8] = crate::sys::embedded_filter!("init");

/// A filter, ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bpf {
    /// The instructions, 1 to 4096.
    pub insns: Vec<Insn>,
    /// Flags for seccomp(2). [`NEW_LISTENER`] is among them if a rule notifies.
    pub flags: u32,
    /// What was skipped, and why; one line each.
    pub warnings: Vec<String>,
}

impl Bpf {
    /// The instructions as an array of `struct sock_filter`, which is also the format of the
    /// embedded programs.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.insns.iter().flat_map(|insn| insn.to_bytes()).collect()
    }
}

/// A filter as a step carries it: it only has to be loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub instructions: Vec<BpfInstruction>,
    /// Flags for seccomp(2).
    pub flags: u32,
}

impl Filter {
    /// The filter of `wrap`.
    pub fn default_profile() -> Filter {
        Filter { instructions: DEFAULT.as_chunks().0.to_vec(), flags: 0 }
    }

    /// The filter of the init.
    pub fn init() -> Filter {
        Filter { instructions: INIT.as_chunks().0.to_vec(), flags: 0 }
    }
}

impl Filter {
    /// Its answer to this system call of our architecture, whatever the arguments; `None` if it
    /// looks at them.
    pub fn answer(&self, number: u32) -> Option<u32> {
        let (mut at, mut a) = (0, 0);
        loop {
            let [c0, c1, jt, jf, k0, k1, k2, k3] = *self.instructions.get(at)?;
            let k = u32::from_le_bytes([k0, k1, k2, k3]);
            let jump = |taken: bool| usize::from(if taken { jt } else { jf });
            at += 1;
            match u16::from_le_bytes([c0, c1]) {
                bpf::LD if k == 0 => a = number,
                bpf::LD if k == 4 => a = arch::AUDIT,
                bpf::AND => a &= k,
                bpf::JA => at += k as usize,
                bpf::JEQ => at += jump(a == k),
                bpf::JGT => at += jump(a > k),
                bpf::JGE => at += jump(a >= k),
                bpf::JSET => at += jump(a & k != 0),
                bpf::RET => return Some(k),
                _ => return None,
            }
        }
    }

    /// Does it kill any process that calls execve? Then no program can be started under it, and
    /// none is left to report it.
    pub fn kills_execve(&self) -> bool {
        const ACTION: u32 = 0xffff_0000; // SECCOMP_RET_ACTION_FULL
        const KILL: [u32; 3] = [0x8000_0000, 0, 0x0003_0000]; // KILL_PROCESS, KILL_THREAD, TRAP
        let answer = self.answer(libc::SYS_execve as u32);
        answer.is_some_and(|answer| KILL.contains(&(answer & ACTION)))
    }
}

impl From<&[seccompiler::sock_filter]> for Filter {
    fn from(program: &[seccompiler::sock_filter]) -> Filter {
        let insn = |insn: &seccompiler::sock_filter| {
            let seccompiler::sock_filter { code, jt, jf, k } = *insn;
            Insn { code, jt, jf, k }.to_bytes()
        };
        Filter { instructions: program.iter().map(insn).collect(), flags: 0 }
    }
}

impl From<&Bpf> for Filter {
    fn from(program: &Bpf) -> Filter {
        let instructions = program.insns.iter().map(|insn| insn.to_bytes()).collect();
        Filter { instructions, flags: program.flags }
    }
}

/// The default profile without the rules that keep set-user-ID files from being made.
///
/// # Errors
/// None for the profile that is embedded; a test compiles it.
pub fn with_suid() -> Result<Filter> {
    Ok(Filter::from(&compile(&default_profile(true)?)?))
}

fn default_profile(allow_suid: bool) -> Result<Profile> {
    let mut profile = Profile::parse(DEFAULT_PROFILE, "the default profile")?;
    let about_suid = |rule: &Rule| {
        rule.comment.as_ref().is_some_and(|comment| comment.starts_with("Set-user-ID:"))
    };
    profile.syscalls.retain(|rule| !allow_suid || !about_suid(rule));
    Ok(profile)
}

/// The default profile with everything that it would refuse allowed, but logged (auditd, dmesg).
///
/// # Errors
/// None for the profile that is embedded; a test compiles it.
pub fn logging(allow_suid: bool) -> Result<Filter> {
    let mut profile = default_profile(allow_suid)?;
    for rule in &mut profile.syscalls {
        if rule.action != Action::Allow {
            (rule.action, rule.errno_ret) = (Action::Log, None);
        }
    }
    Ok(Filter::from(&compile(&profile)?))
}

const DEFAULT_PROFILE: &[u8] = include_bytes!("../../../specs/seccomp/default.json");

/// Compiles a filter in the format of the crate seccompiler; `origin` says in errors where it came
/// from.
///
/// # Errors
/// The crate refuses it, as for an unknown system call; or there are several filters, and a command
/// can have only one.
pub fn by_seccompiler(json: &str, origin: &str) -> Result<Filter> {
    let refused = |cause: String| Error::new(format!("{origin}: {cause}"));
    let target = TargetArch::try_from(arch::NAME).map_err(|e| refused(sentence(&e.to_string())))?;
    let filters = seccompiler::compile_from_json(json.as_bytes(), target);
    let filters = filters.map_err(|error| {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        refused(sentence(&innermost.to_string()))
    })?;
    let mut names: Vec<&str> = filters.keys().map(String::as_str).collect();
    names.sort_unstable();
    match &*names {
        [only] => Ok(Filter::from(&*filters[*only])),
        names => {
            Err(refused(format!("{} filters instead of one: {}", names.len(), names.join(", ")))
                .hint("put the one to use in a file of its own"))
        }
    }
}

/// Lower case at the start and no full stop at the end, as in our messages.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The kernels that a profile can be compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterTarget {
    /// x86_64, with x32 and i386.
    X86_64,
    /// 64-bit ARM; its 32-bit programs are of a bad architecture.
    Aarch64,
}

impl FilterTarget {
    /// The one that this program is for.
    #[cfg(target_arch = "x86_64")]
    pub const OWN: FilterTarget = FilterTarget::X86_64;
    /// The one that this program is for.
    #[cfg(target_arch = "aarch64")]
    pub const OWN: FilterTarget = FilterTarget::Aarch64;
}

/// Compiles a profile for the kernel of this machine.
pub fn compile(profile: &Profile) -> Result<Bpf> {
    compile_for(profile, FilterTarget::OWN)
}

/// Compiles a profile.
pub fn compile_for(profile: &Profile, machine: FilterTarget) -> Result<Bpf> {
    profile.validate().map_err(|e| e.within("seccomp"))?;
    let mut warnings = Vec::new();
    let mut tree = tree::DecisionTree::default();
    let root = rules::lower(profile, machine, &mut tree, &mut warnings)
        .map_err(|e| e.within("seccomp"))?;
    let insns = bpf::assemble(&tree, root).map_err(|e| e.within("seccomp"))?;
    Ok(Bpf { insns, flags: flags(profile), warnings })
}

fn flags(profile: &Profile) -> u32 {
    let notifies = profile.syscalls.iter().any(|rule| rule.action == Action::Notify);
    let listener = if notifies { NEW_LISTENER } else { 0 };
    profile.flags.iter().fold(listener, |flags, flag| {
        flags
            | match flag {
                // The filter is loaded in a single-threaded process, so this changes nothing; and
                // the kernel refuses it together with a listener.
                Flag::Tsync if notifies => 0,
                Flag::Tsync => 1 << 0,
                Flag::Log => 1 << 1,
                Flag::SpecAllow => 1 << 2,
                Flag::WaitKillableRecv => 1 << 5,
            }
    })
}
