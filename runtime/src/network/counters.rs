//! What links have moved, as the kernel counts it: whole Ethernet frames without their checksum. A
//! train of segments that the kernel hands on as one (offloads) counts as one packet, with one set of
//! headers.

use std::collections::HashMap;
use std::fs;

use libc::{NLM_F_DUMP, RTM_GETLINK};
use serde::Serialize;

use super::listing::{ifinfomsg, u32_of};
use super::refusal::{plain, route_socket};
use crate::error::Result;
use crate::sys::file::read_kernel;
use crate::sys::netlink::{Batch, attribute};

/// struct rtnl_link_stats64 of linux/if_link.h; not in libc.
const IFLA_STATS64: u16 = 23;

/// One direction of a link, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounter {
    /// Bytes of frames.
    pub bytes: u64,
    /// Packets, as the kernel hands them on.
    pub packets: u64,
    /// Packets that were dropped at the link.
    pub dropped: u64,
}

/// Both directions, as the sandbox sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkTraffic {
    /// Sent by it.
    pub up: LinkCounter,
    /// Received by it.
    pub down: LinkCounter,
}

impl LinkTraffic {
    /// The same, from the other end of the link.
    fn reversed(self) -> LinkTraffic {
        LinkTraffic { up: self.down, down: self.up }
    }
}

/// The counters of all links of this namespace whose other ends are in sandboxes, by index. One request.
///
/// # Errors
/// The kernel returns no answer.
pub fn of_host_ends() -> Result<HashMap<u32, LinkTraffic>> {
    let mut socket = route_socket()?;
    let mut batch = Batch::new();
    batch.message("list the links", RTM_GETLINK, NLM_F_DUMP, &ifinfomsg(0, false));
    let mut found = HashMap::new();
    let read = |body: &[u8]| {
        let index = body.get(4..8).and_then(u32_of)?;
        let stats = attribute(body.get(16..)?, IFLA_STATS64)?;
        Some((index, counters(stats)?.reversed()))
    };
    socket.ask(batch, &[], |body| found.extend(read(body))).map_err(|r| plain(r, ""))?;
    Ok(found)
}

/// From a struct rtnl_link_stats64: received and sent, alternating: packets, bytes, errors, dropped.
fn counters(stats: &[u8]) -> Option<LinkTraffic> {
    let word = |number: usize| {
        let bytes = stats.get(number * 8..number * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let counter = |way| {
        let (packets, bytes, dropped) = (word(way)?, word(2 + way)?, word(6 + way)?);
        Some(LinkCounter { bytes, packets, dropped })
    };
    Some(LinkTraffic { down: counter(0)?, up: counter(1)? })
}

/// Whether a process is in our network namespace, or has none any more.
pub fn is_in_our_network(pid: i32) -> bool {
    let space = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    space(&pid.to_string()).is_none_or(|own| space("self") == Some(own))
}

/// The sum of all links but loopback of the namespace of a process; `None`: it has none, or cannot be read.
pub fn of_namespace(pid: i32) -> Option<LinkTraffic> {
    let text = read_kernel(format!("/proc/{pid}/net/dev")).ok()?;
    text.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:")).then(|| in_table(&text))
}

/// The sum over all links but loopback, from a /proc/PID/net/dev.
pub fn in_table(text: &str) -> LinkTraffic {
    let mut sum = LinkTraffic::default();
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> =
            counters.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        for (sum, at) in [(&mut sum.down, 0), (&mut sum.up, 8)] {
            let number = |column: usize| numbers.get(at + column).copied().unwrap_or(0);
            sum.bytes += number(0);
            sum.packets += number(1);
            sum.dropped += number(3);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Inter-|   Receive                          |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
            lo:  900 9 0 0 0 0 0 0  900 9 0 0 0 0 0 0\n\
            eth0:  1000 10 0 7 0 0 0 0  200 2 0 1 0 0 0 0\n  \
            eth1:   30 1 0 0 0 0 0 0    4 1 0 0 0 0 0 0\n";
        let down = LinkCounter { bytes: 1030, packets: 11, dropped: 7 };
        let up = LinkCounter { bytes: 204, packets: 3, dropped: 1 };
        assert_eq!(in_table(text), LinkTraffic { up, down });
    }

    #[test]
    fn the_kernels_struct_is_read() {
        assert!(!of_host_ends().unwrap().is_empty());
        let words: Vec<u64> = (1..9).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let down = LinkCounter { packets: 1, bytes: 3, dropped: 7 };
        let up = LinkCounter { packets: 2, bytes: 4, dropped: 8 };
        assert_eq!(counters(&bytes), Some(LinkTraffic { up, down }));
        assert_eq!(counters(&bytes[..60]), None);
    }
}
