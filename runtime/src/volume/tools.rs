//! The programs that work on volumes, as they are run: without a shell, within a time, with little of
//! their output kept; and what their complaints mean.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::iscsiadm;
use super::mdadm::Superblock;
use crate::config::USUAL_PATH;
use crate::error::{Error, Result};
use crate::sys::program;
use crate::sys::run::{self, Finished, Orphan, Unfinished};

/// iscsiadm's ISCSI_ERR_NO_OBJS_FOUND, and ISCSI_ERR_LOGIN_AUTH_FAILED.
const NONE: i32 = 21;
const REFUSED_ACCOUNT: i32 = 24;

/// How long a command may take. mkfs of a large volume takes minutes.
const PATIENCE: Duration = Duration::from_secs(120);
const MKFS: Duration = Duration::from_secs(3600);
/// So do these.
const LONG: [&str; 3] = ["e2fsck", "resize2fs", "xfs_growfs"];

/// How much a command may write, in bytes: discovery lists all targets of a server.
const MOST: usize = 1 << 20;

/// The packages that have the programs, on Debian.
pub(super) const PACKAGES: [(&str, &str); 10] = [
    ("mdadm", "mdadm"),
    ("iscsiadm", "open-iscsi"),
    ("modprobe", "kmod"),
    ("wipefs", "util-linux"),
    ("udevadm", "udev"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("resize2fs", "e2fsprogs"),
    ("xfs_growfs", "xfsprogs"),
];

/// Runs a command to its end, however it ends.
///
/// # Errors
/// It has no end.
pub fn execute(words: &[String]) -> Result<Finished> {
    let name = words[0].as_str();
    let mut command = program::new(name);
    command.args(&words[1..]).current_dir("/");
    command.env_clear().env("PATH", USUAL_PATH).env("LANG", "C.UTF-8");
    let is_long = |program: &&str| *program == name || name.starts_with("mkfs");
    let patience = if LONG.iter().any(is_long) { MKFS } else { PATIENCE };
    if name == "iscsiadm" {
        iscsiadm::remove_abandoned_lock()?;
    }
    let orphan = if name == "iscsiadm" { Orphan::Finishes } else { Orphan::Dies };
    run::to_its_end(command, b"", patience, MOST, orphan).map_err(|why| match why {
        Unfinished::NotStarted(errno) => {
            let error = Error::os(format!("start {name}"), errno);
            let package = PACKAGES.iter().find(|(program, _)| *program == name);
            match package {
                Some((_, package)) => error.hint(format!("install {package}")),
                None => error,
            }
        }
        Unfinished::TimedOut => Error::new(format!(
            "{}: no end after {} s: killed",
            words.join(" "),
            patience.as_secs()
        )),
        Unfinished::TooLong => Error::new(format!("{}: writes too much: killed", words.join(" "))),
        Unfinished::Os(doing, errno) => Error::os(format!("{name}: {doing}"), errno),
    })
}

/// Why a command failed. iscsiadm's and mdadm's words for some of it lead astray.
pub fn explained(words: &[String], finished: &Finished) -> Error {
    let has = |word: &str| words.iter().any(|one| one == word);
    let said = String::from_utf8_lossy(&finished.complaint).into_owned();
    let error = Error::new(words.join(" ")).because(finished.complaint());
    match words[0].as_str() {
        "mdadm" if said.contains("exclusive access") => {
            error.hint("the volume is in use: it is mounted, or a process has it open")
        }
        "mdadm" if said.contains("(use --run to insist)") => {
            error.hint("members are missing: garth volume assemble --degraded goes on without them")
        }
        "iscsiadm" if finished.status.code() == Some(REFUSED_ACCOUNT) => {
            let after = |flag| words.iter().skip_while(|word| *word != flag).nth(1);
            let shown = |word: Option<&String>| word.cloned().unwrap_or_default();
            let (target, portal) = (shown(after("-T")), shown(after("-p")));
            Error::new(format!("{portal} refuses this host: {target} demands another account"))
                .hint("--chap FILE: a file with USER PASSWORD, as the server has them")
        }
        "iscsiadm" if has("discovery") && finished.status.code() == Some(NONE) => {
            let portal = words.last().map_or("it", |word| word);
            Error::new(format!("{portal} names no target for this host"))
                .hint("is this host's initiator name allowed there?")
        }
        "iscsiadm" if has("--login") => {
            error.hint("the server names the target, and refuses it: is this host allowed?")
        }
        "iscsiadm" if has("discovery") => {
            error.hint("the port answers, but not as an iSCSI target does")
        }
        _ => error,
    }
}

/// The beginning of a device can be read.
///
/// # Errors
/// It cannot.
pub fn check_readable(path: &Path) -> Result<()> {
    let failed = |error| Error::io(format!("read {}", path.display()), &error);
    let mut start = [0; 8 << 10];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).map_err(failed)
}

/// Has mdadm(8) read superblocks; with the command, for what it means if it fails.
fn examine(paths: &[impl AsRef<Path>]) -> Result<(Vec<String>, Finished)> {
    let words = ["mdadm", "--examine", "--export"].map(String::from).into_iter();
    let paths = paths.iter().map(|path| path.as_ref().display().to_string());
    let words: Vec<String> = words.chain(paths).collect();
    let finished = execute(&words)?;
    Ok((words, finished))
}

/// The superblock of a member.
///
/// # Errors
/// It cannot be read.
pub fn superblock(path: &Path) -> Result<Option<Superblock>> {
    check_readable(path)?;
    let (words, finished) = examine(std::slice::from_ref(&path))?;
    match finished.status.code() {
        Some(0) => Superblock::parse(&String::from_utf8_lossy(&finished.output)).map(Some),
        Some(1) => Ok(None),
        _ => Err(explained(&words, &finished)),
    }
}

/// The superblocks of members that can be read, by one process.
///
/// # Errors
/// One of them cannot be read, or has none.
pub fn superblocks(paths: &[PathBuf]) -> Result<Vec<Superblock>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let (words, finished) = examine(paths)?;
    match finished.status.success() {
        true => Superblock::parse_all(&String::from_utf8_lossy(&finished.output)),
        false => Err(explained(&words, &finished)),
    }
}
