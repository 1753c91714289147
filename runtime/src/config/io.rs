//! `--io read=50MB/s,write=20MB/s,riops=1k,wiops=500:PATH`: how fast a sandbox may use a disk.
//!
//! A term is `KEY=VALUE` or `KEY=VALUE:PATH`. Either a single PATH follows one of the terms and
//! applies to all, or each has its own. Rates need their unit ([`Rate`]); operations per second are
//! plain numbers, with `k` and `M` for thousands and millions. `none` removes a limit, and the term
//! `none:PATH` all four. PATH is on the host: a file or directory, whose file system is on the
//! disk, or the device itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::units::{Rate, count};
use crate::{Error, Result};

const SPELLING: &str = "write read=50MB/s:PATH, write=, riops= or wiops=, separated by commas";

const KEYS: [&str; 4] = ["read", "write", "riops", "wiops"];

/// The kernel counts operations in 32 bits.
const MOST_OPERATIONS: u64 = u32::MAX as u64;

/// What a sandbox may do per second on the disk below `path`. `None` is unspecified, as in an
/// update, which keeps the existing limit; zero removes the limit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// A file or directory on the disk, or the device.
    pub path: PathBuf,
    /// Reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Rate>,
    /// Writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Rate>,
    /// Read operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub riops: Option<u64>,
    /// Write operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wiops: Option<u64>,
}

impl Throttle {
    /// Reads the value of one `--io`.
    ///
    /// # Errors
    /// An unknown or repeated key, a value without its unit, no PATH or several.
    pub fn parse(text: &str) -> Result<Vec<Throttle>> {
        let shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
        let wrong = |why: String| Error::new(format!("--io {shown}: {why}"));
        let mut terms = Vec::new();
        for term in text.split(',') {
            let every = term == "none" || term.starts_with("none:");
            let (keys, rest) = match term.split_once('=') {
                _ if every => (KEYS.as_slice(), term),
                Some((key, rest)) => (&[key][..], rest),
                None => return Err(wrong(format!("{term:?} is not KEY=VALUE")).hint(SPELLING)),
            };
            let (value, path) = match rest.split_once(':') {
                Some((_, "")) => return Err(wrong(format!("no PATH at the end of {term:?}"))),
                Some((value, path)) => (value, Some(Path::new(path))),
                None => (rest, None),
            };
            terms.extend(keys.iter().map(|key| (*key, value, path)));
        }
        let mut paths: Vec<&Path> = terms.iter().filter_map(|(_, _, path)| *path).collect();
        paths.dedup();
        let mut throttles: Vec<Throttle> = Vec::new();
        for (key, value, path) in &terms {
            let path = match (path, paths.as_slice()) {
                (Some(path), _) => *path,
                (None, [one]) => *one,
                (None, []) => {
                    return Err(wrong("no PATH".into()).hint(
                        "name the disk by a path on it: read=50MB/s:/ for that of the root",
                    ));
                }
                (None, _) => return Err(wrong(format!("which path is {key}= for?"))),
            };
            let at = match throttles.iter().position(|known| known.path == path) {
                Some(at) => at,
                None => {
                    throttles.push(Throttle { path: path.to_owned(), ..Throttle::default() });
                    throttles.len() - 1
                }
            };
            throttles[at]
                .set(key, value)
                .map_err(|error| error.within(format_args!("--io {shown}")))?;
        }
        throttles.iter().try_for_each(Throttle::check)?;
        Ok(throttles)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        fn put<T>(place: &mut Option<T>, value: T, key: &str) -> Result<()> {
            match place.replace(value) {
                None => Ok(()),
                Some(_) => Err(Error::new(format!("{key}= given twice"))),
            }
        }
        match key {
            "read" => put(&mut self.read, rate(value)?, key),
            "write" => put(&mut self.write, rate(value)?, key),
            "riops" => put(&mut self.riops, operations(key, value)?, key),
            "wiops" => put(&mut self.wiops, operations(key, value)?, key),
            _ => Err(Error::new(format!("unknown key {key:?}")).hint(SPELLING)),
        }
    }

    /// Refuses what no kernel accepts.
    pub fn check(&self) -> Result<()> {
        let shown = self.path.display();
        for (key, rate) in [("read", self.read), ("write", self.write)] {
            if let Some(rate) = rate.filter(|rate| rate.0 != 0 && bytes(*rate) == 0) {
                return Err(Error::new(format!(
                    "--io {key}={rate}:{shown}: less than one byte per second"
                )));
            }
        }
        for (key, operations) in [("riops", self.riops), ("wiops", self.wiops)] {
            if let Some(n) = operations.filter(|n| *n > MOST_OPERATIONS) {
                return Err(Error::new(format!(
                    "--io {key}={n}:{shown}: not between 1 and {MOST_OPERATIONS}"
                )));
            }
        }
        Ok(())
    }

    /// Whether it limits writing.
    pub fn limits_writes(&self) -> bool {
        self.write.is_some_and(|rate| rate.0 != 0) || self.wiops.is_some_and(|n| n != 0)
    }
}

fn rate(text: &str) -> Result<Rate> {
    if text == "none" { Ok(Rate(0)) } else { text.parse() }
}

fn operations(key: &str, text: &str) -> Result<u64> {
    match text {
        "none" => Ok(0),
        text => match count(text)? {
            0 => Err(Error::new(format!("{key}={text}: not between 1 and {MOST_OPERATIONS}"))
                .hint("write `none` to remove a limit")),
            n => Ok(n),
        },
    }
}

/// Bytes per second, as the kernel counts them.
pub fn bytes(rate: Rate) -> u64 {
    rate.0 / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Throttle {
        let [one] = <[Throttle; 1]>::try_from(Throttle::parse(text).unwrap()).unwrap();
        one
    }

    #[test]
    fn one_path_is_for_all_terms_wherever_it_stands() {
        let all = Throttle {
            path: "/data".into(),
            read: Some(Rate(400_000_000)),
            write: Some(Rate(160_000_000)),
            riops: Some(1500),
            wiops: Some(2_000_000),
        };
        assert_eq!(one("read=50MB/s:/data,write=20MB/s,riops=1.5k,wiops=2M"), all);
        assert_eq!(one("read=50MB/s,write=20MB/s,riops=1500,wiops=2M:/data"), all);
        assert_eq!(one("read=50MB/s:/data,write=20MB/s:/data,riops=1500,wiops=2M"), all);
        assert_eq!(bytes(all.read.unwrap()), 50_000_000);
        let two = Throttle::parse("read=1MB/s:/a,read=2MB/s:/b:c").unwrap();
        assert_eq!(two[1].path, Path::new("/b:c"));
        assert_eq!(two.len(), 2);
        assert_eq!(one("none:/data"), one("read=none,write=none,riops=none,wiops=none:/data"));
        assert_eq!(Throttle::parse("none:/a=b,read=1MB/s:/c").unwrap()[0].path, Path::new("/a=b"));
        assert!(Throttle::parse("none:/a,read=1MB/s:/a").is_err());
        assert!(Throttle::parse("none").is_err());
        let none = one("read=none,write=none,riops=none:/data");
        assert_eq!((none.read, none.riops, none.wiops), (Some(Rate(0)), Some(0), None));
        assert!(!none.limits_writes() && all.limits_writes());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_flag() {
        for (text, why) in [
            ("", "\"\" is not KEY=VALUE"),
            ("read", "\"read\" is not KEY=VALUE"),
            ("read=50:/", "rate \"50\": missing unit"),
            ("read=50Mb:/", "bits or bytes?"),
            ("read=0MB/s:/", "less than one bit per second"),
            ("read=7bit/s:/", "less than one byte per second"),
            ("riops=0:/", "not between 1 and 4294967295"),
            ("wiops=5G:/", "unknown unit"),
            ("riops=9999M:/", "not between 1 and"),
            ("riops=10MB/s:/", "unknown unit"),
            ("riops=:/", "empty"),
            ("riops=-1:/", "negative"),
            ("read=5MB/s", "no PATH; name the disk"),
            ("read=5MB/s:", "no PATH at the end of"),
            ("read=5MB/s:/a,write=5MB/s:/b,riops=1", "which path is riops= for?"),
            ("read=5MB/s:/a,read=6MB/s", "read= given twice"),
            ("speed=5MB/s:/a", "unknown key \"speed\""),
        ] {
            let error = Throttle::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("--io ") && error.contains(why), "{text}: {error}");
        }
    }
}
