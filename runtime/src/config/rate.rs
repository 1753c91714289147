//! How fast a sandbox's network may be, each way: `--rate up=10Mbit/s,down=2MB/s`.
//!
//! A rate counts frames, as the kernel's queueing disciplines and `ip -s link` do: the IP packet
//! and the 14 bytes of its Ethernet header. Of that, TCP's payload is 1448/1514 = 95.6 % in full
//! packets at an MTU of 1500. Up is what the sandbox sends, down what it receives.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::units::Rate;
use crate::{Error, Result};

/// A full frame takes 1.5 s at this rate, in bits per second; below it TCP cannot get started.
pub const LEAST: Rate = Rate(8_000);
/// The queue behind a rate holds 60 ms of it, and its bytes are counted in 32 bits.
pub const MOST: Rate = Rate(400_000_000_000);

const SPELLING: &str =
    "write up=10Mbit/s,down=2MB/s, one of the two, or 10Mbit/s for both directions";

/// What is allowed each way; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// What the sandbox sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<Rate>,
    /// What it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<Rate>,
}

impl Rates {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Rates::default()
    }

    /// Refuses rates that cannot be enforced on any link.
    ///
    /// # Errors
    /// The first rate that is too low or too high.
    pub fn check(&self) -> Result<()> {
        for (way, rate) in [("up", self.up), ("down", self.down)] {
            let Some(rate) = rate else { continue };
            if rate < LEAST {
                return Err(Error::new(format!("--rate {way}={rate}: less than {LEAST}"))
                    .hint("a single full packet would take more than a second and a half"));
            }
            if rate > MOST {
                return Err(Error::new(format!("--rate {way}={rate}: more than {MOST}"))
                    .hint("no link is that fast: leave it out for no limit"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.up, self.down) {
            (None, None) => f.write_str("none"),
            (Some(up), None) => write!(f, "up={up}"),
            (None, Some(down)) => write!(f, "down={down}"),
            (Some(up), Some(down)) => write!(f, "up={up},down={down}"),
        }
    }
}

impl FromStr for Rates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rates> {
        Ok(text.parse::<Change>()?.of(Rates::default()))
    }
}

/// A change of rates. What is not named stays, and `none` removes a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The change to the way up, if any.
    pub up: Option<Option<Rate>>,
    /// The change to the way down, if any.
    pub down: Option<Option<Rate>>,
}

impl Change {
    /// The rates after the change.
    pub fn of(self, before: Rates) -> Rates {
        Rates { up: self.up.unwrap_or(before.up), down: self.down.unwrap_or(before.down) }
    }
}

impl FromStr for Change {
    type Err = Error;

    /// `up=10Mbit/s,down=none`; a single rate, or `none`, is for both ways.
    fn from_str(text: &str) -> Result<Change> {
        let mut change = Change::default();
        if !text.contains('=') && !text.contains(',') {
            let both = Some(one(text)?);
            change = Change { up: both, down: both };
        } else {
            for part in text.split(',') {
                let wrong = |why: &str| {
                    Error::new(format!("{:?}: {why}", part.escape_debug().to_string()))
                        .hint(SPELLING)
                };
                let (way, rate) =
                    part.split_once('=').ok_or_else(|| wrong("missing up= or down="))?;
                let slot = match way.trim() {
                    "up" => &mut change.up,
                    "down" => &mut change.down,
                    _ => return Err(wrong("not up= or down=")),
                };
                if slot.replace(one(rate)?).is_some() {
                    return Err(wrong("given twice"));
                }
            }
        }
        change.of(Rates::default()).check()?;
        Ok(change)
    }
}

fn one(text: &str) -> Result<Option<Rate>> {
    match text.trim() {
        "none" => Ok(None),
        text => text.parse().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Rates {
        text.parse().unwrap()
    }

    #[test]
    fn each_way_has_its_own_rate_or_both_have_one() {
        let (ten, sixteen) = (Some(Rate(10_000_000)), Some(Rate(16_000_000)));
        assert_eq!(rates("up=10Mbit/s,down=2MB/s"), Rates { up: ten, down: sixteen });
        assert_eq!(rates("down=2MB/s"), Rates { up: None, down: sixteen });
        assert_eq!(rates("10Mbit/s"), Rates { up: ten, down: ten });
        assert_eq!(rates("up=none, down=10Mbit"), Rates { up: None, down: ten });
        assert!(rates("none").is_empty());
        for text in ["up=10Mbit/s,down=16Mbit/s", "up=1500bit/s", "none"] {
            let read = text.parse::<Rates>();
            assert_eq!(read.map_or(text.into(), |rates| rates.to_string()), text);
        }
    }

    #[test]
    fn a_rate_that_is_none_is_refused_in_one_line() {
        for (text, why) in [
            ("", "empty"),
            ("10", "missing unit"),
            ("up=10", "missing unit"),
            ("up=10Mb", "bits or bytes?"),
            ("up=0bit/s", "less than one bit"),
            ("0", "missing unit"),
            ("up=1bit/s", "less than 8kbit/s"),
            ("7999bit/s", "less than 8kbit/s"),
            ("down=500Gbit/s", "more than 400Gbit/s"),
            ("99999999TB/s", "too large"),
            ("up=-1Mbit/s", "negative"),
            ("upp=1Mbit/s", "not up= or down="),
            ("up=1Mbit/s,", "missing up= or down="),
            ("up=1Mbit/s,2Mbit/s", "missing up= or down="),
            ("up=1Mbit/s,up=2Mbit/s", "given twice"),
        ] {
            let line = text.parse::<Rates>().err().map(|error| error.to_string());
            let line = line.unwrap_or_else(|| panic!("{text:?} was read"));
            assert!(line.contains(why) && !line.contains('\n'), "{text:?}: {line}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = rates("up=10Mbit/s,down=2MB/s");
        let after = |text: &str| text.parse::<Change>().unwrap().of(before).to_string();
        assert_eq!(after("up=1Mbit/s"), "up=1Mbit/s,down=16Mbit/s");
        assert_eq!(after("up=none"), "down=16Mbit/s");
        assert_eq!(after("none"), "none");
        assert_eq!(after("1Mbit/s"), "up=1Mbit/s,down=1Mbit/s");
    }
}
