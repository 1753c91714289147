//! How a token bucket is sized for a rate (tc-tbf(8)).

use crate::config::units::Rate;

/// A frame's header, which counts towards the rate: two addresses and a type.
const HEADER: u32 = 14;
/// A softirq may be late by two ticks of a kernel with CONFIG_HZ=250, and the tokens of that time
/// must not be lost: the bucket holds that many. More would only let a larger burst through after a
/// pause: 8 ms are 0.16 % of five seconds.
const BURST_MS: u64 = 8;
/// How long a packet may wait, in addition to the burst. Long enough for TCP's usual round trips,
/// and short enough not to be noticed by others on the link.
const QUEUE_MS: u64 = 50;
/// A queue shorter than this makes TCP wait for its timer whenever a packet is lost: fewer than
/// three can follow it. For rates below about 4 Mbit/s it is longer than `QUEUE_MS`.
const QUEUE_FRAMES: u64 = 16;

/// The parameters of a tbf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may pass at once. tbf drops a larger frame, but first splits a train of segments
    /// (GSO) into frames. So the minimum is a frame, and not the 64 kB of a train.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl Bucket {
    /// For a link whose packets have at most `mtu` bytes.
    pub fn new(rate: Rate, mtu: u32) -> Bucket {
        let rate = rate.0 / 8;
        let frame = u64::from(mtu + HEADER);
        let of = |milliseconds: u64| rate / 1000 * milliseconds + rate % 1000 * milliseconds / 1000;
        let burst = of(BURST_MS).max(2 * frame);
        let queue = of(QUEUE_MS).max(QUEUE_FRAMES * frame);
        let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Bucket { rate, burst: bytes(burst), limit: bytes(burst + queue) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rate::{LEAST, MOST};

    #[test]
    fn a_bucket_holds_two_frames_and_eight_milliseconds() {
        let slow = Bucket::new(Rate(1_000_000), 1500);
        assert_eq!(slow, Bucket { rate: 125_000, burst: 3028, limit: 3028 + 24_224 });
        let fast = Bucket::new(Rate(1_000_000_000), 1500);
        assert_eq!(fast, Bucket { rate: 125_000_000, burst: 1_000_000, limit: 7_250_000 });
        let jumbo = Bucket::new(Rate(1_000_000), 65535);
        assert_eq!(jumbo.burst, 131_098);
        assert_eq!(Bucket::new(LEAST, 1280).rate, 1000);
        // Fits in 32 bits at either end; nothing is truncated.
        assert_eq!(Bucket::new(MOST, 65535).limit, 2_900_000_000);
    }
}
