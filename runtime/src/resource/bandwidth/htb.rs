//! htb's classes as rtnetlink represents them (tc-htb(8), net/sched/sch_htb.c).

use libc::{
    ETH_P_ALL, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, RTM_DELTCLASS, RTM_DELTFILTER,
    RTM_GETTCLASS, RTM_NEWQDISC, RTM_NEWTCLASS, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS,
};

use super::shape::Bucket;
use super::tc::{
    QueueCounter, TC_H_ROOT, TC_LINKLAYER_ETHERNET, TCA_U32_SEL, match_all, tcmsg, word,
};
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};

// linux/pkt_sched.h, linux/pkt_cls.h; not in libc.
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_INDEV: u16 = 8;
/// Nanoseconds per tick of the scheduler (PSCHED_SHIFT).
const TICK: u64 = 64;

/// `6763:` ("gc"); the root disciplines of [`super::tc`] are "ga" and "gb".
const HANDLE: u32 = 0x6763_0000;
/// The class that holds the budget.
pub const BUDGET: u16 = 1;
/// Create, and fail if it exists.
const NEW: i32 = NLM_F_CREATE | NLM_F_EXCL;
/// The bytes per second that each member always gets: the lowest rate allowed.
const OWN: u64 = 1000;

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its number.
    pub minor: u16,
    /// The most it gets, in bytes per second.
    pub ceiling: u64,
    /// What has happened in it.
    pub queue: QueueCounter,
}

/// The parameters of a member's class.
#[derive(Clone, Copy, Debug)]
pub struct ClassMember {
    /// Its number.
    pub class: u16,
    /// Its ceiling, and the queue in front of it.
    pub bucket: Bucket,
    /// The bytes of one turn.
    pub quantum: u32,
}

/// The discipline and the budget's class, on an ifb that has neither.
pub fn begin(batch: &mut Batch, ifb: u32, budget: &Bucket) {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.message("set the group's limit", RTM_NEWQDISC, flags, &tcmsg(ifb, HANDLE, TC_H_ROOT, 0));
    batch.text(TCA_KIND, "htb");
    batch.nest(TCA_OPTIONS, |batch| {
        // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
        let mut init = [0; 20];
        init[..4].copy_from_slice(&3u32.to_ne_bytes());
        init[4..8].copy_from_slice(&10u32.to_ne_bytes());
        batch.attr(TCA_HTB_INIT, &init);
    });
    let id = (HANDLE, BUDGET);
    class(batch, ifb, NEW, id, (budget.rate, budget), 65_536);
}

/// A member's class, its queue, and the filter that recognizes its packets by their device.
pub fn join(batch: &mut Batch, ifb: u32, device: &str, member: &ClassMember) {
    class_and_queue(batch, ifb, NEW, member);
    let fixed = tcmsg(ifb, 0, HANDLE, preference(member.class));
    batch.message("add a filter for its packets", RTM_NEWTFILTER, NEW, &fixed);
    batch.text(TCA_KIND, "u32");
    batch.nest(TCA_OPTIONS, |batch| {
        batch.u32(TCA_U32_CLASSID, HANDLE | u32::from(member.class));
        batch.attr(TCA_U32_SEL, &match_all());
        batch.text(TCA_U32_INDEV, device);
    });
}

/// Changes the parameters of a member's existing class.
pub fn change(batch: &mut Batch, ifb: u32, member: &ClassMember) {
    class_and_queue(batch, ifb, 0, member);
}

fn class_and_queue(batch: &mut Batch, ifb: u32, flags: i32, member: &ClassMember) {
    let id = (HANDLE | u32::from(BUDGET), member.class);
    class(batch, ifb, flags, id, (OWN, &member.bucket), member.quantum);
    // If the class exists, so does its queue, which is then changed in place.
    let fixed = tcmsg(ifb, 0, HANDLE | u32::from(member.class), 0);
    batch.message("set the queue", RTM_NEWQDISC, flags, &fixed);
    // Otherwise the queue would get the ifb's own length of 32 packets.
    batch.text(TCA_KIND, "bfifo");
    batch.attr(TCA_OPTIONS, &member.bucket.limit.to_ne_bytes());
}

/// Removes a member's filter and class, if they exist.
pub fn leave(socket: &mut Socket, ifb: u32, minor: u16) -> Result<(), Refusal> {
    let filter = tcmsg(ifb, 0, HANDLE, preference(minor));
    let class = tcmsg(ifb, HANDLE | u32::from(minor), 0, 0);
    // The filter first, as it holds the class.
    for (doing, kind, fixed) in
        [("remove the filter", RTM_DELTFILTER, filter), ("remove the class", RTM_DELTCLASS, class)]
    {
        let mut batch = Batch::new();
        batch.message(doing, kind, 0, &fixed);
        match socket.execute(batch) {
            // No such filter or class; no such discipline; no such device.
            Err(refusal)
                if matches!(refusal.errno.0, libc::ENOENT | libc::EINVAL | libc::ENODEV) => {}
            result => result?,
        }
    }
    Ok(())
}

/// The classes of an ifb.
pub fn classes(socket: &mut Socket, ifb: u32) -> Result<Vec<Class>, Refusal> {
    let mut batch = Batch::new();
    batch.message("list the classes", RTM_GETTCLASS, NLM_F_DUMP, &tcmsg(ifb, 0, 0, 0));
    let mut found = Vec::new();
    socket.ask(batch, &[], |body| found.extend(read(body)))?;
    Ok(found)
}

/// struct tcmsg, and the attributes.
fn read(body: &[u8]) -> Option<Class> {
    let handle = word(body, 8).filter(|handle| handle & 0xffff_0000 == HANDLE)?;
    let attributes = body.get(20..)?;
    let options = attribute(attributes, TCA_OPTIONS)?;
    let queue = QueueCounter::read(attributes).unwrap_or_default();
    let narrow = attribute(options, TCA_HTB_PARMS).and_then(|parms| word(parms, 20));
    let wide = attribute(options, TCA_HTB_CEIL64).and_then(|bytes| bytes.try_into().ok());
    let ceiling = wide.map(u64::from_ne_bytes).or(narrow.map(u64::from))?;
    Some(Class { minor: handle as u16, ceiling, queue })
}

/// The priority of a class's filter among the others, and the protocol: all.
fn preference(minor: u16) -> u32 {
    u32::from(minor) << 16 | u32::from((ETH_P_ALL as u16).to_be())
}

/// A class, by its parent and number, with `rate` bytes per second of its own and a ceiling of
/// the bucket's rate.
fn class(
    batch: &mut Batch,
    ifb: u32,
    flags: i32,
    (parent, minor): (u32, u16),
    (rate, bucket): (u64, &Bucket),
    quantum: u32,
) {
    let fixed = tcmsg(ifb, HANDLE | u32::from(minor), parent, 0);
    batch.message("set the share", RTM_NEWTCLASS, flags, &fixed);
    batch.text(TCA_KIND, "htb");
    batch.nest(TCA_OPTIONS, |batch| {
        // struct tc_htb_opt: two struct tc_ratespec, rate and ceil; buffer, cbuffer, quantum,
        // level, prio. As with tbf, a link layer means no tables. Buffers are in ticks.
        let mut parms = [0; 44];
        for (at, rate) in [(0, rate), (12, bucket.rate)] {
            parms[at + 1] = TC_LINKLAYER_ETHERNET;
            let narrow = u32::try_from(rate).unwrap_or(u32::MAX);
            parms[at + 8..at + 12].copy_from_slice(&narrow.to_ne_bytes());
        }
        let burst = if rate == bucket.rate { bucket.burst } else { 3028 };
        for (at, value) in
            [(24, ticks(burst, rate)), (28, ticks(bucket.burst, bucket.rate)), (32, quantum)]
        {
            parms[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        batch.attr(TCA_HTB_PARMS, &parms);
        for (kind, rate) in [(TCA_HTB_RATE64, rate), (TCA_HTB_CEIL64, bucket.rate)] {
            if rate > u64::from(u32::MAX) {
                batch.attr(kind, &rate.to_ne_bytes());
            }
        }
    });
}

/// How long this many bytes take.
fn ticks(bytes: u32, rate: u64) -> u32 {
    let ticks = u64::from(bytes) * 1_000_000_000 / TICK / rate.max(1);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_times_in_ticks() {
        assert_eq!(ticks(1_000_000, 125_000_000), 125_000);
        assert_eq!(ticks(3028, 1000), 47_312_500);
        assert_eq!(ticks(u32::MAX, 1), u32::MAX);
    }
}
