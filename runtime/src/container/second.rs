//! Runs a verb that executes what a bundle says in a second start of this program, because the
//! first start's file could be written through its process (`start/again.rs`).

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::environment;
use super::warn::{Level, Warn};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::start::again::{self, Again, Ordered, Reply};
use crate::start::{Spawn, seal};
use crate::sys::process::Ended;

#[derive(Debug, Serialize, Deserialize)]
struct VerbOrder<T> {
    /// The state directory.
    root: PathBuf,
    id: String,
    debug: bool,
    /// How many sockets the program gets (sd_listen_fds(3)).
    sockets: u32,
    how: T,
}

/// The messages meanwhile, and the result.
type Answer = (Vec<(Level, String)>, Result<Option<Ended>>);

/// Is a second start needed? Where none is possible the verb runs here, and the start refuses it.
pub(super) fn is_needed() -> bool {
    !seal::is_protected() && again::is_possible()
}

/// Launches the second start, which inherits this many descriptors from 3 on.
pub(super) fn order(
    word: &'static str,
    (journal, id): (&Journal, &str),
    how: &impl Serialize,
    descriptors: u32,
    warn: &Warn,
) -> Result<Ordered> {
    let order = VerbOrder {
        root: journal.root().to_owned(),
        id: id.to_owned(),
        debug: warn.is_debug(),
        sockets: environment::listen_fds(),
        how,
    };
    let listen_fds =
        u16::try_from(descriptors).map_err(|_| Error::new("too many descriptors to pass"))?;
    Again { word, listen_fds, protected: true, spawn: Spawn::default() }.order(&order)
}

/// Its result; passes on its messages.
pub(super) fn answer(second: &Ordered, warn: &Warn) -> Result<Option<Ended>> {
    let answer = second.answer::<Answer>("the process that works on the container");
    let (answer, _) =
        answer.map_err(|error| error.hint("garth delete --force removes a container"))?;
    let (said, ended) = answer?;
    said.iter().for_each(|(level, text)| warn.at(*level, text));
    if ended.is_err() {
        second.process.wait()?;
    }
    ended
}

/// In the second start: the order, and where the answer goes.
pub(super) struct Taken<T> {
    pub(super) journal: Journal,
    pub(super) id: String,
    pub(super) how: T,
    pub(super) warn: Warn,
    said: Arc<Mutex<Vec<(Level, String)>>>,
    reply: Reply,
}

impl<T: DeserializeOwned> Taken<T> {
    pub(super) fn from(words: &[OsString]) -> Result<Taken<T>> {
        let (VerbOrder { root, id, debug, sockets, how }, reply) = again::take(words)?;
        environment::take_over(sockets);
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let warn = Warn::by(debug, move |level, text| {
            if let Ok(mut said) = heard.lock() {
                said.push((level, text.to_owned()));
            }
        });
        Ok(Taken { journal: Journal::at(root).containers(), id, how, warn, said, reply })
    }

    /// Reports the result.
    pub(super) fn answer(self, ended: Result<Option<Ended>>) -> Result<()> {
        let said = self.said.lock().map(|mut said| std::mem::take(&mut *said)).unwrap_or_default();
        self.reply.answer(&Ok::<Answer, Error>((said, ended)))
    }
}
