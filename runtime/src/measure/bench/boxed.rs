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
