//! Device rules as a program of the kernel's virtual machine (BPF_PROG_TYPE_CGROUP_DEVICE, Linux
//! 4.15), which the kernel runs whenever a process in the cgroup opens or creates a device node.
//!
//! The program checks the rules from the last to the first, and keeps in r3 the kinds of access
//! that no rule has decided yet. A rule that denies one of them ends it; one that allows clears its
//! own, and when none is left, access is granted.
//!
//! | register | |
//! |---|---|
//! | r0 | the answer: 1 access, 0 EPERM |
//! | r1 | the question: `struct bpf_cgroup_dev_ctx { u32 access << 16 \| type, major, minor }` |
//! | r2, r4, r5 | type, major, minor |
//! | r3 | access not decided yet |

use super::rules::{ANY, AccessRule, DeviceKind};
use crate::sys::bpf::Instruction;

/// The rules that matter, last first, and the default where none decides.
pub(super) struct DeviceFilter {
    rules: Vec<AccessRule>,
    otherwise: bool,
}

// linux/bpf.h, linux/bpf_common.h: class, source, operation.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
/// Compares 32 bits (Linux 5.1); with 64, a number above 2^31 would be sign-extended.
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR.
fn type_number(kind: DeviceKind) -> i32 {
    match kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    }
}

fn insn(code: u8, to: u8, from: u8, offset: i16, number: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, number }
}

impl DeviceFilter {
    /// From `rules`, in the order of the config.
    pub(super) fn new(rules: &[AccessRule]) -> DeviceFilter {
        let mut filter = DeviceFilter { rules: Vec::new(), otherwise: false };
        for rule in rules.iter().rev() {
            if (rule.kind, rule.major, rule.minor, rule.access) == (None, None, None, ANY) {
                // The rules before it decide nothing.
                filter.otherwise = rule.allow;
                break;
            }
            filter.rules.push(*rule);
        }
        // Trailing rules that only repeat the default.
        while filter.rules.last().is_some_and(|rule| rule.allow == filter.otherwise) {
            filter.rules.pop();
        }
        filter
    }

    /// No program is needed.
    pub(super) fn allows_all(&self) -> bool {
        self.otherwise && self.rules.iter().all(|rule| rule.allow)
    }

    /// The program.
    pub(super) fn assemble(&self) -> Vec<Instruction> {
        let mut program = vec![
            insn(LOAD_WORD, 2, 1, 0, 0),
            insn(LOAD_WORD, 4, 1, 4, 0),
            insn(LOAD_WORD, 5, 1, 8, 0),
            insn(MOVE_REGISTER, 3, 2, 0, 0),
            insn(SHIFT_RIGHT, 3, 0, 0, 16),
            insn(AND, 2, 0, 0, 0xffff),
        ];
        for rule in &self.rules {
            let compared = [
                (2, rule.kind.map(type_number)),
                (4, rule.major.map(|n| n as i32)),
                (5, rule.minor.map(|n| n as i32)),
            ];
            let compared: Vec<(u8, i32)> =
                compared.iter().filter_map(|(at, n)| n.map(|n| (*at, n))).collect();
            // The code after the comparisons is four instructions long.
            let count = compared.len() as i16;
            for (at, (register, number)) in compared.into_iter().enumerate() {
                let over = count - at as i16 - 1 + 4;
                program.push(insn(JUMP_NOT_EQUAL, register, 0, over, number));
            }
            if rule.allow {
                program.push(insn(AND, 3, 0, 0, (ANY & !rule.access) as i32));
                program.push(insn(JUMP_NOT_EQUAL, 3, 0, 2, 0));
            } else {
                program.push(insn(JUMP_ANY_BIT, 3, 0, 1, rule.access as i32));
                program.push(insn(JUMP, 0, 0, 2, 0));
            }
            program.push(insn(MOVE, 0, 0, 0, i32::from(rule.allow)));
            program.push(insn(EXIT, 0, 0, 0, 0));
        }
        program.push(insn(MOVE, 0, 0, 0, i32::from(self.otherwise)));
        program.push(insn(EXIT, 0, 0, 0, 0));
        program
    }
}
