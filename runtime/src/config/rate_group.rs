//! A budget that several sandboxes share: `--rate-group office:up=100Mbit/s,down=50Mbit/s,share=2`.
//!
//! Every member states the whole budget, so that the order of starts does not matter; a member that
//! differs from the others is refused. One with nothing to send leaves its part to the rest, and
//! when there is too little for all, it is divided in proportion to their shares.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rate::Rates;
use crate::{Error, Result};

/// Prefixed with `gifbu-`, it is the name of a network device, of 15 bytes at most.
const LONGEST: usize = 9;
/// More would only lengthen each turn.
const MOST_SHARES: u32 = 100;

const SPELLING: &str = "write office:up=100Mbit/s,down=50Mbit/s,share=2: a name and the \
     limits of all members together";

/// The group of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateGroup {
    /// Letters, digits, `-` and `_`, nine at most.
    pub name: String,
    /// What all of its members may send and receive together.
    pub rates: Rates,
    /// The weight of this sandbox against the others, 1 to 100.
    pub share: u32,
}

impl RateGroup {
    /// Refuses a name that no device can have, and an invalid budget.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Error::new(format!("--rate-group {self}: {why}")).hint(SPELLING);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > LONGEST || !self.name.chars().all(plain) {
            return Err(wrong(format!(
                "a name must have 1 to {LONGEST} letters, digits, - and _, as it names a device"
            )));
        }
        if self.rates.is_empty() {
            return Err(wrong("missing up= or down=".into()));
        }
        if !(1..=MOST_SHARES).contains(&self.share) {
            return Err(wrong(format!("share={}: not from 1 to {MOST_SHARES}", self.share)));
        }
        self.rates.check().map_err(|error| error.within(format_args!("group {}", self.name)))
    }

    /// Refuses a member's own bounds that do not fit within the budget.
    ///
    /// # Errors
    /// The first that is larger than the budget, or for a direction without one.
    pub fn check_own(&self, own: &Rates) -> Result<()> {
        let ways = [("up", own.up, self.rates.up), ("down", own.down, self.rates.down)];
        for (way, own, budget) in ways {
            let Some(own) = own else { continue };
            let why = match budget {
                None => format!("rate group {} has no {way}=", self.name),
                Some(budget) if own > budget => {
                    format!("more than the {budget} of rate group {}", self.name)
                }
                Some(_) => continue,
            };
            return Err(Error::new(format!("--rate {way}={own}: {why}"))
                .hint("for a member of a group, --rate is its own limit within the group's"));
        }
        Ok(())
    }
}

impl fmt::Display for RateGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name.escape_debug(), self.rates)?;
        match self.share {
            1 => Ok(()),
            share => write!(f, ",share={share}"),
        }
    }
}

impl FromStr for RateGroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<RateGroup> {
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        let wrong = |why: &str| Error::new(format!("\"{shown}\": {why}")).hint(SPELLING);
        let (name, rest) = text.split_once(':').ok_or_else(|| wrong("missing : after the name"))?;
        let (mut rates, mut share) = (Vec::new(), None);
        for part in rest.split(',') {
            let Some(number) = part.trim().strip_prefix("share=") else {
                rates.push(part);
                continue;
            };
            let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|_| plain);
            let number = number.ok_or_else(|| wrong("share= is not a number from 1 to 100"))?;
            if share.replace(number).is_some() {
                return Err(wrong("share= given twice"));
            }
        }
        if rates.is_empty() {
            return Err(wrong("missing up= or down="));
        }
        let rates: Rates = rates.join(",").parse()?;
        let group = RateGroup { name: name.to_owned(), rates, share: share.unwrap_or(1) };
        group.check().map(|()| group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_a_budget_and_a_share() {
        for text in ["office:up=100Mbit/s,down=50Mbit/s", "a-_1:down=8kbit/s,share=100"] {
            assert_eq!(text.parse::<RateGroup>().unwrap().to_string(), text);
        }
        let both: RateGroup = "x:share=3,2MB/s".parse().unwrap();
        assert_eq!(both.to_string(), "x:up=16Mbit/s,down=16Mbit/s,share=3");
    }

    #[test]
    fn one_that_is_none_is_refused_in_one_line() {
        for (text, why) in [
            ("", "missing : after"),
            ("office", "missing : after"),
            (":up=1Mbit/s", "1 to 9 letters"),
            ("secretariat:up=1Mbit/s", "1 to 9 letters"),
            ("of fice:up=1Mbit/s", "1 to 9 letters"),
            ("../x:up=1Mbit/s", "1 to 9 letters"),
            ("office:", "empty"),
            ("office:none", "missing up= or down="),
            ("office:share=2", "missing up= or down="),
            ("office:up=10", "missing unit"),
            ("office:up=0bit/s", "less than one bit"),
            ("office:up=1bit/s", "less than 8kbit/s"),
            ("office:up=1Mbit/s,share=0", "not from 1 to 100"),
            ("office:up=1Mbit/s,share=101", "not from 1 to 100"),
            ("office:up=1Mbit/s,share=+1", "not a number"),
            ("office:up=1Mbit/s,share=1,share=1", "twice"),
        ] {
            let line = text.parse::<RateGroup>().unwrap_err().to_string();
            assert!(line.contains(why) && !line.contains('\n'), "{text:?}: {line}");
        }
    }
}
