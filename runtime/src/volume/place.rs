//! Which device is the member of which array, so that the loss of a server is the loss of as few
//! copies as possible: no two members with the same data are on one server, and of an array with
//! parity, no server has more members than may be lost. Pure.
//!
//! A device of this machine is a place of its own: if this machine is lost, so is the user of the
//! volume. Whether a shape can be placed depends only on how many devices each server has (the
//! condition of Hall's theorem is a single inequality here), so a refusal names the server.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::layout::{RaidLayout, Shape};
use crate::error::{Error, Result};

/// The devices of each array, as positions in the list of devices, in the order of md's slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The shape of it.
    pub shape: Shape,
    /// An array each.
    pub arrays: Vec<Vec<usize>>,
}

/// What can still be lost, whichever it is, before data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Losses {
    /// Devices.
    pub devices: u32,
    /// Servers; `None`: all of them, as this machine has all the data.
    pub servers: Option<u32>,
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |count: u32, what: &str| match count {
            0 => format!("no {what}"),
            1 => format!("any 1 {what}"),
            count => format!("any {count} {what}s"),
        };
        f.write_str(&many(self.devices, "device"))?;
        match self.servers {
            Some(servers) => write!(f, " or {}", many(servers, "server")),
            None => Ok(()),
        }
    }
}

impl Places {
    /// Places devices on these servers; `None` is this machine. Devices keep their order as far as
    /// possible: the first of each server are the members of the first array.
    ///
    /// # Errors
    /// It cannot be done; the error says which server has too many.
    pub fn find(shape: Shape, servers: &[Option<&str>]) -> Result<Places> {
        let arrays = shape.arrays as usize;
        let groups = by_server(servers);
        check(shape, servers, &groups)?;
        // Dealt out like cards, server by server: no array gets more of a server than its share.
        let mut places = vec![Vec::new(); arrays];
        for (turn, device) in groups.iter().flatten().enumerate() {
            places[turn % arrays].push(*device);
        }
        for array in &mut places {
            if shape.members > shape.copies && shape.is_raid10() {
                *array = rotate_apart(shape, array, servers);
            }
        }
        Ok(Places { shape, arrays: places })
    }

    /// Whether members that stand in for each other are apart on these servers: that no server has
    /// more of them than may be lost.
    ///
    /// # Errors
    /// They are not; the error says which server has too many.
    pub fn check_apart(&self, servers: &[Option<&str>]) -> Result<()> {
        let most = match self.shape.layout {
            RaidLayout::Raid5 | RaidLayout::Raid6 => self.shape.redundancy() as usize,
            _ => 1,
        };
        for (number, array) in self.arrays.iter().enumerate() {
            for set in self.shape.sets() {
                let of: Vec<&str> = set.iter().filter_map(|slot| servers[array[*slot]]).collect();
                let count = |server| of.iter().filter(|other| **other == server).count();
                if let Some(server) = of.iter().find(|server| count(**server) > most) {
                    return Err(Error::new(format!(
                        "server {server} would have {} members of array {} with the same data",
                        count(*server),
                        number + 1
                    ))
                    .hint("take a device of a server that has none of them"));
                }
            }
        }
        Ok(())
    }

    /// What can be lost of what is left; `None`: data is lost already. `lost` says it of a device,
    /// by its position.
    pub fn losses(&self, servers: &[Option<&str>], lost: &dyn Fn(usize) -> bool) -> Option<Losses> {
        let sets = self.shape.sets();
        let mut least = Losses { devices: u32::MAX, servers: None };
        for (array, set) in
            self.arrays.iter().flat_map(|array| sets.iter().map(move |set| (array, set)))
        {
            let devices = set.iter().map(|slot| array[*slot]);
            let alive: Vec<usize> = devices.filter(|device| !lost(*device)).collect();
            let gone = (set.len() - alive.len()) as u32;
            let spare = self.shape.redundancy().checked_sub(gone)?;
            // Those that have most go first.
            let mut counts = counts_by_server(&alive, servers);
            counts.sort_unstable_by_key(|count| Reverse(*count));
            let sums = counts.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            });
            let fatal = sums.take_while(|sum| *sum <= spare).count();
            let survived = (fatal < counts.len()).then_some(fatal as u32);
            least.devices = least.devices.min(spare);
            least.servers = least.servers.into_iter().chain(survived).min();
        }
        Some(least)
    }
}

impl Shape {
    fn is_raid10(self) -> bool {
        matches!(self.layout, RaidLayout::Offset | RaidLayout::Near | RaidLayout::Far)
    }

    /// The sets of slots of one array that stand in for each other: all of them, or, in RAID-10,
    /// those that have the same chunks.
    pub fn sets(self) -> Vec<Vec<usize>> {
        let (members, copies) = (self.members as usize, self.copies as usize);
        if !self.is_raid10() {
            return vec![(0..members).collect()];
        }
        // With near copies, chunk number i begins at slot i * copies; else at each slot.
        let step = if self.layout == RaidLayout::Near { copies } else { 1 };
        let mut begins: Vec<usize> = (0..members).map(|chunk| chunk * step % members).collect();
        begins.sort_unstable();
        begins.dedup();
        let set = |begin| (begin..begin + copies).map(|slot| slot % members).collect();
        begins.into_iter().map(set).collect()
    }

    /// How many members of one array a server may have.
    pub fn share(self) -> u32 {
        match self.layout {
            RaidLayout::Raid5 | RaidLayout::Raid6 => self.redundancy(),
            _ => self.members / self.copies,
        }
    }
}

/// The devices of each server, in the order in which the servers are first named; those of this
/// machine one by one.
fn by_server(servers: &[Option<&str>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    for (device, server) in servers.iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| server.is_some() && known == server) {
            Some((_, devices)) => devices.push(device),
            None => groups.push((*server, vec![device])),
        }
    }
    groups.into_iter().map(|(_, devices)| devices).collect()
}

/// How many of these devices each server has, without those of this machine.
fn counts_by_server(devices: &[usize], servers: &[Option<&str>]) -> Vec<u32> {
    let remote: Vec<Option<&str>> =
        devices.iter().map(|device| servers[*device]).filter(Option::is_some).collect();
    by_server(&remote).iter().map(|group| group.len() as u32).collect()
}

fn check(shape: Shape, servers: &[Option<&str>], groups: &[Vec<usize>]) -> Result<()> {
    let devices = shape.arrays as usize * shape.members as usize;
    if servers.len() != devices {
        return Err(Error::new(format!("{} devices for {devices} places", servers.len())));
    }
    let most = shape.arrays as usize * shape.share() as usize;
    let Some(group) =
        groups.iter().filter(|group| group.len() > most).min_by_key(|g| Reverse(g.len()))
    else {
        return Ok(());
    };
    let server = servers[group[0]].unwrap_or("this machine");
    let so_that = match shape.layout {
        RaidLayout::Raid5 => "its loss takes one member of each array at most",
        RaidLayout::Raid6 => "its loss takes two members of each array at most",
        _ => "it has one copy of everything at most",
    };
    Err(Error::new(format!(
        "server {server} has {} of {devices} devices, and may have {most}, so that {so_that}",
        group.len()
    ))
    .hint(format!("spread them over {} servers or more", devices.div_ceil(most))))
}

/// Orders the members of a RAID-10 array with more members than copies, so that any `copies`
/// neighbours (around the end too) are on different servers. A server has no more members than
/// there are rows of at least `copies` slots. These rows are filled column by column, those
/// servers first that have a member in each row: so a server that continues in the next column is
/// at least two rows away.
fn rotate_apart(shape: Shape, array: &[usize], servers: &[Option<&str>]) -> Vec<usize> {
    let of: Vec<Option<&str>> = array.iter().map(|device| servers[*device]).collect();
    let mut groups = by_server(&of);
    groups.sort_by_key(|group| Reverse(group.len()));
    let rows = (shape.members / shape.copies) as usize;
    let (length, longer) = (array.len() / rows, array.len() % rows);
    let begin = |row: usize| row * length + row.min(longer);
    let mut slots = vec![0; array.len()];
    let cells = (0..=length).flat_map(|column| {
        (0..rows).filter(move |row| column < length || *row < longer).map(move |row| (row, column))
    });
    for ((row, column), member) in cells.zip(groups.into_iter().flatten()) {
        slots[begin(row) + column] = array[member];
    }
    slots
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::volume::layout::AskedShape;

    /// xorshift64*: the same shapes in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % most
        }
    }

    /// Which slots have each chunk, as md(4) says it.
    fn copies(shape: Shape) -> Vec<Vec<usize>> {
        let (members, copies) = (shape.members as usize, shape.copies as usize);
        let chunk = |chunk: usize| -> Vec<usize> {
            let slot = |copy| match shape.layout {
                RaidLayout::Near => (chunk * copies + copy) % members,
                _ => (chunk + copy) % members,
            };
            (0..copies).map(slot).collect()
        };
        match shape.layout {
            RaidLayout::Near | RaidLayout::Offset | RaidLayout::Far => {
                (0..members * copies).map(chunk).collect()
            }
            _ => vec![(0..members).collect()],
        }
    }

    /// Whether a server with these members is one too many, told from the chunks.
    fn is_apart(shape: Shape, array: &[Option<&str>]) -> bool {
        let parity = matches!(shape.layout, RaidLayout::Raid5 | RaidLayout::Raid6);
        copies(shape).iter().all(|slots| {
            let remote: Vec<&str> = slots.iter().filter_map(|slot| array[*slot]).collect();
            let most = if parity { shape.redundancy() as usize } else { 1 };
            remote.iter().all(|one| remote.iter().filter(|other| *other == one).count() <= most)
        })
    }

    /// Whether there is any way at all: tries every order of servers.
    fn can_be(
        shape: Shape,
        done: &mut Vec<Option<&'static str>>,
        left: &mut [(Option<&'static str>, usize)],
    ) -> bool {
        let members = shape.members as usize;
        if done.len().is_multiple_of(members) && !done.is_empty() {
            let last = &done[done.len() - members..];
            if !is_apart(shape, last) {
                return false;
            }
            if done.len() == members * shape.arrays as usize {
                return true;
            }
        }
        for at in 0..left.len() {
            if left[at].1 > 0 {
                left[at].1 -= 1;
                done.push(left[at].0);
                let found = can_be(shape, done, left);
                done.pop();
                left[at].1 += 1;
                if found {
                    return true;
                }
            }
        }
        false
    }

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const LAYOUTS: [RaidLayout; 6] = [
        RaidLayout::Mirror,
        RaidLayout::Offset,
        RaidLayout::Near,
        RaidLayout::Far,
        RaidLayout::Raid5,
        RaidLayout::Raid6,
    ];

    /// A shape of up to so many devices, on servers of which some are this machine.
    fn any(dice: &mut Dice, most: usize) -> (Shape, Vec<Option<&'static str>>) {
        loop {
            let layout = LAYOUTS[dice.below(LAYOUTS.len())];
            let parity = matches!(layout, RaidLayout::Raid5 | RaidLayout::Raid6);
            let asked = AskedShape {
                layout,
                mirrors: (!parity).then(|| 2 + dice.below(3) as u32),
                stripes: Some(1 + dice.below(most.min(6)) as u32),
            };
            let Ok(shape) = asked.of(1 + dice.below(most)) else { continue };
            let count = 1 + dice.below(NAMES.len());
            let local = dice.below(4) == 0;
            let server = |_| match dice.below(count + 1) {
                0 if local => None,
                at => Some(NAMES[at % count]),
            };
            return (shape, (0..shape.arrays * shape.members).map(server).collect());
        }
    }

    fn servers_of(
        places: &Places,
        servers: &[Option<&'static str>],
    ) -> Vec<Vec<Option<&'static str>>> {
        let of = |array: &Vec<usize>| array.iter().map(|device| servers[*device]).collect();
        places.arrays.iter().map(of).collect()
    }

    /// Whether data is lost with these devices, told from the chunks.
    fn is_lost(places: &Places, lost: &dyn Fn(usize) -> bool) -> bool {
        let shape = places.shape;
        let parity = matches!(shape.layout, RaidLayout::Raid5 | RaidLayout::Raid6);
        places.arrays.iter().any(|array| {
            copies(shape).iter().any(|slots| {
                let gone = slots.iter().filter(|slot| lost(array[**slot])).count();
                gone > if parity { shape.redundancy() as usize } else { slots.len() - 1 }
            })
        })
    }

    #[test]
    fn the_topology_of_the_blog_is_one_volume_of_each_server_in_each_mirror() {
        let asked = AskedShape { mirrors: Some(3), stripes: Some(5), ..AskedShape::default() };
        let servers: Vec<Option<&str>> = (0..15).map(|at| Some(NAMES[at / 5])).collect();
        let places = Places::find(asked.of(15).unwrap(), &servers).unwrap();
        assert_eq!(places.arrays, [[0, 5, 10], [1, 6, 11], [2, 7, 12], [3, 8, 13], [4, 9, 14]]);
        assert_eq!(
            places.losses(&servers, &|_| false),
            Some(Losses { devices: 2, servers: Some(2) })
        );
        let first = |device| device < 5;
        assert_eq!(places.losses(&servers, &first), Some(Losses { devices: 1, servers: Some(1) }));
        assert_eq!(
            places.losses(&servers, &|device| device < 10),
            Some(Losses { devices: 0, servers: Some(0) })
        );
        assert_eq!(places.losses(&servers, &|device| device % 5 == 2), None);
    }

    #[test]
    fn a_server_with_too_many_devices_is_named() {
        let asked = AskedShape { mirrors: Some(3), stripes: Some(5), ..AskedShape::default() };
        let servers: Vec<Option<&str>> = (0..15).map(|at| Some(NAMES[(at / 6).min(2)])).collect();
        let refused = Places::find(asked.of(15).unwrap(), &servers).unwrap_err().to_string();
        assert_eq!(
            refused,
            "server a has 6 of 15 devices, and may have 5, so that it has one copy of everything at \
             most; spread them over 3 servers or more"
        );
    }

    #[test]
    fn no_data_has_two_members_on_one_server_in_any_shape() {
        let (mut placed, mut dice) = (0, Dice(13));
        for _ in 0..20_000 {
            let (shape, servers) = any(&mut dice, 60);
            let Ok(places) = Places::find(shape, &servers) else { continue };
            placed += 1;
            let all: BTreeSet<usize> = places.arrays.iter().flatten().copied().collect();
            assert_eq!(all.len(), servers.len(), "each device once: {places:?}");
            for array in servers_of(&places, &servers) {
                assert_eq!(array.len(), shape.members as usize);
                assert!(is_apart(shape, &array), "{shape:?}: {array:?}");
            }
        }
        assert!(placed > 2000, "only {placed} shapes were placed");
    }

    #[test]
    fn a_place_may_be_taken_exactly_if_the_chunks_stay_apart() {
        let mut dice = Dice(0x5EED_0008);
        let (mut taken, mut refused) = (0, 0);
        while taken + refused < 5_000 {
            let (shape, mut servers) = any(&mut dice, 12);
            let Ok(places) = Places::find(shape, &servers) else { continue };
            assert!(places.check_apart(&servers).is_ok(), "{shape:?}: {servers:?}");
            let other = servers[dice.below(servers.len())];
            let at = dice.below(servers.len());
            servers[at] = other;
            let arrays = servers_of(&places, &servers);
            let apart = arrays.iter().all(|array| is_apart(shape, array));
            assert_eq!(places.check_apart(&servers).is_ok(), apart, "{shape:?}: {servers:?}");
            if apart { taken += 1 } else { refused += 1 }
        }
        assert!(taken > 500 && refused > 500, "{taken} {refused}");
    }

    #[test]
    fn a_shape_is_refused_only_if_no_order_of_servers_does() {
        let (mut refused, mut dice) = (0, Dice(14));
        for _ in 0..1500 {
            let (shape, servers) = any(&mut dice, 8);
            let mut left: Vec<(Option<&str>, usize)> = Vec::new();
            for server in &servers {
                match left.iter_mut().find(|(known, _)| known == server) {
                    Some((_, count)) => *count += 1,
                    None => left.push((*server, 1)),
                }
            }
            let found = Places::find(shape, &servers);
            let possible = can_be(shape, &mut Vec::new(), &mut left);
            assert_eq!(found.is_ok(), possible, "{shape:?} on {servers:?}");
            refused += usize::from(!possible);
        }
        assert!((150..1350).contains(&refused), "{refused} shapes of 1500 were refused");
    }

    #[test]
    fn the_losses_that_are_said_to_be_survived_are_and_one_more_is_not() {
        let mut dice = Dice(15);
        let mut seen = 0;
        while seen < 1500 {
            let (shape, servers) = any(&mut dice, 9);
            let Ok(places) = Places::find(shape, &servers) else { continue };
            seen += 1;
            let already = dice.below(1 << servers.len()) & dice.below(1 << servers.len());
            let lost = |device: usize| already >> device & 1 == 1;
            let said = places.losses(&servers, &lost);
            // The least number of further devices, and of servers, whose loss is one of data.
            let fatal = |units: &[usize]| -> Option<u32> {
                let sets = (0..1_usize << units.len()).filter(|set| {
                    let all = units.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
                    let mask = all.fold(already, |mask, (_, unit)| mask | unit);
                    is_lost(&places, &|device| mask >> device & 1 == 1)
                });
                sets.map(|set| set.count_ones()).min()
            };
            let devices: Vec<usize> =
                (0..servers.len()).filter(|device| !lost(*device)).map(|at| 1 << at).collect();
            let names: BTreeSet<&str> = servers.iter().flatten().copied().collect();
            let alive = |name: &&str| -> usize {
                let of = |device: &usize| servers[*device] == Some(name) && !lost(*device);
                (0..servers.len()).filter(of).map(|device| 1 << device).sum()
            };
            let by_server: Vec<usize> = names.iter().map(alive).filter(|mask| *mask != 0).collect();
            match said {
                None => assert_eq!(fatal(&[]), Some(0), "{places:?}"),
                Some(said) => {
                    assert_eq!(fatal(&devices), Some(said.devices + 1), "{places:?}");
                    assert_eq!(fatal(&by_server), said.servers.map(|n| n + 1), "{places:?}");
                }
            }
        }
    }
}
