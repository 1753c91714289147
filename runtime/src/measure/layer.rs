//! Which bytes of a network are meant. The layers of one segment of TCP on Ethernet:
//!
//! ```text
//! | preamble 8 | header 14 | IP 20 or 40 | TCP 20 (+12) | payload | checksum 4 | gap 12 |
//!                                                       ^ payload ^
//!                          ^ ip ------------------------^---------^
//!              ^ frame -----------------------------------------  ^
//! ^ wire ----------------------------------------------------------------------------- ^
//! ```
//!
//! The kernel's counters of links count frames, without the checksum that hardware adds. Each layer's figure
//! follows from another's and the number of frames, by arithmetic.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};

/// Header of an Ethernet frame: two addresses and a type.
const HEADER: u64 = 14;
/// What is on the wire beside the frame as it is counted: preamble and start (8), checksum (4), gap (12).
const AROUND: u64 = 24;
/// TCP's header, and its option with timestamps, padded.
const TCP: u64 = 20;
const TIMESTAMPS: u64 = 12;

/// A layer at which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// What programs send and receive.
    Payload,
    /// Packets of IP.
    Ip,
    /// Ethernet frames, as the kernel counts them: without checksum.
    Frame,
    /// The time that a frame occupies the cable, in bytes.
    Wire,
}

impl Layer {
    /// All, from the innermost.
    pub const ALL: [Layer; 4] = [Layer::Payload, Layer::Ip, Layer::Frame, Layer::Wire];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Layer::Payload => "payload",
            Layer::Ip => "ip",
            Layer::Frame => "frame",
            Layer::Wire => "wire",
        }
    }

    /// What it counts.
    pub fn definition(self) -> &'static str {
        match self {
            Layer::Payload => {
                "payload: what programs send and receive by TCP, by the kernel's counts of each connection"
            }
            Layer::Ip => {
                "ip: IP packets, which are frames without their 14 bytes of Ethernet header"
            }
            Layer::Frame => "frame: Ethernet frames as the kernel counts them, without checksum",
            Layer::Wire => {
                "wire: frames with the 24 bytes around each: preamble, checksum, and gap"
            }
        }
    }

    /// The bytes of this layer in so many bytes of so many frames; `None`: it does not follow from them.
    pub fn of_frames(self, bytes: u64, frames: u64) -> Option<u64> {
        match self {
            Layer::Payload => None,
            Layer::Ip => Some(bytes.saturating_sub(HEADER * frames)),
            Layer::Frame => Some(bytes),
            Layer::Wire => Some(bytes + AROUND * frames),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Layer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Layer> {
        Layer::ALL.into_iter().find(|layer| layer.word() == text).ok_or_else(|| {
            Error::new(format!("layer {:?}: unknown", text.escape_debug().to_string()))
                .hint("payload, ip, frame or wire")
        })
    }
}

/// A full segment of TCP: what each layer makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether the addresses are of IPv6.
    pub ipv6: bool,
    /// Whether TCP's timestamps are on, as they are by default.
    pub timestamps: bool,
}

impl Segment {
    /// The bytes of a layer.
    pub fn bytes(&self, layer: Layer) -> u64 {
        let mtu = u64::from(self.mtu);
        let ip = if self.ipv6 { 40 } else { 20 };
        let options = if self.timestamps { TIMESTAMPS } else { 0 };
        match layer {
            Layer::Payload => mtu.saturating_sub(ip + TCP + options),
            Layer::Ip => mtu,
            Layer::Frame => mtu + HEADER,
            Layer::Wire => mtu + HEADER + AROUND,
        }
    }

    /// Which part of `of` the bytes of `layer` are: of the wire, what is left for the payload.
    pub fn part(&self, layer: Layer, of: Layer) -> f64 {
        self.bytes(layer) as f64 / self.bytes(of) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_part_of_the_wire_that_the_books_have() {
        let part = |mtu, timestamps| {
            let segment = Segment { mtu, ipv6: false, timestamps };
            (segment.part(Layer::Payload, Layer::Wire) * 10_000.0).round() / 100.0
        };
        assert_eq!([part(1500, false), part(9000, false)], [94.93, 99.14]);
        assert_eq!([part(1500, true), part(9000, true)], [94.15, 99.0]);
        let segment = Segment { mtu: 1500, ipv6: true, timestamps: true };
        assert_eq!(Layer::ALL.map(|layer| segment.bytes(layer)), [1428, 1500, 1514, 1538]);
    }

    #[test]
    fn layers_follow_from_frames_and_each_other() {
        let of = |layer: Layer| layer.of_frames(1514 * 1000, 1000);
        assert_eq!(Layer::ALL.map(of), [None, Some(1_500_000), Some(1_514_000), Some(1_538_000)]);
        assert_eq!("wire".parse::<Layer>().unwrap(), Layer::Wire);
        assert!("bits".parse::<Layer>().unwrap_err().to_string().contains("bits"));
    }
}
