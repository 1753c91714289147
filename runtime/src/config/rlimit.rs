//! Resource limits of a process (getrlimit(2)).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    /// Soft limit; u64::MAX is unlimited.
    pub soft: u64,
    /// Hard limit; u64::MAX is unlimited.
    pub hard: u64,
}

/// The names of RLIMIT_*, in the order of their numbers (x86_64).
const RLIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

impl FromStr for Rlimit {
    type Err = Error;

    /// `nofile=1024:2048`, as in docker's `--ulimit`; a single number stands for both.
    fn from_str(text: &str) -> Result<Rlimit> {
        let wrong = |why: String| {
            Error::new(format!("--ulimit {text}: {why}")).hint("write NAME=SOFT[:HARD]")
        };
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("no value".into()))?;
        let number = RLIMITS
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| wrong(format!("unknown limit; valid are {}", RLIMITS.join(" "))))?;
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let bound = |text: &str| match text {
            "unlimited" | "-1" => Ok(u64::MAX),
            _ => text.parse().map_err(|_| wrong(format!("{text:?} is not a number"))),
        };
        let (soft, hard) = (bound(soft)?, bound(hard)?);
        if soft > hard {
            return Err(wrong("the soft limit is above the hard limit".into()));
        }
        Ok(Rlimit { resource: number as u32, soft, hard })
    }
}

impl Rlimit {
    /// `nofile`.
    pub fn name(&self) -> &'static str {
        RLIMITS.get(self.resource as usize).copied().unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulimit_has_a_name_and_one_or_two_bounds() {
        let limit: Rlimit = "nofile=1024:unlimited".parse().unwrap();
        assert_eq!((limit.name(), limit.soft, limit.hard), ("nofile", 1024, u64::MAX));
        for text in ["nofile", "nofiles=1", "nofile=x", "nofile=2:1"] {
            let error = text.parse::<Rlimit>().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
