//! Two second opinions for the tests: libseccomp's program for the same profile, and the meaning of
//! a profile written down a second time, naively.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::rules::answer;
use super::syscalls::{self, Abi};
use super::verify::Call;
use super::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Insn};
use crate::config::seccomp::{Action, Arch, Arg, Op, Profile};

const TOKENS: [(Arch, u32); 3] =
    [(Arch::X86_64, AUDIT_ARCH_X86_64), (Arch::X32, 0x4000_003e), (Arch::X86, AUDIT_ARCH_I386)];

/// The test tool, built once; or why the comparison is skipped.
pub fn tool() -> Option<&'static Path> {
    static TOOL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match TOOL.get_or_init(build) {
        Ok(path) => Some(path),
        Err(cause) => {
            garth_needs::skip("libseccomp", &format!("libseccomp to compare with: {cause}"));
            None
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = here.join("../target/tmp");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let (tool, own) =
        (dir.join("reference"), dir.join(format!("reference.{}", std::process::id())));
    let gcc = Command::new("gcc")
        .args(["-O2", "-o"])
        .arg(&own)
        .arg(here.join("src/plan/seccomp/reference.c"))
        .arg("-lseccomp")
        .output()
        .map_err(|e| format!("gcc: {e}"))?;
    if !gcc.status.success() {
        return Err(String::from_utf8_lossy(&gcc.stderr).into_owned());
    }
    std::fs::rename(&own, &tool).map_err(|e| e.to_string())?;
    Ok(tool)
}

/// libseccomp's program, without runc's ENOSYS; `optimize` 2 is its binary tree. `None` if it takes
/// two rules for a contradiction, or does not finish.
pub fn libseccomp(tool: &Path, profile: &Profile, optimize: u32) -> Option<Vec<Insn>> {
    let default = answer(profile.default_action, profile.default_errno_ret);
    let mut input = format!("default {default}\n");
    for (arch, token) in TOKENS {
        if profile.architectures.contains(&arch) {
            input += &format!("arch {token}\n");
        }
    }
    for rule in &profile.syscalls {
        let action = answer(rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let arg = |a: &Arg| format!(" {} {} {} {}", a.index, a.op as u32 + 1, a.value, a.value_two);
        for name in &rule.names {
            let mut indices: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
            indices.sort();
            if indices.windows(2).any(|pair| pair[0] == pair[1]) {
                for one in &rule.args {
                    input += &format!("rule {action} {name}{}\n", arg(one));
                }
            } else {
                let all: String = rule.args.iter().map(arg).collect();
                input += &format!("rule {action} {name}{all}\n");
            }
        }
    }
    let mut child = Command::new(tool)
        .args(["compile", &optimize.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(3) || output.status.signal() == Some(libc::SIGALRM) {
        return None;
    }
    assert!(output.status.success(), "libseccomp refused:\n{input}");
    let insns = output.stdout.chunks(8).map(|insn| Insn::from_bytes(insn.try_into().unwrap()));
    Some(insns.collect())
}

/// runc's stub in front of libseccomp's program: is the call newer than the profile?
pub fn is_newer(profile: &Profile, call: &Call) -> bool {
    if matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace) {
        return false;
    }
    let Some(abi) = abi(profile, call) else { return false };
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let newest = names
        .filter(|name| abi != Abi::X86 || syscalls::multiplexed(name).is_none())
        .filter_map(|name| syscalls::number(name, abi))
        .max();
    newest.is_some_and(|newest| newest != 0 && call.nr > newest)
}

fn abi(profile: &Profile, call: &Call) -> Option<Abi> {
    let has = |arch| profile.architectures.contains(&arch);
    match call.arch {
        AUDIT_ARCH_X86_64 if call.nr < syscalls::X32_BIT => Some(Abi::X86_64),
        AUDIT_ARCH_X86_64 if has(Arch::X32) => Some(Abi::X32),
        AUDIT_ARCH_I386 if has(Arch::X86) => Some(Abi::X86),
        _ => None,
    }
}

/// The answers that the rules allow: one, or several if conditional rules contradict each other;
/// ours comes first.
pub fn meaning(profile: &Profile, call: &Call) -> Vec<u32> {
    let default = answer(profile.default_action, profile.default_errno_ret);
    let Some(abi) = abi(profile, call) else {
        let skipped_by_a_tracer = call.arch == AUDIT_ARCH_X86_64 && call.nr == u32::MAX;
        return vec![if skipped_by_a_tracer { default } else { 0 }];
    };
    if is_newer(profile, call) {
        return vec![0x0005_0026];
    }
    let mut matching = Vec::new();
    for rule in &profile.syscalls {
        let answer = answer(rule.action, rule.errno_ret);
        if answer == default {
            continue;
        }
        for name in &rule.names {
            let direct = syscalls::number(name, abi) == Some(call.nr);
            let i386 = Some(name).filter(|_| abi == Abi::X86);
            let multiplexed = i386.and_then(|name| syscalls::multiplexed(name));
            let behind = multiplexed.is_some_and(|(number, _)| number == call.nr);
            if !(direct || behind) {
                continue;
            }
            if rule.args.is_empty() && direct {
                return vec![answer];
            }
            let holds = |arg: &&Arg| holds(arg, call.args[arg.index as usize], abi.is_64_bit());
            let twice = (0..6).any(|i| rule.args.iter().filter(|arg| arg.index == i).count() > 1);
            let args = || rule.args.iter();
            let met = match (behind, twice) {
                (false, false) => args().all(|arg| holds(&arg)),
                (false, true) => args().any(|arg| holds(&arg)),
                (true, _) => {
                    let selected = multiplexed.is_some_and(|(_, n)| call.args[0] as u32 == n);
                    let mut rest = args().filter(|arg| arg.index != 0);
                    let lost = rule.args.iter().any(|arg| arg.index == 0);
                    selected
                        && if twice {
                            lost || rest.any(|arg| holds(&arg))
                        } else {
                            rest.all(|arg| holds(&arg))
                        }
                }
            };
            if met {
                matching.push(answer);
            }
        }
    }
    if matching.is_empty() {
        return vec![default];
    }
    matching.sort_by_key(|answer| (answer & 0xffff_0000) as i32);
    let mut seen = Vec::new();
    matching.retain(|answer| !seen.contains(answer) && (seen.push(*answer), true).1);
    matching
}

fn holds(arg: &Arg, value: u64, wide: bool) -> bool {
    let half = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (value, one, two) = (half(value), half(arg.value), half(arg.value_two));
    match arg.op {
        Op::Ne => value != one,
        Op::Lt => value < one,
        Op::Le => value <= one,
        Op::Eq => value == one,
        Op::Ge => value >= one,
        Op::Gt => value > one,
        Op::MaskedEq => value & one == two & one,
    }
}
