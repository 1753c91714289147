//! The keys by which a terminal is detached from a command.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A sequence of keys, written as docker has it: `ctrl-p,ctrl-q`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    /// What has been typed of it.
    begun: usize,
}

impl DetachKeys {
    /// Takes the keys of the sequence out of what was typed, and the rest too once it is complete:
    /// true. Those of an incomplete one are held back until the next key.
    pub fn take_from(&mut self, typed: &mut Vec<u8>) -> bool {
        let mut passed = Vec::with_capacity(typed.len());
        for key in std::mem::take(typed) {
            let mut held = self.sequence[..self.begun].to_vec();
            held.push(key);
            // Where the sequence may have begun at the latest.
            while !self.sequence.starts_with(&held) {
                passed.push(held.remove(0));
            }
            self.begun = held.len();
            if held == self.sequence {
                self.begun = 0;
                *typed = passed;
                return true;
            }
        }
        *typed = passed;
        false
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    fn from_str(text: &str) -> Result<DetachKeys> {
        let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([key], _) if key.is_ascii_graphic() => Some(*key),
            (_, Some([key @ (b'a'..=b'z' | b'@' | b'['..=b'_')])) => Some(key & 0x1f),
            _ => None,
        };
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        let sequence = sequence.ok_or_else(|| {
            Error::new(format!("{text:?}: no keys to detach by"))
                .hint("write characters or ctrl- and a letter, as in ctrl-p,ctrl-q")
        })?;
        Ok(DetachKeys { sequence, begun: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of each piece, and whether the last completes the sequence.
    fn typed(keys: &str, pieces: &[&str]) -> (Vec<String>, bool) {
        let mut keys: DetachKeys = keys.parse().unwrap();
        let mut left = false;
        let mut pass = |piece: &&str| {
            assert!(!left, "it was complete before");
            let mut piece = piece.as_bytes().to_vec();
            left = keys.take_from(&mut piece);
            String::from_utf8(piece).unwrap()
        };
        let passed = pieces.iter().map(&mut pass).collect();
        (passed, left)
    }

    #[test]
    fn nothing_but_the_whole_sequence_is_kept() {
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        for (keys, pieces, passed, left) in [
            ("ctrl-p,ctrl-q", &["ab\x10\x11c"][..], &["ab"][..], true),
            ("ctrl-p,ctrl-q", &["a\x10", "\x11"], &["a", ""], true),
            ("ctrl-p,ctrl-q", &["\x10", "b"], &["", "\x10b"], false),
            ("ctrl-p,ctrl-q", &["\x10\x10\x11"], &["\x10"], true),
            ("ctrl-p,ctrl-q", &["\x11\x10", "\x10", "x"], &["\x11", "\x10", "\x10x"], false),
            ("a,a,b", &["aaab"], &["a"], true),
            ("a,b,a,c", &["ababac"], &["ab"], true),
            ("x", &["yx"], &["y"], true),
        ] {
            assert_eq!(typed(keys, pieces), (strings(passed), left), "{keys}: {pieces:?}");
        }
    }

    #[test]
    fn keys_are_written_as_docker_has_them() {
        let sequence = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.sequence);
        assert_eq!(sequence("a,ctrl-a,ctrl-@,ctrl-\\,ctrl-_,Z").unwrap(), b"a\x01\x00\x1c\x1fZ");
        for text in ["", ",", "a,", "ab", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-ab", "^P", "é", " "] {
            assert!(sequence(text).is_err(), "{text:?}");
        }
    }
}
