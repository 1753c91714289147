//! What a bench runs beside itself: other programs, and a sandbox with a state directory of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::{program, run};

/// A program that may be in a directory for root only.
pub fn sbin(name: &str) -> Option<PathBuf> {
    program::find(name).or_else(|| program::find(Path::new("/usr/sbin").join(name)))
}

/// The output of a program that ends with 0.
///
/// # Errors
/// It cannot be started, or ends otherwise: its last words.
pub fn output(words: &[&str]) -> Result<String> {
    let path = sbin(words[0]).unwrap_or_else(|| words[0].into());
    let finished = program::new(path).args(&words[1..]).stdin(Stdio::null()).output();
    let finished = finished.map_err(|error| Error::io(format!("start {}", words[0]), &error))?;
    match finished.status.success() {
        true => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&finished.stderr).into_owned();
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            let last = run::one_line(last.unwrap_or("no message"));
            Err(Error::new(words.join(" ")).because(last))
        }
    }
}

/// A port of the loopback that is free now; another program may take it before it is used.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| Error::io("find a free port", &error))
}

/// A sandbox that is measured, and a directory for what it needs; both go with this.
#[derive(Debug)]
pub struct Boxed {
    garth: PathBuf,
    /// The directory.
    pub dir: PathBuf,
}

/// Its name in its own state directory.
const NAME: &str = "bench";

impl Drop for Boxed {
    fn drop(&mut self) {
        let _ = self.garth(&["delete", "--force", NAME]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Boxed {
    /// The directory; the sandbox is not started yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(garth: &Path, what: &str) -> Result<Boxed> {
        let dir = std::env::temp_dir().join(format!("garth-{what}-{}", std::process::id()));
        fs::create_dir(&dir)
            .map_err(|error| Error::io(format!("make {}", dir.display()), &error))?;
        Ok(Boxed { garth: garth.to_owned(), dir })
    }

    /// Starts it: the flags of `garth wrap`, and the command.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, flags: &[String], command: &[String]) -> Result<()> {
        let first = ["wrap", "-d", "--name", NAME].into_iter();
        let flags = flags.iter().map(String::as_str);
        let command = command.iter().map(String::as_str);
        let words: Vec<&str> = first.chain(flags).chain(["--"]).chain(command).collect();
        self.garth(&words).map(drop)
    }

    /// Its first process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<i32> {
        let process = self.journal().process(NAME)?;
        process.map(|process| process.pid).ok_or_else(|| Error::new("the sandbox has ended"))
    }

    /// Its last words.
    pub fn log(&self) -> String {
        let log = self.garth(&["logs", "-n", "3", NAME]).unwrap_or_default();
        run::one_line(&log)
    }

    /// Its state directory.
    pub fn journal(&self) -> Journal {
        Journal::at(self.dir.join("state"))
    }

    /// Its name in it.
    pub fn name(&self) -> &'static str {
        NAME
    }

    fn garth(&self, words: &[&str]) -> Result<String> {
        let (garth, root) = (self.garth.display().to_string(), self.dir.join("state"));
        let root = root.display().to_string();
        let all: Vec<&str> =
            [garth.as_str(), "--root", &root].iter().chain(words).copied().collect();
        output(&all)
    }
}
