//! What a volume is made of: how many arrays, of how many members each, which of them have the same
//! data, and how large all that is. Pure.
//!
//! A volume is one array, or a RAID-0 (the stripe) over several of equal shape. The arrays are
//! md(4)'s; of its RAID-10, the layouts in which each chunk has `copies` copies on as many members.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{Size, did_you_mean};
use crate::error::{Error, Result};

/// How the members of one array have the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RaidLayout {
    /// RAID-1: each member has everything. A single reader is served by one member.
    Mirror,
    /// RAID-10, `offset`: striped, with the copies in the next stripes, rotated by one member. All
    /// members serve reads. With three members this is known as RAID-1E.
    #[default]
    Offset,
    /// RAID-10, `near`: the copies of a chunk are at the same place of neighbouring members.
    Near,
    /// RAID-10, `far`: the copies are in another part of the next members. Reads like a stripe;
    /// writes seek.
    Far,
    /// One member's worth of parity.
    Raid5,
    /// Two.
    Raid6,
}

const LAYOUTS: [(&str, RaidLayout); 6] = [
    ("mirror", RaidLayout::Mirror),
    ("1e", RaidLayout::Offset),
    ("near", RaidLayout::Near),
    ("far", RaidLayout::Far),
    ("raid5", RaidLayout::Raid5),
    ("raid6", RaidLayout::Raid6),
];

impl FromStr for RaidLayout {
    type Err = Error;

    fn from_str(text: &str) -> Result<RaidLayout> {
        let known = LAYOUTS.iter().find(|(name, _)| *name == text);
        known.map(|(_, layout)| *layout).ok_or_else(|| {
            let error = Error::new(format!("layout {text:?}: not one of those there are"))
                .hint("write mirror, 1e, near, far, raid5 or raid6");
            did_you_mean(error, text, LAYOUTS.iter().map(|(name, _)| *name))
        })
    }
}

impl fmt::Display for RaidLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LAYOUTS.iter().find(|(_, layout)| layout == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Serialize for RaidLayout {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RaidLayout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RaidLayout, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The shape of a volume, as it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedShape {
    /// How the arrays have the data.
    pub layout: RaidLayout,
    /// The copies of everything: needed for mirrors, and without meaning for parity.
    pub mirrors: Option<u32>,
    /// How many arrays the data is striped over; without it, as many as there are mirrors of one
    /// copy each, and one array with parity.
    pub stripes: Option<u32>,
}

/// The shape of a volume that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How the arrays have the data.
    pub layout: RaidLayout,
    /// How many arrays there are; with more than one, a stripe is over them.
    pub arrays: u32,
    /// The members of each.
    pub members: u32,
    /// How many members have each chunk; 1 with parity.
    pub copies: u32,
}

/// md's limit for arrays with metadata 1.x.
const MOST_MEMBERS: u32 = 1920;
/// RAID-10 has a byte for the copies.
const MOST_COPIES: u32 = 255;

/// The part of a device that md takes for itself, and of an array that a stripe does, at least and
/// at most.
const LEAST_OFFSET: u64 = 1 << 20;
const MOST_OFFSET: u64 = 128 << 20;

const LEAST_CHUNK: u64 = 4 << 10;
const MOST_CHUNK: u64 = 64 << 20;

/// The sizes that follow from those of the devices, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Where the data begins on a member.
    pub offset: u64,
    /// What an array uses of each member after that: `mdadm --size`.
    pub member: u64,
    /// What each array holds.
    pub array: u64,
    /// Where the data of the stripe begins on an array; 0 without a stripe.
    pub stripe_offset: u64,
    /// What the stripe uses of each array after that; 0 without a stripe.
    pub stripe_member: u64,
    /// What the volume holds.
    pub volume: u64,
}

impl AskedShape {
    /// The shape that so many devices have.
    ///
    /// # Errors
    /// There is none.
    pub fn of(&self, devices: usize) -> Result<Shape> {
        let layout = self.layout;
        let devices = u32::try_from(devices).ok().filter(|devices| *devices > 0);
        let devices = devices.ok_or_else(|| Error::new("a volume needs devices"))?;
        let mirrored = !matches!(layout, RaidLayout::Raid5 | RaidLayout::Raid6);
        let copies = match (self.mirrors, mirrored) {
            (Some(copies), true) if (2..=MOST_COPIES).contains(&copies) => copies,
            (Some(copies), true) => {
                return Err(Error::new(format!("mirrors: not {copies}"))
                    .hint(format!("write the number of copies, from 2 to {MOST_COPIES}")));
            }
            (None, true) => {
                return Err(Error::new(format!("layout {layout} needs a number of copies"))
                    .hint("write --mirrors 2 or more"));
            }
            (Some(_), false) => {
                return Err(Error::new(format!("layout {layout} has parity instead of copies"))
                    .hint("leave --mirrors out"));
            }
            (None, false) => 1,
        };
        let arrays = match self.stripes {
            Some(0) => return Err(Error::new("stripes: not 0").hint("write 1 or more")),
            Some(stripes) => stripes,
            None if mirrored => (devices / copies).max(1),
            None => 1,
        };
        // Without a number of stripes, that of the copies is what has to go into the devices.
        let unit = if self.stripes.is_none() && mirrored { copies } else { arrays };
        if !devices.is_multiple_of(unit) {
            let what = match self.stripes {
                Some(_) => format!("{devices} devices do not make {arrays} equal stripes"),
                None => format!("{devices} devices do not make mirrors of {copies}"),
            };
            let (fewer, more) = (devices / unit * unit, (devices / unit + 1) * unit);
            let few = if fewer == 0 { String::new() } else { format!("{fewer} or ") };
            return Err(Error::new(what)
                .hint(format!("use {few}{more} of them, or another number of --stripes")));
        }
        let members = devices / arrays;
        let (least, most) = match layout {
            RaidLayout::Mirror => (copies, copies),
            RaidLayout::Offset | RaidLayout::Near | RaidLayout::Far => (copies, MOST_MEMBERS),
            RaidLayout::Raid5 => (3, MOST_MEMBERS),
            RaidLayout::Raid6 => (4, MOST_MEMBERS),
        };
        if members < least || members > most || arrays > MOST_MEMBERS {
            let each = if arrays == 1 { "" } else { " for each stripe" };
            let range = match (least, most) {
                (least, MOST_MEMBERS) => format!("at least {least}"),
                (least, _) => format!("{least}"),
            };
            let of = if mirrored { format!(" with {copies} copies") } else { String::new() };
            return Err(Error::new(format!(
                "layout {layout}{of} needs {range} devices{each}, not {members}"
            )));
        }
        Ok(Shape { layout, arrays, members, copies })
    }
}

impl Shape {
    /// How many members of one array can be lost, whichever they are.
    pub fn redundancy(&self) -> u32 {
        match self.layout {
            RaidLayout::Raid5 => 1,
            RaidLayout::Raid6 => 2,
            _ => self.copies - 1,
        }
    }

    /// Whether a stripe is over the arrays.
    pub fn is_striped(&self) -> bool {
        self.arrays > 1
    }

    /// The sizes of a volume on devices of which the smallest has `device` bytes: of `asked` bytes
    /// or a little more, or as large as it can be.
    ///
    /// # Errors
    /// The devices are too small, or it is no chunk.
    pub fn capacity(&self, device: u64, asked: Option<u64>, chunk: u64) -> Result<Capacity> {
        if !chunk.is_power_of_two() || !(LEAST_CHUNK..=MOST_CHUNK).contains(&chunk) {
            return Err(Error::new(format!(
                "chunk {}: not a power of two from 4k to 64m",
                Size(chunk)
            ))
            .hint("512k is usual"));
        }
        let small = || {
            Error::new(format!("a device of {} is too small", Size(device)))
                .hint(format!("{} is the least", Size(self.least_device(chunk))))
        };
        let offset = offset_of(device);
        let room = device.saturating_sub(offset) / chunk;
        let largest = self.sizes(offset, room, chunk).ok_or_else(small)?;
        let Some(asked) = asked else { return Ok(largest) };
        if asked > largest.volume || asked == 0 {
            return Err(Error::new(format!(
                "size {}: the devices hold up to {}",
                Size(asked),
                Size(largest.volume)
            ))
            .hint("leave the size out for all of it"));
        }
        // The least number of chunks of a member that is enough: it grows with what is asked.
        let (mut few, mut enough) = (0, room);
        while enough - few > 1 {
            let middle = few + (enough - few) / 2;
            match self.sizes(offset, middle, chunk) {
                Some(sizes) if sizes.volume >= asked => enough = middle,
                _ => few = middle,
            }
        }
        self.sizes(offset, enough, chunk).ok_or_else(small)
    }

    /// The sizes of a volume of these sizes after all devices have grown to `device` bytes, where the
    /// data stays where it is; `None`: it is not larger then.
    pub fn grown(&self, from: Capacity, device: u64, chunk: u64) -> Option<Capacity> {
        let room = device.saturating_sub(from.offset) / chunk;
        let mut sizes = self.sizes(from.offset, room, chunk)?;
        if self.is_striped() {
            sizes.stripe_offset = from.stripe_offset;
            sizes.stripe_member = sizes.array.checked_sub(from.stripe_offset)? / chunk * chunk;
            sizes.volume = sizes.stripe_member.checked_mul(u64::from(self.arrays))?;
        }
        (sizes.volume > from.volume && sizes.member > from.member).then_some(sizes)
    }

    /// The sizes with so many chunks of each member; `None`: nothing would be left.
    fn sizes(&self, offset: u64, chunks: u64, chunk: u64) -> Option<Capacity> {
        let (members, copies) = (u64::from(self.members), u64::from(self.copies));
        // The copies of these are in parts of their own, of equal size.
        let chunks = match self.layout {
            RaidLayout::Offset | RaidLayout::Far => chunks / copies * copies,
            _ => chunks,
        };
        // As the kernel computes them (raid10_size, raid5_size).
        let chunks_held = match self.layout {
            RaidLayout::Mirror => chunks,
            RaidLayout::Near => chunks.checked_mul(members)? / copies,
            RaidLayout::Offset | RaidLayout::Far => (chunks / copies).checked_mul(members)?,
            RaidLayout::Raid5 => chunks.checked_mul(members - 1)?,
            RaidLayout::Raid6 => chunks.checked_mul(members - 2)?,
        };
        let array = chunks_held.checked_mul(chunk)?;
        let (stripe_offset, stripe_member, volume) = if self.is_striped() {
            let offset = offset_of(array);
            let member = array.checked_sub(offset)? / chunk * chunk;
            (offset, member, member.checked_mul(u64::from(self.arrays))?)
        } else {
            (0, 0, array)
        };
        let member = chunks.checked_mul(chunk)?;
        (volume > 0).then_some(Capacity {
            offset,
            member,
            array,
            stripe_offset,
            stripe_member,
            volume,
        })
    }

    /// The smallest device that leaves something to hold.
    fn least_device(&self, chunk: u64) -> u64 {
        let fits = |chunks: &u64| self.sizes(LEAST_OFFSET, *chunks, chunk).is_some();
        // A stripe's own offset is 256 of the smallest chunks; the copies are 255 at most.
        let chunks = (1..1024).find(fits).unwrap_or(1024);
        LEAST_OFFSET.saturating_add(chunks.saturating_mul(chunk))
    }
}

/// Where the data begins on a device: after the superblock and the bitmap, and with room for md to
/// move the data when the array is reshaped. Given to mdadm, whose own choice depends on its
/// version: so the sizes are known before anything is written.
fn offset_of(device: u64) -> u64 {
    let share = (device >> 10).max(1);
    (1 << share.ilog2()).clamp(LEAST_OFFSET, MOST_OFFSET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(layout: RaidLayout, mirrors: Option<u32>, stripes: u32, devices: usize) -> Shape {
        AskedShape { layout, mirrors, stripes: Some(stripes) }.of(devices).unwrap()
    }

    #[test]
    fn what_grows_keeps_its_data_where_it_is() {
        let blog = shape(RaidLayout::Offset, Some(3), 2, 6);
        let small = blog.capacity(64 << 20, None, 512 << 10).unwrap();
        let sizes = blog.grown(small, 128 << 20, 512 << 10).unwrap();
        // As the kernel gave them, in KiB.
        let kib = [sizes.offset, sizes.member, sizes.array, sizes.stripe_offset].map(|n| n >> 10);
        assert_eq!((kib, sizes.volume >> 10), ([1024, 129024, 129024, 1024], 256000));
        // Where a new volume of that size would begin its data elsewhere.
        let large = blog.grown(small, 8 << 30, 512 << 10).unwrap();
        assert_eq!((large.offset, large.stripe_offset), (small.offset, small.stripe_offset));
        assert_ne!(blog.capacity(8 << 30, None, 512 << 10).unwrap().offset, small.offset);
        assert_eq!(blog.grown(small, 64 << 20, 512 << 10), None);
        assert_eq!(blog.grown(small, 32 << 20, 512 << 10), None);
    }

    #[test]
    fn the_sizes_are_those_that_the_kernel_gave() {
        // Recorded from mdadm 4.2 and Linux 6.1, in KiB: devices of 48 MiB, chunks of 512 KiB.
        let blog = shape(RaidLayout::Offset, Some(3), 2, 6);
        let sizes = blog.capacity(48 << 20, None, 512 << 10).unwrap();
        let kib = [sizes.offset, sizes.member, sizes.array, sizes.stripe_member].map(|n| n >> 10);
        assert_eq!((kib, sizes.volume >> 10), ([1024, 47616, 47616, 46592], 93184));
        let asked = blog.capacity(48 << 20, Some(90112 << 10), 512 << 10).unwrap();
        assert_eq!(
            (asked.member >> 10, asked.array >> 10, asked.volume >> 10),
            (46080, 46080, 90112)
        );
        // Members of 20 MiB.
        for (shape, held) in [
            (shape(RaidLayout::Far, Some(2), 1, 3), 30720),
            (shape(RaidLayout::Near, Some(2), 1, 3), 30720),
            (shape(RaidLayout::Mirror, Some(2), 1, 2), 20480),
            (shape(RaidLayout::Raid5, None, 1, 3), 40960),
            (shape(RaidLayout::Raid6, None, 1, 4), 40960),
        ] {
            let sizes = shape.capacity(21 << 20, None, 64 << 10).unwrap();
            assert_eq!((sizes.member >> 10, sizes.volume >> 10), (20480, held), "{shape:?}");
        }
    }

    #[test]
    fn a_size_that_is_asked_for_is_held_with_less_than_a_chunk_of_each_member_to_spare() {
        for (layout, mirrors) in [
            (RaidLayout::Mirror, Some(3)),
            (RaidLayout::Offset, Some(3)),
            (RaidLayout::Near, Some(2)),
            (RaidLayout::Far, Some(2)),
            (RaidLayout::Raid5, None),
        ] {
            for (stripes, chunk) in [(1, 64 << 10), (5, 512 << 10)] {
                let shape = shape(layout, mirrors, stripes, 3 * stripes as usize);
                let device = 15 << 30;
                let most = shape.capacity(device, None, chunk).unwrap();
                assert!(most.member + most.offset <= device && most.volume > 0);
                for asked in [1, 1 << 20, (5 << 30) + 1, most.volume - 1, most.volume] {
                    let sizes = shape.capacity(device, Some(asked), chunk).unwrap();
                    let step = chunk * u64::from(shape.copies * shape.members * shape.arrays);
                    assert!(
                        (asked..asked + step).contains(&sizes.volume),
                        "{shape:?}: {asked}: {sizes:?}"
                    );
                }
                let refused = shape.capacity(device, Some(most.volume + 1), chunk).unwrap_err();
                assert!(refused.to_string().contains("the devices hold up to"), "{refused}");
            }
        }
    }

    #[test]
    fn devices_that_are_too_small_are_refused_with_the_least_size() {
        let shape = shape(RaidLayout::Offset, Some(3), 5, 15);
        let refused = shape.capacity(1 << 20, None, 512 << 10).unwrap_err().to_string();
        assert_eq!(refused, "a device of 1m is too small; 2560k is the least");
        assert!(shape.capacity(2560 << 10, None, 512 << 10).is_ok());
        assert!(shape.capacity((2560 << 10) - 1, None, 512 << 10).is_err());
        for chunk in [0, 1, 3000, 12 << 10, 128 << 20] {
            assert!(shape.capacity(1 << 30, None, chunk).is_err(), "{chunk}");
        }
        assert!(
            shape.capacity(1 << 60, None, 4 << 10).is_ok()
                && shape.capacity(0, None, 4 << 10).is_err()
        );
    }

    #[test]
    fn a_shape_that_the_devices_do_not_make_is_refused_with_the_reason() {
        let refused = |layout: &str, mirrors, stripes, devices| {
            let asked = AskedShape { layout: layout.parse().unwrap(), mirrors, stripes };
            asked.of(devices).unwrap_err().to_string()
        };
        for (said, expected) in [
            (
                refused("1e", None, None, 3),
                "layout 1e needs a number of copies; write --mirrors 2 or more",
            ),
            (
                refused("1e", Some(1), None, 3),
                "mirrors: not 1; write the number of copies, from 2 to 255",
            ),
            (
                refused("1e", Some(3), Some(5), 14),
                "14 devices do not make 5 equal stripes; use 10 or 15 of them, or another number of --stripes",
            ),
            (
                refused("mirror", Some(3), None, 7),
                "7 devices do not make mirrors of 3; use 6 or 9 of them, or another number of --stripes",
            ),
            (
                refused("mirror", Some(2), Some(1), 3),
                "layout mirror with 2 copies needs 2 devices, not 3",
            ),
            (
                refused("far", Some(3), Some(2), 4),
                "layout far with 3 copies needs at least 3 devices for each stripe, not 2",
            ),
            (refused("raid6", None, None, 3), "layout raid6 needs at least 4 devices, not 3"),
            (
                refused("raid5", Some(2), None, 3),
                "layout raid5 has parity instead of copies; leave --mirrors out",
            ),
            (
                refused("1e", Some(3), None, 2),
                "2 devices do not make mirrors of 3; use 3 of them, or another number of --stripes",
            ),
            (refused("1e", Some(2), Some(0), 3), "stripes: not 0; write 1 or more"),
            (refused("1e", Some(2), None, 0), "a volume needs devices"),
        ] {
            assert_eq!(said, expected);
        }
        let unknown = "raid7".parse::<RaidLayout>().unwrap_err().to_string();
        assert!(unknown.starts_with("layout \"raid7\": not one of those there are"), "{unknown}");
    }
}
