//! What a bench runs beside itself: other programs, and a sandbox with a state directory of its own.

use std::fs::{self, DirBuilder, File};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::resource::record::SandboxRecord;
use crate::sys::file::read_kernel;
use crate::sys::program;
use crate::sys::run::{self, Orphan, Unfinished};

/// A program that may be in a directory for root only.
pub fn sbin(name: &str) -> Option<PathBuf> {
    program::find(name).or_else(|| program::find(Path::new("/usr/sbin").join(name)))
}

/// How long a program may take, and how much it may write, in bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST: usize = 1 << 20;

/// Runs a program to its end, which must be 0; returns its output.
///
/// # Errors
/// Why there is none: its last words, if it had some.
pub fn ran(words: &[impl AsRef<str>]) -> Result<String, String> {
    let name = words[0].as_ref();
    let mut command = program::new(sbin(name).unwrap_or_else(|| name.into()));
    command.args(words[1..].iter().map(AsRef::as_ref));
    match run::to_its_end(command, b"", PATIENCE, MOST, Orphan::Dies) {
        Ok(finished) if finished.status.success() => {
            Ok(String::from_utf8_lossy(&finished.output).into_owned())
        }
        Ok(finished) => Err(finished.complaint()),
        Err(Unfinished::NotStarted(errno)) => Err(format!("not started: {errno}")),
        Err(Unfinished::TimedOut) => Err(format!("no end after {} s", PATIENCE.as_secs())),
        Err(Unfinished::TooLong) => Err("writes too much".to_owned()),
        Err(Unfinished::Os(doing, errno)) => Err(format!("{doing}: {errno}")),
    }
}

/// Same as [`ran`], with the command in the error.
///
/// # Errors
/// The same.
pub fn output(words: &[&str]) -> Result<String> {
    ran(words).map_err(|why| Error::new(words.join(" ")).because(why))
}

/// A port of the loopback that is free now; another program may take it before it is used.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| Error::io("find a free port", &error))
}

/// Letters that nothing else has, not even in another pid namespace with the same /tmp.
pub fn unique() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = read_kernel(path).map_err(|error| Error::io(format!("read {path}"), &error))?;
    Ok(text.chars().take(8).collect())
}

/// A sandbox that is measured, and a directory for what it needs; both go with this. The sandbox is in the foreground of a
/// process of ours, so that it ends with us even if we are killed.
#[derive(Debug)]
pub struct Boxed {
    garth: PathBuf,
    journal: Journal,
    /// Its name.
    pub name: String,
    /// The directory.
    pub dir: PathBuf,
    process: Option<Child>,
}

impl Drop for Boxed {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = self.delete();
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Boxed {
    /// The directory; the sandbox is not started yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(garth: &Path, journal: &Journal, what: &str) -> Result<Boxed> {
        let name = format!("bench-{what}-{}", unique()?);
        let dir = std::env::temp_dir().join(format!("garth-{name}"));
        DirBuilder::new()
            .mode(0o755)
            .create(&dir)
            .map_err(|error| Error::io(format!("make {}", dir.display()), &error))?;
        let (garth, journal) = (garth.to_owned(), journal.clone());
        Ok(Boxed { garth, journal, name, dir, process: None })
    }

    /// Starts it: the flags of `garth wrap`, and the command.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self, flags: &[String], command: &[String]) -> Result<()> {
        let failed = |error| Error::io(format!("start {}", self.garth.display()), &error);
        let log = File::create(self.dir.join("log")).map_err(failed)?;
        let mut wrap = program::new(&self.garth);
        program::with_us(&mut wrap);
        wrap.arg("--root").arg(self.journal.root()).args(["wrap", "--name", &self.name]);
        wrap.args(flags).arg("--").args(command);
        wrap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = self.process.insert(wrap.spawn().map_err(failed)?);
        let end = Instant::now() + Duration::from_secs(10);
        while self.journal.process(&self.name)?.is_none() {
            let ended = process.try_wait().map_err(failed)?.is_some();
            if ended || Instant::now() > end {
                return Err(Error::new("the sandbox does not start").because(self.log()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its first process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<i32> {
        let process = self.journal.process(&self.name)?;
        process.map(|process| process.pid).ok_or_else(|| Error::new("the sandbox has ended"))
    }

    /// Its record.
    ///
    /// # Errors
    /// It does not run.
    pub fn record(&self) -> Result<SandboxRecord> {
        SandboxRecord::read(&self.journal, &self.name)
    }

    /// Its last words.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        run::one_line(last.unwrap_or_default())
    }

    fn delete(&self) -> Result<String> {
        let (garth, root) =
            (self.garth.display().to_string(), self.journal.root().display().to_string());
        output(&[&garth, "--root", &root, "delete", "--force", &self.name])
    }
}
