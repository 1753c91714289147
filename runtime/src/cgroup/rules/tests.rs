//! The program is run by a small interpreter here, and compared with the rules evaluated one by
//! one; where permitted, also with the kernel.

use super::super::filter::DeviceFilter;
use super::*;
use crate::sys::Errno;
use crate::sys::bpf::{self, Instruction};

/// An access that the kernel asks about.
#[derive(Clone, Copy, Debug)]
struct Access {
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: u32,
}

/// The rule from the module's documentation, in code.
fn model(rules: &[AccessRule], asked: Access) -> bool {
    [READ, WRITE, MKNOD].into_iter().filter(|bit| asked.access & bit != 0).all(|bit| {
        let fits = |rule: &&AccessRule| {
            rule.kind.is_none_or(|kind| kind == asked.kind)
                && rule.major.is_none_or(|major| major == asked.major)
                && rule.minor.is_none_or(|minor| minor == asked.minor)
                && rule.access & bit != 0
        };
        rules.iter().rev().find(fits).is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel does. Panics where the verifier would reject it.
fn run(program: &[Instruction], asked: Access) -> bool {
    let kind = match asked.kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    };
    let memory = [asked.access << 16 | kind, asked.major, asked.minor];
    let mut registers = [None; 11];
    let mut at = 0usize;
    for _ in 0..=program.len() {
        let Instruction { code, registers: pair, offset, number } = program[at];
        let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
        let value = |register: usize| -> u64 { registers[register].expect("a value") };
        let number64 = i64::from(number) as u64;
        at += 1;
        let jump = |yes: bool| if yes { usize::try_from(offset).expect("forward") } else { 0 };
        match code {
            0x61 => registers[to] = Some(u64::from(memory[offset as usize / 4])),
            0xb7 => registers[to] = Some(number64),
            0xbf => registers[to] = Some(value(from)),
            0x57 => registers[to] = Some(value(to) & number64),
            0x77 => registers[to] = Some(value(to) >> number),
            0x05 => at += jump(true),
            0x56 => at += jump(value(to) as u32 != number as u32),
            0x45 => at += jump(value(to) & number64 != 0),
            0x95 => return value(0) != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("it does not end");
}

/// How the kernel evaluates v1's exceptions: one must allow all of an access, one that denies a
/// part of it is enough (security/device_cgroup.c).
fn v1_model(all: &Exceptions, asked: Access) -> bool {
    let fits = |rule: &&AccessRule| {
        rule.kind == Some(asked.kind)
            && rule.major.is_none_or(|major| major == asked.major)
            && rule.minor.is_none_or(|minor| minor == asked.minor)
    };
    let mut exceptions = all.rules.iter().filter(fits);
    match all.allowed {
        true => !exceptions.any(|rule| rule.access & asked.access != 0),
        false => exceptions.any(|rule| rule.access & asked.access == asked.access),
    }
}

fn questions() -> Vec<Access> {
    let mut all = Vec::new();
    for kind in [DeviceKind::Block, DeviceKind::Char] {
        for major in [0, 1, 5, 8, 136, 4095, u32::MAX] {
            for minor in [0, 3, 5, 200, 1 << 19, u32::MAX] {
                for access in 1..8 {
                    all.push(Access { kind, major, minor, access });
                }
            }
        }
    }
    all
}

/// Pseudo-random numbers, the same each time (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn rule(&mut self) -> AccessRule {
        let numbers = [None, None, Some(1), Some(3), Some(5), Some(8), Some(u32::MAX)];
        AccessRule {
            allow: self.below(2) == 0,
            kind: [None, Some(DeviceKind::Block), Some(DeviceKind::Char)][self.below(3)],
            major: numbers[self.below(7)],
            minor: numbers[self.below(7)],
            access: self.below(7) as u32 + 1,
            own: false,
        }
    }
}

#[test]
fn the_program_says_what_the_last_rule_that_fits_says() {
    let mut dice = Dice(7);
    let questions = questions();
    for _ in 0..400 {
        let rules: Vec<AccessRule> = (0..dice.below(9)).map(|_| dice.rule()).collect();
        let filter = DeviceFilter::new(&rules);
        let program = filter.assemble();
        for asked in &questions {
            let wanted = model(&rules, *asked);
            assert_eq!(run(&program, *asked), wanted, "{rules:?} {asked:?}");
            assert!(wanted || !filter.allows_all(), "{rules:?} {asked:?}");
        }
    }
}

#[test]
fn v1_says_the_same_or_refuses() {
    let mut dice = Dice(11);
    let questions = questions();
    let (mut said, mut refused) = (0, 0);
    for _ in 0..2000 {
        let rules: Vec<AccessRule> = (0..dice.below(5)).map(|_| dice.rule()).collect();
        let Ok(all) = exceptions(&rules) else {
            refused += 1;
            continue;
        };
        said += 1;
        // No access opens and creates a node at the same time.
        let real = |asked: &&Access| asked.access == MKNOD || asked.access & MKNOD == 0;
        for asked in questions.iter().filter(real) {
            assert_eq!(v1_model(&all, *asked), model(&rules, *asked), "{rules:?} {asked:?}");
        }
    }
    assert!(said > 500 && refused > 50, "{said} {refused}");
}

fn resources(json: serde_json::Value) -> Resources {
    serde_json::from_value(serde_json::json!({ "devices": json })).unwrap()
}

fn v1_words(json: serde_json::Value) -> String {
    let all = exceptions(&rules(&resources(json)).unwrap()).unwrap();
    let words: Vec<String> = all.rules.iter().map(AccessRule::words).collect();
    format!("{} but {}", if all.allowed { "allow" } else { "deny" }, words.join("; "))
}

const OWN_WORDS: &str = "b *:* m; c *:* m; c 1:3 rwm; c 1:5 rwm; c 1:7 rwm; c 1:8 rwm; \
                         c 1:9 rwm; c 5:0 rwm; c 5:2 rwm; c 136:* rwm; c 10:200 rwm";

#[test]
fn every_container_has_its_own_devices() {
    let sorted = |text: &str| {
        let mut items: Vec<String> =
            text.trim_start_matches("deny but ").split("; ").map(str::to_owned).collect();
        items.sort();
        items
    };
    assert_eq!(sorted(&v1_words(serde_json::json!([]))), sorted(OWN_WORDS));
    let deny = serde_json::json!([{ "allow": false, "access": "rwm" }]);
    assert_eq!(sorted(&v1_words(deny.clone())), sorted(OWN_WORDS));
    // Even if the config denies them.
    let named = serde_json::json!([
        { "allow": true, "type": "b", "major": 8, "minor": 0, "access": "r" },
        { "allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
    ]);
    assert_eq!(
        sorted(&v1_words(named)),
        sorted(&OWN_WORDS.replace("c *:* m;", "c *:* m; b 8:0 r;"))
    );
    let all = serde_json::json!([{ "allow": true, "type": "a", "access": "rwm" }]);
    assert_eq!(v1_words(all.clone()), "allow but ");
    assert!(DeviceFilter::new(&rules(&resources(all)).unwrap()).allows_all());
    assert!(!DeviceFilter::new(&rules(&resources(deny)).unwrap()).allows_all());
}

#[test]
fn rules_that_are_none_are_refused() {
    for (json, words) in [
        (serde_json::json!([{ "type": "x" }]), "devices[0]: type \"x\" is not a, b or c"),
        (serde_json::json!([{ "access": "rx" }]), "devices[0]: access 'x' is not r, w or m"),
        (serde_json::json!([{}, { "major": -7 }]), "devices[1]: invalid device number"),
    ] {
        assert_eq!(rules(&resources(json)).unwrap_err().to_string(), words);
    }
    let part = serde_json::json!([
        { "allow": true, "type": "c", "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 9, "access": "w" },
    ]);
    let words = exceptions(&rules(&resources(part)).unwrap()).unwrap_err().to_string();
    assert!(
        words.starts_with(
            "devices: deny c 1:9 w: v1 cgroups cannot make an exception from c *:* rwm"
        ),
        "{words}"
    );
}

#[test]
fn the_kernel_takes_the_program() {
    let mut dice = Dice(3);
    for _ in 0..50 {
        let rules: Vec<AccessRule> = (0..dice.below(30)).map(|_| dice.rule()).collect();
        match bpf::load_device_program(&DeviceFilter::new(&rules).assemble()) {
            Ok(_) => {}
            Err(errno @ Errno(libc::EPERM | libc::ENOSYS)) => {
                garth_needs::skip("bpf", &format!("bpf(2): {errno}"));
                return;
            }
            Err(errno) => panic!("{errno}: {rules:?}"),
        }
    }
}
