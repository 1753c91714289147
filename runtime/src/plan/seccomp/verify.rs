//! What the kernel does with a program: check it (`bpf_check_classic` and `seccomp_check_filter`)
//! and run it. For tests.

use super::bpf::{AND, Insn, JA, JEQ, JGE, JGT, JSET, LD, MAX_INSNS, RET};

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            // The instruction pointer: no rule uses it.
            8 | 12 => 0,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// The program as the kernel would accept it, or why not.
pub fn check(program: &[Insn]) -> Result<(), String> {
    if program.is_empty() || program.len() > MAX_INSNS {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, insn) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        let ends = match insn.code {
            LD if insn.k.is_multiple_of(4) && insn.k < 64 => 0,
            AND | RET => 0,
            JA => insn.k as usize + 1,
            JEQ | JGT | JGE | JSET => usize::from(insn.jt.max(insn.jf)) + 1,
            _ => return Err(format!("{at}: {insn:?}")),
        };
        if ends > left {
            return Err(format!("{at}: jump past the end: {insn:?}"));
        }
    }
    match program.last() {
        Some(insn) if insn.code == RET => Ok(()),
        _ => Err("the last instruction does not return".into()),
    }
}

/// The answer of a checked program, and the number of instructions it took.
pub fn run(program: &[Insn], call: &Call) -> (u32, usize) {
    let (mut at, mut a, mut steps) = (0, 0, 0);
    loop {
        let insn = program[at];
        at += 1;
        steps += 1;
        let jump = |taken: bool| usize::from(if taken { insn.jt } else { insn.jf });
        match insn.code {
            LD => a = call.word(insn.k),
            AND => a &= insn.k,
            JA => at += insn.k as usize,
            JEQ => at += jump(a == insn.k),
            JGT => at += jump(a > insn.k),
            JGE => at += jump(a >= insn.k),
            JSET => at += jump(a & insn.k != 0),
            RET => return (insn.k, steps),
            _ => panic!("{insn:?}"),
        }
    }
}

/// Instructions that no call reaches, by following both ways of every jump.
pub fn unreachable(program: &[Insn]) -> usize {
    let mut seen = vec![false; program.len()];
    seen[0] = true;
    for at in 0..program.len() {
        if !seen[at] {
            continue;
        }
        let insn = program[at];
        match insn.code {
            RET => {}
            JA => seen[at + 1 + insn.k as usize] = true,
            LD | AND => seen[at + 1] = true,
            _ => {
                seen[at + 1 + usize::from(insn.jt)] = true;
                seen[at + 1 + usize::from(insn.jf)] = true;
            }
        }
    }
    seen.iter().filter(|reached| !**reached).count()
}
