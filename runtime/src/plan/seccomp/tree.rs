//! The decision: a graph of tests on 32-bit words of `struct seccomp_data`, with answers as leaves.
//!
//! Nodes are built from the leaves up and equal nodes are one node, so a node's children have
//! smaller numbers than the node itself, equal outcomes of different calls are the same node, and
//! merging neighbouring calls of equal outcome is a comparison of two numbers.

use std::collections::HashMap;

use super::syscalls::COMMON;
use crate::config::seccomp::{Arg, Op};
use crate::{Error, Result};

/// Offset of the system call number in `struct seccomp_data` (<linux/seccomp.h>).
pub const NR: u8 = 0;
/// Offset of the audit architecture.
pub const ARCH: u8 = 4;

/// Offset of the low half of an argument (little endian).
pub fn low(argument: u32) -> u8 {
    16 + 8 * (argument & 7) as u8
}

/// Offset of the high half of an argument.
pub fn high(argument: u32) -> u8 {
    low(argument) + 4
}

/// A node, by its number.
pub type Id = u32;

/// A question about one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Test {
    /// Offset of the word.
    pub word: u8,
    /// What is asked.
    pub ask: Ask,
}

/// The questions classic BPF can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Equal.
    Eq(u32),
    /// Greater or equal.
    Ge(u32),
    /// Greater.
    Gt(u32),
    /// One of these bits is set.
    Any(u32),
    /// Masked with the first, equal to the second.
    Masked(u32, u32),
}

impl Ask {
    fn holds(self, word: u32) -> bool {
        match self {
            Ask::Eq(k) => word == k,
            Ask::Ge(k) => word >= k,
            Ask::Gt(k) => word > k,
            Ask::Any(bits) => word & bits != 0,
            Ask::Masked(mask, value) => word & mask == value,
        }
    }
}

/// A test with two branches, or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// The filter's return value.
    Answer(u32),
    /// A question and where its answers lead.
    Test {
        /// The question.
        test: Test,
        /// The branch for yes.
        yes: Id,
        /// The branch for no.
        no: Id,
    },
}

/// More nodes than the largest program could hold, however much is shared: too large a profile.
const MAX_NODES: usize = 1 << 16;

/// The graph.
#[derive(Default)]
pub struct DecisionTree {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
}

/// What is known on the way to a node.
type Facts = Vec<(Test, bool)>;

impl DecisionTree {
    /// All nodes; children come before their parents.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A leaf.
    pub fn answer(&mut self, value: u32) -> Id {
        self.node(Node::Answer(value))
    }

    /// A test, unless both branches are the same.
    pub fn test(&mut self, test: Test, yes: Id, no: Id) -> Id {
        if yes == no {
            return yes;
        }
        // Two sets of bits with the same outcome are one set of bits.
        if let (Ask::Any(bits), Node::Test { test: next, yes: next_yes, no: next_no }) =
            (test.ask, self.nodes[no as usize])
            && let Ask::Any(more) = next.ask
            && next.word == test.word
            && next_yes == yes
        {
            let both = Test { word: test.word, ask: Ask::Any(bits | more) };
            return self.node(Node::Test { test: both, yes, no: next_no });
        }
        self.node(Node::Test { test, yes, no })
    }

    fn node(&mut self, node: Node) -> Id {
        *self.ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            (self.nodes.len() - 1) as Id
        })
    }

    /// Which of `ranges` the call number is in. They are sorted by their first number, begin with
    /// 0, and neighbours differ.
    ///
    /// A bisection by weight: a number below [`COMMON`] weighs one, so a call costs about
    /// log2(ranges) tests, and wide ranges (runs of allowed calls) come sooner.
    pub fn search(&mut self, ranges: &[(u32, Id)]) -> Id {
        self.bisect(ranges, COMMON)
    }

    /// The search in a part of the ranges that ends before `end`.
    fn bisect(&mut self, ranges: &[(u32, Id)], end: u32) -> Id {
        match *ranges {
            [] => unreachable!("a search has at least one range"),
            [(_, only)] => return only,
            // One number that differs from its surroundings: equality tests both ends at once.
            [(_, around), (one, inside), (next, after)] if next == one + 1 && after == around => {
                return self.test(Test { word: NR, ask: Ask::Eq(one) }, inside, around);
            }
            _ => {}
        }
        let clip = |at: usize| ranges.get(at).map_or(end, |range| range.0).min(COMMON);
        // One for the range itself: it must be found, too.
        let weight = |at: usize| 1 + clip(at + 1) - clip(at);
        let total: u32 = (0..ranges.len()).map(weight).sum();
        let (mut at, mut left) = (1, weight(0));
        while at + 1 < ranges.len() && 2 * left + weight(at) < total {
            left += weight(at);
            at += 1;
        }
        let middle = ranges[at].0;
        let (no, yes) = (self.bisect(&ranges[..at], middle), self.bisect(&ranges[at..], end));
        self.test(Test { word: NR, ask: Ask::Ge(middle) }, yes, no)
    }

    /// `then` if all conditions hold, else on to `next`. With `wide`, arguments have 64 bits, else
    /// only the low halves are compared.
    ///
    /// What earlier tests have settled is not asked again in `next`, so a list of values for one
    /// argument becomes one look at the high half and a chain on the low one.
    pub fn clause(&mut self, args: &[Arg], wide: bool, then: Id, next: Id) -> Result<Id> {
        if self.nodes.len() > MAX_NODES {
            return Err(Error::new(format!("the conditions need more than {MAX_NODES} tests")));
        }
        Ok(self.all(args, wide, then, next, &mut Facts::new()))
    }

    fn all(&mut self, args: &[Arg], wide: bool, then: Id, next: Id, facts: &mut Facts) -> Id {
        let Some((arg, rest)) = args.split_first() else { return then };
        let goals = Goals { rest, wide, then, next };
        let (word, top) = (low(arg.index), high(arg.index));
        let [lo, hi] = halves(arg.value);
        match arg.op {
            Op::Eq => self.equal(*arg, &goals, facts, true),
            Op::Ne => self.equal(*arg, &goals, facts, false),
            Op::Ge => self.order(top, hi, Test { word, ask: Ask::Ge(lo) }, &goals, facts, true),
            Op::Lt => self.order(top, hi, Test { word, ask: Ask::Ge(lo) }, &goals, facts, false),
            Op::Gt => self.order(top, hi, Test { word, ask: Ask::Gt(lo) }, &goals, facts, true),
            Op::Le => self.order(top, hi, Test { word, ask: Ask::Gt(lo) }, &goals, facts, false),
            Op::MaskedEq => self.equal(*arg, &goals, facts, true),
        }
    }

    /// (argument & mask) == value, or with `sense` false its opposite.
    fn equal(&mut self, arg: Arg, goals: &Goals, facts: &mut Facts, sense: bool) -> Id {
        let (mask, value) = match arg.op {
            Op::MaskedEq => (arg.value, arg.value_two & arg.value),
            _ => (u64::MAX, arg.value),
        };
        let [mask_lo, mask_hi] = halves(mask);
        let [value_lo, value_hi] = halves(value);
        let second = same_bits(low(arg.index), mask_lo, value_lo);
        let first = same_bits(high(arg.index), mask_hi, value_hi).filter(|_| goals.wide);
        self.both(first, second, goals, facts, sense)
    }

    fn both(
        &mut self,
        first: Option<(Test, bool)>,
        second: Option<(Test, bool)>,
        goals: &Goals,
        facts: &mut Facts,
        sense: bool,
    ) -> Id {
        let Some((test, wanted)) = first else {
            return match second {
                Some(_) => self.both(second, None, goals, facts, sense),
                None => self.outcome(sense, goals, facts),
            };
        };
        facts.push((test, wanted));
        let met = self.both(second, None, goals, facts, sense);
        facts.pop();
        facts.push((test, !wanted));
        let missed = self.outcome(!sense, goals, facts);
        facts.pop();
        if wanted { self.test(test, met, missed) } else { self.test(test, missed, met) }
    }

    /// argument >= value or > value (as the test on the low half says), or its opposite.
    fn order(
        &mut self,
        top: u8,
        hi: u32,
        low: Test,
        goals: &Goals,
        facts: &mut Facts,
        sense: bool,
    ) -> Id {
        if !goals.wide {
            return self.both(Some((low, true)), None, goals, facts, sense);
        }
        let above = Test { word: top, ask: Ask::Gt(hi) };
        let equal = Test { word: top, ask: Ask::Eq(hi) };
        facts.push((above, true));
        let yes = self.outcome(sense, goals, facts);
        facts.pop();
        facts.push((above, false));
        let no = self.both(Some((equal, true)), Some((low, true)), goals, facts, sense);
        facts.pop();
        self.test(above, yes, no)
    }

    /// One condition is settled: continue with the rest of its clause, or with the next clause.
    fn outcome(&mut self, holds: bool, goals: &Goals, facts: &mut Facts) -> Id {
        if holds {
            self.all(goals.rest, goals.wide, goals.then, goals.next, facts)
        } else {
            self.skip(goals.next, facts)
        }
    }

    /// Follows the tests from `at` on whose outcome is known.
    fn skip(&self, mut at: Id, facts: &Facts) -> Id {
        while let Node::Test { test, yes, no } = self.nodes[at as usize] {
            match facts.iter().find_map(|fact| implied(*fact, test)) {
                Some(true) => at = yes,
                Some(false) => at = no,
                None => break,
            }
        }
        at
    }
}

/// Where a condition leads.
struct Goals<'a> {
    rest: &'a [Arg],
    wide: bool,
    then: Id,
    next: Id,
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// The cheapest question for "these bits of the word are so", and the answer that means yes. `None`
/// if there is nothing to ask.
fn same_bits(word: u8, mask: u32, value: u32) -> Option<(Test, bool)> {
    let (ask, wanted) = match (mask, value) {
        (0, _) => return None,
        (u32::MAX, _) => (Ask::Eq(value), true),
        (_, 0) => (Ask::Any(mask), false),
        _ if mask.is_power_of_two() => (Ask::Any(mask), true),
        _ => (Ask::Masked(mask, value), true),
    };
    Some((Test { word, ask }, wanted))
}

/// What a fact says about a test.
fn implied((known, holds): (Test, bool), test: Test) -> Option<bool> {
    if known == test {
        return Some(holds);
    }
    match (known.word == test.word, known.ask, holds) {
        (true, Ask::Eq(value), true) => Some(test.ask.holds(value)),
        _ => None,
    }
}
