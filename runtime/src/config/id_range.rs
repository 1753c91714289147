//! The outside ids mapped to those from 0 on in a user namespace: `--userns=100000:65536`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `count` ids from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The outside id that 0 maps to.
    pub first: u32,
    /// The number of ids.
    pub count: u32,
}

/// As many as shadow's useradd(8) gives a user, and as a container image expects.
const USUAL: u32 = 65536;

impl FromStr for IdRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<IdRange> {
        let wrong = |why: &str| {
            Error::new(format!("{text:?}: {why}"))
                .hint("write FIRST:COUNT, a range of host ids, e.g. 100000:65536")
        };
        let (first, count) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong("not a range of ids"));
        let (first, count) = (number(first)?, count.map_or(Ok(USUAL), number)?);
        if first == 0 {
            return Err(wrong("it would map root in the sandbox to root on the host"));
        }
        if count == 0 {
            return Err(wrong("the range is empty"));
        }
        // The last number is not an id (chown(2)).
        if first.checked_add(count).is_none_or(|end| end == u32::MAX) {
            return Err(wrong("ids end at 4294967294"));
        }
        Ok(IdRange { first, count })
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_first_and_a_count_and_never_the_hosts_root() {
        let range = |text: &str| text.parse::<IdRange>().map(|range| range.to_string());
        assert_eq!(range("100000:5").unwrap(), "100000:5");
        assert_eq!(range("100000").unwrap(), "100000:65536");
        for wrong in
            ["", "0", "0:1", "1:0", "x", "1:", "1:2:3", "-1", "4294967295:1", "1:4294967295"]
        {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
