//! What this program does in a second start (`start/again.rs`).

use std::ffi::OsString;

use super::{end_as, health, keeper, watch};
use crate::container;
use crate::error::{Error, Kind};
use crate::network;
use crate::start::{self, second};

/// Does what the first word says, with the others as arguments. Returns the exit code.
pub fn main(words: &[OsString]) -> i32 {
    let Some((word, rest)) = words.split_first() else { return 125 };
    let word = word.to_str().unwrap_or_default();
    let done = match word {
        second::WORD => start::serve(rest),
        keeper::KEEP => keeper::keep(rest),
        keeper::ENDED => keeper::ended(rest),
        keeper::RESTART => keeper::restart(rest),
        keeper::HEALTH => health::check(rest),
        keeper::WATCH => watch::look(rest),
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
        Kind::Refused | Kind::WrongState => 125,
    }
}
