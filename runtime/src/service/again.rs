//! What this program does in a second start (`start/again.rs`).

use std::ffi::OsString;

use super::detach::{KEEP, bury, keep};
use super::end_as;
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::network;
use crate::start::{self, second};

/// Does what the first word says, with the others as arguments. Returns the exit code.
pub fn main(words: &[OsString]) -> i32 {
    let Some((word, rest)) = words.split_first() else { return 125 };
    let word = word.to_str().unwrap_or_default();
    let done = match word {
        second::WORD => start::serve(rest),
        KEEP => keep(rest),
        "ended" => ended(rest),
        "tend" => network::tend(),
        _ => match container::serve(word, rest) {
            Some(Ok(Some(ended))) => return end_as(ended),
            Some(served) => served.map(drop),
            None => Err(Error::new(format!("{word}: unknown word for a second start"))),
        },
    };
    let Err(error) = done else { return 0 };
    eprintln!("garth: {error}");
    match error.get_kind() {
        Kind::NotFound => 127,
        Kind::NotExecutable => 126,
        Kind::Refused => 125,
    }
}

/// `ended ROOT NAME ENTRY PID`: what a keeper becomes once its sandbox has ended.
fn ended(words: &[OsString]) -> Result<()> {
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<i32>().ok());
    if let [root, name, entry, pid] = words
        && let (Some(name), Some(entry), Some(pid)) = (name.to_str(), number(entry), number(pid))
    {
        return bury(&Journal::at(root), name, entry, pid);
    }
    Err(Error::new("invalid arguments of a keeper"))
}
