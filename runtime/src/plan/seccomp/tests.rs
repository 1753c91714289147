//! Programs against the kernel's checks, against libseccomp and against the plain meaning.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::reference::{is_newer, libseccomp, meaning, tool};
use super::syscalls::{self, Abi, TABLE, X32_BIT};
use super::verify::{Call, check, run, unreachable};
use super::*;
use crate::config::Seccomp;
use crate::config::seccomp::{Arch, Arg, Op, Rule};
use seccompiler::TargetArch;

const ENOSYS: u32 = 0x0005_0026;
const EPERM: u32 = 0x0005_0001;
const ALLOW: u32 = 0x7fff_0000;

fn specs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/seccomp")
}

fn spec(name: &str) -> Profile {
    let file = specs().join(format!("{name}.json"));
    Profile::parse(&std::fs::read(file).unwrap(), name).unwrap()
}

fn rule(action: Action, errno: Option<u32>, names: &[&str], args: &[Arg]) -> Rule {
    let names = names.iter().map(|name| name.to_string()).collect();
    Rule { names, action, errno_ret: errno, args: args.to_vec(), comment: None }
}

fn arg(index: u32, op: Op, value: u64, value_two: u64) -> Arg {
    Arg { index, value, value_two, op }
}

fn profile(default: Action, architectures: &[Arch], syscalls: Vec<Rule>) -> Profile {
    Profile {
        default_action: default,
        default_errno_ret: None,
        architectures: architectures.to_vec(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

/// In the style of Docker's default: an allow-list of some 380 names, with conditions.
fn allow_list() -> Profile {
    let never = [
        "_sysctl",
        "acct",
        "add_key",
        "bpf",
        "clone",
        "clone3",
        "create_module",
        "delete_module",
        "finit_module",
        "get_kernel_syms",
        "init_module",
        "io_uring_setup",
        "ioperm",
        "iopl",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "lookup_dcookie",
        "mount",
        "move_pages",
        "nfsservctl",
        "open_by_handle_at",
        "perf_event_open",
        "personality",
        "pivot_root",
        "query_module",
        "quotactl",
        "reboot",
        "request_key",
        "setns",
        "settimeofday",
        "socket",
        "swapoff",
        "swapon",
        "sysfs",
        "umount",
        "umount2",
        "unshare",
        "uselib",
        "userfaultfd",
        "ustat",
        "vm86",
        "vm86old",
    ];
    let names: Vec<&str> =
        TABLE.iter().map(|row| row.0).filter(|name| !never.contains(name)).collect();
    let mut rules = vec![
        rule(Action::Allow, None, &names, &[]),
        rule(Action::Allow, None, &["socket"], &[arg(0, Op::Ne, 40, 0)]),
        rule(Action::Allow, None, &["clone"], &[arg(0, Op::MaskedEq, 0x7e02_0000, 0)]),
        rule(Action::Errno, Some(38), &["clone3"], &[]),
    ];
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(rule(Action::Allow, None, &["personality"], &[arg(0, Op::Eq, persona, 0)]));
    }
    let architectures = [Arch::X86_64, Arch::X86, Arch::X32];
    let mut profile = profile(Action::Errno, &architectures, rules);
    profile.default_errno_ret = Some(1);
    profile
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn value(&mut self) -> u64 {
        let few = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 1, !0];
        match self.below(4) {
            0 => self.pick(&few),
            1 => self.next() & 0xff,
            2 => self.next() & 0xffff_ffff,
            _ => self.next() & self.next(),
        }
    }

    fn arg(&mut self, index: u32) -> Arg {
        let op = self.pick(&[Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq]);
        let (value, value_two) = (self.value(), self.value());
        // Half of the masked comparisons can match.
        let value_two = if self.below(2) == 0 { value_two & value } else { value_two };
        Arg { index, value, value_two: if op == Op::MaskedEq { value_two } else { 0 }, op }
    }

    /// With `one_action`, all rules of a call have the same action.
    fn profile(&mut self, one_action: bool) -> Profile {
        use Action::*;
        let actions = [Kill, KillProcess, KillThread, Trap, Errno, Trace, Allow, Log];
        let default = self.pick(&actions);
        let architectures: Vec<Arch> = [Arch::X86_64, Arch::X32, Arch::X86]
            .into_iter()
            .filter(|_| self.below(2) == 0)
            .collect();
        let mut rules = Vec::new();
        // With x32 listed, libseccomp (2.5.4) can forget to load the number if a name is missing on
        // one of the two ABIs.
        let x32 = architectures.contains(&Arch::X32);
        let names: Vec<&str> =
            TABLE.iter().filter(|row| !x32 || row.1 >= 0 && row.2 >= 0).map(|row| row.0).collect();
        // Few calls, so that rules collide.
        let calls: Vec<&str> = (0..1 + self.below(10)).map(|_| self.pick(&names)).collect();
        for name in calls.iter().chain(&["socket", "read"][..self.below(3)]) {
            let mut action = self.pick(&actions);
            for _ in 0..1 + self.below(4) {
                if !one_action {
                    action = self.pick(&actions);
                }
                let mut args: Vec<Arg> = Vec::new();
                for _ in 0..self.below(4) {
                    // Occasionally an argument twice.
                    let index = self.below(6) as u32;
                    if self.below(8) == 0 || !args.iter().any(|arg| arg.index == index) {
                        args.push(self.arg(index));
                    }
                }
                let errno = matches!(action, Errno | Trace).then(|| self.below(40) as u32);
                let errno = if one_action { None } else { errno };
                rules.push(rule(action, errno, &[name], &args));
            }
        }
        profile(default, &architectures, rules)
    }
}

/// Arguments worth trying on a profile: at and around every value that it names.
fn interesting(profile: &Profile) -> Vec<u64> {
    let mut values = vec![0, 1, !0, 1 << 32, 0xffff_ffff];
    for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        for value in [arg.value, arg.value_two] {
            let near = [value, value.wrapping_add(1), value.wrapping_sub(1)];
            values.extend(near);
            values.extend(near.map(|value| value ^ (1 << 32)));
            values.extend([value | 0xdead_beef_0000_0000, value.swap_bytes(), !value]);
        }
    }
    values
}

fn calls(profile: &Profile, random: &mut Random, tries: usize) -> Vec<Call> {
    let far = [0x4000_0000 - 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX, X32_BIT | 4096];
    let numbers = (0..600).chain((0..600).map(|nr| nr | X32_BIT)).chain(far);
    let conditional = |nr, arch| {
        let call = Call { nr, arch, args: [0; 6] };
        profile.syscalls.iter().any(|rule| !rule.args.is_empty() && decides(rule, &call))
    };
    let values = interesting(profile);
    let mut calls = Vec::new();
    for nr in numbers {
        let foreign = [0xc000_00b7, 0].into_iter().filter(|_| nr % 50 == 0);
        for arch in foreign.chain([AUDIT_ARCH_X86_64, AUDIT_ARCH_I386]) {
            let count = if conditional(nr, arch) { tries } else { 2 };
            for _ in 0..count {
                let mut args = [0; 6].map(|_: u64| random.pick(&values));
                // The multiplexers' selectors.
                if arch == AUDIT_ARCH_I386 && random.below(2) == 0 {
                    args[0] = random.below(26) as u64;
                }
                calls.push(Call { nr, arch, args });
            }
        }
    }
    calls
}

/// Calls that a libseccomp of 2022 does not know.
fn is_too_new(nr: u32) -> bool {
    matches!(nr & !X32_BIT, 335 | 336 | 453 | 457..512)
}

/// Does the rule cover the call, on whichever ABI?
fn decides(rule: &Rule, call: &Call) -> bool {
    let abi = match (call.arch, call.nr & X32_BIT) {
        (AUDIT_ARCH_I386, _) => Abi::X86,
        (_, 0) => Abi::X86_64,
        _ => Abi::X32,
    };
    rule.names.iter().any(|name| {
        syscalls::number(name, abi) == Some(call.nr)
            || abi == Abi::X86 && syscalls::multiplexed(name).is_some_and(|m| m.0 == call.nr)
    })
}

/// Several alternatives with conditions on different arguments, or with more than equality:
/// libseccomp (2.5.4) merges them into one tree and can lose branches, so that a call is allowed
/// that no rule allows, or the reverse.
fn is_entangled(profile: &Profile, call: &Call) -> bool {
    let rules = || profile.syscalls.iter().filter(|rule| decides(rule, call));
    let args: Vec<Arg> = rules().flat_map(|rule| &rule.args).copied().collect();
    let alternatives = rules().count() > 1 || args.len() > 1;
    let equality = args.iter().all(|arg| matches!(arg.op, Op::Eq | Op::MaskedEq));
    alternatives && !(equality && args.iter().all(|arg| arg.index == args[0].index))
}

/// The part of a profile that decides on a call, for a failure message.
fn excerpt(profile: &Profile, call: &Call) -> String {
    let rules = profile
        .syscalls
        .iter()
        .filter(|rule| decides(rule, call))
        .map(|rule| format!("{:?} {:?} {:x?}\n", rule.action, rule.errno_ret, rule.args));
    format!("default {:?}\n{}", profile.default_action, rules.collect::<String>())
}

/// Ours against the plain meaning, and against libseccomp's where that has one answer.
fn compare(what: &str, profile: &Profile, random: &mut Random, tries: usize) -> (Bpf, usize) {
    let program = compile(profile).unwrap();
    check(&program.insns).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(unreachable(&program.insns), 0, "{what}: dead code");
    let theirs = tool().and_then(|tool| libseccomp(tool, profile, 0));
    if let Some(theirs) = &theirs {
        check(theirs).unwrap();
    }
    let mut disagreements = 0;
    for call in calls(profile, random, tries) {
        let meanings = meaning(profile, &call);
        let (ours, _) = run(&program.insns, &call);
        assert_eq!(ours, meanings[0], "{what}: {call:x?}\n{}", excerpt(profile, &call));
        if let Some(theirs) = theirs.as_deref().filter(|_| !is_too_new(call.nr)) {
            let answer = if is_newer(profile, &call) { ENOSYS } else { run(theirs, &call).0 };
            if !meanings.contains(&answer) {
                assert!(
                    is_entangled(profile, &call),
                    "{what}: libseccomp says {answer:#x}, we {ours:#x}: {call:x?}\n{}",
                    excerpt(profile, &call)
                );
                disagreements += 1;
            }
        }
    }
    (program, disagreements)
}

/// The embedded programs match the profiles beside them. `UPDATE=1` writes them.
#[test]
fn the_embedded_programs_are_the_compiled_profiles() {
    let program = compile(&spec("default")).unwrap();
    assert_eq!(program.warnings, Vec::<String>::new());
    assert_eq!(program.flags, 0);
    let arm = compile_for(&spec("default"), FilterTarget::Aarch64).unwrap();
    check(&arm.insns).unwrap();
    assert_eq!((arm.warnings, arm.flags), (Vec::new(), 0));
    let mut programs = vec![
        ("default.x86_64".to_owned(), program.to_bytes()),
        ("default.aarch64".to_owned(), arm.insns.iter().flat_map(|insn| insn.to_bytes()).collect()),
    ];
    for (arch, name) in [(TargetArch::x86_64, "x86_64"), (TargetArch::aarch64, "aarch64")] {
        for (filter, program) in seccompiler::compile_from_json(&own()[..], arch).unwrap() {
            programs
                .push((format!("{filter}.{name}"), Filter::from(&*program).instructions.concat()));
        }
    }
    assert_eq!(programs.len(), 6);
    for (name, program) in programs {
        let file = specs().join(format!("{name}.bpf"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, program).unwrap();
        } else {
            assert!(
                std::fs::read(file).unwrap() == program,
                "{name}.bpf is stale: UPDATE=1 cargo test -p garth embedded"
            );
        }
    }
}

fn insns(program: &[u8]) -> Vec<Insn> {
    program.as_chunks().0.iter().map(|insn| Insn::from_bytes(*insn)).collect()
}

fn own() -> Vec<u8> {
    std::fs::read(specs().join("own.json")).unwrap()
}

#[test]
fn every_rule_of_the_embedded_profiles_has_a_reason() {
    for rule in spec("default").syscalls {
        assert!(rule.comment.as_ref().is_some_and(|c| c.len() > 15), "{:?}", rule.names);
    }
    let own: serde_json::Value = serde_json::from_slice(&own()).unwrap();
    for rule in own.as_object().unwrap().values().flat_map(|f| f["filter"].as_array().unwrap()) {
        assert!(rule["comment"].as_str().is_some_and(|c| c.len() > 15), "{rule}");
    }
}

#[test]
fn the_default_profile_means_what_libseccomp_says() {
    let (_, disagreements) = compare("default", &spec("default"), &mut Random(7), 2000);
    assert_eq!(disagreements, 0);
}

#[test]
fn a_profile_means_the_same_to_an_aarch64_kernel() {
    let profile = spec("default");
    let arm = compile_for(&profile, FilterTarget::Aarch64).unwrap().insns;
    let native = compile(&profile).unwrap().insns;
    let answer = |program: &[Insn], nr, arch| run(program, &Call { nr, arch, args: [0; 6] }).0;
    let mut compared = 0;
    for (name, ..) in TABLE {
        let numbers = [Abi::X86_64, Abi::Aarch64].map(|abi| syscalls::number(name, abi));
        let [Some(x86), Some(aarch64)] = numbers else { continue };
        let expected = answer(&native, x86, AUDIT_ARCH_X86_64);
        assert_eq!(answer(&arm, aarch64, AUDIT_ARCH_AARCH64), expected, "{name}");
        compared += 1;
    }
    assert!(compared > 250, "{compared}");
    // A program of 32 bits, and one of another machine.
    for arch in [0x4000_0028, AUDIT_ARCH_X86_64] {
        assert_eq!(answer(&arm, 4, arch), libc::SECCOMP_RET_KILL_THREAD);
    }
}

/// The style of Firecracker's users: a list of what is allowed, and one of what is not.
#[test]
fn a_filter_of_seccompiler_is_known_by_its_shape_and_compiled_by_it() {
    let of = |json: &str| match Seccomp::parse(json.as_bytes(), "--seccomp f")? {
        Seccomp::Seccompiler(origin, json) => by_seccompiler(&json, &origin),
        other => panic!("{other:?}"),
    };
    let filter = of(
        r#"{"main": {"default_action": {"errno": 1}, "filter_action": "allow", "filter": [
        {"syscall": "read"},
        {"syscall": "ioctl", "args": [{"index": 1, "type": "dword", "op": "eq", "val": 21523}]}]}}"#,
    );
    let filter = filter.unwrap();
    assert_eq!(filter.answer(libc::SYS_read as u32), Some(ALLOW));
    assert_eq!(filter.answer(libc::SYS_write as u32), Some(EPERM));
    assert_eq!(filter.answer(libc::SYS_ioctl as u32), None);

    let refused = |json: &str| of(json).unwrap_err().to_string();
    let one = |rule: &str| {
        format!(r#"{{"mismatch_action": "trap", "match_action": "allow", "filter": [{rule}]}}"#)
    };
    for (json, expected) in [
        (
            format!(r#"{{"a": {}}}"#, one(r#"{"syscall": "reed"}"#)),
            "--seccomp f: invalid syscall name: reed for given arch: x86_64",
        ),
        (
            format!(r#"{{"vmm": {0}, "api": {0}}}"#, one("")),
            "--seccomp f: 2 filters instead of one: api, vmm; put the one to use in a file of its own",
        ),
        (format!(r#"{{"a": {}}}"#, one(r#"{"syscal": "read"}"#)), "unknown field `syscal`"),
        (r#"{"a": {"filter": []}}"#.to_owned(), "missing field `mismatch_action`"),
    ] {
        assert!(refused(&json).contains(expected), "{}", refused(&json));
    }
    // An OCI profile is still read as one, and so is what is neither.
    for json in [r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, "{}", "[]", r#"{"a": 1}"#] {
        assert!(!matches!(Seccomp::parse(json.as_bytes(), "f"), Ok(Seccomp::Seccompiler(..))));
    }
}

/// What the init does is in `sys/init/main.rs`; an extra call serves an attacker of pid 1.
#[test]
fn the_init_may_make_its_own_calls_and_no_others() {
    const CALLS: [i64; 9] = [
        libc::SYS_execveat,
        libc::SYS_wait4,
        libc::SYS_kill,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_close_range,
        libc::SYS_prctl,
        libc::SYS_exit_group,
    ];
    let init = insns(INIT);
    check(&init).unwrap();
    let answer = |nr, arch, first| {
        run(&init, &Call { nr, arch, args: [first, 0, 0, 0, 0, 0] }).0 & 0xffff_0000
    };
    for nr in 0..2000 {
        let fine = CALLS.contains(&i64::from(nr));
        let expected = if fine { ALLOW } else { libc::SECCOMP_RET_KILL_PROCESS };
        assert_eq!(answer(nr, AUDIT_ARCH_X86_64, libc::PR_SET_NAME as u64), expected, "{nr}");
        assert_ne!(answer(nr, AUDIT_ARCH_I386, 15), ALLOW, "i386 {nr}");
        assert_ne!(answer(nr | X32_BIT, AUDIT_ARCH_X86_64, 15), ALLOW, "x32 {nr}");
    }
    let prctl = libc::SYS_prctl as u32;
    let others = [libc::PR_SET_DUMPABLE, libc::PR_CAPBSET_READ, libc::PR_SET_NO_NEW_PRIVS];
    assert!(others.iter().all(|o| answer(prctl, AUDIT_ARCH_X86_64, *o as u64) != ALLOW));
}

#[test]
fn an_allow_list_means_what_libseccomp_says() {
    let (_, disagreements) = compare("allow-list", &allow_list(), &mut Random(11), 300);
    assert_eq!(disagreements, 0);
}

#[test]
fn random_profiles_mean_what_libseccomp_says() {
    let mut entangled = 0;
    for seed in 1..=200 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let profile = random.profile(seed % 4 != 0);
        entangled += compare(&format!("seed {seed}"), &profile, &mut random, 60).1;
    }
    println!("libseccomp lost a branch for {entangled} calls");
}

/// Most calls are named, so there are many ranges and jumps are long.
#[test]
fn a_large_profile_with_far_jumps_is_correct() {
    let mut random = Random(99);
    let mut rules = Vec::new();
    for row in TABLE.iter().filter(|row| row.1 >= 0) {
        let args: Vec<Arg> = (0..random.below(3)).map(|index| random.arg(index as u32)).collect();
        let action = random.pick(&[Action::Errno, Action::Log, Action::Trap]);
        rules.push(rule(action, None, &[row.0], &args));
    }
    let profile = profile(Action::Allow, &[Arch::X86], rules);
    let (program, _) = compare("large", &profile, &mut random, 8);
    assert!(program.insns.len() > 1500, "{}", program.insns.len());
    assert!(program.insns.iter().any(|insn| insn.code == bpf::JA), "no trampoline was needed");
}

#[test]
fn names_have_libseccomps_numbers() {
    let Some(tool) = tool() else { return };
    let all = [Arch::X86_64, Arch::X32, Arch::X86];
    for rows in TABLE.chunks(40) {
        // A distinct answer for each call. The default is ALLOW, so that none is too new.
        let rules = (1..)
            .zip(rows)
            .map(|(errno, row)| rule(Action::Errno, Some(errno), &[row.0], &[]))
            .collect();
        let profile = profile(Action::Allow, &all, rules);
        let (ours, theirs) =
            (compile(&profile).unwrap().insns, libseccomp(tool, &profile, 0).unwrap());
        let calls = calls(&profile, &mut Random(3), 1);
        for call in calls.iter().filter(|call| !is_too_new(call.nr)) {
            assert_eq!(run(&ours, call).0, run(&theirs, call).0, "{call:x?}");
        }
    }
}

#[test]
fn the_default_refuses_what_the_design_says() {
    let program = compile(&spec("default")).unwrap().insns;
    let answer = |name: &str, args: [u64; 6]| {
        let nr = syscalls::number(name, Abi::X86_64).unwrap();
        run(&program, &Call { nr, arch: AUDIT_ARCH_X86_64, args }).0
    };
    let high = 0xdead_beef_0000_0000;
    for flag in [17u32, 18, 25, 26, 27, 28, 29, 30].map(|bit| 1u64 << bit).into_iter() {
        let expected = if flag == 1 << 18 { ALLOW } else { EPERM };
        assert_eq!(answer("clone", [flag | 0x11, 0, 0, 0, 0, 0]), expected, "{flag:#x}");
        assert_eq!(answer("unshare", [flag | high, 0, 0, 0, 0, 0]), expected, "{flag:#x}");
    }
    assert_eq!(answer("clone", [0x3d_0f00, 0, 0, 0, 0, 0]), ALLOW, "a thread");
    assert_eq!(answer("clone", [0x120_0011, 0, 0, 0, 0, 0]), ALLOW, "a fork");
    assert_eq!(answer("unshare", [0x200, 0, 0, 0, 0, 0]), ALLOW, "CLONE_FS");
    assert_eq!(answer("clone3", [0; 6]), ENOSYS);
    assert_eq!(answer("io_uring_setup", [0; 6]), ENOSYS);
    for request in [0x5412, 0x541c, 0x5412 | high, 0x541c | 1 << 63] {
        assert_eq!(answer("ioctl", [0, request, 0, 0, 0, 0]), EPERM, "{request:#x}");
    }
    assert_eq!(answer("ioctl", [0, 0x5413, 0, 0, 0, 0]), ALLOW);
    for (family, protocol, expected) in [
        (1, 0, ALLOW),
        (2, 6, ALLOW),
        (10, 17, ALLOW),
        (16, 0, ALLOW),
        (16, 12, 0x0005_0000 | 93),
        (16, 9, 0x0005_0000 | 93),
        (16 | high, 12 | high, 0x0005_0000 | 97),
        (17, 3, ALLOW),
        (38, 0, 0x0005_0000 | 97),
        (40, 0, 0x0005_0000 | 97),
        (40 | high, 0, 0x0005_0000 | 97),
        (3 | high, 0, 0x0005_0000 | 97),
    ] {
        assert_eq!(
            answer("socket", [family, 1, protocol, 0, 0, 0]),
            expected,
            "{family} {protocol}"
        );
    }
    for (persona, expected) in [(0, ALLOW), (8, ALLOW), (0x2_0008, ALLOW), (0x40_0000, EPERM)] {
        assert_eq!(answer("personality", [persona, 0, 0, 0, 0, 0]), expected, "{persona:#x}");
    }
    for name in ["setns", "mount", "keyctl", "bpf", "open_by_handle_at", "reboot", "syslog"] {
        assert_eq!(answer(name, [0; 6]), EPERM, "{name}");
    }
    for name in
        ["ptrace", "chroot", "seccomp", "landlock_restrict_self", "io_setup", "mknodat", "openat"]
    {
        assert_eq!(answer(name, [0; 6]), ALLOW, "{name}");
    }
    let killed = |nr, arch| run(&program, &Call { nr, arch, args: [0; 6] }).0 == 0;
    assert!(killed(1, AUDIT_ARCH_I386) && killed(X32_BIT | 1, AUDIT_ARCH_X86_64));
}

/// A cached verdict costs nothing at run time; the kernel caches only if no argument is examined.
#[test]
fn allowed_calls_of_the_default_never_look_at_arguments() {
    let program = compile(&spec("default")).unwrap().insns;
    for name in ["read", "write", "futex", "epoll_wait", "newfstatat", "mmap", "close", "fstat"] {
        let nr = syscalls::number(name, Abi::X86_64).unwrap();
        let mut random = Random(5);
        let steps = [(); 50].map(|()| {
            let args = [0; 6].map(|_: u64| random.next());
            let (answer, steps) = run(&program, &Call { nr, arch: AUDIT_ARCH_X86_64, args });
            assert_eq!(answer, ALLOW);
            steps
        });
        assert!(steps.iter().all(|count| *count == steps[0] && *count <= 12), "{name}: {steps:?}");
    }
}

#[test]
fn calls_newer_than_the_profile_answer_enosys() {
    let newer = |default| {
        let rules = vec![rule(Action::Log, None, &["openat2", "read"], &[])];
        let program = compile(&profile(default, &[], rules)).unwrap().insns;
        [437, 438, 500]
            .map(|nr| run(&program, &Call { nr, arch: AUDIT_ARCH_X86_64, args: [0; 6] }).0)
    };
    assert_eq!(newer(Action::Errno), [0x7ffc_0000, ENOSYS, ENOSYS]);
    assert_eq!(newer(Action::KillProcess), [0x7ffc_0000, ENOSYS, ENOSYS]);
    assert_eq!(newer(Action::Allow), [0x7ffc_0000, ALLOW, ALLOW]);
}

#[test]
fn among_contradicting_conditions_the_strictest_wins() {
    let rules = vec![
        rule(Action::Allow, None, &["socket"], &[arg(1, Op::Eq, 1, 0)]),
        rule(Action::Errno, Some(97), &["socket"], &[arg(0, Op::Eq, 40, 0)]),
        rule(Action::Errno, Some(13), &["socket"], &[arg(0, Op::Eq, 40, 0)]),
    ];
    let program = compile(&profile(Action::Log, &[], rules)).unwrap().insns;
    let call = Call { nr: 41, arch: AUDIT_ARCH_X86_64, args: [40, 1, 0, 0, 0, 0] };
    assert_eq!(run(&program, &call).0, 0x0005_0000 | 97);
}

#[test]
fn a_list_of_values_reads_each_half_once() {
    let values = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let rules = values
        .map(|value| rule(Action::Allow, None, &["personality"], &[arg(0, Op::Eq, value, 0)]));
    let program = compile(&profile(Action::Errno, &[], rules.to_vec())).unwrap().insns;
    let loads = program.iter().filter(|insn| insn.code == bpf::LD && insn.k >= 16).count();
    assert_eq!(loads, 2, "{program:#?}");
}

#[test]
fn notify_asks_for_a_listener() {
    let mut profile =
        profile(Action::Allow, &[], vec![rule(Action::Notify, None, &["mount"], &[])]);
    profile.flags = vec![Flag::Tsync, Flag::Log, Flag::SpecAllow, Flag::WaitKillableRecv];
    assert_eq!(compile(&profile).unwrap().flags, NEW_LISTENER | 2 | 4 | 32);
    profile.syscalls[0].names = vec!["write".into()];
    let error = compile(&profile).unwrap_err().to_string();
    assert_eq!(error, "seccomp: syscalls[0]: SCMP_ACT_NOTIFY is not possible for write");
}

#[test]
fn unknown_names_are_skipped_and_reported() {
    let rules = vec![rule(Action::Errno, None, &["breakpoint", "getpid"], &[])];
    let program = compile(&profile(Action::Allow, &[], rules)).unwrap();
    assert_eq!(program.warnings, ["syscalls[0]: unknown system call \"breakpoint\" skipped"]);
}

#[test]
fn a_profile_too_large_for_the_kernel_is_refused() {
    let args: Vec<Arg> = (0..20_000).map(|value| arg(0, Op::Eq, value * 3, 0)).collect();
    let rules = vec![rule(Action::Errno, None, &["ioctl"], &args)];
    let error = compile(&profile(Action::Allow, &[], rules)).unwrap_err().to_string();
    assert!(error.contains("more than 4096 instructions"), "{error}");
    let mut random = Random(1);
    let rules = (0..2000).map(|_| {
        let args = [0, 1, 2, 3, 4, 5].map(|index| random.arg(index));
        rule(Action::Errno, None, &["ioctl"], &args)
    });
    assert!(compile(&profile(Action::Allow, &[], rules.collect())).is_err());
}

/// Mutated profiles: whatever parses compiles to a program that the kernel accepts, or to an error.
#[test]
fn hostile_json_never_panics() {
    let mut one: serde_json::Value = serde_json::from_slice(&own()).unwrap();
    one.as_object_mut().unwrap().remove("waiter");
    let default = std::fs::read(specs().join("default.json")).unwrap();
    let seeds = [default, serde_json::to_vec_pretty(&one).unwrap()];
    let words = [
        "null",
        "-1",
        "1e400",
        "18446744073709551616",
        "[[[[",
        "{\"a\":",
        "\"SCMP_ACT_NOTIFY\"",
        "\"SCMP_ACT_TRACE\"",
        "\"SCMP_CMP_LT\"",
        "\\ud800",
        "4095",
        "65536",
        "\"index\": 6",
        "\"val\": 18446744073709551615",
        "{\"errno\": 4294967295}",
        "\"masked_eq\"",
        "],",
    ];
    let mut random = Random(0xfeed);
    let mut parsed = [0; 2];
    for round in 0..6000 {
        let mut json = seeds[round % 2].clone();
        for _ in 0..1 + random.below(4) {
            let (from, to) = (random.below(json.len()), random.below(json.len()));
            match random.below(5) {
                0 => json[from] = random.next() as u8,
                1 => json[from] = random.pick(b"0123456789\"{}[],:"),
                2 => drop(
                    json.drain(from.min(to)..(from.min(to) + random.below(40)).min(json.len())),
                ),
                3 => drop(json.splice(from..from, random.pick(&words).bytes())),
                _ => {
                    let piece = json[from..(from + random.below(200)).min(json.len())].to_vec();
                    drop(json.splice(to..to, piece));
                }
            }
        }
        match Seccomp::parse(&json, "mutant") {
            Ok(Seccomp::Profile(_, profile)) => {
                parsed[0] += 1;
                if let Ok(program) = compile(&profile) {
                    check(&program.insns).unwrap();
                }
            }
            Ok(Seccomp::Seccompiler(_, json)) => {
                if let Ok(filter) = by_seccompiler(&json, "mutant") {
                    parsed[1] += 1;
                    check(&insns(filter.instructions.as_flattened())).unwrap();
                }
            }
            _ => {}
        }
    }
    assert!(parsed.iter().all(|parsed| *parsed > 50), "{parsed:?} mutants were parsed");
    assert!(Profile::parse(&vec![b'['; 1 << 20], "deep").is_err());
    assert!(Profile::parse(&vec![b' '; (1 << 20) + 1], "long").is_err());
}

#[test]
fn programs_run_under_the_default() {
    let Some(tool) = tool() else { return };
    let script = "echo a | cat && (true & wait) && ! unshare -U true 2>/dev/null && echo fine";
    let python = "import threading; t = threading.Thread(target=print, args=['fine']); t.start()";
    for command in [["sh", "-c", script], ["python3", "-c", python]] {
        if Command::new(command[0]).args(["-c", ""]).output().is_err() {
            garth_needs::skip("program", command[0]);
            continue;
        }
        let filter = specs().join("default.x86_64.bpf");
        let out = Command::new(tool).arg("exec").arg(filter).args(command).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).ends_with("fine\n"), "{out:?}");
    }
}

#[test]
fn under_the_init_filter_an_ordinary_program_is_killed() {
    use std::os::unix::process::ExitStatusExt;
    let Some(tool) = tool() else { return };
    let filter = specs().join("init.x86_64.bpf");
    let status = Command::new(tool).arg("exec").arg(filter).arg("/bin/true").status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

/// What a filter costs to load and to run; printed by `cargo test -p garth cost -- --nocapture`.
#[test]
fn cost() {
    let Some(tool) = tool() else { return };
    let dir = tool.parent().unwrap();
    for (name, profile) in [("default", spec("default")), ("allow-list", allow_list())] {
        let programs = [
            ("ours", compile(&profile).unwrap().insns),
            ("libseccomp", libseccomp(tool, &profile, 0).unwrap()),
            ("libseccomp tree", libseccomp(tool, &profile, 2).unwrap()),
        ];
        for (whose, program) in programs {
            let file = dir.join(format!("{name}.{}.bpf", whose.replace(' ', "-")));
            let bytes: Vec<u8> = program.iter().flat_map(|insn| insn.to_bytes()).collect();
            std::fs::write(&file, bytes).unwrap();
            let steps = ["read", "write", "futex", "epoll_wait", "ioctl", "socket"].map(|name| {
                let nr = syscalls::number(name, Abi::X86_64).unwrap();
                let args = [1, 1, 1, 1, 1, 1];
                let steps = run(&program, &Call { nr, arch: AUDIT_ARCH_X86_64, args }).1;
                format!("{name} {steps}")
            });
            let all: usize = (0..470)
                .map(|nr| run(&program, &Call { nr, arch: AUDIT_ARCH_X86_64, args: [0; 6] }).1)
                .sum();
            let out = Command::new(tool).arg("load").arg(&file).arg("40").output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let load = String::from_utf8_lossy(&out.stdout).trim().to_string();
            println!("{name:10} {whose:15} {load}; steps {}, all numbers {all}", steps.join(", "));
        }
    }
}
