//! What a second start of this program does with a container (`super::second`).

use std::ffi::OsString;

use super::create::{self, AfterEnd, CreateOptions, Detached};
use super::exec::{self, Exec};
use super::second::Taken;
use crate::error::{Error, Result};
use crate::sys::process::{Ended, Signals};

/// Runs the order in these words, if the first is one of a container's; returns how a program that
/// was waited for ended.
///
/// # Errors
/// The first start is gone.
pub fn serve(word: &str, words: &[OsString]) -> Option<Result<Option<Ended>>> {
    Some(match word {
        create::CREATE => made(words).map(|()| None),
        create::RUN => ran(words).map(|()| None),
        exec::EXEC => joined(words),
        _ => return None,
    })
}

fn made(words: &[OsString]) -> Result<()> {
    let taken = Taken::<CreateOptions>::from(words)?;
    let options = CreateOptions { warn: taken.warn.clone(), ..taken.how.clone() };
    let done = create::create(&taken.journal, &taken.id, &options);
    taken.answer(done.map(|()| None))
}

fn ran(words: &[OsString]) -> Result<()> {
    let taken = Taken::<(CreateOptions, Detached, AfterEnd)>::from(words)?;
    let (options, detached, after) = taken.how.clone();
    let options = CreateOptions { warn: taken.warn.clone(), ..options };
    let done = create::run(&taken.journal, &taken.id, &options, (detached, after));
    taken.answer(done)
}

fn joined(words: &[OsString]) -> Result<Option<Ended>> {
    let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
    let taken = Taken::<Exec>::from(words)?;
    let exec = Exec { warn: taken.warn.clone(), ..taken.how.clone() };
    match exec::exec(&taken.journal, &taken.id, &exec) {
        Err(error) => taken.answer(Err(error)).map(|()| None),
        Ok(joined) => {
            taken.answer(Ok(None))?;
            if exec.detached { Ok(None) } else { joined.attend(&signals).map(Some) }
        }
    }
}
