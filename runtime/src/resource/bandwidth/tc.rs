//! Queueing disciplines, filters and the ifb as rtnetlink represents them (tc(8)).

use libc::{
    AF_INET6, ETH_P_ALL, IFLA_AF_SPEC, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO,
    IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    RTM_DELLINK, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWLINK, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND,
    TCA_OPTIONS, TCA_STATS2,
};
use serde::Serialize;

use super::shape::Bucket;
use crate::config::units::Rate;
use crate::network::listing::{self, ifinfomsg};
use crate::sys::Errno;
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};

// linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h; not in libc.
pub(super) const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// Incoming packets for the discipline `ingress`, and both directions for `clsact` (Linux 4.5).
pub(super) const INGRESS_HANDLE: u32 = 0xffff_0000;
pub(super) const CLSACT_IN: u32 = 0xffff_fff2;
pub(super) const CLSACT_OUT: u32 = 0xffff_fff3;
pub(super) const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
pub(super) const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: i32 = 4;
// linux/gen_stats.h
const TCA_STATS_QUEUE: u16 = 3;
const TCA_EGRESS_REDIR: i32 = 1;
// linux/if_link.h, linux/if.h
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;

/// The handles by which our root disciplines are recognized: `6761:` ("ga"), or the other.
const HANDLES: [u32; 2] = [0x6761_0000, 0x6762_0000];

/// A token bucket as the root discipline of a device, replacing the default or a bucket of ours.
///
/// Ours is changed in place and keeps its packets, unless the rate falls: it may hold a train of
/// segments larger than the new burst, which would wait forever for that many tokens. So another
/// bucket then replaces it, and what was queued is lost; TCP retransmits it.
pub fn set_tbf(batch: &mut Batch, index: u32, bucket: Bucket, before: Option<&Qdisc>) {
    let before = before.and_then(|qdisc| Some((qdisc.handle, qdisc.rate?)));
    let [one, other] = HANDLES;
    let handle = match before {
        Some((handle, rate)) if rate.0 / 8 <= bucket.rate => handle,
        Some((handle, _)) if handle == one => other,
        _ => one,
    };
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.message("set the rate", RTM_NEWQDISC, flags, &tcmsg(index, handle, TC_H_ROOT, 0));
    batch.text(TCA_KIND, "tbf");
    batch.nest(TCA_OPTIONS, |batch| {
        batch.attr(TCA_TBF_PARMS, &tbf_qopt(bucket));
        if bucket.rate > u64::from(u32::MAX) {
            batch.attr(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
        // In bytes; takes precedence over the ticks in the fixed part.
        batch.u32(TCA_TBF_BURST, bucket.burst);
    });
}

/// struct tc_tbf_qopt: two struct tc_ratespec (rate and peak rate), limit, buffer, mtu.
///
/// tc_ratespec: cell_log, linklayer, overhead (2), cell_align (2), mpu (2), rate (4). Given a link
/// layer, the kernel computes times itself and wants no table of them (Linux 3.8). No peak rate: it
/// would be enforced one frame at a time, for which no timer is precise enough above a few Mbit/s.
fn tbf_qopt(bucket: Bucket) -> [u8; 36] {
    let mut fixed = [0; 36];
    fixed[1] = TC_LINKLAYER_ETHERNET;
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    fixed[8..12].copy_from_slice(&rate.to_ne_bytes());
    fixed[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
    fixed
}

/// Removes our root discipline from a device, which then has its default again.
pub fn remove_tbf(batch: &mut Batch, before: &Qdisc) {
    let fixed = tcmsg(before.link, before.handle, TC_H_ROOT, 0);
    batch.message("remove the rate", RTM_DELQDISC, 0, &fixed);
}

/// The place where filters see packets that come in on a device.
pub fn add_ingress(batch: &mut Batch, index: u32) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let fixed = tcmsg(index, INGRESS_HANDLE, TC_H_INGRESS, 0);
    batch.message("set up ingress filtering", RTM_NEWQDISC, flags, &fixed);
    batch.text(TCA_KIND, "ingress");
}

/// Same, but also for outgoing packets, which filters see before the queue.
pub fn add_clsact(batch: &mut Batch, index: u32) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let fixed = tcmsg(index, INGRESS_HANDLE, TC_H_INGRESS, 0);
    batch.message("set up ingress and egress filtering", RTM_NEWQDISC, flags, &fixed);
    batch.text(TCA_KIND, "clsact");
}

/// Removes either, with its filters.
pub fn remove_ingress(batch: &mut Batch, index: u32) {
    let fixed = tcmsg(index, INGRESS_HANDLE, TC_H_INGRESS, 0);
    batch.message("remove ingress filtering", RTM_DELQDISC, 0, &fixed);
}

/// Sends everything that passes a hook of a device through the queue of another, `ifb`, from which
/// it continues as if it had just arrived there. A u32 filter, as every kernel with filters has it.
pub fn redirect(batch: &mut Batch, index: u32, hook: u32, ifb: u32) {
    const PRIORITY: u32 = 1;
    let info = PRIORITY << 16 | u32::from((ETH_P_ALL as u16).to_be());
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let fixed = tcmsg(index, 0, hook, info);
    batch.message("redirect packets", RTM_NEWTFILTER, flags, &fixed);
    batch.text(TCA_KIND, "u32");
    batch.nest(TCA_OPTIONS, |batch| {
        batch.attr(TCA_U32_SEL, &match_all());
        batch.nest(TCA_U32_ACT, |batch| {
            batch.nest(1, |batch| {
                batch.text(TCA_ACT_KIND, "mirred");
                batch.nest(TCA_ACT_OPTIONS, |batch| {
                    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
                    let mut mirred = [0; 28];
                    mirred[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
                    mirred[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
                    mirred[24..28].copy_from_slice(&ifb.to_ne_bytes());
                    batch.attr(TCA_MIRRED_PARMS, &mirred);
                });
            });
        });
    });
}

/// struct tc_u32_sel with one key, whose mask and value of 0 match everything.
pub(super) fn match_all() -> [u8; 32] {
    let mut selector = [0; 32];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1;
    selector
}

/// Creates an ifb. One queue, as it has one bucket; IPv6 sends nothing of its own through it.
pub fn make_ifb(socket: &mut Socket, name: &str) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.message("create the ifb", RTM_NEWLINK, flags, &ifinfomsg(0, false));
    batch.text(IFLA_IFNAME, name);
    batch.u32(IFLA_NUM_TX_QUEUES, 1);
    batch.u32(IFLA_NUM_RX_QUEUES, 1);
    batch.nest(IFLA_LINKINFO, |batch| batch.text(IFLA_INFO_KIND, "ifb"));
    socket.execute(batch)
}

/// Brings an ifb up, new or existing, without addresses.
pub fn bring_up(batch: &mut Batch, index: u32, ipv6: bool) {
    if ipv6 {
        batch.message("set up the ifb", RTM_NEWLINK, 0, &ifinfomsg(index, false));
        batch.nest(IFLA_AF_SPEC, |batch| {
            batch.nest(AF_INET6 as u16, |batch| {
                batch.attr(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
    }
    batch.message("bring the ifb up", RTM_NEWLINK, 0, &ifinfomsg(index, true));
}

/// Deletes a device by its index, which takes about 20 ms.
pub fn delete_link(socket: &mut Socket, index: u32) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    batch.message("delete the ifb", RTM_DELLINK, 0, &ifinfomsg(index, false));
    match socket.execute(batch) {
        Err(refusal) if refusal.errno.0 == libc::ENODEV => Ok(()),
        result => result,
    }
}

/// Same as [`delete_link`], without waiting for it.
pub fn delete_link_behind(socket: &mut Socket, index: u32) -> Result<(), Errno> {
    let mut batch = Batch::new();
    batch.message("delete the ifb", RTM_DELLINK, 0, &ifinfomsg(index, false));
    socket.execute_behind(batch)
}

/// The index of a device; `None`: there is no such device.
pub fn index_of(socket: &mut Socket, name: &str) -> Result<Option<u32>, Refusal> {
    Ok(listing::named(socket, name)?.map(|link| link.index))
}

/// A discipline that a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of the device.
    pub link: u32,
    /// Whether it handles incoming packets. Otherwise it is the root.
    pub ingress: bool,
    /// `tbf`, `noqueue`, ...
    pub kind: String,
    /// Its name: one of two for ours, 0 for one that was not explicitly configured.
    pub handle: u32,
    /// The rate, if it is one of ours.
    pub rate: Option<Rate>,
    /// What has happened in it.
    pub queue: QueueCounter,
}

/// What a queue has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueCounter {
    /// How often a packet had to wait for the rate; a train of segments counts once.
    pub waits: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Bytes that wait now.
    pub waiting: u64,
}

impl QueueCounter {
    /// From the attributes of a discipline or class: TCA_STATS2 has a struct gnet_stats_queue: packets that
    /// wait, their bytes, drops, requeues, overlimits.
    pub(super) fn read(attributes: &[u8]) -> Option<QueueCounter> {
        let queue = attribute(attribute(attributes, TCA_STATS2)?, TCA_STATS_QUEUE)?;
        let number = |at: usize| word(queue, at).map(u64::from);
        Some(QueueCounter { waiting: number(4)?, dropped: number(8)?, waits: number(16)? })
    }
}

impl Qdisc {
    /// Whether it was explicitly configured. A device's default has no handle.
    pub fn is_configured(&self) -> bool {
        self.handle != 0
    }
}

/// The root and ingress disciplines of every device.
pub fn qdiscs(socket: &mut Socket) -> Result<Vec<Qdisc>, Refusal> {
    let mut batch = Batch::new();
    batch.message("list queueing disciplines", RTM_GETQDISC, NLM_F_DUMP, &tcmsg(0, 0, 0, 0));
    let mut found = Vec::new();
    socket.ask(batch, &[], |body| found.extend(qdisc(body)))?;
    Ok(found)
}

/// struct tcmsg, and the attributes.
fn qdisc(body: &[u8]) -> Option<Qdisc> {
    let (link, handle, parent) = (word(body, 4)?, word(body, 8)?, word(body, 12)?);
    let attributes = body.get(20..)?;
    let kind = attribute(attributes, TCA_KIND)?;
    let kind = String::from_utf8_lossy(kind.strip_suffix(&[0]).unwrap_or(kind)).into_owned();
    if parent != TC_H_ROOT && parent != TC_H_INGRESS {
        return None;
    }
    let mut rate = None;
    if kind == "tbf" && HANDLES.contains(&handle) {
        let options = attribute(attributes, TCA_OPTIONS)?;
        let narrow = attribute(options, TCA_TBF_PARMS).and_then(|parms| word(parms, 8));
        let wide = attribute(options, TCA_TBF_RATE64).and_then(|bytes| bytes.try_into().ok());
        let bytes = wide.map(u64::from_ne_bytes).or(narrow.map(u64::from))?;
        rate = Some(Rate(bytes.saturating_mul(8)));
    }
    let queue = QueueCounter::read(attributes).unwrap_or_default();
    Some(Qdisc { link, ingress: parent == TC_H_INGRESS, kind, handle, rate, queue })
}

/// struct tcmsg: family, padding (3), interface index, handle, parent, info.
pub(super) fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    for (at, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        fixed[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    fixed
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
