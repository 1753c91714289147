//! Connections whose end the kernel reports, and that were never seen open: shorter than the time
//! between two looks at the descriptors. The kernel's last report has the counters and both
//! addresses, but not the owner. So the endpoints decide: a port that the target listens on is its
//! own, and so is an address it was seen connected to, unless others are connected there too.
//!
//! An endpoint at which no process was ever seen is on trial: what ends there counts as the
//! target's as long as nothing of the kind ends while the target is idle. If other processes do the
//! same, a target that pays for them is soon stopped for long enough to reveal it; it then gets
//! back what it has paid, and from then on such connections are not counted, and this is reported.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::traffic::Traffic;

/// A port and an address, as in an inet_diag_sockid; IPv4 in its place in IPv6.
pub type End = [u8; 18];

/// One socket, as in a list of all.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Constant for its whole life.
    pub cookie: u64,
    /// 0: no process has it open.
    pub inode: u64,
    /// Whether it waits for connections.
    pub listens: bool,
    /// The local port.
    pub port: u16,
    /// The other end.
    pub end: End,
}

/// Which process owned a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Others,
    Either,
    Unknown,
}

/// What is known of one network namespace.
#[derive(Debug, Default)]
pub struct Strays {
    ports: [BTreeSet<u16>; 2],
    ends: [BTreeSet<End>; 2],
    /// Sockets that were not the target's, as of the last list; and those that certainly are not.
    others: HashSet<u64>,
    lasting: HashSet<u64>,
    /// A list made before the last look at the descriptors.
    list: Option<Vec<Seen>>,
    listed_before: bool,
    /// Connections to endpoints about which nothing is known yet: how many, and what they have
    /// moved.
    unknown: BTreeMap<End, (u64, Traffic)>,
    either: (u64, Traffic),
    /// Whether other processes have short connections here too.
    others_too: bool,
    /// How often something has ended at one of the target's endpoints while it was idle: after a
    /// few times, other processes evidently connect there as well.
    idle_ends: BTreeMap<End, u32>,
}

/// Indices into the arrays.
const OURS: usize = 0;
const OTHERS: usize = 1;

impl Strays {
    /// A socket of the target; returns what uncounted connections to its endpoint have moved.
    pub fn ours(&mut self, seen: &Seen) -> Traffic {
        if seen.listens {
            self.ports[OURS].insert(seen.port);
            return Traffic::default();
        }
        // The other end of an incoming connection may belong to any process.
        if self.ports[OURS].contains(&seen.port) || !self.ends[OURS].insert(seen.end) {
            return Traffic::default();
        }
        match self.whose(seen) {
            Whose::Ours => self.unknown.remove(&seen.end).unwrap_or_default().1,
            _ => Traffic::default(),
        }
    }

    /// All existing sockets, in which the next look at the descriptors tells the target's from the
    /// others.
    pub fn list(&mut self, list: Vec<Seen>) {
        self.list = Some(list);
    }

    /// The descriptors were read: what of the list is open there is the target's. What is not may
    /// have been closed by the target in between, unless it was in the previous list as well.
    pub fn looked(&mut self, is_ours: impl Fn(u64) -> bool) {
        let Some(list) = self.list.take() else { return };
        let first = !std::mem::replace(&mut self.listed_before, true);
        self.ports[OTHERS].clear();
        self.ends[OTHERS].clear();
        let mut others = HashSet::new();
        for seen in list.into_iter().filter(|seen| !is_ours(seen.inode)) {
            if seen.listens {
                self.ports[OTHERS].insert(seen.port);
            } else if self.others.contains(&seen.cookie) {
                self.ends[OTHERS].insert(seen.end);
            } else if seen.inode == 0 && !first {
                // No process has it open any more: it is about to end.
                continue;
            }
            others.insert(seen.cookie);
        }
        self.lasting = others.intersection(&self.others).copied().collect();
        self.others = others;
        if first {
            self.lasting.clone_from(&self.others);
        }
    }

    /// A socket that was not followed has ended; returns what of it is certainly the target's.
    /// `idle`: the target has been idle for so long that it cannot have closed it.
    pub fn ended(&mut self, seen: &Seen, moved: Traffic, idle: bool) -> Traffic {
        const MANY: usize = 4096;
        if moved == Traffic::default() || self.lasting.contains(&seen.cookie) {
            return Traffic::default();
        }
        let whose = self.whose(seen);
        if idle && whose == Whose::Ours && !self.ports[OURS].contains(&seen.port) {
            *self.idle_ends.entry(seen.end).or_default() += 1;
        }
        self.others_too |= idle && whose == Whose::Unknown;
        let place = match whose {
            Whose::Ours => return moved,
            Whose::Others => return Traffic::default(),
            Whose::Unknown if self.unknown.len() < MANY => {
                self.unknown.entry(seen.end).or_default()
            }
            Whose::Either | Whose::Unknown => &mut self.either,
        };
        place.0 += 1;
        place.1 += moved;
        Traffic::default()
    }

    fn whose(&self, seen: &Seen) -> Whose {
        let ports = [OURS, OTHERS].map(|of| self.ports[of].contains(&seen.port));
        // One or two may have been slow to close.
        let often = self.idle_ends.get(&seen.end).is_some_and(|times| *times > 2);
        let ends = [OURS, OTHERS].map(|of| self.ends[of].contains(&seen.end));
        let ends = [ends[OURS], ends[OTHERS] || often];
        match if ports.contains(&true) { ports } else { ends } {
            [true, false] => Whose::Ours,
            [false, true] => Whose::Others,
            [true, true] => Whose::Either,
            [false, false] => Whose::Unknown,
        }
    }

    /// How many connections are not counted, as they may be others', and what they have moved.
    pub fn uncounted(&self) -> (u64, Traffic) {
        let unknown = if self.others_too { self.unknown() } else { Default::default() };
        add(self.either, &unknown)
    }

    /// What counts as long as no other process is known to have short connections.
    pub fn supposed(&self) -> Traffic {
        if self.others_too { Traffic::default() } else { self.unknown().1 }
    }

    fn unknown(&self) -> (u64, Traffic) {
        self.unknown.values().fold(Default::default(), add)
    }
}

fn add((count, mut sum): (u64, Traffic), (more, moved): &(u64, Traffic)) -> (u64, Traffic) {
    sum += *moved;
    (count + more, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cookie: u64, port: u16, end: u8) -> Seen {
        Seen { cookie, inode: cookie, listens: false, port, end: [end; 18] }
    }

    const MOVED: Traffic = Traffic { up: 1, down: 10 };
    const NOTHING: Traffic = Traffic { up: 0, down: 0 };

    #[test]
    fn an_end_that_the_target_was_seen_at_makes_the_others_there_its_own() {
        let mut strays = Strays { others_too: true, ..Strays::default() };
        assert_eq!(strays.ended(&seen(1, 4001, 7), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (1, MOVED));
        // Including those from before.
        assert_eq!(strays.ours(&seen(2, 4002, 7)), MOVED);
        assert_eq!(strays.uncounted(), (0, NOTHING));
        assert_eq!(strays.ended(&seen(3, 4003, 7), MOVED, false), MOVED);
        assert_eq!(strays.ended(&seen(4, 4004, 8), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (1, MOVED));
    }

    #[test]
    fn the_target_does_not_pay_for_what_ends_while_it_is_idle() {
        let mut strays = Strays::default();
        assert_eq!(strays.ended(&seen(1, 4001, 7), MOVED, false), NOTHING);
        assert_eq!((strays.supposed(), strays.uncounted()), (MOVED, (0, NOTHING)));
        // One that it was seen at may take its time.
        strays.ours(&seen(2, 4002, 8));
        assert_eq!(strays.ended(&seen(3, 4003, 8), MOVED, true), MOVED);
        assert_eq!(strays.supposed(), MOVED);
        strays.ended(&seen(4, 4004, 7), MOVED, true);
        assert_eq!(strays.supposed(), NOTHING);
        assert_eq!(strays.uncounted(), (2, Traffic { up: 2, down: 20 }));
    }

    #[test]
    fn an_end_at_which_things_happen_without_the_target_is_others_too() {
        let mut strays = Strays::default();
        strays.ours(&seen(1, 4001, 7));
        for cookie in 2..5 {
            assert_eq!(strays.ended(&seen(cookie, 4002, 7), MOVED, true), MOVED);
        }
        assert_eq!(strays.ended(&seen(6, 4003, 7), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (1, MOVED));
    }

    #[test]
    fn what_others_may_have_moved_is_not_counted() {
        let mut strays = Strays::default();
        strays.ours(&seen(1, 4001, 7));
        for list in [vec![5, 6, 7], vec![5, 6]] {
            let end = |cookie| if cookie == 5 { 7 } else { 8 };
            strays.list(list.into_iter().map(|cookie| seen(cookie, 5000, end(cookie))).collect());
            strays.looked(|inode| inode == 1);
        }
        // A socket that was there before is not the target's, wherever it leads.
        assert_eq!(strays.ended(&seen(6, 5001, 7), MOVED, false), NOTHING);
        assert_eq!(strays.ended(&seen(9, 5002, 8), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (0, NOTHING));
        // Both are connected there.
        assert_eq!(strays.ended(&seen(10, 5003, 7), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (1, MOVED));
    }

    #[test]
    fn what_comes_in_belongs_to_the_one_who_listens() {
        let mut strays = Strays::default();
        let listener = |inode, port| Seen { listens: true, ..seen(inode, port, 0) };
        strays.ours(&listener(1, 80));
        strays.list(vec![listener(1, 80), listener(2, 22)]);
        strays.looked(|inode| inode == 1);
        assert_eq!(strays.ended(&seen(3, 80, 9), MOVED, false), MOVED);
        assert_eq!(strays.ended(&seen(4, 22, 9), MOVED, false), NOTHING);
        assert_eq!(strays.uncounted(), (0, NOTHING));
    }
}
