//! Detached sandboxes.
//!
//! A second start of this program, in its own session, gets an order that says what to start, and
//! becomes its keeper (`keeper.rs`).

use std::fs::File;
use std::path::Path;

use super::keeper::{self, Order};
use crate::config::Sandbox;
use crate::error::{Error, Result};
use crate::start::{self, Options, Stdio, Window, random_id};

/// A sandbox that runs independently of the process that started it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Background {
    /// Its name.
    pub name: String,
    /// The defaults it had to be started without, in words for the user.
    pub spared: Vec<String>,
}

impl Sandbox {
    /// Starts the sandbox detached: a separate process looks after it and releases its resources
    /// when it has ended. If `options` has no name, a random one is chosen. The command's output is
    /// appended to the file `log`; without one, the last of it is kept. [`super::wait`] returns how
    /// the sandbox ended.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`]; this program cannot be started a second time.
    pub fn detach(&self, options: &Options, log: Option<&Path>) -> Result<Background> {
        // Report mistakes before starting a second process.
        self.validate()?;
        let name = options.name.clone().unwrap_or_else(random_id);
        let output = match log {
            None => Stdio::Null,
            Some(path) => {
                let file = File::options().read(true).append(true).create(true).open(path);
                let failed = |e| Error::io(format!("--log {}", path.display()), &e);
                Stdio::File(file.map_err(failed)?.into())
            }
        };
        let window = Window { plain_lines: true, ..options.window };
        let name_given = Some(name.clone());
        let options = Options { name: name_given, merge_stderr: true, window, ..options.clone() };
        let sandbox = Sandbox { die_with_parent: false, ..self.clone() };
        let protected = start::needs_protection(self)?;
        let order = Order::Sandbox { sandbox: Box::new(sandbox), options, logged: log.is_some() };
        let spared = keeper::order(&order, self.listen_fds, protected, output)?;
        Ok(Background { name, spared })
    }
}
