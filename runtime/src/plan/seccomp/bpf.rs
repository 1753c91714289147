//! Classic BPF as seccomp(2) takes it: instructions, and the assembly of a decision into them.
//!
//! Code is written from the last instruction to the first, because all jumps go forward: a jump
//! target is already in place and its distance known. A conditional jump reaches 255 instructions;
//! where that is not enough, an answer is repeated nearby and anything else gets a `ja`, which
//! reaches everything.

use super::tree::{Ask, DecisionTree, Id, Node};
use crate::{Error, Result};

/// The kernel's limit (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = libc::BPF_MAXINSNS as usize;

/// `struct sock_filter` of <linux/filter.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the test holds.
    pub jt: u8,
    /// Instructions to skip if not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Load a word of `struct seccomp_data` (`BPF_LD | BPF_W | BPF_ABS`).
pub const LD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Mask the accumulator (`BPF_ALU | BPF_AND | BPF_K`).
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Jump always (`BPF_JMP | BPF_JA`).
pub const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// Jump on equal.
pub const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ) as u16;
/// Jump on greater.
pub const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT) as u16;
/// Jump on greater or equal.
pub const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE) as u16;
/// Jump if a bit is set.
pub const JSET: u16 = (libc::BPF_JMP | libc::BPF_JSET) as u16;
/// Return an answer (`BPF_RET | BPF_K`).
pub const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

impl Insn {
    /// The instruction as the kernel reads it.
    pub fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// The inverse of [`Insn::to_bytes`].
    pub fn from_bytes([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> Insn {
        let code = u16::from_ne_bytes([c0, c1]);
        Insn { code, jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
    }
}

/// How a node is entered: with its word in the accumulator, or without.
#[derive(Debug, Clone, Copy, Default)]
struct Entries {
    loaded: bool,
    bare: bool,
}

/// Where a node's code begins, counted from the end of the program.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    loaded: usize,
    bare: usize,
}

/// Assembles the graph under `root`.
pub fn assemble(tree: &DecisionTree, root: Id) -> Result<Vec<Insn>> {
    let nodes = tree.nodes();
    let entries = entries(nodes, root);
    let mut code = Backwards { code: Vec::new(), places: vec![Place::default(); nodes.len()] };
    // Children have smaller numbers, so they are in place before anything jumps to them.
    for (id, node) in nodes.iter().enumerate() {
        if entries[id].loaded || entries[id].bare {
            code.node(nodes, id, *node, entries[id]);
        }
        if code.code.len() > MAX_INSNS {
            return Err(Error::new(format!("more than {MAX_INSNS} instructions"))
                .hint("the kernel accepts no larger program; use fewer conditions on arguments"));
        }
    }
    if let Node::Answer(value) = nodes[root as usize] {
        code.push(RET, 0, 0, value);
    }
    code.code.reverse();
    Ok(code.code)
}

/// Which nodes can be reached, and how.
fn entries(nodes: &[Node], root: Id) -> Vec<Entries> {
    let mut entries = vec![Entries::default(); nodes.len()];
    entries[root as usize].bare = true;
    for id in (0..nodes.len()).rev() {
        if !(entries[id].loaded || entries[id].bare) {
            continue;
        }
        if let Node::Test { yes, no, .. } = nodes[id] {
            for next in [yes, no] {
                let entry = &mut entries[next as usize];
                match keeps_word(nodes, id, next) {
                    true => entry.loaded = true,
                    false => entry.bare = true,
                }
            }
        }
    }
    entries
}

/// After the test `from`, is the word that `to` asks about still in the accumulator? An answer
/// needs none.
fn keeps_word(nodes: &[Node], from: usize, to: Id) -> bool {
    match (nodes[from], nodes[to as usize]) {
        (Node::Test { test, .. }, Node::Test { test: next, .. }) => {
            test.word == next.word && !matches!(test.ask, Ask::Masked(..))
        }
        _ => false,
    }
}

struct Backwards {
    /// The last instruction first.
    code: Vec<Insn>,
    places: Vec<Place>,
}

impl Backwards {
    fn node(&mut self, nodes: &[Node], id: usize, node: Node, entries: Entries) {
        let (test, yes, no) = match node {
            // Written where it is first needed.
            Node::Answer(_) => return,
            Node::Test { test, yes, no } => (test, yes, no),
        };
        for next in [yes, no] {
            self.bring_near(nodes, next, keeps_word(nodes, id, next));
        }
        let jump = |next| self.distance(next, keeps_word(nodes, id, next)) as u8;
        let (jt, jf) = (jump(yes), jump(no));
        match test.ask {
            Ask::Eq(k) => self.push(JEQ, jt, jf, k),
            Ask::Ge(k) => self.push(JGE, jt, jf, k),
            Ask::Gt(k) => self.push(JGT, jt, jf, k),
            Ask::Any(bits) => self.push(JSET, jt, jf, bits),
            Ask::Masked(mask, value) => {
                self.push(JEQ, jt, jf, value);
                self.push(AND, 0, 0, mask);
            }
        }
        self.places[id].loaded = self.code.len();
        if entries.bare {
            self.push(LD, 0, 0, u32::from(test.word));
            self.places[id].bare = self.code.len();
        }
    }

    /// Instructions between the next one to be written and the node.
    fn distance(&self, id: Id, loaded: bool) -> usize {
        let place = self.places[id as usize];
        self.code.len() - if loaded { place.loaded } else { place.bare }
    }

    /// Makes sure that the jump written next reaches the node, even if its other branch needs an
    /// instruction in between.
    fn bring_near(&mut self, nodes: &[Node], id: Id, loaded: bool) {
        let distance = self.distance(id, loaded);
        // 0 is not a place: the last instruction is at 1.
        if distance < 255 && distance < self.code.len() {
            return;
        }
        match nodes[id as usize] {
            Node::Answer(value) => self.push(RET, 0, 0, value),
            Node::Test { .. } => self.push(JA, 0, 0, distance as u32),
        }
        // What is written next is nearer to this one, too.
        let here = self.code.len();
        let place = &mut self.places[id as usize];
        match loaded {
            true => place.loaded = here,
            false => place.bare = here,
        }
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code.push(Insn { code, jt, jf, k });
    }
}
