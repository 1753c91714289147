//! What happens to every call number of every ABI.

use std::collections::BTreeMap;

use super::syscalls::{self, Abi, X32_BIT};
use super::tree::{ARCH, Ask, DecisionTree, Id, Test};
use super::{AUDIT_ARCH_AARCH64, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, FilterTarget};
use crate::Result;
use crate::config::seccomp::{Action, Arch, Arg, Op, Profile, Rule};

/// EPERM, the error number where a profile gives none.
const EPERM: u32 = libc::EPERM as u32;
/// The answer to calls newer than the profile: `SECCOMP_RET_ERRNO | ENOSYS`.
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// libseccomp's answer to an architecture that the profile does not list.
const BAD_ARCH: u32 = answer(Action::KillThread, None);

/// The return value of a filter (`SECCOMP_RET_*` of <linux/seccomp.h>).
pub const fn answer(action: Action, errno: Option<u32>) -> u32 {
    let data = match errno {
        Some(number) => number & 0xffff,
        None => EPERM,
    };
    match action {
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Kill | Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno => libc::SECCOMP_RET_ERRNO | data,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace => libc::SECCOMP_RET_TRACE | data,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}

/// The kernel compares actions as signed numbers, and the smallest is the strictest (`ACTION_ONLY`
/// in kernel/seccomp.c).
fn strictness(answer: u32) -> i32 {
    (answer & 0xffff_0000) as i32
}

/// Conditions that must all hold, and what follows.
struct Clause {
    args: Vec<Arg>,
    answer: u32,
}

/// What the rules say about one call.
enum Outcome {
    Always(u32),
    When(Vec<Clause>),
}

/// The rules of one ABI by number.
type Calls = BTreeMap<u32, Outcome>;

/// Builds the whole decision and returns its root.
pub fn lower(
    profile: &Profile,
    machine: FilterTarget,
    tree: &mut DecisionTree,
    warnings: &mut Vec<String>,
) -> Result<Id> {
    report(profile, warnings);
    if machine == FilterTarget::Aarch64 {
        let ranges = ranges(profile, Abi::Aarch64, tree)?;
        let (native, bad) = (search(tree, ranges), tree.answer(BAD_ARCH));
        return Ok(tree.test(Test { word: ARCH, ask: Ask::Eq(AUDIT_ARCH_AARCH64) }, native, bad));
    }
    let has = |arch| profile.architectures.contains(&arch);

    // x86_64 and x32 share an architecture; bit 30 keeps their numbers apart.
    let mut ranges = ranges(profile, Abi::X86_64, tree)?;
    if has(Arch::X32) {
        cut(&mut ranges, X32_BIT, self::ranges(profile, Abi::X32, tree)?);
    } else {
        let (bad, minus_one) = (tree.answer(BAD_ARCH), tree.answer(default(profile)));
        cut(&mut ranges, X32_BIT, vec![(X32_BIT, bad), (u32::MAX, minus_one)]);
    }
    let native = search(tree, ranges);

    let foreign = if has(Arch::X86) {
        let ranges = self::ranges(profile, Abi::X86, tree)?;
        let i386 = search(tree, ranges);
        let bad = tree.answer(BAD_ARCH);
        tree.test(Test { word: ARCH, ask: Ask::Eq(AUDIT_ARCH_I386) }, i386, bad)
    } else {
        tree.answer(BAD_ARCH)
    };
    Ok(tree.test(Test { word: ARCH, ask: Ask::Eq(AUDIT_ARCH_X86_64) }, native, foreign))
}

fn default(profile: &Profile) -> u32 {
    answer(profile.default_action, profile.default_errno_ret)
}

/// Entries of `architectures` and `names` that no call can match.
fn report(profile: &Profile, warnings: &mut Vec<String>) {
    for (at, rule) in profile.syscalls.iter().enumerate() {
        if rule.names.is_empty() {
            warnings.push(format!("syscalls[{at}]: no system call named"));
        }
        for name in rule.names.iter().filter(|name| !syscalls::is_known(name)) {
            warnings.push(format!("syscalls[{at}]: unknown system call {name:?} skipped"));
        }
    }
}

/// Replaces everything from `from` on.
fn cut(ranges: &mut Vec<(u32, Id)>, from: u32, tail: Vec<(u32, Id)>) {
    ranges.retain(|&(start, _)| start < from);
    ranges.extend(tail);
}

/// Merges neighbours, then bisects.
fn search(tree: &mut DecisionTree, mut ranges: Vec<(u32, Id)>) -> Id {
    ranges.dedup_by_key(|(_, outcome)| *outcome);
    tree.search(&ranges)
}

/// One ABI's numbers as ranges from its first number on.
fn ranges(profile: &Profile, abi: Abi, tree: &mut DecisionTree) -> Result<Vec<(u32, Id)>> {
    let otherwise = tree.answer(default(profile));
    let first = if abi == Abi::X32 { X32_BIT } else { 0 };
    let mut ranges = vec![(first, otherwise)];
    for (number, outcome) in calls(profile, abi) {
        let outcome = node(outcome, abi, otherwise, tree)?;
        // A range that begins at this number is the rest after its neighbour.
        ranges.pop_if(|(start, _)| *start == number);
        ranges.extend([(number, outcome), (number + 1, otherwise)]);
    }
    if let Some(last) = newest(profile, abi) {
        let enosys = tree.answer(ENOSYS);
        cut(&mut ranges, last + 1, vec![(last + 1, enosys)]);
    }
    Ok(ranges)
}

/// The highest number that the profile names; calls beyond it are newer than the profile.
fn newest(profile: &Profile, abi: Abi) -> Option<u32> {
    if matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace) {
        return None;
    }
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    names
        // Multiplexed i386 calls got their own numbers much later, unknown to old profiles.
        .filter(|name| abi != Abi::X86 || syscalls::multiplexed(name).is_none())
        .filter_map(|name| syscalls::number(name, abi))
        .max()
        .filter(|&number| number != 0)
}

/// Collects the rules of each number.
fn calls(profile: &Profile, abi: Abi) -> Calls {
    let default = default(profile);
    let mut calls = Calls::new();
    for rule in &profile.syscalls {
        let answer = answer(rule.action, rule.errno_ret);
        if answer == default {
            continue;
        }
        for name in &rule.names {
            if let Some(number) = syscalls::number(name, abi) {
                add(&mut calls, number, answer, alternatives(rule));
            }
            if let (Abi::X86, Some((number, call))) = (abi, syscalls::multiplexed(name)) {
                let mut alternatives = alternatives(rule);
                for args in &mut alternatives {
                    args.retain(|arg| arg.index != 0);
                    let value = u64::from(call);
                    args.insert(0, Arg { index: 0, value, value_two: 0, op: Op::Eq });
                }
                add(&mut calls, number, answer, alternatives);
            }
        }
    }
    calls
}

/// The conditions of a rule: one list that must hold together, or, if an argument is named twice,
/// one list per condition.
fn alternatives(rule: &Rule) -> Vec<Vec<Arg>> {
    let twice = |(at, arg): (usize, &Arg)| rule.args[..at].iter().any(|a| a.index == arg.index);
    if rule.args.iter().enumerate().any(twice) {
        rule.args.iter().map(|arg| vec![*arg]).collect()
    } else {
        vec![rule.args.clone()]
    }
}

fn add(calls: &mut Calls, number: u32, answer: u32, alternatives: Vec<Vec<Arg>>) {
    let outcome = calls.entry(number).or_insert_with(|| Outcome::When(Vec::new()));
    for args in alternatives {
        match outcome {
            Outcome::Always(_) => return,
            Outcome::When(_) if args.is_empty() => *outcome = Outcome::Always(answer),
            Outcome::When(clauses) => clauses.push(Clause { args, answer }),
        }
    }
}

fn node(outcome: Outcome, abi: Abi, otherwise: Id, tree: &mut DecisionTree) -> Result<Id> {
    let mut clauses = match outcome {
        Outcome::Always(value) => return Ok(tree.answer(value)),
        Outcome::When(clauses) => clauses,
    };
    clauses.sort_by_key(|clause| strictness(clause.answer));
    // From the last to the first: each knows where to continue.
    clauses.iter().rev().try_fold(otherwise, |next, clause| {
        let then = tree.answer(clause.answer);
        tree.clause(&clause.args, abi.is_64_bit(), then, next)
    })
}
