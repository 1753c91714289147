//! /proc/mdstat: all arrays at one moment. The file can be waited for (poll(2), POLLPRI), and one
//! read is consistent, which a walk through sysfs is not; what it says about one array in words,
//! [`super::array`] reads from sysfs as values.

use crate::error::{Error, Result};

/// An array, as far as the file says it for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdstatArray {
    /// `md127`.
    pub device: String,
    /// Whether it runs.
    pub active: bool,
    /// `raid10`; none if it does not run.
    pub level: Option<String>,
    /// Its members, as the kernel lists them.
    pub members: Vec<MdstatMember>,
    /// What is being copied, checked or moved.
    pub progress: Option<SyncProgress>,
}

/// `sda[0](F)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdstatMember {
    /// `sda`.
    pub device: String,
    /// The number of its description in the superblock; not its slot.
    pub number: u32,
    /// It has been taken out of service.
    pub faulty: bool,
}

/// How far a resync, recovery, check, repair or reshape is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncProgress {
    /// `resync`, `recovery`, `check`, `repair` or `reshape`.
    pub action: String,
    /// Bytes done, of how many, and how many a second; `None`: it waits for another of its disks.
    pub at: Option<SyncPosition>,
}

/// Bytes done, of how many, and at what speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPosition {
    /// Bytes done.
    pub done: u64,
    /// Bytes to be done.
    pub of: u64,
    /// Bytes a second.
    pub speed: u64,
}

impl SyncPosition {
    /// How many seconds it takes at that speed; `None`: it stands still.
    pub fn seconds_left(&self) -> Option<u64> {
        self.of.saturating_sub(self.done).checked_div(self.speed)
    }

    /// Thousandths that are done.
    pub fn permille(&self) -> u32 {
        let part = u128::from(self.done) * 1000 / u128::from(self.of.max(1));
        part.min(1000) as u32
    }
}

/// Reads the file.
///
/// # Errors
/// A line of an array is not understood.
pub fn mdstat_of(text: &str) -> Result<Vec<MdstatArray>> {
    let mut arrays: Vec<MdstatArray> = Vec::new();
    for line in text.lines() {
        if let Some(array) = arrays.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            if array.progress.is_none() {
                array.progress = progress(line.trim()).map_err(|()| wrong(line))?;
            }
        } else if line.starts_with("md") {
            arrays.push(array(line).ok_or_else(|| wrong(line))?);
        }
    }
    Ok(arrays)
}

fn wrong(line: &str) -> Error {
    let line: String = line.chars().take(120).flat_map(char::escape_debug).collect();
    Error::new(format!("/proc/mdstat: not understood: {line:?}"))
}

/// `md127 : active (auto-read-only) raid10 sde[2] sda[0](F)`.
fn array(line: &str) -> Option<MdstatArray> {
    let (device, rest) = line.split_once(" : ")?;
    let mut words = rest.split_whitespace().peekable();
    let active = match words.next()? {
        "active" => true,
        "inactive" => false,
        // Since Linux 6.x, an array that has lost too much.
        "broken" => true,
        _ => return None,
    };
    while words.next_if(|word| word.starts_with('(')).is_some() {}
    let level = words.next_if(|word| !word.contains('[')).map(str::to_owned);
    let members = words.map(member).collect::<Option<Vec<_>>>()?;
    Some(MdstatArray { device: device.to_owned(), active, level, members, progress: None })
}

fn member(word: &str) -> Option<MdstatMember> {
    let (device, rest) = word.split_once('[')?;
    let (number, flags) = rest.split_once(']')?;
    let flag = |flag| flags.contains(flag);
    Some(MdstatMember {
        device: device.to_owned(),
        number: number.parse().ok()?,
        faulty: flag("(F)"),
    })
}

/// `[=>...]  resync =  5.4% (2944/46080) finish=0.2min speed=2944K/sec`, `resync=DELAYED`; `None`:
/// the line is about something else.
fn progress(line: &str) -> Result<Option<SyncProgress>, ()> {
    const ACTIONS: [&str; 5] = ["resync", "recovery", "check", "repair", "reshape"];
    let bare = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let line = bare.map_or(line, |(_, rest)| rest.trim_start());
    let Some((action, rest)) = line.split_once('=') else { return Ok(None) };
    let action = action.trim_end();
    if !ACTIONS.contains(&action) {
        return Ok(None);
    }
    let action = action.to_owned();
    if matches!(rest.trim(), "DELAYED" | "PENDING" | "REMOTE") {
        return Ok(Some(SyncProgress { action, at: None }));
    }
    let position = || {
        let (_, rest) = rest.split_once('(')?;
        let (done, rest) = rest.split_once('/')?;
        let (of, rest) = rest.split_once(')')?;
        let speed = rest.split_once("speed=")?.1.trim_end().strip_suffix("K/sec")?;
        let kilo = |text: &str| text.parse::<u64>().ok()?.checked_mul(1024);
        Some(SyncPosition { done: kilo(done)?, of: kilo(of)?, speed: kilo(speed)? })
    };
    position().map(|at| Some(SyncProgress { action, at: Some(at) })).ok_or(())
}
