//! Quantities as people type them: sizes, rates and times.
//!
//! Sizes are binary, as in docker and podman: `512m` is 512 × 1024² bytes, and so are `512mb` and
//! `512MiB`. Rates are SI, as in every network tool but iftop, and their unit is never guessed:
//! `10Mbit/s` and `10MB/s` differ by a factor of eight, and `10Mb`, `10Mbps` or a bare `10` are
//! refused because people read them both ways (tc reads `10mbps` as bytes).
//!
//! Numbers are read as decimal fractions and never pass through a float, so `1.1g` is the same
//! number of bytes everywhere. A remaining fraction of a byte or a bit is dropped. Each type prints
//! the shortest text that reads back as the same value.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, Result};

/// A number of bytes, read from `65536`, `64k`, `1.5g`, `512MiB`; every unit is a power of 1024.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size(pub u64);

/// Bits per second, read from `10Mbit/s`, `500kB/s`, `1Gbit`; every unit is a power of 1000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rate(pub u64);

/// A span of time, read from `10s`, `5m`, `1h30m`, `250ms`, or `10`, which is seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(pub std::time::Duration);

const SIZE: &str = "write bytes or a binary unit: 65536, 64k, 512m, 1.5g";
const RATE: &str = "write bits like 10Mbit/s or 500kbit/s, bytes like 2MB/s or 500kB/s";
const SPAN: &str = "write 250ms, 10s, 5m, 1h30m or 2d";

/// The binary units, largest first, so that printing takes the first that divides.
const BINARY: [(&str, u64); 5] =
    [("p", 1 << 50), ("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];

const SI: [(&str, u64); 5] =
    [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000), ("", 1)];

/// Times in nanoseconds.
const CLOCK: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Size> {
        let wrong = |why: &str| refuse("size", text, why, SIZE);
        let (number, unit) = Number::split(text.trim()).map_err(wrong)?;
        let unit = unit.trim_start().to_ascii_lowercase();
        let letter = unit.strip_suffix("ib").or(unit.strip_suffix("b")).unwrap_or(&unit);
        let scale = match (letter, unit.as_str()) {
            (_, "ib") => return Err(wrong("unknown unit")),
            ("", _) => 1,
            _ => scale(&BINARY, letter).ok_or_else(|| wrong("unknown unit"))?,
        };
        number.times(scale).map(Size).map_err(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY.iter().find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rate> {
        let wrong = |why: &str| refuse("rate", text, why, RATE);
        let (number, unit) = Number::split(text.trim()).map_err(wrong)?;
        let unit = unit.trim_start();
        let unit = unit.strip_suffix("/s").unwrap_or(unit);
        if unit.is_empty() {
            return Err(wrong("missing unit"));
        }
        // The case of "bit" does not matter, but that of B does: it alone tells a byte from a bit.
        let lower = unit.to_ascii_lowercase();
        let (prefix, bits) = if let Some(prefix) = lower.strip_suffix("bit") {
            (prefix, 1)
        } else if unit.ends_with('B') {
            (&lower[..lower.len() - 1], 8)
        } else if lower.ends_with('b') || lower.ends_with("bps") {
            return Err(wrong("bits or bytes?"));
        } else {
            return Err(wrong("unknown unit"));
        };
        let scale = SI
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(prefix))
            .ok_or_else(|| wrong("unknown unit"))?
            .1;
        match number.times(scale * bits).map_err(wrong)? {
            0 => Err(wrong("less than one bit per second")),
            bits => Ok(Rate(bits)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |(_, scale): &&(&str, u64)| self.0.is_multiple_of(*scale);
        let (unit, scale) = SI.iter().find(divides).unwrap_or(&("", 1));
        write!(f, "{}{unit}bit/s", self.0 / scale)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Span> {
        let wrong = |why: &str| refuse("time", text, why, SPAN);
        let mut rest = text.trim();
        let mut nanos = 0u64;
        let mut smallest = u64::MAX;
        while !rest.is_empty() || smallest == u64::MAX {
            let (number, tail) = Number::split(rest).map_err(wrong)?;
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let unit = match (&tail[..end], smallest) {
                ("", u64::MAX) => "s",
                (unit, _) => unit,
            };
            let scale = scale(&CLOCK, unit).ok_or_else(|| wrong("unknown unit"))?;
            // 1h30m, but neither 30m1h nor 1h1h: those are mistakes.
            if scale >= smallest {
                return Err(wrong("units must go from large to small"));
            }
            smallest = scale;
            let part = number.times(scale).map_err(wrong)?;
            nanos = nanos.checked_add(part).ok_or_else(|| wrong("too large"))?;
            rest = &tail[end..];
        }
        Ok(Span(std::time::Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in CLOCK {
            let count = left / u128::from(scale);
            left %= u128::from(scale);
            if count != 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// A count, read from `500`, `1.5k`, `2M`; the units are thousands and millions.
pub(super) fn count(text: &str) -> Result<u64> {
    let wrong = |why: &str| refuse("number", text, why, "write 500, 1.5k or 2M");
    let (number, unit) = Number::split(text.trim()).map_err(wrong)?;
    let scale = match unit.trim_start() {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        _ => return Err(wrong("unknown unit")),
    };
    number.times(scale).map_err(wrong)
}

/// A decimal fraction, `digits / 10^places`.
struct Number {
    digits: u128,
    places: u32,
}

impl Number {
    /// Takes the number off the front of `text`; the rest is the unit.
    fn split(text: &str) -> Result<(Number, &str), &'static str> {
        if text.is_empty() {
            return Err("empty");
        }
        if text.starts_with('-') {
            return Err("negative");
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err("not a number with a unit");
        }
        // More decimal places than a byte in an exabyte has do not matter.
        let fraction = &fraction[..fraction.len().min(18)];
        let mut digits = 0u128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            digits = digits
                .checked_mul(10)
                .and_then(|n| n.checked_add(u128::from(digit - b'0')))
                .ok_or("too large")?;
        }
        Ok((Number { digits, places: fraction.len() as u32 }, unit))
    }

    fn times(&self, scale: u64) -> Result<u64, &'static str> {
        let product = self.digits.checked_mul(u128::from(scale)).ok_or("too large")?;
        u64::try_from(product / 10u128.pow(self.places)).map_err(|_| "too large")
    }
}

fn scale(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, scale)| *scale)
}

fn refuse(what: &str, text: &str, why: &str, spelling: &str) -> Error {
    // The text may be of any length; the message stays one line.
    let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        shown.push_str("...");
    }
    Error::new(format!("{what} \"{shown}\": {why}")).hint(spelling)
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads text, and a bare number as its text: `memory = 65536` is bytes, `timeout = 10` is seconds,
/// and `rate = 10` is refused in the same way as `--rate 10`.
struct Text<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = Error>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit, as text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        from.deserialize_any(Text(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
        from.deserialize_any(Text(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        from.deserialize_any(Text(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn size(text: &str) -> u64 {
        text.parse::<Size>().unwrap().0
    }

    fn rate(text: &str) -> u64 {
        text.parse::<Rate>().unwrap().0
    }

    fn span(text: &str) -> Duration {
        text.parse::<Span>().unwrap().0
    }

    fn refused<T: FromStr<Err = Error>>(text: &str) -> String {
        text.parse::<T>().err().unwrap_or_else(|| panic!("{text:?} was read")).to_string()
    }

    #[test]
    fn sizes_are_binary_whatever_the_suffix() {
        for text in ["512m", "512M", "512mb", "512MB", "512MiB", "512 m", "0.5g"] {
            assert_eq!(size(text), 512 << 20, "{text}");
        }
        assert_eq!(size("0"), 0);
        assert_eq!(size("65536"), 65536);
        assert_eq!(size("64k"), 65536);
        assert_eq!(size("7b"), 7);
        assert_eq!(size("1.5g"), 3 << 29);
        assert_eq!(size("1.1k"), 1126);
        assert_eq!(size("2t"), 2 << 40);
        assert_eq!(size("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn sizes_that_are_none_are_refused_in_one_line_with_a_right_spelling() {
        assert_eq!(
            refused::<Size>("12q"),
            "size \"12q\": unknown unit; write bytes or a binary unit: 65536, 64k, 512m, 1.5g"
        );
        let huge = "9".repeat(5000);
        for text in [
            "",
            " ",
            "m",
            ".5g",
            "1.",
            "1.2.3k",
            "-1",
            "-5m",
            "NaN",
            "inf",
            "1e3",
            "0x10",
            "1kk",
            "1ib",
            "1bb",
            "18446744073709551616",
            "16384p",
            "1,5g",
            "١k",
            "5m\n5m",
            &huge,
        ] {
            let line = refused::<Size>(text);
            assert!(!line.contains('\n') && line.len() < 200, "{line}");
        }
    }

    #[test]
    fn rates_are_si_bits_per_second() {
        assert_eq!(rate("10Mbit/s"), 10_000_000);
        assert_eq!(rate("8Mbit"), 8_000_000);
        assert_eq!(rate("8mbit"), 8_000_000);
        assert_eq!(rate("2MB/s"), 16_000_000);
        assert_eq!(rate("500kB/s"), 4_000_000);
        assert_eq!(rate("1.5 Gbit/s"), 1_500_000_000);
        assert_eq!(rate("9600bit/s"), 9600);
        assert_eq!(rate("1B/s"), 8);
        assert_eq!(rate("1Tbit/s"), 1_000_000_000_000);
    }

    #[test]
    fn a_rate_without_its_unit_is_refused_and_the_spellings_named() {
        assert_eq!(
            refused::<Rate>("10"),
            "rate \"10\": missing unit; write bits like 10Mbit/s or 500kbit/s, bytes like 2MB/s or 500kB/s"
        );
        for text in ["10Mb", "10Mb/s", "10Mbps", "10b/s"] {
            assert!(refused::<Rate>(text).contains("bits or bytes?"), "{text}");
        }
        for text in ["", "10M", "10/s", "10MiB/s", "0Mbit/s", "0.1bit", "-1Mbit", "99999999TB/s"] {
            refused::<Rate>(text);
        }
    }

    #[test]
    fn times_take_one_or_more_units() {
        assert_eq!(span("10s"), Duration::from_secs(10));
        assert_eq!(span("10"), Duration::from_secs(10));
        assert_eq!(span("5m"), Duration::from_secs(300));
        assert_eq!(span("1h30m"), Duration::from_secs(5400));
        assert_eq!(span("1.5h"), Duration::from_secs(5400));
        assert_eq!(span("250ms"), Duration::from_millis(250));
        for text in ["", "s", "1y", "30m1h", "1h1h", "1h30", "-1s", "999999999999d", "1h 30m"] {
            refused::<Span>(text);
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for bytes in [0, 1, 1023, 1024, 1536, 3 << 29, 1 << 50, u64::MAX, u64::MAX - 1023] {
            assert_eq!(size(&Size(bytes).to_string()), bytes);
        }
        for bits in [1, 999, 1000, 1500, 10_000_000, 1_000_000_000_001, u64::MAX] {
            assert_eq!(rate(&Rate(bits).to_string()), bits);
        }
        for nanos in [0, 1, 999, 1_000_000, 5_400_000_000_000, 90_061_000_000_001, u64::MAX] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(span(&Span(time).to_string()), time, "{}", Span(time));
        }
        assert_eq!(Size(3 << 29).to_string(), "1536m");
        assert_eq!(Rate(10_000_000).to_string(), "10Mbit/s");
        assert_eq!(Span(Duration::from_secs(5400)).to_string(), "1h30m");
    }

    #[test]
    fn files_carry_them_as_text() {
        let json = |text: &str| serde_json::from_str::<(Size, Rate, Span)>(text);
        let read = json(r#"["64k", "2MB/s", "1h"]"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["64k","16Mbit/s","1h"]"#);
        assert_eq!(json(r#"[65536, "2MB/s", 3600]"#).unwrap(), read);
        assert!(json(r#"[65536, 10, 3600]"#).unwrap_err().to_string().contains("missing unit"));
        assert!(json(r#"[-1, "2MB/s", 3600]"#).unwrap_err().to_string().contains("negative"));
    }
}
